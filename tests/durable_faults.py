"""Starts a Little Bell whose disk fails on request; a program of its own for the tests.

FAULT names a file. What stands in it is how the disk is now: nothing (it works), `sync` (syncs
fail), `sync-once` (the next one fails), `full` (writes find no room) or `slow SECONDS` (each sync
takes so much longer). `sync-database` and `full-database` fail what checkpoints do, and no commit.
"""

import os
import sys
import threading
import time
from pathlib import Path

import apsw

from durable_vfs import BASE, Buffer, failed_sync, no_room
from little_bell import cli


class Fault:
    """How the disk is now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()

    def now(self) -> str:
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return ""

    def on_write(self, database: bool) -> None:
        """`database` says that it is the file itself, not its WAL."""
        fault = self.now()
        if fault == "full" or (database and fault == "full-database"):
            raise no_room()

    def on_sync(self, database: bool) -> None:
        with self.lock:
            fault = self.now()
            if fault == "sync-once":
                self.path.unlink()
        if fault in ("sync", "sync-once") or (database and fault == "sync-database"):
            raise failed_sync()
        if fault.startswith("slow "):
            time.sleep(float(fault.removeprefix("slow ")))


class FaultyFile(apsw.VFSFile):
    def __init__(self, fault: Fault, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        self.fault = fault
        self.database = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)

    def xWrite(self, data: Buffer, offset: int) -> None:  # noqa: N802 - SQLite's name
        self.fault.on_write(self.database)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.fault.on_sync(self.database)
        super().xSync(flags)


class FaultyVFS(apsw.VFS):
    """The default VFS once it is made."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__("faulty", BASE, makedefault=True)

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return FaultyFile(self.fault, name, flags)


def main() -> int:
    vfs = FaultyVFS(Fault(Path(os.environ["FAULT"])))
    try:
        return cli.main()
    finally:
        vfs.unregister()


if __name__ == "__main__":
    sys.exit(main())
