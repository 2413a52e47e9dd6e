"""Backups, taken beside a running server, and how they come back."""

import contextlib
import os
import re
from time import gmtime, strftime, time

from little_bell.errors import LittleBellError
from little_bell.ops.check import Say, quiet
from little_bell.ops.health import BACKED_UP
from little_bell.ops.side_file import side_file
from little_bell.store.copy import copied, damage, fold, keep_ids
from little_bell.store.database import APPLICATION_ID
from little_bell.store.lock import Lock

DATED = re.compile(r"little-bell-\d{8}T\d{6}Z\.db")  # in a folder of them


def stamp() -> str:
    """The time now, as a part of a file's name that sorts by time."""
    return strftime("%Y%m%dT%H%M%SZ", gmtime(time()))


def dated(folder: str) -> str:
    """The name of a backup that is made now, in a folder that is made, mode 0700, where it is
    not there. Raises OSError."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f"little-bell-{stamp()}.db")


def thin_out(folder: str, newest: str, keep: int) -> list[str]:
    """Remove all dated backups of a folder but `keep`, with their keys; returns which.

    `newest` was made just now, and stays whatever the clock says. Raises OSError.
    """
    names = sorted(name for name in os.listdir(folder) if DATED.fullmatch(name))
    older = [os.path.join(folder, name) for name in names if name != os.path.basename(newest)]
    gone = older[: max(0, len(older) - keep + 1)]
    for path in gone:
        # The keys first: what is left after a crash here is a backup that goes with the next one.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ".secret")
        os.unlink(path)
    return gone


def put(name: str, target: str) -> None:
    """Give a synced file the place of `target`."""
    os.replace(name, target)
    sync_folder(os.path.dirname(target) or ".")


def sync_file(name: str) -> None:
    with open(name, "rb") as file:
        os.fsync(file.fileno())


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
        head = file.read(72)
    if head and int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise LittleBellError(f"{target} is another program's: name another file")
    if os.path.exists(target + "-wal") or os.path.exists(target + ".lock"):
        raise LittleBellError(f"{target} is the database of a server: name another file")


def backup(database: str, target: str, say: Say = quiet) -> int:
    """Write a consistent copy to `target`, in place of an older one; returns its size in bytes.

    Raises LittleBellError, StoreError, OSError; then `target` is as it was.
    """
    refuse_foreign(target, database)
    with side_file(os.path.dirname(target)) as name:
        with copied(database, name, say("copying")) as copy:
            problems = damage(copy)
        if problems:
            raise LittleBellError(f"{database} is damaged ({problems[0]}): nothing was written")
        sync_file(name)
        put(name, target)
    return os.path.getsize(target)


def leave_word(database: str, target: str) -> None:
    """Note beside a database that a backup of it was done, for its server's metrics; not where
    nothing can be written there."""
    with contextlib.suppress(OSError), side_file(os.path.dirname(database)) as name:
        descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "wb") as file:
            file.write(os.fsencode(os.path.abspath(target)) + b"\n")
            os.fchmod(descriptor, 0o644)  # the server may run as somebody else
        os.replace(name, database + BACKED_UP)


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
        with side_file(os.path.dirname(database)) as name:
            with copied(source, name, say("copying")) as copy:
                problems = damage(copy)
                if problems:
                    raise LittleBellError(f"{source} is damaged ({problems[0]})")
                known = keep_ids(copy, database, skip) is not None
            sync_file(name)
            kept = set_aside(database)
            put(name, database)
        return kept, known
    finally:
        lock.release()


def set_aside(database: str) -> str | None:
    """Give a database a second name, as one file that holds everything of it.

    The write-ahead log of one that cannot be read goes along under the name that belongs to it,
    also where the database itself is gone: left where it is, it would be played into the one that
    comes.
    """
    kept = f"{database}.{stamp()}"
    there = os.path.exists(database)
    if there:
        fold(database)
        os.link(database, kept)
    with contextlib.suppress(FileNotFoundError):
        os.rename(database + "-wal", kept + "-wal")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(database + "-shm")
    return kept if there else None
