"""Tests run side by side (`make test`), but for those that are marked `alone`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

# Each of two processes gets one of these files. What runs beside what is read from `marks`.
TESTS = """
import time
from pathlib import Path

import pytest

MARKS = Path("marks")


def others(besides, seconds, until=lambda found: False):
    end = time.monotonic() + seconds
    seen = set()
    while time.monotonic() < end and not until(seen):
        seen |= {path.name for path in MARKS.iterdir()} - {besides}
        time.sleep(0.005)
    return seen


@pytest.mark.parametrize("number", range(3))
def test_shared(number):
    mine = MARKS / f"shared-NAME-{number}"
    mine.touch()
    try:
        if number == 0:  # both processes are here at the same time, or this fails
            seen = others(mine.name, 20, until=lambda found: found)
            assert [name for name in seen if name.startswith("shared")]
            time.sleep(0.1)
        else:
            assert not [name for name in others(mine.name, 0.1) if name.startswith("alone")]
    finally:
        mine.unlink()


@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    mine = MARKS / f"alone-NAME-{number}"
    mine.touch()
    try:
        assert others(mine.name, 0.2) == set()
    finally:
        mine.unlink()
"""


def test_nothing_runs_beside_a_test_that_is_alone(tmp_path: Path) -> None:
    for name in ("conftest.py", "bell.py"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "marks").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(TESTS.replace("NAME", name))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-n", "2", "--dist", "loadfile"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout
    assert "10 passed" in ran.stdout
