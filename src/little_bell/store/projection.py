"""The arithmetic of figures: what one event changes in its email's state and in the buckets.

Used by the writer in the tick's transaction and by a recount of the log, so that both agree.
Definitions: people are human, proxy and unknown. A unique open is an email opened, or else
clicked (then inferred), by people; a unique belongs to the bucket of the first such event.
"""

from collections.abc import Sequence
from typing import Any, cast

from little_bell.tracking.hit import OPEN
from little_bell.tracking.rules import MACHINE

BUCKET = 900_000  # milliseconds: 15 minutes

TENANT, CAMPAIGN, LINK, CLIENT = range(4)  # scopes of figures
DAY = 96  # buckets

# Columns of figures, in the order of the table.
SENT, OPENS, MACHINE_OPENS, UNIQUE_OPENS, INFERRED, CLICKS, MACHINE_CLICKS, UNIQUE_CLICKS = range(8)

# Flags of a state.
DISORDERED = 1  # hits came out of the order of time
OPTED_OUT = 2  # its recipient is left alone


def earlier(known: int | None, at: int) -> int:
    return at if known is None or at < known else known


def later(known: int | None, at: int) -> int:
    return at if known is None or at > known else known


class Figures:
    """What a transaction adds to the buckets."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: dict[tuple[int, int, int, int], list[int]] = {}

    def add(self, tenant: int, scope: int, id_: int, at: int, column: int, n: int = 1) -> None:
        """Add to one figure of the bucket that holds `at` (ms UTC)."""
        key = (tenant, scope, id_, at // BUCKET)
        row = self.changes.get(key)
        if row is None:
            row = self.changes[key] = [0, 0, 0, 0, 0, 0, 0, 0]
        row[column] += n

    def add_email(self, state: "EmailState", at: int, column: int, n: int = 1) -> None:
        """Add to a figure of the tenant, and of the email's campaign."""
        self.add(state.tenant, TENANT, 0, at, column, n)
        if state.campaign is not None:
            self.add(state.tenant, CAMPAIGN, state.campaign, at, column, n)

    def add_event(
        self, state: "EmailState", client: int | None, at: int, column: int, n: int = 1
    ) -> None:
        """Add an open or a click to the figures of tenant, campaign and client."""
        self.add_email(state, at, column, n)
        if client is not None:
            self.add(state.tenant, CLIENT, client, at, column, n)

    def add_closed(
        self, state: "EmailState", kind: int, class_: int, client: int | None, link: int, at: int
    ) -> None:
        """Add all that an event counts for but uniques."""
        column = column_of(kind, class_)
        self.add_event(state, client, at, column)
        if kind != OPEN:
            self.add(state.tenant, LINK, link, at, column)

    def rows(self) -> list[tuple[int, ...]]:
        """Rows for the table of figures; those that add nothing are left out."""
        return [(*key, *row) for key, row in self.changes.items() if any(row)]

    def day_rows(self) -> list[tuple[int, ...]]:
        """The same by days."""
        days: dict[tuple[int, int, int, int], list[int]] = {}
        for (tenant, scope, id_, bucket), row in self.changes.items():
            key = (tenant, scope, id_, bucket // DAY)
            known = days.get(key)
            if known is None:
                days[key] = row
            else:
                days[key] = [a + b for a, b in zip(known, row, strict=True)]
        return [(*key, *row) for key, row in days.items() if any(row)]


class EmailLink:
    """How people and machines followed one link of one email."""

    __slots__ = ("clicks", "first_click", "machine_clicks")

    def __init__(self, clicks: int = 0, machine_clicks: int = 0, first: int | None = None) -> None:
        self.clicks = clicks
        self.machine_clicks = machine_clicks
        self.first_click = first


Time = int | None
StateRow = tuple[
    int,
    int | None,
    int,
    int,
    int,
    int,
    int,
    int,
    Time,
    Time,
    Time,
    Time,
    Time,
    Time,
    Time,
    Time,
    int | None,
    int | None,
]


def fresh_row(created_at: int, campaign: int | None) -> StateRow:
    """The state of an email of which nothing became yet."""
    nothing = (None, None, None, None, None, None, None, None)
    return (created_at, campaign, 0, 0, 0, 0, 0, 0, *nothing, None, None)


def closed_row(created_at: int, campaign: int | None, closed: Sequence[Any]) -> StateRow:
    """The state of an email as its purged events left it, a row of `closed_states`."""
    row: Any = (created_at, campaign, 0, *closed, None, None)
    return cast(StateRow, row)


class EmailState:
    """What became of one email. Times are milliseconds since the epoch."""

    __slots__ = (
        "campaign",
        "clicks",
        "consent",
        "created_at",
        "email",
        "first_click",
        "first_machine_click",
        "first_machine_open",
        "first_open",
        "flags",
        "head_click",
        "head_open",
        "last_click",
        "last_machine_click",
        "last_machine_open",
        "last_open",
        "machine_clicks",
        "machine_opens",
        "opens",
        "tenant",
    )

    def __init__(self, tenant: int, email: int, row: StateRow) -> None:
        """`row` is as `select_state` gives it, or `fresh_row`."""
        self.tenant = tenant
        self.email = email
        (
            self.created_at,
            self.campaign,
            self.consent,
            self.flags,
            self.opens,
            self.machine_opens,
            self.clicks,
            self.machine_clicks,
            self.first_open,
            self.last_open,
            self.first_machine_open,
            self.last_machine_open,
            self.first_click,
            self.last_click,
            self.first_machine_click,
            self.last_machine_click,
            self.head_open,
            self.head_click,
        ) = row

    def opens_row(self) -> tuple[int | None, ...]:
        """Values for `update_opens`."""
        return (
            self.opens,
            self.machine_opens,
            self.first_open,
            self.last_open,
            self.first_machine_open,
            self.last_machine_open,
            self.head_open,
            self.tenant,
            self.email,
        )

    def row(self) -> tuple[int | None, ...]:
        """Values for `update_state`."""
        return (
            self.flags,
            self.opens,
            self.machine_opens,
            self.clicks,
            self.machine_clicks,
            self.first_open,
            self.last_open,
            self.first_machine_open,
            self.last_machine_open,
            self.first_click,
            self.last_click,
            self.first_machine_click,
            self.last_machine_click,
            self.head_open,
            self.head_click,
            self.tenant,
            self.email,
        )

    def closed(self) -> tuple[int | None, ...]:
        """Values for `keep_closed_state`."""
        *row, _, _, _, _ = self.row()
        return (self.tenant, self.email, *row)

    def uniques(self) -> tuple[int | None, bool, int | None]:
        """When it became a unique open, whether that is inferred, and a unique click."""
        if self.first_open is None:
            return self.first_click, self.first_click is not None, self.first_click
        if self.first_click is None or self.first_open <= self.first_click:
            return self.first_open, False, self.first_click
        return self.first_click, False, self.first_click

    def move_uniques(self, before: tuple[int | None, bool, int | None], figures: Figures) -> None:
        """Move what this email adds to the uniques from where it was to where it is now."""
        after = self.uniques()
        if after == before:
            return
        for uniques, n in ((before, -1), (after, 1)):
            for at, column in unique_figures(uniques):
                figures.add_email(self, at, column, n)


def unique_figures(uniques: tuple[int | None, bool, int | None]) -> list[tuple[int, int]]:
    """The figures that an email's uniques are one more of: (at, column)."""
    opened, inferred, clicked = uniques
    found = []
    if opened is not None:
        found.append((opened, UNIQUE_OPENS))
        if inferred:
            found.append((opened, INFERRED))
    if clicked is not None:
        found.append((clicked, UNIQUE_CLICKS))
    return found


def project_sent(state: EmailState, figures: Figures) -> None:
    """An email was created."""
    figures.add_email(state, state.created_at, SENT)


def column_of(kind: int, class_: int) -> int:
    """The figure of which an open or a click is one more."""
    if kind == OPEN:
        return MACHINE_OPENS if class_ == MACHINE else OPENS
    return MACHINE_CLICKS if class_ == MACHINE else CLICKS


def project_aggregate(
    tenant: int,
    kind: int,
    class_: int,
    client: int | None,
    link: int | None,
    at: int,
    campaign: int | None,
    figures: Figures,
) -> None:
    """Some email was opened, or a link of it followed: it counts in totals, never in uniques."""
    column = column_of(kind, class_)
    figures.add(tenant, TENANT, 0, at, column)
    if campaign is not None:
        figures.add(tenant, CAMPAIGN, campaign, at, column)
    if client is not None:
        figures.add(tenant, CLIENT, client, at, column)
    if link is not None:
        figures.add(tenant, LINK, link, at, column)


def project_open(
    state: EmailState, client: int | None, at: int, class_: int, figures: Figures
) -> None:
    """An email was opened."""
    if class_ == MACHINE:
        state.machine_opens += 1
        state.first_machine_open = earlier(state.first_machine_open, at)
        state.last_machine_open = later(state.last_machine_open, at)
        figures.add_event(state, client, at, MACHINE_OPENS)
        return
    state.opens += 1
    state.last_open = later(state.last_open, at)
    figures.add_event(state, client, at, OPENS)
    first = state.first_open
    if first is None or at < first:
        before = state.uniques()
        state.first_open = at
        state.move_uniques(before, figures)


def project_click(
    state: EmailState,
    pair: EmailLink,
    link: int,
    client: int | None,
    at: int,
    class_: int,
    figures: Figures,
) -> None:
    """A link of an email was followed."""
    if (state.last_click is not None and at < state.last_click) or (
        state.last_machine_click is not None and at < state.last_machine_click
    ):
        state.flags |= DISORDERED
    if class_ == MACHINE:
        state.machine_clicks += 1
        pair.machine_clicks += 1
        state.first_machine_click = earlier(state.first_machine_click, at)
        state.last_machine_click = later(state.last_machine_click, at)
        figures.add_event(state, client, at, MACHINE_CLICKS)
        figures.add(state.tenant, LINK, link, at, MACHINE_CLICKS)
        return
    state.clicks += 1
    pair.clicks += 1
    state.last_click = later(state.last_click, at)
    figures.add_event(state, client, at, CLICKS)
    figures.add(state.tenant, LINK, link, at, CLICKS)
    if state.first_click is None or at < state.first_click:
        before = state.uniques()
        state.first_click = at
        state.move_uniques(before, figures)
    move_first(state.tenant, pair, link, earlier(pair.first_click, at), figures)


def move_first(
    tenant: int, pair: EmailLink, link: int, first: int | None, figures: Figures
) -> None:
    """Move the unique click of a link to where the email first followed it."""
    if first == pair.first_click:
        return
    if pair.first_click is not None:
        figures.add(tenant, LINK, link, pair.first_click, UNIQUE_CLICKS, -1)
    if first is not None:
        figures.add(tenant, LINK, link, first, UNIQUE_CLICKS)
    pair.first_click = first


def withdraw_click(
    state: EmailState, pair: EmailLink, link: int, client: int | None, at: int, figures: Figures
) -> None:
    """A click counted with people turned out to be a machine's.

    Firsts and lasts of people are left to `settle_clicks`, which needs the clicks that remain.
    """
    state.clicks -= 1
    pair.clicks -= 1
    state.machine_clicks += 1
    pair.machine_clicks += 1
    state.first_machine_click = earlier(state.first_machine_click, at)
    state.last_machine_click = later(state.last_machine_click, at)
    for column, n in ((CLICKS, -1), (MACHINE_CLICKS, 1)):
        figures.add_event(state, client, at, column, n)
        figures.add(state.tenant, LINK, link, at, column, n)


def settle_clicks(
    state: EmailState,
    pairs: dict[int, EmailLink],
    withdrawn: list[tuple[int, int]],
    remaining: list[tuple[int, int]],
    figures: Figures,
) -> None:
    """Find first and last clicks by people again after some were withdrawn.

    Clicks are (at, link). `pairs` are the links that lost some. `remaining` holds the clicks by
    people that are left: at least the newest, and all that are not older than any withdrawn one.
    """
    before = state.uniques()
    state.last_click = max((at for at, _ in remaining), default=None)
    if any(at == state.first_click for at, _ in withdrawn):
        state.first_click = min((at for at, _ in remaining), default=None)
    state.move_uniques(before, figures)
    for link, pair in pairs.items():
        if (pair.first_click, link) in withdrawn:
            first = min((at for at, of in remaining if of == link), default=None)
            move_first(state.tenant, pair, link, first, figures)
