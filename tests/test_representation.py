"""What a client gets of a page: nothing where it has it already, gzip where it takes that"""

import gzip
import re
from collections.abc import Iterator

import pytest

from bell import Answer, fresh_tenant
from streams import Streaming, body_of

HTML = "/acme/whole?size=5000&type=text/html"
PLAIN = "/acme/whole?size=5000"
STATIC = "/-/style.css"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streaming]:
    bell = Streaming(tmp_path_factory.mktemp("whole"))
    try:
        bell.start()
        yield bell
    finally:
        bell.end()


def ask(
    bell: Streaming, target: str, tags: str | None = None, accept: str = "", method: str = "GET"
) -> Answer:
    headers = {"Accept-Encoding": accept}
    if tags is not None:
        headers["If-None-Match"] = tags
    return bell.ask(method, target, headers=headers)


@pytest.mark.parametrize("target", [HTML, PLAIN, STATIC, "/acme/dashboard", "/"])
@pytest.mark.parametrize("accept", ["", "gzip"])
def test_it_works(bell: Streaming, target: str, accept: str) -> None:
    first = ask(bell, target, accept=accept)
    assert first.status == 200
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{24}(-gzip)?"', tag)
    for method in ("GET", "HEAD"):
        again = ask(bell, target, tag, accept, method)
        assert (again.status, again.body) == (304, b"")
        kept = ("etag", "cache-control", "vary")
        assert {name: again.headers.get(name) for name in kept} == {
            name: first.headers.get(name) for name in kept
        }
        assert set(again.headers) <= {*kept, "date", "connection"}


def test_a_page_that_changed_is_sent(bell: Streaming) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    tag = ask(bell, f"/{tenant}/dashboard").headers["etag"]
    assert ask(bell, f"/{tenant}/dashboard", tag).status == 304
    bell.get(f"/{tenant}/pixel/1.gif")
    answer = ask(bell, f"/{tenant}/dashboard", tag)
    assert answer.status == 200
    assert answer.headers["etag"] != tag


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ("TAG", 304),
        ("W/TAG", 304),  # weak comparison
        ('"x", TAG', 304),
        ('"x",W/"y",W/TAG,"z"', 304),
        ('"a,b" , TAG', 304),
        ('"", TAG', 304),
        ("*", 304),
        (" * ", 304),
        ("", 200),
        ('"x"', 200),
        ("BARE", 200),
        ('"*"', 200),
        ("w/TAG", 304),  # no such prefix: the tag behind it is one all the same
        ('"x', 200),
        ("W/", 200),
        (",,,", 200),
        ('"\xe9"', 200),
    ],
)
def test_forms_of_if_none_match(bell: Streaming, tags: str, status: int) -> None:
    tag = ask(bell, PLAIN).headers["etag"]
    tags = tags.replace("TAG", tag).replace("BARE", tag.strip('"'))
    assert ask(bell, PLAIN, tags).status == status


def test_only_a_200_to_get_and_head_can_be_had_already(bell: Streaming) -> None:
    assert ask(bell, "/acme/whole?size=5&refuse=1", "*").status == 409
    answer = ask(bell, "/acme/whole?size=5&status=404", "*")
    assert (answer.status, "etag" in answer.headers) == (404, False)
    answer = bell.ask("POST", "/acme/whole?size=5", b"", {"If-None-Match": "*"})
    assert (answer.status, "etag" in answer.headers) == (200, False)
    assert ask(bell, "/-/nothing.css", "*").status == 404
    assert ask(bell, "/?tenant=acme", "*").status == 302


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("br, gzip ; q=0.001", True),
        ("*", True),
        ("identity;q=0.5, gzip", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip; q=0, *", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("identity", False),
        ("br", False),
        ("", False),
        ("gzip;q=", False),
        ("gzip;q=nan", False),
        ("gzip;q=-1", False),
        ("gzip;q=1e9", False),
        ("xgzip", False),
    ],
)
def test_forms_of_accept_encoding(bell: Streaming, accept: str, packed: bool) -> None:
    answer = ask(bell, HTML, accept=accept)
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert int(answer.headers["content-length"]) == len(answer.body)
    body = gzip.decompress(answer.body) if packed else answer.body
    assert body == ask(bell, HTML).body
    assert len(body) == 5000
    assert len(answer.body) < 500 or not packed


@pytest.mark.parametrize(
    "type",
    [
        "text/html; charset=utf-8".replace("; ", "%3B+"),
        "application/json",
        "text/css",
        "text/javascript",
        "image/svg%2Bxml",
        "Text/HTML",
    ],
)
def test_what_is_packed(bell: Streaming, type: str) -> None:  # noqa: A002 - the query's name
    large = ask(bell, f"/acme/whole?size=1025&type={type}", accept="gzip")
    assert large.headers["content-encoding"] == "gzip"
    small = ask(bell, f"/acme/whole?size=1024&type={type}", accept="gzip")
    assert "content-encoding" not in small.headers
    assert small.headers["vary"] == large.headers["vary"]


@pytest.mark.parametrize("type", ["image/png", "application/octet-stream", "text/html-not"])
def test_what_is_not(bell: Streaming, type: str) -> None:  # noqa: A002 - the query's name
    answer = ask(bell, f"/acme/whole?size=5000&type={type}", accept="gzip")
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept"


def test_each_coding_has_its_own_tag(bell: Streaming) -> None:
    plain = ask(bell, HTML).headers["etag"]
    packed = ask(bell, HTML, accept="gzip").headers["etag"]
    assert plain != packed
    assert ask(bell, HTML, packed).status == 200
    assert ask(bell, HTML, plain, "gzip").status == 200
    assert ask(bell, HTML, f"{plain}, {packed}", "gzip").headers["etag"] == packed


def test_head_says_what_get_would(bell: Streaming) -> None:
    for accept in ("", "gzip"):
        get = ask(bell, HTML, accept=accept).headers
        head = ask(bell, HTML, accept=accept, method="HEAD")
        assert head.body == b""
        assert {**head.headers, "date": ""} == {**get, "date": ""}


def test_a_stream_has_no_tag(bell: Streaming) -> None:
    answer = ask(bell, "/acme/stream?name=tag&pieces=3&size=10", "*")
    assert (answer.status, answer.body) == (200, body_of(3, 10))
    assert "etag" not in answer.headers


def test_the_static_files_are_smaller_on_the_way(bell: Streaming) -> None:
    plain = ask(bell, STATIC)
    packed = ask(bell, STATIC, accept="gzip, deflate, br")
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
