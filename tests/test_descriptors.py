"""No descriptor is left: what is there goes on, and all is well again once there are some."""

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bell import Bell, Line, events, linux, raw_request, wait_until

HARD = 64  # descriptors, where the limit stands from the start
PROGRAM = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({HARD}, {HARD}))
from little_bell.cli import main
sys.exit(main())
"""
PIXEL = raw_request("/acme/pixel/1.gif")

pytestmark = linux


class Limited(Bell):
    """A server that can be left without descriptors."""

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def child(self) -> int:
        """The process of the slow lane; 0 where there is none."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(listed[0]) if listed else 0

    def spins(self) -> bool:
        """Whether it is busy though nobody asks for anything."""
        before = self.cpu_seconds()
        time.sleep(1.5)
        return self.cpu_seconds() - before > 0.75


def leave(pid: int, spare: int) -> None:
    """Let a process have so many descriptors more than it has now: the limit is on their numbers,
    and the lowest that are free come first."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = [number for number in range(len(taken) + spare + 1) if number not in taken]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[spare], hard))


def leave_all(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Limited]]:
    """Starts the server; afterwards it stops in order, without a word on stderr."""
    started: list[Limited] = []

    def begin(program: list[str] | None = None, **settings: str) -> Limited:
        bell = Limited(tmp_path, program, **settings)
        started.append(bell)
        bell.start()
        bell.create()
        return bell

    yield begin
    for bell in started:
        try:
            assert bell.stop() == 0
            assert [line for line in bell.lines() if line["level"] == "ERROR"] == []
            assert bell.error_file.read_text() == ""
        finally:
            bell.end()


def ask(line: Line, request: bytes = PIXEL) -> int:
    line.send(request)
    return line.answer().status


def still_open(line: Line) -> bool:
    """Whether the server did not close it."""
    line.socket.setblocking(False)
    try:
        return line.socket.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        line.socket.settimeout(20)


def makes_room(bell: Bell) -> int:
    """How often the log says that connections are closed."""
    said = "Connections are closed to make room"
    return sum(line["message"] == said and line["level"] == "WARN" for line in bell.lines())


def test_more_connections_than_descriptors(start: Callable[..., Limited]) -> None:
    bell = start([sys.executable, "-c", PROGRAM])
    with ExitStack() as stack:
        busy = stack.enter_context(Line(bell.port))
        idle: list[Line] = []
        for n in range(2 * HARD):
            idle.append(stack.enter_context(Line(bell.port)))
            if n % 8 == 0:
                assert ask(busy) == 200
        wait_until(lambda: makes_room(bell))
        time.sleep(0.2)
        assert still_open(busy)
        closed = [not still_open(line) for line in idle]
        assert HARD < sum(closed) < 2 * HARD
        assert closed == sorted(closed, reverse=True), "those idle for longest come first"
        assert not bell.spins()
        for _ in range(10):
            assert bell.get("/acme/pixel/1.gif").status == 200
            assert bell.get("/acme/dashboard").status in (200, 503)
        assert bell.ask("GET", "/health").status == 200
        assert makes_room(bell) < 20
    wait_until(lambda: bell.metrics()["connections_open"] == 1)
    assert bell.get("/acme/dashboard").status == 200
    assert len(events(bell, "acme")) == HARD // 4 + 10
    with ExitStack() as stack:
        few = [stack.enter_context(Line(bell.port)) for _ in range(16)]
        assert [ask(line) for line in few] == [200] * 16
        assert [ask(line) for line in few] == [200] * 16


def test_no_connection_can_be_accepted_at_all(start: Callable[..., Limited]) -> None:
    bell = start()
    wait_until(lambda: bell.metrics()["connections_open"] == 1)
    time.sleep(0.2)  # the last one is closed
    leave(bell.pid, 0)
    with Line(bell.port) as waiting:
        waiting.send(PIXEL)
        wait_until(lambda: makes_room(bell), 4)
        assert not bell.spins(), "it does nothing but look for a descriptor"
        leave_all(bell.pid)
        assert waiting.answer().status == 200
    assert bell.get("/acme/dashboard").status == 200
    assert len(events(bell, "acme")) == 1


def test_open_connections_go_on_without_a_descriptor_to_spare(
    start: Callable[..., Limited],
) -> None:
    bell = start()
    with Line(bell.port) as busy:
        assert ask(busy) == 200
        time.sleep(0.2)
        leave(bell.pid, 0)
        for _ in range(20):
            assert ask(busy) == 200
        create = raw_request("/acme/emails", method="POST", body=b"{}")
        assert ask(busy, create) == 201
        busy.send(raw_request("/acme/dashboard"))
        refused = busy.answer()
        assert refused.status == 503
        assert refused.headers["retry-after"].isdigit()
        leave_all(bell.pid)
    assert bell.get("/acme/dashboard").status == 200
    assert len(events(bell, "acme")) == 21


@pytest.mark.parametrize("spare", range(4))
def test_a_checkpoint_without_descriptors_is_made_later(
    start: Callable[..., Limited], spare: int
) -> None:
    bell = start()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control,
        Line(bell.port) as line,
    ):
        control.connect(f"/proc/{bell.pid}/cwd/data/tracking.db.control")
        control.settimeout(20)
        assert ask(line) == 200
        control.sendall(raw_request("/checkpoint", method="POST", body=b""))
        wait_until(lambda: bell.metrics()["checkpoints_total"] == 1)
        assert ask(line) == 200
        time.sleep(0.2)
        leave(bell.pid, spare)
        control.sendall(raw_request("/checkpoint", method="POST", body=b""))
        for _ in range(20):
            assert ask(line) == 200
            time.sleep(0.02)
        line.send(raw_request("/metrics", "Accept: application/json"))
        found = line.answer().json
        assert found["answers_not_durable_total"] == 0
        assert found["healthy"] == 1
        leave_all(bell.pid)
    wait_until(lambda: bell.metrics()["checkpoints_total"] == 2)
    assert len(events(bell, "acme")) == 22


def test_the_slow_lane_has_no_descriptor_for_a_client(start: Callable[..., Limited]) -> None:
    """What it could not take does not count as under way for ever."""
    bell = start(SLOW_LANE_IDLE_SECONDS="1")
    assert bell.get("/acme/dashboard").status == 200
    child = bell.child()
    time.sleep(0.2)
    leave(child, 0)
    for _ in range(3):
        with Line(bell.port) as line:
            line.send(raw_request("/acme/dashboard"))
            line.rest()
    leave_all(child)
    assert bell.get("/acme/dashboard").status == 200
    wait_until(lambda: bell.child() != child, 6)
    assert bell.get("/acme/dashboard").status == 200
