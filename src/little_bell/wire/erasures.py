"""Recipients on their way out: one erasure after the other, steps in the ticks, then the file."""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from little_bell.ops.logs import INFO, WARN, Log
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.job import Job
from little_bell.store.memory import Note
from little_bell.store.recorder import Recorder
from little_bell.wire.handover import Wish

if TYPE_CHECKING:
    from little_bell.store.erasure import Erasure, Forget
    from little_bell.store.wipe import Wipe

WAITING = 16  # wishes; more are refused
AGAIN = 1.0  # seconds until a step that failed is tried again
PATIENCE = 10.0  # seconds that a client waits for the file to be cleaned; then it is told of that
IDLE = 1.0  # seconds that a turn waits for something to happen
SOON = 0.005  # the same while a checkpoint is waited for
LATER = 0.1  # and while it waits for a reader

HELD = "A recipient is erased from all rows; another program keeps the file from being cleaned"


class Erasures:
    """The queue of wishes. What is begun is finished, whoever waits for it or not."""

    def __init__(
        self,
        recorder: Recorder,
        checkpointer: Checkpointer,
        log: Log,
        tell: Callable[[int, int, int], None],
    ) -> None:
        """`tell` says to the slow lane what became of a wish: its number, a status of HTTP, 0."""
        self.recorder = recorder
        self.checkpointer = checkpointer
        self.log = log
        self.tell = tell
        # Those of an earlier run come first.
        self.queue: deque[tuple[Wish, Note | None]] = deque(
            (Wish(0, "", "", ""), note) for note in recorder.writer.memory.erasures
        )
        self.wish: Wish | None = None  # under way
        self.erasure: Erasure | None = None
        self.forget: Forget | None = None
        self.wiping_since = 0.0  # monotonic
        self.at = 0.0  # when the next step may be: monotonic

    @property
    def wipe(self) -> "Wipe | None":
        return self.checkpointer.wipe

    @property
    def under_way(self) -> bool:
        """Whether anybody is being erased, or waits for it."""
        return self.wish is not None or bool(self.queue)

    @property
    def patience(self) -> float:
        """Seconds that a turn may wait for something to happen."""
        if self.wipe is None or self.recorder.reason is not None:
            return IDLE
        if self.wipe.busy:
            return 0.0
        return LATER if self.checkpointer.again_at > monotonic() else SOON

    def arrive(self, wish: Wish) -> None:
        """Take a wish, or say at once what becomes of it."""
        failing = self.recorder.reason is not None
        if failing or len(self.queue) >= WAITING:
            self.tell(wish.number, 503, 0)
        else:
            self.queue.append((wish, None))

    def job(self, now: float) -> Job | None:
        """What this tick has to do, if anything. `now` is monotonic seconds."""
        if now < self.at:
            return None
        if self.wish is None:
            if not self.queue:
                return None
            from little_bell.store.erasure import Erasure

            self.wish, note = self.queue.popleft()
            self.erasure = Erasure(self.wish.tenant, self.wish.recipient, note)
        if self.erasure is not None and not self.erasure.over:
            return self.erasure
        return self.forget

    def settle(self, now: float) -> None:
        """After a tick: go on to the next part."""
        wish, erasure = self.wish, self.erasure
        if wish is None or erasure is None or not erasure.over:
            return
        if erasure.error is not None:
            self._failed(wish, erasure, now)
        elif erasure.note is None:
            self._answer(404)
            self._over()
        elif self.forget is not None:
            if self.forget.error is not None:
                self.at = now + AGAIN
                self._forget(erasure.note)
            elif self.forget.over:
                self._done(wish, erasure)
        elif self.wipe is None:
            self._clean(now)
        elif self.wipe.done:
            self.checkpointer.wipe = None
            self._forget(erasure.note)
        elif now - self.wiping_since > PATIENCE and self.wish is not None and self.wish.number:
            self._answer(202)
            self.log.write(WARN, HELD, tenant_id=wish.tenant)

    def _clean(self, now: float) -> None:
        """The rows are gone: now the file."""
        from little_bell.store.wipe import Wipe

        self.checkpointer.wipe = Wipe(self.checkpointer)
        self.wiping_since = now

    def _forget(self, note: Note) -> None:
        from little_bell.store.erasure import Forget

        self.forget = Forget(note)

    def _done(self, wish: Wish, erasure: "Erasure") -> None:
        if erasure.found or not wish.tenant:
            who = {"tenant_id": wish.tenant, "ip_address": wish.address} if wish.tenant else {}
            self.log.write(INFO, "Recipient erased", **who, emails=erasure.emails)
        self._answer(204 if erasure.found else 404)
        self._over()

    def _over(self) -> None:
        self.wish = self.erasure = self.forget = None

    def _failed(self, wish: Wish, erasure: "Erasure", now: float) -> None:
        """Begin anew later, where it was begun; who waits is told to try again."""
        from little_bell.store.erasure import Erasure

        self._answer(503)
        self.log.write(WARN, "A recipient could not be erased yet", reason=str(erasure.error))
        self.at = now + AGAIN
        self.erasure = Erasure(wish.tenant, wish.recipient, erasure.note)

    def _answer(self, status: int) -> None:
        """Tell who waits, if anybody does, once."""
        if self.wish is not None and self.wish.number:
            self.tell(self.wish.number, status, 0)
            self.wish = self.wish._replace(number=0)

    def abandon(self) -> None:
        """The slow lane is gone, and with it whoever waits for an answer."""
        self.queue = deque((wish._replace(number=0), note) for wish, note in self.queue)
        if self.wish is not None:
            self.wish = self.wish._replace(number=0)
