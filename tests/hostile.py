"""What the tests of a hostile wire share: clients of ill will, others beside them, and what a
server's processes hold (Linux's /proc)."""

import json
import os
import random
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bell import Bell, Line, dump, events, fresh_tenant, raw_request, wait_until

PATIENCE = 10.0  # seconds in which everybody else has an answer, on a noisy machine too
FAULTS = ("A turn failed", "A request failed", "A page failed")
CHUNKED = "Transfer-Encoding: chunked"
MIB = 1 << 20

# A connection costs some 2 KiB of Python objects and llhttp's state, here with a short head; twice
# that for allocators that keep what was freed, and 3 MiB for caches that fill meanwhile.
PER_CLIENT = 4 << 10
SLACK = 3 * MIB

PIXEL = raw_request("/acme/pixel/1.gif")
EMAIL = raw_request("/acme/emails", method="POST", body=b'{"subject": "Hello"}')
METRICS = raw_request("/metrics")


class Shy(Line):
    """A client that reads nothing and for whom kernels keep little.

    On loopback, segments of 64 KiB make the kernel take megabytes for a client that does not read;
    with those of a real network it takes tens of KiB, and the rest waits in the server.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option, 1024)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self.socket.settimeout(PATIENCE)
        self.buffer = b""
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise

    def push(self, data: bytes) -> int:
        """Send what the kernel takes at once; returns how many bytes it took, 0 where cut off."""
        self.socket.setblocking(False)
        try:
            return self.socket.send(data)
        except (BlockingIOError, ConnectionError):
            return 0


class Visitors:
    """Others, who open emails meanwhile: on a connection that stays and on fresh ones."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.tenant = fresh_tenant()
        self.request = raw_request(f"/{self.tenant}/pixel/{bell.create(self.tenant)}.gif")
        self.old = Line(bell.port)
        self.count = 0  # opens that were answered

    def open(self) -> None:
        """One open on each kind of connection; fails where an answer takes longer than PATIENCE."""
        self._open(self.old)
        with Line(self.bell.port) as fresh:
            self._open(fresh)

    def _open(self, line: Line) -> None:
        line.socket.settimeout(PATIENCE)
        line.send(self.request)
        answer = line.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
        self.count += 1

    def leave(self) -> None:
        """They go; each of their opens counts, once."""
        self.old.socket.close()
        assert self.count > 0
        assert len(events(self.bell, self.tenant)) == self.count


@contextmanager
def others(bell: Bell) -> Iterator[Visitors]:
    """Visitors for as long as the block lasts; all that they opened is counted."""
    visitors = Visitors(bell)
    try:
        yield visitors
        visitors.leave()
    finally:
        visitors.old.socket.close()


def need_files(wanted: int) -> None:
    """Let this process and those it starts have so many descriptors, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} descriptors are needed and {hard} allowed")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptors(bell: Bell) -> int:
    """Open descriptors of the fast lane and sockets of the slow one.

    Each thread of the slow lane opens the database when it makes its first page.
    """
    listed = Path(f"/proc/{bell.pid}/task/{bell.pid}/children")
    if not listed.exists():
        pytest.skip("this system does not show what a process holds")
    slow = [Path(f"/proc/{pid}/fd") for pid in listed.read_text().split()]
    sockets = [one for fd in slow for one in fd.iterdir() if one.is_socket()]
    return len(os.listdir(f"/proc/{bell.pid}/fd")) + len(sockets)


def memory(bell: Bell, line: str) -> int:
    """Bytes by a line of the fast lane's status: VmRSS is resident now, VmHWM was at most."""
    status = Path(f"/proc/{bell.pid}/status").read_text()
    return next(int(text.split()[1]) for text in status.splitlines() if text.startswith(line)) << 10


def faults(bell: Bell) -> list[str]:
    """Log lines that tell of a fault in the server, and whatever it wrote to stderr."""
    lines = bell.log_file.read_text().splitlines()
    found = [line for line in lines if json.loads(line)["message"] in FAULTS]
    return found + bell.error_file.read_text().splitlines()


class Holdings:
    """What a server held before an attack, to be compared with what it holds afterwards."""

    def __init__(self, bell: Bell) -> None:
        """Everything that is made at first use is made first."""
        self.bell = bell
        tenant = fresh_tenant()
        bell.create(tenant)
        for target in ("pixel/1.gif", "click/1?url=http://x.example", "click-url/1?url=http://x"):
            bell.get(f"/{tenant}/{target}")
        assert bell.get(f"/{tenant}/dashboard").status == 200
        assert bell.get("/metrics").status == 200
        wait_until(lambda: bell.metrics()["connections_open"] == 1)
        time.sleep(0.1)  # that connection has to be closed, too
        self.descriptors = descriptors(bell)
        self.resident = memory(bell, "VmRSS")

    @property
    def grown(self) -> int:
        """Bytes by which the fast lane's memory was ever larger than it was then."""
        return memory(self.bell, "VmHWM") - self.resident

    def nothing_is_left(self, grown: int) -> None:
        """No connection, no descriptor, no fault; memory never grew by more than `grown` bytes."""
        wait_until(lambda: self.bell.metrics()["connections_open"] == 1)
        wait_until(lambda: descriptors(self.bell) <= self.descriptors)
        assert self.grown <= grown, f"{self.grown >> 10} KiB"
        assert faults(self.bell) == []
        assert self.bell.get("/health").json["status"] == "healthy"


def is_refused(bell: Bell, data: bytes, *statuses: int) -> None:
    """Bytes and a click behind them are refused (400, or as said), and the connection closes.

    Nothing of it is done.
    """
    tenant = fresh_tenant()
    bell.create(tenant)
    before = dump(bell.database)
    with Line(bell.port) as line:
        line.send(data + raw_request(f"/{tenant}/click/1?url=https://example.com"))
        answer = line.answer()
        assert answer.status in (statuses or (400,)), answer
        assert answer.headers["connection"] == "close"
        assert line.closed
    assert dump(bell.database) == before


# Fuzzing

GENEROUS = {  # so that exactly what was answered is stored
    "MAX_NEW_AGENTS_PER_HOUR": "1000000",
    "MAX_NEW_LINKS_PER_HOUR": "1000000",
    "MAX_HITS_PER_EMAIL_HOUR": "1000000",
    "MAX_REQUESTS_PER_MINUTE": "0",
}
PIECES = [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\xff", b":", b"0\r\n\r\n"]
PIECES += [b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"HTTP/1.1\r\nHost: x\r\n\r\n", b"%", b"?", b"/"]


def is_sound(bell: Bell) -> None:
    """Healthy, without a fault; the database holds only what can be read."""
    assert bell.get("/health").json["status"] == "healthy"
    assert faults(bell) == []
    metrics = bell.metrics()
    assert metrics["rows_refused_total"] == 0, "a value came through to the database"
    failed = [one for one in metrics["requests_total"] if one["status"] >= "500"]
    assert {one["status"] for one in failed} <= {"505"}, failed  # another version of HTTP
    assert bell.rows("PRAGMA integrity_check") == [("ok",)]
    dump(bell.database)  # decodes every text


def mutated(source: random.Random, data: bytes) -> bytes:
    """A few bytes changed, put in, left out, said twice or cut off."""
    for _ in range(source.choice([1, 1, 1, 2, 4])):
        at = source.randint(0, len(data))
        end = min(len(data), at + source.choice([1, 1, 2, 8, 64]))
        before, part, behind = data[:at], data[at:end], data[end:]
        match source.randrange(7):
            case 0:
                part = source.randbytes(len(part))
            case 1:
                part = source.choice(PIECES) + part
            case 2:
                part = source.choice(PIECES)
            case 3:
                part = b""
            case 4:
                part += part
            case 5:
                part = part.swapcase()
            case _:
                part = behind = b""
        data = before + part + behind
    return data
