"""GET, HEAD /{tenant}/click/{email_id}?url="""

import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_from_bytes

import ada_url
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bell import BROWSER, Answer, Bell, Line, events, fresh_tenant, raw_request, serving

TARGET = "https://example.com/page?a=1&b=%20#part"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("click")) as bell:
        bell.create("acme")
        yield bell


def click(bell: Bell, url: str, tenant: str = "acme", email: int = 1) -> Answer:
    return bell.get(f"/{tenant}/click/{email}?url={quote(url, safe='')}")


def targets(bell: Bell, tenant: str) -> list[str]:
    """The recorded target of each click, in order."""
    return [
        url
        for (url,) in bell.rows(
            "SELECT url FROM tenants JOIN events AS e USING (tenant) "
            "JOIN links AS l USING (tenant, link) WHERE name = ? AND kind = 1 ORDER BY seq",
            tenant,
        )
    ]


def is_page(answer: Answer) -> bool:
    return answer.headers["content-type"].startswith("text/html") and b"<h1>" in answer.body


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant)
    answer = click(bell, TARGET, tenant, email)
    assert answer.status == 302
    assert answer.headers["location"] == TARGET
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-robots-tag"] == "noindex, nofollow"
    for absent in ("set-cookie", "etag", "last-modified", "server"):
        assert absent not in answer.headers
    assert events(bell, tenant) == [(email, "click")]
    assert targets(bell, tenant) == [TARGET]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        # Hosts as browsers see them (https://url.spec.whatwg.org/).
        (r"https://good.example\@evil.example", "https://good.example/@evil.example"),
        (r"https:\\evil.example", "https://evil.example/"),
        ("https:evil.example", "https://evil.example/"),
        ("https:/evil.example", "https://evil.example/"),
        ("https:///evil.example", "https://evil.example/"),
        ("https:////evil.example", "https://evil.example/"),
        (r"https:/\/\evil.example", "https://evil.example/"),
        ("HTTPS://EXAMPLE.COM/A", "https://example.com/A"),
        ("http://127.1", "http://127.0.0.1/"),
        ("http://0x7f.1", "http://127.0.0.1/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://017700000001", "http://127.0.0.1/"),
        ("http://[0:0::1]:8080/x", "http://[::1]:8080/x"),
        ("https://ｅｘａｍｐｌｅ．com/", "https://example.com/"),  # noqa: RUF001 - full width
        ("https://ex%61mple.com", "https://example.com/"),
        ("https://münchen.example/ü?ü#ü", "https://xn--mnchen-3ya.example/%C3%BC?%C3%BC#%C3%BC"),
        ("https://example.com:443/", "https://example.com/"),
        ("http://example.com:080/", "http://example.com/"),
        ("https://example.com:8443", "https://example.com:8443/"),
        # Control characters vanish.
        ("ht\ntps://exa\tmple.com/a\r\nb", "https://example.com/ab"),
        ("\x01\x1f https://example.com/ \x02", "https://example.com/"),
        ("\x00https://example.com\x00", "https://example.com/"),
        # Paths and queries.
        ("https://example.com/a/../b/./c", "https://example.com/b/c"),
        ("https://example.com/a/%2e%2E/b", "https://example.com/b"),
        (r"https://example.com/a\b", "https://example.com/a/b"),
        ('https://example.com/"<>`?"<>\'', "https://example.com/%22%3C%3E%60?%22%3C%3E%27"),
        ("https://example.com/a b?a b", "https://example.com/a%20b?a%20b"),
        ("https://example.com/%zz%0d%0A?%00", "https://example.com/%zz%0d%0A?%00"),
        ("https://example.com/\x00x", "https://example.com/%00x"),
        ("https://example.com/?next=https://evil.example/#@x", None),
        # The fragment is kept.
        ("https://example.com#frag", "https://example.com/#frag"),
        ("https://example.com/#/app?x=1&y=2", None),
        ("https://example.com/?", None),
    ],
)
def test_it_redirects_to_the_canonical_form(bell: Bell, url: str, location: str | None) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    answer = click(bell, url, tenant)
    assert answer.status == 302, answer
    assert answer.headers["location"] == (location or url)
    assert targets(bell, tenant) == [location or url]
    again = click(bell, answer.headers["location"], tenant)
    assert again.headers["location"] == answer.headers["location"], "it is not canonical"


REFUSED = [
    "https://user:password@evil.example",
    "https://good.example@evil.example",
    "https://:password@evil.example",
    "https://user:@evil.example/",
    "https:user@evil.example",
    r"https:\\user@evil.example",
    "javascript:alert(1)",
    "java\nscript:alert(1)",
    " JavaScript://example.com/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    # Browsers do not agree on these hosts, and the DNS has none of them.
    "https://*.example.com/",
    "https://a!b.example/",
    'https://good.example"/',
    "https://evil.example;good.example/",
    "https://{a}.example/",
    "https://a~b.example/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "mailto:ada@example.com",
    "blob:https://example.com/1",
    "view-source:https://example.com",
    "ws://example.com",
    "httpss://example.com",
    "//evil.example",
    r"\\evil.example",
    "/dashboard",
    "evil.example",
    "#x",
    "?x",
    "https://",
    "https:",
    "http",
    "https://?x",
    "https://#x",
    "https://[::1",
    "https://[::g]/",
    "https://256.1.1.1/",
    "https://1.2.3.4.5/",
    "https://exa mple.com",
    "https://exa<mple.com",
    "https://example.com%00.evil.example",
    "https://exam\x00ple.com",
    "https://ex%2fample.com",
    "https://example.com:99999/",
    "https://example.com:8o/",
    "https://\u00ad/",
    "",
    " ",
    "\t\r\n",
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_refused_url_is_a_400_page(bell: Bell, url: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    answer = click(bell, url, tenant)
    assert answer.status == 400, answer
    assert is_page(answer)
    assert "location" not in answer.headers
    assert b"alert" not in answer.body, "the sender's text came back"
    assert b"evil" not in answer.body
    assert events(bell, tenant) == []
    assert bell.rows("SELECT * FROM links JOIN tenants USING (tenant) WHERE name = ?", tenant) == []


@pytest.mark.parametrize(
    "query", ["", "?", "?url", "?url=", "?URL=https://example.com", "?u=x", "?&&"]
)
def test_a_missing_url_is_a_400_page(bell: Bell, query: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    answer = bell.get(f"/{tenant}/click/1{query}")
    assert (answer.status, is_page(answer)) == (400, True)
    assert "location" not in answer.headers
    assert events(bell, tenant) == []


@pytest.mark.parametrize(
    "path",
    [
        "/acme/click/2",
        "/acme/click/0",
        "/acme/click/-1",
        "/acme/click/01",
        "/acme/click/+1",
        "/acme/click/1_0",
        "/acme/click/%31",
        "/acme/click/%D9%A1",
        "/acme/click/1e0",
        "/acme/click/",
        "/acme/click/9999999999999999999999",
        "/ACME/click/1",
        "/nobody/click/1",
        "/acm/click/1",
        "/acme%20/click/1",
    ],
)
def test_an_id_that_was_never_issued_is_a_404_page(bell: Bell, path: str) -> None:
    unknown = bell.metrics()["hits_unknown_id_total"]
    answer = bell.get(f"{path}?url=https://example.com/")
    assert (answer.status, is_page(answer)) == (404, True)
    assert "location" not in answer.headers
    assert b"example.com" not in answer.body
    assert bell.metrics()["hits_unknown_id_total"] == unknown + 1
    assert events(bell, "acme") == []


def test_head_answers_like_get_and_is_not_a_click(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    target = f"/{tenant}/click/1?url={quote(TARGET, safe='')}"
    got = bell.get(target)
    head = bell.ask("HEAD", target, headers={"User-Agent": BROWSER})
    assert (head.status, head.body) == (302, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
    assert events(bell, tenant) == [(1, "click")]
    for bad, status in ((f"/{tenant}/click/1", 400), (f"/{tenant}/click/2?url=http://x", 404)):
        answer = bell.ask("HEAD", bad)
        assert (answer.status, answer.body) == (status, b"")


def test_a_target_is_stored_once(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for url in ("https://example.com/", "HTTPS://example.com:443", "https://example.com/a/.."):
        assert click(bell, url, tenant).status == 302
    assert targets(bell, tenant) == ["https://example.com/"] * 3
    links = "SELECT count(*) FROM links JOIN tenants USING (tenant) WHERE name = ?"
    assert bell.rows(links, tenant) == [(1,)]


def test_the_canonical_form_has_2048_characters_at_most(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    longest = "https://example.com/".ljust(2048, "a")
    answer = click(bell, longest, tenant)
    assert (answer.status, answer.headers["location"]) == (302, longest)
    assert targets(bell, tenant) == [longest]
    for url in (longest + "a", "https://example.com/" + "é" * 400, longest + "a" * 9000):
        answer = click(bell, url, tenant)
        assert (answer.status, is_page(answer)) == (400, True)
    assert len(targets(bell, tenant)) == 1
    assert click(bell, longest + "a" * 20_000, tenant).status == 431  # more than a head may have


def test_the_first_url_counts(bell: Bell) -> None:
    answer = bell.get("/acme/click/1?x=1&url=https%3A%2F%2Fa.example&url=https%3A%2F%2Fb.example")
    assert answer.headers["location"] == "https://a.example/"
    answer = bell.get("/acme/click/1?url=&url=https%3A%2F%2Fb.example")
    assert answer.status == 400
    answer = bell.get("/acme/click/1?url=https://a.example/?x=1&y=2")  # y is not in it
    assert answer.headers["location"] == "https://a.example/?x=1"


def test_a_plus_is_a_space(bell: Bell) -> None:
    answer = bell.get("/acme/click/1?url=https://a.example/?q=a+b%2Bc%20d")
    assert answer.headers["location"] == "https://a.example/?q=a%20b+c%20d"


@pytest.mark.parametrize("value", ["%FF", "https://example.com/%ED%A0%80", "https://%C0%AF"])
def test_what_is_no_utf_8_is_refused_or_replaced(bell: Bell, value: str) -> None:
    answer = bell.get(f"/acme/click/1?url={value}")
    assert answer.status in (302, 400)
    assert "%ED%A0%80" not in answer.headers.get("location", "")


INJECTIONS = [
    "https://example.com/\r\nSet-Cookie: a=1",
    "https://example.com/?\r\nSet-Cookie: a=1\r\n\r\n<script>",
    "https://example.com/#\nSet-Cookie: a=1",
    "https://example.com\r\nSet-Cookie: a=1",
    "https://example.com/\u560d\u560aSet-Cookie: a=1",  # cut to bytes it would be CR LF
    "https://example.com/\u2028Set-Cookie: a=1\x85x: y",
    "https://example.com/%0d%0aSet-Cookie:%20a=1",
    "\r\nSet-Cookie: a=1",
]


@pytest.mark.parametrize("url", INJECTIONS)
def test_no_header_can_be_injected(bell: Bell, url: str) -> None:
    with Line(bell.port) as line:
        for value in (quote(url, safe=""), quote(quote(url, safe=""), safe="")):
            line.send(raw_request(f"/acme/click/1?url={value}", "Connection: close"))
            head, end, body = line.rest().partition(b"\r\n\r\n")
            assert end
            first, *lines = head.split(b"\r\n")
            assert re.fullmatch(rb"HTTP/1.1 (302 Found|400 Bad Request)", first)
            names = [header.partition(b":")[0].lower() for header in lines]
            assert b"set-cookie" not in names
            assert len(names) == len(set(names))
            assert b"\r" not in head.replace(b"\r\n", b"")
            assert b"\n" not in head.replace(b"\r\n", b"")
            assert head.isascii()
            assert (b"302" in first) == (body == b"")
            break


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_redirect_to_the_web_or_a_4xx(bell: Bell, tail: bytes) -> None:
    for start in (b"", b"https:", b"http://example.com/"):
        answer = bell.get(f"/acme/click/1?url={quote_from_bytes(start + tail, safe='')}")
        assert answer.status in (302, 400)
        if answer.status == 302:
            location = answer.headers["location"]
            parsed = ada_url.URL(location)
            assert parsed.href == location
            assert parsed.protocol in ("http:", "https:")
            assert parsed.hostname
            assert not parsed.username + parsed.password


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_wrong_method(bell: Bell, method: str) -> None:
    answer = bell.ask(method, "/acme/click/1?url=https://example.com", b"")
    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))
    assert "location" not in answer.headers


def test_log_line(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    email = bell.create("company_a")
    bell.ask(
        "GET",
        f"/company_a/click/{email}?url=https://example.com/secret",
        headers={"X-Forwarded-For": "2001:db8:1:2:3::4", "User-Agent": BROWSER},
    )
    bell.stop()
    clicked = [line for line in bell.lines() if "click" in line["message"].lower()]
    assert [line["level"] for line in clicked] == ["INFO"]
    assert clicked[0]["fields"] == {
        "tenant_id": "company_a",
        "email_id": email,
        "ip_address": "2001:db8:1::",
    }
