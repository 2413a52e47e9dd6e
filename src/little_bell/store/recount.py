"""A recount: everything that follows from the log, held against what is stored.

Email by email, so that memory does not grow with the log. For a file that nobody writes meanwhile:
a copy (see `store.copy`). Same arithmetic as the writer's, see `store.projection`.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import apsw

from little_bell.store.memory import Pending, Unfinished
from little_bell.store.projection import (
    CAMPAIGN,
    DAY,
    LINK,
    OPTED_OUT,
    UNIQUE_CLICKS,
    EmailLink,
    EmailState,
    Figures,
    closed_row,
    column_of,
    fresh_row,
    project_aggregate,
    project_click,
    project_open,
    project_sent,
    unique_figures,
)
from little_bell.store.review import Line, Review
from little_bell.store.statements import load
from little_bell.tracking.hit import OPEN

SQL = load("recount.sql")
WRITE = load("write.sql")

EVENT, STATE, EMAIL_LINK, FIGURE, DAYS = "event", "state", "email_link", "figure", "day"
MARK = "mark"  # no row: all events are judged by the rules of this version
PROGRESS = 100_000  # events between two calls of `progress`

Values = list[Any]
EMAIL = itemgetter(0, 1)  # of a row: tenant, email


class Correction(NamedTuple):
    """One row that is not as the log says. JSON-able."""

    table: str
    key: Values  # tenant, email; and seq or link; or tenant, scope, id, bucket or day
    stored: Values | None  # the row as it was found; None: there was none. Of figures: nothing
    right: Values | None  # the row as it should be; None: none. Of figures: what to add


class Recount:
    """Counts when it is iterated; afterwards `problems` has what no correction can mend."""

    def __init__(
        self,
        connection: apsw.Connection,
        progress: Callable[[int, int], None] | None = None,
        judge: bool = False,
    ) -> None:
        """`progress` is told of the events counted and of their number in all; `judge`: events
        that older rules judged are judged again."""
        self.connection = connection
        self.progress = progress
        self.problems: list[str] = []
        self.emails = 0
        self.events = 0
        self.strays = 0  # events whose email nobody knows
        self.unchained = 0  # events that do not name the one before them
        self.closed_strays = 0  # the same of what is known of purged events
        self.figures = Figures()
        self.review = Review(self._user_agent) if judge else None
        self.unfinished: dict[tuple[int, int], Unfinished] = {}

    def __iter__(self) -> Iterator[Correction]:
        self.total = int(self.connection.execute(SQL["unscoped_events_count"]).get)
        for row in self.connection.execute(WRITE["unscoped_unfinished"]):
            one = Unfinished(*row)
            self.unfinished[one.tenant, one.email] = one
        for tenant, scope, id_, bucket, *values in self._rows("unscoped_balances"):
            self.figures.changes[tenant, scope, id_, bucket] = values
        yield from self._emails()
        self._aggregates()
        yield from self._buckets()
        self._look_around()

    def _rows(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Rows, but for those of tenants that are being deleted."""
        for row in self.connection.execute(SQL[name]):
            if (row[0], 0) not in self.unfinished:
                yield row

    def _user_agent(self, tenant: int, agent: int) -> str | None:
        row = self.connection.execute(SQL["user_agent"], (tenant, agent)).fetchone()
        return None if row is None else str(row[0])

    def _emails(self) -> Iterator[Correction]:
        pending = [Pending(*row) for row in self.connection.execute(WRITE["unscoped_pending"])]
        events = Groups(self._rows("unscoped_events"), keep=False, left=self._without_email)
        links = Groups(
            self._rows("unscoped_email_links"), keep=True, left=self._links_without_email
        )
        closed_states = Groups(self._rows("unscoped_closed_states"), keep=False)
        closed_links = Groups(
            self._rows("unscoped_closed_links"),
            keep=False,
            left=lambda key, _rows: key in self.unfinished,
        )
        for row in self._rows("unscoped_states"):
            tenant, email, *values = row
            self.emails += 1
            told = [Line(*one[2:]) for one in events.of((tenant, email))]
            stored = {link: values for _, _, link, *values in links.of((tenant, email))}
            closed: list[Values] = [list(one[2:]) for one in closed_states.of((tenant, email))]
            state = begun(tenant, email, values, closed)
            pairs = {one[2]: EmailLink(*one[3:]) for one in closed_links.of((tenant, email))}
            state.flags |= values[2] & OPTED_OUT  # the log does not tell
            if not any(one.tenant == tenant and one.first <= email <= one.last for one in pending):
                project_sent(state, self.figures)
            self._uniques(state, pairs)
            judged = told
            if self.review is not None:
                judged = self.review.judge(tenant, told, newest_click(state))
            for before, line in zip(told, judged, strict=True):
                if line is not before:
                    key = [tenant, email, line.seq]
                    yield Correction(EVENT, key, before.judgement(), line.judgement())
            self._replay(state, pairs, judged)
            self._heads(state, values, closed)
            *right, _, _ = state.row()
            if values[2:] != right:
                yield Correction(STATE, [tenant, email], values[2:], right)
            yield from self._email_links(tenant, email, pairs, stored)
        self.strays = events.rest()
        self.closed_strays = closed_states.rest() + closed_links.rest()
        links.rest()
        for tenant, email, link, *values in links.left_over:
            yield Correction(EMAIL_LINK, [tenant, email, link], values, None)

    def _uniques(self, state: EmailState, pairs: dict[int, EmailLink]) -> None:
        """What purged events made unique."""
        for at, column in unique_figures(state.uniques()):
            self.figures.add_email(state, at, column)
        for link, pair in pairs.items():
            if pair.first_click is not None:
                self.figures.add(state.tenant, LINK, link, pair.first_click, UNIQUE_CLICKS)

    def _heads(self, state: EmailState, stored: Values, closed: list[Values]) -> None:
        """A chain that was purged to its end keeps its head, which leads nowhere."""
        for name, counts, head in (("head_open", (1, 2), -2), ("head_click", (3, 4), -1)):
            seq = stored[head]
            purged = any(row[count] for row in closed for count in counts)
            if purged and seq is not None and getattr(state, name) is None:
                there = self.connection.execute(SQL["event_exists"], (state.tenant, seq))
                if there.fetchone() is None:
                    setattr(state, name, seq)

    def _replay(self, state: EmailState, pairs: dict[int, EmailLink], told: list[Line]) -> None:
        """Bring a state and its links, as they were before these events, up to date."""
        purged = (state.opens + state.machine_opens, state.clicks + state.machine_clicks)
        moving = self.unfinished.get((state.tenant, state.email))
        for line in told:
            head = state.head_open if line.kind == OPEN else state.head_click
            if line.prev != head:
                # The first one that is left names one that was purged.
                first = head is None and purged[line.kind] > 0
                self.unchained += not (first and line.prev is not None and line.prev < line.seq)
            if line.kind == OPEN:
                project_open(state, line.client, line.at, line.class_, self.figures)
                state.head_open = line.seq
            else:
                pair = pairs.setdefault(line.link, EmailLink())
                project_click(
                    state, pair, line.link, line.client, line.at, line.class_, self.figures
                )
                state.head_click = line.seq
            if moving is not None and moving.holds(line.kind, line.seq):
                self._still_there(state, line, moving.campaign)
            self._counted()

    def _counted(self) -> None:
        self.events += 1
        if self.progress is not None and self.events % PROGRESS == 0:
            self.progress(self.events, self.total)

    def _aggregates(self) -> None:
        """Count the events that name no email. Nobody can judge them again."""
        for tenant, kind, class_, client, link, at, campaign in self._rows("unscoped_aggregates"):
            project_aggregate(tenant, kind, class_, client, link, at, campaign, self.figures)
            self._counted()

    def _still_there(self, state: EmailState, line: Line, campaign: int | None) -> None:
        """An event that counts for the campaign its email was in before."""
        column = column_of(line.kind, line.class_)
        for id_, n in ((state.campaign, -1), (campaign, 1)):
            if id_ is not None:
                self.figures.add(state.tenant, CAMPAIGN, id_, line.at, column, n)

    def _without_email(self, key: tuple[int, int], rows: list[tuple[Any, ...]]) -> bool:
        """Count the events of an email that is being deleted; False where it is not."""
        gone = self.unfinished.get(key)
        if gone is None:
            return False
        state = EmailState(*key, fresh_row(0, gone.campaign))
        for line in (Line(*row[2:]) for row in rows):
            self.figures.add_closed(state, line.kind, line.class_, line.client, line.link, line.at)
            self.events += 1
        return True

    def _links_without_email(self, key: tuple[int, int], rows: list[tuple[Any, ...]]) -> bool:
        """The same for its links, each a unique click where people followed it."""
        if key not in self.unfinished:
            return False
        for tenant, _, link, _, _, first in rows:
            if first is not None:
                self.figures.add(tenant, LINK, link, first, UNIQUE_CLICKS)
        return True

    def _email_links(
        self, tenant: int, email: int, pairs: dict[int, EmailLink], stored: dict[int, Values]
    ) -> Iterator[Correction]:
        right = {
            link: [pair.clicks, pair.machine_clicks, pair.first_click]
            for link, pair in pairs.items()
        }
        for link in {**stored, **right}:
            if stored.get(link) != right.get(link):
                key = [tenant, email, link]
                yield Correction(EMAIL_LINK, key, stored.get(link), right.get(link))

    def _buckets(self) -> Iterator[Correction]:
        """What has to be added to figures; both sides may hold buckets of zeros."""
        changes = self.figures.changes
        # What stands in `days`, less what stands in `figures`: a correction of figures is one of
        # days too.
        apart: dict[tuple[int, int, int, int], Values] = {}
        for tenant, scope, id_, bucket, *values in self._rows("unscoped_figures"):
            row = changes.setdefault((tenant, scope, id_, bucket), [0] * len(values))
            day = apart.setdefault((tenant, scope, id_, bucket // DAY), [0] * len(values))
            for column, value in enumerate(values):
                row[column] -= value
                day[column] += value
        for key, row in changes.items():
            if any(row):
                yield Correction(FIGURE, list(key), None, row)
        for tenant, scope, id_, number, *values in self._rows("unscoped_days"):
            day = apart.setdefault((tenant, scope, id_, number), [0] * len(values))
            for column, value in enumerate(values):
                day[column] -= value
        for key, row in apart.items():
            if any(row):
                yield Correction(DAYS, list(key), None, row)

    def _look_around(self) -> None:
        """What the log cannot tell."""
        stateless = self.connection.execute(SQL["unscoped_stateless"]).get
        behind = [str(name) for (name,) in self.connection.execute(SQL["unscoped_numbers_behind"])]
        for count, what in (
            (self.strays, "events belong to no email"),
            (self.closed_strays, "rows of purged events belong to no email"),
            (self.unchained, "events do not name the event before them"),
            (stateless, "emails have texts and no state"),
        ):
            if count:
                self.problems.append(f"{count} {what}")
        if behind:
            self.problems.append(f"numbers would be handed out twice for {', '.join(behind)}")


def begun(tenant: int, email: int, stored: Values, closed: list[Values]) -> EmailState:
    """The state of an email before the events that are in the log: as purged ones left it."""
    created_at, campaign = stored[:2]
    if not closed:
        return EmailState(tenant, email, fresh_row(created_at, campaign))
    return EmailState(tenant, email, closed_row(created_at, campaign, closed[0]))


def newest_click(state: EmailState) -> int | None:
    """When anybody clicked last."""
    known = [at for at in (state.last_click, state.last_machine_click) if at is not None]
    return max(known, default=None)


class Groups:
    """Rows in the order of their emails, taken email by email."""

    def __init__(
        self,
        rows: Iterator[tuple[Any, ...]],
        keep: bool,
        left: Callable[[tuple[int, int], list[tuple[Any, ...]]], bool] = lambda _key, _rows: False,
    ) -> None:
        """`keep`: rows that nobody asks for are wanted in the end, not their number alone; but for
        those of which `left` says, when they are passed over, that it has seen to them."""
        self.keep = keep
        self.left = left
        self.groups = groupby(rows, EMAIL)
        self.ahead: tuple[Any, list[tuple[Any, ...]]] | None = None
        self.left_over: list[tuple[Any, ...]] = []  # rows of emails that were never asked for
        self.skipped = 0

    def of(self, key: tuple[int, int]) -> list[tuple[Any, ...]]:
        """The rows of an email; keys have to be asked for in their order."""
        while True:
            if self.ahead is None:
                found = next(self.groups, None)
                if found is None:
                    return []
                self.ahead = (found[0], list(found[1]))
            if self.ahead[0] > key:
                return []
            (found_key, rows), self.ahead = self.ahead, None
            if found_key == key:
                return rows
            if self.left(found_key, rows):
                continue
            self.skipped += len(rows)
            if self.keep:
                self.left_over += rows

    def rest(self) -> int:
        """Read to the end; how many rows nobody asked for."""
        self.of((1 << 63, 0))
        return self.skipped
