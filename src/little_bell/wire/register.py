"""The register: emails that are created, changed and deleted; answered after the tick's commit."""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from little_bell.config import Config
from little_bell.errors import DataError, Refused, StoreError
from little_bell.ops.logs import INFO, Log
from little_bell.store.job import Job
from little_bell.store.recorder import REFUSED
from little_bell.store.writer import Written
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import parse_id
from little_bell.tracking.signing import digest
from little_bell.values import NO_TENANT, is_tenant
from little_bell.wire.bulk import Bulk
from little_bell.wire.connection import Later
from little_bell.wire.handover import Arrival
from little_bell.wire.http import Request
from little_bell.wire.origin import FOREIGN, asked_by
from little_bell.wire.promised import Arriving, Correcting, Creation, Editing
from little_bell.wire.replies import Replies
from little_bell.wire.routes import BY_NAME

if TYPE_CHECKING:
    from little_bell.store.edits import Edit, Edits

DONE = {
    "change_email": "Email changed",
    "delete_email": "Email deleted",
    "delete_tenant": "Tenant deleted",
}
IN_A_ROW = 4  # ticks that make edits, while something else waits for one
TRIAL = "Is anybody there?"  # subject of an email that was created to try things
TOO_MANY = "too many changes at once; try again"

BARE_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)

Outcome = bytes | Later
# None: the slow lane goes on with the request.
Handler = Callable[[Request, list[bytes], bytes, bytes], Outcome | None]


class Register:
    """Handlers by the names of their routes, and what the tick decided so far."""

    def __init__(
        self,
        config: Config,
        replies: Replies,
        log: Log,
        bulk: Bulk,
        emails: list[NewEmail],
        addresses: Addresses,
    ) -> None:
        """`emails` are those that the tick is to create."""
        self.config = config
        self.replies = replies
        self.log = log
        self.bulk = bulk
        self.emails = emails
        self.addresses = addresses
        self.policies = bulk.policies
        self.now_ms = 0
        self.now = 0.0
        self.creations: list[Creation | Arriving] = []
        self.editings: list[Editing] = []
        self.edits: Edits | None = None  # those of `editings`
        self.in_a_row = 0  # ticks that made edits
        self.correcting: Correcting | None = None
        self.handlers: dict[str, Handler] = {
            "create_email": self.create_email,
            "register": self.create_email,
            "create_message": self.create_message,
            "change_email": self.change_email,
            "delete_email": self.delete_email,
            "delete_tenant": self.delete_tenant,
            "try_it": self.try_it,
            "correct": self.correct,
            "change_keys": self.change_keys,
        }

    # A tick

    def begin_tick(self, now: float, now_ms: int) -> None:
        self.now, self.now_ms = now, now_ms

    def job(self, now: float) -> Job | None:
        """What the tick has to write beside emails and hits. `now` is monotonic seconds."""
        if self.correcting is not None:
            return self.correcting.job
        if self.editings:
            from little_bell.store.edits import Edits

            self.edits = Edits([one.edit for one in self.editings])
            self.in_a_row += 1
            return self.edits
        self.in_a_row = 0
        return self.bulk.job(now)

    def settle(self, durable: bool, written: Written) -> None:
        """Answer what the commit decided."""
        if durable:
            for creation, (_, email) in zip(self.creations, written.emails, strict=True):
                self._created(creation, email)
        else:
            for creation in self.creations:
                self._unavailable(creation)
        for editing in self.editings:
            editing.answer = self._edited(editing)
        if self.correcting is not None:
            self.correcting.answer = self._corrected(self.correcting)

    def forget_tick(self) -> None:
        """The next tick begins with nothing."""
        for creation in self.creations:
            if isinstance(creation, Arriving) and not creation.told:  # the turn failed
                self._unavailable(creation)
        self.emails.clear()
        self.creations.clear()
        self.editings.clear()
        self.edits = None
        self.correcting = None

    # New emails

    def create_email(
        self, request: Request, segments: list[bytes], query: bytes, peer: bytes
    ) -> Outcome | None:
        """Note a new email; its answer follows from the commit. One that is to be rewritten is the
        slow lane's."""
        from little_bell.api.emails import (
            NO_EMAILS,
            REWRITTEN,
            created,
            is_ndjson,
            read_email,
            read_object,
            read_once,
            where,
        )

        tenant = self._tenant(segments)
        if not request.body and is_ndjson(request.headers.get(b"content-type", b"")):
            raise Refused(400, NO_EMAILS)
        members = read_object(request.body)
        if b"dry_run" in query or not REWRITTEN.isdisjoint(members):
            return None
        once = None
        if b"idempotency-key" in request.headers:
            once = read_once(request.headers, digest(request.body))
        email = read_email(tenant, members, once)
        if once is not None:
            known = self.bulk.created_before(tenant, once, self.now_ms)
            if known is not None:
                told = created(self.config.base_url, self.addresses, tenant, known.first)
                place = where(self.config.prefix, tenant, known.first)
                return self.replies.json(request, "create_email", 201, told, place)
        return self._create(request, "create_email", email, peer)

    def arrive(self, arrival: Arrival) -> None:
        """Take emails over that the slow lane read: a batch, or one that is for this tick."""
        single = self.bulk.arrive(arrival, self.now_ms)
        if single is not None:
            email, address = single
            self.emails.append(email)
            self.creations.append(Arriving(arrival.number, email.tenant, address))

    def create_message(
        self, _request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> None:
        """Whole messages are the slow lane's, whatever their size."""

    def try_it(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> Outcome:
        """A test email for the dashboard, whose page then opens it. Forms of other sites create
        none."""
        if asked_by(request.headers, self.config.base_url) == FOREIGN:
            raise Refused(403, "another site asked for this")
        email = NewEmail(self._tenant(segments), TRIAL, None, None, None)
        return self._create(request, "try_it", email, peer)

    def _tenant(self, segments: list[bytes]) -> str:
        if not is_tenant(segments[1]):
            raise Refused(404, NO_TENANT)
        return segments[1].decode("ascii")

    def _create(self, request: Request, route: str, email: NewEmail, peer: bytes) -> Creation:
        address = self._address(request, peer, email.tenant)
        creation = Creation(request, route, email.tenant, address)
        self.emails.append(email)
        self.creations.append(creation)
        return creation

    def _address(self, request: Request, peer: bytes, tenant: str) -> str:
        """Where a request came from, as the log says it."""
        known = self.bulk.memory.tenants.by_name.get(tenant.encode("ascii"))
        return self.policies.address(request, peer, known)

    def _created(self, creation: Creation | Arriving, email: int) -> None:
        if isinstance(creation, Arriving):
            creation.told = True
            if (0, email) == REFUSED:
                self.bulk.tell(creation.number, 400, 0)
                return
            self.bulk.tell(creation.number, 201, email)
            known = self.bulk.memory.tenants.by_name.get(creation.tenant.encode("ascii"))
            self._log_created(creation.tenant, email, self.policies.shown(creation.address, known))
            return
        from little_bell.api.emails import created, where

        request, route, tenant = creation.request, creation.route, creation.tenant
        if (0, email) == REFUSED:
            refused = Refused(400, "the database refused this email")
            creation.answer = self.replies.refuse(request, route, refused, BY_NAME[route])
            return
        if route == "try_it":
            to = f"{self.config.prefix}/{tenant}/dashboard/emails/{email}?try=1"
            headers = (*BARE_HEADERS, ("Location", to))
            creation.answer = self.replies.answer(request, route, 303, headers, b"")
        else:
            members = created(self.config.base_url, self.addresses, tenant, email)
            place = where(self.config.prefix, tenant, email)
            creation.answer = self.replies.json(request, route, 201, members, place)
        self._log_created(tenant, email, creation.address)

    def _log_created(self, tenant: str, email: int, address: str) -> None:
        if self.log.level <= INFO:
            stamp = self.log.stamp(self.now)
            self.log.event(stamp, "Email created", tenant, email, address)

    def _unavailable(self, creation: Creation | Arriving) -> None:
        if isinstance(creation, Arriving):
            creation.told = True
            self.bulk.tell(creation.number, 503, 0)
            return
        refused = Refused(503, "the disk takes nothing now; the email has no id", retry_after=5)
        route = BY_NAME[creation.route]
        creation.answer = self.replies.refuse(creation.request, route.name, refused, route)

    # Changes

    def change_email(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> Outcome:
        """Note new values of an email."""
        from little_bell.api.emails import parse_change
        from little_bell.store.edits import Edit

        email = self._email(segments)
        change = parse_change(request.body)
        edit = Edit(segments[1].decode("ascii"), email, change)
        return self.edit(request, "change_email", edit, peer)

    def delete_email(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> Outcome:
        """Note that an email goes."""
        from little_bell.store.edits import Edit

        email = self._email(segments)
        edit = Edit(segments[1].decode("ascii"), email, None)
        return self.edit(request, "delete_email", edit, peer)

    def delete_tenant(
        self, request: Request, segments: list[bytes], query: bytes, peer: bytes
    ) -> Outcome:
        """Note that a tenant goes, where its name is said twice."""
        from little_bell.store.edits import Edit
        from little_bell.tracking.links import query_value

        tenant = self._tenant(segments)
        if query_value(query, "confirm") != tenant:
            detail = f"this deletes everything of {tenant}; say so with ?confirm={tenant}"
            raise Refused(400, detail, "confirm")
        return self.edit(request, "delete_tenant", Edit(tenant, 0, None), peer)

    def _email(self, segments: list[bytes]) -> int:
        email = parse_id(segments[3])
        if not is_tenant(segments[1]) or not email or segments[3].endswith(b".gif"):
            raise Refused(404, "there is no such email")
        return email

    def edit(
        self,
        request: Request,
        route: str,
        edit: "Edit",
        peer: bytes,
        done: Callable[[Editing], bytes] | None = None,
    ) -> Editing:
        """Note an edit for this tick. Raises Refused (503)."""
        from little_bell.store.edits import AT_ONCE

        full = len(self.editings) >= AT_ONCE or self.correcting is not None
        if not full and self.in_a_row >= IN_A_ROW:  # a batch, or the rest of an edit, has its turn
            full = self.bulk.job(monotonic()) is not None
        if full:
            raise Refused(503, TOO_MANY, retry_after=1)
        address = self._address(request, peer, edit.tenant)
        editing = Editing(request, route, edit, address, done)
        self.editings.append(editing)
        return editing

    def _edited(self, editing: Editing) -> bytes:
        from little_bell.store.edits import BUSY, LATER, NO_ROOM, NOT_FOUND

        request, route, edit = editing.request, editing.route, editing.edit
        error = self.edits.error if self.edits is not None else StoreError("not written")
        if error is not None:
            refused = self._failed(error)
        elif edit.outcome == NOT_FOUND:
            refused = Refused(404, f"there is no such {edit.what}")
        elif edit.outcome == LATER:
            refused = Refused(503, TOO_MANY, retry_after=1)
        elif edit.outcome == BUSY:
            refused = Refused(409, f"the {edit.what} is being changed already", retry_after=1)
        elif edit.outcome == NO_ROOM:
            refused = Refused(409, "the tenant has too many blocks: delete some")
        elif editing.done is not None:
            return editing.done(editing)
        else:
            fields = {"email_id": edit.email} if edit.email else {}
            address = {"ip_address": editing.address}
            self.log.write(INFO, DONE[route], tenant_id=edit.tenant, **fields, **address)
            if edit.change is None:
                return self.replies.answer(request, route, 204, BARE_HEADERS, b"")
            from little_bell.api.emails import described

            members = described(edit.email, *edit.texts, edit.consent)
            return self.replies.json(request, route, 200, members)
        return self.replies.refuse(request, route, refused, BY_NAME[route])

    def _failed(self, error: StoreError) -> Refused:
        if isinstance(error, DataError):
            return Refused(400, str(error))
        return Refused(503, str(error), retry_after=1)

    # Corrections

    def correct(
        self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> Outcome:
        """Put rows right that a recount found wrong; over the control socket alone."""
        from little_bell.api.emails import read_json
        from little_bell.store.corrections import Corrections
        from little_bell.store.recount import Correction

        self._refuse_while_busy()
        value = read_json(request.body, "the body")
        if not isinstance(value, list) or any(
            not isinstance(row, list) or len(row) != len(Correction._fields) for row in value
        ):
            raise Refused(400, "the body is not a list of corrections")
        job = Corrections([Correction(*row) for row in value])
        self.correcting = Correcting(request, job)
        return self.correcting

    def change_keys(
        self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> Outcome:
        """Create or revoke a key; over the control socket alone."""
        from little_bell.ops.key_order import parse_order

        self._refuse_while_busy()
        self.correcting = Correcting(request, parse_order(request.body))
        return self.correcting

    def _refuse_while_busy(self) -> None:
        if self.correcting is not None or self.editings:
            raise Refused(409, "another change is under way", retry_after=1)

    def _corrected(self, correcting: Correcting) -> bytes:
        """Answer corrections: how many rows had moved on; or a change of keys: its number."""
        from little_bell.store.corrections import Corrections

        request, job = correcting.request, correcting.job
        route = BY_NAME["correct" if isinstance(job, Corrections) else "change_keys"]
        try:
            if job.error is not None:
                raise self._failed(job.error)
            if isinstance(job, Corrections):
                return self.replies.json(request, route.name, 200, {"moved": job.moved})
            from little_bell.ops.key_order import told

            members = told(job)
            done = "Key revoked" if job.revoking else "Key created"
            self.log.write(INFO, done, tenant_id=job.tenant, key=job.number)
            return self.replies.json(request, route.name, 200, members)
        except Refused as refused:
            return self.replies.refuse(request, route.name, refused, route)
