"""The order of system calls: request, WAL written, WAL synced, and only then the answer."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bell import Bell

CALLS = "trace=recvfrom,pwrite64,pwritev,write,writev,fdatasync,fsync,sendto,sendmsg"
LINE = re.compile(r"^(\d+) +(.*)$")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
CALL = re.compile(r"^(\w+)\((\d+)<([^>]*)>(.*)\) += (-?\d+)")
UNFINISHED = " <unfinished ...>"


class Call(NamedTuple):
    """One system call on a descriptor; lines of the trace are its clock."""

    name: str
    descriptor: int
    path: str
    arguments: str
    result: int
    begun: int
    ended: int


def parse(trace: str) -> Iterator[Call]:
    """Whole calls, in the order of their ends. strace splits those that overlap with others."""
    open_calls: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        found = LINE.match(line)
        if found is None:
            continue
        process, text = found[1], found[2]
        begun = number
        resumed = RESUMED.match(text)
        if resumed is not None:
            begun, start = open_calls.pop(process)
            text = start + resumed[2]
        elif text.endswith(UNFINISHED):
            open_calls[process] = (number, text.removesuffix(UNFINISHED))
            continue
        call = CALL.match(text)
        if call is not None:
            name, descriptor, path, arguments, result = call.groups()
            yield Call(name, int(descriptor), path, arguments, int(result), begun, number)


@pytest.fixture(scope="module")
def strace() -> str:
    """The program, where it is there and allowed to look."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run([program, "-D", "true"], capture_output=True, check=False, timeout=30)
    if tried.returncode != 0:
        pytest.skip("ptrace is not allowed here")
    return program


def traced(bell: Bell, trace: Path, target: str, answer: str) -> list[Call]:
    """Calls from the request to its answer."""
    bell.get(target)
    deadline = time.monotonic() + 20
    while True:
        calls = list(parse(trace.read_text("utf-8", "replace")))
        asked = [n for n, call in enumerate(calls) if f"GET {target} " in call.arguments]
        if asked:
            for n, call in enumerate(calls[asked[0] :], asked[0]):
                if call.name in ("sendto", "sendmsg", "write") and answer in call.arguments:
                    return calls[asked[0] : n + 1]
        assert time.monotonic() < deadline, "the trace does not show the answer"
        time.sleep(0.05)


def test_answers_leave_after_the_log_was_synced(tmp_path: Path, strace: str) -> None:
    trace = tmp_path / "trace"
    # -D: the server stays our child, so that it can be stopped; -y: names behind descriptors.
    options = ["-D", "-f", "-y", "-s", "200", "-e", CALLS, "-e", "signal=none", "-o", str(trace)]
    bell = Bell(tmp_path, [strace, *options, sys.executable, "-m", "little_bell"])
    try:
        bell.start()
        email = bell.create()
        click = f"/acme/click/{email}?url=https%3A%2F%2Fexample.com%2F"
        for target, answer in (
            (f"/acme/pixel/{email}.gif", "HTTP/1.1 200 "),
            (click, "HTTP/1.1 302 "),
        ):
            calls = traced(bell, trace, target, answer)
            asked, answered = calls[0], calls[-1]
            assert asked.name == "recvfrom"
            assert answered.descriptor == asked.descriptor
            on_log = [call for call in calls if call.path == f"{bell.database}-wal"]
            written = [call for call in on_log if call.name.startswith("pwrite")]
            synced = [call for call in on_log if call.name in ("fdatasync", "fsync")]
            assert written, f"nothing was written to the WAL: {calls}"
            assert synced, f"the WAL was not synced: {calls}"
            assert all(call.result > 0 for call in written)
            assert [call.result for call in synced] == [0] * len(synced)
            assert asked.ended < written[0].begun
            assert written[-1].ended < synced[-1].begun
            assert synced[-1].ended < answered.begun, "the answer left before the sync returned"
        assert bell.stop() == 0
        assert len(bell.rows("SELECT * FROM events")) == 2
    finally:
        bell.end()
