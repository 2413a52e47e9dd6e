"""The systemd units: as systemd reads them, and what of them can be true without systemd running"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bell import Bell, linux, wait_until
from programs import free_port, needs
from world import contained, first_process, in_a_world

ROOT = Path(__file__).parent.parent
UNITS = ROOT / "deploy" / "systemd"
SERVICE = UNITS / "little-bell.service"
PROGRAM = "/opt/little-bell/bin/little-bell"
EXPOSURE = 10  # tenths: 0 is nothing, 100 everything; systemd 252 finds 6

pytestmark = [linux, needs("systemd-analyze", "systemd-socket-activate")]


def analyze(*arguments: object) -> str:
    command = ["systemd-analyze", *(str(argument) for argument in arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that is there, since systemd looks for it."""
    for path in UNITS.glob("little-bell.*"):
        text = path.read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / path.name).write_text(text)
    return tmp_path


def test_systemd_understands_the_units(units: Path) -> None:
    assert analyze("verify", *sorted(units.glob("little-bell.*"))) == ""


def test_systemd_would_see_a_wrong_word(units: Path) -> None:
    service = units / "little-bell.service"
    service.write_text(service.read_text().replace("DynamicUser=", "DynamicUsr="))
    ran = subprocess.run(
        ["systemd-analyze", "verify", str(service)], capture_output=True, text=True, timeout=60
    )
    assert "DynamicUsr" in ran.stderr


def test_an_archive_as_the_program_can_unpack_itself() -> None:
    """Nothing else that it may write to would do: the units' user has no home."""
    units = sorted(UNITS.glob("*.service"))
    assert len(units) == 2
    for path in units:
        assert "\nCacheDirectory=little-bell\nCacheDirectoryMode=0700\n" in path.read_text(), path


def test_little_is_exposed(units: Path) -> None:
    service = units / "little-bell.service"
    analyze("security", "--offline=true", f"--threshold={EXPOSURE}", service)


def apart() -> list[str]:
    """A program in front of the bell that takes network and users, as the unit does."""
    command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--net"]
    made = subprocess.run([*command, "true"], capture_output=True)
    return command if made.returncode == 0 else []


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Bell]:
    """A bell that systemd's own program starts once somebody connects."""
    port = free_port()
    # A system's environment as the service has it: none of the tests'.
    settings = [f"--setenv=DATABASE_URL=sqlite:{tmp_path}/data/tracking.db"]
    bell = [*apart(), sys.executable, "-m", "little_bell", "serve"]
    program = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", *settings, *bell]
    activated = Bell(tmp_path, program)
    activated.port = port
    try:
        yield activated
    finally:
        activated.end()


def launch(bell: Bell, *before: str) -> None:
    """Start without waiting for the bell: it starts once it is asked."""
    with bell.log_file.open("ab") as out, bell.error_file.open("ab") as err:
        bell.process = subprocess.Popen(
            [*before, *bell.program], cwd=bell.folder, stdout=out, stderr=err
        )
    wait_until(lambda: b"Listening" in bell.error_file.read_bytes())


def walk(bell: Bell) -> None:
    """Opens, clicks, pages, exports, a batch, an email rewritten, an erasure: what a day brings."""
    created = bell.ask("POST", "/acme/emails", {"subject": "x", "recipient": "ada@example.com"})
    assert created.status == 201
    assert bell.get("/acme/pixel/1.gif").status == 200
    assert bell.get("/acme/click/1?url=https://example.com/").status == 302
    lines = b'{"subject": "y"}\n' * 2000
    headers = {"Content-Type": "application/x-ndjson"}
    assert bell.ask("POST", "/acme/emails", lines, headers).status == 201
    html = {"html": '<a href="https://example.com/">x</a>'}
    assert "/acme/l/" in bell.ask("POST", "/acme/emails", html).json["html"]
    for page in ("dashboard", "events.csv", "stats?tz=Europe/Berlin"):
        assert bell.get(f"/acme/{page}").status == 200
    person = "ada@example.com"
    assert bell.ask("DELETE", f"/acme/recipients/{person}?confirm={person}").status == 204
    assert bell.metrics()


def test_the_bell_is_started_by_its_first_client(activated: Bell) -> None:
    launch(activated)
    assert activated.log_file.read_text() == ""  # nothing runs yet
    walk(activated)
    first = activated.lines()[0]["fields"]
    assert first["listening"] == [f"127.0.0.1:{activated.port}"]
    assert f"localhost:{activated.port}" in first["url"]
    # As root does it beside the service: by the control socket, whose user is another one.
    ran = subprocess.run(
        [sys.executable, "-m", "little_bell", "keys", "create", "acme"],
        env={**os.environ, "DATABASE_URL": f"sqlite:{activated.database}"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.stdout.startswith("lb_"), ran.stderr
    assert activated.get("/acme/stats").status == 401
    assert activated.stop() == 0
    assert activated.lines()[-1]["message"] == "Stopped"


def group(name: str) -> set[str]:
    """The system calls of a group, and of the groups in it."""
    found: set[str] = set()
    for line in analyze("syscall-filter", name).splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= group(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def allowed() -> set[str]:
    """What SystemCallFilter= of the service lets through, line by line."""
    found = group("@default")
    for words in re.findall(r"^SystemCallFilter=(.+)$", SERVICE.read_text(), re.MULTILINE):
        less = words.startswith("~")
        for word in words.removeprefix("~").split():
            calls = group(word) if word.startswith("@") else {word}
            found = found - calls if less else found | calls
    return found


@needs("strace")
def test_what_the_bell_asks_of_the_kernel_is_allowed(activated: Bell, tmp_path: Path) -> None:
    """SystemCallFilter=, RestrictAddressFamilies= and MemoryDenyWriteExecute=, by what it does."""
    trace = tmp_path / "trace"
    launch(activated, "strace", "--follow-forks", "--string-limit=16", f"--output={trace}")
    walk(activated)
    [listening] = [x for x in activated.lines() if x["message"] == "Little Bell is listening"]
    os.kill(listening["fields"]["pid"], 15)
    assert activated.process is not None
    assert activated.process.wait(20) == 0
    text = trace.read_text()
    python = text.index(f'execve("{sys.executable[:12]}')  # what was before is not the bell
    calls = re.findall(r"^\d+ +(\w+)\((.*)$", text[python:], re.MULTILINE)
    names = {name for name, _ in calls}
    assert {"accept4", "fsync", "setpriority"} & names  # it was looked at, both lanes
    if os.geteuid() == 0 and not apart():
        names.discard("fchown")  # SQLite's, where it is root
    assert names - allowed() == set()
    families = re.findall(r"^RestrictAddressFamilies=(.+)$", SERVICE.read_text(), re.MULTILINE)
    sockets = {rest.split(",")[0] for name, rest in calls if name == "socket"}
    assert sockets <= {word for line in families for word in line.split()}
    assert not [rest for name, rest in calls if name == "mmap" and "WRITE|PROT_EXEC" in rest]
    assert not [rest for name, rest in calls if name == "mprotect" and "PROT_EXEC" in rest]


# As systemd does it for a DynamicUser=: a folder that only root and its user may enter.
SERVICE_WORLD = """
mount -t tmpfs tmpfs /etc
mkdir /etc/little-bell
echo "METRICS_TOKEN='key-of-a-test-of-units'" > /etc/little-bell/env
mount --bind /opt/app/lib /var/lib
mkdir -p -m 700 /var/lib/private
[ -e /var/lib/little-bell ] || ln -s private/little-bell /var/lib/little-bell
mkdir -p -m 700 /var/lib/private/little-bell
chown 61234:61234 /var/lib/private/little-bell
chmod 711 /var/lib/private
"""
SERVE = """
export DATABASE_URL=sqlite:/var/lib/little-bell/tracking.db
exec setpriv --reuid=61234 --regid=61234 --clear-groups /opt/little-bell/bin/little-bell serve
"""
COMMANDS = """
command=/opt/app/little-bell
$command backup /var/lib/monday.db >&2
$command restore /var/lib/monday.db >&2
$command keys create acme >&2
$command doctor >&2 || test $? = 1
setpriv --reuid=61234 --regid=61234 --clear-groups $command check >&2
echo done
"""


@in_a_world
def test_commands_of_root_leave_nothing_that_the_service_cannot_use(tmp_path: Path) -> None:
    shutil.copy(UNITS / "little-bell", tmp_path)
    (tmp_path / "lib").mkdir()
    for turn in (1, 2):
        for bell in contained(tmp_path, SERVICE_WORLD + SERVE):
            bell.start()
            assert bell.ask("POST", "/acme/emails", {}).status == (201 if turn == 1 else 401)
            os.kill(first_process(bell), 15)
            assert bell.process is not None
            assert bell.process.wait(20) == 0
        if turn == 1:
            for bell in contained(tmp_path, SERVICE_WORLD + COMMANDS):
                said = inside(bell)
                assert said.stdout == "done\n", said.stderr
                assert "LINK_POLICY" in said.stderr  # the doctor, with the service's settings:
                assert "METRICS_TOKEN" not in said.stderr
    folder = tmp_path / "lib" / "private" / "little-bell"
    assert {path.stat().st_uid for path in folder.iterdir()} == {61234}


def inside(bell: Bell) -> subprocess.CompletedProcess[str]:
    """What a script says that runs in a world, where it ends by itself."""
    return subprocess.run(
        bell.program,
        env={**os.environ, **bell.settings},
        cwd=bell.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


ROTATION = """
export DATABASE_URL=sqlite:/var/lib/little-bell/tracking.db
setpriv --reuid=61234 --regid=61234 --clear-groups /opt/little-bell/bin/little-bell serve > log &
unset DATABASE_URL
until grep -q listening log; do sleep 0.05; done
command=/opt/app/little-bell
$command secret rotate >&2
$command secret drop >&2
kill $!
wait
grep -c 'keys stay as they were' log >&2 || echo done
"""


@in_a_world
def test_root_changes_the_keys_of_a_service_that_runs(tmp_path: Path) -> None:
    """Which reads them before the command is over, as a user who may not read root's files."""
    shutil.copy(UNITS / "little-bell", tmp_path)
    (tmp_path / "lib").mkdir()
    for bell in contained(tmp_path, SERVICE_WORLD + ROTATION):
        said = inside(bell)
        assert said.stdout == "done\n", said.stderr
        assert "a new key signs" in said.stderr
    keys = tmp_path / "lib" / "private" / "little-bell" / "tracking.db.secret"
    assert (keys.stat().st_uid, keys.stat().st_mode & 0o777) == (61234, 0o600)
    assert len(keys.read_text().split()) == 1
