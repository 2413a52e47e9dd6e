"""The recorder: takes each tick's emails and hits, and holds what waits while the disk fails."""

from time import monotonic
from typing import NamedTuple

from little_bell.errors import DataError, StoreError
from little_bell.store.job import Job
from little_bell.store.transaction import GONE
from little_bell.store.writer import Writer, Written
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import Hit

RETRY = 0.25  # seconds between two looks at a disk that failed
MAX_TRIES = 1000  # batches at the end of the server
RETRY_BATCH = 256  # hits of one transaction while the backlog is written: more than a turn brings


class Recorded(NamedTuple):
    """What became of one tick."""

    durable: bool  # false: hits wait for the disk, emails got no id
    written: Written


NOTHING = Written([], [])
REFUSED = (0, 0)  # in place of (tenant, email)


class Recorder:
    """Durable while `reason` is None; then `/health` says why not, and hits wait in memory.

    After an I/O error the transaction under way is in doubt: it is in the file or it is not. Its
    hits are kept apart (`doubted`) until a new connection has settled that; nothing is written
    before.
    """

    def __init__(self, writer: Writer, waiting_bytes: int) -> None:
        """`waiting_bytes` bounds the memory of the hits that wait."""
        self.writer = writer
        self.limit = waiting_bytes
        self.reason: str | None = None
        self.waiting: list[Hit] = []
        self.waiting_size = 0
        self.doubted: list[Hit] = []
        self.must_reopen = False
        self.dropped = 0  # hits lost because too many waited
        self.refused = 0  # rows that the database refused
        self.retry_at = 0.0  # monotonic

    def record(
        self,
        at: int,
        emails: list[NewEmail],
        hits: list[Hit],
        now: float,
        job: Job | None = None,
    ) -> Recorded:
        """Write one tick, with a step of `job`. `at` is in ms since the epoch, `now` is monotonic
        seconds.

        Never raises for the disk's sake.
        """
        if self.reason is None:
            try:
                return Recorded(True, self._write_or_reopen(at, emails, hits, job))
            except StoreError as error:
                self.degrade(error, now)
                if job is not None:
                    job.failed(error)
            if self.must_reopen:
                self.doubted = list(hits)
                return Recorded(False, NOTHING)
        elif job is not None:
            job.failed(StoreError(self.reason))
        for hit in hits:
            if self.waiting_size + hit.size > self.limit:
                self.dropped += 1
            else:
                self.waiting.append(hit)
                self.waiting_size += hit.size
        return Recorded(False, NOTHING)

    def degrade(self, error: StoreError, now: float) -> None:
        """From now on hits wait, until `retry` finds that the disk is back."""
        self.reason = str(error)
        self.must_reopen = self.must_reopen or error.reopen
        self.retry_at = now + RETRY

    def _write_or_reopen(
        self, at: int, emails: list[NewEmail], hits: list[Hit], job: Job | None
    ) -> Written:
        """Write; after an I/O error once more, on a new connection that settled the doubt.

        That of a job's step is not settled: the job has failed.
        """
        try:
            return self._write(at, emails, hits, job)
        except StoreError as error:
            if not error.reopen:
                raise
            if job is not None:
                job.failed(error)
        self.must_reopen = True
        written = self.writer.reopen()
        self.must_reopen = False
        return written or self._write(at, emails, hits)

    def _write(
        self, at: int, emails: list[NewEmail], hits: list[Hit], job: Job | None = None
    ) -> Written:
        """Write; where the database refuses a value, without the rows that cannot be written."""
        try:
            return self.writer.write(at, emails, hits, job)
        except DataError as error:
            good_emails = [email for email in emails if self.writer.accepts(at, [email], [])]
            good_hits = [hit for hit in hits if self.writer.accepts(at, [], [hit])]
            refused = len(emails) + len(hits) - len(good_emails) - len(good_hits)
            if job is not None and not refused:
                job.failed(error)
                return self._write(at, emails, hits)
        self.refused += refused
        written = self._write_good(at, good_emails, good_hits, job)
        made, judged = iter(written.emails), iter(written.classes)
        return Written(
            [next(made) if email in good_emails else REFUSED for email in emails],
            [next(judged) if hit in good_hits else GONE for hit in hits],
        )

    def _write_good(
        self, at: int, emails: list[NewEmail], hits: list[Hit], job: Job | None
    ) -> Written:
        """Write what the database accepted before; after an I/O error once more."""
        try:
            return self.writer.write(at, emails, hits, job)
        except DataError as error:
            if job is None:
                raise
            job.failed(error)
            return self._write_good(at, emails, hits, None)
        except StoreError as error:
            if not error.reopen:
                raise
            if job is not None:
                job.failed(error)
        self.must_reopen = True
        known = self.writer.reopen()
        self.must_reopen = False
        return known or self.writer.write(at, emails, hits)

    def retry(self, now: float) -> list[tuple[Hit, int]]:
        """Look whether the disk is back and write one batch of what waits.

        Returns the hits that were written and their classes; `reason` is None again once nothing
        waits. `now` is monotonic seconds.
        """
        if self.reason is None or now < self.retry_at:
            return []
        started = monotonic()
        try:
            written = self._settle() if self.must_reopen else self._write_waiting()
        except StoreError as error:
            self.degrade(error, now)
            # A repair that writes a long WAL again, in vain, must not take most of the time.
            self.retry_at += 4 * (monotonic() - started)
            return []
        self.retry_at = now
        return written

    def _settle(self) -> list[tuple[Hit, int]]:
        """Reopen; the hits in doubt were written, or else wait in front of all others."""
        written = self.writer.reopen()
        self.must_reopen = False
        doubted, self.doubted = self.doubted, []
        if written is not None:
            # Fewer classes where the database had refused some of the hits.
            return list(zip(doubted, written.classes, strict=False))
        self._put_back(doubted)
        return []

    def _write_waiting(self) -> list[tuple[Hit, int]]:
        """Write the oldest hits that wait; where none does, see whether the disk takes a write."""
        if not self.waiting:
            self.writer.probe()
            self.reason = None
            return []
        batch = self.waiting[:RETRY_BATCH]
        del self.waiting[:RETRY_BATCH]
        self.waiting_size -= sum(hit.size for hit in batch)
        try:
            written = self._write(batch[0].at, [], batch)
        except StoreError as error:
            if error.reopen:
                self.doubted = batch
            else:
                self._put_back(batch)
            raise
        if not self.waiting:
            self.reason = None
        return list(zip(batch, written.classes, strict=True))

    def _put_back(self, hits: list[Hit]) -> None:
        self.waiting[:0] = hits
        self.waiting_size += sum(hit.size for hit in hits)

    @property
    def events_waiting(self) -> int:
        return len(self.waiting) + len(self.doubted)

    def close(self) -> int:
        """Write what waits, if the disk lets us; returns how many events are lost."""
        for _ in range(MAX_TRIES):
            if not self.events_waiting:
                break
            before = self.events_waiting, self.must_reopen
            self.retry(self.retry_at)
            if (self.events_waiting, self.must_reopen) == before:
                break
        return self.events_waiting
