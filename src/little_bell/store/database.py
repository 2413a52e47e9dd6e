"""Connections: how the file is opened, by its one writer and by readers."""

import contextlib
from collections.abc import Callable

import apsw

from little_bell.errors import DataError, StartError, StoreError
from little_bell.store.statements import read_text

MIGRATIONS = (
    "0001_first",
    "0002_batches",
    "0003_figures",
    "0004_access_and_privacy",
    "0005_imports",
)
APPLICATION_ID = 0x4C42656C  # "LBel" in the file's header

PAGE_SIZE = 2048  # bytes

# 3.7.0 to 3.51.2 can corrupt a WAL database when two connections write and checkpoint at once
# (https://www.sqlite.org/wal.html, "the WAL-reset bug").
OLDEST_SQLITE = (3, 51, 3)


def store_error(error: Exception) -> StoreError:
    """What a driver's error means to the callers of the store."""
    if isinstance(
        error,
        apsw.ConstraintError
        | apsw.MismatchError
        | apsw.TooBigError
        | apsw.RangeError
        | apsw.SQLError
        | TypeError
        | ValueError
        | OverflowError,
    ):
        return DataError(f"refused by the database: {error}")
    if isinstance(error, apsw.FullError):
        return StoreError("the disk is full")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreError("another program holds the database")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreError(f"{error}: restore a backup", reopen=True)
    return StoreError(f"database: {error}", reopen=True)


def open_writer(
    path: str, vfs: str | None = None, alone: bool = False, patience: int = 0
) -> apsw.Connection:
    """The one connection that writes: WAL, every commit synced, no checkpoint on its own.

    `alone`: no other connection may be open, and the WAL is read afresh. `patience`: milliseconds
    to wait for others, here and later. Raises apsw errors.
    """
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        raise StartError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a database: pip install -U apsw"
        )
    # NOMUTEX: one thread uses it, and never two at once.
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX
    # Each execution moves the driver's cache on by one: it has to hold those of a whole tick, else
    # most statements are compiled anew in each (measured: 5 % of the time).
    connection = apsw.Connection(path, flags, vfs, statementcachesize=256)
    try:
        connection.set_busy_timeout(patience)
        if alone:  # before the first access: the index of the WAL is kept in this process
            connection.pragma("locking_mode", "exclusive")
        _set_up(connection)
    except BaseException:
        # Now: whoever keeps the error keeps the connection, and with it locks of the file.
        with contextlib.suppress(apsw.Error):
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close(True)
        raise
    return connection


def _set_up(connection: apsw.Connection) -> None:
    check_owner(connection)
    # Before the first page is written. Small pages: an open changes some 40 bytes of one page at
    # random, and the WAL takes, checks and syncs pages whole (measured: 1.2 x the opens of 4,096).
    connection.pragma("page_size", PAGE_SIZE)
    # What leaves the log must leave the file.
    connection.pragma("secure_delete", True)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.wal_autocheckpoint(0)
    connection.pragma("cache_size", -2048)  # KiB
    connection.pragma("temp_store", "memory")


def open_reader(path: str) -> apsw.Connection:
    """A connection that cannot write. Keep its transactions short: they hold up checkpoints."""
    connection = apsw.Connection(path, apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(1000)
    connection.pragma("query_only", True)
    return connection


def check_owner(connection: apsw.Connection) -> None:
    """Raise StartError where the file belongs to a newer Little Bell or to another program."""
    version = int(connection.pragma("user_version"))
    owner = int(connection.pragma("application_id"))
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if owner != APPLICATION_ID and not empty:
        raise StartError("the file is the database of another program; set DATABASE_URL to another")
    if version > len(MIGRATIONS):
        raise StartError(
            f"the database has schema {version}, newer than this program's {len(MIGRATIONS)}: "
            "install the newer Little Bell, or restore a backup made before the upgrade"
        )


Upgrading = Callable[[int, int], None]  # is told from which schema to which


def migrate(connection: apsw.Connection, upgrading: Upgrading | None = None) -> int:
    """Bring the schema up to date; returns the version. Raises apsw errors.

    Each step is a transaction of its own: whatever ends one, the next start begins with it. They
    read the log once or twice (see docs/UPGRADING.md); `upgrading` is called before the first one,
    unless the file is new.
    """
    version = int(connection.pragma("user_version"))
    if 0 < version < len(MIGRATIONS) and upgrading is not None:
        upgrading(version, len(MIGRATIONS))
    for number, name in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(read_text(f"migrations/{name}.sql"))
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", number)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return len(MIGRATIONS)
