"""What was sent and what became of it, as JSON: each handler takes a path's segments, the query and
the headers, and makes a page in the slow lane."""

import json
from collections.abc import Callable, Iterator, Sequence
from time import time
from typing import NamedTuple
from urllib.parse import urlencode

from little_bell.api import exports, recipients
from little_bell.api.blocks import shown
from little_bell.api.document import document
from little_bell.api.parameters import MAX_NUMBER, Parameters
from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.page import Page
from little_bell.reports import cursors, period
from little_bell.reports.cursors import INT, OPTIONAL, TEXT
from little_bell.reports.period import Period
from little_bell.reports.records import (
    Record,
    bucket_stamp,
    email_record,
    event_record,
    figures_record,
    some,
)
from little_bell.store import emails, events, names, sums
from little_bell.store.projection import BUCKET, CAMPAIGN, CLIENT, LINK, TENANT
from little_bell.store.reader import Reader
from little_bell.tracking.clients import client_names
from little_bell.tracking.hit import CLICK, KINDS
from little_bell.tracking.rules import CLASSES
from little_bell.values import NO_TENANT, is_tenant

HEADERS = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)
PERIOD = ("from", "to", "tz")
MAX_TOP = 100  # of a ranking
MAX_ID = 10**MAX_NUMBER - 1

LINK_FIGURES = ("clicks", "machine_clicks", "unique_clicks")
CLIENT_FIGURES = ("opens", "machine_opens", "clicks", "machine_clicks")


class Asked(NamedTuple):
    """A request for some of a tenant's data."""

    tenant: int
    name: str
    path: str  # behind the tenant's name
    parameters: Parameters


class Reads:
    """The handlers. Not safe for threads: each has its own, with its own connection."""

    def __init__(self, config: Config, reader: Callable[[], Reader]) -> None:
        """`reader` gives the connection of the thread that calls it."""
        self.config = config
        self.reader = reader

    def _asked(
        self, reader: Reader, segments: list[str], query: bytes, known: Sequence[str]
    ) -> Asked:
        """What a request asks for. Raises Refused."""
        name = segments[1]
        if not is_tenant(name.encode("utf-8")):
            raise Refused(404, NO_TENANT)
        parameters = Parameters(query, known)
        tenant = names.tenant_id(reader, name)
        if tenant is None:
            raise Refused(404, "no such tenant: nothing was sent yet")
        return Asked(tenant, name, "/".join(segments[2:]), parameters)

    def _export(self, segments: list[str], query: bytes) -> tuple[Asked, events.Search, int]:
        """What of the log is asked for, and after which event. Raises Refused."""
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, ("kind", "class", "after"))
        after = asked.parameters.number("after", 0, MAX_ID)
        return asked, read_search(asked.parameters), after or 0

    def _next(self, asked: Asked, cursor: Sequence[int | str | None] | None) -> str | None:
        """The address of the next page: this one's, but for the cursor."""
        if cursor is None:
            return None
        given = {
            k: v for k, v in asked.parameters.items() if k not in ("cursor", "before", "after")
        }
        return self._address(asked, {**given, "cursor": cursors.encode(cursor)})

    def _address(self, asked: Asked, parameters: dict[str, str]) -> str:
        return f"{self.config.prefix}/{asked.name}/{asked.path}?{urlencode(parameters)}"

    def emails(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """Emails of a tenant, filtered, and what became of them."""
        filters = ("campaign", "recipient", "recipient_prefix", "subject", "opened", "clicked")
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, (*filters, "order", "limit", "cursor"))
            parameters = asked.parameters
            if "recipient" in parameters and "recipient_prefix" in parameters:
                field = "recipient_prefix"
                raise Refused(400, "recipient and recipient_prefix do not go together", field)
            prefix = parameters.get("recipient_prefix")
            search = emails.Search(
                parameters.get("campaign"),
                parameters.get("recipient", prefix),
                prefix is not None,
                parameters.get("subject"),
                parameters.yes_or_no("opened"),
                parameters.yes_or_no("clicked"),
            )
            active = parameters.choice("order", ("newest", "activity")) == "activity"
            form = (TEXT, INT) if search.prefix and not active else (INT,)
            cursor = read_cursor(parameters, form)
            ask = emails.by_activity if active else emails.newest
            found = ask(reader, asked.tenant, search, cursor, parameters.limit())
        listed = [email_record(email) for email in found.emails]
        return answer({"emails": listed, "next": self._next(asked, found.next)})

    def email(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """One email, what became of it, and its events, newest first."""
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, ("limit", "cursor"))
            limit = asked.parameters.limit()
            heads = read_heads(asked.parameters)
            email = emails.email(reader, asked.tenant, read_id(segments[3]))
            if email is None:
                raise Refused(404, "there is no such email")
            found = events.timeline(reader, asked.tenant, email.email, heads, limit)
            purged = events.purged(reader, asked.tenant, email.email)
        listed = [event_record(event) for event in found.events]
        members = {
            "events": listed,
            "events_purged": purged,
            "next": self._next(asked, found.next),
        }
        return answer({**email_record(email), **members})

    def stats(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """Figures of a tenant or a campaign in a period, and by its hours, days or weeks."""
        known = (*PERIOD, "interval", "campaign")
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, known)
            tenant, parameters = asked.tenant, asked.parameters
            start, end, zone = period.parse(parameters)
            interval = period.parse_interval(parameters)
            scope, id_ = TENANT, 0
            name = parameters.get("campaign")
            if name is not None:
                scope, id_ = CAMPAIGN, names.campaign_id(reader, tenant, name) or 0
                if not id_:
                    raise Refused(404, "there is no such campaign", "campaign")
            series: list[Record] | None = None
            if interval is not None:
                now = int(time() * 1000) // BUCKET
                first = sums.first_bucket(reader, tenant) if start is None else start
                begin, over = now if first is None else first, now + 1 if end is None else end
                edges: list[int] = []
                if begin < over:  # else it is all before the first figure, or yet to come
                    start, end = begin, over
                    edges = period.edges(zone, start, end, interval)
                rows = sums.series(reader, tenant, scope, id_, edges)
                series = [
                    {
                        "start": bucket_stamp(one),
                        "end": bucket_stamp(other),
                        "local_start": period.local(zone, one).isoformat(),
                        **figures_record(figures),
                    }
                    for one, other, figures in zip(edges, edges[1:], rows, strict=False)
                ]
            figures = sums.figures(reader, tenant, scope, id_, start, end)
        members: Record = {**told(asked, start, end), "campaign": name, "interval": interval}
        return answer({**members, "figures": figures_record(figures), "series": series})

    def links(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """Links that were followed, with their figures in a period."""
        known = (*PERIOD, "order", "limit", "cursor")
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, known)
            span = period.parse(asked.parameters)
            ranked, more = self._ranked(reader, asked, span, LINK, "clicks", names.links)
            named = names.links_of(reader, asked.tenant, [one.id for one in ranked])
        listed = [
            {
                "link_id": one.id,
                "url": named[one.id].url,
                "label": named[one.id].label,
                "part": named[one.id].part,
                **some(one.figures, *LINK_FIGURES),
            }
            for one in ranked
        ]
        members = {**told(asked, span.start, span.end), "links": listed}
        return answer({**members, "next": self._next(asked, more)})

    def campaigns(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """Campaigns, with their figures in a period."""
        known = (*PERIOD, "order", "limit", "cursor")
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, known)
            span = period.parse(asked.parameters)
            by = "unique_opens"
            ranked, more = self._ranked(reader, asked, span, CAMPAIGN, by, names.campaigns)
            named = names.campaigns_of(reader, asked.tenant, [one.id for one in ranked])
        listed = [
            {"campaign": named[one.id].name, **figures_record(one.figures)}
            for one in ranked
            if one.id in named
        ]
        members = {**told(asked, span.start, span.end), "campaigns": listed}
        return answer({**members, "next": self._next(asked, more)})

    def clients(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """Mail clients and devices, with their figures in a period, most events first."""
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, (*PERIOD, "limit"))
            start, end, _ = period.parse(asked.parameters)
            limit = asked.parameters.limit(MAX_TOP)
            ranked = sums.top(reader, asked.tenant, CLIENT, start, end, sums.EVENTS, limit)
        listed = []
        for id_, figures in ranked:
            client, device = client_names(id_)
            named: Record = {"client": client, "device": device}
            listed.append({**named, **some(figures, *CLIENT_FIGURES)})
        return answer({**told(asked, start, end), "clients": listed})

    def events(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """Opens and clicks, newest first; or, after one of them, oldest first."""
        known = ("after", "before", "kind", "class", "email", "limit", "cursor")
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, known)
            parameters = asked.parameters
            starts = [name for name in ("after", "before", "cursor") if name in parameters]
            if len(starts) > 1:
                raise Refused(400, f"{starts[0]} and {starts[1]} do not go together", starts[1])
            search = read_search(parameters)
            limit = parameters.limit()
            after = parameters.number("after", 0, MAX_ID)
            before = parameters.number("before", 1, MAX_ID)
            if after is not None:
                page = events.after(reader, asked.tenant, search, after, limit)
                more = None
                if page.next is not None:
                    given = {k: v for k, v in parameters.items() if k != "after"}
                    more = self._address(asked, {**given, "after": str(page.next)})
                return answer({"events": [*map(event_record, page.events)], "next": more})
            values = (before,) if before is not None else read_values(parameters, search)
            cursor: Sequence[int | None] | None
            if search.email is not None and (values is None or len(values) == 2):
                heads = None if values is None else (values[0], values[1])
                line = events.timeline(reader, asked.tenant, search.email, heads, limit, search)
                found, cursor = line.events, line.next
            else:
                seq = None if values is None else values[0]
                page = events.before(reader, asked.tenant, search, seq, limit)
                found, cursor = page.events, None if page.next is None else (page.next,)
        listed = [event_record(event) for event in found]
        return answer({"events": listed, "next": self._next(asked, cursor)})

    def events_csv(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """The log as CSV."""
        asked, search, after = self._export(segments, query)
        pieces = exports.events_csv(self.reader, asked.tenant, search, after)
        return download(asked, "events.csv", "text/csv; charset=utf-8; header=present", pieces)

    def events_ndjson(
        self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]
    ) -> Page:
        """The log as NDJSON."""
        asked, search, after = self._export(segments, query)
        pieces = exports.events_ndjson(self.reader, asked.tenant, search, after)
        return download(asked, "events.ndjson", "application/x-ndjson", pieces)

    def emails_csv(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """All emails as CSV."""
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, ())
        pieces = exports.emails_csv(self.reader, asked.tenant)
        return download(asked, "emails.csv", "text/csv; charset=utf-8; header=present", pieces)

    def recipient(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """Everything that is stored of one recipient."""
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, ())
        address = recipients.read_recipient(segments[3])
        pieces = recipients.everything(self.reader, asked.tenant, address)
        return download(asked, "recipient.json", "application/json", pieces)

    def openapi(self, _segments: list[str], _query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """The API described for programs."""
        return Page(200, HEADERS, document(self.config.base_url))

    def blocks(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """What is switched off, newest first."""
        with self.reader() as reader:
            asked = self._asked(reader, segments, query, ("limit", "cursor"))
            limit = asked.parameters.limit()
            [last] = read_cursor(asked.parameters, (INT,)) or (names.NEWEST,)
            rows = reader.rows("blocks", asked.tenant, last, limit + 1)
        more = (rows[limit - 1][0],) if len(rows) > limit else None
        listed = [shown(*row) for row in rows[:limit]]
        return answer({"blocks": listed, "next": self._next(asked, more)})

    def _ranked(
        self,
        reader: Reader,
        asked: Asked,
        span: Period,
        scope: int,
        by: str,
        newest: Callable[[Reader, int, int | None, int], Sequence[names.Campaign | names.Link]],
    ) -> tuple[list[sums.Ranked], tuple[int] | None]:
        """Links or campaigns, most or newest first, with figures; and where to go on."""
        start, end, _ = span
        if asked.parameters.choice("order", ("newest", "top")) == "top":
            if "cursor" in asked.parameters:
                raise Refused(400, "a ranking has one page: order=top takes no cursor", "cursor")
            limit = asked.parameters.limit(MAX_TOP)
            return sums.top(reader, asked.tenant, scope, start, end, by, limit), None
        limit = asked.parameters.limit()
        cursor = read_cursor(asked.parameters, (INT,))
        before = None if cursor is None else int(cursor[0])
        ids = [one.id for one in newest(reader, asked.tenant, before, limit + 1)]
        more = (ids[limit - 1],) if len(ids) > limit else None
        ids = ids[:limit]
        found = sums.of_many(reader, asked.tenant, scope, ids, start, end)
        return [sums.Ranked(*pair) for pair in zip(ids, found, strict=True)], more


def told(asked: Asked, start: int | None, end: int | None) -> Record:
    """What an answer says of its period."""
    zone = asked.parameters.get("tz", "UTC")
    return {"from": bucket_stamp(start), "to": bucket_stamp(end), "tz": zone}


def read_id(text: str) -> int:
    """An email's id; 0 where it is none."""
    good = text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER and text[0] != "0"
    return int(text) if good else 0


def read_search(parameters: Parameters) -> events.Search:
    """Which events are asked for. Raises Refused (400)."""
    kind = parameters.choice("kind", KINDS[: CLICK + 1])
    class_ = parameters.choice("class", CLASSES)
    return events.Search(
        None if kind is None else KINDS.index(kind),
        None if class_ is None else CLASSES.index(class_),
        parameters.number("email", 1, MAX_ID),
    )


def read_cursor(parameters: Parameters, form: tuple[str, ...]) -> emails.Cursor | None:
    """The cursor of a list. Raises Refused (400)."""
    text = parameters.get("cursor")
    if text is None:
        return None
    return tuple(value for value in cursors.decode(text, form) if value is not None)


def read_heads(parameters: Parameters) -> events.Heads | None:
    """The cursor of one email's events. Raises Refused (400)."""
    text = parameters.get("cursor")
    if text is None:
        return None
    opens, clicks = numbers(cursors.decode(text, (OPTIONAL, OPTIONAL)))
    return opens, clicks


def read_values(parameters: Parameters, search: events.Search) -> tuple[int | None, ...] | None:
    """The cursor of a search in the log: a seq, or those of one email's events. Raises Refused."""
    text = parameters.get("cursor")
    if text is None:
        return None
    if search.email is None:
        return numbers(cursors.decode(text, (INT,)))
    return numbers(cursors.decode(text, (INT,), (OPTIONAL, OPTIONAL)))


def numbers(values: Sequence[int | str | None]) -> tuple[int | None, ...]:
    return tuple(value if isinstance(value, int) else None for value in values)


def download(asked: Asked, name: str, content_type: str, pieces: Iterator[bytes]) -> Page:
    """A file, in pieces."""
    disposition = f'attachment; filename="{asked.name}-{name}"'
    headers = (("Content-Type", content_type), ("Content-Disposition", disposition), *HEADERS[1:])
    return Page(200, headers, pieces)


def answer(value: Record) -> Page:
    """A JSON object."""
    return Page(200, HEADERS, json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n")
