"""Floods: much at once, and nobody who reads. Others have their turn, and memory is bounded."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import quote

import pytest

from bell import Bell, Line, events, fresh_tenant, raw_request, wait_until
from hostile import (
    EMAIL,
    METRICS,
    MIB,
    PATIENCE,
    PER_CLIENT,
    PIXEL,
    SLACK,
    Holdings,
    Shy,
    others,
)


def test_huge_heads_that_trickle(start_bell: Callable[..., Bell]) -> None:
    """Each holds what a head may have at most, and all that others wait for is their turn."""
    count = 200
    bell = start_bell()
    before = Holdings(bell)
    with ExitStack() as clients, others(bell) as visitors:
        lines = [clients.enter_context(Line(bell.port)) for _ in range(count)]
        for line in lines:
            line.send(b"GET /health HTTP/1.1\r\nHost: bell\r\n")
        for n in range(34):  # 17,000 bytes
            for line in lines:
                line.send(b"X-%d: %s\r\n" % (n, b"y" * 491))
            visitors.open()
        assert [line.answer().status for line in lines] == [431] * count
        assert all(line.closed for line in lines)
    # The bytes as they came, and the values parsed of them.
    before.nothing_is_left(count * (2 * 16_384 + PER_CLIENT) + SLACK)


def test_unfinished_bodies_of_all_connections_have_a_bound(start_bell: Callable[..., Bell]) -> None:
    """29 MiB come and 16 are kept; small requests are still served."""
    bell = start_bell()
    before = Holdings(bell)
    head = raw_request("/acme/emails", "Content-Length: 65536", method="POST")
    with ExitStack() as clients, others(bell) as visitors:
        lines = [clients.enter_context(Line(bell.port)) for _ in range(500)]
        for n, line in enumerate(lines):
            try:
                line.send(head + b" " * 61_440)
            except ConnectionError:
                pass  # refused
            if n % 50 == 0:
                visitors.open()
        visitors.open()
    # A bytearray that grows by parts is up to an eighth larger than what it holds.
    before.nothing_is_left(16 * MIB * 9 // 8 + 500 * PER_CLIENT + SLACK)


def test_what_was_unfinished_is_forgotten_with_its_client(bell: Bell) -> None:
    """More than is kept at once comes and goes; no later request is refused for it."""
    head = raw_request("/acme/emails", "Content-Length: 65536", method="POST")
    for n in range(6):
        lines = [Line(bell.port) for _ in range(60)]
        for line in lines:
            line.send(head + b" " * 61_440)
        wait_until(lambda: settled(bell))
        for line in lines:
            line.reset() if n % 2 else line.socket.close()
    with Line(bell.port) as line:
        line.send(EMAIL[:-5])
        wait_until(lambda: settled(bell))
        line.send(EMAIL[-5:])
        assert line.answer().status == 201


def settled(bell: Bell) -> bool:
    """Whether the loop has nothing to do but to answer this."""
    begun = bell.metrics()["tick_seconds"]["count"]
    time.sleep(0.2)
    ticks: int = bell.metrics()["tick_seconds"]["count"] - begun
    return ticks <= 5


@pytest.fixture
def full(start_bell: Callable[..., Bell]) -> Iterator[Bell]:
    """A server that holds all but 8 KiB of the unfinished requests that it holds at most."""
    bell = start_bell()
    bell.create("acme")
    body = raw_request("/acme/emails", "Content-Length: 65536", method="POST") + b" " * 61_440
    size = 16 * MIB - 8192
    with ExitStack() as clients:
        for at in range(0, size, len(body)):
            clients.enter_context(Line(bell.port)).send(body[: size - at])
        wait_until(lambda: settled(bell))
        yield bell


def test_nothing_is_done_behind_a_refusal_amid_a_pipeline(full: Bell) -> None:
    """It brings more than may be unfinished: each open that counts has its answer."""
    count = 16_384 // len(PIXEL)
    with Line(full.port) as line:
        line.send(PIXEL * count)
        answered = line.rest().count(b"HTTP/1.1 200 OK")
        wait_until(lambda: settled(full))
    assert 0 < answered < count, "it was not refused"
    assert len(events(full, "acme")) == answered


def test_who_finishes_a_request_is_not_refused_for_one_that_does_not(full: Bell) -> None:
    with Line(full.port) as line, Line(full.port) as greedy:
        line.send(EMAIL[:-5])
        wait_until(lambda: settled(full))
        greedy.send(
            raw_request("/acme/emails", "Content-Length: 65536", method="POST") + b" " * 9000
        )
        assert greedy.answer().status == 503
        line.send(EMAIL[-5:])
        assert line.answer().status == 201
        line.send(PIXEL)
        assert line.answer().status == 200


def flood(shy: list[Shy], request: bytes) -> None:
    """Send a request without end from all, until no kernel takes any more for a while."""
    data = request * (65_536 // len(request))
    left = dict.fromkeys(shy, data)
    quiet = 0
    deadline = time.monotonic() + PATIENCE
    while quiet < 5:
        assert time.monotonic() < deadline, "the server goes on reading"
        quiet += 1
        for client, rest in left.items():
            taken = client.push(rest)
            left[client] = rest[taken:] or data
            if taken:
                quiet = 0
        time.sleep(0.05)


@pytest.mark.parametrize("request_", [PIXEL, METRICS], ids=["pixels", "figures"])
def test_floods_of_clients_that_never_read(
    start_bell: Callable[..., Bell], request_: bytes
) -> None:
    """Answers that nobody takes are bounded: the server reads no more from such a client."""
    count = 400
    bell = start_bell()
    bell.create("acme")
    before = Holdings(bell)
    with ExitStack() as clients, others(bell) as visitors:
        shy = [Shy(bell.port) for _ in range(count)]
        for client in shy:
            clients.enter_context(client)
        flood(shy, request_)
        wait_until(lambda: settled(bell))
        for _ in range(5):
            visitors.open()
        for client in shy:
            client.reset()
    # What came and is not decided yet, 16 KiB each at most; and answers, 16 MiB of all together.
    before.nothing_is_left(count * (16_384 + PER_CLIENT) + 16 * MIB + SLACK)


def requests_for(bell: Bell, line: Line, route: str) -> int:
    """How many requests for a route were answered, asked on this connection."""
    line.send(raw_request("/metrics", "Accept: application/json"))
    samples = line.answer().json["requests_total"]
    return sum(int(sample["value"]) for sample in samples if sample["route"] == route)


def test_floods_of_costly_requests_do_not_starve_the_others(
    start_bell: Callable[..., Bell],
) -> None:
    """Who comes amid them has its turn before they are through, on an old connection and a new."""
    floods, each = 40, 400
    bell = start_bell()
    bell.create("acme")
    with ExitStack() as clients, others(bell) as visitors:
        visitors.open()
        done = requests_for(bell, visitors.old, "metrics") + floods * each
        for line in [clients.enter_context(Line(bell.port)) for _ in range(floods)]:
            line.send(METRICS * each)
        time.sleep(0.1)  # by now all of them have more than a turn takes
        visitors.open()
        assert requests_for(bell, visitors.old, "metrics") < done - floods * each / 2


def test_slow_readers_of_pages_do_not_keep_the_pages_from_others(
    start_bell: Callable[..., Bell],
) -> None:
    """Large pages: half a MiB of links that need escapes."""
    bell = start_bell()
    tenant = fresh_tenant()
    bell.create(tenant)
    link = quote("https://example.com/?".ljust(2000, "&"), safe="")
    with Line(bell.port) as line:
        for _ in range(50):
            line.send(raw_request(f"/{tenant}/click/1?url={link}"))
            assert line.answer().status == 302
    before = Holdings(bell)
    with ExitStack() as clients:
        readers = [clients.enter_context(Shy(bell.port)) for _ in range(16)]
        for reader in readers:
            reader.send(raw_request(f"/{tenant}/dashboard"))
            assert reader.socket.recv(1) == b"H"  # the page is made and begins to come
        for target in ("/", f"/{tenant}/dashboard", "/-/style.css"):
            with Line(bell.port) as line:
                line.socket.settimeout(PATIENCE)
                line.send(raw_request(target))
                assert line.answer().status == 200
    before.nothing_is_left(SLACK)
