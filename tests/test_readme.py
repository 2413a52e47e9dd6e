"""The README's commands are run and answer as printed; the docs name everything there is."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from bell import Bell
from little_bell.commands import COMMANDS
from little_bell.config import SETTINGS
from little_bell.ops.health import Health
from little_bell.ops.logs import Log
from little_bell.ops.metrics import Counters
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.recorder import Recorder
from little_bell.store.writer import Writer
from little_bell.wire.routes import ROUTES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
USAGE = (ROOT / "docs" / "USAGE.md").read_text()


def console_commands(text: str) -> list[tuple[str, str]]:
    """(command, printed answer) of each `$ ` line in console blocks."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def test_it_starts_with_exactly_two_commands() -> None:
    first = README.split("```sh\n", 1)
    assert first[0].strip() == "# Little Bell"
    commands = [line.split("#")[0].strip() for line in first[1].split("```")[0].splitlines()]
    assert commands == ["make serve", "make test"]


def test_each_command_answers_as_printed(start_bell: Callable[..., Bell], tmp_path: Path) -> None:
    bell = start_bell()
    commands = console_commands(README)
    assert len(commands) >= 5
    for command, printed in commands:
        here = command.replace("localhost:3000", f"localhost:{bell.port}")
        ran = subprocess.run(
            ["bash", "-c", here], cwd=tmp_path, capture_output=True, text=True, timeout=30
        )
        assert ran.returncode == 0, ran.stderr
        got = ran.stdout.replace(f"localhost:{bell.port}", "localhost:3000")
        other = re.compile(r'"uptime_seconds": \d+|(?<=&sig=)[\w-]{16}|(?<=/l/1/)[\w-]+')
        assert other.sub("", got) == other.sub("", printed), command
    assert "acme" in bell.get("/acme/dashboard").body.decode()


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


def test_usage_names_each_setting_route_command_and_metric(tmp_path: Path) -> None:
    for setting in SETTINGS:
        assert f"| `{setting.name}` |" in USAGE
        if setting.default:
            assert f"| `{setting.name}` | `{setting.default}` |" in USAGE
    for route in ROUTES:
        assert f"| `{route.method} {route.pattern}` |" in USAGE
    for command in COMMANDS:
        form = f"little-bell {command.name} {command.argument}".rstrip()
        assert f"| `{form}` |" in USAGE
        for option in command.options:
            assert f"`{option.split('   ')[0]}`" in USAGE
    path = str(tmp_path / "t.db")
    recorder = Recorder(Writer(path), 0)
    health = Health(Counters(), recorder, Checkpointer(recorder.writer, 1 << 22), Log(100))
    for metric in health.metrics():
        assert f"`{metric.name}`" in USAGE
    recorder.writer.close()
