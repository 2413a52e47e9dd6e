"""Starting and stopping many times leaves nothing behind, in the folder or in the process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bell import Bell, linux, read_rows, wait_until

PROGRAM = [sys.executable, str(Path(__file__).with_name("leak_loops.py"))]
TIMES, SOAK_TIMES = 50, 500
GROWTH = 2 << 20  # bytes of memory that the allocator may take in one of these loops
LEFT = ["tracking.db", "tracking.db.lock", "tracking.db.secret"]

pytestmark = linux


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: a socket with a long one keeps its folder open, as long as the process."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data").iterdir())


def processes_in(folder: Path) -> list[str]:
    """Processes that work in this folder: those that were started there."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").resolve(strict=True) == folder:
                found.append(process.name)
        except OSError:
            pass  # it ended meanwhile, or is another user's
    return found


def test_many_processes_on_one_folder(folder: Path, soak: bool) -> None:
    bell = Bell(folder)
    times = SOAK_TIMES if soak else TIMES
    descriptors: set[int] = set()
    try:
        for n in range(1, times + 1):
            bell.start()
            descriptors.add(len(os.listdir(f"/proc/{bell.pid}/fd")))
            assert bell.create() == n
            assert bell.get(f"/acme/pixel/{n}.gif").status == 200
            if n % 10 == 0:
                assert bell.get("/acme/dashboard").status == 200
                assert len(processes_in(folder)) == 2
            assert bell.stop() == 0
            assert files(folder) == LEFT
            assert processes_in(folder) == []
    finally:
        bell.end()
    assert len(descriptors) == 1, "a later start finds more open than the first"
    assert bell.error_file.read_text() == ""
    assert bell.warnings() == []
    assert list(read_rows(bell.database, "SELECT count(*), sum(opens) FROM states")) == [
        (times, times)
    ]


def test_a_killed_process_leaves_nothing_to_the_next(folder: Path, soak: bool) -> None:
    """Neither its slow lane nor its control socket; and no file piles up."""
    bell = Bell(folder)
    try:
        for _ in range(50 if soak else 3):
            bell.start()
            bell.create()
            assert bell.get("/acme/dashboard").status == 200
            bell.kill()
            wait_until(lambda: not processes_in(folder))
        bell.start()
        assert bell.stop() == 0
    finally:
        bell.end()
    assert files(folder) == LEFT


def loop(folder: Path, what: str, times: int, stdout: Any) -> list[dict[str, int]]:
    """What the process has after each time."""
    notes = folder / "notes"
    with (folder / "errors").open("wb") as errors:
        ended = subprocess.run(
            [*PROGRAM, what, str(times), str(notes)],
            cwd=folder,
            stdout=stdout,
            stderr=errors,
            timeout=60 + 2 * times,
            check=False,
        )
    assert (ended.returncode, (folder / "errors").read_text()) == (0, "")
    assert files(folder) in (LEFT, LEFT[:-1])  # a store alone signs nothing
    found = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(found) == times
    return found


def leaks_nothing(found: list[dict[str, int]]) -> None:
    """From the second time on: what is made once for the process was made by the first."""
    for name in ("descriptors", "threads", "children"):
        assert {one[name] for one in found[1:]} == {found[1][name]}, name
    assert found[-1]["children"] == 0
    assert found[-1]["threads"] == 1
    begun = found[len(found) // 5]["bytes"]
    assert found[-1]["bytes"] - begun < GROWTH


@pytest.mark.parametrize("what", ["server", "store"])
def test_many_in_one_process(folder: Path, what: str, soak: bool) -> None:
    with (folder / "out").open("wb") as out:
        leaks_nothing(loop(folder, what, SOAK_TIMES if soak else TIMES, out))


def test_many_servers_in_one_process_that_log_to_a_device(folder: Path) -> None:
    leaks_nothing(loop(folder, "server", 5, subprocess.DEVNULL))
