"""Backups, taken beside a running server, and how they come back."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from time import gmtime, strftime, time

from little_bell.errors import LittleBellError
from little_bell.ops.check import Say, quiet
from little_bell.store.copy import copied, damage, keep_ids
from little_bell.store.lock import Lock


@contextlib.contextmanager
def replaced(target: str) -> Iterator[str]:
    """A new file that takes the place of `target` at the end, whole and synced, or never."""
    folder = os.path.dirname(target) or "."
    descriptor, name = tempfile.mkstemp(prefix=".little-bell-", dir=folder)  # mode 0600
    os.close(descriptor)
    try:
        yield name
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(name, target)
        sync_folder(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_foreign(target: str, database: str) -> None:
    """Raise LittleBellError where a backup would overwrite what is no backup."""
    if not os.path.lexists(target):
        return
    if os.path.exists(database) and os.path.samefile(target, database):
        raise LittleBellError(f"{target} is the database itself: name another file")
    if not os.path.isfile(target):
        raise LittleBellError(f"{target} is no file")
    with open(target, "rb") as file:
        if os.path.getsize(target) and not file.read(16) == b"SQLite format 3\0":
            raise LittleBellError(f"{target} is another program's: name another file")


def backup(database: str, target: str, say: Say = quiet) -> int:
    """Write a consistent copy to `target`, in place of an older one; returns its size in bytes.

    Raises LittleBellError, StoreError, OSError; then `target` is as it was.
    """
    refuse_foreign(target, database)
    with replaced(target) as name:
        with copied(database, name, say("copying")) as copy:
            problems = damage(copy)
        if problems:
            raise LittleBellError(f"{database} is damaged ({problems[0]}): nothing was written")
    return os.path.getsize(target)


def restore(source: str, database: str, skip: int = 0, say: Say = quiet) -> tuple[str | None, bool]:
    """Put a backup in the place of the database, which no server may be using.

    The database that was there is kept beside it: returns its new name, and whether the ids that it
    handed out are known, so that none is handed out again; `skip` leaves out so many besides.
    Raises StartError, StoreError, LittleBellError, OSError; then the database is as it was.
    """
    if not os.path.isfile(source):
        raise LittleBellError(f"there is no file {source}")
    os.makedirs(os.path.dirname(database) or ".", exist_ok=True)
    lock = Lock(database)
    try:
        with replaced(database) as name:
            with copied(source, name, say("copying")) as copy:
                problems = damage(copy)
                if problems:
                    raise LittleBellError(f"{source} is damaged ({problems[0]})")
                known = keep_ids(copy, database, skip) is not None
            kept = set_aside(database)
        return kept, known
    finally:
        lock.release()


def set_aside(database: str) -> str | None:
    """Give a database a second name, and its write-ahead log the name that belongs to it: left
    where it is, the log would be played into the database that comes."""
    if not os.path.exists(database):
        return None
    kept = f"{database}.{strftime('%Y%m%dT%H%M%SZ', gmtime(time()))}"
    os.link(database, kept)
    with contextlib.suppress(FileNotFoundError):
        os.rename(database + "-wal", kept + "-wal")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(database + "-shm")
    return kept
