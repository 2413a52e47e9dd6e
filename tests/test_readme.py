"""The two commands that the README begins with do what it says"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from bell import Bell

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_it_starts_with_exactly_two_commands() -> None:
    first = README.split("```sh\n", 1)
    assert first[0].strip() == "# Little Bell"
    commands = [line.split("#")[0].strip() for line in first[1].split("```")[0].splitlines()]
    assert commands == ["make serve", "make test"]


def test_make_serve_works_in_a_fresh_copy(tmp_path: Path) -> None:
    """What a newcomer does first: nothing is there but make and Python."""
    copy = tmp_path / "fresh"
    ignored = shutil.ignore_patterns(".git", ".venv", "data", ".*_cache", "__pycache__", "tests")
    shutil.copytree(ROOT, copy, ignore=ignored)
    (copy / "tests").mkdir()
    bell = Bell(copy, ["make", "--silent", "serve"])
    bell.start_seconds = 170
    try:
        bell.start()
        assert bell.create() == 1
        [listening] = [x for x in bell.lines() if x["message"] == "Little Bell is listening"]
        os.kill(listening["fields"]["pid"], signal.SIGTERM)
        assert bell.process is not None
        assert bell.process.wait(15) == 0
        assert (copy / "data" / "tracking.db").exists()
    finally:
        bell.end()


def test_make_serve_says_in_one_line_that_venv_is_missing(tmp_path: Path) -> None:
    python = tmp_path / "python-without-venv"
    python.write_text('#!/bin/sh\ncase "$2" in *venv*) exit 1;; esac\n')
    python.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    ran = subprocess.run(
        ["make", "--silent", "serve", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode != 0
    assert ran.stdout == (
        "This Python has no venv module; install it (Debian: apt install python3-venv)\n"
    )


def test_make_help_names_each_target() -> None:
    ran = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    named = {line.split()[0] for line in ran.stdout.splitlines()}
    assert {"help", "serve", "test", "soak", "lint", "bench"} <= named
