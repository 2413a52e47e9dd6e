"""Opens and clicks as they stand in the log: pages of it, and the timeline of one email."""

from typing import NamedTuple

from little_bell.store.names import NEWEST
from little_bell.store.reader import Reader, Row
from little_bell.tracking.classify import reason_codes
from little_bell.tracking.client import show
from little_bell.tracking.hit import CAPPED, CLICK, KINDS, OPEN
from little_bell.tracking.rules import CLASSES

LOOK_AT = 10_000  # rows of the log that a page looks at
STEPS = 2_000  # of the chains of one email that a page looks at


class Event(NamedTuple):
    """One line of the log, as people read it."""

    seq: int
    at: int  # ms since the epoch, UTC
    email: int | None  # None: of an email that may only be counted
    kind: str
    class_: str | None
    reasons: tuple[str, ...]
    address: str | None
    user_agent: str | None
    url: str | None
    label: str | None
    subject: str | None
    recipient: str | None
    n: int | None  # hits that a cap stands for
    flags: int
    client: int | None
    prev: int | None  # seq of the email's event of the same kind before this one


class Search(NamedTuple):
    """Which events are asked for; None: whatever it is."""

    kind: int | None = None
    class_: int | None = None
    email: int | None = None
    capped: bool = False  # rows that stand for hits beyond the cap as well


ALL = Search()


class EventPage(NamedTuple):
    """Some events, and the seq from which to go on: `before` it, or `after` it."""

    events: list[Event]
    next: int | None


Heads = tuple[int | None, int | None]  # seqs of the newest open and click that are still to come


class Timeline(NamedTuple):
    """Some events of an email, newest first, and from where to go on."""

    events: list[Event]
    next: Heads | None


def before(reader: Reader, tenant: int, search: Search, seq: int | None, limit: int) -> EventPage:
    """Events older than `seq` (None: the newest), newest first.

    LOOK_AT rows of the log are looked at: a page of what is rare may be short, or empty, and have
    a next one all the same.
    """
    high = NEWEST if seq is None else seq
    row = reader.row("log_below", tenant, high, LOOK_AT - 1)
    low = 0 if row is None else int(row[0])
    rows = reader.rows("events_before", tenant, low, high, limit + 1, *_filters(search))
    seqs = [int(found) for (found,) in rows]
    more = seqs[limit - 1] if len(seqs) > limit else low or None
    return EventPage(events_of(reader, tenant, seqs[:limit]), more)


def after(reader: Reader, tenant: int, search: Search, seq: int, limit: int) -> EventPage:
    """Events newer than `seq`, oldest first; at most LOOK_AT rows of the log are looked at.

    Nothing is next where the log ends: whoever follows it asks again with the last event's seq.
    """
    if search.email is not None:
        found = _walk(reader, tenant, search, None, seq, STEPS)
        if found.whole:
            seqs = [step.seq for step in reversed(found.steps) if _fits(step, search)]
            more = seqs[limit - 1] if len(seqs) > limit else None
            return EventPage(events_of(reader, tenant, seqs[:limit]), more)
    row = reader.row("log_above", tenant, seq, LOOK_AT - 1)
    high = NEWEST if row is None else int(row[0])
    rows = reader.rows("events_after", tenant, seq, high, limit + 1, *_filters(search))
    seqs = [int(found) for (found,) in rows]
    more = seqs[limit - 1] if len(seqs) > limit else None if row is None else high
    return EventPage(events_of(reader, tenant, seqs[:limit]), more)


def last_seq(reader: Reader, tenant: int) -> int:
    """The seq of the newest event; 0 where there is none."""
    row = reader.row("log_below", tenant, NEWEST, 0)
    return 0 if row is None else int(row[0])


def timeline(
    reader: Reader,
    tenant: int,
    email: int,
    heads: Heads | None = None,
    limit: int = 50,
    search: Search = ALL,
) -> Timeline:
    """The events of an email, newest first; `heads` is the `next` of the page before.

    With a search for a class STEPS of its opens and of its clicks are looked at.
    """
    search = search._replace(email=email)
    walked = _walk(reader, tenant, search, heads, 0, limit if search.class_ is None else STEPS)
    left = list(walked.heads)
    seqs: list[int] = []
    for step in walked.steps:
        if len(seqs) == limit:
            break
        left[step.kind] = step.prev
        if _fits(step, search):
            seqs.append(step.seq)
    there = {seq for (seq,) in reader.rows("events_there", tenant, *left)}
    more = tuple(seq if seq in there else None for seq in left)  # those before were purged
    return Timeline(
        events_of(reader, tenant, seqs), None if more == (None, None) else (more[OPEN], more[CLICK])
    )


def purged(reader: Reader, tenant: int, email: int) -> int:
    """How many events of an email were purged."""
    row = reader.row("purged_events", tenant, email)
    return 0 if row is None else int(row[0])


def events_of(reader: Reader, tenant: int, seqs: list[int]) -> list[Event]:
    """Events by seq, in this order; those of emails that are gone are left out."""
    return [_event(row) for row in reader.some("events", tenant, seqs)]


class _Step(NamedTuple):
    """One event of an email's chains."""

    seq: int
    kind: int
    prev: int | None
    class_: int


class _Walk(NamedTuple):
    """The newest events of an email."""

    steps: list[_Step]  # newest first; none is left out between two of them
    heads: Heads  # where it began
    whole: bool  # to the end


def _walk(
    reader: Reader, tenant: int, search: Search, heads: Heads | None, above: int, most: int
) -> _Walk:
    """Walk the chains of an email from `heads` down to `above`: at most so many of each."""
    if heads is None:
        row = reader.row("heads", tenant, search.email)
        heads = (None, None) if row is None else (row[0], row[1])
    begun = tuple(head if search.kind in (None, kind) else None for kind, head in enumerate(heads))
    steps: list[_Step] = []
    low = 0  # below it a chain that was not walked to its end may have events
    for kind, head in enumerate(begun):
        if head is not None:
            rows = reader.rows("chain", tenant, head, search.email, kind, above, most)
            chain = [_Step(seq, kind, prev, class_) for seq, prev, class_ in rows]
            if chain and len(chain) == most and (chain[-1].prev or 0) > above:
                low = max(low, chain[-1].seq)
            steps += chain
    steps = sorted((step for step in steps if step.seq >= low), reverse=True)
    return _Walk(steps, (begun[OPEN], begun[CLICK]), not low)


def _fits(step: _Step, search: Search) -> bool:
    return search.class_ is None or step.class_ == search.class_


def _filters(search: Search) -> tuple[int | None, ...]:
    last = CAPPED if search.capped else CLICK
    return search.kind, search.class_, search.email, last


def _event(row: Row) -> Event:
    seq, at, email, kind, class_, reasons, address, agent, url, *rest = row
    return Event(
        seq,
        at,
        email,
        KINDS[kind],
        None if class_ is None else CLASSES[class_],
        reason_codes(reasons),
        None if address is None else show(address),
        agent if kind != CAPPED else None,
        url if kind == CLICK else None,
        *rest,
    )
