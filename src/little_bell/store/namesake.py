"""The database of the other Little Bell, the one in Rust, as it stands: read and never changed."""

import contextlib
from collections.abc import Iterator
from typing import Any

import apsw

from little_bell.errors import LittleBellError
from little_bell.store.database import APPLICATION_ID, store_error
from little_bell.store.statements import load

SQL = load("namesake.sql")

LONGEST = 1 << 24  # bytes of a row: no server takes longer ones, and each is held in memory
MAGIC = b"SQLite format 3\0"
COLUMNS = {
    "tenants.id",
    *(f"emails.{name}" for name in ("id", "tenant_id", "subject", "recipient", "created_at")),
    *(f"events.{name}" for name in ("id", "email_id", "event_type", "timestamp")),
    *(f"events.{name}" for name in ("user_agent", "ip_address")),
}


class Namesake:
    """One snapshot of it, beside its server or not. Raises LittleBellError."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.connection = apsw.Connection(path, apsw.SQLITE_OPEN_READONLY)
            self.connection.set_busy_timeout(5000)
            self.connection.pragma("query_only", True)
            self.connection.limit(apsw.SQLITE_LIMIT_LENGTH, LONGEST)
            self.cursor = self.connection.cursor()
            self.cursor.execute(SQL["unscoped_begin"])
            columns = {name for (name,) in self.cursor.execute(SQL["unscoped_columns"])}
            owner = int(self.connection.pragma("application_id"))
        except apsw.Error as error:
            raise self._problem(error) from error
        if owner == APPLICATION_ID:
            raise LittleBellError(
                f"{path} is a database of this Little Bell: little-bell restore takes a backup, "
                "and exports can be imported"
            )
        if not columns >= COLUMNS:
            missing = sorted(COLUMNS - columns)[0]
            raise LittleBellError(
                f"{path} is not a database of the Little Bell in Rust: it has no {missing}"
            )

    def _problem(self, error: apsw.Error) -> LittleBellError:
        if isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError):
            return LittleBellError(
                f"{self.path} cannot be opened: copy it, and the -wal beside it, to a folder where "
                "you may write"
            )
        return LittleBellError(f"{self.path}: {store_error(error)}")

    def last_email(self) -> int:
        """The highest id that was handed out to any tenant."""
        try:
            row: Any = self.cursor.execute(SQL["unscoped_last_email"]).fetchone()
            last = int(row[0])
            with contextlib.suppress(apsw.SQLError):  # a copy may have no such table
                row = self.cursor.execute(SQL["unscoped_sequence"]).fetchone()
                last = max(last, int(row[0]))
        except apsw.Error as error:
            raise self._problem(error) from error
        except ValueError:  # whatever stands there
            raise LittleBellError(f"{self.path}: the ids of emails are no numbers") from None
        return last

    def count(self) -> int:
        """Rows that there are."""
        try:
            row: Any = self.cursor.execute(SQL["unscoped_rows"]).fetchone()
        except apsw.Error as error:
            raise self._problem(error) from error
        return int(row[0])

    def emails(self) -> Iterator[tuple[Any, ...]]:
        """(id, tenant, subject, recipient, created_at): texts as bytes."""
        try:
            yield from self.connection.cursor().execute(SQL["unscoped_emails"])
        except apsw.Error as error:
            raise self._problem(error) from error

    def events(self) -> Iterator[tuple[Any, ...]]:
        """(id, tenant, email, type, timestamp, user agent, address), the same; no tenant where the
        email is missing."""
        try:
            yield from self.connection.cursor().execute(SQL["unscoped_events"])
        except apsw.Error as error:
            raise self._problem(error) from error

    def close(self) -> None:
        self.connection.close()
