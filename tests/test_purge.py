"""Purging: what leaves the log changes nothing but the log. Held against a store that keeps all."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from little_bell.errors import StoreError
from little_bell.ops import check as check_module
from little_bell.ops.check import rebuild
from little_bell.store import events as log
from little_bell.store import purge as purge_module
from little_bell.store.edits import Edit, Edits, Finish
from little_bell.store.job import Job
from little_bell.store.memory import Limits
from little_bell.store.purge import DAY, Purge
from little_bell.store.reader import Reader
from little_bell.store.recount import Correction, Recount
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, OPEN, PREFETCH, Hit
from test_batches_store import Failing
from test_figures import (
    AGENTS,
    APPLE,
    BROWSER,
    COLUMNS,
    GOOGLE,
    HOME,
    MINUTE,
    NOON,
    OFFICE,
    SECOND,
    URLS,
    Golden,
    Store,
    golden,
)
from test_review import Pair, Rules, correct_with

HOUR = 60 * MINUTE
NAMES = ("acme", "beta")
CAMPAIGNS = (None, "spring", "summer")
FILES = itertools.count()


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Rules:
    return Rules(monkeypatch)


def purge(writer: Writer, cut: int, now: int, tenant: int = 1) -> int:
    """Purge to the end; returns how many events went."""
    job = Purge(tenant, cut)
    while not job.over:
        writer.write(now, [], [], job)
    assert job.error is None
    return job.events


def rows(writer: Writer, sql: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = writer.connection.execute(sql, values).fetchall()
    return found


def nothing_is_wrong(writer: Writer) -> None:
    """A recount agrees with all that is stored."""
    recount = Recount(writer.connection)
    assert (list(recount), recount.problems) == ([], [])


class Twins:
    """Two stores to which the same happens, but that one of them is purged."""

    def __init__(
        self, folder: Path, chance: random.Random, moves: bool, seen: Counter[str]
    ) -> None:
        """`moves`: emails change their campaign; `seen` counts what a test must not miss."""
        self.chance = chance
        self.moves = moves
        self.seen = seen
        number = next(FILES)
        self.paths = [str(folder / f"{name}{number}.db") for name in ("whole", "purged")]
        limits = Limits(hits_per_email_hour=12)
        self.limits = limits
        self._open()
        self.now = NOON
        self.job: Purge | None = None
        self.wrong: set[int] = set()  # times by a clock that was ahead
        self.ahead = 0  # how far the clock is ahead of the truth

    @property
    def purged(self) -> Writer:
        return self.writers[1]

    def tick(self) -> None:
        chance = self.chance
        self.now += chance.choice((SECOND, 7 * SECOND, HOUR, HOUR, 11 * HOUR, 3 * DAY))
        if chance.random() < 0.05:
            self.ahead = 0 if self.ahead else 40 * DAY + 1_234_567
        at = self.now + self.ahead
        emails = [
            NewEmail(chance.choice(NAMES), None, None, chance.choice(CAMPAIGNS), None)
            for _ in range(chance.choice((0, 0, 1, 2)))
        ]
        hits = [self._hit(at) for _ in range(chance.choice((0, 1, 3, 9)))]
        if chance.random() < 0.2:
            hits += self._flurry(at)
        if self.ahead:
            self.wrong.update(hit.at for hit in hits)
        edit = self._edit() if chance.random() < 0.2 else None
        job: Job | None = None
        if edit is None and self.job is not None:
            self.seen["step beside hits"] += bool(hits)
            job = self.job
            if chance.random() < 0.1:
                with pytest.raises(StoreError):
                    self.purged.write(at, emails, hits, Failing(job))
                self.job = job = None  # as the recorder ends it
        found = []
        for writer, own in zip(self.writers, (None, job), strict=True):
            if edit is not None:
                own = Edits([edit()])
            written = writer.write(at, emails, hits, own)
            found.append((written, own.edits[0].outcome if isinstance(own, Edits) else None))
            while writer.memory.unfinished:
                rest = next(iter(writer.memory.unfinished.values()))
                writer.write(at, [], [], Finish(rest))
        assert found[0] == found[1]
        self._after_step()
        while self.job is not None and chance.random() < 0.6:
            self.purged.write(at, [], [], self.job)
            self._after_step()
        if self.job is None and not self.ahead and chance.random() < 0.3:
            self._begin()
        if chance.random() < 0.1:
            self._restart()

    def _hit(self, at: int) -> Hit:
        chance = self.chance
        tenant = chance.choice((1, 1, 2))
        known = self.purged.memory.tenants.by_id.get(tenant)
        newest = 1 if known is None else known.last_email
        kind = chance.choice((OPEN, CLICK, CLICK))
        back = chance.choice((0, 0, 0, 0, SECOND, 5 * SECOND, 20 * MINUTE, 2 * HOUR))
        return Hit(
            tenant,
            max(1, newest - chance.choice((0, 0, 0, 1, 1, 2, 5))),
            kind,
            at - back,
            chance.choice((0, 0, 0, 0, PREFETCH)),
            chance.choice((BROWSER, *AGENTS)),
            chance.choice((HOME, HOME, OFFICE)),
            chance.choice(URLS) if kind == CLICK else None,
        )

    def _flurry(self, at: int) -> list[Hit]:
        """Clicks of one person, or of a scanner, on one email."""
        one = self._hit(at)._replace(kind=CLICK, user_agent=BROWSER, flags=0, address=HOME)
        step = self.chance.choice((SECOND, 4 * SECOND, 12 * SECOND))
        return [
            one._replace(at=one.at + step * place, url=self.chance.choice(URLS))
            for place in range(self.chance.choice((1, 2, 4, 6)))
        ]

    def _edit(self) -> Callable[[], Edit]:
        chance = self.chance
        name = chance.choice(NAMES)
        known = self.purged.memory.tenants.by_name.get(name.encode())
        email = max(1, (1 if known is None else known.last_email) - chance.choice((0, 1, 1, 2, 5)))
        change = None
        if chance.random() < 0.7:
            given = {"subject", "campaign"} if self.moves else {"subject"}
            change = Change(frozenset(given), subject="new", campaign=chance.choice(CAMPAIGNS))
        elif chance.random() < 0.3:
            email = 0  # the tenant
        return lambda: Edit(name, email, change)

    def _begin(self) -> None:
        """A purge, of which the next ticks bring the steps."""
        cut = self.now - self.chance.choice((1, 1, 2, 5, 20)) * DAY - self.chance.randrange(DAY)
        tenants = sorted(self.purged.memory.tenants.by_id)
        if tenants:
            self.job = Purge(self.chance.choice(tenants), cut)
            self.job.rows = self.chance.choice((1, 5, 20, 20))

    def _after_step(self) -> None:
        if self.job is not None and self.job.over:
            self.seen["purged"] += self.job.events
            self.seen["tenant went"] += self.job.tenant not in self.purged.memory.tenants.by_id
            self._check_gone(self.job)
            self.job = None

    def _restart(self) -> None:
        self.seen["restart in the middle"] += self.job is not None
        for writer in self.writers:
            writer.close()
        self._open()
        self.job = None

    def _open(self) -> None:
        self.writers = [Writer(path, self.limits) for path in self.paths]
        for writer in self.writers:
            writer.connection.pragma("synchronous", "off")  # no power is lost here

    def _check_gone(self, job: Purge) -> None:
        """What is old is gone, unless what is before it in its chain is not."""
        kept: dict[tuple[int, int], int] = {}
        query = "SELECT at, email, kind FROM events WHERE tenant = ? AND seq <= ? ORDER BY seq"
        for at, email, kind in rows(self.purged, query, job.tenant, job.position):
            oldest = kept.setdefault((email, kind), at)
            assert at >= job.cut or (kind < 2 and oldest >= job.cut), "it stayed"
            self.seen["held"] += at < job.cut

    def check(self) -> None:
        """All but the log is as in the store that keeps it whole."""
        figures = f"tenant, scope, id, {{}}, {COLUMNS}"
        scopes = "" if not self.moves else "WHERE scope <> 1"
        queries = [
            f"SELECT {figures.format('bucket')} FROM figures {scopes} ORDER BY 1, 2, 3, 4",
            f"SELECT {figures.format('day')} FROM days {scopes} ORDER BY 1, 2, 3, 4",
            "SELECT tenant, id, bucket, sent, unique_opens, inferred_opens, unique_clicks "
            "FROM figures WHERE scope = 1 AND sent + unique_opens + unique_clicks "
            "+ inferred_opens > 0 ORDER BY 1, 2, 3",
            "SELECT * FROM states ORDER BY 1, 2",
            "SELECT * FROM email_links ORDER BY 1, 2, 3",
            "SELECT * FROM emails ORDER BY 1, 2",
            "SELECT * FROM tenants ORDER BY 1",
            "SELECT * FROM links ORDER BY 1, 2",
            "SELECT * FROM agents ORDER BY 1, 2",
        ]
        for query in queries:
            before, after = (
                [row for row in rows(one, query) if any(row[4:]) or "figures" not in query]
                for one in self.writers
            )
            assert after == before, query
        whole, left = (
            set(rows(writer, "SELECT * FROM events ORDER BY 1, 2")) for writer in self.writers
        )
        assert left <= whole
        for event in whole - left:
            assert event[2] < self.now - DAY or event[2] in self.wrong, "a young event went"
        self.seen["left"] += len(left)
        self.seen["gone"] += len(whole - left)
        nothing_is_wrong(self.purged)
        nothing_is_wrong(self.writers[0])

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


def play(folder: Path, chance: random.Random, moves: bool, seen: Counter[str]) -> None:
    twins = Twins(folder, chance, moves, seen)
    try:
        for number in range(60):
            twins.tick()
            if number % 6 == 5:
                twins.check()
        twins.check()
    finally:
        twins.close()


@pytest.mark.parametrize("moves", [False, True], ids=["campaigns stay", "campaigns change"])
def test_a_purge_changes_nothing_but_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: bool, soak: bool
) -> None:
    monkeypatch.setattr(purge_module, "ROWS", 20)  # of a step
    monkeypatch.setattr(purge_module, "SLOW", 1e9)
    seen: Counter[str] = Counter()

    @settings(max_examples=300 if soak else 12, deadline=None)
    @given(seed=st.integers(0, 1 << 32))
    def everything(seed: int) -> None:
        play(tmp_path, random.Random(seed), moves, seen)

    everything()
    for what in ("gone", "left", "step beside hits", "restart in the middle"):
        assert seen[what], f"never: {what}"


# One thing at a time


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "t.db")
    yield store
    store.writer.close()


LATER = NOON + 400 * DAY  # when it is purged
X, Y, Z = (f"https://{name}.example/" for name in "xyz")
GOLDEN: dict[str, tuple[list[tuple[int, int, int, str, str | None]], Golden]] = {
    # email, kind, milliseconds after noon, user agent, target; and the row of the definitions
    "people and machines": (
        [
            (1, OPEN, 1 * MINUTE, APPLE, None),
            (1, OPEN, 20 * MINUTE, BROWSER, None),
            (1, OPEN, 40 * MINUTE, BROWSER, None),
        ],
        Golden(2, 1, 1, 0, 0, 0, 0),
    ),
    "inferred": ([(1, CLICK, 5 * MINUTE, BROWSER, X)], Golden(0, 0, 1, 1, 1, 0, 1)),
    "inferred no more": (
        [(1, CLICK, 5 * MINUTE, BROWSER, X), (1, OPEN, 3 * MINUTE, GOOGLE, None)],
        Golden(1, 0, 1, 0, 1, 0, 1),
    ),
    "instant": ([(1, CLICK, SECOND, BROWSER, X)], Golden(0, 0, 0, 0, 0, 1, 0)),
    "two links": (
        [(1, CLICK, 10 * MINUTE, BROWSER, X), (1, CLICK, 10 * MINUTE + SECOND, BROWSER, Y)],
        Golden(0, 0, 1, 1, 2, 0, 1),
    ),
    "burst": (
        [
            (1, CLICK, 10 * MINUTE, BROWSER, X),
            (1, CLICK, 10 * MINUTE + SECOND, BROWSER, Y),
            (1, CLICK, 10 * MINUTE + 2 * SECOND, BROWSER, Z),
        ],
        Golden(0, 0, 0, 0, 0, 3, 0),
    ),
    "two emails": (
        [
            (1, OPEN, 50 * MINUTE, BROWSER, None),
            (2, OPEN, 50 * MINUTE, BROWSER, None),
            (1, OPEN, 70 * MINUTE, BROWSER, None),
        ],
        Golden(3, 0, 2, 0, 0, 0, 0),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("cut", [NOON + 15 * MINUTE, NOON + DAY], ids=["some", "all"])
def test_golden_examples_stay_as_they_are(store: Store, name: str, cut: int) -> None:
    events, expected = GOLDEN[name]
    store.create(2)
    for email, kind, after, agent, url in events:
        store.write(store.hit(email, kind, after, agent, url))
    before = [store.buckets(column) for column in COLUMNS.split(", ")]
    assert golden(store) == expected
    gone = purge(store.writer, cut, LATER)
    assert gone == sum(NOON + after < cut for _, _, after, _, _ in events)
    assert golden(store) == expected
    assert [store.buckets(column) for column in COLUMNS.split(", ")] == before
    nothing_is_wrong(store.writer)


def test_what_comes_after_a_purge_finds_what_was_before(store: Store) -> None:
    """The third row of a golden example, where the click is in the log no more: an open by a clock
    that ran back."""
    store.create()
    store.write(store.hit(1, CLICK, 5 * MINUTE, url=X))
    assert purge(store.writer, NOON + DAY, LATER) == 1
    assert golden(store) == Golden(0, 0, 1, 1, 1, 0, 1)
    store.write(store.hit(1, OPEN, 3 * MINUTE, GOOGLE))
    assert golden(store) == Golden(1, 0, 1, 0, 1, 0, 1)
    nothing_is_wrong(store.writer)


@pytest.mark.parametrize("back", [0, 215 * DAY], ids=["clock as it is", "clock that ran back"])
def test_a_burst_leaves_the_clicks_that_were_purged(store: Store, back: int) -> None:
    """Of the email, and of one of its links."""
    store.create()
    for day, url in ((20, X), (21, Y), (22, X)):
        store.write(store.hit(1, CLICK, day * DAY, url=url))
    purge(store.writer, NOON + 100 * DAY, LATER)
    store.writer.memory.clicks.clear()
    store.writer.memory.forget((1, 1))
    for second, url in enumerate((X, Y, Z)):
        store.write(store.hit(1, CLICK, 25 * DAY + 200 * DAY - back + second * SECOND, url=url))
    query = "SELECT clicks, machine_clicks, first_click, last_click FROM states"
    assert store.rows(query) == [(3, 3, NOON + 20 * DAY, NOON + 22 * DAY)]
    query = "SELECT clicks, machine_clicks, first_click FROM email_links ORDER BY link"
    assert store.rows(query) == [
        (2, 1, NOON + 20 * DAY),
        (1, 1, NOON + 21 * DAY),
        (0, 1, None),
    ]
    assert golden(store) == Golden(0, 0, 1, 1, 3, 3, 1)
    nothing_is_wrong(store.writer)


def test_an_event_of_no_email_leaves_its_totals(store: Store) -> None:
    """One that was to be counted without its email: its campaign stands with it."""
    store.create(campaign="spring")
    store.write(store.hit(1, CLICK, 5 * MINUTE, url=X))
    store.writer.connection.execute(
        "INSERT INTO events (tenant, seq, at, email, kind, flags, link, class, reasons, rules, "
        "client, campaign) VALUES (1, 2, ?, 0, 1, 0, 1, 0, 0, 1, 7, 1)",
        (NOON,),
    )
    assert purge(store.writer, NOON + DAY, LATER) == 2
    query = "SELECT scope, id, sum(clicks), sum(unique_opens), sum(unique_clicks), sum(sent) "
    found = store.rows(query + "FROM balances GROUP BY 1, 2 ORDER BY 1, 2")
    chrome = store.rows("SELECT id FROM figures WHERE scope = 3")[0][0]
    assert found == sorted(
        [(0, 0, 2, 0, 0, 0), (1, 1, 2, 0, 0, 0), (2, 1, 2, 0, 0, 0)]
        + ([(3, 7, 2, 0, 0, 0)] if chrome == 7 else [(3, 7, 1, 0, 0, 0), (3, chrome, 1, 0, 0, 0)])
    )
    assert store.rows("SELECT email, clicks FROM closed_states") == [(1, 1)]
    assert store.rows("SELECT email, link, clicks FROM closed_links") == [(1, 1, 1)]


def test_a_clock_that_was_ahead_keeps_nothing_for_years(store: Store) -> None:
    store.create()
    store.write(store.hit(1, OPEN, MINUTE))
    store.write(store.hit(1, OPEN, 5000 * DAY))  # a year that is far away
    store.write(store.hit(1, OPEN, 2 * MINUTE))
    store.write(store.hit(1, OPEN, 399 * DAY + HOUR))
    assert purge(store.writer, NOON + DAY, LATER) == 3
    assert store.rows("SELECT seq FROM events") == [(4,)]
    nothing_is_wrong(store.writer)


def test_old_events_behind_a_few_young_ones_are_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_module, "ROWS", 3)
    monkeypatch.setattr(purge_module, "LOOK_AT", 9)
    store.create(3)
    store.write(*(store.hit(1, OPEN, 100 * DAY) for _ in range(5)))
    store.write(*(store.hit(2, OPEN, MINUTE) for _ in range(5)))
    store.write(*(store.hit(1, OPEN, 100 * DAY) for _ in range(20)))
    store.write(store.hit(3, OPEN, MINUTE))  # too far behind
    assert purge(store.writer, NOON + DAY, LATER) == 5
    left = store.rows("SELECT email, count(*) FROM events GROUP BY 1 ORDER BY 1")
    assert left == [(1, 25), (3, 1)]
    nothing_is_wrong(store.writer)


def test_an_event_stays_until_the_one_before_it_goes(store: Store) -> None:
    store.create()
    store.write(
        store.hit(1, OPEN, 10 * DAY), store.hit(1, OPEN, MINUTE), store.hit(1, CLICK, MINUTE, url=X)
    )
    assert purge(store.writer, NOON + DAY, LATER) == 1
    assert store.rows("SELECT kind, prev FROM events ORDER BY seq") == [(OPEN, None), (OPEN, 1)]
    nothing_is_wrong(store.writer)
    assert purge(store.writer, NOON + 11 * DAY, LATER) == 2
    nothing_is_wrong(store.writer)


def test_nothing_of_the_last_day_goes(store: Store) -> None:
    store.create()
    store.write(store.hit(1, OPEN, 0), store.hit(1, OPEN, HOUR))
    assert purge(store.writer, NOON + 100 * DAY, NOON + DAY + MINUTE) == 1


def test_a_purge_waits_for_edits(store: Store) -> None:
    store.create(2, campaign="spring")
    store.write(*(store.hit(1, OPEN, n * MINUTE) for n in range(600)))
    change = Change(frozenset({"campaign"}), campaign="summer")
    store.writer.write(NOON, [], [], Edits([Edit("acme", 1, change)]))
    job = Purge(1, NOON + DAY)
    for _ in range(3):
        store.writer.write(LATER, [], [], job)
    assert (job.events, job.over, len(store.writer.memory.unfinished)) == (0, False, 1)
    store.writer.write(NOON, [], [], Finish(next(iter(store.writer.memory.unfinished.values()))))
    assert not store.writer.memory.unfinished
    while not job.over:
        store.writer.write(LATER, [], [], job)
    assert job.events == 600
    nothing_is_wrong(store.writer)
    campaigns = "SELECT name, sum(opens), sum(sent) FROM figures JOIN campaigns ON campaign = id "
    campaigns += "WHERE scope = 1 GROUP BY 1 ORDER BY 1"
    assert store.rows(campaigns) == [("spring", 0, 1), ("summer", 600, 1)]


def test_an_email_that_moves_leaves_what_was_purged(store: Store) -> None:
    store.create(1, campaign="spring")
    store.write(store.hit(1, OPEN, MINUTE), store.hit(1, OPEN, 100 * DAY))
    purge(store.writer, NOON + DAY, LATER)
    change = Change(frozenset({"campaign"}), campaign="summer")
    store.writer.write(NOON, [], [], Edits([Edit("acme", 1, change)]))
    query = "SELECT name, sum(sent), sum(opens), sum(unique_opens) FROM figures "
    query += "JOIN campaigns ON campaign = id WHERE scope = 1 GROUP BY 1 ORDER BY 1"
    assert store.rows(query) == [("spring", 0, 1, 0), ("summer", 1, 1, 1)]
    nothing_is_wrong(store.writer)
    store.writer.write(NOON, [], [], Edits([Edit("acme", 1, None)]))
    assert store.rows("SELECT * FROM closed_states") == []
    assert store.rows("SELECT sum(opens) FROM figures WHERE scope = 0") == [(2,)]
    nothing_is_wrong(store.writer)


# What is read


def test_a_timeline_and_its_pages_end_where_the_log_begins(store: Store) -> None:
    store.create(2)
    for n in range(6):
        store.write(store.hit(1, OPEN, n * 10 * DAY), store.hit(1, CLICK, n * 10 * DAY, url=X))
    reader = Reader(store.path)
    try:
        first = log.timeline(reader, 1, 1, None, 3)
        assert [event.seq for event in first.events] == [12, 11, 10]
        page = log.before(reader, 1, log.ALL, None, 3)
        purge(store.writer, NOON + 45 * DAY, LATER)  # but two
        assert log.timeline(reader, 1, 1, first.next, 3) == ([], None)
        assert log.before(reader, 1, log.ALL, page.next, 3) == ([], None)
        assert [one.seq for one in log.after(reader, 1, log.ALL, 0, 3).events] == [11, 12]
        whole = log.timeline(reader, 1, 1, None, 2)
        assert ([event.seq for event in whole.events], whole.next) == ([12, 11], None)
        assert (log.purged(reader, 1, 1), log.purged(reader, 1, 2)) == (10, 0)
    finally:
        reader.close()


# A recount, and judging again


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE seq = 5",  # of the middle of a chain
        "DELETE FROM events WHERE seq = 4",  # the oldest one that was left
        "UPDATE events SET prev = 2 WHERE seq = 6",
        "UPDATE closed_states SET opens = 2",
        "UPDATE closed_states SET first_open = 5",
        "UPDATE states SET head_open = 3",
        "DELETE FROM closed_states",
        "INSERT INTO closed_states SELECT tenant, 77, flags, opens, machine_opens, clicks, "
        "machine_clicks, first_open, last_open, first_machine_open, last_machine_open, "
        "first_click, last_click, first_machine_click, last_machine_click FROM closed_states",
    ],
)
def test_a_recount_still_finds_what_is_wrong(store: Store, statement: str) -> None:
    store.create(2)
    for n in range(7):
        store.write(store.hit(1, OPEN, n * 10 * DAY))
    purge(store.writer, NOON + 25 * DAY, LATER)
    nothing_is_wrong(store.writer)
    store.writer.connection.execute(statement)
    recount = Recount(store.writer.connection)
    assert list(recount) or recount.problems


def test_judging_again_changes_nothing_of_what_was_purged(tmp_path: Path, rules: Rules) -> None:
    """And a burst that reached back to clicks that are gone stays one."""
    rules.use(1)
    path = str(tmp_path / "t.db")
    writer = Writer(path)
    try:
        writer.write(NOON, [NewEmail("acme", None, None, "spring", None)] * 2, [])
        cut = NOON + 2 * HOUR + 1500
        for after, email, kind, agent, url in (
            (HOUR, 1, OPEN, "phone", None),
            (HOUR, 1, OPEN, "robot", None),
            (2 * HOUR, 2, CLICK, "robot", X),
            (2 * HOUR + SECOND, 2, CLICK, "robot", Y),
            (2 * HOUR + 2 * SECOND, 2, CLICK, "robot", Z),
            (2 * HOUR + MINUTE, 2, CLICK, "robot", X),
            (50 * DAY, 1, OPEN, "robot", None),
        ):
            writer.write(NOON, [], [Hit(1, email, kind, NOON + after, 0, agent, HOME, url)])
        assert purge(writer, cut, LATER) == 4
        writer.close()
        rules.use(2)  # a phone's is a machine's, and a robot's a person's
        writer = Writer(path)
        rebuild(path, correct_with(writer))
        nothing_is_wrong(writer)
        assert list(Recount(writer.connection, judge=True)) == []
        states = "SELECT opens, machine_opens, clicks, machine_clicks FROM states ORDER BY email"
        assert rows(writer, states) == [(2, 1, 0, 0), (0, 0, 1, 3)]
        states = states.replace("states", "closed_states")
        assert rows(writer, states) == [(1, 1, 0, 0), (0, 0, 0, 2)]
    finally:
        writer.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_purge_beside_a_rebuild_ends_well(tmp_path: Path, rules: Rules, seed: int) -> None:
    """Steps of a purge come between the pieces of a rebuild that judges everything again, and puts
    right what was ruined."""
    pair = Pair(tmp_path, rules, seed)
    chance = random.Random(seed)
    try:
        pair.some_ticks(40)
        pair.upgrade()
        if seed % 2:
            pair.old.connection.execute("UPDATE states SET opens = opens + 1 WHERE email = 5")
        cut = chance.randint(NOON, pair.at)
        job = Purge(1, cut)
        gone = 0

        def correct(corrections: list[Correction]) -> int:
            nonlocal gone
            if not job.over:
                job.rows = 5
                pair.old.write(LATER, [], [], job)
                gone = job.events
            return correct_with(pair.old)(corrections)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(check_module, "AT_ONCE", 7)
            done = rebuild(pair.paths[0], correct)
        assert done.problems == []
        nothing_is_wrong(pair.old)
        assert list(Recount(pair.old.connection, judge=True)) == []
        # Whoever is not purged is judged as if newer rules had been there from the start.
        left = rows(pair.old, "SELECT * FROM events ORDER BY 1, 2")
        assert set(left) <= set(rows(pair.new, "SELECT * FROM events"))
        assert gone or job.over or cut < NOON + MINUTE
    finally:
        pair.close()
