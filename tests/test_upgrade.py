"""A start on the database of an older program: clients wait, and not for long"""

import socket
import sqlite3
import time
from pathlib import Path

import pytest

from bell import Bell, raw_request, wait_until
from little_bell import __version__
from little_bell.store import database
from little_bell.store.database import APPLICATION_ID, MIGRATIONS, migrate, open_writer
from little_bell.store.statements import read_text
from little_bell.tracking.rules import VERSION

STEPS = 50  # instructions of SQLite's machine between two counts


def first_schema(path: Path, emails: int, events: int) -> None:
    """A database of the first schema, made by its own statements."""
    connection = open_writer(str(path))
    connection.execute("BEGIN")
    connection.execute(read_text("migrations/0001_first.sql"))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", 1)
    begun = int(time.time() * 1000) - 30 * 86_400_000
    connection.execute(
        "INSERT INTO tenants VALUES (1, 'acme', ?, ?, ?, 1, 0, 20)", (begun, emails, events)
    )
    connection.execute("INSERT INTO agents VALUES (1, 1, 'Mozilla/5.0')")
    numbers = "WITH RECURSIVE k (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < ?1) "
    for statement, values in (
        ("emails SELECT 1, n, 'News ' || n, 'r' || n * 7919 % ?1 || '@b.example', NULL", (emails,)),
        (
            "states (tenant, email, created_at, campaign, machine_opens) "
            "SELECT 1, n, ?2, 1 + n % 20, ?3 / ?1",
            (emails, begun, events),
        ),
        (
            "events SELECT 1, n, ?2 + n, 1 + n % ?3, 0, 0, 1, NULL, x'0a0b0c', NULL, 2, 1, 1, NULL",
            (events, begun, emails),
        ),
        ("figures SELECT 1, 0, 0, ?2 / 900000 + n, 1, 0, 9, 0, 0, 0, 0, 0", (2880, begun)),
    ):
        connection.execute(f"{numbers} INSERT INTO {statement} FROM k", values)
    connection.execute("COMMIT")
    connection.close()


def instructions(path: Path) -> int:
    """How much SQLite has to do to bring a file up to date, whatever the machine and its load."""
    count = 0

    def more() -> bool:
        nonlocal count
        count += STEPS
        return False

    connection = open_writer(str(path))
    connection.set_progress_handler(more, STEPS)
    migrate(connection)
    connection.close()
    return count


def test_what_an_upgrade_has_to_do_grows_with_the_rows_alone(tmp_path: Path) -> None:
    found = []
    for rows in (5_000, 20_000):
        path = tmp_path / f"{rows}.db"
        first_schema(path, rows, 10 * rows)
        found.append(instructions(path))
    assert found[1] > 10 * 20_000, "it was not counted"
    assert found[1] < 4.5 * found[0]
    # Measured: some 75 for each event with its tenth of an email (docs/UPGRADING.md has seconds).
    assert found[1] < 150 * 200_000


def test_the_newest_step_reads_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds a step that does has to measure it, and to say in UPGRADING.md what it takes."""
    path = tmp_path / "x.db"
    first_schema(path, 2_000, 20_000)
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", MIGRATIONS[:-1])
        instructions(path)
    assert instructions(path) < 2_000


def test_clients_wait_while_the_database_is_brought_up_to_date(tmp_path: Path) -> None:
    """Somebody holds the file, so that the upgrade lasts: who connects is not refused."""
    bell = Bell(tmp_path, None, PORT="0", HOST=f"unix:{tmp_path}/bell.sock")
    bell.database.parent.mkdir()
    first_schema(bell.database, 10, 100)
    holder = sqlite3.connect(bell.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    def said(text: str) -> bool:
        return text in bell.log_file.read_text()

    bell.start_seconds = 0.0
    with pytest.raises(AssertionError, match="did not start"):
        bell.start()
    try:
        wait_until(lambda: said("The database is brought up to date; clients wait"))

        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        wait_until(lambda: client.connect_ex(f"{tmp_path}/bell.sock") == 0)
        client.sendall(raw_request("/acme/pixel/5.gif"))
        assert not said("is listening")
        holder.execute("ROLLBACK")
        assert client.recv(64).startswith(b"HTTP/1.1 200 OK")
        client.close()
        wait_until(lambda: bell.rows("SELECT count(*) FROM events") == [(101,)])
        assert said('"schema": 1, "to": ')
    finally:
        holder.close()
        bell.end()


def test_the_table_of_versions_is_of_today() -> None:
    text = (Path(__file__).parent.parent / "docs" / "UPGRADING.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert f"{__version__} (unreleased)" == rows[-1][0] or __version__ == rows[-1][0]
    assert rows[-1][1:] == [str(len(MIGRATIONS)), str(VERSION)]
    steps = {row[0] for row in rows}
    assert {str(number) for number in range(2, len(MIGRATIONS) + 1)} <= steps
