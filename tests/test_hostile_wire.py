"""Attacks on the wire: slow, idle, many, gone. Others are answered and counted meanwhile, memory is
bounded, and nothing is left afterwards."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from bell import Bell, Line, events, fresh_tenant, raw_request, serving, wait_until
from hostile import CHUNKED, EMAIL, METRICS, PER_CLIENT, PIXEL, SLACK, Holdings, need_files, others

SLOW_CLIENTS = 1000

CHUNKS = raw_request("/acme/emails", CHUNKED, method="POST") + b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n"
EXPECTS = (
    b"POST /acme/emails HTTP/1.1\r\nHost: bell\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
)
PAGE = raw_request("/acme/dashboard")


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("hostile")) as bell:
        bell.create("acme")
        yield bell


# slowhttptest (https://github.com/shekyan/slowhttptest)


@pytest.fixture(scope="module")
def slowhttptest() -> str:
    program = shutil.which("slowhttptest")
    if program is None:
        pytest.skip("slowhttptest is not installed")
    return program


@pytest.mark.parametrize(
    ("mode", "target", "stays"),
    [
        ("-H", "/acme/pixel/1.gif", True),  # heads that never end
        ("-B", "/acme/emails", True),  # bodies that come by a few bytes
        ("-X", "/metrics", False),  # answers read by a few bytes
        ("-X", "/acme/dashboard", False),
    ],
)
def test_a_thousand_slow_clients(
    start_bell: Callable[..., Bell],
    slowhttptest: str,
    soak: bool,
    mode: str,
    target: str,
    stays: bool,
) -> None:
    need_files(2 * SLOW_CLIENTS)
    bell = start_bell(REQUEST_SECONDS="3", IDLE_SECONDS="3")
    bell.create("acme")
    before = Holdings(bell)
    accepted = bell.metrics()["connections_total"]
    most = 0
    with others(bell) as visitors:
        attack = subprocess.Popen(
            [
                *(slowhttptest, mode, "-u", f"http://127.0.0.1:{bell.port}{target}"),
                *("-c", str(SLOW_CLIENTS), "-r", "500", "-l", "10" if soak else "4", "-p", "5"),
                *("-i", "1", "-x", "24", "-s", "4096"),  # followed up each second by 24 bytes
                *("-k", "3", "-w", "8", "-y", "16", "-n", "1", "-z", "8"),  # read in trickles
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while attack.poll() is None:
                visitors.open()
                most = max(most, bell.metrics()["connections_open"])
                time.sleep(0.02)
        finally:
            attack.kill()
            attack.wait()
    assert bell.metrics()["connections_total"] - accepted > SLOW_CLIENTS * 0.9, "no attack"
    assert not stays or most > SLOW_CLIENTS / 2, "it was over before it began"
    before.nothing_is_left(SLOW_CLIENTS * PER_CLIENT + SLACK)


# Idle


def test_thousands_of_idle_connections(start_bell: Callable[..., Bell], soak: bool) -> None:
    count = 8000 if soak else 3000
    need_files(count + 500)
    bell = start_bell()
    before = Holdings(bell)
    with ExitStack() as clients, others(bell) as visitors:
        for n in range(count):
            line = clients.enter_context(Line(bell.port))
            if n % 3 == 1:
                line.send(b"GET /acme/pixel/1.gif HTTP/1.1\r\nHost: be")
            elif n % 3 == 2:
                line.send(PIXEL)
                line.answer()
            if n % 100 == 0:
                visitors.open()
        wait_until(lambda: bell.metrics()["connections_open"] == count + 2)
        for _ in range(20):
            visitors.open()
        assert before.grown <= count * PER_CLIENT + SLACK, f"{before.grown >> 10} KiB"
    before.nothing_is_left(count * PER_CLIENT + SLACK)


def test_room_is_made_by_closing_those_that_were_idle_for_longest(
    start_bell: Callable[..., Bell],
) -> None:
    bell = start_bell(MAX_CONNECTIONS="64")
    bell.create("acme")
    before = Holdings(bell)
    with ExitStack() as clients, others(bell) as visitors:
        old = [clients.enter_context(Line(bell.port)) for _ in range(20)]
        active = [clients.enter_context(Line(bell.port)) for _ in range(20)]
        wait_until(lambda: bell.metrics()["connections_open"] == 42)
        for _ in range(20):
            for _ in range(20):
                clients.enter_context(Line(bell.port))
            for line in active:
                line.send(PIXEL)
            assert [line.answer().status for line in active] == [200] * len(active)
            visitors.open()
        assert all(line.closed for line in old)
        assert bell.metrics()["connections_open"] <= 65
    assert len(events(bell, "acme")) == 20 * len(active)
    before.nothing_is_left(SLACK)
    said = [line for line in bell.lines() if "make room" in line["message"]]
    assert len(said) == 1, "it is said once while it lasts"


# Gone

MOMENTS = {
    "before a byte": b"",
    "within the request line": PIXEL[:9],
    "within the headers": PIXEL[:-9],
    "within the end of the head": PIXEL[:-1],
    "within a body": EMAIL[:-5],
    "within the size of a chunk": CHUNKS[: CHUNKS.index(b"a=b")],
    "within a chunk": CHUNKS[: CHUNKS.index(b"}")],
    "within the trailers": CHUNKS[:-3],
    "while it is told to continue": EXPECTS,
    "between pipelined requests": PIXEL * 3,
    "within the third request": PIXEL * 2 + PIXEL[:9],
    "behind more than a tick takes": PIXEL * 100 + PIXEL[:9],
    "before the email has its id": EMAIL,
    "before the figures are read": METRICS * 40,
    "while a page is made": PAGE,
    "while a page is made behind others": PIXEL * 3 + PAGE,
    "behind what is refused": PIXEL * 2 + b"\x00\r\n\r\n" + PIXEL,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("resets", [True, False], ids=["reset", "closed"])
def test_clients_leave(bell: Bell, moment: str, resets: bool) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    data = MOMENTS[moment].replace(b"/acme/", f"/{tenant}/".encode())
    whole = data.partition(b"\x00")[0].count(b".gif HTTP/1.1\r\nHost: bell\r\n\r\n")
    before = Holdings(bell)
    leaving = 20
    with ExitStack() as clients, others(bell) as visitors:
        lines = [clients.enter_context(Line(bell.port)) for _ in range(leaving)]
        for line in lines:
            line.send(data)
            if resets:
                line.reset()
            else:
                line.no_more()
        visitors.open()
        for line in lines if not resets else ():
            assert b" 500 " not in line.rest()
        visitors.open()
    before.nothing_is_left(SLACK)
    opened = len(events(bell, tenant))
    assert opened <= leaving * whole if resets else opened == leaving * whole
