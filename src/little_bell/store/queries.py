"""Reads for pages and the API, each on a short transaction of a read-only connection."""

from typing import NamedTuple

import apsw

from little_bell.store.statements import load
from little_bell.tracking.classify import reason_codes
from little_bell.tracking.client import show
from little_bell.tracking.hit import KINDS
from little_bell.tracking.rules import CLASSES

SQL = load("read.sql")

BUCKETS_END = 1 << 62  # later than any bucket


class Figures(NamedTuple):
    """The figures of definitions: people's opens and clicks, machines' beside them."""

    sent: int
    opens: int
    machine_opens: int
    unique_opens: int
    inferred_opens: int
    clicks: int
    machine_clicks: int
    unique_clicks: int

    @property
    def open_rate(self) -> float | None:
        """Unique opens of those sent; no value where nothing was sent."""
        return self.unique_opens / self.sent if self.sent else None

    @property
    def click_rate(self) -> float | None:
        """Unique clicks of those sent; no value where nothing was sent."""
        return self.unique_clicks / self.sent if self.sent else None

    @property
    def click_to_open(self) -> float | None:
        """Unique clicks of unique opens; no value where nothing was opened."""
        return self.unique_clicks / self.unique_opens if self.unique_opens else None


class Event(NamedTuple):
    """One line of the log, as people read it."""

    seq: int
    at: int  # ms since the epoch, UTC
    email: int
    kind: str
    class_: str | None
    reasons: tuple[str, ...]
    address: str | None
    user_agent: str | None
    url: str | None
    subject: str | None
    recipient: str | None
    n: int | None  # hits that a cap stands for


def tenant_id(reader: apsw.Connection, name: str) -> int | None:
    """A tenant's number, or None for one that never created an email."""
    row = reader.execute(SQL["tenant"], (name,)).fetchone()
    return None if row is None else int(row[0])


def figures(
    reader: apsw.Connection,
    tenant: int,
    scope: int = 0,
    id_: int = 0,
    start: int = 0,
    end: int = BUCKETS_END,
) -> Figures:
    """Sums over the buckets from `start` up to, not including, `end`."""
    for row in reader.execute(SQL["figures"], (tenant, scope, id_, start, end)):
        return Figures(*(int(value) for value in row))
    raise AssertionError("an aggregate has one row")


def newest_events(reader: apsw.Connection, tenant: int, limit: int) -> list[Event]:
    """The newest events of a tenant, newest first."""
    events = []
    for row in reader.execute(SQL["newest_events"], (tenant, limit)):
        seq, at, email, kind, class_, reasons, address, n, agent, url, subject, recipient = row
        events.append(
            Event(
                seq,
                at,
                email,
                KINDS[kind],
                None if class_ is None else CLASSES[class_],
                reason_codes(reasons),
                None if address is None else show(address),
                agent if kind < 2 else None,
                url if kind == 1 else None,
                subject,
                recipient,
                n,
            )
        )
    return events
