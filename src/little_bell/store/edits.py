"""Edits: emails that change or go, tenants that go. Figures follow in the same transaction.

What an email counted for stays where it goes: as a closing balance, from which a recount begins. A
change of its campaign moves what it counted for. An email with more events than a tick should touch
is left `unfinished`: the rest of its events follow in steps (`Finish`), and everybody who counts
knows of them.
"""

from typing import Any

from little_bell.errors import StoreError
from little_bell.store.job import BYTES, ROWS, Job
from little_bell.store.memory import GOING, MOVING, TENANT_GOING, Unfinished
from little_bell.store.projection import (
    CAMPAIGN,
    LINK,
    SENT,
    UNIQUE_CLICKS,
    EmailState,
    column_of,
    fresh_row,
    unique_figures,
)
from little_bell.store.statements import load
from little_bell.store.tenants import Tenant
from little_bell.store.transaction import Transaction
from little_bell.tracking.classify import BURST_LOOK_BACK
from little_bell.tracking.email import Change
from little_bell.tracking.hit import CLICK, OPEN
from little_bell.tracking.links import MAX_URL
from little_bell.tracking.privacy import FULL

SQL = load("write.sql")

AT_ONCE = 16  # edits of a tick, at most
LAST_ID = (1 << 63) - 1
SWEPT = (  # tables of a tenant that goes, by what deletes some of their rows
    "delete_some_events",
    "delete_some_states",
    "delete_some_email_links",
    "delete_some_figures",
    "delete_some_days",
    "delete_some_balances",
    "delete_some_closed_states",
    "delete_some_closed_links",
    "delete_some_links",
    "delete_some_agents",
    "delete_some_campaigns",
    "delete_some_idempotency",
    "delete_some_optouts",
    "delete_some_blocks",
    "delete_some_imports",
)

FEWER = {"delete_some_links": BYTES // MAX_URL}  # rows of long texts, at most

DONE, NOT_FOUND, BUSY, LATER, NO_ROOM = range(5)  # what became of an edit


class Edit:
    """One change: of an email, to nothing where `change` is None; or of a tenant, which goes."""

    __slots__ = ("change", "consent", "email", "outcome", "tenant", "texts")

    def __init__(self, tenant: str, email: int, change: Change | None) -> None:
        """`email` is 0 for the tenant as a whole."""
        self.tenant = tenant
        self.email = email
        self.change = change
        self.outcome = NOT_FOUND
        self.consent = FULL  # as it is now, as are
        # subject, recipient, campaign, metadata
        self.texts: tuple[str | None, str | None, str | None, str | None] = (None,) * 4

    @property
    def what(self) -> str:
        """What it is about, for messages."""
        return "email" if self.email else "tenant"

    def apply(self, transaction: Transaction, share: int) -> tuple[int, int]:
        """Carry it out: what became of it, and how many events and links it took."""
        tenant = transaction.memory.tenants.by_name.get(self.tenant.encode("ascii"))
        if tenant is None:
            return NOT_FOUND, 0
        pending = transaction.pending
        if not self.email:
            if pending is not None and pending.tenant == tenant.id:
                return BUSY, 0
            transaction.replace_tenant(tenant)
            return DONE, 0
        key = (tenant.id, self.email)
        if pending is not None and pending.holds(*key):
            return NOT_FOUND, 0
        state = transaction.state(*key)
        if state is None:
            return NOT_FOUND, 0
        if key in transaction.unfinished:
            return BUSY, 0
        if self.change is None:
            done = delete_email(transaction, state, share)
        else:
            done = change_email(transaction, tenant, state, self, self.change, share)
        return DONE, done


class Edits(Job):
    """All edits of a tick, in one step."""

    def __init__(self, edits: list[Edit]) -> None:
        self.edits = edits
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        transaction.clicks.flush_events()  # chains are read from the file
        # Bursts judge that many clicks again: they are never left for later.
        share = max(2 * BURST_LOOK_BACK, ROWS // len(self.edits))
        left = ROWS  # events and links of all of them: what comes behind is tried again
        for edit in self.edits:
            if left <= 0:
                edit.outcome = LATER
                continue
            edit.outcome, done = edit.apply(transaction, share)
            left -= done

    def committed(self) -> None:
        self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True


def delete_email(transaction: Transaction, state: EmailState, share: int) -> int:
    """Delete an email, and `share` of its links and events at once; what it counted for stays.

    Returns how many these were."""
    transaction.flush_states()  # and the links that were followed in this very tick
    return remove_email(transaction, state, share)


def remove_email(transaction: Transaction, state: EmailState, share: int) -> int:
    """The same, of many in one step: states and links of this tick have been flushed."""
    cursor, balances = transaction.cursor, transaction.balances
    tenant, email = key = (state.tenant, state.email)
    balances.add_email(state, state.created_at, SENT)
    for at, column in unique_figures(state.uniques()):
        balances.add_email(state, at, column)
    for name in ("delete_email", "delete_state", "delete_closed_state"):
        cursor.execute(SQL[name], key)
    transaction.forget(key)
    rest = Unfinished(tenant, email, GOING, state.campaign, state.head_open, state.head_click)
    return leave(transaction, rest, share)


def change_email(
    transaction: Transaction, tenant: Tenant, state: EmailState, edit: Edit, change: Change, n: int
) -> int:
    """Change texts; where the campaign is another, move `n` of the events at once.

    Returns how many these were."""
    done = 0
    cursor = transaction.cursor
    key = (state.tenant, state.email)
    stored: tuple[Any, ...] = cursor.execute(SQL["select_email"], key).fetchall()[0]
    subject, recipient, metadata = stored
    given = change.given
    subject = change.subject if "subject" in given else subject
    recipient = change.recipient if "recipient" in given else recipient
    metadata = change.metadata if "metadata" in given else metadata
    if given - {"campaign", "consent"}:
        cursor.execute(SQL["update_email"], (subject, recipient, metadata, *key))
    if "recipient" in given and tenant.salt is not None:
        transaction.mark(key, transaction.optouts.hold(tenant, recipient))
    if "consent" in given:
        state.consent = change.consent
        cursor.execute(SQL["update_consent"], (state.consent, *key))
    if "campaign" in given:
        name, campaign = change.campaign, None
        if name is not None:
            tenant = transaction.tenant(tenant.id)
            campaign = transaction.memory.campaigns.number(cursor, tenant, name, transaction.at)
        if campaign != state.campaign:
            done = move_email(transaction, state, campaign, n)
    else:
        named = (state.tenant, state.campaign)
        rows: list[Any] = cursor.execute(SQL["campaign_name"], named).fetchall()
        name = rows[0][0] if rows else None
    edit.texts = (subject, recipient, name, metadata)
    edit.consent = state.consent
    return done


def move_email(
    transaction: Transaction, state: EmailState, campaign: int | None, share: int
) -> int:
    """Put an email into another campaign, with `share` of its events at once.

    Returns how many these were."""
    before, state.campaign = state.campaign, campaign
    figures = transaction.figures
    for id_, n in ((before, -1), (campaign, 1)):
        if id_ is not None:
            figures.add(state.tenant, CAMPAIGN, id_, state.created_at, SENT, n)
            for at, column in unique_figures(state.uniques()):
                figures.add(state.tenant, CAMPAIGN, id_, at, column, n)
    transaction.cursor.execute(SQL["update_campaign"], (campaign, state.tenant, state.email))
    rest = Unfinished(state.tenant, state.email, MOVING, before, state.head_open, state.head_click)
    return leave(transaction, rest, share)


def leave(transaction: Transaction, rest: Unfinished, share: int) -> int:
    """Do so many events of what an edit left, and keep what then remains; returns how many."""
    most = share
    key = (rest.tenant, rest.email)
    heads = {}
    to = None
    if rest.kind == MOVING:
        state = transaction.state(*key)
        to = None if state is None else state.campaign
    else:
        share -= take_links(transaction, rest, share)
    # Clicks first: a burst may judge the newest ones again.
    for kind, head in ((CLICK, rest.next_click), (OPEN, rest.next_open)):
        while head is not None and share:
            share -= 1
            head = take(transaction, rest, to, kind, head)
        heads[kind] = head
    rest = rest._replace(next_open=heads[OPEN], next_click=heads[CLICK])
    if heads[OPEN] is None and heads[CLICK] is None:
        transaction.finished(key)
    else:
        transaction.unfinish(rest)
    return most - share


def take_links(transaction: Transaction, rest: Unfinished, share: int) -> int:
    """Delete so many links of an email that goes, before its events; returns how many there were.
    As long as one is left, a click of it is."""
    cursor, key = transaction.cursor, (rest.tenant, rest.email)
    rows: list[Any] = cursor.execute(SQL["first_clicks"], (*key, share)).fetchall()
    for link, first in rows:
        if first is not None:
            transaction.balances.add(rest.tenant, LINK, link, first, UNIQUE_CLICKS)
    if rows:
        for name in ("delete_email_links", "delete_closed_links"):
            cursor.execute(SQL[name], (*key, rows[-1][0]))
    return len(rows)


def take(
    transaction: Transaction, rest: Unfinished, to: int | None, kind: int, seq: int
) -> int | None:
    """See to one event; returns the one before it in its chain."""
    cursor = transaction.cursor
    rows: list[Any] = cursor.execute(SQL["select_event"], (rest.tenant, seq)).fetchall()
    if not rows:
        return None  # those before it were purged; `check` tells of any other hole
    at, link, client, class_, prev = rows[0]
    if rest.kind == MOVING:
        column = column_of(kind, class_)
        for id_, n in ((rest.campaign, -1), (to, 1)):
            if id_ is not None:
                transaction.figures.add(rest.tenant, CAMPAIGN, id_, at, column, n)
    else:
        state = EmailState(rest.tenant, rest.email, fresh_row(0, rest.campaign))
        transaction.balances.add_closed(state, kind, class_, client, link, at)
        cursor.execute(SQL["delete_event"], (rest.tenant, seq))
    before: int | None = prev
    return before


class Finish(Job):
    """A step more of what an edit left unfinished."""

    def __init__(self, rest: Unfinished) -> None:
        self.rest = rest
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        transaction.clicks.flush_events()
        if self.rest.kind == TENANT_GOING:
            sweep_tenant(transaction, self.rest)
        else:
            leave(transaction, self.rest, ROWS)

    def committed(self) -> None:
        self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error  # it is still unfinished: there will be another
        self.over = True


def sweep_tenant(transaction: Transaction, rest: Unfinished) -> None:
    """Delete some rows of a tenant that is gone; forget it where none was left."""
    cursor, tenant = transaction.cursor, rest.tenant
    low = size = 0
    for email, length in cursor.execute(SQL["last_of_batch"], (tenant, 1, LAST_ID, ROWS)):
        if low and size + length > BYTES:
            break
        low, size = email, size + length
    if low:
        cursor.execute(SQL["delete_emails"], (tenant, low, LAST_ID))
        return
    for name in SWEPT:
        cursor.execute(SQL[name], (tenant, min(ROWS, FEWER.get(name, ROWS))))
        if transaction.changes():
            return
    own = [key for key in transaction.unfinished if key[0] == tenant and key[1]]
    # The tenant's own note goes last: until then there is another step.
    transaction.finished(*(own[:ROWS] or [(tenant, 0)]))
