"""The spool: all rows of an import in a file of its own, in their order, before one is written."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from little_bell.errors import LittleBellError
from little_bell.store.database import store_error
from little_bell.store.history import Past, PastEmail, PastEvent
from little_bell.store.statements import load

SQL = load("spool.sql")

CACHE = -16_384  # KiB


@contextmanager
def failing() -> Iterator[None]:
    """What the driver raises becomes a LittleBellError."""
    try:
        yield
    except apsw.Error as error:
        why = store_error(error)
        raise LittleBellError(f"the rows cannot be kept beside the database: {why}") from error


class Spool:
    """Emails come first, then events in the order of time. Raises LittleBellError."""

    @failing()
    def __init__(self, path: str) -> None:
        """`path`: an empty file; it is gone with this process, whatever ends it."""
        self.connection = apsw.Connection(path)
        self.connection.pragma("locking_mode", "exclusive")
        self.connection.pragma("journal_mode", "off")
        self.connection.pragma("synchronous", "off")
        self.connection.pragma("cache_size", CACHE)
        self.cursor = self.connection.cursor()
        self.cursor.execute(SQL["unscoped_schema"])
        os.unlink(path)
        self.cursor.execute(SQL["unscoped_begin"])
        self.tenants: dict[str, int] = {}
        self.tops: dict[str, int] = {}  # ids that no tenant of these may hand out again
        self.hash = hashlib.sha256()
        self.emails = self.events = 0

    def tenant(self, name: str) -> int:
        """The number of a tenant here."""
        number = self.tenants.get(name)
        if number is None:
            number = self.tenants[name] = len(self.tenants) + 1
            self.cursor.execute(SQL["unscoped_name"], (number, name))
        return number

    @failing()
    def add(self, line: int, row: Past) -> str | None:
        """Take a row of the file's line (or row); returns what is wrong with it beside others."""
        self.hash.update(repr(tuple(row)).encode("utf-8"))
        number = self.tenant(row.tenant)
        if isinstance(row, PastEmail):
            return self._add_email(line, number, row)
        values = (number, row.email, row.at, line, *row[2:3], *row[4:])
        self.cursor.execute(SQL["add_hit"], values)
        self.events += 1
        return None

    def _add_email(self, line: int, number: int, row: PastEmail) -> str | None:
        key = (number, row.email)
        known: Any = self.cursor.execute(SQL["same_mail"], key).fetchone()
        if known is not None:
            if tuple(known[1:]) == tuple(row[2:]):
                return None
            return f"email {row.email} of {row.tenant} is another one in line {known[0]}"
        self.cursor.execute(SQL["add_mail"], (*key, line, *row[2:]))
        self.emails += 1
        self.tops[row.tenant] = max(self.tops.get(row.tenant, 0), row.email)
        return None

    @failing()
    def whole(self) -> bytes:
        """All rows are there: what the import is called."""
        self.cursor.execute(SQL["unscoped_index"])
        self.cursor.execute(SQL["unscoped_commit"])
        return self.hash.digest()[:16]

    @property
    def owner(self) -> str:
        """The tenant of the first row."""
        return next(iter(self.tenants), "")

    @property
    def total(self) -> int:
        return self.emails + self.events

    def from_place(self, place: int) -> Iterator[tuple[int, Past, str | None]]:
        """Rows from one place on: each with its place, and why it is left out (None: it is not)."""
        if place < self.emails:
            for number, row in enumerate(self._rows("mails", place), place):
                *values, left_out, _ = row
                yield number, PastEmail(*values), left_out
        skipped = max(0, place - self.emails)
        for number, row in enumerate(self._rows("hits", skipped), self.emails + skipped):
            *values, left_out = row
            yield number, PastEvent(*values), left_out

    def _rows(self, what: str, skipped: int) -> Iterator[Any]:
        with failing():
            yield from self.connection.cursor().execute(SQL[f"unscoped_{what}"], (skipped,))

    def mails(self) -> Iterator[tuple[int, PastEmail]]:
        """Emails and the lines where they stand."""
        for *values, _, line in self._rows("mails", 0):
            yield line, PastEmail(*values)

    @failing()
    def has_email(self, tenant: str, email: int) -> bool:
        """Whether an email is among the rows."""
        key = (self.tenants[tenant], email)
        return self.cursor.execute(SQL["same_mail"], key).fetchone() is not None

    def emails_hit(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Emails of which there are events of a kind: tenant, email, kind, first line, events."""
        with failing():
            for name, _, *rest in self.connection.cursor().execute(SQL["unscoped_emails_hit"]):
                yield (name, *rest)

    @failing()
    def leave_email(self, tenant: str, email: int, why: str) -> None:
        self.cursor.execute(SQL["leave_mail"], (self.tenants[tenant], email, why))

    @failing()
    def leave_events(
        self, tenant: str, email: int, kind: int, at: int, most: int, why: str
    ) -> None:
        """At most so many of the events of an email at one time are not written."""
        key = (self.tenants[tenant], email, kind)
        self.cursor.execute(SQL["leave_hits"], (*key, at, most, why))

    @failing()
    def leave_older(self, tenant: str, email: int, kind: int, at: int, why: str) -> None:
        """Those up to a time are not written."""
        key = (self.tenants[tenant], email, kind)
        self.cursor.execute(SQL["leave_older"], (*key, at, why))

    def close(self) -> None:
        self.connection.close()
