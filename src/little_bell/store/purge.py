"""Purging: events that are old leave the log; what they counted for stays.

Their figures become a closing balance. What they made of their email (its state, its links) is kept
beside it, so that a recount can begin there. States and figures themselves are not touched.
"""

from time import perf_counter
from typing import Any, NamedTuple

from little_bell.errors import StoreError
from little_bell.store.batch import LEAST, SHARE
from little_bell.store.job import ROWS, Job
from little_bell.store.projection import (
    EmailLink,
    EmailState,
    Figures,
    closed_row,
    project_aggregate,
    project_click,
    project_open,
)
from little_bell.store.statements import load
from little_bell.store.transaction import Transaction
from little_bell.tracking.hit import CAPPED, CLICK, OPEN

SQL = load("write.sql")

DAY = 86_400_000  # milliseconds; younger events are never purged: bursts judge some of them again
LOOK_AT = 10_000  # young events in a row, behind which no old one is looked for
SLOW = 0.005  # seconds of a step; the next one takes fewer rows
FEWEST = 32  # rows, however slow
LATE = 1 << 62  # when it was is not known
NOTHING = (0, 0, 0, 0, 0, *(None,) * 8)  # a row of `closed_states`


class Row(NamedTuple):
    """An event as `oldest_events` gives it."""

    seq: int
    at: int
    email: int
    kind: int
    class_: int
    client: int | None
    link: int
    campaign: int | None
    prev: int | None  # where that is still there


class Went(NamedTuple):
    """What a step did."""

    position: int  # seq of the last event that was looked at
    events: int  # that left the log
    young: int  # looked at since the last old one
    over: bool


class Purge(Job):
    """Takes a tenant's events from before a time out of the log, the oldest first.

    An event stays as long as one before it in its chain does: what is left of a chain is its newer
    part, and whoever walks it ends where the next one is missing.
    """

    def __init__(self, tenant: int, cut: int) -> None:
        """`cut` is in ms since the epoch, UTC."""
        self.tenant = tenant
        self.cut = cut
        self.rows = ROWS
        self.position = self.events = self.young = 0
        self.went = Went(0, 0, 0, False)  # by the step that is not committed yet
        self.spent = 0.0  # seconds, by the last step
        self.beside = False  # opens or clicks waited for the same commit
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        """Look at some rows; those that are old go."""
        started = perf_counter()
        self.went = Went(self.position, 0, self.young, False)
        if self.tenant not in transaction.memory.tenants.by_id:
            self.went = self.went._replace(over=True)
            return
        if any(tenant == self.tenant for tenant, _ in transaction.unfinished):
            return  # the rest of an edit walks the chains
        waiting = len(transaction.events)
        self.beside = waiting > 0
        most = min(self.rows, max(LEAST, SHARE - waiting)) if waiting else self.rows
        named = (self.tenant, self.position, most)
        rows = [Row(*row) for row in transaction.cursor.execute(SQL["oldest_events"], named)]
        full = len(rows) == most
        if full:
            rows = rows[: 1 + last_before(rows, transaction.at)]
        old = self._old(rows, transaction.at)
        leaving = unheld(old)
        if leaving:
            self._close(transaction, leaving)
            for first, last in runs(rows, {row.seq for row in leaving}):
                transaction.cursor.execute(SQL["purge_events"], (self.tenant, first, last))
        young = 0 if old else self.young + len(rows)
        position = rows[-1].seq if rows else self.position
        self.went = Went(position, len(leaving), young, not full or young >= LOOK_AT)
        self.spent = perf_counter() - started
        if self.spent > SLOW:
            self.rows = max(FEWEST, self.rows // 2)
        elif self.spent < SLOW / 4:
            self.rows = min(ROWS, self.rows * 2)

    def committed(self) -> None:
        self.position, self.young, self.over = self.went.position, self.went.young, self.went.over
        self.events += self.went.events

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True

    def _old(self, rows: list[Row], now: int) -> list[Row]:
        """Those from before the cut. Of one that claims to be of the future it is known only that
        it is older than the next in the log."""
        cut = min(self.cut, now - DAY)
        found = []
        moment = LATE
        for row in reversed(rows):
            moment = row.at if row.at <= now else moment
            if moment < cut:
                found.append(row)
        found.reverse()
        return found

    def _close(self, transaction: Transaction, leaving: list[Row]) -> None:
        """Keep what events counted for that leave the log, in its order."""
        tenant, cursor, balances = self.tenant, transaction.cursor, transaction.balances
        emails = sorted({row.email for row in leaving if row.kind != CAPPED and row.email})
        states: dict[int, EmailState] = {}
        for email, campaign, *known in cursor.execute(SQL["closing_states"], (tenant, str(emails))):
            closed = NOTHING if known[0] is None else known
            states[email] = EmailState(tenant, email, closed_row(0, campaign, closed))
        clicked = {(row.email, row.link) for row in leaving if row.kind == CLICK}
        pairs = {key: self._pair(cursor, *key) for key in sorted(clicked) if key[0] in states}
        uniques = Figures()  # follow from the states as long as these are there
        for row in leaving:
            if row.kind == CAPPED:
                continue
            if not row.email:  # it names none, and is nobody's unique
                named = (row.client, row.link, row.at, row.campaign)
                project_aggregate(tenant, row.kind, row.class_, *named, balances)
                continue
            state = states.get(row.email)
            if state is None:  # it counts for nothing: nobody knows its email
                continue
            balances.add_closed(state, row.kind, row.class_, row.client, row.link, row.at)
            if row.kind == OPEN:
                project_open(state, row.client, row.at, row.class_, uniques)
            else:
                pair = pairs[row.email, row.link]
                project_click(state, pair, row.link, row.client, row.at, row.class_, uniques)
                transaction.memory.clicks.pop((tenant, row.email), None)
        cursor.executemany(SQL["keep_closed_state"], [state.closed() for state in states.values()])
        cursor.executemany(
            SQL["keep_closed_link"],
            [
                (tenant, *key, pair.clicks, pair.machine_clicks, pair.first_click)
                for key, pair in pairs.items()
            ],
        )

    def _pair(self, cursor: Any, email: int, link: int) -> EmailLink:
        row = cursor.execute(SQL["closed_link"], (self.tenant, email, link)).fetchone()
        return EmailLink() if row is None else EmailLink(*row)


def last_before(rows: list[Row], now: int) -> int:
    """The place of the last row that is not of the future; of the last one where all are."""
    places = [place for place, row in enumerate(rows) if row.at <= now]
    return places[-1] if places else len(rows) - 1


def unheld(old: list[Row]) -> list[Row]:
    """Those before which nothing of their chain stays."""
    found: list[Row] = []
    gone: set[int] = set()
    for row in old:
        if row.prev is None or row.prev in gone:
            gone.add(row.seq)
            found.append(row)
    return found


def runs(rows: list[Row], leaving: set[int]) -> list[tuple[int, int]]:
    """The spans of the log in which all of these events leave it."""
    found: list[tuple[int, int]] = []
    first = last = None
    for row in rows:
        if row.seq in leaving:
            first = row.seq if first is None else first
            last = row.seq
        elif first is not None and last is not None:
            found.append((first, last))
            first = last = None
    if first is not None and last is not None:
        found.append((first, last))
    return found
