"""The recorder: takes each tick's emails and hits, and holds what waits while the disk fails."""

from typing import NamedTuple

from little_bell.errors import DataError, StoreError
from little_bell.store.transaction import GONE
from little_bell.store.writer import Writer, Written
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import Hit

RETRY = 0.25  # seconds between two looks at a disk that failed
RETRY_BATCH = 500  # hits of one transaction while the backlog is written


class Recorded(NamedTuple):
    """What became of one tick."""

    durable: bool  # false: hits wait for the disk, emails got no id
    written: Written


NOTHING = Written([], [])
REFUSED = (0, 0)  # in place of (tenant, email)


class Recorder:
    """Durable while `reason` is None; then `/health` says why not, and hits wait in memory."""

    def __init__(self, writer: Writer, waiting_bytes: int) -> None:
        """`waiting_bytes` bounds the memory of the hits that wait."""
        self.writer = writer
        self.limit = waiting_bytes
        self.reason: str | None = None
        self.waiting: list[Hit] = []
        self.waiting_size = 0
        self.dropped = 0  # hits lost because too many waited
        self.refused = 0  # rows that the database refused
        self.must_reopen = False
        self.in_doubt = 0  # hits at the head of the queue that a failed commit may have written
        self.retry_at = 0.0  # monotonic

    def record(self, at: int, emails: list[NewEmail], hits: list[Hit], now: float) -> Recorded:
        """Write one tick. `at` is in ms since the epoch, `now` is monotonic seconds.

        Never raises for the disk's sake.
        """
        if self.reason is None:
            try:
                return Recorded(True, self._write_or_reopen(at, emails, hits))
            except StoreError as error:
                self._degrade(error, now)
                self.in_doubt = len(hits) if error.reopen else 0
        self._wait(hits)
        return Recorded(False, NOTHING)

    def _write_or_reopen(self, at: int, emails: list[NewEmail], hits: list[Hit]) -> Written:
        """Write; after an I/O error once more, on a new connection that settled the doubt."""
        try:
            return self._write(at, emails, hits)
        except StoreError as error:
            if not error.reopen:
                raise
        return self.writer.reopen() or self._write(at, emails, hits)

    def _write(self, at: int, emails: list[NewEmail], hits: list[Hit]) -> Written:
        """Write; where the database refuses a value, without the rows that cannot be written."""
        try:
            return self.writer.write(at, emails, hits)
        except DataError:
            good_emails = [email for email in emails if self.writer.accepts(at, [email], [])]
            good_hits = [hit for hit in hits if self.writer.accepts(at, [], [hit])]
        self.refused += len(emails) + len(hits) - len(good_emails) - len(good_hits)
        written = self.writer.write(at, good_emails, good_hits)
        made, judged = iter(written.emails), iter(written.classes)
        return Written(
            [next(made) if email in good_emails else REFUSED for email in emails],
            [next(judged) if hit in good_hits else GONE for hit in hits],
        )

    def _degrade(self, error: StoreError, now: float) -> None:
        self.reason = str(error)
        self.must_reopen = self.must_reopen or error.reopen
        self.retry_at = now + RETRY

    def _wait(self, hits: list[Hit]) -> None:
        for hit in hits:
            if self.waiting_size + hit.size > self.limit:
                self.dropped += 1
            else:
                self.waiting.append(hit)
                self.waiting_size += hit.size

    def retry(self, now: float) -> list[tuple[Hit, int]]:
        """Look whether the disk is back and write one batch of what waits.

        Returns the hits that were written and their classes; `reason` is None again once nothing
        waits. `now` is monotonic seconds.
        """
        if self.reason is None or now < self.retry_at:
            return []
        self.retry_at = now + RETRY
        try:
            if self.must_reopen:
                doubted = self.writer.reopen()
                self.must_reopen = False
                in_doubt, self.in_doubt = self.in_doubt, 0
                if doubted is not None:
                    return list(zip(self._take(in_doubt), doubted.classes, strict=True))
            if not self.waiting:
                self.writer.probe()
                self.reason = None
                return []
            batch = self.waiting[:RETRY_BATCH]
            written = self._write(batch[0].at, [], batch)
            self._take(len(batch))
            self.retry_at = now
            if not self.waiting:
                self.reason = None
        except StoreError as error:
            self.reason = str(error)
            self.must_reopen = self.must_reopen or error.reopen
            if error.reopen:
                self.in_doubt = min(RETRY_BATCH, len(self.waiting))
            return []
        return list(zip(batch, written.classes, strict=True))

    def _take(self, n: int) -> list[Hit]:
        """The oldest hits that wait, which wait no longer."""
        taken = self.waiting[:n]
        del self.waiting[:n]
        self.waiting_size -= sum(hit.size for hit in taken)
        return taken

    def close(self) -> int:
        """Write what waits, if the disk lets us; returns how many events are lost."""
        while self.waiting:
            before = len(self.waiting)
            self.retry(self.retry_at)
            if len(self.waiting) == before:
                break
        return len(self.waiting)
