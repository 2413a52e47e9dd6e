"""Judging again: what older rules judged ends as if today's had judged it from the start."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batches import check_file
from bell import Bell, dump
from durable_check import check as check_all
from durable_load import Emails, Ledger, Load
from little_bell.ops import check as check_module
from little_bell.ops.check import check, rebuild
from little_bell.store import clicks, memory, review, transaction
from little_bell.store.corrections import Corrections
from little_bell.store.edits import Edit, Edits, Finish
from little_bell.store.memory import Limits
from little_bell.store.recount import (
    DAYS,
    EMAIL_LINK,
    EVENT,
    FIGURE,
    MARK,
    Correction,
    Recount,
)
from little_bell.store.writer import Writer
from little_bell.tracking.classify import BURST, INSTANT, Verdict
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, OPEN, PREFETCH, RELAY, Hit
from little_bell.tracking.rules import HUMAN, MACHINE, PROXY, UNKNOWN
from programs import run
from test_commands import EMAILS, ruin, seeded, traffic
from test_figures import HOME, MINUTE, NOON, OFFICE, SECOND, URLS

__all__ = ["seeded"]  # a fixture

OLD = {
    "phone": Verdict(HUMAN, "old", 1, 0),
    "robot": Verdict(MACHINE, "old", 2, 0),
    "proxy": Verdict(PROXY, "old", 4, 0),
    "thing": Verdict(UNKNOWN, "old", 8, 0),
}
NEW = {
    "phone": Verdict(MACHINE, "new", 16, 7),  # a person's turns out a machine's
    "robot": Verdict(HUMAN, "new", 32, 8),  # and the other way round
    "proxy": Verdict(PROXY, "new", 4, 9),  # what client it was is known now
    "thing": Verdict(UNKNOWN, "new", 8, 7),
}
CAMPAIGNS = (None, "spring", "summer")
LIMITS = Limits(agents_per_hour=4)  # a fifth user agent is (other)


class Rules:
    """Which rules judge, everywhere that rules are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def use(self, version: int) -> None:
        def judge(user_agent: str) -> Verdict:
            if version == 1:  # clients were not known, and columns for them were empty
                return OLD.get(user_agent, OLD["thing"])._replace(client=None)  # type: ignore[arg-type]
            return NEW.get(user_agent, NEW["thing"])

        for module in (transaction, clicks, review, check_module):
            if hasattr(module, "VERSION"):
                self.monkeypatch.setattr(module, "VERSION", version)
        for module in (memory, review):
            self.monkeypatch.setattr(module, "classify_agent", judge)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Rules:
    return Rules(monkeypatch)


def contents(path: Path | str) -> dict[str, Any]:
    found: dict[str, Any] = dict(dump(Path(path)))
    for table in ("figures", "days", "balances"):
        found[table] = [row for row in found[table] if any(row[4:])]
    return found


class Pair:
    """The same traffic on a database that older rules judged in the beginning, and on another
    that newer ones judged from the start."""

    def __init__(self, folder: Path, rules: Rules, seed: int) -> None:
        self.rules = rules
        self.chance = random.Random(seed)
        self.at = NOON
        self.paths = (str(folder / "old.db"), str(folder / "new.db"))
        rules.use(1)
        self.old = Writer(self.paths[0], LIMITS)
        rules.use(2)
        self.new = Writer(self.paths[1], LIMITS)
        self.version = 1
        emails = [NewEmail("acme", None, None, c, None) for c in CAMPAIGNS for _ in "abc"]
        # So that both know the same user agents.
        first = [self.hit(tenant, 1, OPEN, agent, 0) for tenant in (1, 2) for agent in NEW]
        self.tick([*emails, *[one._replace(tenant="beta") for one in emails]], [])
        self.tick([], first)

    def hit(self, tenant: int, email: int, kind: int, agent: str, back: int) -> Hit:
        chance = self.chance
        return Hit(
            tenant,
            email,
            kind,
            self.at - back,
            chance.choice((0, 0, 0, PREFETCH, RELAY)),
            agent,
            chance.choice((HOME, HOME, OFFICE)),
            chance.choice(URLS) if kind == CLICK else None,
        )

    def some_hit(self) -> Hit:
        chance = self.chance
        return self.hit(
            chance.choice((1, 1, 2)),
            chance.choice((1, 2, 5, 5, 5, 8, 9)),
            chance.choice((OPEN, CLICK, CLICK)),
            chance.choice((*NEW, "something else")),
            chance.choice((0, 0, 0, SECOND, 8 * SECOND, 20 * MINUTE)),
        )

    def tick(
        self, emails: list[NewEmail], hits: list[Hit], edit: Callable[[], Edits] | None = None
    ) -> None:
        self.at += self.chance.choice((2, 5, 20)) * SECOND
        for writer, version in ((self.old, self.version), (self.new, 2)):
            self.rules.use(version)
            writer.write(self.at, emails, hits, edit and edit())

    def some_ticks(self, n: int) -> None:
        for _ in range(n):
            self.tick([], [self.some_hit() for _ in range(self.chance.randint(0, 5))])

    def move(self) -> None:
        """An email goes to another campaign, in both."""
        change = Change(frozenset({"campaign"}), campaign=self.chance.choice(CAMPAIGNS))
        email = self.chance.choice((1, 5, 8))
        self.tick([], [self.some_hit()], lambda: Edits([Edit("acme", email, change)]))

    def upgrade(self) -> None:
        """The newer program starts on what the older one left."""
        self.close()
        self.version = 2
        self.rules.use(2)
        self.old, self.new = (Writer(path, LIMITS) for path in self.paths)

    def agree(self) -> None:
        """Nothing tells one from the other."""
        old, new = (contents(path) for path in self.paths)
        for table in new:
            assert old[table] == new[table], table

    def close(self) -> None:
        self.old.close()
        self.new.close()


def judged_by(writer: Writer) -> list[int]:
    rows = writer.connection.execute("SELECT rules FROM tenants ORDER BY tenant").fetchall()
    return [int(str(rules)) for (rules,) in rows]


@pytest.mark.parametrize("live", [False, True], ids=["alone", "beside a writer"])
def test_in_the_end_it_is_as_if_newer_rules_had_judged_from_the_start(
    tmp_path: Path, rules: Rules, live: bool, monkeypatch: pytest.MonkeyPatch, soak: bool
) -> None:
    monkeypatch.setattr(check_module, "AT_ONCE", 7)
    for seed in range(200 if soak else 12):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        pair = Pair(folder, rules, seed)
        marked = False
        turns = 60 if live else 0

        def correct(corrections: list[Correction], pair: Pair = pair, seed: int = seed) -> int:
            """As the server does between two of its ticks."""
            nonlocal turns, marked
            assert not marked
            for _ in range(2):
                if turns and pair.chance.random() < 0.5:
                    turns -= 1
                    pair.some_ticks(1)
                    if pair.chance.random() < 0.2:
                        pair.move()
            job = Corrections(corrections)
            hits = [pair.some_hit()] if turns and pair.chance.random() < 0.3 else []
            assert judged_by(pair.old) == [1, 1], seed
            marked = corrections[0].table == MARK
            pair.old.write(pair.at, [], hits, job)
            pair.new.write(pair.at, [], hits)
            return job.moved

        try:
            pair.some_ticks(40)
            pair.move()
            pair.upgrade()
            assert check(pair.paths[0]).problems == []
            pair.some_ticks(10)  # newer rules judge what older ones began
            done = rebuild(pair.paths[0], correct)
            while not marked:  # a row changed in every round
                turns = 0
                done = rebuild(pair.paths[0], correct)
            assert done.problems == []
            assert judged_by(pair.old) == [2, 2]
            pair.agree()
            before = dump(Path(pair.paths[0]))
            marked = False
            again = rebuild(pair.paths[0], lambda found: found[0].table == MARK and 0)
            assert (again.corrected, again.rounds, again.problems) == (0, 1, [])
            assert dump(Path(pair.paths[0])) == before
            turns = 0
            pair.some_ticks(10)
            pair.agree()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        finally:
            pair.close()
        check_file(Path(pair.paths[0]))


def test_a_burst_marks_what_older_rules_judged_and_leaves_it_to_be_judged_anew(
    tmp_path: Path, rules: Rules
) -> None:
    pair = Pair(tmp_path, rules, 1)
    try:
        two, third = [
            [
                Hit(1, 5, CLICK, pair.at + 5 * MINUTE + n, 0, agent, HOME, URLS[n])
                for n, agent in some
            ]
            for some in ([(0, "phone"), (1, "robot")], [(2, "proxy")])
        ]
        pair.tick([], two)
        pair.upgrade()
        pair.tick([], third)
        query = "SELECT class, reasons & ?, rules FROM events WHERE email = 5 AND kind = 1"
        assert pair.old.connection.execute(query, (BURST,)).fetchall() == [
            (MACHINE, BURST, 1),
            (MACHINE, BURST, 1),
            (MACHINE, BURST, 2),
        ]
        rebuild(pair.paths[0], correct_with(pair.old))
        pair.agree()
    finally:
        pair.close()


def correct_with(writer: Writer) -> Callable[[list[Correction]], int]:
    def correct(corrections: list[Correction]) -> int:
        job = Corrections(corrections)
        writer.write(NOON, [], [], job)
        return job.moved

    return correct


def test_a_review_says_where_each_correction_belongs(tmp_path: Path, rules: Rules) -> None:
    """A check, which does not judge, finds nothing; a recount that judges does."""
    pair = Pair(tmp_path, rules, 2)
    try:
        pair.tick([], [pair.some_hit() for _ in range(20)])
        pair.upgrade()
        assert list(Recount(pair.old.connection)) == []
        found = {one.table for one in Recount(pair.old.connection, judge=True)}
        assert {EVENT, FIGURE} <= found
        assert DAYS not in found
        assert list(Recount(pair.new.connection, judge=True)) == []
    finally:
        pair.close()


def test_an_instant_click_stays_one(tmp_path: Path, rules: Rules) -> None:
    """Whatever the setting is today, and whoever it was."""
    pair = Pair(tmp_path, rules, 3)
    try:
        created = NewEmail("acme", None, None, "spring", None)
        pair.tick([created], [])
        hit = Hit(1, 10, CLICK, pair.at + SECOND, 0, "robot", HOME, URLS[0])
        pair.tick([], [hit])
        pair.upgrade()
        rebuild(pair.paths[0], correct_with(pair.old))
        pair.agree()
        query = "SELECT class, reasons & ?, rules FROM events WHERE email = 10"
        assert pair.old.connection.execute(query, (INSTANT,)).fetchall() == [(MACHINE, INSTANT, 2)]
    finally:
        pair.close()


# What goes while a rebuild is under way


def ruined(writer: Writer) -> list[Correction]:
    """Corrections of emails, links and figures that are wrong."""
    for statement in (
        "UPDATE figures SET opens = opens + 3",
        "UPDATE days SET opens = opens + 1",
        "UPDATE states SET opens = opens + 1",
        "DELETE FROM email_links WHERE email = 5",
        "UPDATE email_links SET clicks = clicks + 1",
    ):
        writer.connection.execute(statement)
    writer.memory.states.clear()
    writer.memory.clicks.clear()
    found = list(Recount(writer.connection))
    assert {EMAIL_LINK, FIGURE, DAYS} <= {one.table for one in found}
    return found


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("email", [0, 5])
def test_corrections_of_what_went_meanwhile_bring_nothing_back(
    tmp_path: Path, rules: Rules, email: int, finished: bool
) -> None:
    pair = Pair(tmp_path, rules, 4)
    writer = pair.new
    try:
        pair.some_ticks(20)
        found = ruined(writer)
        writer.write(pair.at, [], [], Edits([Edit("acme", email, None)]))
        while finished and writer.memory.unfinished:
            rest = next(iter(writer.memory.unfinished.values()))
            writer.write(pair.at, [], [], Finish(rest))
        correct_with(writer)(found)
        if email:
            rows = writer.connection.execute(
                "SELECT * FROM email_links WHERE tenant = 1 AND email = ?", (email,)
            )
            assert rows.fetchall() == []
        rebuild(pair.paths[1], correct_with(writer))
        assert check(pair.paths[1]).problems == []
        while writer.memory.unfinished:
            rest = next(iter(writer.memory.unfinished.values()))
            writer.write(pair.at, [], [], Finish(rest))
        if not email:
            for table in ("figures", "days", "states", "email_links", "events", "balances"):
                rows = writer.connection.execute(f"SELECT * FROM {table} WHERE tenant = 1")
                assert rows.fetchall() == [], table
    finally:
        pair.close()
    check_file(Path(pair.paths[1]))


# The command


@pytest.fixture
def bell(start_bell: Callable[..., Bell]) -> Bell:
    return start_bell(INSTANT_SECONDS="0")


# As though an older version had judged: other classes, no clients, reasons that are no more.
OLDER = (
    "UPDATE events SET rules = 0, client = NULL, class = 2 - class % 2, reasons = 0 WHERE kind < 2",
    "UPDATE tenants SET rules = 0",
)


@pytest.mark.parametrize("beside", [True, False])
def test_rebuild_judges_what_older_rules_judged(bell: Bell, beside: bool) -> None:
    traffic(bell)
    before = contents(bell.database)
    ruin(bell.database, *OLDER)
    if not beside:
        assert bell.stop() == 0
    ran = run(bell.folder, "rebuild")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert contents(bell.database) == before
    assert run(bell.folder, "check").returncode == 0
    again = run(bell.folder, "rebuild")
    assert (again.returncode, again.stdout) == (0, "0 rows corrected; counted once\n")
    assert contents(bell.database) == before


def test_rebuild_judges_again_while_opens_go_on(seeded: Bell, soak: bool) -> None:
    bell, ledger = seeded.start(), Ledger(EMAILS)
    try:
        with Load(bell.port, ledger, Emails(EMAILS), pause=0.002):
            for _ in range(20 if soak else 3):
                ruin(bell.database, *OLDER)
                ran = run(bell.folder, "rebuild")
                assert "Traceback" not in ran.stderr
        assert run(bell.folder, "rebuild").returncode == 0
        assert ledger.answered == ledger.sent
        [(oldest,)] = bell.rows("SELECT min(rules) FROM events")
        assert bell.rows("SELECT min(rules) FROM tenants") == [(oldest,)] != [(0,)]
        check_all(bell.database, ledger)
    finally:
        bell.end()
