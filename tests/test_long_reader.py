"""Checkpoints are held up: by a reader that stays, by another program's, by the disk."""

import fcntl
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from bell import wait_until
from durable_check import check, check_agreement, copy_database, seed
from durable_load import OPENED, Emails, Ledger, Load
from durable_load import Hit as LoadHit
from little_bell.store.checkpoint import START, Checkpointer
from little_bell.store.database import PAGE_SIZE
from little_bell.store.recorder import Recorder
from little_bell.store.writer import Writer
from little_bell.tracking.hit import Hit
from little_bell.wire.control import call
from little_bell.wire.server import PER_TICK
from test_disk_errors import PROGRAM, Faulty, check_all_once

EMAILS = 60_000
CAP = 32 << 20  # bytes of the WAL
SMALLEST = 4 << 20  # the smallest MAX_WAL_BYTES that can be set
NOW = 1_700_000_000_000  # milliseconds
CHECKPOINT_LOCK = 121  # the byte of the WAL index (https://www.sqlite.org/walformat.html 2.3.1)
PAUSE = 0.01  # of each client, so that a failure stays within what may wait


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("seeded") / "data" / "tracking.db"
    seed(database, EMAILS)
    return database


@pytest.fixture
def start(tmp_path: Path, seeded: Path) -> Iterator[Callable[..., Faulty]]:
    """Starts a server; `faults` says whether its disk can be told to fail, which slows it down."""
    started: list[Faulty] = []

    def begin(faults: bool = False, **settings: str) -> Faulty:
        folder = tmp_path / f"bell{len(started)}"
        copy_database(seeded, folder / "data" / "tracking.db")
        program = PROGRAM if faults else None
        settings = {"FAULT": str(folder / "fault"), "MAX_WAL_BYTES": str(CAP), **settings}
        bell = Faulty(folder, program, **settings)
        started.append(bell)
        bell.start()
        return bell

    yield begin
    for bell in started:
        bell.end()


@contextmanager
def reading(database: Path) -> Iterator[None]:
    """Another program that looks at one state of the database as long as the `with` lasts."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
    with closing(connection):
        connection.execute("BEGIN")

        def events() -> int:
            [(count,)] = connection.execute("SELECT count(*) FROM events").fetchall()
            return int(count)

        first = events()
        yield
        assert events() == first, "a reader sees one state"


def wal_bytes(database: Path) -> int:
    try:
        return os.stat(f"{database}-wal").st_size
    except FileNotFoundError:
        return 0


def ask_checkpoint(bell: Faulty) -> None:
    """As soon as it can be, however little there is to move."""
    status, _ = call(str(bell.database), "POST", "/checkpoint")
    assert status == 200


# A server


def test_the_wal_grows_while_a_reader_stays_and_no_longer(
    start: Callable[..., Faulty], soak: bool
) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS)):
        with reading(bell.database):
            wait_until(lambda: wal_bytes(bell.database) > (4 if soak else 1.2) * CAP, 60)
            assert bell.health()[0] == 200
            assert bell.get("/acme/dashboard").status == 200
            assert bell.metrics()["checkpoints_total"] == 0
        wait_until(lambda: wal_bytes(bell.database) <= CAP, 30)
        wait_until(lambda: bell.metrics()["checkpoints_total"] > 0)
    assert bell.metrics()["answers_not_durable_total"] == 0
    wait_until(lambda: wal_bytes(bell.database) <= CAP, 30)
    check_all_once(bell, ledger)


def test_it_stops_and_starts_while_a_reader_stays(start: Callable[..., Faulty]) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    emails = Emails(EMAILS)
    with reading(bell.database):
        for _ in range(3):
            with Load(bell.port, ledger, emails):
                time.sleep(0.3)
            assert bell.stop() == 0
            check(bell.database, ledger)
            bell.start()
    assert bell.error_file.read_text() == ""
    check_all_once(bell, ledger)
    assert wal_bytes(bell.database) == 0


def test_it_is_killed_while_a_reader_stays(start: Callable[..., Faulty]) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    with reading(bell.database):
        load = Load(bell.port, ledger, Emails(EMAILS))
        with load:
            time.sleep(0.7)
            bell.kill()
            load.wait()
        bell.start()
        check(bell.database, ledger)
    assert bell.stop() == 0
    assert ledger.answered.total() > 0
    check(bell.database, ledger)


def test_another_program_makes_checkpoints(start: Callable[..., Faulty]) -> None:
    """It holds the lock that a checkpoint takes. A VFS of apsw has no part in these locks."""
    bell, ledger = start(), Ledger(EMAILS)
    index = os.open(f"{bell.database}-shm", os.O_RDWR)
    try:
        with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
            fcntl.lockf(index, fcntl.LOCK_EX, 1, CHECKPOINT_LOCK)
            ask_checkpoint(bell)
            time.sleep(1.2)
            held = bell.metrics()
            fcntl.lockf(index, fcntl.LOCK_UN, 1, CHECKPOINT_LOCK)
            wait_until(lambda: bell.metrics()["checkpoints_total"] > 0)
    finally:
        os.close(index)
    assert held["checkpoints_total"] == 0
    assert held["healthy"] == 1
    assert bell.metrics()["answers_not_durable_total"] == 0
    check_all_once(bell, ledger)


def test_the_database_has_no_room_while_its_wal_has(start: Callable[..., Faulty]) -> None:
    bell, ledger = start(faults=True), Ledger(EMAILS)
    bell.set_fault("full-database")
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
        time.sleep(0.3)
        ask_checkpoint(bell)
        time.sleep(1.2)
        full = bell.metrics()
        bell.set_fault("")
        wait_until(lambda: bell.metrics()["checkpoints_total"] > 0)
    assert full["checkpoints_total"] == 0
    assert full["healthy"] == 1
    assert bell.metrics()["answers_not_durable_total"] == 0
    check_all_once(bell, ledger)


def test_syncs_of_the_database_fail_in_a_checkpoint(start: Callable[..., Faulty]) -> None:
    """Then no promise is made until all of the WAL was written and moved again."""
    bell, ledger = start(faults=True), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
        time.sleep(0.3)
        bell.set_fault("sync-database")
        ask_checkpoint(bell)
        report = bell.wait_for(503)
        time.sleep(0.7)
        waiting = bell.metrics()
        bell.set_fault("")
        bell.wait_for(200)
        ask_checkpoint(bell)
        wait_until(lambda: bell.metrics()["checkpoints_total"] > 0)
    assert "I/O error" in str(report["reason"])
    assert waiting["events_waiting"] > 0
    check_all_once(bell, ledger)


def test_syncs_fail_while_a_reader_stays(start: Callable[..., Faulty]) -> None:
    """The file cannot be opened alone: no promise, but nothing is lost either."""
    bell, ledger = start(faults=True), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE, readers=2):
        time.sleep(0.3)
        bell.set_fault("sync")
        with reading(bell.database):
            bell.wait_for(503)
            bell.set_fault("")
            time.sleep(1.0)
            assert bell.health()[0] == 503
            assert bell.get("/acme/pixel/1.gif").status == 200
            ledger.sent[opened(1)] += 1
            ledger.answered[opened(1)] += 1
        bell.wait_for(200)
    check_all_once(bell, ledger)


def opened(email: int) -> LoadHit:
    return LoadHit(OPENED, email, "")


@pytest.mark.parametrize("delay", ["0.002", "0.05"])
def test_the_wal_stays_bounded_on_a_slow_disk(
    start: Callable[..., Faulty], soak: bool, delay: str
) -> None:
    if not soak and delay != "0.002":
        pytest.skip("the slower disk belongs to the long form")
    bell, ledger = start(faults=True), Ledger(EMAILS)
    bell.set_fault(f"slow {delay}")
    largest = 0
    with Load(bell.port, ledger, Emails(EMAILS)):
        until = time.monotonic() + (30 if soak else 2.5)
        while time.monotonic() < until:
            largest = max(largest, wal_bytes(bell.database))
            time.sleep(0.02)
        ask_checkpoint(bell)
        wait_until(lambda: bell.metrics()["checkpoints_total"] > 0, 30)
    assert largest <= 1.5 * CAP
    check_all_once(bell, ledger)


# The store alone, so that each step comes at a known moment. Readers are the driver's here: locks
# of a file are no locks between two libraries in one process, and closing it lets go of them.


@contextmanager
def reading_beside(database: Path) -> Iterator[None]:
    """The same within the process of the store."""
    connection = apsw.Connection(str(database), apsw.SQLITE_OPEN_READONLY)
    with closing(connection):
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM events").fetchall()
        yield


class Filled:
    """A writer and its checkpointer, and hits to write."""

    def __init__(self, database: Path, cap: int) -> None:
        self.database = database
        self.writer = Writer(str(database))
        self.checkpointer = Checkpointer(self.writer, cap)
        self.random = random.Random(1)
        self.now = 0.0

    def hits(self, count: int) -> list[Hit]:
        numbers = self.random.choices(range(1, EMAILS + 1), k=count)
        return [Hit(1, email, 0, NOW, 0, "x", b"abc", None) for email in numbers]

    def write(self, pages: int) -> None:
        """Until the WAL has so many pages."""
        while self.writer.wal_pages < pages:
            self.writer.write(NOW, [], self.hits(PER_TICK))

    def step(self) -> None:
        """What the loop does in a turn."""
        self.now += 0.01
        self.checkpointer.step(self.now)

    def settle(self, seconds: float) -> None:
        """Turns without anything else to do, for so long by the loop's own clock."""
        until = self.now + seconds
        while self.now < until:
            self.step()
            self.checkpointer.wait()

    def close(self) -> None:
        self.checkpointer.close()
        self.writer.close()
        self.checkpointer.release()


@pytest.fixture
def filled(tmp_path: Path, seeded: Path) -> Iterator[Callable[[int], Filled]]:
    made: list[Filled] = []

    def make(cap: int) -> Filled:
        database = tmp_path / "data" / "tracking.db"
        copy_database(seeded, database)
        made.append(Filled(database, cap))
        return made[0]

    yield make
    for one in made:
        one.close()
        connection = apsw.Connection(str(one.database))
        try:
            check_agreement(connection)
        finally:
            connection.close()


def test_what_a_reader_held_up_is_moved_once_it_is_gone(filled: Callable[[int], Filled]) -> None:
    store = filled(SMALLEST)
    store.write(2)
    with reading_beside(store.database):
        store.write(9000)
        store.settle(5.0)
        assert store.checkpointer.count == 0
        assert wal_bytes(store.database) > 9000 * PAGE_SIZE
    store.settle(10.0)
    assert store.checkpointer.count > 0
    assert wal_bytes(store.database) <= SMALLEST


def test_no_turn_moves_what_a_reader_held_up(filled: Callable[[int], Filled]) -> None:
    """It leaves when a round behind it has ended, and before the fast lane looks at that."""
    store = filled(SMALLEST)
    store.write(2)
    with reading_beside(store.database):
        store.write(9000)
        store.step()
        store.checkpointer.wait()
    left = store.checkpointer.left
    assert left is not None
    assert left < 1000, "the reader was not in the way"
    store.step()
    assert store.writer.wal_pages > 0, f"one turn moved {9000 - left} pages"
    store.settle(10.0)
    assert store.checkpointer.count > 0


def test_no_turn_moves_all_of_a_quiet_servers_wal(filled: Callable[[int], Filled]) -> None:
    """Where nobody writes while a round moves all, the next commit lets the WAL begin anew."""
    store = filled(CAP)
    for _ in range(2):
        store.write(START)
        store.step()
        assert store.writer.wal_pages >= START, "one turn moved the whole WAL"
        store.checkpointer.wait()
        store.writer.write(NOW, [], store.hits(1))
        assert store.writer.wal_pages < 100, "the WAL did not begin anew"
        store.step()
    assert wal_bytes(store.database) <= CAP


def test_no_turn_cuts_much_of_the_file(filled: Callable[[int], Filled]) -> None:
    store = filled(SMALLEST)
    store.write(2)
    with reading_beside(store.database):
        store.write(12_000)
    sizes = [wal_bytes(store.database)]
    for _ in range(200):
        store.step()
        store.checkpointer.wait()
        store.writer.write(NOW, [], store.hits(1))
        sizes.append(wal_bytes(store.database))
    assert sizes[-1] <= SMALLEST
    cuts = [before - after for before, after in pairwise(sizes)]
    assert max(cuts) <= 16 << 20


def test_a_small_cap_is_kept(filled: Callable[[int], Filled]) -> None:
    store = filled(SMALLEST)
    store.write(SMALLEST // PAGE_SIZE + 500)
    store.settle(10.0)
    assert wal_bytes(store.database) <= SMALLEST


def test_what_waits_is_written_though_every_turn_is_full(filled: Callable[[int], Filled]) -> None:
    """At full load the disk's failure would otherwise last until the load is over."""
    store = filled(CAP)
    recorder = Recorder(store.writer, 8 << 20)
    turns = 0
    other = apsw.Connection(str(store.database))
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        for _ in range(40):
            assert not recorder.record(NOW, [], store.hits(PER_TICK), 0.0).durable
        other.execute("ROLLBACK")
    while recorder.reason is not None and turns < 100:
        turns += 1
        recorder.record(NOW, [], store.hits(PER_TICK), float(turns))
        recorder.retry(float(turns))
    assert recorder.reason is None, f"{recorder.events_waiting} still wait"
    assert recorder.dropped == 0


def test_what_was_moved_is_not_undone_by_a_crash_before_the_next_commit(
    filled: Callable[[int], Filled], tmp_path: Path
) -> None:
    """A checkpoint leaves the old WAL valid until a commit begins the new one: a part of it would
    be played into a newer database."""
    store = filled(SMALLEST)
    store.write(2)
    with reading_beside(store.database):
        store.write(12_000)
    store.checkpointer.ask()
    for _ in range(60):  # turns of an idle server
        store.step()
        store.checkpointer.wait()
    assert store.writer.wal_pages < 10, "the WAL was not moved"
    [(events,)] = store.writer.connection.execute("SELECT count(*) FROM events").fetchall()
    copy_database(store.database, tmp_path / "crashed" / "tracking.db")
    crashed = apsw.Connection(str(tmp_path / "crashed" / "tracking.db"))
    with closing(crashed):
        assert crashed.execute("SELECT count(*) FROM events").fetchall() == [(events,)]
        check_agreement(crashed)
