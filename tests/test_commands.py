"""Commands beside a running server: check, rebuild, backup, restore"""

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from bell import BROWSER, Bell, dump, read_rows, wait_until
from durable_check import check as check_all
from durable_check import check_agreement, seed
from durable_load import Emails, Ledger, Load
from programs import run

EMAILS = 3_000

# Each ruins something that follows from the log.
DAMAGES = (
    "UPDATE figures SET opens = opens + 3",
    "UPDATE figures SET unique_opens = 0, inferred_opens = 7 WHERE scope = 0",
    "DELETE FROM figures",
    "INSERT INTO figures VALUES (1, 1, 77, 12345, 0, 1, 0, 1, 0, 0, 0, 0)",
    "UPDATE states SET opens = 99, first_open = 5 WHERE email % 3 = 0",
    "UPDATE states SET first_click = NULL, last_click = NULL, clicks = 0",
    "UPDATE states SET head_open = NULL WHERE email % 2 = 0",
    "UPDATE states SET flags = 1 WHERE email % 5 = 0",
    "DELETE FROM email_links WHERE email % 2 = 0",
    "INSERT INTO email_links SELECT tenant, email, 99, 1, 0, 5 FROM states WHERE email % 7 = 0",
    "UPDATE email_links SET first_click = 1",
)


def traffic(bell: Bell, emails: int = 60) -> None:
    """Emails with opens and clicks, some of machines."""
    for n in range(1, emails + 1):
        bell.create(campaign=f"c{n % 3}")
    for n in range(1, emails + 1):
        for _ in range(n % 4):
            bell.get(f"/acme/pixel/{n}.gif")
        if n % 5 == 0:
            bell.ask("GET", f"/acme/pixel/{n}.gif")
        for link in range(n % 3):
            bell.get(f"/acme/click/{n}?url=https%3A%2F%2Fexample.com%2F{link}")


def ruin(database: Path, *statements: str) -> None:
    """Change rows behind the server's back."""
    connection = sqlite3.connect(database, timeout=20)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def agrees(database: Path) -> None:
    connection = apsw.Connection(str(database))
    try:
        check_agreement(connection)
    finally:
        connection.close()


def files(bell: Bell) -> set[str]:
    return {path.name for path in bell.database.parent.iterdir()}


@pytest.fixture
def bell(start_bell: Callable[..., Bell]) -> Bell:
    """A server to which a click is a person's, however soon."""
    return start_bell(INSTANT_SECONDS="0")


# check


def test_check_finds_nothing_where_all_is_well(bell: Bell) -> None:
    traffic(bell)
    before = files(bell)
    ran = run(bell.folder, "check")
    assert (ran.returncode, ran.stderr) == (0, "")
    [(events,)] = bell.rows("SELECT count(*) FROM events")
    assert ran.stdout == f"60 emails and {events} events counted: all is well\n"
    assert files(bell) == before


def test_check_without_a_server(bell: Bell) -> None:
    traffic(bell, 10)
    assert bell.stop() == 0
    assert run(bell.folder, "check").returncode == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_check_finds_each_damage_and_changes_nothing(bell: Bell, damage: str) -> None:
    traffic(bell)
    ruin(bell.database, damage)
    before = dump(bell.database)
    ran = run(bell.folder, "check")
    assert ran.returncode == 1
    assert "not what the log says" in ran.stdout
    assert ran.stdout.endswith("problems were found\n")
    assert dump(bell.database) == before


def test_check_says_what_no_rebuild_can_mend(bell: Bell) -> None:
    traffic(bell, 10)
    ruin(
        bell.database,
        "UPDATE events SET email = 99 WHERE seq = 1",
        "UPDATE events SET prev = 1 WHERE seq = 5",
        "DELETE FROM states WHERE email = 4",
        "UPDATE tenants SET last_email = 3",
    )
    ran = run(bell.folder, "check")
    assert ran.returncode == 1
    for words in ("belong to no email", "event before them", "no state", "twice for acme"):
        assert words in ran.stdout


@pytest.mark.parametrize("first", [1, 16])  # the schema as well, or the end alone
def test_check_finds_pages_that_were_overwritten(bell: Bell, first: int) -> None:
    traffic(bell, 200)
    assert bell.stop() == 0
    with bell.database.open("r+b") as file:
        for page in range(first, bell.database.stat().st_size // 2048, 3):
            file.seek(2048 * page)
            file.write(b"\xff" * 512)
    ran = run(bell.folder, "check")
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert ran.stdout + ran.stderr
    ran = run(bell.folder, "rebuild")
    assert ran.returncode == 1
    assert "restore a backup" in ran.stderr


def test_check_of_another_programs_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    other = sqlite3.connect(tmp_path / "data" / "tracking.db")
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    ran = run(tmp_path, "check")
    assert ran.returncode == 3
    assert "another program" in ran.stderr


@pytest.mark.parametrize("command", [("check",), ("rebuild",), ("backup", "x.db")])
def test_commands_without_a_database(tmp_path: Path, command: tuple[str, ...]) -> None:
    ran = run(tmp_path, *command)
    assert ran.returncode == 1
    assert "there is no database" in ran.stderr
    assert list(tmp_path.iterdir()) == []


# rebuild


@pytest.mark.parametrize("beside", [True, False])
def test_rebuild_mends_every_damage(bell: Bell, beside: bool) -> None:
    traffic(bell)
    before = dump(bell.database)
    ruin(bell.database, *DAMAGES[3:], *DAMAGES[:3])
    if not beside:
        assert bell.stop() == 0
    ran = run(bell.folder, "rebuild")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not ran.stdout.startswith("0 ")
    after = dump(bell.database)
    after["figures"] = [row for row in after["figures"] if any(row[4:])]
    assert after == before
    agrees(bell.database)
    assert run(bell.folder, "check").returncode == 0


def test_rebuild_changes_nothing_where_all_is_well(bell: Bell) -> None:
    traffic(bell)
    before = dump(bell.database)
    ran = run(bell.folder, "rebuild")
    assert (ran.returncode, ran.stdout) == (0, "0 rows corrected; counted once\n")
    assert dump(bell.database) == before


@pytest.fixture
def seeded(tmp_path: Path, start_bell: Callable[..., Bell]) -> Bell:
    """A server with emails that were sent an hour ago."""
    folder = tmp_path / "bell0"
    seed(folder / "data" / "tracking.db", EMAILS)
    return Bell(folder)


def test_rebuild_while_opens_go_on(seeded: Bell, soak: bool) -> None:
    """Nothing answered is lost, and in the end every row is right."""
    chance = random.Random(5)
    bell, ledger = seeded.start(), Ledger(EMAILS)
    try:
        with Load(bell.port, ledger, Emails(EMAILS), pause=0.002):
            for _ in range(20 if soak else 3):
                time.sleep(0.3)
                ruin(bell.database, *chance.sample(DAMAGES, 4))
                ran = run(bell.folder, "rebuild")
                assert "Traceback" not in ran.stderr
        assert run(bell.folder, "rebuild").returncode == 0
        assert ledger.answered == ledger.sent
        check_all(bell.database, ledger)
        assert bell.stop() == 0
        check_all(bell.database, ledger)
    finally:
        bell.end()


def test_corrections_are_not_for_the_network(bell: Bell) -> None:
    assert bell.ask("POST", "/corrections", "[]").status == 405


# backup


def test_backup_while_opens_go_on(seeded: Bell) -> None:
    """Each backup is whole, agrees with itself, and holds what was answered before it began."""
    bell, ledger = seeded.start(), Ledger(EMAILS)
    try:
        with Load(bell.port, ledger, Emails(EMAILS), pause=0.002):
            for n in range(4):
                time.sleep(0.2)
                [(before,)] = bell.rows("SELECT count(*) FROM events")
                ran = run(bell.folder, "backup", f"copy{n}.db")
                assert (ran.returncode, ran.stderr) == (0, "")
                copy = bell.folder / f"copy{n}.db"
                said = ran.stdout.splitlines()
                assert said[0] == f"copy{n}.db: {copy.stat().st_size:,} bytes"
                assert said[1].startswith(f"copy{n}.db.secret: ")
                agrees(copy)
                [(events,)] = list(read_rows(copy, "SELECT count(*) FROM events"))
                assert events >= before > 0 or n == 0
        assert ledger.answered == ledger.sent
    finally:
        bell.end()


def test_a_backup_replaces_an_older_one_and_is_its_owners_alone(bell: Bell) -> None:
    traffic(bell, 5)
    target = bell.folder / "copy.db"
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    bell.create()
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(read_rows(target, "SELECT count(*) FROM emails")) == [(6,)]
    names = {path.name for path in bell.folder.iterdir()}
    assert names == {"copy.db", "copy.db.secret", "data", "stdout.log", "stderr.log"}


def test_backup_overwrites_nothing_but_backups(bell: Bell) -> None:
    traffic(bell, 5)
    (bell.folder / "letter.txt").write_text("dear")
    (bell.folder / "link.db").symlink_to(bell.database)
    before = dump(bell.database)
    for target in ("letter.txt", "data", "data/tracking.db", "link.db", "nowhere/copy.db"):
        ran = run(bell.folder, "backup", target)
        assert ran.returncode == 1, target
        assert ran.stderr.count("\n") == 1
    assert (bell.folder / "letter.txt").read_text() == "dear"
    assert dump(bell.database) == before


# restore


def test_restore_brings_a_backup_back(bell: Bell) -> None:
    traffic(bell, 20)
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    saved = dump(bell.database)
    traffic(bell, 7)
    bell.create("latecomer")
    later = dump(bell.database)
    bell.kill()  # its write-ahead log must not be played into what comes
    ran = run(bell.folder, "restore", "copy.db")
    assert (ran.returncode, ran.stderr) == (0, "")
    [kept] = [line.split()[-1] for line in ran.stdout.splitlines() if "before" in line]
    assert dump(Path(kept)) == later
    bell.start()
    now = dump(bell.database)
    assert {name: rows for name, rows in now.items() if name != "tenants"} == {
        name: rows for name, rows in saved.items() if name != "tenants"
    }
    # Ids that went out since are not used again.
    assert bell.create() == 28
    assert bell.create("latecomer") == 2
    assert bell.get("/acme/pixel/25.gif").status == 200
    assert bell.rows("SELECT count(*) FROM events WHERE email = 25") == [(0,)]
    agrees(bell.database)


def test_restore_on_a_new_machine(bell: Bell, start_bell: Callable[..., Bell]) -> None:
    traffic(bell, 5)
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    other = start_bell()
    assert other.stop() == 0
    shutil.rmtree(other.database.parent)
    shutil.move(bell.folder / "copy.db", other.folder / "copy.db")
    ran = run(other.folder, "restore", "copy.db")
    assert ran.returncode == 0
    assert "--skip-ids" in ran.stdout
    ran = run(other.folder, "restore", "copy.db", "--skip-ids", "1000")
    assert ran.returncode == 0
    other.start()
    assert other.create() == 1006


def test_restore_beside_a_running_server_is_refused(bell: Bell) -> None:
    traffic(bell, 5)
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    before = dump(bell.database)
    ran = run(bell.folder, "restore", "copy.db")
    assert ran.returncode == 3
    assert f"process {bell.pid}" in ran.stderr
    assert dump(bell.database) == before


def test_restore_takes_only_whole_backups(bell: Bell) -> None:
    traffic(bell, 100)
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    assert bell.stop() == 0
    before = bell.database.read_bytes()
    good = (bell.folder / "copy.db").read_bytes()
    (bell.folder / "half.db").write_bytes(good[: len(good) // 2])
    (bell.folder / "bent.db").write_bytes(good[:20480] + b"\xff" * 4096 + good[24576:])
    (bell.folder / "letter.txt").write_text("dear")
    with closing(sqlite3.connect(bell.folder / "other.db")) as foreign:
        foreign.execute("CREATE TABLE mine (x)")
    for source in ("half.db", "bent.db", "letter.txt", "other.db", "nothing.db", "data"):
        ran = run(bell.folder, "restore", source)
        assert ran.returncode in (1, 3), source
        assert ran.stderr.count("\n") == 1, ran.stderr
        assert bell.database.read_bytes() == before
    left = {"tracking.db", "tracking.db.lock", "tracking.db.secret"}
    assert files(bell) == {*left, "tracking.db.backed-up"}


def test_restore_in_place_of_a_ruined_database(bell: Bell) -> None:
    traffic(bell, 20)
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    bell.kill()
    bell.database.write_bytes(b"\0" * 100_000)
    assert run(bell.folder, "restore", "copy.db", "--skip-ids=10").returncode == 0
    bell.start()
    assert bell.create() == 31
    agrees(bell.database)


# The command line


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup",),
        ("restore",),
        ("backup", "a", "b"),
        ("check", "x"),
        ("backup", "a", "--skip-ids", "4"),
        ("restore", "a", "--skip-ids"),
        ("chek",),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = run(tmp_path, *arguments)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_ids_that_is_none(tmp_path: Path) -> None:
    ran: Any = run(tmp_path, "restore", "a", "--skip-ids", "many")
    assert (ran.returncode, list(tmp_path.iterdir())) == (1, [])


# What a review found


def test_a_backup_ends_although_commits_go_on(bell: Bell) -> None:
    """A copy that began again after each commit would never end."""
    body = "".join(f'{{"subject": "{n:0900}"}}\n' for n in range(20_000))
    answer = bell.ask("POST", "/acme/emails", body, {"Content-Type": "application/x-ndjson"})
    assert answer.status == 201
    with Load(bell.port, Ledger(20_000), Emails(20_000), pause=0.001):
        ran = run(bell.folder, "backup", "copy.db")
    assert (ran.returncode, ran.stderr) == (0, "")
    agrees(bell.folder / "copy.db")


LATER_TABLES = (
    *("keys", "optouts", "blocks", "closed_states", "closed_links", "erasures"),
    "imports",
)
POLICY = ("consent", "addresses", "gpc", "retention_days", "hosts", "salt")


def test_check_of_a_file_with_an_older_schema(bell: Bell) -> None:
    traffic(bell, 10)
    assert bell.stop() == 0
    ruin(
        bell.database,
        "DROP TABLE pending",
        "DROP TABLE idempotency",
        "DROP TABLE days",
        "DROP TABLE balances",
        "DROP TABLE unfinished",
        "DROP INDEX emails_by_recipient",
        "DROP INDEX states_by_campaign",
        *(f"DROP TABLE {table}" for table in LATER_TABLES),
        *(f"ALTER TABLE tenants DROP COLUMN {column}" for column in POLICY),
        "ALTER TABLE events DROP COLUMN campaign",
        "ALTER TABLE events DROP COLUMN client",
        "ALTER TABLE tenants DROP COLUMN rules",
        "DELETE FROM figures WHERE scope = 3",
        "UPDATE events SET rules = 1",
        "PRAGMA user_version = 1",
    )
    ran = run(bell.folder, "check")
    assert (ran.returncode, ran.stderr) == (0, "")
    ran = run(bell.folder, "rebuild")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_restore_where_the_database_is_gone_and_its_write_ahead_log_is_not(bell: Bell) -> None:
    traffic(bell, 20)
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    traffic(bell, 7)
    bell.kill()
    assert Path(f"{bell.database}-wal").stat().st_size > 0
    bell.database.unlink()
    assert run(bell.folder, "restore", "copy.db", "--skip-ids=7").returncode == 0
    bell.start()
    assert bell.rows("SELECT count(*) FROM emails") == [(20,)]
    assert bell.create() == 28
    agrees(bell.database)


def test_what_was_there_before_a_restore_is_one_whole_file(bell: Bell) -> None:
    traffic(bell, 20)
    assert run(bell.folder, "backup", "copy.db").returncode == 0
    traffic(bell, 7)
    later = dump(bell.database)
    bell.kill()
    ran = run(bell.folder, "restore", "copy.db")
    [kept] = [line.split()[-1] for line in ran.stdout.splitlines() if line.startswith("what")]
    assert not Path(f"{kept}-wal").exists()
    bell.start()  # and writes nothing into it
    bell.create()
    assert dump(Path(kept)) == later


def test_backup_leaves_databases_of_others_alone(
    bell: Bell, start_bell: Callable[..., Bell]
) -> None:
    other = start_bell()
    other.create()
    before = dump(other.database)
    foreign = sqlite3.connect(bell.folder / "mine.db")
    foreign.execute("CREATE TABLE mine (x)")
    foreign.close()
    for target in (str(other.database), "mine.db"):
        ran = run(bell.folder, "backup", target)
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), target
    assert dump(other.database) == before


def test_files_of_commands_that_were_killed_go_with_the_next(bell: Bell) -> None:
    traffic(bell, 3)
    gone = subprocess.Popen(["true"])
    gone.wait()
    stale = bell.database.parent / f".little-bell-{gone.pid}-x"
    ours = bell.database.parent / f".little-bell-{os.getpid()}-x"
    for path in (stale, ours):
        path.write_text("x")
    assert run(bell.folder, "check").returncode == 0
    assert (stale.exists(), ours.exists()) == (False, True)


def test_corrections_of_any_size_come_through(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_BODY_BYTES="1024")
    traffic(bell)
    before = dump(bell.database)
    ruin(bell.database, *DAMAGES)
    assert run(bell.folder, "rebuild").returncode == 0
    agrees(bell.database)
    assert dump(bell.database)["states"] == before["states"]


# Judging again


OLD = "UPDATE events SET rules = 1, client = NULL, class = 3, reasons = 128"


def judgements(bell: Bell) -> list[tuple[Any, ...]]:
    return bell.rows("SELECT seq, class, reasons, client, rules FROM events ORDER BY seq")


def test_a_server_judges_again_what_older_rules_judged_while_it_serves(bell: Bell) -> None:
    bell.create(campaign="spring")
    for agent in ("Mozilla/5.0", BROWSER, "curl/8.0", "Something/1.0"):
        bell.get("/acme/pixel/1.gif", User_Agent=agent)
        bell.get("/acme/click/1?url=https://x.example/", User_Agent=agent)
    right, before = judgements(bell), dump(bell.database)
    assert bell.stop() == 0
    ruin(bell.database, OLD, "UPDATE tenants SET rules = 1")
    ruin(bell.database, "DELETE FROM figures WHERE scope = 3", "DELETE FROM days WHERE scope = 3")
    bell.start()
    assert judgements(bell) != right
    begun = time.monotonic()
    while bell.rows("SELECT min(rules) FROM tenants") == [(1,)]:
        assert bell.get("/health").status == 200
        assert time.monotonic() - begun < 60
        time.sleep(0.1)
    assert judgements(bell) == right
    after = dump(bell.database)
    assert {name: rows for name, rows in after.items() if name not in ("figures", "days")} == {
        name: rows for name, rows in before.items() if name not in ("figures", "days")
    }
    for name in ("figures", "days"):  # rows of zeros may be left
        assert [row for row in after[name] if any(row[4:])] == before[name]
    wait_until(lambda: any("rules of today" in line["message"] for line in bell.lines()))
    assert run(bell.folder, "check").returncode == 0
    assert bell.stop() == 0
    known = len(bell.lines())
    bell.start()
    time.sleep(3)
    assert not [line for line in bell.lines()[known:] if "judged" in line["message"]]
