"""Starts Little Bell on a disk whose every sync takes longer.

usage: slow_disk.py MILLISECONDS COMMAND...

SQLite reaches files through a VFS; this one inherits the system's and sleeps before it syncs. All
file access then passes through Python, so the same with 0 milliseconds is the one to compare with.
"""

import sys
import time

import apsw


class SlowFile(apsw.VFSFile):
    """A file that is slow to sync."""

    def __init__(
        self, inherits: str, name: str | apsw.URIFilename | None, flags: list[int], delay: float
    ) -> None:
        """`delay` is in seconds."""
        super().__init__(inherits, name, flags)
        self.delay = delay

    def xSync(self, flags: int) -> None:  # noqa: N802 - the driver calls it so
        if self.delay:
            time.sleep(self.delay)
        super().xSync(flags)


class SlowDisk(apsw.VFS):
    """The system's files, slow to sync; the default from its construction on."""

    def __init__(self, delay: float) -> None:
        """`delay` is in seconds."""
        self.inherits = apsw.vfs_names()[0]
        self.delay = delay
        super().__init__("slow", self.inherits, makedefault=True)

    def xOpen(  # noqa: N802 - the driver calls it so
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> SlowFile:
        return SlowFile(self.inherits, name, flags, self.delay)


def main() -> int:
    from little_bell.cli import main as little_bell

    disk = SlowDisk(float(sys.argv[1]) / 1000)
    code = little_bell(sys.argv[2:])
    disk.unregister()
    return code


if __name__ == "__main__":
    sys.exit(main())
