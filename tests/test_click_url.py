"""GET /{tenant}/click-url/{email_id}?url="""

from collections.abc import Callable, Iterator
from urllib.parse import quote, urlsplit

import pytest

from bell import Bell, dump, events, fresh_tenant, serving


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("click_url")) as bell:
        bell.create("acme")
        yield bell


def test_it_works(bell: Bell) -> None:
    answer = bell.get("/acme/click-url/1?url=https%3A%2F%2Fexample.com%2Fpage")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"click_url", "signed_url", "original_url"}
    assert answer.json["original_url"] == "https://example.com/page"
    assert answer.json["click_url"].startswith(f"http://localhost:{bell.port}/acme/click/1?url=")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://example.com/?a=1&b=2&url=https://other.example/",
        "https://example.com/a%20b%2Bc+d?q=%26%3D%23+%25#frag?x&y",
        "https://xn--mnchen-3ya.example/%C3%BC",
        "http://[::1]:8080/;a=b,c'!*()~",
    ],
)
def test_the_click_url_leads_exactly_there(bell: Bell, url: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    made = bell.get(f"/{tenant}/click-url/1?url={quote(url, safe='')}").json
    parts = urlsplit(made["click_url"])
    answer = bell.get(f"{parts.path}?{parts.query}")
    canonical = url.replace("'", "%27") if "?" in url.partition("'")[0] else url
    assert (answer.status, answer.headers["location"]) == (302, canonical)
    assert events(bell, tenant) == [(1, "click")]


def test_it_makes_the_url_canonical(bell: Bell) -> None:
    made = bell.get("/acme/click-url/1?url=HTTPS%3A%5C%5Cexample.com%3A443%2Fa%2F..%2Fb").json
    assert "?url=https%3A%2F%2Fexample.com%2Fb&sig=" in made["click_url"]


def test_it_records_nothing(bell: Bell) -> None:
    before = dump(bell.database)
    for path in ("/acme/click-url/1", "/acme/click-url/2", "/nobody/click-url/1"):
        bell.get(f"{path}?url=https://example.com/never-clicked")
    assert dump(bell.database) == before


@pytest.mark.parametrize(
    "path", ["/acme/click-url/2", "/acme/click-url/0", "/acme/click-url/01", "/nobody/click-url/1"]
)
def test_an_id_that_was_never_issued(bell: Bell, path: str) -> None:
    answer = bell.get(f"{path}?url=https://example.com")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 404


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?url=",
        "?url=javascript:alert(1)",
        "?url=//x.example",
        "?url=https://a@b.example",
        f"?url=https://example.com/{'a' * 2048}",
        "?url=%FF",
    ],
)
def test_a_missing_or_refused_url(bell: Bell, query: str) -> None:
    answer = bell.get(f"/acme/click-url/1{query}")
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["field"] == "url"


def test_base_url_with_a_prefix(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(BASE_URL="https://track.example.com/bell")
    bell.create("acme")
    made = bell.get("/bell/acme/click-url/1?url=https://example.com").json["click_url"]
    assert made.startswith("https://track.example.com/bell/acme/click/1?url=")
    parts = urlsplit(made)
    answer = bell.get(f"{parts.path}?{parts.query}")
    assert answer.headers["location"] == "https://example.com/"


def test_wrong_method(bell: Bell) -> None:
    answer = bell.ask("POST", "/acme/click-url/1?url=https://example.com", b"")
    assert answer.status == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert "GET" in answer.headers["allow"].split(", ")
