"""Fuzzing guided by coverage: nothing escapes from the request path, the reader of requests and the
readers of tokens and targets but refusals, and no answer is a 5xx (see fuzz_harness.py)"""

import os
import platform
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fuzz_harness.py")
SECONDS, SOAK_SECONDS = 5, 900
LEAST = {"requests": 100, "reader": 1000, "tokens": 1000}  # inputs, on a slow machine too

# Where there are wheels of it, as pyproject.toml says.
HAS_WHEELS = (
    sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 14)
)

pytestmark = pytest.mark.skipif(not HAS_WHEELS, reason="there is no atheris for this Python")


def fuzz(name: str, folder: Path, seconds: int, seed: int) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), name, str(folder), str(seconds), str(seed)],
        cwd=folder,
        env=inherited,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


class Fuzzers:
    """All of them at once: each has its own process and folder."""

    def __init__(self, folder: Path, seconds: int, seed: int) -> None:
        self.seconds = seconds
        self.seed = seed
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for name in LEAST:
            (folder / name).mkdir()
            self.processes[name] = fuzz(name, folder / name, seconds, seed)

    def end_of(self, name: str) -> tuple[int, str]:
        """Exit code and what was printed."""
        process = self.processes[name]
        printed = process.communicate(timeout=self.seconds + 120)[0]
        return process.returncode, printed


@pytest.fixture(scope="module")
def fuzzers(tmp_path_factory: pytest.TempPathFactory, soak: bool) -> Iterator[Fuzzers]:
    seed = random.randrange(1, 1 << 31) if soak else 1
    found = Fuzzers(tmp_path_factory.mktemp("fuzz"), SOAK_SECONDS if soak else SECONDS, seed)
    yield found
    for process in found.processes.values():
        process.kill()
        process.communicate()


def runs(printed: str) -> int:
    found = re.search(r"stat::number_of_executed_units:\s+(\d+)", printed)
    return int(found[1]) if found else 0


@pytest.mark.timeout(SOAK_SECONDS + 180)
@pytest.mark.parametrize("name", ["requests", "reader", "tokens"])
def test_nothing_escapes(fuzzers: Fuzzers, name: str) -> None:
    code, printed = fuzzers.end_of(name)
    assert code == 0, (fuzzers.seed, printed[-6000:])
    assert runs(printed) > LEAST[name], printed[-2000:]


def test_what_escapes_is_seen(tmp_path: Path) -> None:
    process = fuzz("fault", tmp_path, SECONDS, 1)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "RuntimeError: found" in printed
