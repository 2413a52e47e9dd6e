"""Batches of emails in the slow lane: bodies are spooled, parsed, checked and offered to the fast
lane, which is the one that writes; what it says of them is the answer. So it is with recipients
that are to be erased."""

import os
import tempfile
from collections.abc import Callable, Collection
from hashlib import sha256
from io import BytesIO
from itertools import count
from typing import BinaryIO, NamedTuple

from little_bell.api.batches import (
    MAX_LIST_BYTES,
    NOT_ALONE,
    answer_lines,
    answer_list,
    emails_of_lines,
    emails_of_list,
    prepare,
)
from little_bell.api.emails import (
    REWRITTEN,
    created,
    is_ndjson,
    read_once,
    where,
)
from little_bell.api.recipients import REMAINS, parse_erasure
from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.client import client_address, show, truncate
from little_bell.tracking.email import NewEmail
from little_bell.values import NO_TENANT, is_tenant
from little_bell.wire.answers import JSON_HEADERS, NDJSON_HEADERS, problem, to_json
from little_bell.wire.bulk import UNDER_WAY
from little_bell.wire.exchange import Exchange
from little_bell.wire.handover import MAX_MESSAGE, Wish
from little_bell.wire.http import Headers
from little_bell.wire.mailroom import (
    Answer,
    Mailroom,
    is_dry,
    is_message,
    parse_mail,
    parse_message,
)

NO_MESSAGE = "the body is an email as it is sent: Content-Type: message/rfc822"
PACKED = "the body has a Content-Encoding: send the email as it is"
UPLOADS = 64  # bodies at once
BEGIN = 1024  # bytes among which a body shows what it is
SPOOLED = 1 << 29  # bytes of bodies at once, roughly

NDJSON, LIST, OBJECT = "ndjson", "list", "object"  # forms of a body
MAIL, MESSAGE = "mail", "message"  # of an email that is to be rewritten: JSON, or as it is sent
ERASURE = "erase_recipient"  # the route, and in place of a form

REFUSALS = {
    400: ("the database refused an email of this request", None),
    409: (UNDER_WAY, 1),
    422: ("this Idempotency-Key came with another body before", None),
    503: ("the disk takes nothing now, or others wait already; nothing was created", 5),
}

NOBODY_KNOWS = -1  # in place of the first id: the fast lane went away before it told
UNKNOWN = "the server stopped; try again with the same Idempotency-Key: this may have been done"

ERASURE_REFUSALS = {
    404: ("nothing is stored of this recipient", None),
    503: ("the disk takes nothing now, or others wait already; try again", 5),
}
NOTHING: Headers = JSON_HEADERS[1:]


class Offered(NamedTuple):
    """A batch that the fast lane was told of."""

    exchange: Exchange
    tenant: str
    emails: int


class Intake:
    """Prepares batches. `prepare` and `answer` run in threads, the rest in the loop."""

    def __init__(
        self, config: Config, addresses: Addresses, offer: Callable[[bytes, int | None], None]
    ) -> None:
        """`offer` hands a message, with or without a descriptor, to the fast lane; it may raise
        OSError."""
        self.config = config
        self.addresses = addresses
        self.offer = offer
        self.folder = os.path.dirname(config.database_url)
        self.numbers = count(1)
        self.offered: dict[int, Offered] = {}

    def admit(self, exchanges: Collection[Exchange]) -> Exchange | None:
        """Make sure that another body can be taken; returns the upload that gives way to it: of too
        many the slowest, so that those that stall do not keep others out. Raises Refused (503).
        """
        self.bound(exchanges)
        uploads = [one for one in exchanges if one.body and not (one.whole or one.answered)]
        if len(uploads) < UPLOADS:
            return None
        return min(uploads, key=lambda one: one.deadline)

    def bound(self, exchanges: Collection[Exchange]) -> None:
        """Raise Refused (503) where all bodies together are too large."""
        if sum(one.spooled for one in exchanges) > SPOOLED:
            raise Refused(503, "batches under way are too large", retry_after=5)

    def most(self, exchange: Exchange) -> int:
        """How large the body may be, in bytes."""
        if not exchange.batch:
            return MAX_MESSAGE
        if exchange.route == "create_message":
            return self.config.max_message_bytes
        if is_ndjson(exchange.request.headers.get(b"content-type", b"")):
            return self.config.max_bulk_bytes
        return max(self._longest_list, self._longest_object)

    @property
    def _longest_list(self) -> int:
        return min(MAX_LIST_BYTES, self.config.max_bulk_bytes)

    @property
    def _longest_object(self) -> int:
        return max(self.config.max_body_bytes, self.config.max_message_bytes)

    def look(self, exchange: Exchange) -> None:
        """Tell the form of a batch once something of it came. Raises Refused (413, 415), early."""
        if exchange.form or not exchange.batch:
            return
        headers = exchange.request.headers
        if exchange.route == "create_message":
            exchange.form = MESSAGE
            if not is_message(headers.get(b"content-type", b"")):
                raise Refused(415, NO_MESSAGE)
            if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
                raise Refused(415, PACKED)
        if exchange.form or exchange.body is None:
            return
        if is_ndjson(headers.get(b"content-type", b"")):
            exchange.form = NDJSON
            return
        came = exchange.body.tell()
        exchange.body.seek(0)
        begin = exchange.body.read(BEGIN)
        exchange.body.seek(came)
        if begin.strip() or len(begin) == BEGIN or exchange.whole:
            exchange.form = LIST if begin.lstrip()[:1] == b"[" else OBJECT
            most = self.config.max_body_bytes
            if begin.lstrip()[:1] in (b"[", b"{"):
                most = self._longest_list if exchange.form is LIST else self._longest_object
            if int(headers[b"content-length"]) > most:
                raise Refused(413, f"the body is larger than {most} bytes")

    def prepare(self, exchange: Exchange) -> bool:
        """Parse a batch and offer it; False where there is nothing to create: it is to be answered
        as it is. Raises Refused."""
        headers = exchange.request.headers
        if not is_tenant(exchange.segments[1]):
            raise Refused(404, NO_TENANT)
        tenant = exchange.segments[1].decode("ascii")
        body = exchange.body or BytesIO()
        try:
            lead = b""
            if exchange.form is MESSAGE:  # what the query says is a part of it
                lead = b"message/rfc822?" + exchange.query + b"\n"
            once = read_once(headers, file_digest(body, lead))
            body.seek(0)
            if exchange.form is NDJSON:
                emails = emails_of_lines(tenant, body)
            elif exchange.form is LIST:
                emails = emails_of_list(tenant, body)
            else:
                email = self._single(exchange, tenant, body)
                if email is None:
                    return False
                emails = iter((email,))
            if exchange.form in (NDJSON, LIST) and is_dry(exchange.query):
                raise Refused(400, f"dry_run {NOT_ALONE}", "dry_run")
            address = self._address(exchange)
            with tempfile.TemporaryFile(dir=self.folder or ".") as file:
                offset, total = prepare(file, tenant, emails, once, address)
                number = next(self.numbers)
                self.offered[number] = Offered(exchange, tenant, total)
                try:
                    self.offer(f"{number} {offset}".encode("ascii"), file.fileno())
                except OSError:
                    if self.over(number) is not None:
                        raise
            return True
        except OSError as error:
            detail = f"the batch cannot be kept ({error.strerror})"
            raise Refused(503, detail, retry_after=5) from None

    def _single(self, exchange: Exchange, tenant: str, body: BinaryIO) -> NewEmail | None:
        """The email of a body that is not one of many; None where it is not to be created."""
        dry = is_dry(exchange.query)
        if exchange.form is MESSAGE:
            message = parse_message(tenant, body.read(), exchange.query)
            return message.email if message.tracked and not dry else None
        mail = parse_mail(tenant, body.read(), self.config.max_body_bytes)
        if dry or mail.members & REWRITTEN:
            exchange.form = MAIL
        return None if dry else mail.email

    def answer_single(self, exchange: Exchange, first: int, mailroom: Mailroom) -> Answer:
        """The answer to an email that came to be rewritten, and got this number; 0: it was not
        created. It is read again, so that none is kept in memory until then. Raises OSError."""
        body = exchange.body or BytesIO()
        body.seek(0)
        tenant = exchange.segments[1].decode("ascii")
        if exchange.form is MESSAGE:
            message = parse_message(tenant, body.read(), exchange.query)
            as_json = b"application/json" in exchange.request.headers.get(b"accept", b"")
            return mailroom.answer_message(message, first, as_json)
        mail = parse_mail(tenant, body.read(), self.config.max_body_bytes)
        return mailroom.answer_mail(mail, first)

    def prepare_erasure(self, exchange: Exchange) -> None:
        """Check what is to be erased and say it to the fast lane. Raises Refused."""
        tenant, recipient = parse_erasure(exchange.segments, exchange.query)
        number = next(self.numbers)
        self.offered[number] = Offered(exchange, tenant, 0)
        exchange.form = ERASURE
        wish = Wish(number, tenant, recipient, self._address(exchange))
        try:
            self.offer(wish.message(), None)
        except OSError as error:
            if self.over(number) is not None:
                detail = f"nothing can be erased now ({error.strerror})"
                raise Refused(503, detail, retry_after=5) from None

    def _address(self, exchange: Exchange) -> str:
        """Where a request came from, as the log says it."""
        headers = exchange.request.headers
        return show(truncate(client_address(exchange.peer, headers, self.config.trusted_proxies)))

    def over(self, number: int) -> Offered | None:
        """The batch of which the fast lane spoke; it is to be answered, once."""
        return self.offered.pop(number, None)

    def answer(self, offered: Offered, status: int, first: int) -> Answer:
        """The answer to a batch, or to an erasure, of which this became."""
        if first == NOBODY_KNOWS:
            return problem(Refused(503, UNKNOWN, retry_after=5), page=False)
        if offered.exchange.form == ERASURE:
            if status == 204:
                return 204, NOTHING, b""
            if status == 202:
                return 202, JSON_HEADERS, to_json({"remains": REMAINS})
            detail, retry_after = ERASURE_REFUSALS[status]
            return problem(Refused(status, detail, retry_after=retry_after), page=False)
        if status == 201:
            base, tenant, total = self.config.base_url, offered.tenant, offered.emails
            form, addresses = offered.exchange.form, self.addresses
            if form is NDJSON:
                lines = answer_lines(base, addresses, tenant, first, total)
                return 201, NDJSON_HEADERS, lines
            if form is LIST:
                return (
                    201,
                    JSON_HEADERS,
                    to_json(answer_list(base, addresses, tenant, first, total)),
                )
            place = where(self.config.prefix, tenant, first)
            return 201, JSON_HEADERS + place, to_json(created(base, addresses, tenant, first))
        detail, retry_after = REFUSALS[status]
        return problem(Refused(status, detail, retry_after=retry_after), page=False)


def file_digest(body: BinaryIO, lead: bytes = b"") -> bytes:
    """SHA-256 of all of a file, behind something else."""
    digest = sha256(lead)
    body.seek(0)
    while piece := body.read(1 << 16):
        digest.update(piece)
    return digest.digest()
