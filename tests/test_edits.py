"""Edits: emails that change or go and tenants that go, held against an account in plain Python."""

import itertools
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches import check_file
from little_bell.errors import StoreError
from little_bell.store import clicks as clicks_module
from little_bell.store import edits as edits_module
from little_bell.store.edits import BUSY, DONE, LATER, NOT_FOUND, Edit, Edits, Finish
from little_bell.store.job import Job
from little_bell.store.recount import Recount
from little_bell.store.transaction import GONE
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, OPEN, PREFETCH, Hit
from test_batches_store import Failing
from test_figures import (
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
)

NAMES = ("acme", "beta")
CAMPAIGNS = (None, "spring", "summer")
MACHINES = (APPLE, "curl/8.0")
AGENTS = (BROWSER, BROWSER, BROWSER, BROWSER, GOOGLE, *MACHINES)
LOOK_BACK, STEP = (
    3,
    2,
)  # clicks a burst reaches back to, rows of a step: small, so that much is left
FILES = itertools.count()

TABLES = (
    "emails",
    "states",
    "events",
    "agents",
    "links",
    "campaigns",
    "email_links",
    "figures",
    "days",
    "balances",
    "idempotency",
    "unfinished",
)
TEXTS = ("subject", "recipient", "metadata")


class Event:
    """An open or a click as it was seen, and what the definitions make of it."""

    def __init__(self, hit: Hit, created_at: int) -> None:
        self.kind, self.at, self.url, self.address = hit.kind, hit.at, hit.url, hit.address
        instant = hit.kind == CLICK and 0 <= hit.at - created_at < 2000
        self.machine = hit.user_agent in MACHINES or bool(hit.flags & PREFETCH) or instant


class Email:
    """An email that was created, whatever became of it."""

    def __init__(self, created_at: int, subject: str, campaign: str | None) -> None:
        self.created_at = created_at
        self.campaign = campaign
        self.texts: dict[str, str | None] = {**dict.fromkeys(TEXTS), "subject": subject}
        self.events: list[Event] = []
        self.deleted = False
        self.before: str | None = None  # the campaign for which those `left` still count
        self.left: list[Event] = []  # in the order in which they follow

    def move(self, campaign: str | None, share: int) -> None:
        """It belongs to another campaign, and so many of its events follow at once."""
        newest = self.events[::-1]
        clicks = [one for one in newest if one.kind == CLICK]
        self.left = (clicks + [one for one in newest if one.kind == OPEN])[share:]
        self.before, self.campaign = self.campaign, campaign

    def hit(self, hit: Hit) -> bool:
        """One event more; whether a machine's."""
        event = Event(hit, self.created_at)
        before = [one for one in self.events if one.kind == CLICK][-LOOK_BACK:]
        self.events.append(event)
        if event.kind == CLICK:
            near = [
                one
                for one in (*before, event)
                if one.address == event.address and abs(one.at - event.at) <= 10 * SECOND
            ]
            if len({one.url for one in near}) >= 3:
                for one in near:
                    one.machine = True
        return event.machine


class Key(NamedTuple):
    scope: int
    of: str | None  # a campaign's name, or a link's url
    bucket: int


def count(emails: list[Email]) -> dict[Key, list[int]]:
    """Figures of a tenant by the definitions: those of emails that were deleted stay."""
    totals: dict[Key, list[int]] = {}

    def add(scope: int, of: str | None, at: int, column: int) -> None:
        totals.setdefault(Key(scope, of, at // 900_000), [0] * 8)[column] += 1

    for email in emails:
        scopes: list[tuple[int, str | None]] = [(0, None)]
        if email.campaign is not None:
            scopes.append((1, email.campaign))
        people = [one for one in email.events if not one.machine]
        clicked = [one for one in people if one.kind == CLICK]
        for scope, of in scopes:
            add(scope, of, email.created_at, 0)
            if people:
                first = min(one.at for one in people)
                add(scope, of, first, 3)
                if len(clicked) == len(people):
                    add(scope, of, first, 4)
            if clicked:
                add(scope, of, min(one.at for one in clicked), 7)
        for one in email.events:
            column = (1 if one.kind == OPEN else 5) + one.machine
            add(0, None, one.at, column)
            add(3, None, one.at, column)
            campaign = email.before if one in email.left else email.campaign
            if campaign is not None:
                add(1, campaign, one.at, column)
            if one.kind == CLICK:
                add(2, one.url, one.at, column)
        for url in {one.url for one in clicked}:
            add(2, url, min(one.at for one in clicked if one.url == url), 7)
    return totals


class Wish(NamedTuple):
    """An edit that may be asked for, before it is known which emails there are."""

    name: str
    newest: int | None  # which email, the newest is 0; None for the tenant
    change: Change | None


class Tick(NamedTuple):
    create: list[tuple[str, str | None]]
    hits: list[tuple[Any, ...]]
    wishes: list[Wish]
    finish: int
    then: str


class World:
    """A store, and what must be in it."""

    def __init__(self, path: Path, seen: Counter[str]) -> None:
        """`seen` counts what would be missed in a test that cannot fail."""
        self.seen = seen
        self.path = path
        self.writer = Writer(str(path))
        self.at = NOON
        self.subjects = itertools.count()
        self.last = dict.fromkeys(NAMES, 0)  # ids handed out
        # Every (tenant, email) that ever was
        self.known: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}
        self.numbers: dict[str, int] = {}  # of tenants that are there
        self.emails: dict[str, dict[int, Email]] = {name: {} for name in NAMES}

    def tick(self, tick: Tick) -> None:
        """One transaction, of which everything is checked."""
        self.at += 7 * SECOND
        new = [NewEmail(name, f"{next(self.subjects)}", None, c, None) for name, c in tick.create]
        hits = [self._hit(*one) for one in tick.hits]
        edits = [self._edit(wish) for wish in tick.wishes]
        job: Job | None = Edits(edits) if edits else None
        left = sorted(self.writer.memory.unfinished)
        rest = None
        if job is None and left and tick.finish:
            rest = left[tick.finish % len(left)]
            job = Finish(self.writer.memory.unfinished[rest])
        if job is not None and tick.then == "fail":
            with pytest.raises(StoreError):
                self.writer.write(self.at, new, hits, Failing(job))
            self.check()
            return
        written = self.writer.write(self.at, new, hits, job)
        for email, (number, id_) in zip(new, written.emails, strict=True):
            self._created(email, number, id_)
        for hit, class_ in zip(hits, written.classes, strict=True):
            self._was_hit(hit, class_)
        for edit in edits:
            self._edited(edit, max(2 * LOOK_BACK, STEP // len(edits)))
        if rest is not None:
            self._stepped(*rest)
        if tick.then == "restart":
            self.writer.close()
            self.writer = Writer(str(self.path))
        elif tick.then == "reopen":
            self.writer.reopen()
        self.check()

    # What is asked for

    def _hit(
        self,
        about: tuple[str, int],
        kind: int,
        back: int,
        agent: str,
        url: str,
        flags: int,
        source: bytes,
    ) -> Hit:
        name, newest = about
        known = self.known[name]
        tenant, email = known[-1 - newest % len(known)]
        target = url if kind == CLICK else None
        return Hit(tenant, email, kind, self.at - back, flags, agent, source, target)

    def _edit(self, wish: Wish) -> Edit:
        email = 0 if wish.newest is None else max(1, self.last[wish.name] - wish.newest)
        return Edit(wish.name, email, wish.change if email else None)

    # What it did

    def _created(self, email: NewEmail, number: int, id_: int) -> None:
        name = email.tenant
        assert id_ == self.last[name] + 1, "an id is used twice, or left out"
        assert self.numbers.setdefault(name, number) == number
        self.last[name] = id_
        self.emails[name][id_] = Email(self.at, email.subject or "", email.campaign)
        self.known[name].append((number, id_))

    def _alive(self, tenant: int, id_: int) -> Email | None:
        for name, number in self.numbers.items():
            email = self.emails[name].get(id_)
            if number == tenant and email is not None and not email.deleted:
                return email
        return None

    def _was_hit(self, hit: Hit, class_: int) -> None:
        email = self._alive(hit.tenant, hit.email)
        if email is None:
            assert class_ == GONE
            return
        assert class_ != GONE
        before = sum(one.machine for one in email.events)
        assert email.hit(hit) == (class_ == 2)
        self.seen["hit while moving"] += bool(email.left)
        burst = sum(one.machine for one in email.events) > before + 1
        self.seen["burst while moving"] += bool(email.left) and burst

    def _edited(self, edit: Edit, share: int) -> None:
        name = edit.tenant
        if edit.outcome == LATER:  # others of this tick took its share: nothing was done
            self.seen["later"] += 1
            return
        if name not in self.numbers:
            assert edit.outcome == NOT_FOUND
            return
        if not edit.email:
            assert edit.outcome == DONE
            self.emails[name] = {}
            self.numbers[name] = self.writer.memory.tenants.by_name[name.encode()].id
            assert self.numbers[name] not in {tenant for tenant, _ in self.known[name]}
            return
        email = self._alive(self.numbers[name], edit.email)
        if email is None:
            assert edit.outcome == NOT_FOUND
            return
        if email.left:
            assert edit.outcome == BUSY
            self.seen["busy"] += 1
            return
        assert edit.outcome == DONE
        if edit.change is None:
            email.deleted = True
            self.seen["events of deleted emails"] += len(email.events)
            return
        for text in set(TEXTS) & edit.change.given:
            email.texts[text] = getattr(edit.change, text)
        if "campaign" in edit.change.given and edit.change.campaign != email.campaign:
            email.move(edit.change.campaign, share)
        texts = email.texts
        expected = (texts["subject"], texts["recipient"], email.campaign, texts["metadata"])
        assert edit.texts == expected

    def _stepped(self, tenant: int, id_: int) -> None:
        email = self._alive(tenant, id_)
        if email is not None:
            del email.left[:STEP]

    # What must be true

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.writer.connection.execute(sql, values).fetchall()
        return found

    def check(self) -> None:
        for name, number in self.numbers.items():
            assert self._figures(number) == count(list(self.emails[name].values())), name
        self._check_emails()
        self._check_unfinished()
        assert self._days_apart() == []
        recount = Recount(self.writer.connection)
        assert (list(recount), recount.problems) == ([], [])

    def _days_apart(self) -> list[tuple[Any, ...]]:
        """Days of tenants that are there which are not the sums of their buckets."""
        here = "tenant IN (SELECT tenant FROM tenants)"
        sums = ", ".join(f"sum({column}) AS {column}" for column in COLUMNS.split(", "))
        by_day = (
            f"SELECT tenant, scope, id, bucket / 96, {sums} FROM figures WHERE {here} "
            "GROUP BY 1, 2, 3, 4"
        )
        days = f"SELECT tenant, scope, id, day, {COLUMNS} FROM days WHERE {here}"
        apart = self.rows(f"{by_day} EXCEPT {days}") + self.rows(f"{days} EXCEPT {by_day}")
        return [row for row in apart if any(row[4:])]

    def _figures(self, number: int) -> dict[Key, list[int]]:
        names = dict(self.rows("SELECT campaign, name FROM campaigns WHERE tenant = ?", number))
        urls = dict(self.rows("SELECT link, url FROM links WHERE tenant = ?", number))
        found: dict[Key, list[int]] = {}
        query = f"SELECT scope, id, bucket, {COLUMNS} FROM figures WHERE tenant = ?"
        for scope, id_, bucket, *values in self.rows(query, number):
            if any(values):
                # Of clients the sum: which there are is the rules' matter.
                of = {0: None, 3: None, 1: names.get(id_), 2: urls.get(id_)}[scope]
                row = found.setdefault(Key(scope, of, bucket), [0] * 8)
                row[:] = [a + b for a, b in zip(row, values, strict=True)]
        return found

    def _check_emails(self) -> None:
        """What is stored of emails is what was told of them last, and nothing else is."""
        for name, number in self.numbers.items():
            stored = self.rows(
                "SELECT e.email, subject, recipient, metadata, c.name FROM emails AS e "
                "JOIN states AS s USING (tenant, email) LEFT JOIN campaigns AS c "
                "ON c.tenant = s.tenant AND c.campaign = s.campaign WHERE e.tenant = ?",
                number,
            )
            assert {row[0]: row[1:] for row in stored} == {
                id_: (*(email.texts[text] for text in TEXTS), email.campaign)
                for id_, email in self.emails[name].items()
                if not email.deleted
            }
            counts = dict(
                self.rows("SELECT email, count(*) FROM events WHERE tenant = ? GROUP BY 1", number)
            )
            for id_, email in self.emails[name].items():
                if not email.deleted:
                    assert counts.get(id_, 0) == len(email.events)

    def _check_unfinished(self) -> None:
        unfinished = self.writer.memory.unfinished
        assert sorted(unfinished.values()) == sorted(
            self.rows("SELECT tenant, email, kind, campaign, next_open, next_click FROM unfinished")
        )
        for name, number in self.numbers.items():
            moving = {id_ for id_, email in self.emails[name].items() if email.left}
            assert moving == {
                id_
                for (tenant, id_), one in unfinished.items()
                if tenant == number and one.kind == 1
            }
            for id_, email in self.emails[name].items():
                if email.deleted and (number, id_) not in unfinished:
                    query = "SELECT count(*) FROM events WHERE tenant = ? AND email = ?"
                    assert self.rows(query, number, id_) == [(0,)]

    def end(self) -> None:
        """Finish all there is; then nothing is left of what went, and ids are remembered."""
        for n in range(2000):
            if not self.writer.memory.unfinished:
                break
            self.tick(Tick([], [], [], n + 1, ""))
        assert not self.writer.memory.unfinished, "what was left comes to no end"
        here = sorted(self.numbers.values())
        for table in TABLES:
            for (tenant,) in self.rows(f"SELECT DISTINCT tenant FROM {table}"):
                assert tenant in here, (table, tenant)
        self.writer.close()
        check_file(self.path)
        self.writer = Writer(str(self.path))
        for name in self.numbers:
            self.tick(Tick([(name, "spring")], [], [], 0, ""))


campaigns = st.sampled_from(CAMPAIGNS)
deleted = st.none()
moved = st.builds(Change, st.just(frozenset({"campaign"})), campaign=campaigns)
changed = st.builds(
    Change,
    st.frozensets(st.sampled_from((*TEXTS, "campaign"))),
    subject=st.sampled_from((None, "new")),
    recipient=st.sampled_from((None, "ada@example.com")),
    metadata=st.sampled_from((None, "{}")),
    campaign=campaigns,
)
# By a flat draw: `one_of` takes strategies that come more than once for one.
changes = st.sampled_from((deleted, moved, moved, moved, changed)).flatmap(lambda one: one)
NEWEST = (0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, -1, None)
wishes = st.builds(Wish, st.sampled_from(NAMES), st.sampled_from(NEWEST), changes)
hits = st.tuples(
    st.tuples(st.sampled_from(NAMES), st.sampled_from((0, 0, 0, 0, 1, 1, 7))),
    st.sampled_from((OPEN, CLICK, CLICK, CLICK)),
    st.sampled_from((0, 0, 0, 0, SECOND, 9 * SECOND, MINUTE, 20 * MINUTE)),
    st.sampled_from(AGENTS),
    st.sampled_from(URLS),
    st.sampled_from((0, 0, 0, 0, 0, 0, 0, PREFETCH)),
    st.sampled_from((HOME, HOME, HOME, HOME, OFFICE)),
)
ticks = st.builds(
    Tick,
    st.sampled_from((0, 0, 0, 0, 2)).flatmap(
        lambda n: st.lists(st.tuples(st.sampled_from(NAMES), campaigns), max_size=n)
    ),
    st.sampled_from((0, 4, 24)).flatmap(lambda n: st.lists(hits, max_size=n)),
    st.one_of(st.just([]), st.lists(wishes, max_size=3)),
    st.integers(0, 5),
    st.sampled_from(("", "", "", "", "restart", "reopen", "fail")),
)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that edits of emails with few events are left unfinished."""
    monkeypatch.setattr(edits_module, "ROWS", STEP)
    monkeypatch.setattr(edits_module, "BURST_LOOK_BACK", LOOK_BACK)
    monkeypatch.setattr(clicks_module, "BURST_LOOK_BACK", LOOK_BACK)


def play(path: Path, script: Iterable[Tick], seen: Counter[str]) -> None:
    world = World(path, seen)
    try:
        world.tick(Tick([(name, "spring") for name in NAMES for _ in "ab"], [], [], 0, ""))
        for tick in script:
            world.tick(tick)
        world.end()
    finally:
        world.writer.close()


def test_whatever_is_edited_figures_stay_what_they_should_be(
    tmp_path: Path, small_steps: None
) -> None:
    @settings(max_examples=60, deadline=None)
    @given(script=st.lists(ticks, min_size=8, max_size=25))
    def everything(script: list[Tick]) -> None:
        play(tmp_path / f"{next(FILES)}.db", script, Counter())

    everything()


def some_tick(chance: random.Random) -> Tick:
    """The same by plain chance, which brings more events and so more that is left unfinished."""

    def names() -> str:
        return chance.choice((*NAMES, "acme"))

    def wish() -> Wish:
        given = [name for name in (*TEXTS, "campaign") if chance.random() < 0.3]
        change = Change(
            frozenset(given or ["campaign"]),
            subject=chance.choice((None, "new")),
            recipient=chance.choice((None, "ada@example.com")),
            campaign=chance.choice(CAMPAIGNS),
        )
        newest = None if chance.random() < 0.04 else chance.choice(NEWEST[:-1])
        return Wish(names(), newest, None if chance.random() < 0.25 else change)

    several = chance.randrange(16) if chance.random() < 0.6 else 0
    flurry = chance.random() < 0.3
    return Tick(
        [(names(), chance.choice(CAMPAIGNS)) for _ in range(chance.choice((0, 0, 0, 0, 0, 2)))],
        [
            (
                (names(), chance.choice((0, 0, 0, 0, 1, 1, 7))),
                chance.choice((OPEN, CLICK, CLICK)),
                0 if flurry else chance.choice((0, SECOND, 9 * SECOND, 12 * SECOND, 20 * MINUTE)),
                chance.choice(AGENTS),
                chance.choice(URLS),
                chance.choice((0, 0, 0, 0, 0, PREFETCH)),
                chance.choice((HOME, HOME, HOME, OFFICE)),
            )
            for _ in range(several)
        ],
        [wish() for _ in range(chance.randint(1, 3))] if chance.random() < 0.25 else [],
        chance.choice((0, 0, 1, 2)),
        chance.choice(("", "", "", "", "", "restart", "reopen", "fail")),
    )


def test_edits_are_left_unfinished_while_hits_and_edits_go_on(
    tmp_path: Path, small_steps: None, soak: bool
) -> None:
    seen: Counter[str] = Counter()
    for seed in range(600 if soak else 60):
        chance = random.Random(seed)
        try:
            script = (some_tick(chance) for _ in range(60))
            play(tmp_path / f"{seed}.db", script, seen)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
    for what in ("busy", "hit while moving", "burst while moving", "events of deleted emails"):
        assert seen[what] > 10, f"hardly ever: {what}"
