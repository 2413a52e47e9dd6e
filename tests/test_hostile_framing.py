"""Where a request ends: folds, bare CR and LF, lengths and codings that contradict themselves.

What a proxy in front reads otherwise than the bell is a way to smuggle (RFC 9112 11.2). Beside what
test_http.py holds.
"""

from collections.abc import Iterator

import pytest

from bell import Bell, Line, events, fresh_tenant, raw_request, serving
from hostile import CHUNKED, is_refused

GET = "GET /health HTTP/1.1"
POST = "POST /stranger/emails HTTP/1.1"
BODY = "2\r\n{}\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("framing")) as bell:
        yield bell


def written(first: str, *lines: str, body: str = "") -> bytes:
    """A request, each line as it is given."""
    return "\r\n".join([first, "Host: bell", *lines, "", body]).encode("latin-1")


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length:\r\n 2",
        "Content-Length: 2\r\n\t",
        "Content-Length: 2\r\n 0",
        "X: y\r\n Content-Length: 2",
        "X: y\nContent-Length: 2",
        "X: y\rContent-Length: 2",
    ],
)
@pytest.mark.parametrize("other", [(), ("Content-Length: 2",)])
def test_a_length_in_a_fold_or_behind_half_a_line_end(
    bell: Bell, line: str, other: tuple[str, ...]
) -> None:
    is_refused(bell, written(POST, line, *other, body="{}"))


@pytest.mark.parametrize(
    "value",
    [
        "2;",
        "2,",
        ",2",
        "2, ",
        "\x0b2",
        "2\x0c",
        "2\x00",
        "\xa02",
        "2\xa0",
        '"2"',
        "2e0",
        "0b10",
        "0o2",
        "18446744073709551616",
        "18446744073709551618",
        "-18446744073709551614",
    ],
)
def test_a_length_that_is_no_number(bell: Bell, value: str) -> None:
    is_refused(bell, written(POST, f"Content-Length: {value}", body="{}"))


@pytest.mark.parametrize("value", ["\t2\t", "0002", "0" * 40 + "2"])
def test_a_length_in_an_odd_form_is_still_that_length(bell: Bell, value: str) -> None:
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        line.send(written(f"POST /{tenant}/emails HTTP/1.1", f"Content-Length: {value}", body="{}"))
        assert line.answer().json["email_id"] == 1
        line.send(raw_request(f"/{tenant}/pixel/1.gif"))
        assert line.answer().headers["content-type"] == "image/gif"
    assert events(bell, tenant) == [(1, "open")]


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: chunked\r\n , identity",
        "Transfer-Encoding: chunked\r\n ",
        "Transfer-Encoding: identity\r\n\tchunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding: \xa0chunked",
        "Transfer-Encoding: chunked\xa0",
        "Transfer-Encoding: chunked\x00",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked, ",
        "Transfer-Encoding: chunked, ,",
        "Transfer-Encoding: chun ked",
        "Transfer-Encoding: chunked\r",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding\xa0: chunked",
    ],
)
@pytest.mark.parametrize("other", [(), ("Content-Length: 2",)])
def test_a_coding_that_somebody_else_may_see(bell: Bell, line: str, other: tuple[str, ...]) -> None:
    is_refused(bell, written(POST, *other, line, body=BODY))


@pytest.mark.parametrize("coding", ["gzip", "identity", "xchunked", "chunked, gzip", ""])
def test_a_coding_beside_a_length(bell: Bell, coding: str) -> None:
    lines = [f"Transfer-Encoding: {coding}", "Content-Length: 2"]
    is_refused(bell, written(POST, *lines, body=BODY))
    is_refused(bell, written(POST, *reversed(lines), body=BODY))


@pytest.mark.parametrize(
    "lines",
    [
        [CHUNKED, "Content-Length: 2"],
        ["Content-Length: 2", CHUNKED],
        ["Content-Length: 2", "Content-Length: 3"],
        ["Transfer-Encoding: x"],
    ],
)
def test_a_get_with_a_body_of_doubtful_length(bell: Bell, lines: list[str]) -> None:
    is_refused(bell, written(GET, *lines, body=BODY))


@pytest.mark.parametrize(
    "head",
    [
        f"{GET}\nHost: bell\r\n\r\n",
        f"{GET}\r\r\nHost: bell\r\n\r\n",
        f"{GET}\t\r\nHost: bell\r\n\r\n",
        f"{GET}\r\nHost: bell\r\r\n\r\n",
        f"{GET}\r\nHost: bell\n\r\n",
        f"{GET}\r\nHost: bell\r\n\rX",
        f"{GET}\r\nHost: bell\r\n\r\r\n\n",
        f"{GET}\r\n\tHost: bell\r\n\r\n",
        f"{GET}\r\nHost:\r\n bell\r\n\r\n",
        f"{GET}\r\nHost: bell\r\n\x0bX: y\r\n\r\n",
        f"{GET}\r\nHost\t: bell\r\n\r\n",
        f"{GET}\r\nHost: bell\r\nX: \x7f\r\n\r\n",
        f"{GET}\r\nHost: bell\r\nX: a\x01b\r\n\r\n",
        "GET /hea\tlth HTTP/1.1\r\nHost: bell\r\n\r\n",
        "GET /\x0c HTTP/1.1\r\nHost: bell\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: bell\r\n\r\n",
        "GET  HTTP/1.1\r\nHost: bell\r\n\r\n",
        "GET /health\rHTTP/1.1\r\nHost: bell\r\n\r\n",
        "GET /health\nHTTP/1.1\r\nHost: bell\r\n\r\n",
    ],
)
def test_heads_with_line_ends_of_another_kind(bell: Bell, head: str) -> None:
    is_refused(bell, head.encode("latin-1"))


@pytest.mark.parametrize(
    "body",
    [
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}\r0\r\n\r\n",
        "2\r\n{}\r\n0\n\r\n",
        "2\r\n{}\r\n0\r\n\n",
        "2\r\n{}\r\n0\r\r\n\r\n",
        "2\r\r\n{}\r\n0\r\n\r\n",
        "2\r{}\r\n0\r\n\r\n",
        '2;a="\n"\r\n{}\r\n0\r\n\r\n',
        "2;a\rb\r\n{}\r\n0\r\n\r\n",
        "2;a\x00\r\n{}\r\n0\r\n\r\n",
        "2 ;a=b\r\n{}\r\n0\r\n\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
        "\t2\r\n{}\r\n0\r\n\r\n",
        "2\x00\r\n{}\r\n0\r\n\r\n",
        "2,\r\n{}\r\n0\r\n\r\n",
        "2 3\r\n{}\r\n0\r\n\r\n",
        "2_0\r\n{}\r\n0\r\n\r\n",
        "10000000000000002\r\n{}\r\n0\r\n\r\n",
        "-0\r\n\r\n",
        "2\r\n{}\r\n0\r\nX: a\n\r\n",
        "2\r\n{}\r\n0\r\nX: a\r\n b\r\n\r\n",
        "2\r\n{}\r\n0\r\n X: a\r\n\r\n",
        "2\r\n{}\r\n0\r\nX: \x00\r\n\r\n",
        "2\r\n{}\r\n0\r\n: x\r\n\r\n",
        "2\r\n{}\r\n0\r\njunk\r\n\r\n",
        "2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
        "2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_chunks_and_trailers_that_somebody_else_may_cut_elsewhere(bell: Bell, body: str) -> None:
    is_refused(bell, written(POST, CHUNKED, body=body), 400, 413)


@pytest.mark.parametrize(
    "body",
    [
        "0" * 24 + "2\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}\r\n" + "0" * 24 + "\r\n\r\n",
        '2;a="b;c";d\r\n{}\r\n0;e\r\n\r\n',
        "1\r\n{\r\n1\r\n}\r\n0\r\nHost: other\r\nHost: third\r\nCookie: a\r\n\r\n",
    ],
)
def test_odd_but_whole_chunks_are_one_body_and_no_more(bell: Bell, body: str) -> None:
    """What may stand in them is skipped; a click behind is answered, or the connection closes."""
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        line.send(written(f"POST /{tenant}/emails HTTP/1.1", CHUNKED, body=body))
        line.send(raw_request(f"/{tenant}/click/2?url=https://example.com"))
        answer = line.answer()
        assert answer.json["email_id"] == 1
        if answer.headers.get("connection") == "close":
            assert line.closed
        else:
            assert line.answer().status == 404
    assert events(bell, tenant) == []
