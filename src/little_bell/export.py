"""`little-bell export`: all of a tenant's emails or events, beside a running server, to a file."""

import os
import sys
from collections.abc import Iterator

from little_bell.api import exports
from little_bell.errors import LittleBellError
from little_bell.ops.backup import put, sync_file
from little_bell.ops.health import BACKED_UP
from little_bell.ops.side_file import side_file
from little_bell.store import emails, events, names
from little_bell.store.copy import Progress
from little_bell.store.reader import Reader
from little_bell.values import NO_TENANT, is_tenant

WHATS = ("events", "emails")
FORMATS = ("csv", "ndjson")
BESIDE = ("", "-wal", "-shm", "-journal", ".lock", ".control", ".secret", BACKED_UP)
SQLITE = b"SQLite format 3\0"


def export(
    database: str, tenant: str, what: str, form: str, target: str, progress: Progress
) -> int:
    """Write everything of a kind to the file `target`, or to stdout where that is nothing;
    returns its size in bytes.

    A file appears, or is replaced, once all of it is there. It is read in pieces, each a short read
    of its own, as the exports by HTTP are. Raises LittleBellError, StoreError, OSError.
    """
    if what not in WHATS:
        raise LittleBellError(f"--what is {' or '.join(WHATS)}")
    if form not in FORMATS:
        raise LittleBellError(f"--format is {' or '.join(FORMATS)}")
    if not is_tenant(tenant.encode("utf-8", "replace")):
        raise LittleBellError(NO_TENANT)
    reader = Reader(database)
    try:
        reader.check_schema()
        number = names.tenant_id(reader, tenant)
        if number is None:
            raise LittleBellError(f"there is no tenant {tenant}: it never sent anything")
        rows = pieces(reader, number, what, form)
        told = counted(rows, estimate(reader, number, what), progress)
        if not target:
            return poured(told, sys.stdout.fileno())
        refuse_foreign(target, database)
        with side_file(os.path.dirname(target)) as name:
            descriptor = os.open(name, os.O_WRONLY)
            try:
                size = poured(told, descriptor)
            finally:
                os.close(descriptor)
            sync_file(name)
            put(name, target)
        return size
    finally:
        reader.close()


def refuse_foreign(target: str, database: str) -> None:
    """Raise LittleBellError where an export would take the place of what is none."""
    path = os.path.realpath(target)
    if any(path == database + end for end in BESIDE):
        raise LittleBellError(f"{target} is a file of the database itself: name another file")
    if not os.path.lexists(target):
        return
    if not os.path.isfile(target):
        raise LittleBellError(f"{target} is no file")
    with open(target, "rb") as file:
        if file.read(len(SQLITE)) == SQLITE:
            raise LittleBellError(f"{target} is a database: name another file")


def pieces(reader: Reader, tenant: int, what: str, form: str) -> Iterator[bytes]:
    def readers() -> Reader:
        return reader

    if what == "events":
        make = exports.events_csv if form == "csv" else exports.events_ndjson
        return make(readers, tenant, events.ALL, 0)
    if form == "csv":
        return exports.emails_csv(readers, tenant)
    return exports.emails_ndjson(readers, tenant)


def estimate(reader: Reader, tenant: int, what: str) -> int:
    """About how many rows there are: those that were deleted count as well."""
    with reader as snapshot:
        if what == "events":
            return events.last_seq(snapshot, tenant)
        page = emails.newest(snapshot, tenant, emails.ALL, None, 1)
        return page.emails[0].email if page.emails else 0


def counted(rows: Iterator[bytes], total: int, progress: Progress) -> Iterator[bytes]:
    """The same pieces; progress is told of their lines."""
    lines = 0
    for piece in rows:
        yield piece
        lines += piece.count(b"\n")
        progress(min(lines, total), total + 1)
    progress(1, 1)


def poured(rows: Iterator[bytes], descriptor: int) -> int:
    """All pieces, into an open file; how many bytes that was. Raises OSError."""
    size = 0
    for piece in rows:
        left = memoryview(piece)
        while left:
            left = left[os.write(descriptor, left) :]
        size += len(piece)
    return size
