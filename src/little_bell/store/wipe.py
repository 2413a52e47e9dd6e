"""What rows leave behind in the file goes: texts in unused parts of pages, and the write-ahead log.

SQLite's `secure_delete` overwrites a row that is deleted, and pages that become free. It does not
overwrite the copies that stay where a page was divided and its rows were moved to another one:
these lie in the part of the page that is not used, until something is written over them. So, in
small steps:

1. All of the write-ahead log is moved into the database (see `store.checkpoint`): from then on no
   new page takes a text from an unused part, but for the pages that have one already.
2. The file is read for pages with something like a text in an unused part.
3. Of these, some at a time: right after a checkpoint moved everything, zeros are written over the
   unused parts, by a descriptor and not by SQLite, which cannot. A snapshot is held meanwhile: with
   all of the log moved, nobody else writes the file. Nothing that is used is written, so that a
   crash at any point leaves what was there. Then SQLite forgets the pages it has in memory.
4. The log is begun anew, and its file is cut behind what is new in it.
"""

import os
import re
import struct

import apsw

from little_bell.errors import StoreError
from little_bell.store.checkpoint import CUT, FRAME, HEADER, Checkpointer
from little_bell.store.database import PAGE_SIZE, store_error
from little_bell.store.statements import load

SQL = load("erasure.sql")
WRITE = load("write.sql")

LOOK_AT = 64  # pages that a turn looks at: 0.5 ms, or 3 ms where all have something unused
AT_ONCE = 128  # pages that are cleaned behind one checkpoint
FILE_HEADER = 100  # bytes of the first page
# An overflow page begins with the number of the next one: in a file of 64 GB it could be taken for
# another kind, and parts that are in use for unused ones.
MOST = (2 << 24) * PAGE_SIZE

# Something like a text: ASCII, or what UTF-8 makes of other scripts.
TEXT = re.compile(rb"[ -~]{6}|(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}){3}")

# https://www.sqlite.org/fileformat2.html#b_tree_pages: the kind, first free block, cells, where
# they begin; interior pages have four bytes more.
PAGE_HEADER = struct.Struct(">BHHH")
BLOCK = struct.Struct(">HH")  # the next free block, and the size of this one
INTERIOR = (2, 5)
LEAF = (10, 13)

MOVING, LOOKING, CLEANING, SYNCING, CUTTING, DONE = range(6)


class Wipe:
    """Called once a turn, behind the checkpointer's own step. Begins anew after an error."""

    def __init__(self, checkpointer: Checkpointer) -> None:
        self.checkpointer = checkpointer
        self.writer = checkpointer.writer
        self.position = 0  # pages that were looked at
        self.dirty: list[int] = []  # pages
        self.cleaned = 0
        self._checkpoint(MOVING)

    @property
    def done(self) -> bool:
        return self.stage == DONE

    @property
    def busy(self) -> bool:
        """Whether the next turn has something to do at once."""
        return self.stage in (LOOKING, CUTTING)

    def step(self) -> None:
        """Raises StoreError."""
        try:
            if self.stage == LOOKING:
                self._look()
            elif self.stage == CUTTING:
                self._cut()
            elif self.stage != DONE:
                self._wait()
        except apsw.Error as error:
            raise store_error(error) from error
        except OSError as error:
            raise StoreError(f"database: {error.strerror}") from error

    def _checkpoint(self, stage: int) -> None:
        """Have everything moved; what this is for comes behind it."""
        self.stage = stage
        self.count = self.checkpointer.count
        self.checkpointer.ask()

    def _wait(self) -> None:
        if self.checkpointer.count == self.count:
            if not self.writer.wal_pages:
                self.writer.probe()  # a log that may be moved
                self.checkpointer.ask()
        elif self.stage == MOVING:
            self.stage = LOOKING
        elif self.stage == CLEANING:
            self._clean()
        else:
            self.stage = CUTTING

    def _look(self) -> None:
        fd = self._descriptor()
        if os.fstat(fd).st_size > MOST:
            self.stage = CUTTING
            return
        data = os.pread(fd, LOOK_AT * PAGE_SIZE, self.position * PAGE_SIZE)
        pages = len(data) // PAGE_SIZE
        for i in range(pages):
            page = data[i * PAGE_SIZE : (i + 1) * PAGE_SIZE]
            number = self.position + i + 1
            if any(holds_text(page, *span) for span in unused(page, number)):
                self.dirty.append(number)
        self.position += pages
        if pages < LOOK_AT or len(self.dirty) >= AT_ONCE:
            if self.dirty:
                self._checkpoint(CLEANING)
            elif self.cleaned:
                self._checkpoint(SYNCING)  # its thread does that
            else:
                self.stage = CUTTING

    def _clean(self) -> None:
        """Right behind a checkpoint, before anything else is committed."""
        if self.writer.wal_pages:
            self._checkpoint(CLEANING)
            return
        fd, cursor = self._descriptor(), self.writer.cursor
        cursor.execute(SQL["begin_read"])
        try:
            cursor.execute(SQL["unscoped_hold"]).fetchall()
            for number in self.dirty:
                offset = (number - 1) * PAGE_SIZE
                for start, end in unused(os.pread(fd, PAGE_SIZE, offset), number):
                    os.pwrite(fd, bytes(end - start), offset + start)
        finally:
            cursor.execute(WRITE["rollback"])
        self.writer.connection.release_memory()
        self.cleaned += len(self.dirty)
        self.dirty = []
        self.stage = LOOKING

    def _cut(self) -> None:
        """Cut the log behind what is new in it: a commit has to stand there (`Checkpointer`)."""
        if not self.writer.wal_pages:
            self.writer.probe()
        path = self.writer.path + "-wal"
        size = os.stat(path).st_size
        end = HEADER + self.writer.wal_pages * FRAME
        if size > end:
            os.truncate(path, max(end, size - CUT))
        if size - CUT <= end:
            self.stage = DONE

    def _descriptor(self) -> int:
        fd = self.checkpointer.fd
        if fd is None:  # no checkpoint was made
            raise StoreError("the database is not open")
        return fd


def holds_text(page: bytes, start: int, end: int) -> bool:
    """Whether something like a text stands in a part of a page."""
    return page.count(0, start, end) < end - start and TEXT.search(page, start, end) is not None


def unused(page: bytes, number: int) -> list[tuple[int, int]]:
    """The parts of a page that hold nothing, from and up to; none of one that is no b-tree's."""
    begin = FILE_HEADER if number == 1 else 0
    kind, free, cells, content = PAGE_HEADER.unpack_from(page, begin)
    if kind not in INTERIOR + LEAF:
        return []
    gap = begin + (12 if kind in INTERIOR else 8) + 2 * cells
    content = content or 1 << 16
    if not gap <= content <= PAGE_SIZE:
        return []
    spans = [(gap, content)]
    while free:
        if not content <= free <= PAGE_SIZE - 4:
            return []
        following, size = BLOCK.unpack_from(page, free)
        if size < 4 or free + size > PAGE_SIZE or (following and following <= free):
            return []
        spans.append((free + 4, free + size))
        free = following
    return [(start, end) for start, end in spans if start < end]
