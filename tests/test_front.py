"""GET /"""

from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest

from bell import Bell, dump, serving


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("front")) as bell:
        yield bell


class Form(HTMLParser):
    """What a browser would send: where the one form leads, how, and its fields."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.action: str | None = None
        self.method = "get"
        self.fields: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "form":
            self.action = found.get("action")
            self.method = found.get("method") or "get"
        elif tag == "input" and found.get("name"):
            self.fields.append(found["name"] or "")


def test_it_works(bell: Bell) -> None:
    answer = bell.get("/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"Little Bell" in answer.body
    assert b"/emails" in answer.body, "it does not say how to begin"


def test_the_form_leads_to_a_dashboard(bell: Bell) -> None:
    form = Form(bell.get("/").body)
    assert (form.action, form.method.lower(), len(form.fields)) == ("/", "get", 1)
    answer = bell.get(f"/?{form.fields[0]}=acme-Corp_9")
    assert 300 <= answer.status < 400
    assert answer.headers["location"] == "/acme-Corp_9/dashboard"
    assert bell.get(answer.headers["location"]).status == 200


def test_it_lists_no_tenants(bell: Bell) -> None:
    bell.create("hidden-tenant", subject="hidden-subject")
    bell.get("/hidden-tenant/pixel/1.gif")
    for target in ("/", "/?tenant=", "/?tenant=h", "/?tenant=hidden", "/?tenant=%25"):
        assert b"hidden-" not in bell.get(target).body


@pytest.mark.parametrize(
    "value",
    [
        "-a",
        "a/b",
        "//evil.example",
        "https://evil.example",
        "a%0d%0aX: y",
        "..",
        "%C3%A4",
        "a" * 65,
        "%3Cscript%3Ealert(1)%3C/script%3E",
        "%22%20autofocus%20onfocus=alert(1)%20x=%22",
        "%00",
    ],
)
def test_what_is_no_tenant_leads_nowhere(bell: Bell, value: str) -> None:
    answer = bell.get(f"/?tenant={value.replace(' ', '%20')}")
    assert answer.status in (200, 400)
    assert "location" not in answer.headers
    assert "x" not in answer.headers
    for tag, attributes in Form(answer.body).tags:
        assert tag != "script" or (attributes["src"] or "").startswith("/-/app.js?v=")
        assert not any(name.startswith("on") or name == "autofocus" for name in attributes)


@pytest.mark.parametrize("query", ["tenant=%FF", "tenant=%ED%A0%80", "%FF=%FF", "&&&", "tenant"])
def test_hostile_queries_are_no_failure(bell: Bell, query: str) -> None:
    assert bell.get(f"/?{query}").status in (200, 400)


def test_everything_it_needs_is_here(bell: Bell) -> None:
    answer = bell.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    form = Form(answer.body)
    sources = [
        attributes.get("src") or attributes.get("href")
        for tag, attributes in form.tags
        if tag in ("link", "img", "script", "a")
    ]
    assert sources
    for source in sources:
        assert source is not None
        if source == "#main":
            continue
        assert source.startswith("/")
        assert not source.startswith("//")
        assert bell.get(source).status == 200


def test_static_files(bell: Bell) -> None:
    style = bell.get("/-/style.css")
    assert style.status == 200
    assert style.headers["content-type"].startswith("text/css")
    assert style.headers["x-content-type-options"] == "nosniff"
    assert b"@import" not in style.body
    assert b"http" not in style.body
    for name in ("", "..", "../views.py", "views.py", "%2e%2e%2fviews.py", "style.css%00", "x"):
        assert bell.get(f"/-/{name}").status in (400, 404)


def test_a_file_is_kept_as_long_as_its_version_is_asked_for(bell: Bell) -> None:
    for tag, attributes in Form(bell.get("/").body).tags:
        source = attributes.get("src") if tag == "script" else attributes.get("href")
        if tag in ("script", "link"):
            assert source
            assert "immutable" in bell.get(source).headers["cache-control"]
            name = source.partition("?")[0]
            for old in (name, f"{name}?v=0"):
                assert "immutable" not in bell.get(old).headers["cache-control"]
    assert len(bell.get("/-/app.js").body) < 8000


def test_it_works_with_a_prefix(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(BASE_URL="https://track.example.com/bell")
    page = bell.get("/bell/")
    assert page.status == 200
    form = Form(page.body)
    assert form.action == "/bell/"
    answer = bell.get(f"/bell/?{form.fields[0]}=acme")
    assert answer.headers["location"] == "/bell/acme/dashboard"
    assert bell.get("/bell/acme/dashboard").status == 200
    for _, attributes in form.tags:
        for name in ("src", "href", "action"):
            value = attributes.get(name)
            if value is not None and value != "#main":
                assert value.startswith("/bell/")
                assert bell.get(value).status == 200
    assert bell.get("/").status == 200  # as a proxy asks that cuts the prefix off


def test_the_prefix_without_a_slash_leads_to_the_front(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(BASE_URL="https://track.example.com/bell")
    answer = bell.get("/bell")
    if 300 <= answer.status < 400:
        answer = bell.get(answer.headers["location"])
    assert answer.status == 200


def test_head_and_wrong_method(bell: Bell) -> None:
    head = bell.ask("HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    answer = bell.ask("POST", "/", b"x")
    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))


def test_it_creates_nothing(bell: Bell) -> None:
    before = dump(bell.database)
    bell.get("/?tenant=new-tenant")
    bell.get("/new-tenant/dashboard")
    assert dump(bell.database) == before
