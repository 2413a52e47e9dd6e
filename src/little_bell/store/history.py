"""History: emails, opens and clicks of long ago, as another program or another bell knew them.

They come in pieces. How far an import is stands in the database, written with its rows: whoever
sends a piece twice, or the rest of it after a crash, writes nothing twice.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

from little_bell.errors import DataError, StoreError
from little_bell.store.batch import LEAST, SHARE
from little_bell.store.dictionary import Growth
from little_bell.store.job import ROWS, Job
from little_bell.store.projection import OPTED_OUT, EmailState, fresh_row, project_sent
from little_bell.store.statements import load
from little_bell.store.tenants import Tenant
from little_bell.store.transaction import (
    AGGREGATED,
    GONE,
    LEFT_ALONE,
    OVER_CAP,
    WITHHELD,
    Transaction,
)
from little_bell.tracking.hit import CLICK, Hit

SQL = load("imports.sql")

AT_ONCE = 16  # rows between two looks at the clock

EMAILS, OPENS, CLICKS = "emails", "opens", "clicks"
THERE = "emails that are there already"
COUNTED = "of them without their email: consent `aggregate`"
# Why an event was not written, by what became of it.
WHY = {
    GONE: "events whose email is gone",
    OVER_CAP: "events beyond what an email may have in an hour",
    WITHHELD: "events that may not be stored: consent",
    LEFT_ALONE: "events of recipients who opted out",
}


class PastEmail(NamedTuple):
    """An email that was sent long ago. Texts as of `NewEmail`."""

    tenant: str  # name
    email: int
    created_at: int  # milliseconds since the epoch, UTC
    subject: str | None
    recipient: str | None
    campaign: str | None
    metadata: str | None
    consent: int


class PastEvent(NamedTuple):
    """An open or a click of long ago."""

    tenant: str  # name
    email: int
    kind: int
    at: int  # milliseconds since the epoch, UTC
    flags: int
    user_agent: str
    address: bytes | None  # packed, as much of it as is known
    url: str | None  # canonical; None: nobody knows where it led
    label: str


Past = PastEmail | PastEvent
Door = Callable[[Tenant, PastEvent], Hit]  # what of an event may be stored today


class Piece(NamedTuple):
    """Some rows of an import, in its order."""

    owner: str  # the tenant with whom it stands how far the import is
    name: bytes  # of the import: a hash of all its rows
    total: int  # rows of it
    start: int  # rows before these
    end: int  # rows up to behind these
    tops: dict[str, int]  # tenants, and the highest number that must not be handed out again
    rows: Sequence[tuple[int, Past]]  # with their places; those in between are left out


class Books:
    """What history may add in an hour of its own: apart from what today adds."""

    def __init__(self) -> None:
        self.hot: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.agents: Growth = {}
        self.links: Growth = {}


class Import(Job):
    """One step: as many rows of a piece as there is time for. `reached` is how far the import is
    then, which the next piece begins with; `counts` says what became of the rows."""

    def __init__(self, piece: Piece, door: Door, books: Books, seconds: float) -> None:
        """`seconds`: after so many no other row is taken."""
        self.piece = piece
        self.door = door
        self.books = books
        self.after = Books()  # what they are once this is committed
        self.seconds = seconds
        self.reached = piece.start
        self.counts: dict[str, int] = {}
        self.beside = False  # opens or clicks waited for the same commit
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        began = perf_counter()
        self.counts = {}
        self.after.__dict__.update(self.books.__dict__)
        piece = self.piece
        key = (transaction.tenant_named(piece.owner, transaction.at).id, piece.name)
        row = transaction.cursor.execute(SQL["done"], key).fetchone()
        self.reached = 0 if row is None else int(row[0])
        if self.reached != piece.start:  # it was sent before
            return
        for name, top in piece.tops.items():
            tenant = transaction.tenant_named(name, transaction.at)
            tenant.last_email = max(tenant.last_email, top)
        waiting = len(transaction.events) + len(transaction.aggregates.rows)
        self.beside = waiting > 0
        most = max(LEAST, SHARE - waiting) if waiting else ROWS
        rows = piece.rows[:most]
        memory, books = transaction.memory, self.books
        hot, memory.hot = memory.hot, dict(books.hot)
        agents = memory.agents.swap(dict(books.agents), {})
        links = memory.links.swap(dict(books.links), {})
        try:
            written = self._write(transaction, rows, began + self.seconds)
        finally:
            self.after.hot, memory.hot = memory.hot, hot
            self.after.agents, _ = memory.agents.swap(*agents)
            self.after.links, _ = memory.links.swap(*links)
        self.reached = piece.rows[written][0] if written < len(piece.rows) else piece.end
        note = (*key, self.reached, piece.total, transaction.at)
        transaction.cursor.execute(SQL["note"], note)

    def committed(self) -> None:
        self.books.__dict__.update(self.after.__dict__)
        self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True

    def _write(
        self, transaction: Transaction, rows: Sequence[tuple[int, Past]], until: float
    ) -> int:
        """Write rows until that time; returns how many."""
        for start in range(0, len(rows), AT_ONCE):
            if start and perf_counter() > until:
                return start
            hits: dict[int, Hit] = {}  # by how many rows are written then
            for end, (_, row) in enumerate(rows[start : start + AT_ONCE], start + 1):
                if isinstance(row, PastEmail):
                    self._email(transaction, row)
                else:
                    tenant = transaction.tenant_named(row.tenant, transaction.at)
                    hits[end] = self.door(tenant, row)
            transaction.read_states(list(hits.values()))
            for end, hit in hits.items():
                self._event(transaction, hit)
                if perf_counter() > until:  # one alone may judge many others again
                    return end
        return len(rows)

    def _email(self, transaction: Transaction, row: PastEmail) -> None:
        tenant = transaction.tenant_named(row.tenant, transaction.at)
        cursor, key = transaction.cursor, (tenant.id, row.email)
        campaign, at = None, row.created_at
        there = list(cursor.execute(SQL["email_there"], key))
        if there and there[0][0] != at:
            raise DataError(f"email {row.email} of {row.tenant} was created meanwhile")
        if there:
            self._count(THERE)
            return
        if row.campaign is not None:
            campaign = transaction.memory.campaigns.number(cursor, tenant, row.campaign, at)
        flags = OPTED_OUT if transaction.optouts.hold(tenant, row.recipient) else 0
        cursor.execute(SQL["insert_email"], (*key, row.subject, row.recipient, row.metadata))
        cursor.execute(SQL["insert_state"], (*key, at, campaign, row.consent, flags))
        project_sent(EmailState(*key, fresh_row(at, campaign)), transaction.figures)
        self._count(EMAILS)

    def _event(self, transaction: Transaction, hit: Hit) -> None:
        became = transaction.hit(hit)
        if became in WHY:
            self._count(WHY[became])
            return
        self._count(CLICKS if hit.kind == CLICK else OPENS)
        if became >= AGGREGATED:
            self._count(COUNTED)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
