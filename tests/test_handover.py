"""What lies in the channel between the lanes, at its end."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from bell import linux, raw_request
from little_bell.wire.handover import SlowLane

pytestmark = linux
REQUEST = raw_request("/", "connection: close")


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[SlowLane]:
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    lane = SlowLane({**inherited, "DATABASE_URL": f"sqlite:{tmp_path}/tracking.db"}, 60.0)
    yield lane
    lane.stop(5.0)


def hand_over(lane: SlowLane, ends: ExitStack) -> socket.socket:
    """A client whose request is in the channel."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = ends.enter_context(socket.create_connection(listener.getsockname(), 10))
        theirs, _ = listener.accept()
    with theirs:
        assert lane.hand_over(theirs, REQUEST, monotonic())
    return client


def status(client: socket.socket) -> bytes:
    return client.recv(12)


def test_who_is_in_the_channel_when_the_fast_lane_goes_is_answered(lane: SlowLane) -> None:
    """Also where the fast lane did not hear all reports: then the kernel tells of a reset before
    it gives what was sent earlier."""
    with ExitStack() as ends:
        assert status(hand_over(lane, ends)) == b"HTTP/1.1 200"  # nobody reads its report
        os.kill(lane.pid, signal.SIGSTOP)
        try:
            waiting = [hand_over(lane, ends) for _ in range(40)]
            lane.let_go()
        finally:
            os.kill(lane.pid, signal.SIGCONT)
        assert {status(client) for client in waiting} == {b"HTTP/1.1 200"}
