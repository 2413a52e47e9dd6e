"""The calls of the API, each with its name."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import uuid4

from little_bell.client import answers
from little_bell.client.answers import (
    CampaignFigures,
    ClientFigures,
    Created,
    Email,
    EmailWithEvents,
    Event,
    LinkFigures,
    Stats,
    Texts,
)
from little_bell.client.batches import MOST_EMAILS, batches
from little_bell.client.transport import MOST, Transport, is_tenant, read_json
from little_bell.errors import BellError

if TYPE_CHECKING:
    from ssl import SSLContext

Moment = date | datetime | str
YesNo = Literal["yes", "no"]

PAGE = 200  # rows asked for at once


class Api:
    """A tenant of a bell. Calls raise BellError, or Unreachable, which is one. What a caller does
    wrong, and can be seen here, raises TypeError or ValueError."""

    def __init__(
        self,
        url: str,
        tenant: str,
        key: str | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        context: "SSLContext | None" = None,
    ) -> None:
        """`url` is the server's BASE_URL.

        `timeout`: seconds that a call may take in all, with tries and the waits between them (but
        for the look-up of the host's name, which the system bounds). `retries`: further tries, only
        of what may be sent twice. `context`: for certificates that the system does not know.
        """
        if not is_tenant(tenant):
            raise ValueError("a tenant is 1 to 64 letters, digits, - and _, no sign first")
        self.tenant = tenant
        self._transport = Transport(url, key, timeout, retries, context)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.url!r}, {self.tenant!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections. The client can be used again."""
        self._transport.close()

    # Emails

    def create(self, idempotency_key: str | None = None, **texts: Unpack[Texts]) -> Created:
        """Register an email. The same `idempotency_key` within 24 hours creates none again."""
        return answers.read_created(self._post("emails", _json(texts), idempotency_key))

    def create_many(
        self,
        emails: Iterable[Texts],
        idempotency_key: str | None = None,
        batch: int = MOST_EMAILS,
    ) -> Iterator[Created]:
        """Register emails in batches, as they are iterated over; in their order.

        A batch is created whole or not at all: a BellError with `index` names the email at fault,
        and nothing from its batch on exists. With an `idempotency_key` of your own the same emails
        can be given again after a failure, with the same `batch`, and none is created twice.
        """
        key = idempotency_key or str(uuid4())
        first = 0
        for number, lines in enumerate(batches(emails, batch)):
            headers = {
                "Content-Type": "application/x-ndjson",
                "Accept": "*/*",
                "Idempotency-Key": _checked(f"{key}/{number}"),
            }
            body = b"".join(lines)
            try:
                reply = self._transport.send("POST", self._path("emails"), body, headers, safe=True)
            except BellError as error:
                if error.index is not None:
                    error.index += first
                raise
            created = _read_lines(reply.body)
            if len(created) != len(lines):
                raise BellError("the answer is not of as many emails as were sent")
            yield from created
            first += len(lines)

    def change(self, email_id: int, **texts: Unpack[Texts]) -> dict[str, Any]:
        """Change what is said of an email: what is not named stays, None takes away."""
        path = self._path("emails", email_id)
        return read_json(self._transport.send("PATCH", path, _json(texts)))

    def delete(self, email_id: int) -> None:
        """Delete an email and its events; what it counted for stays."""
        self._transport.send("DELETE", self._path("emails", email_id))

    def email(self, email_id: int) -> EmailWithEvents:
        """An email, what became of it, and its newest events."""
        return cast(EmailWithEvents, self.get("emails", email_id))

    def emails(
        self,
        *,
        campaign: str | None = None,
        recipient: str | None = None,
        recipient_prefix: str | None = None,
        subject: str | None = None,
        opened: YesNo | None = None,
        clicked: YesNo | None = None,
        order: Literal["newest", "activity"] | None = None,
    ) -> Iterator[Email]:
        """Emails and what became of them, the newest first; asked for a page at a time."""
        return self._rows(
            "emails",
            campaign=campaign,
            recipient=recipient,
            recipient_prefix=recipient_prefix,
            subject=subject,
            opened=opened,
            clicked=clicked,
            order=order,
        )

    def click_url(self, email_id: int, url: str, label: str = "", part: str = "") -> str:
        """The signed address that leads to `url` and counts a click."""
        query = {"url": url, "label": label or None, "part": part or None}
        signed = answers.text(self.get("click-url", email_id, **query), "signed_url")
        if signed is None:
            raise BellError("the answer has no signed_url")
        return signed

    # Figures

    def stats(
        self,
        from_: Moment | None = None,
        to: Moment | None = None,
        interval: Literal["hour", "day", "week"] | None = None,
        campaign: str | None = None,
        tz: str | None = None,
    ) -> Stats:
        """Figures of a period; a date as `to` is in it. Times need a time zone."""
        query = {**_period(from_, to, tz), "interval": interval, "campaign": campaign}
        return cast(Stats, self.get("stats", **query))

    def links(
        self,
        from_: Moment | None = None,
        to: Moment | None = None,
        tz: str | None = None,
        top: bool = False,
    ) -> Iterator[LinkFigures]:
        """Links that were followed, the newest first, or the (at most 100) top ones."""
        return self._rows("links", **_period(from_, to, tz), order="top" if top else None)

    def campaigns(
        self,
        from_: Moment | None = None,
        to: Moment | None = None,
        tz: str | None = None,
        top: bool = False,
    ) -> Iterator[CampaignFigures]:
        """Campaigns, likewise."""
        return self._rows("campaigns", **_period(from_, to, tz), order="top" if top else None)

    def clients(
        self, from_: Moment | None = None, to: Moment | None = None, tz: str | None = None
    ) -> list[ClientFigures]:
        """Mail clients and devices, those with most events first."""
        return cast(
            list[ClientFigures], _list_of(self.get("clients", **_period(from_, to, tz)), "clients")
        )

    def events(
        self,
        *,
        kind: Literal["open", "click"] | None = None,
        class_: Literal["human", "proxy", "machine", "unknown"] | None = None,
        email: int | None = None,
        before: int | None = None,
        after: int | None = None,
    ) -> Iterator[Event]:
        """Opens and clicks, the newest first; those after an event's id oldest first."""
        query = {"kind": kind, "class": class_, "email": email, "before": before, "after": after}
        return self._rows("events", **query)

    # Privacy

    def opt_out(self, recipient: str) -> None:
        """Store nothing of a recipient's opens and clicks from now on."""
        body = json.dumps({"recipient": recipient}).encode("ascii")
        headers = {"Content-Type": "application/json"}
        self._transport.send("POST", self._path("optouts"), body, headers, safe=True)

    def opt_in(self, recipient: str) -> None:
        """Take an opt-out back."""
        self._transport.send("DELETE", self._path("optouts", recipient))

    def get(self, *path: str | int, **query: object) -> dict[str, Any]:
        """Any other answer in JSON: `client.get("settings")` is that of GET /{tenant}/settings."""
        asked = _query(query)
        return read_json(self._transport.send("GET", self._path(*path) + asked, safe=True))

    # Inside

    def _path(self, *parts: str | int) -> str:
        return "/" + "/".join(quote(str(part), safe="@") for part in (self.tenant, *parts))

    def _post(
        self,
        what: str,
        body: bytes,
        key: str | None,
        query: Mapping[str, object] | None = None,
        kind: str = "application/json",
        room: int = 0,
    ) -> dict[str, Any]:
        """POST what may be sent twice. The answer may have `room` bytes more than others."""
        headers = {"Content-Type": kind, "Idempotency-Key": _checked(key or str(uuid4()))}
        path = self._path(what) + _query(query or {})
        reply = self._transport.send("POST", path, body, headers, safe=True, most=MOST + room)
        return read_json(reply)

    def _rows(self, what: str, **query: object) -> Iterator[Any]:
        """The rows of all pages. Of what names the next page the query alone is followed."""
        asked: dict[str, object] = {**query, "limit": None if query.get("order") == "top" else PAGE}
        while True:
            page = self.get(what, **asked)
            yield from _list_of(page, what)
            following = answers.text(page, "next")
            if following is None:
                return
            try:
                now: dict[str, object] = dict(parse_qsl(urlsplit(following).query))
            except ValueError:
                now = asked
            if now == asked:
                raise BellError("the answer's next page is the same one")
            asked = now


def _query(query: Mapping[str, object]) -> str:
    """Behind a path; what is None is not asked for."""
    given = {name: value for name, value in query.items() if value is not None}
    return "?" + urlencode(given) if given else ""


def _period(from_: Moment | None, to: Moment | None, tz: str | None) -> dict[str, object]:
    return {"from": _moment(from_), "to": _moment(to), "tz": tz}


def _moment(value: Moment | None) -> str | None:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a time without a time zone is no moment")
    return value.isoformat() if isinstance(value, date) else value


def _checked(key: str) -> str:
    """An Idempotency-Key that a header can hold."""
    if not key.isascii() or not key.isprintable() or not 0 < len(key) <= 255:
        raise ValueError("an idempotency_key is up to 255 printable ASCII characters")
    return key


def _json(members: Mapping[str, object]) -> bytes:
    return json.dumps(members, allow_nan=False).encode("ascii")


def _list_of(page: Mapping[str, object], what: str) -> list[Any]:
    rows = page.get(what)
    if not isinstance(rows, list):
        raise BellError(f"the answer has no {what}")
    return rows


def _read_lines(body: bytes) -> list[Created]:
    """Raises BellError."""
    try:
        return [answers.read_created(json.loads(line)) for line in body.splitlines()]
    except (ValueError, AttributeError, RecursionError):
        raise BellError("the answer is broken NDJSON") from None
