"""A recount: everything that follows from the log, held against what is stored.

Email by email, so that memory does not grow with the log. For a file that nobody writes meanwhile:
a copy (see `store.copy`). Same arithmetic as the writer's, see `store.projection`.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import apsw

from little_bell.store.memory import Pending
from little_bell.store.projection import (
    EmailLink,
    EmailState,
    Figures,
    fresh_row,
    project_click,
    project_open,
    project_sent,
)
from little_bell.store.statements import load
from little_bell.tracking.hit import OPEN

SQL = load("recount.sql")
PENDING = load("write.sql")["unscoped_pending"]

STATE, EMAIL_LINK, FIGURE = "state", "email_link", "figure"
PROGRESS = 100_000  # events between two calls of `progress`

Values = list[Any]
EMAIL = itemgetter(0, 1)  # of a row: tenant, email


class Correction(NamedTuple):
    """One row that is not as the log says. JSON-able."""

    table: str
    key: Values  # tenant, email; and link; or tenant, scope, id, bucket
    stored: Values | None  # the row as it was found; None: there was none. Of figures: nothing
    right: Values | None  # the row as it should be; None: none. Of figures: what to add


class Recount:
    """Counts when it is iterated; afterwards `problems` has what no correction can mend."""

    def __init__(
        self, connection: apsw.Connection, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """`progress` is told of the events counted and of their number in all."""
        self.connection = connection
        self.progress = progress
        self.problems: list[str] = []
        self.emails = 0
        self.events = 0
        self.strays = 0  # events whose email nobody knows
        self.unchained = 0  # events that do not name the one before them
        self.figures = Figures()

    def __iter__(self) -> Iterator[Correction]:
        self.total = int(self.connection.execute(SQL["unscoped_events_count"]).get)
        yield from self._emails()
        yield from self._buckets()
        self._look_around()

    def _rows(self, name: str) -> Iterator[tuple[Any, ...]]:
        yield from self.connection.execute(SQL[name])

    def _emails(self) -> Iterator[Correction]:
        pending = [Pending(*row) for row in self.connection.execute(PENDING)]
        events = Groups(self._rows("unscoped_events"), keep=False)
        links = Groups(self._rows("unscoped_email_links"), keep=True)
        for row in self._rows("unscoped_states"):
            tenant, email, *values = row
            self.emails += 1
            told = events.of((tenant, email))
            stored = {link: values for _, _, link, *values in links.of((tenant, email))}
            state = EmailState(tenant, email, fresh_row(values[0], values[1]))
            if not any(one.tenant == tenant and one.first <= email <= one.last for one in pending):
                project_sent(state, self.figures)
            pairs = self._replay(state, told)
            *right, _, _ = state.row()
            if values[2:] != right:
                yield Correction(STATE, [tenant, email], values[2:], right)
            yield from self._email_links(tenant, email, pairs, stored)
        self.strays = events.rest()
        links.rest()
        for tenant, email, link, *values in links.left:
            yield Correction(EMAIL_LINK, [tenant, email, link], values, None)

    def _replay(self, state: EmailState, told: list[tuple[Any, ...]]) -> dict[int, EmailLink]:
        """Bring a fresh state up to date; returns its links."""
        pairs: dict[int, EmailLink] = {}
        for _, _, seq, at, kind, link, class_, prev in told:
            if prev != (state.head_open if kind == OPEN else state.head_click):
                self.unchained += 1
            if kind == OPEN:
                project_open(state, at, class_, self.figures)
                state.head_open = seq
            else:
                pair = pairs.setdefault(link, EmailLink())
                project_click(state, pair, link, at, class_, self.figures)
                state.head_click = seq
            self.events += 1
            if self.progress is not None and self.events % PROGRESS == 0:
                self.progress(self.events, self.total)
        return pairs

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
        for tenant, scope, id_, bucket, *values in self._rows("unscoped_figures"):
            row = changes.setdefault((tenant, scope, id_, bucket), [0] * len(values))
            for column, value in enumerate(values):
                row[column] -= value
        for key, row in changes.items():
            if any(row):
                yield Correction(FIGURE, list(key), None, row)

    def _look_around(self) -> None:
        """What the log cannot tell."""
        stateless = self.connection.execute(SQL["unscoped_stateless"]).get
        behind = [name for (name,) in self._rows("unscoped_numbers_behind")]
        for count, what in (
            (self.strays, "events belong to no email"),
            (self.unchained, "events do not name the event before them"),
            (stateless, "emails have texts and no state"),
        ):
            if count:
                self.problems.append(f"{count} {what}")
        if behind:
            self.problems.append(f"numbers would be handed out twice for {', '.join(behind)}")


class Groups:
    """Rows in the order of their emails, taken email by email."""

    def __init__(self, rows: Iterator[tuple[Any, ...]], keep: bool) -> None:
        """`keep`: rows that nobody asks for are wanted in the end, not their number alone."""
        self.keep = keep
        self.groups = groupby(rows, EMAIL)
        self.ahead: tuple[Any, list[tuple[Any, ...]]] | None = None
        self.left: list[tuple[Any, ...]] = []  # rows of emails that were never asked for
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
            self.skipped += len(rows)
            if self.keep:
                self.left += rows

    def rest(self) -> int:
        """Read to the end; how many rows nobody asked for."""
        self.of((1 << 63, 0))
        return self.skipped
