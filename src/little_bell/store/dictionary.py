"""Dictionaries: user agents, link targets and campaigns, each stored once per tenant.

Bounded against hostile variety: a tenant may add so many rows an hour, then hits are `(other)`.
"""

from collections.abc import Container
from typing import NamedTuple

import apsw

from little_bell.store.tenants import Tenant

OTHER = 0
CACHED = 4096  # texts whose number is kept in memory
HOUR = 3_600_000


class Source(NamedTuple):
    """Which table a dictionary is, and how it is read and grown."""

    column: str  # of tenants: the last number handed out
    select: str
    insert: str
    hourly: int  # new rows a tenant may add in an hour; 0: as many as it likes


Growth = dict[int, tuple[int, int]]  # tenant: (hour, rows added in it)


class Dictionary:
    """Numbers of texts, or of several together. Committed numbers are cached; a transaction's own
    are kept apart."""

    __slots__ = ("before", "cache", "grown", "pending", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.cache: dict[tuple[int | str, ...], int] = {}
        self.pending: dict[tuple[int | str, ...], int] = {}
        self.grown: Growth = {}
        self.before: Growth = {}  # the same, before the transaction

    def number(self, cursor: apsw.Cursor, tenant: Tenant, text: str, at: int, *more: str) -> int:
        """The number of a text, a new one where there is none yet, or OTHER past the bound.

        `more` are texts that belong to it: it is another one with others."""
        key: tuple[int | str, ...] = (tenant.id, text, *more)
        known = self.cache.get(key)
        if known is not None:
            return known
        known = self.pending.get(key)
        if known is not None:
            return known
        row = cursor.execute(self.source.select, key).fetchone()
        if row is not None:
            number = int(row[0])
        else:
            if self.source.hourly:
                hour, count = self.grown.get(tenant.id, (0, 0))
                if hour != at // HOUR:
                    hour, count = at // HOUR, 0
                if count >= self.source.hourly:
                    return OTHER
                self.before.setdefault(tenant.id, self.grown.get(tenant.id, (0, 0)))
                self.grown[tenant.id] = (hour, count + 1)
            number = getattr(tenant, self.source.column) + 1
            cursor.execute(self.source.insert, (tenant.id, number, text, *more))
            setattr(tenant, self.source.column, number)
        self.pending[key] = number
        return number

    def swap(self, grown: Growth, before: Growth) -> tuple[Growth, Growth]:
        """Count what is added in other books; returns those that were in use."""
        books = self.grown, self.before
        self.grown, self.before = grown, before
        return books

    def forget(self) -> None:
        """Rows may be gone: look each up again."""
        self.cache.clear()

    def erase(self, tenant: int, numbers: Container[int]) -> None:
        """Texts with these numbers are others now."""
        self.cache.clear()
        self.pending = {
            key: number
            for key, number in self.pending.items()
            if key[0] != tenant or number not in numbers
        }

    def committed(self) -> None:
        """What the transaction learnt is true from now on."""
        if self.pending:
            if len(self.cache) + len(self.pending) > CACHED:
                self.cache.clear()
            self.cache.update(self.pending)
            self.pending.clear()
            self.before.clear()

    def rolled_back(self) -> None:
        """What the transaction learnt was never so."""
        self.pending.clear()
        self.grown.update(self.before)
        self.before.clear()
