"""The Python library with servers that stall, cut, lie, and lead elsewhere"""

import json
import logging
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bell import Bell
from little_bell import BellError, Client, Unreachable
from little_bell.client.transport import Transport
from scripted import Act, Scripted, answer, cut, drip, header_of, raw, scripted

KEY = "lb_0123456789_a_key_that_nobody_may_see"
CREATED = json.dumps({"email_id": 7, "tracking_pixel_url": "http://x/acme/pixel/7.gif"}).encode()
GOOD = answer(201, CREATED)
BUSY = answer(503, b'{"detail": "the disk is full"}', "application/problem+json")
HOLD = threading.Event()  # never set


def stall(*_given: object) -> None:
    HOLD.wait(20)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries are short."""
    monkeypatch.setattr("little_bell.client.transport.FIRST_WAIT", 0.02)


@pytest.fixture
def server() -> Iterator[Callable[..., Scripted]]:
    """A function that starts servers, which end with the test."""
    started: list[Scripted] = []

    def start(*script: Act) -> Scripted:
        started.append(Scripted(list(script)))
        return started[-1]

    yield start
    HOLD.set()
    for one in started:
        one.close()
    HOLD.clear()


# What is tried again


@pytest.mark.parametrize(
    "script",
    [
        (BUSY, GOOD),
        (cut, GOOD),
        (cut, BUSY, GOOD),
        (answer(429, b"", "text/plain", "Retry-After: 0"), GOOD),
        (answer(409, b"{}", "application/problem+json", "Retry-After: 0"), GOOD),
        (answer(502, b"<h1>no</h1>", "text/html"), GOOD),
        (raw(b"HTTP/1.1 201 Created\r\nContent-Ty"), GOOD),
        (raw(b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n\r\n" + CREATED), GOOD),
        (raw(b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"), GOOD),
        (raw(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"), GOOD),
    ],
)
def test_what_may_pass_is_tried_again(
    server: Callable[..., Scripted], script: tuple[Act, ...]
) -> None:
    bell = server(*script)
    with Client(bell.url, "acme") as client:
        assert client.create(subject="a").email_id == 7
    assert len(bell.requests) == len(script)
    assert len({header_of(one, "Idempotency-Key") for one in bell.requests}) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 501])
def test_what_does_not_pass_is_not(server: Callable[..., Scripted], status: int) -> None:
    bell = server(answer(status, b"{}"), GOOD)
    with Client(bell.url, "acme") as client, pytest.raises(BellError) as caught:
        client.create()
    assert (caught.value.status, len(bell.requests)) == (status, 1)


def test_each_call_has_a_key_of_its_own(server: Callable[..., Scripted]) -> None:
    bell = server(GOOD)
    with Client(bell.url, "acme") as client:
        client.create()
        client.create()
        client.create(idempotency_key="mine")
    keys = [header_of(one, "Idempotency-Key") for one in bell.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_it_gives_up(server: Callable[..., Scripted]) -> None:
    bell = server(BUSY)
    with Client(bell.url, "acme", retries=3) as client, pytest.raises(BellError) as caught:
        client.stats()
    assert (caught.value.status, str(caught.value)) == (503, "the disk is full (503)")
    assert len(bell.requests) == 4


def test_a_wait_that_is_too_long_is_not_waited(server: Callable[..., Scripted]) -> None:
    bell = server(answer(503, b"{}", "application/json", "Retry-After: 3600"), GOOD)
    began = time.monotonic()
    with Client(bell.url, "acme", timeout=5) as client, pytest.raises(BellError) as caught:
        client.create()
    assert caught.value.retry_after == 3600
    assert len(bell.requests) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("after", ["soon", "-1", "1e9999", "٣", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_wait_that_nobody_understands_is_none(
    server: Callable[..., Scripted], after: str
) -> None:
    lines = f"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: {after}\r\n\r\n".encode()
    bell = server(raw(lines), GOOD)
    with Client(bell.url, "acme") as client:
        assert client.create().email_id == 7


@pytest.mark.parametrize("call", ["change", "delete"])
def test_changes_are_sent_once(server: Callable[..., Scripted], call: str) -> None:
    bell = server(BUSY, answer(200, b"{}"))
    with Client(bell.url, "acme") as client, pytest.raises(BellError):
        client.change(1, subject="a") if call == "change" else client.delete(1)
    assert len(bell.requests) == 1


# Time


def total(call: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(Unreachable):
        call()
    return time.monotonic() - began


@pytest.mark.parametrize(
    "act",
    [
        stall,
        drip(b"HTTP/1.1 201 Created\r\nX: " + b"x" * 200, 0.05),
        drip(b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n" + b" " * 900, 0.05),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 40, 0.01),
    ],
)
def test_slow_answers_end_in_time(server: Callable[..., Scripted], act: Act) -> None:
    bell = server(act)
    with Client(bell.url, "acme", timeout=0.6) as client:
        # Not a measurement: without a bound for the whole it would take 10 seconds and more.
        assert total(client.stats) < 5
        assert total(lambda: client.create(subject="a")) < 5


def test_a_body_that_nobody_takes_ends_in_time(server: Callable[..., Scripted]) -> None:
    bell = server(GOOD)
    bell.listener.listen(0)
    with Client(bell.url, "acme", timeout=0.6) as client:
        bell._read = stall  # type: ignore[assignment]
        assert total(lambda: client.create(subject="x" * 30_000_000)) < 5


def test_nobody_there() -> None:
    with scripted(GOOD) as bell:
        url = bell.url
    with Client(url, "acme") as client, pytest.raises(Unreachable) as caught:
        client.delete(7)
    assert not caught.value.sent
    assert url in str(caught.value)
    with (
        Client("http://nowhere.invalid", "acme", timeout=5) as client,
        pytest.raises(Unreachable),
    ):
        client.stats()
    with (
        Client(f"http://{'a' * 70}.invalid", "acme", timeout=5) as client,
        pytest.raises(Unreachable),
    ):
        client.stats()


# Answers that are none


@pytest.mark.parametrize(
    "act",
    [
        answer(201, b""),
        answer(201, b"{"),
        answer(201, b"[]"),
        answer(201, b"null"),
        answer(201, b"[" * 100_000),
        answer(201, b'{"email_id": ' + b"9" * 5_000 + b"}"),
        answer(201, b"\xff\xfe{}"),
        answer(201, b"{}"),
        answer(201, b'{"email_id": "7", "tracking_pixel_url": "x"}'),
        answer(201, b'{"email_id": true, "tracking_pixel_url": "x"}'),
        answer(201, b'{"email_id": -1, "tracking_pixel_url": "x"}'),
        answer(201, b'{"email_id": 1, "tracking_pixel_url": 2}'),
        answer(201, b"<html>Please log in</html>", "text/html"),
        answer(204),
        raw(b"hello\r\n\r\n"),
        raw(b"HTTP/1.1 999999 Yes\r\n\r\n"),
        raw(b"HTTP/1.1 201 Created\r\n" + b"X: y\r\n" * 1_000 + b"\r\n"),
        raw(b"HTTP/1.1 201 Created\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"),
        raw(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        answer(302, b"", "text/html", "Location: http://127.0.0.1:1/"),
        answer(400, b"[" * 100_000, "application/problem+json"),
        answer(400, b'{"detail": 3, "line": "x", "status": []}', "application/problem+json"),
    ],
)
def test_garbage_is_an_error_of_ours(server: Callable[..., Scripted], act: Act) -> None:
    bell = server(act)
    with Client(bell.url, "acme") as client:
        with pytest.raises(BellError):
            client.create()
        with pytest.raises(BellError):
            client.rewrite(html="<p>")
        with pytest.raises(BellError):
            list(client.create_many([{}]))
        with pytest.raises(BellError):
            list(client.emails())


def test_an_endless_answer_ends(
    server: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    bell = server(answer(200, b" " * 3_000_000), answer(200, b"{}", length=10**15))
    monkeypatch.setattr(Transport.send, "__defaults__", (None, None, False, 1 << 20))
    with Client(bell.url, "acme", timeout=1) as client:
        with pytest.raises(BellError, match="more than 1048576 bytes"):
            client.stats()
        with pytest.raises(BellError):
            client.stats()


@pytest.mark.parametrize("following", ["/acme/emails?limit=200", "//[", "x", 7])
def test_pages_that_lead_nowhere(server: Callable[..., Scripted], following: object) -> None:
    page = answer(200, json.dumps({"emails": [{}], "next": following}).encode())
    bell = server(page, page, page, answer(500))
    with Client(bell.url, "acme") as client, pytest.raises(BellError):
        list(client.emails())


def test_the_next_page_is_of_the_same_host(server: Callable[..., Scripted]) -> None:
    other = server(answer(200, b'{"emails": [], "next": null}'))
    following = f"{other.url}/other/emails?cursor=abc"
    bell = server(
        answer(200, json.dumps({"emails": [], "next": following}).encode()),
        answer(200, b'{"emails": [], "next": null}'),
    )
    with Client(bell.url, "acme", KEY) as client:
        assert list(client.emails()) == []
    assert bell.requests[1].startswith(b"GET /acme/emails?cursor=abc HTTP/1.1\r\n")
    assert other.requests == []


def test_a_batch_of_too_few(server: Callable[..., Scripted]) -> None:
    bell = server(answer(201, CREATED + b"\n", "application/x-ndjson"))
    with Client(bell.url, "acme") as client, pytest.raises(BellError, match="as many"):
        list(client.create_many([{}, {}]))


def test_a_refusal_before_all_of_the_body_was_taken(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_BULK_BYTES="65536")
    with Client(f"http://127.0.0.1:{bell.port}", "acme") as client:
        with pytest.raises(BellError) as caught:
            list(client.create_many({"subject": "x" * 900} for _ in range(1_000)))
        assert caught.value.status == 413
        assert client.create().email_id == 1


# Keys


def test_no_redirect_is_followed(server: Callable[..., Scripted]) -> None:
    other = server(GOOD)
    for status in (301, 302, 303, 307, 308):
        bell = server(answer(status, b"", "text/html", f"Location: {other.url}/acme/emails"))
        with Client(bell.url, "acme", KEY) as client, pytest.raises(BellError) as caught:
            client.create()
        assert "leads elsewhere" in str(caught.value)
        assert caught.value.status == status
        assert header_of(bell.requests[0], "Authorization") == f"Bearer {KEY}"
    assert other.requests == []


def test_the_key_is_in_no_message(
    server: Callable[..., Scripted], caplog: pytest.LogCaptureFixture
) -> None:
    def echo(connection: object, request: bytes) -> None:
        """A server that tells all it was told."""
        body = json.dumps({"detail": request.decode("latin-1"), "title": KEY, "field": KEY})
        answer(400, body.encode(), "application/problem+json")(connection, request)  # type: ignore[arg-type]

    bell = server(echo)
    with caplog.at_level(logging.DEBUG), Client(bell.url, "acme", f" {KEY}\n") as client:
        said = [repr(client), str(client)]
        with pytest.raises(BellError) as caught:
            client.create()
        said += [str(caught.value), repr(caught.value), str(vars(caught.value))]
        client.track_bytes(b"Subject: a\n\nb\n")
    assert KEY in str(bell.requests)
    assert caplog.records
    for text in (*said, caplog.text):
        assert KEY not in text


@pytest.mark.parametrize("key", ["", " ", "a b", "a\r\nX: y", "clé", "\0"])
def test_wrong_keys(key: str) -> None:
    with pytest.raises(ValueError, match="key is empty") as caught:
        Client("http://localhost", "acme", key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:3000",
        "ftp://bell.example",
        "http://",
        "http://bell.example:port",
        "http://user:word@bell.example",
        "http://bell.example/?a=b",
        "http://bell.example/#a",
        "http://bell.exa\nmple",
        "http://bell.example/ x",
        "http://béll.example",
    ],
)
def test_wrong_urls(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Client(url, "acme")
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("tenant", ["", "-a", "a/b", "a" * 65, "é"])
def test_wrong_tenants(tenant: str) -> None:
    with pytest.raises(ValueError, match="tenant"):
        Client("http://localhost", tenant)


# TLS


def test_tls(tmp_path: Path, start_bell: Callable[..., Bell]) -> None:
    """Behind a proxy that speaks TLS: a certificate that nobody vouches for gets no key."""
    certificate, secret = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", secret, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inner.load_cert_chain(certificate, secret)
    with scripted(GOOD) as server:
        serve = server._serve

        def secure(connection: object) -> None:
            try:
                wrapped = inner.wrap_socket(connection, server_side=True)  # type: ignore[arg-type]
            except OSError:
                return
            server.open.append(wrapped)
            serve(wrapped)

        server._serve = secure  # type: ignore[method-assign]
        url = f"https://localhost:{server.port}"
        with Client(url, "acme", KEY, retries=0) as client, pytest.raises(Unreachable) as caught:
            client.create()
        assert "certificate" in str(caught.value)
        assert not caught.value.sent
        assert server.requests == []
        trusted = ssl.create_default_context(cafile=str(certificate))
        with Client(url, "acme", KEY, context=trusted) as client:
            assert client.create().email_id == 7
            assert client.create().email_id == 7
        assert len(server.open) == 3  # the one refused, and one as such and by TLS
