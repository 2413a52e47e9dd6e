"""GET, HEAD /{tenant}/l/{email}/{token} and /{tenant}/o/{email}/{mac}.gif, `sig` and LINK_POLICY"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import signatures
from bell import Answer, Bell, events, exchange, fresh_tenant, raw_request, serving
from little_bell.wire.answers import preview

KEY = "a-key-that-signs-links-in-tests"
TARGET = "https://example.com/page?a=1&b=%20#part"
PIXEL_HEADERS = (
    "content-type",
    "content-length",
    "cache-control",
    "pragma",
    "expires",
    "cross-origin-resource-policy",
    "x-content-type-options",
    "x-robots-tag",
)


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    folder = tmp_path_factory.mktemp("links")
    with serving(folder, SECRET_KEY=KEY, INSTANT_SECONDS="0") as bell:
        bell.create("acme")
        yield bell


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """Where only what is signed counts."""
    folder = tmp_path_factory.mktemp("signed")
    settings = {"SECRET_KEY": KEY, "LINK_POLICY": "signed", "INSTANT_SECONDS": "0"}
    with serving(folder, **settings) as bell:
        yield bell


def token(tenant: str, email: int, url: str = TARGET, label: str = "", part: str = "") -> str:
    return signatures.token(KEY.encode(), tenant, email, url, label, part)


def link(tenant: str, email: int, url: str = TARGET, label: str = "", part: str = "") -> str:
    return f"/{tenant}/l/{email}/{token(tenant, email, url, label, part)}"


def pixel(tenant: str, email: int) -> str:
    return f"/{tenant}/o/{email}/{signatures.pixel(KEY.encode(), tenant, email)}"


def sig(tenant: str, email: int, url: str = TARGET) -> str:
    return signatures.text(signatures.click_mac(KEY.encode(), tenant, email, url))


def click(tenant: str, email: int, url: str = TARGET, sig: str | None = None) -> str:
    signed = "" if sig is None else f"&sig={sig}"
    return f"/{tenant}/click/{email}?url={quote(url, safe='')}{signed}"


def redirects(answer: Answer, url: str = TARGET) -> bool:
    return answer.status == 302 and answer.headers["location"] == url


def previews(answer: Answer, url: str = TARGET) -> bool:
    """Whether a page names the target, and nothing in it leads there by itself."""
    shown = url.replace("&", "&amp;").encode()
    body = answer.body.lower()
    assert "location" not in answer.headers
    assert "refresh" not in answer.headers
    for word in (b"<script", b"http-equiv", b"<iframe", b"<img", b"<base", b"onload"):
        assert word not in body
    return (
        answer.status == 200
        and answer.headers["content-type"].startswith("text/html")
        and answer.body.count(b'<a rel="noreferrer nofollow" href="' + shown + b'">' + shown) == 1
        and answer.headers["referrer-policy"] == "no-referrer"
        and "noindex" in answer.headers["x-robots-tag"]
        and answer.headers["cache-control"] == "no-store"
    )


def clicked(bell: Bell, tenant: str) -> list[tuple[Any, ...]]:
    """Target, label and part of each click, in order."""
    return bell.rows(
        "SELECT url, label, part FROM tenants JOIN events AS e USING (tenant) "
        "JOIN links AS l USING (tenant, link) WHERE name = ? AND kind = 1 ORDER BY seq",
        tenant,
    )


# Links


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant)
    answer = bell.get(link(tenant, email))
    assert redirects(answer)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers
    assert events(bell, tenant) == [(email, "click")]
    assert clicked(bell, tenant) == [(TARGET, "", "")]


def test_what_click_url_answers_leads_there(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    made = bell.get(f"/{tenant}/click-url/1?url={quote(TARGET, safe='')}&label=a%20%26&part=%C3%BC")
    base = f"http://localhost:{bell.port}"
    assert made.json == {
        "click_url": base + click(tenant, 1, TARGET, sig(tenant, 1)),
        "signed_url": base + link(tenant, 1, TARGET, "a &", "ü"),
        "original_url": TARGET,
    }
    for name in ("click_url", "signed_url"):
        assert redirects(bell.get(made.json[name].removeprefix(base)))
    assert clicked(bell, tenant) == [(TARGET, "", ""), (TARGET, "a &", "ü")]


@pytest.mark.parametrize("name", ["label", "part"])
@pytest.mark.parametrize("value", ["%00", "%0A", "%C2%85", "%FF", "a" * 256, "%C3%BC" * 128])
def test_a_label_or_part_that_is_none(bell: Bell, name: str, value: str) -> None:
    answer = bell.get(f"/acme/click-url/1?url=https://example.com/&{name}={value}")
    assert (answer.status, answer.json["field"]) == (400, name)


def test_each_label_and_part_of_a_target_is_a_link_of_its_own(bell: Bell) -> None:
    """Found again by later hits and after a restart; figures of each."""
    tenant = fresh_tenant()
    bell.create(tenant)
    pairs = [("", ""), ("a", ""), ("", "a"), ("a", "b"), ("b", "a")]
    for _ in range(2):
        for pair in (*pairs, *pairs):
            assert redirects(bell.get(link(tenant, 1, TARGET, *pair)))
        assert bell.stop() == 0
        bell.start()
    rows = bell.rows(
        "SELECT label, part, count(*) FROM tenants JOIN links USING (tenant) "
        "JOIN events USING (tenant, link) WHERE name = ? GROUP BY link ORDER BY link",
        tenant,
    )
    assert rows == [(*pair, 4) for pair in pairs]
    read = bell.get(f"/{tenant}/links").json["links"]
    shown = [(one["url"], one["label"], one["part"]) for one in read]
    assert sorted(shown) == sorted((TARGET, *pair) for pair in pairs)
    for one in read:
        assert one["clicks"] + one["machine_clicks"] == 4


def test_links_by_label_are_bounded(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(SECRET_KEY=KEY, MAX_NEW_LINKS_PER_HOUR="3")
    bell.create()
    for n in range(6):
        assert redirects(bell.get(link("acme", 1, TARGET, f"{n}")))
    assert [label for _, label, _ in clicked(bell, "acme")] == ["0", "1", "2"]
    assert bell.rows("SELECT count(*) FROM links") == [(3,)]
    assert len(events(bell, "acme")) == 6


def test_head_counts_nothing(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for path in (link(tenant, 1), click(tenant, 1, TARGET, sig(tenant, 1))):
        answer = bell.ask("HEAD", path)
        assert redirects(answer)
        assert answer.body == b""
    assert bell.ask("HEAD", pixel(tenant, 1)).status == 200
    assert bell.ask("HEAD", link(tenant, 1) + "+").status == 200
    assert events(bell, tenant) == []


def test_it_leads_there_whatever_is_known_of_the_email(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant)
    assert bell.ask("DELETE", f"/{tenant}/emails/{email}").status == 204
    for who, which in ((tenant, email), (tenant, 999), (fresh_tenant(), 1)):
        assert redirects(bell.get(link(who, which)))
        assert redirects(bell.get(click(who, which, TARGET, sig(who, which))))
        assert events(bell, who) == []


def test_it_leads_there_with_another_database(start_bell: Callable[..., Bell]) -> None:
    """All but the key is lost."""
    first = start_bell()
    first.create()
    made = first.get(f"/acme/click-url/1?url={quote(TARGET, safe='')}").json
    first.stop()
    second = start_bell(SECRET_KEY_FILE=str(first.database) + ".secret")
    for name in ("signed_url", "click_url"):
        parts = urlsplit(made[name])
        assert redirects(second.get(f"{parts.path}?{parts.query}"))


@pytest.mark.parametrize(
    "path",
    [
        "/acme/l/1/",
        "/acme/l/1/+",
        "/acme/l/1/++",
        "/acme/l/1/A",
        "/acme/l/1/AQ",
        "/acme/l/1/AA+",
        "/acme/l/1/%00",
        "/acme/l/1/" + "A" * 8000,
        "/acme/l/1/" + token("acme", 2),
        "/acme/l/2/" + token("acme", 1),
        "/acme/l/01/" + token("acme", 1),
        "/acme/l/1.gif/" + token("acme", 1),
        "/acme/l/1/" + token("acme", 1) + "=",
        "/acme/l/1/" + token("acme", 1) + "++",
        "/acme/l/1/" + token("acme", 1)[:-1],
        "/acme/l/1/" + token("acme", 1).replace("A", "%41", 1),
        "/other/l/1/" + token("acme", 1),
        "/a!b/l/1/" + token("acme", 1),
        "/acme/l/1/" + signatures.token(b"another-key-than-ours", "acme", 1, TARGET),
    ],
)
def test_a_bad_token_leads_nowhere(bell: Bell, path: str) -> None:
    before = events(bell, "acme")
    answer = bell.get(path)
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "location" not in answer.headers
    assert events(bell, "acme") == before


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=0, max_size=60))
def test_any_bytes_as_a_token(bell: Bell, data: bytes) -> None:
    """In a path, raw or written as base64url behind a good version."""
    raw = b"".join(b"%c" % one for one in data if one > 32 and one not in b"?# \x7f")
    encoded = signatures.text(b"\x01" + data).encode()
    for name in (raw, encoded, encoded + b"+"):
        for path in (b"/acme/l/1/" + name, b"/acme/o/1/" + name, b"/acme/o/1/" + name + b".gif"):
            answer = exchange(bell, raw_request("/@", "Connection: close").replace(b"/@", path))
            assert answer.status in (200, 302, 400, 404), (path, answer)
            assert answer.status != 302 or b"/l/" not in path


SIGNED_BUT_WRONG = (
    ("javascript:alert(1)", 400),
    ("https://user@evil.example/", 400),
    ("", 400),
    ("x", 400),
    ("//evil.example/", 400),
    ("https://example.com/" + "a" * 2048, 400),
    ("https:evil.example", 200),  # not canonical: shown, not followed
    ("https:\\\\evil.example", 200),
    ("https://EXAMPLE.com/", 200),
    ("https://example.com", 200),
    (" https://example.com/", 200),
    ("https://example.com/\r\nSet-Cookie: a=b", 200),
    ("https://example.com/a\x00", 200),
)


@pytest.mark.parametrize(("url", "status"), SIGNED_BUT_WRONG)
def test_a_target_is_checked_though_it_is_signed(bell: Bell, url: str, status: int) -> None:
    before = events(bell, "acme")
    answer = bell.get(link("acme", 1, url))
    assert answer.status == status
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert events(bell, "acme") == before


def test_a_query_behind_a_link_changes_nothing(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    assert redirects(bell.get(link(tenant, 1) + "?fbclid=1&url=https://evil.example/"))


def test_base_url_with_a_prefix(start_bell: Callable[..., Bell]) -> None:
    base = "https://track.example.com/bell"
    bell = start_bell(BASE_URL=base, SECRET_KEY=KEY, LINK_POLICY="signed")
    bell.create()
    made = bell.get("/bell/acme/click-url/1?url=https%3A%2F%2Fexample.com").json
    assert made["signed_url"] == base + link("acme", 1, "https://example.com/")
    for root in ("", "/bell"):
        assert redirects(
            bell.get(root + link("acme", 1, "https://example.com/")), "https://example.com/"
        )
        assert bell.get(root + pixel("acme", 1)).body[:3] == b"GIF"
        assert previews(bell.get(root + link("acme", 1) + "+"))
    assert len(events(bell, "acme")) == 4
    created = bell.ask("POST", "/bell/acme/emails", b"").json
    assert created["tracking_pixel_url"] == base + pixel("acme", 2)


# Previews


def test_a_plus_shows_where_a_link_leads(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant)
    nasty = "https://example.com/\"<x>'&amp;?a=\"<>'&b=1#\"<>`'"
    for url in (TARGET, nasty):
        made = bell.get(f"/{tenant}/click-url/{email}?url={quote(url, safe='')}").json
        target = made["original_url"]
        parts = urlsplit(made["signed_url"])
        assert previews(bell.get(parts.path + "+"), target)
        assert previews(bell.get(click(f"{tenant}", email, url).replace("?", "+?")), target)
        signed = click(tenant, email, url, sig(tenant, email, target)).replace("?", "+?")
        assert previews(bell.get(signed), target)
    assert events(bell, tenant) == []


def test_a_target_stays_within_its_quotes() -> None:
    """Canonical ones hold none; a parser of another day may let them through."""
    page = preview('https://a.example/"onclick="x&<b>', "It leads to:").decode()
    assert page.count("https://a.example/&quot;onclick=&quot;x&amp;&lt;b>") == 2
    assert 'onclick="' not in page


def test_a_plus_behind_what_is_refused(bell: Bell) -> None:
    assert bell.get("/acme/click/1+?url=javascript:alert(1)").status == 400
    assert bell.get("/acme/click/1+").status == 400


# Pixels


def test_a_signed_pixel_counts(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant)
    answer = bell.get(pixel(tenant, email))
    usual = bell.get(f"/{tenant}/pixel/0")
    assert (answer.status, answer.body) == (200, usual.body)
    assert [answer.headers[name] for name in PIXEL_HEADERS] == [
        usual.headers[name] for name in PIXEL_HEADERS
    ]
    assert set(answer.headers) == set(usual.headers)
    assert events(bell, tenant) == [(email, "open")]


@pytest.mark.parametrize(
    "path",
    [
        "/acme/o/1/",
        "/acme/o/1/.gif",
        "/acme/o/1/A.gif",
        "/acme/o/1/" + "A" * 16 + ".gif",
        "/acme/o/1/" + "A" * 8000,
        pixel("acme", 1).removesuffix(".gif"),
        pixel("acme", 1) + ".gif",
        pixel("acme", 1).replace("/1/", "/2/"),
        pixel("acme", 1).replace("/1/", "/01/"),
        pixel("acme", 1).replace("/1/", "/1.gif/"),
        pixel("acme", 1).replace("/acme/", "/other/"),
        pixel("acme", 1).replace("/acme/", "/!/"),
        pixel("acme", 1).replace(".gif", "=.gif"),
        pixel("acme", 9),
        pixel("nobody", 1),
        "/acme/o/1/" + signatures.pixel(b"another-key-than-ours", "acme", 1),
        "/acme/o/1/%FF.gif",
    ],
)
def test_another_pixel_is_the_gif_and_counts_nothing(bell: Bell, path: str) -> None:
    good = bell.get(pixel("acme", 1))
    before = events(bell, "acme")
    answer = bell.get(path)
    assert (answer.status, answer.body) == (200, good.body)
    assert {**answer.headers, "date": ""} == {**good.headers, "date": ""}
    assert events(bell, "acme") == before


def test_bad_signatures_are_a_metric(bell: Bell) -> None:
    before = bell.metrics()["hits_bad_signature_total"]
    bell.get("/acme/o/1/A.gif")
    bell.get("/acme/l/1/A")
    bell.get(click("acme", 1, TARGET, "A"))
    bell.get(click("acme", 1))
    bell.get(pixel("acme", 1))
    assert bell.metrics()["hits_bad_signature_total"] == before + 3


# LINK_POLICY

MATRIX = [
    # what is asked, what it gets, and whether it counts: with `any`, with `signed`
    ("unsigned click", ("redirect", True), ("preview", False)),
    ("signed click", ("redirect", True), ("redirect", True)),
    ("badly signed click", ("redirect", True), ("preview", False)),
    ("another email's click", ("redirect", True), ("preview", False)),
    ("another target's click", ("redirect", True), ("preview", False)),
    ("empty signature", ("redirect", True), ("preview", False)),
    ("signature that is no text", ("redirect", True), ("preview", False)),
    ("signed link", ("redirect", True), ("redirect", True)),
    ("bad link", ("page", False), ("page", False)),
    ("unsigned pixel", ("gif", True), ("gif", False)),
    ("signed pixel", ("gif", True), ("gif", True)),
    ("bad pixel", ("gif", False), ("gif", False)),
]


def asked(what: str, tenant: str) -> str:
    other = "https://evil.example/"
    return {
        "unsigned click": click(tenant, 1),
        "signed click": click(tenant, 1, TARGET, sig(tenant, 1)),
        "badly signed click": click(tenant, 1, TARGET, "A" * 16),
        "another email's click": click(tenant, 1, TARGET, sig(tenant, 2)),
        "another target's click": click(tenant, 1, TARGET, sig(tenant, 1, other)),
        "empty signature": click(tenant, 1, TARGET, ""),
        "signature that is no text": click(tenant, 1, TARGET, "%FF"),
        "signed link": link(tenant, 1),
        "bad link": link(tenant, 2).replace("/2/", "/1/"),
        "unsigned pixel": f"/{tenant}/pixel/1.gif",
        "signed pixel": pixel(tenant, 1),
        "bad pixel": pixel(tenant, 2).replace("/2/", "/1/"),
    }[what]


def form_of(answer: Answer) -> str:
    if answer.status == 404:
        return "page"
    if answer.body[:3] == b"GIF":
        return "gif"
    return "redirect" if redirects(answer) else "preview" if previews(answer) else "another"


@pytest.mark.parametrize(("what", "loose", "tight"), MATRIX)
def test_the_policies(
    bell: Bell, strict: Bell, what: str, loose: tuple[str, bool], tight: tuple[str, bool]
) -> None:
    for server, (form, counts) in ((bell, loose), (strict, tight)):
        tenant = fresh_tenant()
        server.create(tenant)
        answer = server.get(asked(what, tenant))
        assert form_of(answer) == form, answer
        assert len(events(server, tenant)) == counts


def test_an_unsigned_link_is_no_oracle_where_it_is_not_followed(strict: Bell) -> None:
    tenant = fresh_tenant()
    strict.create(tenant)
    pages = {strict.get(click(*of)).body for of in ((tenant, 1), (tenant, 99), ("nobody", 1))}
    assert len(pages) == 1


def test_an_unsigned_link_is_refused_as_ever(strict: Bell) -> None:
    for url in ("javascript:alert(1)", "https://a@b.example/", "", "//evil.example"):
        assert strict.get(click("acme", 1, url)).status == 400


@pytest.mark.parametrize("signed", [False, True])
def test_new_emails_get_the_pixel_that_counts(bell: Bell, strict: Bell, signed: bool) -> None:
    server = strict if signed else bell
    base = f"http://localhost:{server.port}"
    tenant = fresh_tenant()

    def expected(email: int) -> str:
        return base + (pixel(tenant, email) if signed else f"/{tenant}/pixel/{email}.gif")

    once = {"Idempotency-Key": "x"}
    one = server.ask("POST", f"/{tenant}/emails", b"{}", once)
    again = server.ask("POST", f"/{tenant}/emails", b"{}", once)
    assert one.json == again.json == {"email_id": 1, "tracking_pixel_url": expected(1)}
    listed = server.ask("POST", f"/{tenant}/emails", b"[{}, {}]").json
    assert listed == [{"email_id": n, "tracking_pixel_url": expected(n)} for n in (2, 3)]
    kind = {"Content-Type": "application/x-ndjson"}
    lines = server.ask("POST", f"/{tenant}/emails", b"{}\n{}\n", kind).body.splitlines()
    assert [json.loads(line)["tracking_pixel_url"] for line in lines] == [expected(4), expected(5)]
    page = server.get(f"/{tenant}/dashboard/emails/5").body.decode()
    assert expected(5) in page
    for n in range(1, 6):
        server.get(expected(n).removeprefix(base))
    assert events(server, tenant) == [(n, "open") for n in range(1, 6)]


def test_the_test_email_of_the_dashboard_counts(strict: Bell) -> None:
    tenant = fresh_tenant()
    answer = strict.ask("POST", f"/{tenant}/dashboard/try", b"")
    page = strict.get(answer.headers["location"]).body.decode().replace("&amp;", "&")
    strict.get(pixel(tenant, 1))
    assert f'src="{pixel(tenant, 1)}"' in page
    back = f"http://localhost:{strict.port}/{tenant}/dashboard/emails/1"
    assert f'href="{click(tenant, 1, back, sig(tenant, 1, back))}"' in page
