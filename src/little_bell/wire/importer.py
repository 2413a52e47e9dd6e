"""The importer: takes pieces of history over the control socket, a step of a tick for each.

It keeps nothing between two of them but what an hour of history may still add: how far an import
is stands in the database, and the command sends what comes next.
"""

from typing import TYPE_CHECKING

from little_bell.config import Config
from little_bell.errors import DataError, Refused
from little_bell.ops.logs import INFO, Log
from little_bell.store.tenants import Tenant
from little_bell.tracking.client import is_own, parse_networks, truncate, within
from little_bell.tracking.hit import OWN, RELAY, SCANNER, Hit
from little_bell.tracking.privacy import TRUNCATED, WHOLE
from little_bell.tracking.rules import RELAY_RANGES, SCANNER_RANGES
from little_bell.wire.bulk import Bulk
from little_bell.wire.connection import Later
from little_bell.wire.http import Request
from little_bell.wire.policies import Policies
from little_bell.wire.replies import Replies

if TYPE_CHECKING:
    from little_bell.store.history import Books, Import, PastEvent
    from little_bell.wire.register import Handler

STEP = 0.002  # seconds in which a step takes rows; to write them takes about as long again
BUSY = 0.05  # seconds until the same piece is sent again, where something else came first
SHARE = 1  # times as long as a step took, until there is another where others wait


class Door:
    """What of an event of the past may be stored, by the settings of today."""

    def __init__(self, config: Config, policies: Policies) -> None:
        self.policies = policies
        self.own = config.own_addresses
        self.relay = parse_networks(RELAY_RANGES)
        self.scanners = parse_networks(SCANNER_RANGES)

    def __call__(self, tenant: Tenant, event: "PastEvent") -> Hit:
        rules = self.policies.rules(tenant.policy)
        flags, address = event.flags, event.address
        if address is not None:
            if within(address, self.relay):
                flags |= RELAY
            if within(address, self.scanners):
                flags |= SCANNER
            if self.own and is_own(address, tenant.name, self.own):
                flags |= OWN
            if rules.addresses == TRUNCATED:
                address = truncate(address)
            elif rules.addresses != WHOLE:
                address = None
        return Hit(
            tenant.id,
            event.email,
            event.kind,
            event.at,
            flags,
            event.user_agent,
            address,
            event.url,
            event.label,
            consent=rules.consent,
        )


class Importing(Later):
    """The answer to a piece: how far the import is now."""

    __slots__ = ("given", "job", "request")

    def __init__(self, request: Request, job: "Import") -> None:
        super().__init__()
        self.request = request
        self.job = job
        self.given = False  # to the tick


class Importer:
    """Handlers by the names of their routes, and the piece that came in this tick."""

    def __init__(self, config: Config, policies: Policies, bulk: Bulk, replies: Replies, log: Log):
        self.config = config
        self.policies = policies
        self.bulk = bulk
        self.replies = replies
        self.log = log
        self.door: Door | None = None
        self.books: Books | None = None
        self.name = b""  # of the import whose books these are
        self.importing: Importing | None = None
        self.handlers: dict[str, Handler] = {"import_piece": self.ask}

    def ask(self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes) -> Later:
        """Write a part of a piece; over the control socket alone."""
        from little_bell.store.history import Books, Import
        from little_bell.wire.pieces import unpack

        if self.importing is not None:
            raise Refused(409, "another import is under way", retry_after=1)
        piece = unpack(request.body)
        if self.door is None:
            self.door = Door(self.config, self.policies)
        if self.books is None or self.name != piece.name:
            self.name, self.books = piece.name, Books()
        self.importing = Importing(request, Import(piece, self.door, self.books, STEP))
        return self.importing

    def job(self) -> "Import | None":
        """What this tick has to do, where nothing else has to be done first."""
        if self.importing is None or self.bulk.under_way:
            return None
        self.importing.given = True
        return self.importing.job

    def settle(self, spent: float) -> None:
        """After a commit that took so many seconds: answer."""
        importing, self.importing = self.importing, None
        if importing is not None:
            try:
                importing.answer = self._told(importing, spent)
            except Refused as refused:
                request = importing.request
                importing.answer = self.replies.refuse(request, "import_piece", refused, None)

    def _told(self, importing: Importing, spent: float) -> bytes:
        job = importing.job
        if isinstance(job.error, DataError):
            raise Refused(400, f"the rows were refused: {job.error}")
        if job.error is not None:
            raise Refused(503, f"the disk takes nothing now: {job.error}", retry_after=1)
        reason = self.bulk.recorder.reason
        if reason is not None and not importing.given:
            raise Refused(503, f"the disk takes nothing now: {reason}", retry_after=1)
        members: dict[str, object] = {"reached": None, "counts": {}, "rest": BUSY}
        if importing.given:
            rest = SHARE * spent if job.beside else 0.0
            members = {"reached": job.reached, "counts": job.counts, "rest": rest}
            if job.counts and job.reached == job.piece.total:
                self.log.write(INFO, "History was imported", rows=job.piece.total)
        return self.replies.json(importing.request, "import_piece", 200, members)

    def forget_tick(self) -> None:
        """The next tick begins with nothing."""
        self.importing = None
