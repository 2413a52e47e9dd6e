"""Consistent copies of a database that others go on writing: for backups, checks and recounts.

One read transaction lasts as long as the copying (1.4 s for 410 MB, as measured); the write-ahead
log cannot begin anew meanwhile. Nothing of the fast lane is needed.
"""

import contextlib
from collections.abc import Callable, Iterator

import apsw

from little_bell.errors import StartError, StoreError
from little_bell.store.database import check_owner, open_reader, open_writer, store_error
from little_bell.store.statements import load

SQL = load("copy.sql")

PAGES = 4096  # copied between two calls of `progress`
STEPS = 1_000_000  # of SQLite's machine between two looks at signals (a second at most, as seen)

Progress = Callable[[int, int], None]  # so much of so much


def silent(_done: int, _total: int) -> None:
    """Progress that nobody wants to see."""


@contextlib.contextmanager
def copied(source: str, target: str, progress: Progress = silent) -> Iterator[apsw.Connection]:
    """A connection to a copy of `source` as it is now, in the empty file `target`.

    The copy needs no file beside it (no write-ahead log). Raises StoreError, or StartError where
    `source` is no database of ours.
    """
    try:
        reader = open_reader(source)
        try:
            check_owner(reader)
            copy = apsw.Connection(target)
            with reader:
                # A read begins the transaction; without one each step would have its own, and a
                # commit between two of them would make the copy begin again.
                reader.execute(SQL["read"]).fetchall()
                backup = copy.backup("main", reader, "main")
                while not backup.done:
                    backup.step(PAGES)
                    progress(backup.page_count - backup.remaining, backup.page_count)
                backup.close()
            copy.pragma("journal_mode", "delete")
        finally:
            reader.close()
    except apsw.Error as error:
        raise StoreError(f"{source}: {store_error(error)}") from error
    try:
        yield copy
    except apsw.Error as error:
        raise store_error(error) from error
    finally:
        copy.close()


def damage(connection: apsw.Connection) -> list[str]:
    """What SQLite finds wrong with the file itself, at most a few lines; nothing where it is
    whole. Ctrl-C is heard meanwhile."""
    connection.set_progress_handler(lambda: False, STEPS)  # without one, not before the end
    try:
        found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(5)")]
    except apsw.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def keep_ids(copy: apsw.Connection, current: str, skip: int) -> int | None:
    """Let no id be handed out again that the database `current` handed out, where that can be
    read; and skip so many ids besides. Returns how many tenants `current` has, or None.
    """
    tenants: list[tuple[str, int, int, int]] | None = None
    with contextlib.suppress(apsw.Error, StartError):
        reader = open_reader(current)
        try:
            check_owner(reader)
            tenants = list(reader.execute(SQL["unscoped_last_emails"]))
        finally:
            reader.close()
    with copy:
        for name, created_at, last_email, last_seq in tenants or []:
            copy.execute(SQL["add_tenant"], (name, created_at))
            copy.execute(SQL["raise_last_numbers"], (name, last_email, last_seq))
        copy.execute(SQL["unscoped_skip_emails"], (skip,))
    return None if tenants is None else len(tenants)


def fold(path: str) -> bool:
    """Bring everything of a database that nobody uses into its one file; false where it cannot be
    read."""
    try:
        connection = open_writer(path, alone=True)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
    except (apsw.Error, StartError):
        return False
    return True
