"""The way to the slow lane has room for some requests at once: more of them wait for a moment."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batches import slow_lane
from bell import Answer, Bell, Line, linux, raw_request, serving, wait_until

MANY = 80  # of BODY are more than it holds
BODY = json.dumps({"html": "x" * 60_000}).encode()
REQUEST = raw_request("/acme/emails", method="POST", body=BODY)


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with serving(tmp_path) as bell:
        bell.create()
        assert ask(bell).status == 201  # the slow lane runs
        yield bell


def ask(bell: Bell) -> Answer:
    return bell.ask("POST", "/acme/emails", BODY)


def ask_many(bell: Bell, threads: ThreadPoolExecutor) -> list[Answer]:
    return list(threads.map(lambda _: ask(bell), range(MANY)))


@linux
def test_they_wait_until_there_is_room(bell: Bell) -> None:
    pid = int(slow_lane(bell))
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(MANY) as threads, ThreadPoolExecutor(1) as other:
            found = other.submit(ask_many, bell, threads)
            time.sleep(1)
            assert bell.get("/acme/pixel/1.gif").status == 200
            assert not found.done()
            os.kill(pid, signal.SIGCONT)
            assert {answer.status for answer in found.result(20)} == {201}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert bell.warnings() == []


@linux
def test_they_do_not_wait_for_ever_and_leave_nothing_behind(bell: Bell) -> None:
    pid = int(slow_lane(bell))
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(MANY) as threads, ThreadPoolExecutor(1) as other:
            for _ in range(5):  # these go away
                with Line(bell.port) as line:
                    line.send(REQUEST)
                    line.reset()
            found = other.submit(ask_many, bell, threads)
            time.sleep(6)
            os.kill(pid, signal.SIGCONT)
            statuses = [answer.status for answer in found.result(20)]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert set(statuses) == {201, 503}
    assert statuses.count(503) > 10
    assert ask(bell).status == 201
    assert bell.warnings() == []
    assert bell.metrics()["connections_open"] == 1


@linux
def test_the_server_stops_beside_those_that_wait(bell: Bell) -> None:
    pid = int(slow_lane(bell))
    os.kill(pid, signal.SIGSTOP)
    lines = [Line(bell.port) for _ in range(MANY)]
    try:
        for line in lines:
            line.send(REQUEST)
        time.sleep(0.5)
        assert bell.process is not None
        bell.process.terminate()
        time.sleep(0.5)  # idle connections go meanwhile
        os.kill(pid, signal.SIGCONT)
        assert bell.process.wait(15) == 0
        assert {line.answer().status for line in lines} <= {201, 503}
    finally:
        for line in lines:
            line.socket.close()


@linux
def test_what_piled_up_joins_a_few_ticks_and_not_one(bell: Bell) -> None:
    """However long the fast lane was away, a tick takes no more than leaves it short."""
    pid = int(slow_lane(bell))
    lines = [Line(bell.port) for _ in range(MANY)]
    request = raw_request("/acme/emails", method="POST", body=b'{"html": "x"}')
    before = bell.metrics()["batch_size"]
    try:
        os.kill(pid, signal.SIGSTOP)
        for line in lines:
            line.send(request)
        wait_until(lambda: bell.metrics()["connections_open"] == 1)  # all are handed over
        os.kill(bell.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        time.sleep(1)  # they pile up
        os.kill(bell.pid, signal.SIGCONT)
        assert {line.answer().status for line in lines} == {201}
    finally:
        os.kill(bell.pid, signal.SIGCONT)
        os.kill(pid, signal.SIGCONT)
        for line in lines:
            line.socket.close()
    after = bell.metrics()["batch_size"]
    assert after["sum"] - before["sum"] == MANY
    assert after["buckets"]["16"] == after["count"]
