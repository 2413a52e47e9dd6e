"""Batches: many emails created by one request, all of them or none.

Their ids are reserved as a range and their rows are written piece by piece. Until the last, small
commit a row of `pending` says that no email of that range exists; whatever ends a batch earlier
leaves that row, and `Sweep` takes away what it stands for. One batch is written at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple

from little_bell.errors import StoreError
from little_bell.store import idempotency
from little_bell.store.job import BYTES, ROWS, Job
from little_bell.store.memory import Pending
from little_bell.store.projection import CAMPAIGN, OPTED_OUT, SENT, TENANT
from little_bell.store.statements import load
from little_bell.store.transaction import Transaction
from little_bell.tracking.email import Once

SQL = load("write.sql")

SHARE = 25  # rows of a step, less the opens and clicks that wait for the same commit
LEAST = 2  # rows of such a step: a batch goes on under any load

# subject, recipient, metadata, the position of the campaign in the plan's list, and the consent
Row = tuple[str | None, str | None, str | None, int | None, int]


class Plan(NamedTuple):
    """What is known of a batch before its rows."""

    tenant: str  # name
    emails: int
    campaigns: list[tuple[str, int]]  # name, and how many of the emails belong to it
    once: Once | None


class Batch(Job):
    """Creates the emails of a plan. Once it is over, `first` is the first id, or `error` says why
    there is none."""

    def __init__(self, plan: Plan, pieces: Iterator[list[Row]]) -> None:
        """`pieces` gives the plan's rows in order, at most ROWS and about BYTES of texts at once;
        it may raise OSError."""
        self.plan = plan
        self.pieces = pieces
        self.at = 0  # when they are created (ms UTC)
        self.range: Pending | None = None  # reserved
        self.reserving: Pending | None = None  # by the step that is not committed yet
        self.campaigns: list[int] = []  # numbers, in the order of the plan
        self.piece: list[Row] = []  # that is being written
        self.part = 0  # so many rows of it by the step that is not committed yet
        self.written = 0
        self.first = 0
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        """Reserve; or write a piece; or, after the last one, let all of them exist."""
        if self.range is None:
            self._reserve(transaction)
        elif self.written < self.plan.emails:
            self._write(transaction, self.range)
        else:
            self._finish(transaction, self.range)

    def committed(self) -> None:
        if self.over:
            return  # it could not be read
        if self.range is None:
            self.range = self.reserving
        elif self.written < self.plan.emails:
            self.written += self.part
            self.piece = self.piece[self.part :]
        else:
            self.first = self.range.first
            self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True

    def _reserve(self, transaction: Transaction) -> None:
        self.at = transaction.at
        tenant = transaction.tenant_named(self.plan.tenant, self.at)
        first, before = tenant.last_email + 1, tenant.last_campaign
        tenant.last_email += self.plan.emails
        self.reserving = Pending(tenant.id, first, tenant.last_email, before)
        transaction.cursor.execute(SQL["insert_pending"], self.reserving)
        transaction.pending = self.reserving
        number = transaction.memory.campaigns.number
        self.campaigns = [
            number(transaction.cursor, tenant, name, self.at) for name, _ in self.plan.campaigns
        ]

    def _write(self, transaction: Transaction, range_: Pending) -> None:
        try:
            self.piece = self.piece or next(self.pieces, [])
        except OSError as error:
            self.failed(StoreError(f"the batch cannot be read ({error.strerror})"))
            return
        if not 0 < len(self.piece) <= self.plan.emails - self.written:
            raise ValueError("the batch has not as many rows as it said")
        waiting = len(transaction.events) + len(transaction.aggregates.rows)
        self.part = min(len(self.piece), max(LEAST, SHARE - waiting) if waiting else ROWS)
        tenant, number = range_.tenant, range_.first + self.written
        known = transaction.memory.tenants.by_id[tenant]
        emails, states = [], []
        for subject, recipient, metadata, position, consent in self.piece[: self.part]:
            campaign = None if position is None else self.campaigns[position]
            flags = OPTED_OUT if transaction.optouts.hold(known, recipient) else 0
            emails.append((tenant, number, subject, recipient, metadata))
            states.append((tenant, number, self.at, campaign, consent, flags))
            number += 1
        transaction.cursor.executemany(SQL["insert_email"], emails)
        transaction.cursor.executemany(SQL["insert_state"], states)

    def _finish(self, transaction: Transaction, range_: Pending) -> None:
        plan, figures, cursor = self.plan, transaction.figures, transaction.cursor
        figures.add(range_.tenant, TENANT, 0, self.at, SENT, plan.emails)
        for (_, count), campaign in zip(plan.campaigns, self.campaigns, strict=True):
            figures.add(range_.tenant, CAMPAIGN, campaign, self.at, SENT, count)
        if plan.once is not None:
            idempotency.keep(cursor, range_.tenant, plan.once, range_.first, plan.emails, self.at)
        cursor.execute(SQL["delete_pending"], (range_.tenant, range_.first))
        transaction.pending = None


class Sweep(Job):
    """Takes away what a batch left that came to nothing. Its ids are not used again."""

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.last_step = False

    def step(self, transaction: Transaction) -> None:
        """Delete the last rows that are there; or, where none is, forget the batch."""
        cursor = transaction.cursor
        tenant, first, last, campaign = self.pending
        low = size = 0
        for email, length in cursor.execute(SQL["last_of_batch"], (tenant, first, last, ROWS)):
            if low and size + length > BYTES:
                break
            low, size = email, size + length
        self.last_step = not low
        if low:
            cursor.execute(SQL["delete_emails"], (tenant, low, last))
            cursor.execute(SQL["delete_states"], (tenant, low, last))
            return
        transaction.flush_figures()  # an email of this very transaction may use such a campaign
        cursor.execute(SQL["delete_unused_campaigns"], (tenant, campaign))
        transaction.memory.campaigns.forget()
        cursor.execute(SQL["delete_pending"], (tenant, first))
        transaction.pending = None

    def committed(self) -> None:
        self.over = self.last_step

    def failed(self, _error: StoreError) -> None:
        self.over = True  # the range is still pending: there will be another sweep
