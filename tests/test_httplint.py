"""httplint (https://github.com/mnot/httplint) finds nothing on any answer of any route"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter, levels

from bell import serving
from every_answer import SETTINGS, Exchange, every_route_was_asked, exchanges, fill


class Accepted(NamedTuple):
    """A note that is left as it is, on a status or a route, and why."""

    note: str
    where: int | str
    reason: str


ACCEPTED = (
    Accepted("STATUS_BAD_REQUEST", 400, "says what a 400 is, and nothing against it"),
    # Image proxies of mail providers keep a pixel wherever one header leaves room for it; these
    # are what they were seen to heed, old HTTP/1.0 caches among them.
    Accepted("CC_CONFLICTING", "pixel", "all directives, for whoever knows one of them"),
    Accepted("REQUEST_HDR_IN_RESPONSE", "pixel", "`Pragma: no-cache`, for caches of HTTP/1.0"),
    Accepted("BAD_DATE_SYNTAX", "pixel", "`Expires: 0`, which RFC 9111 5.3 takes for the past"),
    Accepted("CREATED_WITHOUT_LOCATION", "list", "many were created: the body says where"),
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Exchange]]:
    with serving(tmp_path_factory.mktemp("httplint"), **SETTINGS) as bell:
        fill(bell)
        yield list(exchanges(bell))


def notes(one: Exchange) -> list[str]:
    """What httplint has to say against an answer: id and summary."""
    head = one.request.partition(b"\r\n\r\n")[0]
    request = HttpRequestLinter()
    request.process_request_topline(
        one.method.encode(), f"http://bell{one.target}".encode(), b"1.1"
    )
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    request.process_headers([(name, value) for name, _, value in lines])
    request.finish_content(True)
    linter = HttpResponseLinter()
    linter.request = request
    linter.is_head_response = one.method == "HEAD"
    version, status, phrase = one.answer.partition(b"\r\n")[0].split(b" ", 2)
    linter.process_response_topline(version.removeprefix(b"HTTP/"), status, phrase)
    linter.process_headers([(n.encode(), v.encode()) for n, v in one.fields])
    linter.feed_content(one.body)
    linter.finish_content(True)
    return [
        f"{type(note).__name__}: {note.summary}"
        for note in all_of(linter.notes)
        if note.level in (levels.BAD, levels.WARN)
    ]


def all_of(given: Any) -> Iterator[Any]:
    """Notes and those below them."""
    for note in given:
        yield note
        yield from all_of(note.subnotes)


def test_it_finds_nothing(found: list[Exchange]) -> None:
    assert every_route_was_asked(found)
    wrong = {note: str(one) for one in found for note in notes(one) if not accepted(note, one)}
    assert wrong == {}


def accepted(note: str, one: Exchange) -> bool:
    places = {one.status, one.route.name.removeprefix("signed_") if one.route else ""}
    if one.status == 201 and (one.body[:1] == b"[" or one.body.count(b"\n") > 1):
        places.add("list")
    return any(note.startswith(f"{x.note}:") and x.where in places for x in ACCEPTED)


def test_what_is_accepted_is_still_found(found: list[Exchange]) -> None:
    notes_of_all = {note.partition(":")[0] for one in found for note in notes(one)}
    assert {one.note for one in ACCEPTED} <= notes_of_all


def test_every_kind_of_answer_is_among_them(found: list[Exchange]) -> None:
    statuses = {200, 201, 204, 302, 303, 304, 400, 403, 404, 405, 410, 413, 415, 417, 422, 431}
    assert {one.status for one in found} == statuses
    for name, value in (("content-encoding", "gzip"), ("transfer-encoding", "chunked")):
        assert value in {one.headers.get(name) for one in found}
    assert {one.method for one in found} >= {"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"}


def test_it_would_find_something(found: list[Exchange]) -> None:
    """What is looked at are whole answers: each of these is seen in one of them."""
    [page] = [one for one in found if (one.target, one.method, one.status) == ("/", "GET", 200)][:1]
    for before, after, note in (
        (b"Date: ", b"Date: x", "BAD_DATE_SYNTAX"),
        (b"Content-Length: ", b"Content-Length: 1", "CL_INCORRECT"),
        (b"default-src", b"script-src 'unsafe-inline'; default-src", "CSP_UNSAFE_INLINE"),
    ):
        worse = page._replace(answer=page.answer.replace(before, after, 1))
        assert note in {found.partition(":")[0] for found in notes(worse)}
