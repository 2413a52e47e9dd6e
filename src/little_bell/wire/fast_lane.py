"""The fast lane: decides each request and, once a tick, records what was decided."""

import _thread
from collections.abc import Iterable
from time import monotonic, perf_counter, time

from little_bell.config import SIGNED, Config
from little_bell.errors import Refused
from little_bell.ops.health import Health
from little_bell.ops.logs import ERROR, INFO, WARN, Log
from little_bell.ops.metrics import Counters
from little_bell.ops.secret import Secret
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.job import Together
from little_bell.store.recorder import Recorder
from little_bell.store.transaction import AGGREGATED, LEFT_ALONE, WITHHELD
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.client import show
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import Hit
from little_bell.tracking.links import warm_up
from little_bell.values import is_tenant
from little_bell.wire.bulk import Bulk, Tell
from little_bell.wire.connection import Later
from little_bell.wire.gate import Gate
from little_bell.wire.handover import MAX_BODY
from little_bell.wire.http import Request
from little_bell.wire.importer import Importer
from little_bell.wire.login import Login
from little_bell.wire.operations import Operations
from little_bell.wire.policies import Policies
from little_bell.wire.privacy import Privacy
from little_bell.wire.purger import Purger
from little_bell.wire.register import Handler, Register
from little_bell.wire.replies import Replies
from little_bell.wire.routes import CONTROL_ROUTES, EITHER, ROUTES, SLOW, Router
from little_bell.wire.switches import Switches
from little_bell.wire.tracker import Tracker

MESSAGES = ("Email opened", "Link clicked")  # by kind
REASONS = {WITHHELD: "consent", LEFT_ALONE: "optout"}  # why a hit was not stored


Outcome = bytes | Later | None


class FastLane:
    """Decides requests. `now` and `now_ms` stand still during a tick."""

    gate_type = Gate  # others at DEBUG: see `wire.steps`
    replies_type = Replies

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        checkpointer: Checkpointer,
        log: Log,
        tell: Tell,
        secret: Secret,
    ) -> None:
        """`tell` says to the slow lane what became of a batch: number, status, first id."""
        self.config = config
        self.recorder = recorder
        self.checkpointer = checkpointer
        self.tenants = recorder.writer.memory.tenants
        self.log = log
        self.secret = secret
        self.counters = Counters()
        self.health_report = Health(self.counters, recorder, checkpointer, log)
        self.replies = self.replies_type(self.counters, config.cors_origins)
        keys = recorder.writer.memory.keys
        self.gate = self.gate_type(config, keys, secret.ring, self.replies)
        self.login = Login(config, self.replies, self.gate)
        self.router = Router(ROUTES, config.prefix)
        self.control_router = Router(CONTROL_ROUTES)
        self.reason: str | None = None  # why events wait, as last said in the log
        self.warm = False  # what clicks need is imported
        self.now = time()
        self.now_ms = int(self.now * 1000)
        policies = Policies(config)
        # What the tick decided so far.
        addresses = Addresses(secret.ring, config.link_policy == SIGNED)
        self.tracker = Tracker(
            config, self.replies, self.counters, self.tenants, addresses, policies
        )
        self.hits = self.tracker.hits
        self.emails: list[NewEmail] = []
        self.bulk = Bulk(recorder, checkpointer, log, tell, self.emails, policies, self.counters)
        self.purger = Purger(config, recorder, checkpointer, log, self.counters, self.replies)
        self.importer = Importer(config, policies, self.bulk, self.replies, log)
        self.register = Register(config, self.replies, log, self.bulk, self.emails, addresses)
        self.privacy = Privacy(config, recorder, self.replies, log, policies)
        operations = Operations(config, self.health_report, checkpointer, self.replies, secret)
        self.handlers: dict[str, Handler] = {
            "tenant": self.tenant,
            **self.tracker.handlers,
            **self.register.handlers,
            **self.login.handlers,
            **self.privacy.handlers,
            **Switches(self.register, self.replies, log).handlers,
            **self.purger.handlers,
            **self.importer.handlers,
            **operations.handlers,
        }

    # A tick

    def begin_tick(self) -> None:
        self.now = self.login.now = now = time()
        self.now_ms = self.tracker.now_ms = int(now * 1000)
        self.replies.tick(now)
        self.register.begin_tick(now, self.now_ms)

    def handle(
        self, request: Request, peer: bytes, control: bool = False, diverted: bool = False
    ) -> Outcome:
        """Decide one request; None: it is the slow lane's, as what is `diverted` if it is let in.
        Never raises for what a client sent."""
        router = self.control_router if control else self.router
        methods, segments, query = router.find(request.target)
        if methods is None:
            return self.replies.refuse(request, "none", Refused(404, "there is nothing here"), None)
        route = methods.get(request.method)
        if route is None:
            return self.replies.wrong_method(request, methods)
        try:
            if not control:
                answer = self.gate.admit(request, route, segments, peer, self.now)
                if answer is not None:
                    return answer
            if route.lane is SLOW or diverted:
                return None
            outcome: Outcome = None
            if route.lane is not EITHER or request.body.lstrip()[:1] != b"[":
                outcome = self.handlers[route.name](request, segments, query, peer)
            if outcome is None and len(request.body) > MAX_BODY:  # in chunks
                raise Refused(413, f"a body of over {MAX_BODY} bytes needs a Content-Length")
        except Refused as refused:
            return self.replies.refuse(request, route.name, refused, route)
        return outcome

    def not_taken(self, request: Request) -> bytes:
        """The answer to a request that the slow lane cannot take now."""
        methods, _, _ = self.router.find(request.target)
        route = (methods or {}).get(request.method)
        request.keep_alive = False
        refused = Refused(503, "this cannot be done now; try again", retry_after=5)
        return self.replies.refuse(request, route.name if route else "none", refused, route)

    def diverts(self, request: Request, length: int) -> bool:
        """Whether the slow lane reads the body of this request (bytes; -1: in chunks)."""
        methods, _, _ = self.router.find(request.target)
        route = (methods or {}).get(request.method)
        if route is None or route.lane is not EITHER:
            return False
        if route.name == "create_message" or length > min(MAX_BODY, self.config.max_body_bytes):
            return True
        from little_bell.api.emails import is_ndjson

        return is_ndjson(request.headers.get(b"content-type", b""))

    def commit(self) -> None:
        """Record what the tick decided; creations have their answers afterwards."""
        hits, emails = self.hits, self.emails
        now = monotonic()
        job = self.register.job(now) or self.importer.job() or self.purger.job(now, self.now_ms)
        wishes = self.privacy.wishes()
        if wishes is not None:  # they go with whatever else there is to do
            job = wishes if job is None else Together([wishes, job])
        if hits or emails or job is not None:
            started = perf_counter()
            durable, written = self.recorder.record(self.now_ms, emails, hits, now, job)
            counters = self.counters
            spent = perf_counter() - started
            counters.commit.observe(spent)
            self.purger.settle(now, spent)
            self.importer.settle(spent)
            counters.batch.observe(len(hits) + len(emails))
            if durable:
                counters.emails_created += sum(1 for _, email in written.emails if email)
                self._recorded(zip(hits, written.classes, strict=True))
            else:
                counters.answers_not_durable += len(hits)
            self.register.settle(durable, written)
            self.privacy.settle()
            self.forget_tick()
            if not self.warm:
                self.warm = True
                _thread.start_new_thread(warm_up, ())
        self.importer.settle(0.0)  # of a piece that had to wait
        self.bulk.settle(now)
        if self.recorder.reason != self.reason:
            self._disk_changed()
        if self.recorder.reason is not None:
            self._recorded(self.recorder.retry(monotonic()))

    def forget_tick(self) -> None:
        """The next tick begins with nothing."""
        self.hits.clear()
        self.register.forget_tick()
        self.privacy.forget_tick()
        self.importer.forget_tick()

    def look_at_secret(self) -> None:
        """Follow the file of the keys; once a second or so."""
        problem = self.secret.look()
        if problem is not None:
            self.log.write(ERROR, "The keys stay as they were", reason=problem)

    def _disk_changed(self) -> None:
        """Say once that the disk fails, and once that it is back."""
        self.reason = self.recorder.reason
        if self.reason is not None:
            self.log.write(ERROR, "Events wait in memory", reason=self.reason)
        else:
            self.log.write(WARN, "Events are durable again", dropped=self.recorder.dropped)

    def _recorded(self, judged: Iterable[tuple[Hit, int]]) -> None:
        """Count and log what is in the log now."""
        events = self.counters.events
        by_id = self.tenants.by_id
        log = self.log if self.log.level <= INFO else None
        stamp = self.log.stamp(self.now)
        for hit, became in judged:
            if became in REASONS:
                self.counters.withhold(REASONS[became])
                continue
            aggregated = became >= AGGREGATED
            class_ = became - AGGREGATED if aggregated else became
            key = (hit.kind, class_)
            events[key] = events.get(key, 0) + 1
            tenant = by_id.get(hit.tenant)  # none where it was deleted in this very tick
            if log is not None and class_ >= 0 and tenant is not None:
                message = MESSAGES[hit.kind]
                if aggregated:
                    log.aggregate(stamp, message, tenant.name)
                else:
                    log.event(stamp, message, tenant.name, hit.email, show(hit.address))

    def tenant(self, request: Request, segments: list[bytes], _query: bytes, _peer: bytes) -> bytes:
        """A tenant's short address leads to its dashboard."""
        if not is_tenant(segments[1]):
            raise Refused(404, "there is nothing here")
        location = f"{self.config.prefix}/{segments[1].decode('ascii')}/dashboard"
        return self.replies.answer(request, "tenant", 302, (("Location", location),), b"")
