"""Starts a Little Bell on a disk that loses its power; a program of its own for the tests.

Reads POWER_CUT (which change is the last), POWER_FILE (of that file; else of any), POWER_IMAGE (the
folder for what the platter holds then), POWER_SEED, POWER_SYNCHRONOUS (another `PRAGMA synchronous`
than the server's own), POWER_SYNC_FAILS (every so many-th sync of the WAL fails). A file
`not-durable` beside the image says that answers went out which were no promise.
"""

import os
import random
import sys
from pathlib import Path

import apsw

import little_bell.serve
import little_bell.store.checkpoint
import little_bell.store.writer
from durable_vfs import Disk, File, PowerVFS
from little_bell import cli
from little_bell.store.database import open_writer
from little_bell.store.job import Job
from little_bell.store.recorder import Recorded, Recorder
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import Hit

CHECKPOINT_PAGES = 24  # a checkpoint every few commits, so that cuts hit the middle of some


def weaken(synchronous: str) -> None:
    """Let the server promise what it does not keep."""

    def weak_writer(
        path: str, vfs: str | None = None, alone: bool = False, patience: int = 0
    ) -> apsw.Connection:
        connection = open_writer(path, vfs, alone, patience)
        connection.pragma("synchronous", synchronous)
        return connection

    little_bell.store.writer.open_writer = weak_writer  # type: ignore[attr-defined]


def fail_syncs(disk: Disk, every: int) -> None:
    """Single failures far apart: what is written again at once is safe again at once."""
    counted = 0

    def fails(_file: File) -> bool:
        nonlocal counted
        counted += 1
        return counted % every == 0

    disk.fails = fails


def note_unsafe_answers(note: Path) -> None:
    """Say so before the first answer leaves that the server itself counts as not durable."""

    class NotingRecorder(Recorder):
        def record(
            self,
            at: int,
            emails: list[NewEmail],
            hits: list[Hit],
            now: float,
            job: Job | None = None,
        ) -> Recorded:
            recorded = super().record(at, emails, hits, now, job)
            if not recorded.durable:
                note.touch()
            return recorded

    little_bell.serve.Recorder = NotingRecorder  # type: ignore[attr-defined]


def main() -> int:
    image = Path(os.environ["POWER_IMAGE"])
    disk = Disk(
        int(os.environ["POWER_CUT"]),
        os.environ.get("POWER_FILE", ""),
        image,
        random.Random(int(os.environ["POWER_SEED"])),
    )
    image.parent.mkdir(parents=True)
    vfs = PowerVFS(disk)
    little_bell.store.checkpoint.START = CHECKPOINT_PAGES
    if "POWER_SYNCHRONOUS" in os.environ:
        weaken(os.environ["POWER_SYNCHRONOUS"])
    if "POWER_SYNC_FAILS" in os.environ:
        fail_syncs(disk, int(os.environ["POWER_SYNC_FAILS"]))
        note_unsafe_answers(image.with_name("not-durable"))
    try:
        return cli.main()
    finally:
        vfs.unregister()


if __name__ == "__main__":
    sys.exit(main())
