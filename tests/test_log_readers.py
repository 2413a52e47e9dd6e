"""Readers of stdout and stderr of other kinds than a pipe's, that stall or go away."""

import fcntl
import json
import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bell import Bell, Line, raw_request, wait_until

COMMAND = [sys.executable, "-m", "little_bell"]
INHERITED = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
STOP, GO = b"\x13", b"\x11"  # ^S and ^Q
MANY = 12_000  # opens, whose lines are more than what may wait for a reader
CONTROLLING_TERMINAL = 4  # of the fields of /proc/PID/stat behind the name


class Told(Bell):
    """A server whose output goes where the test says."""

    def run(self, stdout: int, stderr: int | None = None, leads: bool = False) -> None:
        """`leads`: it leads a session of its own, without a terminal."""
        with self.error_file.open("ab") as errors:
            self.process = subprocess.Popen(
                COMMAND,
                cwd=self.folder,
                env={**INHERITED, "PORT": "0", "HOST": "127.0.0.1"},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=errors if stderr is None else stderr,
                start_new_session=leads,
            )

    def listens(self, reader: int) -> None:
        """Read the first line, which names the port."""
        first = b""
        while not first.endswith(b"\n"):
            assert select.select([reader], [], [], 20)[0], self.error_file.read_text()
            first += os.read(reader, 1)
        self.port = json.loads(first)["fields"]["port"]

    def open_many(self, count: int) -> None:
        with Line(self.port) as line:
            for _ in range(count // 500):
                line.send(raw_request("/acme/pixel/1.gif") * 500)
                for _ in range(500):
                    assert line.answer().status == 200

    def terminal(self) -> int:
        """The number of its controlling terminal; 0 where it has none."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[CONTROLLING_TERMINAL])

    def is_done(self) -> None:
        assert self.stop() == 0
        assert self.error_file.read_text() == ""


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    bell = Told(tmp_path)
    yield bell
    bell.end()


def read_now(reader: int) -> bytes:
    """What is there to read, without waiting for more."""
    data = b""
    while select.select([reader], [], [], 0)[0]:
        part = os.read(reader, 65536)
        if not part:
            break
        data += part
    return data


def comes_back(reader: int, bell: Bell) -> None:
    """Read on. The lines are whole, and each open has one or is counted as one without."""
    deadline = time.monotonic() + 30
    data, opened, dropped = b"", 0, 0
    while opened + dropped < MANY:
        assert time.monotonic() < deadline, f"{opened} lines, {dropped} dropped"
        data += read_now(reader)
        opened = data.count(b'"message": "Email opened"')
        dropped = bell.metrics()["log_lines_dropped_total"]  # a turn, in which it hands over more
    assert opened + dropped == MANY
    assert 0 < dropped < MANY
    end = data.rindex(b"\n") + 1
    assert all(json.loads(line)["level"] == "INFO" for line in data[:end].splitlines())


def test_a_terminal_that_is_stopped(told: Told) -> None:
    ours, theirs = pty.openpty()
    try:
        before = fcntl.fcntl(theirs, fcntl.F_GETFL)
        told.run(theirs)
        told.listens(ours)
        told.create()
        os.write(ours, STOP)
        told.open_many(MANY)
        assert told.rows("SELECT opens + machine_opens FROM states") == [(MANY,)]
        assert told.get("/acme/dashboard").status == 200
        assert told.metrics()["log_lines_dropped_total"] > 0
        assert fcntl.fcntl(theirs, fcntl.F_GETFL) == before, "the shell's own flags were changed"
        os.write(ours, GO)
        comes_back(ours, told)
        told.is_done()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_that_is_stopped_when_it_ends(told: Told) -> None:
    ours, theirs = pty.openpty()
    try:
        told.run(theirs)
        told.listens(ours)
        told.create()
        os.write(ours, STOP)
        told.open_many(1000)
        told.is_done()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_that_is_closed(told: Told) -> None:
    ours, theirs = pty.openpty()
    try:
        told.run(theirs)
        told.listens(ours)
    finally:
        os.close(theirs)
        os.close(ours)
    told.create()
    told.open_many(500)
    assert told.metrics()["log_lines_dropped_total"] >= 500
    assert told.get("/acme/dashboard").status == 200
    told.is_done()


def test_a_server_without_a_terminal_does_not_get_one_by_its_log(told: Told) -> None:
    """It would be hung up when the terminal is closed, and interrupted by its ^C."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    ours, theirs = pty.openpty()
    try:
        told.run(theirs, leads=True)
        told.listens(ours)
        assert told.terminal() == 0
    finally:
        os.close(theirs)
        os.close(ours)
    time.sleep(0.2)
    told.create()
    told.is_done()


def test_a_socket_whose_reader_stalls(told: Told) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            told.run(theirs.fileno())
            told.listens(ours.fileno())
        told.create()
        told.open_many(MANY)
        assert told.rows("SELECT opens + machine_opens FROM states") == [(MANY,)]
        comes_back(ours.fileno(), told)
        told.is_done()


def test_a_socket_whose_reader_is_gone(told: Told) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        told.run(theirs.fileno())
        told.listens(ours.fileno())
    told.create()
    told.open_many(500)
    assert told.metrics()["log_lines_dropped_total"] >= 500
    told.is_done()


def test_a_pipe_on_stderr_that_nobody_reads(told: Told) -> None:
    """Not one word is written there, or the server would wait for ever."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    try:
        with told.log_file.open("ab") as out:
            told.run(out.fileno(), writer)
        wait_until(lambda: b"listening" in told.log_file.read_bytes())
        told.port = told.lines()[0]["fields"]["port"]
        told.create()
        told.open_many(500)
        assert told.get("/acme/dashboard").status == 200
        assert told.get("/nothing.html").status == 404
        with Line(told.port) as line:
            line.send(b"no request\r\n\r\n")
            assert line.answer().status == 400
        told.is_done()
    finally:
        os.close(reader)
        os.close(writer)
