"""A database of an older schema: nothing is lost, and what is new in it is right."""

from pathlib import Path
from typing import Any

import apsw
import pytest

from bell import dump
from little_bell.ops.check import check, rebuild
from little_bell.store import database, statements
from little_bell.store.corrections import Corrections
from little_bell.store.database import APPLICATION_ID, migrate, open_writer
from little_bell.store.edits import DONE, Edit, Edits, Finish
from little_bell.store.recount import Correction
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail, Once
from little_bell.tracking.hit import CLICK, OPEN, Hit
from test_figures import AGENTS, HOME, MINUTE, NOON, OFFICE, SECOND, URLS
from test_review import contents

DAY = 86_400_000
SAME = (  # tables that a newer schema left as they were
    "emails",
    "states",
    "agents",
    "links",
    "campaigns",
    "email_links",
    "idempotency",
    "pending",
)
EVENT = "tenant, seq, at, email, kind, flags, agent, link, address, prev, class, reasons, rules, n"
TENANT = "tenant, name, created_at, last_email, last_seq, last_agent, last_link, last_campaign"


def fill(path: Path) -> None:
    """Two tenants and some days of traffic."""
    writer = Writer(str(path))
    emails = [
        NewEmail(t, "Hi", "a@b.example", c, "{}")
        for t in ("acme", "beta")
        for c in (None, "spring", "summer")
    ]
    for i in range(3):
        once = Once(bytes([i]) * 16, bytes(16))
        writer.write(NOON + i * DAY, [*emails, emails[0]._replace(once=once)], [])
    for i in range(120):
        at = NOON + 3 * DAY // 2 * i // 50 + i % 3 * SECOND
        writer.write(
            at,
            [],
            [
                Hit(
                    1 + i % 2,
                    1 + i % 7,
                    (OPEN, CLICK, CLICK)[j],
                    at + j * MINUTE * (i % 4),
                    0,
                    AGENTS[(i + j) % len(AGENTS)],
                    (HOME, OFFICE)[i // 9 % 2],
                    URLS[(i + j) % len(URLS)] if j else None,
                )
                for j in range(3)
            ],
        )
    writer.close()


POLICY = (None,) * 6  # columns of tenants behind the version of their rules


def older(newer: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as a program of schema 2 would have left it."""
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:2])
        connection = open_writer(str(path))
        assert migrate(connection) == 2
    connection.execute("ATTACH ? AS newer", (str(newer),))
    for table in SAME:
        connection.execute(f"INSERT INTO {table} SELECT * FROM newer.{table}")
    for table, columns in (("events", EVENT), ("tenants", TENANT)):
        connection.execute(f"INSERT INTO {table} SELECT {columns} FROM newer.{table}")
    connection.execute("INSERT INTO figures SELECT * FROM newer.figures WHERE scope < 3")
    connection.execute("DETACH newer")
    connection.close()


class Two:
    """The database of an older program, and what a newer one would have made of the same."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.newer, self.older = folder / "newer.db", folder / "older.db"
        fill(self.newer)
        older(self.newer, self.older, monkeypatch)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Two:
    return Two(tmp_path, monkeypatch)


def schema(path: Path) -> set[tuple[Any, ...]]:
    connection = apsw.Connection(str(path))
    try:
        found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
        return set(found.fetchall())
    finally:
        connection.close()


def test_figures_by_day_follow_and_nothing_is_lost(two: Two) -> None:
    Writer(str(two.older)).close()
    before, after = contents(two.newer), contents(two.older)
    for table in SAME:
        assert after[table] == before[table], table
    for table in ("figures", "days"):
        assert after[table] == [row for row in before[table] if row[1] < 3] != [], table
    assert len({row[3] for row in after["days"]}) > 2, "all is of one day"
    assert after["events"] == [(*row[:-2], None, None) for row in before["events"]] != []
    rules = -1 - len(POLICY)
    assert after["tenants"] == [(*row[:rules], 1, *POLICY) for row in before["tenants"]]
    assert after["balances"] == after["unfinished"] == []
    assert schema(two.older) == schema(two.newer)
    assert check(str(two.older)).problems == []


def test_a_check_before_the_upgrade_changes_nothing(two: Two) -> None:
    before = dump(two.older)
    found = check(str(two.older))
    assert (found.emails, found.problems) == (21, [])
    assert dump(two.older) == before


def test_opens_and_edits_go_on_behind_it(two: Two) -> None:
    writers = [Writer(str(path)) for path in (two.newer, two.older)]
    at = NOON + 9 * DAY
    for writer in writers:
        hits = [Hit(1, 2, CLICK, at + i, 0, AGENTS[0], HOME, URLS[i % 2]) for i in range(4)]
        writer.write(at, [NewEmail("acme", None, None, "spring", None)], hits)
        change = Change(frozenset({"campaign"}), campaign="summer")
        edits = Edits([Edit("acme", 2, change), Edit("acme", 3, None), Edit("beta", 0, None)])
        writer.write(at, [], hits, edits)
        assert [edit.outcome for edit in edits.edits] == [DONE] * 3
        while writer.memory.unfinished:
            rest = next(iter(writer.memory.unfinished.values()))
            writer.write(at, [], [], Finish(rest))
        writer.close()
    newer, older_ = contents(two.newer), contents(two.older)
    for table in ("figures", "days", "balances"):
        assert [row for row in newer[table] if row[1] < 3] == [
            row for row in older_[table] if row[1] < 3
        ]
    for path in (two.newer, two.older):
        assert check(str(path)).problems == []


def test_a_rebuild_finds_the_clients(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the older program did not know, once newer rules judge."""
    version = 99
    for module in ("store.transaction", "store.review", "ops.check"):
        monkeypatch.setattr(f"little_bell.{module}.VERSION", version)
    writer = Writer(str(two.older))

    def correct(corrections: list[Correction]) -> int:
        job = Corrections(corrections)
        writer.write(NOON, [], [], job)
        return job.moved

    assert rebuild(str(two.older), correct).problems == []
    writer.close()
    newer, older_ = contents(two.newer), contents(two.older)
    for table in ("figures", "days", "states", "email_links"):
        assert older_[table] == newer[table], table
    assert {row[12] for row in older_["events"]} == {version}
    assert [(*row[:12], *row[13:]) for row in older_["events"]] == [
        (*row[:12], *row[13:]) for row in newer["events"]
    ]
    assert {row[-1 - len(POLICY)] for row in older_["tenants"]} == {version}


def test_a_migration_that_fails_changes_nothing(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    before, told = dump(two.older), schema(two.older)

    def broken(name: str) -> str:
        return statements.read_text(name) + "INSERT INTO nowhere VALUES (1);"

    with monkeypatch.context() as patch:
        patch.setattr(database, "read_text", broken)
        connection = open_writer(str(two.older))
        with pytest.raises(apsw.SQLError):
            migrate(connection)
        assert connection.pragma("user_version") == 2
        assert connection.pragma("application_id") == APPLICATION_ID
        connection.close()
    assert (dump(two.older), schema(two.older)) == (before, told)
    Writer(str(two.older)).close()
    assert check(str(two.older)).problems == []
