"""A connection that reads: named statements, each on its own or many on one snapshot."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import apsw

from little_bell.errors import StartError
from little_bell.store.database import MIGRATIONS, check_owner, open_reader, store_error
from little_bell.store.statements import load

SQL = load("read.sql") | load("sums.sql")

Row = tuple[Any, ...]


def casefold(*texts: object) -> str | None:
    """SQL's `casefold`: what makes texts equal but for case, whatever their script."""
    return texts[0].casefold() if isinstance(texts[0], str) else None


class Reader:
    """Cannot write, and is one thread's. `with reader:` is one snapshot: keep it short, since it
    holds up checkpoints. Raises StoreError."""

    def __init__(self, path: str) -> None:
        try:
            self.connection = open_reader(path)
            self.connection.create_scalar_function("casefold", casefold, 1, deterministic=True)
        except apsw.Error as error:
            raise store_error(error) from error

    def __enter__(self) -> "Reader":
        self._execute("BEGIN", ())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.connection.in_transaction:
            self._execute("ROLLBACK", ())

    def close(self) -> None:
        self.connection.close()

    def check_schema(self) -> None:
        """Raise StartError where the file has another schema than this program reads."""
        try:
            check_owner(self.connection)
            if int(self.connection.pragma("user_version")) < len(MIGRATIONS):
                raise StartError("the database is of an older version: start the server once")
        except apsw.Error as error:
            raise store_error(error) from error

    def rows(self, name: str, *values: object) -> list[Row]:
        """All rows of a statement."""
        return self._execute(SQL[name], values)

    def row(self, name: str, *values: object) -> Row | None:
        """The first row of a statement, or None where there is none."""
        rows = self._execute(SQL[name], values)
        return rows[0] if rows else None

    def each(self, name: str, bindings: Iterable[tuple[object, ...]]) -> list[Row]:
        """The rows of a statement for each of many bindings, one after the other."""
        try:
            return list(self.connection.executemany(SQL[name], bindings))
        except apsw.Error as error:
            raise store_error(error) from error

    def some(self, name: str, tenant: int, numbers: Sequence[int]) -> list[Row]:
        """Rows of things by their numbers, which come first in each; in the order of `numbers`.

        One statement for all of them: opening its tables for each would take most of the time.
        """
        rows = {row[0]: row for row in self._execute(SQL[name], (tenant, str(list(numbers))))}
        return [rows[number] for number in numbers if number in rows]

    def _execute(self, sql: str, values: tuple[object, ...]) -> list[Row]:
        try:
            return list(self.connection.execute(sql, values))
        except apsw.Error as error:
            raise store_error(error) from error
