"""Batches on their way from the slow lane into the database: one after the other, a step a tick."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from little_bell.errors import DataError, Refused, StoreError
from little_bell.ops.logs import INFO, Log
from little_bell.ops.metrics import Counters
from little_bell.store.batch import Batch, Sweep
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.idempotency import Created
from little_bell.store.job import Job
from little_bell.store.recorder import Recorder
from little_bell.tracking.email import NewEmail, Once
from little_bell.wire.erasures import Erasures
from little_bell.wire.handover import Arrival
from little_bell.wire.policies import Policies

if TYPE_CHECKING:
    from little_bell.store.edits import Finish
    from little_bell.store.wishes import Marks

WAITING = 16  # batches; more are refused
UNDER_WAY = "a request with this Idempotency-Key is under way"
AGAIN = 1.0  # seconds until a sweep or a rest of an edit that failed is tried again

Tell = Callable[[int, int, int], None]


class Entry:
    """One batch that waits or is written."""

    __slots__ = ("address", "batch", "file", "number")

    def __init__(self, number: int, file: BinaryIO, batch: Batch, address: str) -> None:
        self.number = number
        self.file = file
        self.batch = batch
        self.address = address


class Bulk:
    """The queue of batches. Only one is written at a time, so that at most one range of ids is
    pending, and a sweep of what another left comes before it."""

    def __init__(
        self,
        recorder: Recorder,
        checkpointer: Checkpointer,
        log: Log,
        tell: Tell,
        emails: Sequence[NewEmail],
        policies: Policies,
        counters: Counters,
    ) -> None:
        """`emails` are those of the tick under way, whose keys are in no file yet."""
        self.emails = emails
        self.policies = policies
        self.counters = counters
        self.recorder = recorder
        self.checkpointer = checkpointer
        self.memory = recorder.writer.memory
        self.log = log
        self.tell = tell
        self.queue: deque[Entry] = deque()
        self.sweep: Sweep | None = None
        self.sweep_at = 0.0  # monotonic
        self.finish: Finish | Marks | None = None  # what an edit or an opt-out left
        self.finish_at = 0.0  # monotonic
        self.erasures = Erasures(recorder, checkpointer, log, tell)

    # What arrives

    def arrive(self, arrival: Arrival, now_ms: int) -> tuple[NewEmail, str] | None:
        """Take a batch over from the slow lane, or say at once what becomes of it. An email that
        is alone is no batch: it and its sender's address, as shown, are for the tick."""
        from little_bell.store.batch_file import read_pieces, read_plan, read_single

        file = open(arrival.descriptor, "rb")  # noqa: SIM115 - kept with the entry
        try:
            plan, address = read_plan(file, arrival.offset)
            known = None
            if plan.once is not None:
                known = self.created_before(plan.tenant, plan.once, now_ms, plan.emails)
            if known is not None:
                status, first = 201, known.first
            elif plan.emails == 1:
                email = read_single(plan, file)
                file.close()
                return email, address
            elif self._full():
                status, first = 503, 0
            else:
                batch = Batch(plan, read_pieces(file))
                self.queue.append(Entry(arrival.number, file, batch, address))
                return None
        except Refused as refused:
            status, first = refused.status, 0
        except (OSError, ValueError):  # the file cannot be read
            status, first = 503, 0
        file.close()
        self.tell(arrival.number, status, first)
        return None

    def _full(self) -> bool:
        """Whether a batch more is too much now; senders can try again."""
        failing = self.recorder.reason is not None or self.checkpointer.held
        return failing or len(self.queue) >= WAITING

    def created_before(
        self, tenant: str, once: Once, now_ms: int, emails: int = 1
    ) -> Created | None:
        """What the same request created before; None where it is new. `emails` is their number.

        Raises Refused: 409 while the first one is under way, 422 where the key was another's, 503.
        """
        for email in self.emails:
            if email.once is not None and (email.tenant, email.once.key) == (tenant, once.key):
                raise Refused(409, UNDER_WAY, retry_after=1)
        for entry in self.queue:
            plan = entry.batch.plan
            if plan.once is not None and (plan.tenant, plan.once.key) == (tenant, once.key):
                raise Refused(409, UNDER_WAY, retry_after=1)
        if self.recorder.must_reopen:
            raise Refused(503, "the disk takes nothing now", retry_after=5)
        try:
            known = self.recorder.writer.created_before(tenant, once.key, now_ms)
        except StoreError:
            raise Refused(503, "the disk takes nothing now", retry_after=5) from None
        if known is None or known.digest == once.digest:
            return known
        # Of an erased digest (see `store.erasure`) the number of emails has to do.
        if known.digest or known.emails != emails:
            raise Refused(422, "this Idempotency-Key came with another body before")
        return known

    # What is written

    def job(self, now: float) -> Job | None:
        """What this tick has to do, if anything. `now` is monotonic seconds."""
        if self.recorder.reason is not None:
            return None
        if self.queue and self.queue[0].batch.range is not None:
            return self.queue[0].batch
        pending = self.memory.pending
        if pending is not None:
            if now < self.sweep_at:
                return None
            if self.sweep is None or self.sweep.pending != pending:
                self.sweep = Sweep(pending)
            return self.sweep
        if (self.memory.unfinished or self.memory.marking) and now >= self.finish_at:
            return self._finish()
        erasure = self.erasures.job(now)
        if erasure is not None:
            return erasure
        return self.queue[0].batch if self.queue else None

    @property
    def under_way(self) -> bool:
        """Whether something was begun that has to come to its end before history is written."""
        memory = self.memory
        begun = memory.pending or memory.unfinished or memory.marking or self.erasures.under_way
        disk = self.recorder.reason is not None or self.checkpointer.held
        return bool(begun) or disk or self.checkpointer.running

    def _finish(self) -> Job:
        if self.memory.marking:
            from little_bell.store.wishes import Marks

            self.finish = Marks()
        else:
            from little_bell.store.edits import Finish

            self.finish = Finish(next(iter(self.memory.unfinished.values())))
        return self.finish

    def settle(self, now: float) -> None:
        """After a tick: say what became of a batch that is over."""
        if self.sweep is not None and self.sweep.over:
            if self.memory.pending is not None:
                self.sweep_at = now + AGAIN
            self.sweep = None
        if self.finish is not None:
            if self.finish.error is not None:
                self.finish_at = now + AGAIN
            self.finish = None
        self.erasures.settle(now)
        failing = self.recorder.reason is not None
        while self.queue and (failing or self.queue[0].batch.over):
            entry = self.queue.popleft()
            entry.file.close()
            batch = entry.batch
            if batch.over and batch.error is None:
                self.tell(entry.number, 201, batch.first)
                self.counters.emails_created += batch.plan.emails
                self._log(entry)
            else:
                self.tell(entry.number, 400 if isinstance(batch.error, DataError) else 503, 0)

    def _log(self, entry: Entry) -> None:
        plan = entry.batch.plan
        tenant = self.memory.tenants.by_name.get(plan.tenant.encode("ascii"))
        self.log.write(
            INFO,
            "Emails created",
            tenant_id=plan.tenant,
            email_id=entry.batch.first,
            emails=plan.emails,
            ip_address=self.policies.shown(entry.address, tenant),
        )

    def abandon(self) -> None:
        """The slow lane is gone, and with it whoever waits for an answer: what does not exist yet
        never will."""
        for entry in self.queue:
            entry.file.close()
        self.queue.clear()
        self.erasures.abandon()
