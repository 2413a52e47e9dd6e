"""The container: its files through their linters, and its first program for real, as root"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bell import Bell, wait_until
from programs import needs
from world import contained, first_process, in_a_world

ROOT = Path(__file__).parent.parent
ENTRYPOINT = ROOT / "deploy" / "docker-entrypoint"
COMPOSE = [ROOT / "docker-compose.yml", ROOT / "deploy" / "docker-compose.production.yml"]
BELL = 10001  # the user in the image


def lint(*command: object) -> None:
    ran = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_dockerfile_through_hadolint() -> None:
    lint(Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile")


def test_compose_files_are_what_their_specification_says() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    lint(Path(sys.executable).parent / "check-jsonschema", *schema, *COMPOSE)


@needs("shellcheck")
def test_shell_scripts_through_shellcheck() -> None:
    command = ROOT / "deploy" / "systemd" / "little-bell"
    lint("shellcheck", ENTRYPOINT, command, ROOT / "tests" / "install-system-packages")


def test_what_the_dockerfile_copies_is_let_through() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)", (ROOT / "Dockerfile").read_text(), re.M):
        copied.update(line.split()[:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_all_files_mean_the_same_container() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    fly = tomllib.loads((ROOT / "fly.toml").read_text())
    assert "EXPOSE 3000\n" in dockerfile
    assert "VOLUME /app/data\n" in dockerfile
    assert f"--uid {BELL} " in dockerfile
    assert f"bell={BELL}\n" in ENTRYPOINT.read_text()
    assert "http://localhost:${PORT:-3000}/health" in dockerfile
    assert fly["mounts"]["destination"] == "/app/data"
    assert fly["http_service"]["internal_port"] == 3000
    assert [check["path"] for check in fly["http_service"]["checks"]] == ["/health"]
    # As large a machine as DEPLOYMENT.md says, or emails as small.
    assert fly["vm"][0]["memory"] == "256mb"
    small = re.search(
        r"smallest machine \(256 MB\) set\s+`MAX_MESSAGE_BYTES=(\d+)`",
        (ROOT / "docs" / "DEPLOYMENT.md").read_text(),
    )
    assert small
    assert fly["env"]["MAX_MESSAGE_BYTES"] == small[1]
    for compose in COMPOSE:
        assert ":/app/data\n" in compose.read_text()
        assert "http://localhost:3000/health" in compose.read_text()


def test_the_files_that_deployment_names_are_there() -> None:
    text = (ROOT / "docs" / "DEPLOYMENT.md").read_text()
    made = {"deploy/.env", "deploy/bell.env", "deploy/backups"}  # by who deploys
    named = {name.rstrip(".") for name in re.findall(r"\bdeploy/[\w./-]+", text)} - made
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Bell]:
    """A bell that the entrypoint starts, as process 1 of its namespace, with other mounts."""
    shutil.copy(ENTRYPOINT, tmp_path / "entrypoint")
    yield from contained(tmp_path, 'exec ./entrypoint "$@"')


@pytest.fixture
def world_as_1000(tmp_path: Path) -> Iterator[Bell]:
    """The same, as with `docker run --user 1000`."""
    shutil.copy(ENTRYPOINT, tmp_path / "entrypoint")
    yield from contained(tmp_path, 'exec setpriv --reuid=1000 --clear-groups ./entrypoint "$@"')


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def owners(folder: Path) -> set[tuple[int, int]]:
    found = [path.lstat() for path in [folder, *folder.rglob("*")]]
    return {(one.st_uid, one.st_gid) for one in found}


def stop(bell: Bell, pid: int) -> None:
    """SIGTERM to process 1 alone, as Docker sends it."""
    os.kill(pid, signal.SIGTERM)
    assert bell.process is not None
    assert bell.process.wait(20) == 0
    assert bell.lines()[-1]["message"] == "Stopped"
    assert not bell.database.with_name("tracking.db-wal").exists()
    assert bell.error_file.read_text() == ""


@in_a_world
def test_a_volume_of_root_becomes_the_bells(world: Bell) -> None:
    data = world.folder / "data"
    (data / "old").mkdir(parents=True)
    (data / "old" / "backup.db").touch()
    (data / "link").symlink_to("/etc/hostname")
    before = os.stat("/etc/hostname").st_uid
    world.start()
    pid = first_process(world)
    assert world.create() == 1
    assert world.get("/acme/pixel/1.gif").status == 200
    assert owners(data) == {(BELL, BELL)}
    assert world.database.stat().st_mode & 0o077 == 0
    assert os.stat("/etc/hostname").st_uid == before
    stop(world, pid)
    assert world.rows("SELECT count(*) FROM events") == [(1,)]


# A server that was taken over, with the luck to come between find and chown.
RACING = """#!/bin/sh
case "$*" in
    *program*) mv /opt/app/data/a /opt/app/data/b; ln -s /opt/app/roots /opt/app/data/a;;
esac
exec /usr/bin/chown "$@"
"""


@in_a_world
def test_a_folder_that_becomes_a_link_gives_nothing_of_root_away(tmp_path: Path) -> None:
    shutil.copy(ENTRYPOINT, tmp_path / "entrypoint")
    for name in ("roots", "data/a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "program").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chown").write_text(RACING)
    (tmp_path / "bin" / "chown").chmod(0o755)
    for world in contained(tmp_path, 'PATH=/opt/app/bin:$PATH exec ./entrypoint "$@"'):
        world.start()
        assert world.get("/health").status == 200
    assert (tmp_path / "data" / "a").is_symlink()  # it did come between
    assert owners(tmp_path / "roots") == {(0, 0)}
    assert (tmp_path / "data" / "b" / "program").stat().st_uid == BELL


@in_a_world
def test_nothing_of_root_is_left(world: Bell) -> None:
    world.start()
    found = status(first_process(world))
    assert found["NSpid"].split()[-1] == "1"  # no shell stays in front of it
    assert found["Uid"].split() == found["Gid"].split() == [str(BELL)] * 4
    assert found["Groups"] == ""
    assert found["NoNewPrivs"] == "1"
    assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


@in_a_world
def test_process_1_leaves_no_zombies(world: Bell) -> None:
    world.settings["SLOW_LANE_IDLE_SECONDS"] = "0.5"
    world.start()
    pid = first_process(world)

    def children() -> list[str]:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    assert world.get("/acme/dashboard").status == 200  # the slow lane
    assert len(children()) == 1
    wait_until(lambda: not children())  # zombies would stand there as well
    stop(world, pid)


@in_a_world
def test_another_user_is_left_as_it_is(world_as_1000: Bell) -> None:
    data = world_as_1000.folder / "data"
    data.mkdir()
    os.chown(data, 1000, 1000)
    world_as_1000.start()
    pid = first_process(world_as_1000)
    assert status(pid)["Uid"].split() == ["1000"] * 4
    assert world_as_1000.create() == 1
    assert {uid for uid, _ in owners(data)} == {1000}
    stop(world_as_1000, pid)
