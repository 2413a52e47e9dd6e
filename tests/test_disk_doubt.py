"""A commit whose sync failed: it is in the file or it is not, and the store must find out which.

On the store itself, without a server, so that each failure comes at a known moment.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from durable_vfs import BASE, Disk, File, PowerVFS
from little_bell.errors import StoreError
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.database import migrate, open_writer
from little_bell.store.memory import Limits
from little_bell.store.recorder import Recorder
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import OPEN, Hit

NOW = 1_700_000_000_000  # milliseconds
NEVER = 1 << 60
EMAILS = 500  # of tenant 1, so that their events fill several pages


class FailingDisk(Disk):
    """A disk without its cut, but with syncs and writes that fail when they are told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(NEVER, "", folder / "image", random.Random(1))
        self.failing_syncs = 0
        self.failing_file = ""  # of any file, where empty
        self.then_locked = False  # once so many syncs have failed
        self.fails = self.next_sync_fails

    def next_sync_fails(self, file: File) -> bool:
        if self.failing_syncs and self.failing_file in ("", file.name):
            self.failing_syncs -= 1
            self.locked = self.then_locked and not self.failing_syncs
            return True
        return False

    def platter(self) -> Path:
        """Cut the power, losing everything that was not synced; returns the database's image."""
        self.image.mkdir()
        for file in self.files.values():
            if file.synced is not None:
                (self.image / file.name).write_bytes(file.synced)
        return self.image / "tracking.db"


class Store:
    """A recorder on a failing disk."""

    def __init__(self, folder: Path, disk: FailingDisk) -> None:
        self.path = str(folder / "tracking.db")
        self.disk = disk
        connection = open_writer(self.path)
        migrate(connection)
        connection.close()
        limits = Limits(hits_per_email_hour=2)
        self.writer = Writer(self.path, limits)
        self.recorder = Recorder(self.writer, 1 << 20)
        self.clock = 0.0
        emails = [NewEmail("acme", None, None, None, None)] * EMAILS
        emails.append(NewEmail("beta", None, None, None, None))
        assert self.recorder.record(NOW, emails, [], 0.0).durable

    def open(self, *emails: int, tenant: int = 1) -> bool:
        """Record opens in one tick; returns whether the answer was a promise."""
        hits = [Hit(tenant, email, OPEN, NOW, 0, "x", b"abc", None) for email in emails]
        return self.record(hits)

    def record(self, hits: list[Hit]) -> bool:
        self.clock += 0.01
        return self.recorder.record(NOW, [], hits, self.clock).durable

    def retry(self) -> None:
        """Let the recorder look at the disk as often as it takes to write what waits."""
        for _ in range(5):
            self.clock += 10.0
            self.recorder.retry(self.clock)
            if self.recorder.reason is None:
                return

    def opened(self, path: Path | None = None) -> list[tuple[int, int]]:
        """(tenant, email) of every event, of this file or of an image of it."""
        vfs = None if path is None else BASE
        connection = apsw.Connection(str(path or self.path), vfs=vfs)
        try:
            found = connection.execute("SELECT tenant, email FROM events WHERE kind = 0")
            return sorted((int(str(tenant)), int(str(email))) for tenant, email in found)
        finally:
            connection.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    disk = FailingDisk(tmp_path)
    vfs = PowerVFS(disk)
    try:
        made = Store(tmp_path, disk)
        yield made
        disk.failing_syncs = 0
        made.writer.close()
    finally:
        vfs.unregister()


def test_one_failed_sync_is_repaired_within_the_tick(store: Store) -> None:
    store.disk.failing_syncs = 1
    assert store.open(1)
    assert store.open(2)
    assert store.opened() == [(1, 1), (1, 2)]
    assert store.opened(store.disk.platter()) == [(1, 1), (1, 2)]


@pytest.mark.parametrize("failing", range(2, 12))
def test_whatever_number_of_syncs_fail_each_event_is_there_once(store: Store, failing: int) -> None:
    store.disk.failing_syncs = failing
    for email in range(1, 6):
        store.open(email)
    for _ in range(failing):
        store.retry()
    assert store.recorder.reason is None
    assert store.open(6)
    assert store.opened() == [(1, email) for email in range(1, 7)]
    assert store.opened(store.disk.platter()) == [(1, email) for email in range(1, 7)]


def test_a_tick_of_two_tenants_is_there_whole(store: Store) -> None:
    """Though for the second of them it changes no number: it only grows the row of a cap."""
    for _ in range(8):
        assert store.open(1, tenant=2)
    before = store.opened()
    capped = Hit(2, 1, OPEN, NOW, 0, "x", b"abc", None)
    store.disk.failing_syncs = 1
    assert store.record([Hit(1, 5, OPEN, NOW, 0, "x", b"abc", None), capped])
    assert store.opened() == [(1, 5), *before]


def test_the_disk_is_full_when_the_file_is_opened_again(store: Store) -> None:
    """Another error than the first while it is settled: the doubt stays until it is settled."""
    assert store.open(1)
    store.disk.failing_syncs = 2  # of the commit, and of closing
    store.disk.full = "tracking.db"
    assert not store.open(2)
    store.disk.full = None
    store.retry()
    assert store.recorder.reason is None
    assert store.open(3)
    assert store.recorder.refused == 0
    assert store.opened() == [(1, 1), (1, 2), (1, 3)]


def test_another_holds_the_file_when_it_is_opened_again(store: Store) -> None:
    """As a checkpoint does that ends just then: its closing locks the file for a moment."""
    assert store.open(1)
    store.disk.failing_syncs = 2  # of the commit, and of closing
    store.disk.then_locked = True
    assert not store.open(2)
    store.disk.locked = False
    store.retry()
    assert store.recorder.reason is None
    assert store.open(3)
    assert store.opened() == [(1, 1), (1, 2), (1, 3)]


def test_a_reader_is_in_the_way_when_the_file_is_opened_again(store: Store) -> None:
    """Behind pages that no sync will write any more, later commits are not safe either."""
    assert store.open(1)
    store.disk.failing_syncs = 3
    assert not store.open(2)
    reader = apsw.Connection(store.path)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        store.retry()
        durable = store.open(3)
        image = store.disk.platter()
    finally:
        store.disk.failing_syncs = 0  # the last to close checkpoints
        reader.close()
    # Either it is no promise as long as the reader is there, or it is kept.
    assert not durable or (1, 3) in store.opened(image)


def test_the_sync_of_a_checkpoint_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite syncs the database only once all of the WAL is in it. Pages that an earlier round
    moved are lost with that sync, and the next round takes them for moved: all of them must be
    moved again before the WAL is given up.
    """
    monkeypatch.setattr("little_bell.store.checkpoint.START", 1)
    checkpointer = Checkpointer(store.writer, 1 << 30)

    def checkpoint(now: float) -> None:
        for n in range(4):
            try:
                checkpointer.step(now + n / 100)
            except StoreError as error:  # as the server does
                store.recorder.degrade(error, store.clock)
            checkpointer.wait()

    early, late = range(1, 401), range(401, 406)
    assert store.open(*early)
    reader = apsw.Connection(store.path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    assert store.open(late[0])
    checkpoint(10.0)  # up to what the reader sees
    reader.close()
    assert store.open(late[1])
    store.disk.failing_file = "tracking.db"
    store.disk.failing_syncs = 1
    checkpoint(20.0)
    assert store.disk.failing_syncs == 0, "no checkpoint synced the database"
    for n, email in enumerate(late[2:]):
        store.open(email)
        store.retry()
        checkpoint(30.0 + 10 * n)
    assert checkpointer.count > 0, "no checkpoint came to its end"
    expected = [(1, email) for email in (*early, *late)]
    assert store.opened() == expected
    assert store.opened(store.disk.platter()) == expected
