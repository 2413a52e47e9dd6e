"""CORS_ORIGINS: whose pages may call the API from a browser (https://fetch.spec.whatwg.org)"""

from collections.abc import Iterator

import pytest

from bell import Answer, Bell, serving
from streams import Streaming

ALLOWED = "https://app.example.com"
ALSO = "http://localhost:8080"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("cors"), CORS_ORIGINS=f"{ALLOWED}, {ALSO}/") as bell:
        bell.create("acme")
        yield bell


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """Settings as they come: nobody's pages."""
    with serving(tmp_path_factory.mktemp("closed")) as bell:
        bell.create("acme")
        yield bell


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("public"), CORS_ORIGINS="*") as bell:
        bell.create("acme")
        yield bell


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streaming]:
    """With routes of an API in the slow lane."""
    bell = Streaming(tmp_path_factory.mktemp("slow"), CORS_ORIGINS=f"{ALLOWED}, {ALSO}/")
    try:
        bell.start()
        yield bell
    finally:
        bell.end()


def preflight(
    bell: Bell, origin: str, target: str = "/acme/emails", method: str = "POST"
) -> Answer:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type",
    }
    return bell.ask("OPTIONS", target, headers=headers)


def create(bell: Bell, origin: str, body: bytes = b"{}") -> Answer:
    return bell.ask("POST", "/acme/emails", body, {"Origin": origin})


def varies(answer: Answer) -> bool:
    return "origin" in answer.headers.get("vary", "").lower()


@pytest.mark.parametrize("origin", [ALLOWED, ALSO])
def test_it_works(bell: Bell, origin: str) -> None:
    answer = preflight(bell, origin)
    assert answer.status in (200, 204)
    assert answer.headers["access-control-allow-origin"] == origin
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "content-type" in answer.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in answer.headers
    assert varies(answer)
    answer = create(bell, origin)
    assert answer.status == 201
    assert answer.headers["access-control-allow-origin"] == origin
    assert varies(answer)


def test_a_page_can_read_why_it_was_refused(bell: Bell) -> None:
    answer = create(bell, ALLOWED, b'{"subjet": "x"}')
    assert answer.status == 400
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    answer = bell.get("/acme/click-url/999?url=https://example.com", Origin=ALLOWED)
    assert answer.status == 404
    assert answer.headers["access-control-allow-origin"] == ALLOWED


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://APP.example.com",
        "https://app.example.com/",
        "https://xapp.example.com",
        "https://example.com",
        "https://app.example.com, https://evil.example",
        "null",
        "*",
        "",
        "\xff",
    ],
)
def test_other_origins_are_not_allowed(bell: Bell, origin: str) -> None:
    for answer in (preflight(bell, origin), create(bell, origin)):
        assert "access-control-allow-origin" not in answer.headers
        assert varies(answer), "a cache would give it to an origin that is allowed"


def test_without_an_origin_nothing_is_said(bell: Bell) -> None:
    answer = bell.ask("POST", "/acme/emails", {})
    assert answer.status == 201
    assert "access-control-allow-origin" not in answer.headers
    assert varies(answer)


def test_nobody_is_allowed_unless_it_is_set(closed: Bell) -> None:
    for answer in (preflight(closed, ALLOWED), create(closed, ALLOWED)):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert create(closed, ALLOWED).status == 201  # CORS is the browser's affair


@pytest.mark.parametrize("origin", [ALLOWED, "https://any.example", "null"])
def test_a_star_allows_all(public: Bell, origin: str) -> None:
    for answer in (preflight(public, origin), create(public, origin)):
        assert answer.headers["access-control-allow-origin"] in ("*", origin)
        assert "access-control-allow-credentials" not in answer.headers


def test_click_url_can_be_called(bell: Bell) -> None:
    target = "/acme/click-url/1?url=https://example.com"
    assert bell.get(target, Origin=ALLOWED).headers["access-control-allow-origin"] == ALLOWED
    answer = preflight(bell, ALLOWED, target, "GET")
    assert "GET" in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize("target", ["/acme/dashboard", "/", "/acme/click/1?url=http://x.example"])
def test_pages_and_redirects_are_not_for_other_origins(public: Bell, target: str) -> None:
    assert "access-control-allow-origin" not in public.get(target, Origin=ALLOWED).headers


def test_the_pixel_is_the_same_for_all(bell: Bell) -> None:
    plain = bell.get("/acme/pixel/1.gif").headers
    asked = bell.get("/acme/pixel/1.gif", Origin=ALLOWED).headers
    assert {**plain, "date": ""} == {**asked, "date": ""}


def test_options_without_a_preflight(bell: Bell) -> None:
    answer = bell.ask("OPTIONS", "/acme/emails")
    assert answer.status in (200, 204)
    assert answer.body == b""
    assert "POST" in answer.headers["allow"]
    assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/acme/whole?size=10", 200),
        ("/acme/whole?size=10&refuse=1", 409),
        ("/acme/stream?name=cors&pieces=1&size=10", 200),
        ("/acme/stream?name=cors&pieces=1&size=10&refuse=0", 409),
        ("/acme/stream?name=cors&pieces=1&size=10&fail=0", 500),
    ],
)
def test_the_slow_lane_says_it_as_well(slow: Streaming, target: str, status: int) -> None:
    answer = slow.get(target, Origin=ALLOWED)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert varies(answer)
    other = slow.get(target, Origin="https://evil.example")
    assert "access-control-allow-origin" not in other.headers
    assert varies(other)


def test_one_vary_names_all(slow: Streaming) -> None:
    answer = slow.get("/acme/whole?size=10&type=text/html", Origin=ALLOWED)
    assert answer.headers["vary"] == "Accept, Accept-Encoding, Origin"


def test_a_304_can_be_read(slow: Streaming) -> None:
    preflighted = preflight(slow, ALLOWED, "/acme/whole", "GET")
    assert "If-None-Match" in preflighted.headers["access-control-allow-headers"]
    tag = slow.get("/acme/whole?size=10").headers["etag"]
    answer = slow.get("/acme/whole?size=10", Origin=ALLOWED, If_None_Match=tag)
    assert answer.status == 304
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert varies(answer)
