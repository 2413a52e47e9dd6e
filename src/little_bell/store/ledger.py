"""What a database knows already of the rows of an import; many short reads."""

from typing import Any, NamedTuple

import apsw

from little_bell.errors import StartError
from little_bell.store.database import MIGRATIONS, check_owner, open_reader, store_error
from little_bell.store.history import PastEmail
from little_bell.store.statements import load
from little_bell.tracking.hit import OPEN

SQL = load("imports.sql")


class Known(NamedTuple):
    """What is known of the events of an email and of one kind."""

    purged: int  # up to when some left the log (ms UTC); 0: none did
    moments: list[tuple[int, int]]  # when there were some, and how many


class Ledger:
    """Reads a database. Raises StoreError."""

    def __init__(self, path: str) -> None:
        """Raises StartError where its schema is not this program's."""
        try:
            self.connection = open_reader(path)
            check_owner(self.connection)
            if int(self.connection.pragma("user_version")) != len(MIGRATIONS):
                raise StartError("the database is of an older version: start the server once")
        except apsw.Error as error:
            raise store_error(error) from error
        self.cursor = self.connection.cursor()
        self.numbers: dict[str, int | None] = {}

    def _rows(self, name: str, *values: object) -> list[Any]:
        """All rows: a statement that is not at its end holds an old state of the database."""
        try:
            return list(self.cursor.execute(SQL[name], values))
        except apsw.Error as error:
            raise store_error(error) from error

    def _row(self, name: str, *values: object) -> Any:
        """The one row of a statement, or None."""
        rows = self._rows(name, *values)
        return rows[0] if rows else None

    def tenant(self, name: str) -> int | None:
        """The number of a tenant; None where it is not there yet."""
        if name not in self.numbers:
            row = self._row("unscoped_tenant_number", name)
            self.numbers[name] = None if row is None else int(row[0])
        return self.numbers[name]

    def email(self, tenant: str, email: int) -> PastEmail | None:
        """An email that is there."""
        row = self._row("known_email", self.tenant(tenant), email)
        return None if row is None else PastEmail(tenant, email, *row)

    def events(self, tenant: str, email: int, kind: int) -> Known | None:
        """What is known of the opens or clicks of an email; None where it is not there."""
        number = self.tenant(tenant)
        row = self._row("heads", number, email)
        if row is None:
            return None
        head, purged = (row[0], row[2]) if kind == OPEN else (row[1], row[3])
        if head is None:
            return Known(purged, [])
        return Known(purged, self._rows("moments", number, head, email, kind))

    def done(self, owner: str, name: bytes) -> int:
        """How far an import came, which stands with a tenant."""
        row = self._row("done", self.tenant(owner), name)
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        self.connection.close()
