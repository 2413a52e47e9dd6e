"""HTTP/1.1 and HTTP/1.0 over raw sockets: what clients send, well-meant and not (RFC 9112)."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from bell import (
    Bell,
    Line,
    dump,
    events,
    exchange,
    fresh_tenant,
    raw_request,
    serving,
    wait_until,
)

ROUTES = {
    "/acme/pixel/1.gif": {"GET", "HEAD"},
    "/acme/click/1?url=https://example.com": {"GET", "HEAD"},
    "/acme/click-url/1?url=https://example.com": {"GET"},
    "/acme/emails": {"GET", "HEAD", "POST"},
    "/acme/emails/1": {"GET", "HEAD", "PATCH", "DELETE"},
    "/acme/stats": {"GET", "HEAD"},
    "/acme/links": {"GET", "HEAD"},
    "/acme/campaigns": {"GET", "HEAD"},
    "/acme/clients": {"GET", "HEAD"},
    "/acme/events": {"GET", "HEAD"},
    "/acme/events.csv": {"GET", "HEAD"},
    "/acme/events.ndjson": {"GET", "HEAD"},
    "/acme/emails.csv": {"GET", "HEAD"},
    "/acme/dashboard": {"GET"},
    "/health": {"GET"},
    "/metrics": {"GET"},
    "/": {"GET"},
    "/-/style.css": {"GET"},
}
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("http")) as bell:
        bell.create("acme")
        yield bell
        assert bell.get("/health").status == 200, "it did not survive"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """A server of little patience."""
    folder = tmp_path_factory.mktemp("hasty")
    with serving(folder, IDLE_SECONDS="1", REQUEST_SECONDS="0.5") as bell:
        bell.create("acme")
        yield bell


def numbered(tenant: str, n: int, *lines: str) -> bytes:
    """A request whose answer shows which one it was: it redirects to n."""
    return raw_request(f"/{tenant}/click/1?url=https://example.com/{n}", *lines)


# Connections


def test_keep_alive(bell: Bell) -> None:
    with Line(bell.port) as line:
        for _ in range(5):
            line.send(raw_request("/acme/pixel/1.gif"))
            answer = line.answer()
            assert answer.status == 200
            assert answer.headers.get("connection", "keep-alive").lower() == "keep-alive"


def test_connection_close(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(raw_request("/acme/pixel/1.gif", "Connection: close"))
        answer = line.answer()
        assert answer.headers["connection"] == "close"
        assert line.closed


@pytest.mark.parametrize("value", ["Close", "x, close", "keep-alive, close"])
def test_close_in_any_form_closes(bell: Bell, value: str) -> None:
    with Line(bell.port) as line:
        line.send(raw_request("/health", f"Connection: {value}"))
        assert line.answer().status == 200
        assert line.closed


def test_a_thousand_pipelined_requests_are_answered_in_order(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    with Line(bell.port) as line:
        line.send(b"".join(numbered(tenant, n) for n in range(1000)))
        answers = [line.answer() for _ in range(1000)]
    assert {answer.status for answer in answers} == {302}
    expected = [f"https://example.com/{n}" for n in range(1000)]
    assert [answer.headers["location"] for answer in answers] == expected
    assert len(events(bell, tenant)) == 1000


def test_pipelined_requests_of_every_kind_are_answered_in_order(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    with Line(bell.port) as line:
        line.send(
            raw_request(f"/{tenant}/pixel/1.gif")
            + raw_request(f"/{tenant}/emails", method="POST", body=b"{}")
            + raw_request(f"/{tenant}/pixel/1.gif", method="HEAD")
            + b"\r\n"  # an empty line before a request is skipped
            + raw_request("/nothing.html")
            + raw_request(f"/{tenant}/click/1?url=http://x.example")
            + raw_request(f"/{tenant}/emails", method="POST", body=b"no")
            + raw_request("/health", method="DELETE")
            + raw_request("/")
        )
        statuses = [line.answer(head_only=n == 2).status for n in range(8)]
    assert statuses == [200, 201, 200, 404, 302, 400, 405, 200]


def test_an_id_of_this_very_pipeline_counts(bell: Bell) -> None:
    """Its creation is answered after the commit; only then is the id issued."""
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/emails", method="POST", body=b"{}"))
        assert line.answer().json["email_id"] == 1
        line.send(raw_request(f"/{tenant}/pixel/1.gif"))
        line.answer()
    assert events(bell, tenant) == [(1, "open")]


def test_no_answer_is_lost_when_a_pipelining_client_reads_late(bell: Bell) -> None:
    """Small requests with large answers: what the kernel does not take has to wait its turn."""
    count = 400
    data = b"".join(
        raw_request("/metrics") * 3 + raw_request(f"/acme/click-url/1?url=https://example.com/{n}")
        for n in range(count)
    )
    got = []
    with Line(bell.port, receive_buffer=4096) as line:
        sender = threading.Thread(target=line.send, args=(data,), daemon=True)
        sender.start()
        time.sleep(0.7)  # by now the answers have filled what the kernel takes
        for _ in range(count):
            for _ in range(3):
                assert line.answer().headers["content-type"].startswith("text/plain")
            got.append(line.answer().json["original_url"])
        sender.join()
    assert got == [f"https://example.com/{n}" for n in range(count)]


@pytest.mark.parametrize("waits", [False, True])
def test_a_client_that_resets_amid_its_pipeline_does_no_harm(
    start_bell: Callable[..., Bell], waits: bool
) -> None:
    bell = start_bell()
    bell.create("acme")
    for _ in range(20):
        with Line(bell.port) as line:
            line.send(numbered("acme", 1) * 200)
            if waits:
                line.answer()
            line.reset()
    assert bell.process is not None
    assert bell.get("/health").status == 200
    assert bell.process.poll() is None


def test_half_closed_right_after_a_request(bell: Bell) -> None:
    for target in ("/acme/pixel/1.gif", "/health", "/", "/acme/dashboard"):
        with Line(bell.port) as line:
            line.send(raw_request(target))
            line.no_more()
            assert line.answer().status == 200
            assert line.closed


def test_half_closed_after_a_hundred_pipelined_requests(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    with Line(bell.port) as line:
        line.send(b"".join(numbered(tenant, n) for n in range(100)))
        line.no_more()
        got = [line.answer().headers["location"] for _ in range(100)]
        assert line.closed
    assert got == [f"https://example.com/{n}" for n in range(100)]
    assert len(events(bell, tenant)) == 100


def test_half_closed_after_creating_an_email(bell: Bell) -> None:
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/emails", method="POST", body=b"{}"))
        line.no_more()
        assert line.answer().json["email_id"] == 1


@pytest.mark.parametrize("part", [b"GET", b"GET / HT", b"GET / HTTP/1.1\r\nHost: bell\r\n", b""])
def test_half_closed_amid_a_request(bell: Bell, part: bytes) -> None:
    with Line(bell.port) as line:
        line.send(part)
        line.no_more()
        rest = line.rest()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400 ")


def test_a_request_split_at_every_byte(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    request = numbered(tenant, 7, "X-A: b", "Accept:")
    with Line(bell.port) as line:
        for at in range(1, len(request)):
            line.send(request[:at])
            time.sleep(0.0005)
            line.send(request[at:])
            answer = line.answer()
            assert (answer.status, answer.headers["location"]) == (302, "https://example.com/7")
    assert len(events(bell, tenant)) == len(request) - 1


def test_a_request_byte_by_byte(bell: Bell) -> None:
    tenant = fresh_tenant()
    body = '{"subject": "wörld"}'.encode()
    with Line(bell.port) as line:
        for byte in raw_request(f"/{tenant}/emails", method="POST", body=body):
            line.send(bytes([byte]))
        assert line.answer().status == 201
    assert bell.rows("SELECT subject FROM emails JOIN tenants USING (tenant) WHERE name=?", tenant)


# Bodies


def test_a_chunked_body_split_at_every_byte(bell: Bell) -> None:
    tenant = fresh_tenant()
    head = raw_request(f"/{tenant}/emails", CHUNKED, method="POST")
    request = head + b'5;a="b"\r\n{"sub\r\n00f\r\nject": "Hello"}\r\n0\r\nX-Trailer: x\r\n\r\n'
    with Line(bell.port) as line:
        for at in range(1, len(request)):
            line.send(request[:at])
            time.sleep(0.0005)
            line.send(request[at:])
            assert line.answer().json["email_id"] == at
    sql = "SELECT DISTINCT subject FROM emails JOIN tenants USING (tenant) WHERE name = ?"
    assert bell.rows(sql, tenant) == [("Hello",)]


def test_what_follows_a_chunked_body_is_answered_or_the_connection_says_close(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    with Line(bell.port) as line:
        chunked = raw_request(f"/{tenant}/emails", CHUNKED, method="POST") + b"2\r\n{}\r\n0\r\n\r\n"
        line.send(chunked + numbered(tenant, 1) + numbered(tenant, 2))
        answer = line.answer()
        assert answer.status == 201
        if answer.headers.get("connection") == "close":
            assert line.closed
            assert events(bell, tenant) == []
        else:
            assert [line.answer().status for _ in range(2)] == [302, 302]


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"2\n{}\n0\n\n",
        b"2\r\n{}0\r\n\r\n",
        b"1\r\n{}\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        b"2;\n\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_malformed_chunks(bell: Bell, body: bytes) -> None:
    before = dump(bell.database)
    with Line(bell.port) as line:
        line.send(raw_request("/stranger/emails", CHUNKED, method="POST") + body)
        assert line.answer().status in (400, 413)
        assert line.closed
    assert dump(bell.database) == before


def test_a_body_where_none_is_wanted_is_skipped(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(raw_request("/acme/pixel/1.gif", body=b"GET /x HTTP/1.1\r\n\r\n"))
        line.send(raw_request("/health", body=b"x" * 1000))
        assert [line.answer().status for _ in range(2)] == [200, 200]
        line.send(raw_request("/", body=b"x" * 60_000))
        assert line.answer().status == 200


def test_expect_100_continue(bell: Bell) -> None:
    tenant = fresh_tenant()
    head = (
        f"POST /{tenant}/emails HTTP/1.1\r\nHost: bell\r\nExpect: 100-continue\r\n"
        "Content-Length: 2\r\n\r\n"
    ).encode()
    with Line(bell.port) as line:
        for at in (1, len(head) - 1, len(head)):
            line.send(head[:at])
            time.sleep(0.002)
            line.send(head[at:])
            assert line.answer().status == 100
            line.send(b"{}")
            assert line.answer().status == 201
        line.send(head + b"{}")  # a client that does not wait
        answer = line.answer()
        if answer.status == 100:
            answer = line.answer()
        assert answer.json["email_id"] == 4


def test_expect_100_continue_of_a_body_in_chunks(bell: Bell) -> None:
    with Line(bell.port) as line:
        target = f"/{fresh_tenant()}/emails"
        line.send(raw_request(target, CHUNKED, "Expect: 100-Continue", method="POST"))
        assert line.answer().status == 100
        line.send(b"2\r\n{}\r\n0\r\n\r\n")
        assert line.answer().status == 201


def test_expect_100_continue_of_too_large_a_body(bell: Bell) -> None:
    with Line(bell.port) as line:
        head = "POST /acme/emails HTTP/1.1\r\nHost: bell\r\nExpect: 100-continue\r\n"
        line.send(f"{head}Content-Length: 34000000\r\n\r\n".encode())
        assert line.answer().status == 413
        assert line.closed


def test_expect_without_a_body_waits_for_none(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(raw_request("/health", "Expect: 100-continue"))
        assert line.answer().status in (100, 200)


def test_another_expectation(bell: Bell) -> None:
    answer = exchange(bell, raw_request("/x/emails", "Expect: x", method="POST", body=b"{}"))
    assert answer.status in (201, 417)  # RFC 9110 10.1.1: MAY


# HTTP/1.0


def test_http_1_0_closes(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(b"GET /acme/pixel/1.gif HTTP/1.0\r\n\r\n")
        answer = line.answer()
        assert answer.status == 200
        assert answer.headers.get("connection", "close") == "close"
        assert line.closed


def test_http_1_0_with_keep_alive(bell: Bell) -> None:
    with Line(bell.port) as line:
        for target in ("/acme/pixel/1.gif", "/health", "/nothing"):
            line.send(f"GET {target} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".encode())
            assert line.answer().headers["connection"].lower() == "keep-alive"


def test_http_1_0_with_a_body(bell: Bell) -> None:
    tenant = fresh_tenant()
    request = f"POST /{tenant}/emails HTTP/1.0\r\nContent-Length: 2\r\n\r\n{{}}"
    assert exchange(bell, request.encode()).json["email_id"] == 1


def test_http_1_0_knows_no_100_continue_and_no_chunks(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(b"POST /x/emails HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        time.sleep(0.05)
        line.send(b"{}")
        assert line.answer().status == 201  # RFC 9110 10.1.1
    before = dump(bell.database)
    with Line(bell.port) as line:
        line.send(b"POST /x/emails HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert line.answer().status == 400
        assert line.closed
    assert dump(bell.database) == before


def test_http_1_0_asks_for_a_page(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(b"GET /acme/dashboard HTTP/1.0\r\n\r\n")
        assert line.answer().status == 200
        assert line.closed


# Requests


@pytest.mark.parametrize("target", list(ROUTES))
def test_head_has_the_head_of_get(bell: Bell, target: str) -> None:
    if "GET" not in ROUTES[target]:
        return
    with Line(bell.port) as line:
        line.send(raw_request(target, "Connection: close"))
        got = line.answer()
    with Line(bell.port) as line:
        line.send(raw_request(target, "Connection: close", method="HEAD"))
        head = line.answer(head_only=True)
        assert line.closed, "a HEAD was answered with a body"
    assert head.status == got.status
    assert set(head.headers) == set(got.headers)
    if target != "/metrics":
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize(
    "form", ["http://bell{}", "HTTP://bell:3000{}", "https://other.example{}", "http://[::1]:80{}"]
)
def test_targets_in_absolute_form(bell: Bell, form: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    assert exchange(bell, raw_request(form.format(f"/{tenant}/pixel/1.gif?x"))).status == 200
    assert events(bell, tenant) == [(1, "open")]
    answer = exchange(bell, raw_request(form.format(f"/{tenant}/click/1?url=http://x.example/y")))
    assert answer.headers["location"] == "http://x.example/y"
    assert exchange(bell, raw_request(form.format("/health"))).json["status"] == "healthy"
    assert exchange(bell, raw_request(form.format(f"/{tenant}/dashboard"))).status == 200


def test_an_absolute_form_without_a_path_is_the_front(bell: Bell) -> None:
    answer = exchange(bell, raw_request("http://bell"))
    assert answer.status == 200
    assert b"Little Bell" in answer.body
    answer = exchange(bell, raw_request("http://bell?tenant=acme"))
    assert answer.headers["location"] == "/acme/dashboard"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("OPTIONS", "*"),
        ("CONNECT", "example.com:443"),
        ("GET", "*"),
        ("GET", "/%"),
        ("GET", "//"),
        ("GET", "/ÿþ"),
        ("GET", "/%00"),
        ("GET", "/" + "a/" * 4000),
        ("GET", "/?" + "&" * 9000),
        ("GET", "http://"),
        ("GET", "http:///"),
        ("GET", "ftp://x/health"),
        ("GET", "///health"),
    ],
)
def test_odd_targets_are_no_failure(bell: Bell, method: str, target: str) -> None:
    with Line(bell.port) as line:
        line.send(raw_request(target, method=method))
        assert line.answer().status < 500


@pytest.mark.parametrize("target", list(ROUTES))
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "TRACE"])
def test_405_says_what_is_allowed(bell: Bell, target: str, method: str) -> None:
    if method in ROUTES[target]:
        return
    before = dump(bell.database)
    answer = exchange(bell, raw_request(target, "X-Secret: 7", method=method, body=b"{}"))
    assert answer.status == 405
    allowed = {name.strip() for name in answer.headers["allow"].split(",")}
    assert ROUTES[target] <= allowed
    assert method not in allowed
    assert b"X-Secret" not in answer.body
    assert dump(bell.database) == before
    page = target in ("/", "/acme/dashboard", "/-/style.css") or "pixel" in target
    page = page or "/click/" in target
    kind = "text/html; charset=utf-8" if page else "application/problem+json"
    assert answer.headers["content-type"] == kind


@pytest.mark.parametrize("method", ["FOO", "get", "G", "GETT", "BREW"])
def test_unknown_methods(bell: Bell, method: str) -> None:
    before = dump(bell.database)
    assert exchange(bell, raw_request("/acme/pixel/1.gif", method=method)).status in (400, 405)
    assert dump(bell.database) == before


@pytest.mark.parametrize("target", list(ROUTES))
def test_options_says_what_is_allowed(bell: Bell, target: str) -> None:
    answer = exchange(bell, raw_request(target, method="OPTIONS"))
    assert answer.status in (200, 204)
    assert ROUTES[target] <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize(
    "path",
    ["/no.html", "/acme/", "/acme/emails/1/", "/acme/pixel", "/a/b/c/d/e", "/-/x", "/~"],
)
def test_404_is_a_page_for_people_and_a_problem_for_programs(bell: Bell, path: str) -> None:
    page = bell.get(path, Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert page.status == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "content-security-policy" in page.headers
    if path == "/-/x":
        return  # pages and their parts speak to people
    for accept in ("application/json", "*/*"):
        answer = bell.get(path, Accept=accept)
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == 404
        assert path.encode() not in answer.body


def test_every_answer_has_a_date_and_none_names_the_server(bell: Bell) -> None:
    requests = [raw_request(target) for target in (*ROUTES, "/nothing")]
    requests += [b"garbage\r\n\r\n", raw_request("/acme/emails", method="POST", body=b"x")]
    requests += [raw_request("/health", "X: " + "x" * 20_000)]
    for request in requests:
        answer = exchange(bell, request)
        sent = parsedate_to_datetime(answer.headers["date"])
        assert abs((datetime.now(UTC) - sent).total_seconds()) < 30
        assert answer.headers["date"].endswith(" GMT")
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("lines", [["Upgrade: websocket"], ["Upgrade: h2c", "HTTP2-Settings: x"]])
def test_upgrades_are_not_taken(bell: Bell, lines: list[str]) -> None:
    for target in ("/acme/pixel/1.gif", "/health", "/"):
        answer = exchange(bell, raw_request(target, "Connection: Upgrade", *lines))
        assert answer.status == 200


def test_an_upgrade_with_a_body(bell: Bell) -> None:
    lines = ["Connection: Upgrade", "Upgrade: x"]
    target = f"/{fresh_tenant()}/emails"
    answer = exchange(bell, raw_request(target, *lines, method="POST", body=b"{}"))
    assert answer.json["email_id"] == 1


# What is no request: 400 and close, and nothing of it or behind it is done


def is_refused(bell: Bell, data: bytes, *statuses: int) -> None:
    """The bytes, followed by a click, are refused, the connection closes, no click is counted."""
    tenant = fresh_tenant()
    bell.create(tenant)
    before = dump(bell.database)
    with Line(bell.port) as line:
        line.send(data + numbered(tenant, 1))
        answer = line.answer()
        assert answer.status in (statuses or (400,)), answer
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/problem+json"
        assert line.closed
    assert dump(bell.database) == before
    assert bell.get("/health").status == 200


def post(*lines: str, body: str = "{}") -> bytes:
    head = ["POST /stranger/emails HTTP/1.1", "Host: bell", *lines, "", body]
    return "\r\n".join(head).encode("latin-1")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 2", "Content-Length: 3"],
        ["Content-Length: 3", "Content-Length: 2"],
        ["Content-Length: 2", "Content-Length: 2"],
        ["Content-Length: 2, 3"],
        ["Content-Length: 2, 2"],
        ["Content-Length: -2"],
        ["Content-Length: +2"],
        ["Content-Length: 2_0"],
        ["Content-Length: 0x2"],
        ["Content-Length: 2.0"],
        ["Content-Length: 2 2"],
        ["Content-Length: two"],
        ["Content-Length:"],
        ["Content-Length : 2"],
        ["Content-Length: \xb2"],
    ],
)
def test_conflicting_and_malformed_lengths(bell: Bell, lines: list[str]) -> None:
    is_refused(bell, post(*lines))


def test_a_length_beyond_all_bounds(bell: Bell) -> None:
    is_refused(bell, post("Content-Length: 99999999999999999999999999"), 400, 413)


@pytest.mark.parametrize(
    "lines",
    [
        [CHUNKED, "Content-Length: 2"],
        ["Content-Length: 2", CHUNKED],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked;x"],
        ["Transfer-Encoding: "],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: \x0bchunked"],
        ["Transfer-Encoding\x00: chunked"],
        [" Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        [CHUNKED, CHUNKED],
        [CHUNKED, "Transfer-Encoding: identity"],
        ["Transfer-Encoding: identity", CHUNKED],
        ['Transfer-Encoding: "chunked"'],
        ["Transfer-Encoding:\r\n chunked"],
    ],
)
def test_tricks_with_transfer_encoding(bell: Bell, lines: list[str]) -> None:
    is_refused(bell, post(*lines, body="2\r\n{}\r\n0\r\n\r\n"), 400, 501)


def test_another_transfer_coding_is_not_read_as_if_it_were_none(bell: Bell) -> None:
    before = dump(bell.database)
    request = post("Transfer-Encoding: gzip, chunked", body="2\r\n{}\r\n0\r\n\r\n")
    assert exchange(bell, request).status in (400, 501)  # RFC 9112 6.1
    assert dump(bell.database) == before


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\nHost: bell\n\n",
        b"GET /health HTTP/1.1\r\nHost: bell\nX: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\n\n",
        b"GET /health HTTP/1.1\rHost: bell\r\r",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX: a\rb\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX: a\r\n b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX: a\r\n\tb\r\n\r\n",
        b"GET /health HTTP/1.1\r\n X: a\r\nHost: bell\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX: a\x00b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX\x00: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX y: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX : b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\nX\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\n: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: bell\r\n\xff: x\r\n\r\n",
        b"GET /hea lth HTTP/1.1\r\nHost: bell\r\n\r\n",
        b"GET\t/health\tHTTP/1.1\r\nHost: bell\r\n\r\n",
        b"GET /hea\x00lth HTTP/1.1\r\nHost: bell\r\n\r\n",
        b" GET /health HTTP/1.1\r\nHost: bell\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1 \r\nHost: bell\r\n\r\n",
        b"GET /health HTTP/1,1\r\nHost: bell\r\n\r\n",
        b"GET /health http/1.1\r\nHost: bell\r\n\r\n",
        b"GET /health HTTP/11\r\nHost: bell\r\n\r\n",
        b"GET /health ICY/1.1\r\nHost: bell\r\n\r\n",
        b"GET /health HTTP/ 1.1\r\nHost: bell\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"EHLO example.com\r\n",
        b"{}\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
        b"\x0d\x00\x0a",
    ],
)
def test_malformed_requests(bell: Bell, head: bytes) -> None:
    is_refused(bell, head)


@pytest.mark.parametrize("version", ["2.0", "0.9", "1.2", "3.0", "9.9"])
def test_other_versions(bell: Bell, version: str) -> None:
    request = f"GET /health HTTP/{version}\r\nHost: bell\r\n\r\n".encode()
    with Line(bell.port) as line:
        line.send(request)
        # 1.2 may be served as 1.1 (RFC 9110 2.5); others are refused.
        assert line.answer().status in ((200, 400, 505) if version == "1.2" else (400, 505))


def test_the_preface_of_http_2(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + b"\x00" * 5)
        assert line.answer().status in (400, 505)
        assert line.closed


def test_garbage_of_any_length(bell: Bell) -> None:
    noise = bytes(n * 197 % 256 for n in range(5000))
    for size in (1, 2, 3, 10, 100, 1000, 5000):
        with Line(bell.port) as line:
            line.send(noise[7 : 7 + size])
            line.no_more()
            rest = line.rest()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 400 ")
    assert bell.get("/health").status == 200


def test_a_missing_host(bell: Bell) -> None:
    is_refused(bell, b"GET /health HTTP/1.1\r\n\r\n")
    is_refused(bell, b"GET http://bell/health HTTP/1.1\r\n\r\n")


def test_more_than_one_host(bell: Bell) -> None:
    is_refused(bell, b"GET /health HTTP/1.1\r\nHost: bell\r\nHost: bell\r\n\r\n")
    is_refused(bell, b"GET /health HTTP/1.1\r\nHost: bell\r\nX: y\r\nhost: other\r\n\r\n")


@pytest.mark.parametrize(
    "host", ["a b", "a/b", "a@b", "a, b", "a?b", "bell:x", "http://bell", "<x>"]
)
def test_a_host_that_is_none(bell: Bell, host: str) -> None:
    is_refused(bell, f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())  # RFC 9112 3.2


@pytest.mark.parametrize(
    "host", ["bell", "bell:3000", "[::1]:3000", "127.0.0.1", "", "a_b.example"]
)
def test_hosts_of_every_form(bell: Bell, host: str) -> None:
    assert exchange(bell, f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).status == 200


# Bounds


def test_too_large_a_head(bell: Bell) -> None:
    is_refused(bell, raw_request("/health", "X: " + "x" * 17_000), 431)
    is_refused(bell, raw_request("/health?" + "x" * 17_000), 431, 414)
    is_refused(bell, raw_request("/health", *(f"X: {'x' * 100}" for _ in range(200))), 431)


def test_a_head_without_an_end(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(b"GET /health HTTP/1.1\r\nHost: bell\r\n" + b"X: y\r\n" * 5000)
        assert line.answer().status == 431
        assert line.closed


def test_too_many_headers(bell: Bell) -> None:
    is_refused(bell, raw_request("/health", *(f"X-{n}: y" for n in range(1000))), 431)


@pytest.mark.parametrize("target", ["/health", "/", "/acme/dashboard"])
def test_as_many_headers_as_are_taken_are_taken_by_both_lanes(bell: Bell, target: str) -> None:
    for count in range(90, 103):
        answer = exchange(bell, raw_request(target, *(f"X-{n}: y" for n in range(count))))
        assert answer.status in (200, 431), f"{count} headers"


@pytest.mark.parametrize("target", ["/health", "/", "/acme/dashboard"])
def test_as_large_a_head_as_is_taken_is_taken_by_both_lanes(bell: Bell, target: str) -> None:
    empty = len(raw_request(target, "X: "))
    for size in (16_000, 16_300, 16_320, 16_340, 16_360, 16_380, 16_384, 16_385):
        answer = exchange(bell, raw_request(target, "X: " + "x" * (size - empty)))
        assert answer.status in (200, 431), f"{size} bytes"


def test_too_large_a_body_is_refused_before_it_comes(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(post("Content-Length: 34000000", body=""))
        answer = line.answer()
        assert answer.status == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert line.closed


def test_a_refused_client_that_goes_on_sending_gets_its_answer(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(post("Content-Length: 5000000", body="x" * 500_000))
        time.sleep(0.05)
        try:
            line.send(b"x" * 500_000)
        except ConnectionError:
            pytest.fail("it was cut off before it could read the answer")
        assert line.answer().status == 413


def test_a_head_that_comes_slowly(hasty: Bell) -> None:
    begun = time.monotonic()
    with Line(hasty.port) as line:
        line.send(b"GET /health HTTP/1.1\r\nHost: bell\r\n")
        for _ in range(3):  # a byte now and then buys no time
            time.sleep(0.15)
            line.send(b"X: y\r\n")
        answer = line.answer()
        assert answer.status == 408
        assert answer.headers["connection"] == "close"
        assert line.closed
    assert time.monotonic() - begun < 10


def test_a_body_that_comes_slowly(hasty: Bell) -> None:
    with Line(hasty.port) as line:
        line.send(post("Content-Length: 20", body="{"))
        assert line.answer().status == 408
        assert line.closed
    assert hasty.rows("SELECT count(*) FROM tenants WHERE name = 'stranger'") == [(0,)]


def test_an_idle_connection_is_closed(hasty: Bell) -> None:
    with Line(hasty.port) as fresh, Line(hasty.port) as used:
        used.send(raw_request("/acme/pixel/1.gif"))
        assert used.answer().status == 200
        assert used.closed
        assert fresh.closed


def test_an_active_connection_stays_open(hasty: Bell) -> None:
    with Line(hasty.port) as line:
        for _ in range(9):
            line.send(raw_request("/acme/pixel/1.gif"))
            assert line.answer().status == 200
            time.sleep(0.3)


def test_new_clients_are_served_when_connections_run_out(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_CONNECTIONS="16")
    bell.create("acme")
    with ExitStack() as clients:
        for _ in range(40):
            clients.enter_context(Line(bell.port))
        wait_until(lambda: bell.metrics()["connections_total"] >= 40)
        for _ in range(5):
            assert bell.get("/acme/pixel/1.gif").status == 200
        assert bell.metrics()["connections_open"] <= 17


def test_new_clients_are_served_beside_many_unfinished_requests(
    start_bell: Callable[..., Bell],
) -> None:
    bell = start_bell(MAX_CONNECTIONS="16")
    bell.create("acme")
    with ExitStack() as clients:
        for _ in range(40):
            try:
                clients.enter_context(Line(bell.port)).send(b"GET /health HT")
            except ConnectionError:
                pass  # closed to make room
        for _ in range(5):
            assert bell.get("/acme/pixel/1.gif").status == 200
        assert bell.metrics()["connections_open"] <= 24, "MAX_CONNECTIONS bounds nothing"


# Addresses


def test_ipv6_and_ipv4_on_one_port(start_bell: Callable[..., Bell]) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this system has no IPv6")
    bell = start_bell(HOST="::")
    bell.create("acme")
    for host in ("127.0.0.1", "::1"):
        with Line(bell.port, host) as line:
            line.send(raw_request("/acme/pixel/1.gif"))
            assert line.answer().status == 200
    addresses = [bytes(address) for (address,) in bell.rows("SELECT address FROM events")]
    assert addresses == [b"\x7f\x00\x00", b"\x00" * 6]


def test_no_body_of_one_request_is_another_request(bell: Bell) -> None:
    """What a smuggler tries: the second request stands in the first one's body."""
    tenant = fresh_tenant()
    bell.create(tenant)
    hidden = numbered(tenant, 1)
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/emails", method="POST", body=hidden))
        line.send(raw_request("/health", body=hidden))
        first, second = line.answer(), line.answer()
        assert (first.status, json.loads(second.body)["status"]) == (400, "healthy")
    assert events(bell, tenant) == []


# A few that take all they can get


def test_a_few_floods_do_not_starve_the_others(bell: Bell) -> None:
    """As many as fill a whole tick go on sending; others, old and new, are answered."""
    tenant = fresh_tenant()
    bell.create(tenant)
    enough = threading.Event()
    flood = raw_request(f"/{tenant}/pixel/1.gif") * 200

    def send(line: Line) -> None:
        while not enough.is_set():
            try:
                line.socket.sendall(flood)
            except OSError:
                return

    def receive(line: Line) -> None:
        while not enough.is_set():
            try:
                if not line.socket.recv(65_536):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    with ExitStack() as clients:
        old = clients.enter_context(Line(bell.port))
        floods = [clients.enter_context(Line(bell.port)) for _ in range(6)]
        threads = [
            threading.Thread(target=work, args=(line,))
            for line in floods
            for work in (send, receive)
        ]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.3)
            for line in (old, clients.enter_context(Line(bell.port))):
                line.socket.settimeout(10)
                line.send(raw_request("/health"))
                assert line.answer().status == 200
        finally:
            enough.set()
            for line in floods:
                line.reset()
            for thread in threads:
                thread.join(10)


@pytest.mark.parametrize("endless", [b"X: " + b"a" * 60_000, b"1;" + b"e" * 60_000])
def test_trailers_and_chunk_extensions_have_an_end(bell: Bell, endless: bytes) -> None:
    begin = b"0\r\n" if endless.startswith(b"X") else b""
    head = b"POST /acme/emails HTTP/1.1\r\nHost: bell\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Line(bell.port) as line:
        line.send(head + begin + endless)
        for _ in range(40):
            try:
                line.send(b"a" * 60_000)
            except OSError:
                return  # refused, and closed
        assert line.answer().status == 413
