"""A consistent copy of a database that others go on writing.

One read transaction lasts as long as the copying (about a second for 500 MB); the write-ahead log
cannot begin anew meanwhile. Nothing of the fast lane is needed.
"""

from collections.abc import Callable

import apsw

from little_bell.errors import StoreError
from little_bell.store.database import open_reader, store_error

PAGES = 4096  # copied between two calls of `progress`


def copy_database(
    source: str, target: str, progress: Callable[[int, int], None] | None = None
) -> apsw.Connection:
    """Copy all of `source` as it is now into the empty file `target`; returns a connection to it.

    The copy needs no file beside it (no write-ahead log). `progress` is told of the pages copied
    and of their number. Raises StoreError.
    """
    try:
        reader = open_reader(source)
        try:
            copy = apsw.Connection(target)
            with reader, copy.backup("main", reader, "main") as backup:
                while not backup.done:
                    backup.step(PAGES)
                    if progress is not None:
                        progress(backup.page_count - backup.remaining, backup.page_count)
            copy.pragma("journal_mode", "delete")
        finally:
            reader.close()
    except apsw.Error as error:
        raise StoreError(f"{source}: {store_error(error)}") from error
    return copy
