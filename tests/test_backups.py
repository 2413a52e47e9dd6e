"""Backups on a schedule, as deploy/systemd and docs/BACKUPS.md have it, and how they come back"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import apsw
import pytest

from access import command
from bell import Bell, read_rows, wait_until
from durable_check import check_agreement, events_in, seed
from durable_load import CLICKED, Emails, Hit, Ledger, Load
from fronts import ROOT
from programs import needs

SYSTEMD = ROOT / "deploy" / "systemd"
UNIT = (SYSTEMD / "little-bell-backup.service").read_text()
NAME = re.compile(r"little-bell-\d{8}T\d{6}Z\.db")
EMAILS = 2_000


def unit_command() -> list[str]:
    """The arguments of the unit's ExecStart."""
    [line] = re.findall(r"^ExecStart=(.*)$", UNIT, re.M)
    program, *arguments = shlex.split(line)
    assert Path(program).name == "little-bell"
    return arguments


def scheduled(bell: Bell, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the timer starts, with another folder."""
    assert "/var/backups/little-bell" in unit_command()
    arguments = [str(folder) if one.startswith("/") else one for one in unit_command()]
    return command(bell, *arguments)


def backups(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def older(folder: Path, count: int) -> list[Path]:
    """So many backups of years ago, made of one of today."""
    [today] = backups(folder)
    names = [folder / f"little-bell-2001010{n}T000000Z.db" for n in range(1, count + 1)]
    for path in names:
        shutil.copy(today, path)
        shutil.copy(f"{today}.secret", f"{path}.secret")
    return names


def test_it_works(bell: Bell) -> None:
    bell.create()
    folder = bell.folder / "backups"
    ran = command(bell, "backup", "backups", "--keep", "3")
    assert (ran.returncode, ran.stderr) == (0, "")
    [backup] = backups(folder)
    assert ran.stdout.startswith(f"backups/{backup.name}: ")
    assert (mode(folder), mode(backup), mode(Path(f"{backup}.secret"))) == (0o700, 0o600, 0o600)
    assert list(read_rows(backup, "SELECT count(*) FROM emails")) == [(1,)]
    secret = bell.database.with_name("tracking.db.secret").read_text()
    assert Path(f"{backup}.secret").read_text() == secret


def test_the_newest_are_kept(bell: Bell) -> None:
    folder = bell.folder / "backups"
    assert command(bell, "backup", "backups", "--keep", "3").returncode == 0
    [today] = backups(folder)
    old = older(folder, 4)
    others = [folder / name for name in ("monday.db", "little-bell-2001.db", "notes.txt")]
    for path in others:
        path.write_bytes(b"mine")
    time.sleep(1.01)  # names are of a second
    ran = command(bell, "backup", "backups", "--keep", "3")
    assert ran.returncode == 0
    assert [line for line in ran.stdout.splitlines() if line.endswith(": gone")] == [
        f"backups/{path.name}: gone" for path in old[:3]
    ]
    kept = backups(folder)
    assert kept[:2] == [old[3], today]
    assert len(kept) == 3
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *(path.name for path in others),
        *(name for path in kept for name in (path.name, f"{path.name}.secret")),
    }


def test_a_clock_that_ran_back_takes_the_new_one_away_from_nobody(bell: Bell) -> None:
    folder = bell.folder / "backups"
    assert command(bell, "backup", "backups", "--keep", "1").returncode == 0
    [today] = backups(folder)
    later = folder / "little-bell-29990101T000000Z.db"
    today.rename(later)
    assert command(bell, "backup", "backups", "--keep", "1").returncode == 0
    [kept] = backups(folder)
    assert kept != later


def test_a_backup_that_fails_takes_none_away(bell: Bell) -> None:
    """Where the database is damaged, and where the disk is full."""
    for _ in range(200):
        bell.create(subject="x" * 900)
    folder = bell.folder / "backups"
    assert command(bell, "backup", "backups", "--keep", "1").returncode == 0
    older(folder, 5)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    small = ["sh", "-c", 'ulimit -f 100; exec "$0" "$@"']
    program = [*small, *bell.program, "backup", "backups", "--keep", "1"]
    # No bytecode: its files would be cut off, too, and be there for whoever comes next.
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        program, cwd=bell.folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode != 0
    assert bell.stop() == 0
    size = bell.database.stat().st_size
    with bell.database.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 4))
    ran = command(bell, "backup", "backups", "--keep", "1")
    assert ran.returncode == 1
    assert "is damaged" in ran.stderr
    left = {path: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}
    assert left == before


@pytest.mark.parametrize("keep", ["0", "-1", "many", "1.5", "", "999999999"])
def test_what_is_no_number_of_backups(bell: Bell, keep: str) -> None:
    ran = command(bell, "backup", "backups", "--keep", keep)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "--keep" in ran.stderr
    assert not (bell.folder / "backups").exists()


def test_a_file_is_no_folder(bell: Bell) -> None:
    (bell.folder / "backups").write_text("dear")
    ran = command(bell, "backup", "backups", "--keep", "1")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert (bell.folder / "backups").read_text() == "dear"


def test_the_day_the_disk_is_gone(tmp_path: Path, start_bell: Callable[..., Bell]) -> None:
    """Backed up under load by the unit's own command, all lost, restored on another machine."""
    seed(tmp_path / "old" / "data" / "tracking.db", EMAILS)
    bell, ledger, shelf = Bell(tmp_path / "old"), Ledger(EMAILS), tmp_path / "shelf"
    bell.start()
    target = "https://example.com/spring"
    links = bell.get(f"/acme/click-url/7?url={quote(target, safe='')}").json
    address = links["signed_url"].removeprefix(f"http://localhost:{bell.port}")
    try:
        with Load(bell.port, ledger, Emails(EMAILS), pause=0.002):
            wait_until(lambda: bell.metrics()["answers_not_durable_total"] == 0)
            time.sleep(0.3)
            for _ in range(2):
                ran = scheduled(bell, shelf)
                assert (ran.returncode, ran.stderr) == (0, "")
            [(events,)] = read_rows(backups(shelf)[-1], "SELECT count(*) FROM events")
            time.sleep(0.2)
        last = ledger.last_issued()
    finally:
        bell.kill()
    shutil.rmtree(bell.folder)
    newest = backups(shelf)[-1]

    new = start_bell()
    assert new.stop() == 0
    shutil.rmtree(new.database.parent)
    ran = command(new, "restore", str(newest), "--skip-ids", "100000")
    assert ran.returncode == 0
    assert "keys of" in ran.stdout
    ran = command(new, "check")
    assert (ran.returncode, "all is well" in ran.stdout) == (0, True), ran.stdout
    new.start()
    # The link was signed on the machine that is gone, and neither leads elsewhere nor is unknown.
    before = new.metrics()["hits_bad_signature_total"]
    answer = new.get(address)
    assert (answer.status, answer.headers["location"]) == (302, target)
    assert new.metrics()["hits_bad_signature_total"] == before
    assert new.rows("SELECT count(*) FROM events") == [(events + 1,)]
    # Mail that went out since has ids that nobody gets again.
    assert new.create() > last
    new.stop()
    connection = apsw.Connection(str(new.database))
    check_agreement(connection)
    assert not events_in(connection) - ledger.sent - Counter([Hit(CLICKED, 7, target)])
    connection.close()
    assert command(new, "check").returncode == 0


def test_the_crontab_and_the_unit_do_the_same() -> None:
    text = (ROOT / "docs" / "BACKUPS.md").read_text()
    [line] = re.findall(r"^\d+ \d+ \* \* \* .*$", text, re.M)
    assert line.endswith(f"little-bell {shlex.join(unit_command())}")
    assert f"backup /app/data/backups --keep {unit_command()[-1]}\n" in text  # compose


@needs("systemd-analyze")
def test_the_units_are_understood(tmp_path: Path) -> None:
    for name in ("little-bell-backup.service", "little-bell-backup.timer"):
        text = (SYSTEMD / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/little-bell/bin/little-bell", "/bin/true"))
    ran = analyze("verify", "--man=no", *map(str, tmp_path.iterdir()))
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
    ran = analyze(
        "security", "--offline=yes", "--threshold=10", str(tmp_path / "little-bell-backup.service")
    )
    assert ran.returncode == 0, ran.stdout


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_PAGER": ""}
    return subprocess.run(
        ["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )
