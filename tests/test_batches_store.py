"""Batches and sweeps on the store itself, a transaction at a time, in any order of things."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from batches import check_file
from little_bell.errors import DataError, StoreError
from little_bell.store.batch import Batch, Plan, Row, Sweep
from little_bell.store.idempotency import Created
from little_bell.store.job import Job
from little_bell.store.recount import Recount
from little_bell.store.transaction import GONE, Transaction
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail, Once
from little_bell.tracking.hit import CLICK, OPEN, Hit
from test_figures import BROWSER, COLUMNS, HOME, MINUTE, NOON, SECOND, Store, recount

TENANTS = ("acme", "beta")
CAMPAIGNS = (None, "spring", "summer", "autumn")
KEYS = (None, "a", "b")

Email = tuple[str, str | None]  # subject, campaign


def once(text: str) -> Once:
    return Once(text.encode().rjust(16, b"."), b"digest".rjust(16, b"."))


def batch_of(tenant: str, emails: list[Email], piece: int, key: Once | None = None) -> Batch:
    """A batch of these emails, so many in each step."""
    names = list(dict.fromkeys(name for _, name in emails if name is not None))
    rows: list[Row] = [
        (subject, None, None, None if name is None else names.index(name), 0)
        for subject, name in emails
    ]
    counts = [(name, sum(one == name for _, one in emails)) for name in names]
    pieces = (rows[begin : begin + piece] for begin in range(0, len(rows), piece))
    return Batch(Plan(tenant, len(emails), counts, key), pieces)


class Failing(Job):
    """Does what another job does, and then the disk fails."""

    def __init__(self, inner: Job) -> None:
        self.inner = inner

    def step(self, transaction: Transaction) -> None:
        self.inner.step(transaction)
        raise apsw.FullError("no room")

    def committed(self) -> None:
        raise AssertionError("what failed was committed")

    def failed(self, error: StoreError) -> None:
        self.inner.failed(error)


class World:
    """A store, and what must be in it by a naive account."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(str(path))
        self.at = NOON
        self.emails: dict[tuple[str, int], Email] = {}  # that exist
        self.issued: dict[str, set[int]] = {name: set() for name in TENANTS}  # answered ids
        self.last = dict.fromkeys(TENANTS, 0)
        self.keys: dict[str, tuple[int, int]] = {}
        self.hits = 0
        self.batch: Batch | None = None
        self.about: tuple[str, list[Email], str | None] = ("", [], None)  # of the batch
        self.subjects = itertools.count()
        self.finished = self.swept = 0  # batches

    # What happens in one transaction

    def tick(self, create: list[tuple[str, str | None]], hits: list[Hit], job: Job | None) -> None:
        """Write it all; what was told is in the account."""
        self.at += 7 * SECOND
        emails = [NewEmail(name, f"{next(self.subjects)}", None, c, None) for name, c in create]
        expected = [self._counts(hit) for hit in hits]
        try:
            written = self.writer.write(self.at, emails, hits, job)
        except StoreError as error:
            assert job is not None
            job.failed(error)
            return
        for email, (_, number) in zip(emails, written.emails, strict=True):
            self._issue(email.tenant, number)
            self.emails[email.tenant, number] = (email.subject or "", email.campaign)
        if isinstance(job, Sweep) and job.over:
            self.swept += 1
        counted = [class_ != GONE for class_ in written.classes]
        assert counted == expected
        self.hits += sum(counted)

    def _issue(self, tenant: str, number: int) -> None:
        assert number not in self.issued[tenant], "an id is used twice"
        assert number > self.last[tenant], "ids go back"
        self.issued[tenant].add(number)
        self.last[tenant] = number

    def _counts(self, hit: Hit) -> bool:
        """Whether an email exists to be opened, before this transaction."""
        name = self.writer.memory.tenants.by_id[hit.tenant].name
        return (name, hit.email) in self.emails

    def hit(self, tenant: str, share: float, kind: int) -> list[Hit]:
        """A hit on an id that the fast lane would let through: it was handed out, or reserved."""
        known = self.writer.memory.tenants.by_name.get(tenant.encode())
        if known is None or not known.last_email:
            return []
        email = 1 + int(share * known.last_email * 0.999)
        url = "https://example.com/" if kind == CLICK else None
        return [Hit(known.id, email, kind, self.at + MINUTE, 0, BROWSER, HOME, url)]

    # Batches

    def begin(self, tenant: str, names: list[str | None], piece: int, key: str | None) -> None:
        """Where nothing is pending, as the queue of the fast lane does."""
        if self.batch is not None or self.writer.memory.pending is not None:
            return
        if key is not None:
            key = tenant + key
        if key in self.keys:
            return
        told = [(f"{next(self.subjects)}", name) for name in names]
        self.about = (tenant, told, key)
        made = None if key is None else once(key)
        self.batch = batch_of(tenant, told, piece, made)

    def job(self) -> Job | None:
        """As `wire.bulk` chooses it."""
        if self.batch is not None:
            return self.batch
        pending = self.writer.memory.pending
        return None if pending is None else Sweep(pending)

    def settle(self) -> None:
        """After a transaction: what became of the batch."""
        batch = self.batch
        if batch is None or not batch.over:
            return
        self.batch = None
        if batch.error is not None:
            return
        self.finished += 1
        tenant, emails, key = self.about
        for number, email in enumerate(emails, batch.first):
            assert number not in self.issued[tenant], "an id is used twice"
            self.issued[tenant].add(number)
            self.emails[tenant, number] = email
        self.last[tenant] = max(self.last[tenant], batch.first + len(emails) - 1)
        if key is not None:
            self.keys[key] = (batch.first, len(emails))

    def reopen(self, how: str) -> None:
        """The file is opened again: by a new server, or after an I/O error."""
        self.batch = None
        if how == "restart":
            self.writer.close()
            self.writer = Writer(str(self.path))
        else:
            self.writer.reopen()

    # What must be true

    def check(self) -> None:
        """Figures say what exists, whatever is pending."""
        stored = self._stored()
        recount = Recount(self.writer.connection)
        assert (list(recount), recount.problems) == ([], [])
        total = sum(row[0] for (_, scope, _, _), row in stored.items() if scope == 0)
        assert total == len(self.emails)
        opened = sum(row[1] + row[5] + row[6] for key, row in stored.items() if key[1] == 0)
        assert opened == self.hits

    def _stored(self) -> dict[tuple[int, int, int, int], list[int]]:
        rows = self.writer.connection.execute(
            f"SELECT tenant, scope, id, bucket, {COLUMNS} FROM figures"
        ).fetchall()
        found = [[int(str(value)) for value in row] for row in rows]
        return {(a, b, c, d): rest for a, b, c, d, *rest in found if any(rest)}

    def end(self) -> None:
        """Sweep what is left; then nothing of an abandoned batch remains."""
        self.batch = None
        for _ in range(200):
            pending = self.writer.memory.pending
            if pending is None:
                break
            self.tick([], [], Sweep(pending))
        assert self.writer.memory.pending is None, "the sweep does not end"
        self.check()
        for name, key in (("acme", "a"), ("acme", "b"), ("beta", "a")):
            found = self.writer.created_before(name, once(f"{name}{key}").key, self.at)
            known = self.keys.get(f"{name}{key}")
            expected = known and Created(once("").digest, *known)
            assert found == expected
        self.writer.close()
        check_file(self.path)
        store = Store(self.path)
        try:
            self._check_rows(store)
        finally:
            store.writer.close()

    def _check_rows(self, store: Store) -> None:
        rows = store.rows(
            "SELECT t.name, e.email, e.subject, c.name FROM emails AS e "
            "JOIN tenants AS t USING (tenant) JOIN states AS s USING (tenant, email) "
            "LEFT JOIN campaigns AS c ON c.tenant = s.tenant AND c.campaign = s.campaign"
        )
        assert {(name, email): (subject, c) for name, email, subject, c in rows} == self.emails
        used = {(tenant, name) for (tenant, _), (_, name) in self.emails.items() if name}
        named = store.rows(
            "SELECT t.name, c.name FROM campaigns AS c JOIN tenants AS t USING (tenant)"
        )
        assert sorted(named) == sorted(used), "a campaign of nothing, or an email of none"
        for (tenant,) in store.rows("SELECT tenant FROM tenants"):
            stored: dict[Any, list[int]] = {
                (scope, id_, bucket): list(row)
                for scope, id_, bucket, *row in store.rows(
                    f"SELECT scope, id, bucket, {COLUMNS} FROM figures WHERE tenant = ?", tenant
                )
                if any(row)
            }
            assert stored == recount(store, tenant)


def happen(world: World, chance: random.Random) -> None:
    """One thing of many."""
    draw = chance.random()
    if draw < 0.72:
        create = [
            (chance.choice(TENANTS), chance.choice(CAMPAIGNS))
            for _ in range(chance.choice((0, 0, 1, 3)))
        ]
        hits = [
            hit
            for _ in range(chance.choice((0, 1, 4)))
            for hit in world.hit(
                chance.choice(TENANTS), chance.random(), chance.choice((OPEN, CLICK))
            )
        ]
        job = None if chance.random() < 0.1 else world.job()
        fails = job is not None and chance.random() < 0.05
        world.tick(create, hits, Failing(job) if job and fails else job)
        world.settle()
    elif draw < 0.88:
        names = [chance.choice(CAMPAIGNS) for _ in range(chance.randint(1, 12))]
        world.begin(chance.choice(TENANTS), names, chance.randint(1, 4), chance.choice(KEYS))
    elif draw < 0.91:
        world.batch = None  # whoever waited for it is gone
    elif draw < 0.94:
        world.reopen(chance.choice(("restart", "error")))
    else:
        world.check()


def test_whatever_happens_only_whole_batches_exist(tmp_path: Path, soak: bool) -> None:
    finished = swept = 0
    for seed in range(3000 if soak else 80):
        world, chance = World(tmp_path / f"{seed}.db"), random.Random(seed)
        try:
            for _ in range(100):
                happen(world, chance)
            world.end()
            finished += world.finished
            swept += world.swept
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        finally:
            world.writer.close()
    assert finished > 100, "hardly a batch came to its end"
    assert swept > 100, "hardly a batch came to nothing"


def test_an_email_takes_its_campaign_from_a_batch_that_is_swept_just_then(tmp_path: Path) -> None:
    world = World(tmp_path / "t.db")
    try:
        world.begin("acme", ["spring"], 1, None)
        for what in ("ids", "row"):
            assert world.batch, what
            world.tick([], [], world.batch)
        world.batch = None
        for _ in range(3):  # the row goes, then all that is known of the batch
            world.tick([("acme", "spring")], [], world.job())
        world.end()
    finally:
        world.writer.close()


def test_a_campaign_that_went_with_its_batch_comes_again_with_an_email(tmp_path: Path) -> None:
    world = World(tmp_path / "t.db")
    try:
        world.begin("acme", ["spring"], 1, None)
        world.tick([], [], world.job())
        world.batch = None
        world.tick([], [], world.job())
        assert world.writer.memory.pending is None
        world.tick([("acme", "spring")], [], None)
        world.end()
    finally:
        world.writer.close()


# Each step by itself


class Small(NamedTuple):
    """A store with two emails of one tenant."""

    path: Path
    writer: Writer

    def finish(self, batch: Batch) -> None:
        for _ in range(100):
            if batch.over:
                return
            self.writer.write(NOON, [], [], batch)
        raise AssertionError("the batch does not end")

    def open(self, email: int, job: Job | None = None) -> int:
        hit = Hit(1, email, OPEN, NOON, 0, BROWSER, HOME, None)
        return self.writer.write(NOON, [], [hit], job).classes[0]

    def emails(self) -> int:
        [(n,)] = self.writer.connection.execute("SELECT count(*) FROM emails").fetchall()
        return int(str(n))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    small = Small(tmp_path / "t.db", Writer(str(tmp_path / "t.db")))
    small.writer.write(NOON, [NewEmail("acme", None, None, "winter", None)] * 2, [])
    yield small
    small.writer.close()


def test_an_email_of_a_batch_counts_once_the_last_step_is_committed(small: Small) -> None:
    batch = batch_of("acme", [("x", "spring")] * 4, 2)
    seen = []
    while not batch.over:
        seen.append(small.open(3, batch) if batch.range else small.open(1, batch))
    assert seen[1:] == [GONE] * 3
    assert small.open(3) != GONE
    assert (batch.first, batch.error) == (3, None)
    check_file(small.path)


@pytest.mark.parametrize("rows", [3, 5])
def test_a_batch_that_has_not_as_many_rows_as_it_said_is_refused(small: Small, rows: int) -> None:
    batch = batch_of("acme", [("x", None)] * rows, 3)
    batch.plan = batch.plan._replace(emails=4)
    with pytest.raises(DataError):
        small.finish(batch)
    assert not batch.over
    assert small.writer.memory.pending is not None


def test_a_batch_gives_way_to_the_opens_that_wait_but_always_goes_on(small: Small) -> None:
    batch = batch_of("acme", [(f"{n}", None) for n in range(1000)], 1000)
    small.writer.write(NOON, [], [], batch)  # the ids
    rows = []
    for opens in (1, 20, 40, 300, 0):
        before = small.emails()
        hit = Hit(1, 1, OPEN, NOON, 0, BROWSER, HOME, None)
        small.writer.write(NOON, [], [hit] * opens, batch)
        rows.append(small.emails() - before)
    assert rows == [24, 5, 2, 2, 500]
    small.finish(batch)
    assert small.emails() == 1002
    check_file(small.path)


def test_a_sweep_takes_small_steps_and_few_texts_at_once(small: Small) -> None:
    emails: list[Email] = [(f"{n}", None) for n in range(1200)]
    emails += [("x" * 100_000, None)] * 12
    batch = batch_of("acme", emails, 300)
    for _ in range(6):  # the ids, four pieces, one more
        small.writer.write(NOON, [], [], batch)
    assert small.emails() == 2 + 1212
    pending = small.writer.memory.pending
    assert pending is not None
    left = [1214]
    while small.writer.memory.pending is not None:
        small.writer.write(NOON, [], [], Sweep(pending))
        left.append(small.emails())
    steps = [before - after for before, after in itertools.pairwise(left)]
    assert steps[:4] == [2] * 4, "all of some 262,144 characters, no more"
    assert max(steps) <= 500
    assert sum(steps) == 1212
    assert left[-1] == 2
    check_file(small.path)


def test_a_batch_that_fails_gives_back_the_ids_it_did_not_get(small: Small) -> None:
    batch = batch_of("acme", [("x", "spring")] * 4, 2)
    with pytest.raises(StoreError):
        small.writer.write(NOON, [], [], Failing(batch))
    assert small.writer.memory.pending is None
    written = small.writer.write(NOON, [NewEmail("acme", None, None, None, None)], [])
    assert written.emails == [(1, 3)]
    check_file(small.path)
