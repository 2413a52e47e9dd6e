"""A disk that can lose its power: an SQLite VFS that knows which bytes were really synced.

The files themselves are real, so that locks and shared memory work as they always do. Beside them
it keeps what the platter would hold: what was synced, and in order what was not. A power cut writes
that to another folder: everything synced, and of the rest whatever chance left, sector by sector.
"""

import os
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import apsw

BASE = "unix"  # by name: the default would be this very VFS
Buffer = bytes | bytearray | memoryview
SECTOR = 512  # bytes that a disk writes whole or not at all
CUT = 86  # exit code of a server that lost its power


def failed_sync() -> Exception:
    error = apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
    error.args = ("disk I/O error",)
    return error


def no_room() -> Exception:
    return apsw.FullError("database or disk is full")


class Write(NamedTuple):
    offset: int
    data: bytes


class Truncate(NamedTuple):
    size: int


class Delete(NamedTuple):
    pass


Change = Write | Truncate | Delete


def write_into(content: bytearray, offset: int, data: bytes, gap: bytes = b"") -> None:
    """Write past the end as well; `gap` is what lies between, zeros where it is too short."""
    if offset > len(content):
        content += gap[: offset - len(content)]
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


class File:
    """One file: what is on the platter (None: no such file), and what is only in memory."""

    def __init__(self, name: str, content: bytes | None) -> None:
        self.name = name
        self.synced = None if content is None else bytearray(content)
        self.pending: list[Change] = []
        self.failures = 0  # syncs that failed; each descriptor hears of them once

    def sync(self) -> None:
        """All of it reaches the platter."""
        for change in self.pending:
            self.apply(change)
        self.pending.clear()

    def forget(self) -> None:
        """A sync failed: changes of the content never reach the platter, those of names may."""
        self.failures += 1
        last = max((n for n, change in enumerate(self.pending) if change == Delete()), default=-1)
        del self.pending[last + 1 :]

    @property
    def unnamed(self) -> bool:
        """Whether the folder on the platter does not know this file yet, or not the new one."""
        return self.synced is None or Delete() in self.pending

    def sync_name(self) -> None:
        """The folder reaches the platter: what was deleted stays so."""
        while Delete() in self.pending:
            self.apply(self.pending.pop(0))

    def apply(self, change: Change) -> None:
        if isinstance(change, Delete):
            self.synced = None
            return
        if self.synced is None:
            self.synced = bytearray()
        if isinstance(change, Truncate):
            del self.synced[change.size :]
        else:
            write_into(self.synced, change.offset, change.data)

    def lose_power(self, chance: random.Random) -> bytes | None:
        """The content after the cut.

        Each sector of each change that was not synced is kept or not, whatever became of the
        changes before it: a disk writes in the order it likes.
        """
        content = None if self.synced is None else bytearray(self.synced)
        kept = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        stop = chance.randrange(len(self.pending) + 1) if chance.random() < 0.3 else None
        for change in self.pending[:stop]:
            if isinstance(change, Delete):
                if chance.random() >= kept:
                    break  # what came later went to a new file, whose name was lost
                content = None
            elif isinstance(change, Truncate):
                if content is not None and chance.random() < kept:
                    del content[change.size :]
            else:
                for offset, data in sectors(change):
                    if chance.random() < kept:
                        content = bytearray() if content is None else content
                        gap = max(0, offset - len(content))
                        garbage = chance.randbytes(gap) if chance.random() < 0.5 else b""
                        write_into(content, offset, data, garbage)
        return None if content is None else bytes(content)


def sectors(write: Write) -> list[tuple[int, bytes]]:
    """A write, split where sectors begin. One that covers a part of a sector leaves the rest."""
    parts = []
    offset, data = write
    while data:
        size = SECTOR - offset % SECTOR
        parts.append((offset, data[:size]))
        offset, data = offset + size, data[size:]
    return parts


class Disk:
    """All files, and the moment of the cut. Safe for threads: checkpoints run in one."""

    def __init__(self, cut_at: int, counted: str, image: Path, chance: random.Random) -> None:
        """The power goes during the `cut_at`th change or sync of the file `counted`.

        An empty name stands for all of them.
        """
        self.lock = threading.Lock()
        self.files: dict[str, File] = {}
        self.left = cut_at
        self.counted = counted
        self.image = image
        self.chance = chance
        self.fails: Callable[[File], bool] = lambda _: False  # whether this sync fails
        self.full: str | None = None  # the file for which there is no room
        self.locked = False  # somebody else holds the database

    def open(self, path: str) -> File:
        with self.lock:
            file = self.files.get(path)
            if file is None:
                content = Path(path).read_bytes() if os.path.exists(path) else None
                file = self.files[path] = File(os.path.basename(path), content)
            return file

    def change(self, file: File, change: Change, really: Callable[[], None]) -> None:
        """Change a file, in memory only."""
        with self.lock:
            if file.name == self.full:
                raise no_room()
            file.pending.append(change)
            self.tick(file)
            really()

    def delete(self, path: str, synced: bool, really: Callable[[], None]) -> None:
        with self.lock:
            file = self.files.get(path)
            if file is not None:
                file.pending.append(Delete())
                self.tick(file)
            really()
            if synced:
                self.sync_names()

    def sync(self, file: File, heard: int) -> tuple[int, bool]:
        """Bring a file to the platter; the real one needs no sync, it does not lose its power.

        Where the sync fails, what was not synced will never be: Linux marks such pages clean,
        so later syncs pass over them, and readers still see them. Every descriptor that was open
        hears of it once, at its next sync (https://lwn.net/Articles/752063): `heard` is how many
        failures this one knows; returns how many there were, and whether to say so now.
        """
        with self.lock:
            self.tick(file)
            if self.fails(file):
                file.forget()
            if file.failures > heard:
                return file.failures, True
            unnamed = file.unnamed
            file.sync()
            if unnamed:  # SQLite syncs the folder with the first sync of a new file
                self.sync_names()
            return heard, False

    def sync_names(self) -> None:
        for file in self.files.values():
            file.sync_name()

    def tick(self, file: File) -> None:
        if self.counted in ("", file.name):
            self.left -= 1
            if self.left == 0:
                self.cut()

    def cut(self) -> None:
        """Leave the image and be gone, holding the lock: nothing more is promised by anyone."""
        self.image.mkdir(parents=True)
        for file in self.files.values():
            content = file.lose_power(self.chance)
            if content is not None:
                (self.image / file.name).write_bytes(content)
        os._exit(CUT)


class PowerFile(apsw.VFSFile):
    """An open file of the database: itself, its WAL or its journal."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.disk = disk
        # A file without a name is SQLite's own scratch, gone after any cut.
        self.file = File("", None) if path is None else disk.open(path)
        self.heard = self.file.failures

    def xWrite(self, data: Buffer, offset: int) -> None:  # noqa: N802 - SQLite's name
        really = partial(super().xWrite, data, offset)
        self.disk.change(self.file, Write(offset, bytes(data)), really)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        really = partial(super().xTruncate, newsize)
        self.disk.change(self.file, Truncate(newsize), really)

    def xLock(self, level: int) -> None:  # noqa: N802
        if self.disk.locked:
            raise apsw.BusyError("database is locked")
        super().xLock(level)

    def xSync(self, flags: int) -> None:  # noqa: N802, ARG002
        self.heard, failed = self.disk.sync(self.file, self.heard)
        if failed:
            raise failed_sync()


class PowerVFS(apsw.VFS):
    """The default VFS once it is made: the disk of every connection that names no other."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        super().__init__("power", BASE, makedefault=True)

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return PowerFile(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.disk.delete(filename, syncdir, partial(super().xDelete, filename, syncdir))
