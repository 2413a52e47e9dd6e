"""Checkpoints that never surprise.

The bulk is moved by a PASSIVE checkpoint in a thread with its own connection (SQLite lets go of
the interpreter's lock meanwhile, and writers go on). What was written meanwhile is little, and the
fast lane moves it itself, after which the WAL starts from its beginning again. Where writers are
faster than the thread, they are held back a little (`pause`) until it has caught up: whatever the
fast lane moves itself, everybody waits for. Behind a reader of an old state nothing can be done:
the WAL grows, which is better than to lose events, and `held` says so.

SQLite syncs the database only with the checkpoint that reaches the end of the WAL. So the thread
syncs what it moved by a descriptor of its own, else the fast lane would wait for all of it: 18 ms,
as measured. That descriptor stays open: closing one lets go of all POSIX locks that the process
holds on the file (https://www.sqlite.org/howtocorrupt.html 2.2).
"""

import _thread
import contextlib
import os
from time import perf_counter
from typing import TYPE_CHECKING

import apsw

from little_bell.errors import StoreError
from little_bell.store.database import PAGE_SIZE
from little_bell.store.writer import Writer

if TYPE_CHECKING:
    from little_bell.store.wipe import Wipe

START = 8192  # pages in the WAL that are worth a checkpoint: 16 MB, or half of the cap
CUT = 8 << 20  # bytes by which a turn shortens the file of a WAL past its cap: 3 ms
SHORT = 128  # pages that the fast lane moves gladly
MOST = 512  # pages that it moves once rounds do not get below SHORT
AGAIN = 1.0  # seconds until the next try after an error or behind a reader
ROUNDS = 6  # that may fail to get below SHORT; from then on writers are held back
PAUSE = 0.005  # seconds, more with each further round
LONGEST_PAUSE = 0.02

FRAME = PAGE_SIZE + 24  # bytes of a page in the WAL
HEADER = 32  # bytes before the first of them

sync = getattr(os, "fdatasync", os.fsync)


class Checkpointer:
    """Watches the WAL of one writer. `step` is called by the loop, once a tick."""

    def __init__(self, writer: Writer, cap_bytes: int, others: bool = False) -> None:
        """`cap_bytes` is the size past which the WAL's file is given back to the disk. `others`:
        another program does what is to be done before."""
        self.writer = writer
        self.cap_bytes = cap_bytes
        self.cap = cap_bytes // PAGE_SIZE
        self.start = self.cap if others else min(START, self.cap // 2)
        self.past = False  # the WAL is past its cap
        self.long = False  # it began anew, and its file may be cut
        self.begun = 0  # `wal_begun` when the round under way began
        self.running = False
        self.left: int | None = None  # pages that the last round left, once it is over
        self.rounds = 0
        self.moved = 0  # pages, by the rounds so far
        self.pause = 0.0  # seconds that each turn has to wait
        self.held = False  # past the cap, and a reader is in the way
        self.count = 0
        self.longest = 0.0  # seconds that the fast lane's own part took at most
        self.again_at = 0.0  # monotonic
        self.error: apsw.Error | OSError | None = None  # of the last round
        self.asked = False
        self.clean = False  # once it began anew, all of its file behind its end goes
        self.cleaning = False  # now
        self.fd: int | None = None  # of the database, to sync it, and to wipe what it does not use
        self.wipe: Wipe | None = None  # under way

    def ask(self, clean: bool = False) -> None:
        """Do one at the next step, however little the WAL holds. `clean`: nothing that was in it
        before stays in its file."""
        self.asked = True
        self.clean = self.clean or clean

    def step(self, now: float) -> None:
        """Start a round, or finish it. `now` is monotonic seconds.

        Raises StoreError after an I/O error: then no checkpoint can be trusted, see
        `Writer.reopen`.
        """
        self._step(now)
        if self.wipe is not None:
            self.wipe.step()

    def _step(self, now: float) -> None:
        if self.writer.wal_pages >= self.cap:
            self.past = True
        elif self.past:  # it began anew, whoever moved it
            self.past, self.long, self.held = False, True, False
        if self.long:
            if not self.writer.wal_pages:
                self.writer.probe()  # a commit, so that it may be cut
            self._cut()
        if self.running or not self.writer.wal_pages:
            return
        if self.left is not None and self.begun != self.writer.wal_begun:
            self.left = None  # that was another WAL: all of it was moved, and it began anew
            self.rounds = self.moved = 0
        if (self.writer.wal_pages < self.start and not self.asked) or now < self.again_at:
            return
        if self.left is None:
            self._start()
            return
        left, self.left = self.left, None
        if self.error is not None:
            self._failed(self.error, now)
            return
        behind = self.writer.wal_pages - left
        if behind > (SHORT if self.rounds < ROUNDS else MOST):
            if left == self.moved:
                self._held(now)
                return
            self.moved = left
            if self.rounds >= ROUNDS:
                self.pause = min(LONGEST_PAUSE, self.pause + PAUSE)
            self._start()
            return
        self._finish(now)

    def _held(self, now: float) -> None:
        """A reader of an old state is in the way."""
        self.held = self.writer.wal_pages >= self.cap
        self._rest(now)

    def _rest(self, now: float) -> None:
        """Until the next try."""
        self.again_at = now + AGAIN
        self.rounds = self.moved = 0
        self.pause = 0.0

    def _start(self) -> None:
        self.running = True
        self.error = None
        self.begun = self.writer.wal_begun
        self.rounds += 1
        try:
            _thread.start_new_thread(self._passive, (self.writer.path,))
        except RuntimeError:  # no thread can be had now
            self.running = False

    def _passive(self, path: str) -> None:
        moved = 0
        try:
            connection = apsw.Connection(path, apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.pragma("synchronous", "full")
                connection.wal_autocheckpoint(0)
                _, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            finally:
                connection.close()
            if self.fd is None:
                self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            sync(self.fd)
        except (apsw.Error, OSError) as error:
            self.error = error
        self.left = moved
        self.running = False

    def _cut(self) -> None:
        """Shorten the file of a WAL that began anew, a piece a turn: cut at once, 500 MB take
        150 ms.

        Not before a commit stands in the new one: a checkpoint alone leaves the old one valid, and
        after a crash a part of it would be played into a database that is newer. Behind a commit
        all older pages are void, and nobody reads them.
        """
        path = self.writer.path + "-wal"
        try:
            size = os.stat(path).st_size
            least = max(self.cap_bytes, 2 * self.writer.wal_pages * FRAME)
            if self.cleaning:
                least = HEADER + self.writer.wal_pages * FRAME
            if size > least:
                os.truncate(path, max(least, size - CUT))
            self.long = size - CUT > least
        except OSError:
            self.long = False  # with the next checkpoint
        self.cleaning = self.cleaning and self.long

    def _finish(self, now: float) -> None:
        started = perf_counter()
        try:
            done = self.writer.checkpoint("restart")
        except apsw.Error as error:
            self._failed(error, now)
            return
        finally:
            self.longest = max(self.longest, perf_counter() - started)
        if not done:
            self._held(now)
            return
        self.rounds = self.moved = 0
        self.pause = 0.0
        self.count += 1
        self.asked = self.held = False
        if self.clean:
            self.clean = False
            self.long = self.cleaning = True

    def _failed(self, error: apsw.Error | OSError, now: float) -> None:
        """Try again later, unless pages may be lost."""
        self._rest(now)
        if isinstance(error, apsw.IOError | OSError):
            raise StoreError(f"checkpoint: {error}", reopen=True) from error

    def wait(self) -> None:
        """Let a round under way end; at most a moment, since it moves one WAL."""
        from time import sleep

        for _ in range(500):
            if not self.running:
                return
            sleep(0.01)

    def close(self) -> None:
        """At the end of the server: no round is under way, and the WAL is empty."""
        self.wait()
        with contextlib.suppress(apsw.Error):
            self.writer.checkpoint("truncate")

    def release(self) -> None:
        """Close the descriptor, once no connection of this process is open."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
