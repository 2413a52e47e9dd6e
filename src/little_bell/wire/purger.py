"""The purger: events that are old leave the log, a step now and then, behind all other work.

By itself it looks every hour what each tenant's retention says; a command may ask for more.
"""

from collections import deque
from typing import TYPE_CHECKING

from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.ops.logs import INFO, WARN, Log
from little_bell.ops.metrics import Counters
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.job import Job
from little_bell.store.recorder import Recorder
from little_bell.wire.http import Request
from little_bell.wire.replies import Replies

if TYPE_CHECKING:
    from little_bell.store.purge import Purge
    from little_bell.wire.register import Handler

BEGIN = 3.0  # seconds after the start: first things first
EVERY = 3600.0  # seconds between two looks at what is old
SHARE = 9  # times as long as a step took, until there is another
LEAST = 0.01  # seconds between two steps
BUSY = 0.1  # seconds, where something else has to be done first
IDLE = 1.0  # seconds that the loop may sleep
DAY = 86_400_000  # milliseconds

YOUNG = "events of the last day stay: take an older time"


class Asked:
    """A purge that a command asked for."""

    __slots__ = ("error", "events", "left", "of", "seen")

    def __init__(self, tenants: int, of: int) -> None:
        """`of`: numbers of events that may have to be looked at."""
        self.left = tenants
        self.events = 0
        self.seen = 0
        self.of = of
        self.error: str | None = None


class Purger:
    """Gives a tick the next step, and takes care that there are not too many."""

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        checkpointer: Checkpointer,
        log: Log,
        counters: Counters,
        replies: Replies,
    ) -> None:
        self.config = config
        self.recorder = recorder
        self.checkpointer = checkpointer
        self.memory = recorder.writer.memory
        self.log = log
        self.counters = counters
        self.replies = replies
        self.queue: deque[tuple[int, int, Asked | None]] = deque()  # tenant, cut, who asked
        self.purge: Purge | None = None
        self.counted = 0  # of its events
        self.asked: Asked | None = None  # the last one
        self.due = 0.0  # monotonic: when there may be a step
        self.look_at: float | None = None  # monotonic: when retention is looked at
        self.given = False  # to the tick under way
        self.handlers: dict[str, Handler] = {"purge": self.ask, "purged": self.tell}

    # Steps

    def wait(self, now: float) -> float:
        """Seconds that the loop may sleep. `now` is monotonic."""
        if not self.queue:
            return IDLE
        return min(IDLE, max(0.0, self.due - now))

    def job(self, now: float, now_ms: int) -> Job | None:
        """What this tick has to do, if anything; `now` is monotonic seconds."""
        if self.look_at is None:
            self.look_at = now + BEGIN
        if now >= self.look_at:
            self.look_at = now + EVERY
            self._look(now_ms)
        if not self.queue or now < self.due:
            return None
        if self.recorder.reason is not None or self.checkpointer.held or self.memory.unfinished:
            self.due = now + BUSY
            return None
        if self.purge is None:
            from little_bell.store.purge import Purge

            tenant, cut, _ = self.queue[0]
            self.purge = Purge(tenant, cut)
            self.counted = 0
        self.given = True
        return self.purge

    def settle(self, now: float, seconds: float) -> None:
        """After a commit that took so long: count what went, and go on to the next tenant."""
        if not self.given or self.purge is None:
            return
        self.given = False
        purge = self.purge
        # Beside opens the commit is theirs, and what the step adds to it is about as much again.
        cost = 2 * purge.spent if purge.beside else seconds
        self.due = now + max(LEAST, SHARE * cost)
        _, _, asked = self.queue[0]
        self.counters.events_purged += purge.events - self.counted
        if asked is not None:
            asked.events += purge.events - self.counted
        self.counted = purge.events
        if purge.over:
            self._over(purge, asked)

    def _over(self, purge: "Purge", asked: Asked | None) -> None:
        tenant = self.memory.tenants.by_id.get(purge.tenant)
        name = "" if tenant is None else tenant.name
        if purge.error is not None:
            self.log.write(
                WARN, "Events could not be purged", tenant_id=name, reason=str(purge.error)
            )
        if purge.events:
            self.log.write(INFO, "Events purged", tenant_id=name, events=purge.events)
            # What left the file has to leave the write-ahead log as well.
            self.checkpointer.ask(clean=True)
        if asked is not None:
            asked.left -= 1
            asked.seen += 0 if tenant is None else tenant.last_seq
            if purge.error is not None:
                asked.error = str(purge.error)
        self.queue.popleft()
        self.purge = None

    # What is asked for

    def _look(self, now_ms: int) -> None:
        """Queue tenants whose events do not stay for ever, where none are queued yet."""
        if any(asked is None for _, _, asked in self.queue):
            return
        for tenant in self.memory.tenants.by_id.values():
            days = tenant.policy.retention_days
            if days is None:
                days = self.config.retention_days
            if days:
                self.queue.append((tenant.id, now_ms - days * DAY, None))

    def ask(self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes) -> bytes:
        """Begin a purge that a command asks for; `tell` says how far it is."""
        from time import time

        from little_bell.api.emails import read_json

        value = read_json(request.body, "the body")
        if not isinstance(value, dict) or type(value.get("before")) is not int:
            raise Refused(400, "the body names no time", "before")
        cut, name = value["before"], value.get("tenant")
        if cut > time() * 1000 - DAY:
            raise Refused(400, YOUNG, "before")
        if self.asked is not None and self.asked.left:
            raise Refused(409, "another purge is under way", retry_after=1)
        tenants = list(self.memory.tenants.by_id.values())
        if name is not None:
            tenants = [tenant for tenant in tenants if tenant.name == name]
            if not tenants:
                raise Refused(404, "there is no such tenant", "tenant")
        asked = self.asked = Asked(len(tenants), sum(tenant.last_seq for tenant in tenants))
        self.queue.extend((tenant.id, cut, asked) for tenant in tenants)
        return self.replies.json(request, "purge", 200, {"tenants": len(tenants)})

    def tell(self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes) -> bytes:
        """How far the purge is that a command asked for."""
        asked = self.asked or Asked(0, 0)
        seen = asked.seen
        if self.purge is not None and self.queue[0][2] is asked:
            seen += self.purge.position
        members = {
            "done": not asked.left,
            "events": asked.events,
            "seen": seen,
            "of": asked.of,
            "error": asked.error,
        }
        return self.replies.json(request, "purged", 200, members)
