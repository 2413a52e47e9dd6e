"""Where history comes from: a file's format, and its rows, good and bad."""

import os
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import BinaryIO, NamedTuple

from little_bell.api.exports import EMAIL_COLUMNS, EVENT_COLUMNS, FORMULA
from little_bell.errors import LittleBellError, Refused
from little_bell.imports.rows import MOST_ID, LeftOut, named, read_id, read_row, read_tenant
from little_bell.imports.texts import BOM, Csv, Record, read_ndjson
from little_bell.store.copy import Progress
from little_bell.store.history import Past
from little_bell.store.namesake import MAGIC, Namesake

EXPORTS = (list(EVENT_COLUMNS), list(EMAIL_COLUMNS))
OTHERS = "rows of other tenants"
LONGEST_SUBJECT = 998  # characters that are kept of one of the namesake's


class Row(NamedTuple):
    """A row of a file: what it says; or what is wrong with it; or why it is left out."""

    where: str
    line: int  # or its number
    value: Past | None
    problem: str = ""
    left_out: str = ""


class Source:
    """A file of history."""

    def __init__(self, path: str, tenant: str | None, now: int) -> None:
        """`tenant`: of rows that do not say whose they are; of those that do, of this one alone.
        `now`: no time is later (ms UTC). Raises LittleBellError, OSError."""
        self.path = path
        self.tenant = tenant
        self.now = now
        self.unused: set[str] = set()  # names that mean nothing here
        self.top = 0  # the highest id that was handed out there to anybody
        self.tops: dict[str, int] = {}  # the same to each tenant, by rows of emails that are bad
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a directory `open` tells
            raise LittleBellError(
                f"{path} is a pipe or a device, which cannot be read twice: save it"
            )
        with open(path, "rb") as file:
            head = file.read(1 << 16)
        text = head.removeprefix(BOM).lstrip()
        if not text:
            raise LittleBellError(f"{path} is empty")
        self.is_database = head.startswith(MAGIC)
        self.is_ndjson = text.startswith(b"{")

    def rows(self, progress: Progress) -> Iterator[Row]:
        """All rows, in the order of the file. Raises LittleBellError."""
        if self.is_database:
            yield from self._of_namesake(progress)
            return
        size = os.path.getsize(self.path)
        with open(self.path, "rb") as file:
            for number, record in enumerate(self._records(file)):
                if number % 1000 == 0:
                    progress(file.tell(), size + 1)
                where = f"line {record.line}"
                if record.problem:
                    yield Row(where, record.line, None, record.problem)
                else:
                    yield self._row(where, record.line, record.members)

    def _records(self, file: BinaryIO) -> Iterator[Record]:
        if self.is_ndjson:
            yield from read_ndjson(file)
            return
        table = Csv(file)
        ours = table.header in EXPORTS
        for record in table.records():
            if ours:  # as `api.exports` guards texts against spreadsheets
                for name, cell in record.members.items():
                    if isinstance(cell, str) and cell[:1] == "'" and cell[1:].startswith(FORMULA):
                        record.members[name] = cell[1:]
            yield record

    def _row(self, where: str, line: int, members: dict[str, object]) -> Row:
        found: dict[str, object] = {}
        try:
            ours = "class" in members
            found = named(members, self.unused)
            if self.tenant is not None and found.get("tenant", self.tenant) != self.tenant:
                return Row(where, line, None, left_out=OTHERS)
            return Row(where, line, read_row(found, self.tenant, self.now, ours))
        except Refused as refused:
            self._keep_id(found)
            return Row(where, line, None, str(refused))
        except LeftOut as reason:
            return Row(where, line, None, left_out=str(reason))

    def _keep_id(self, found: dict[str, object]) -> None:
        """The id of a bad row was handed out all the same."""
        with suppress(Refused):
            if "created_at" in found and "kind" not in found:
                name = read_tenant(found.get("tenant"), self.tenant)
                self.tops[name] = max(self.tops.get(name, 0), read_id(found.get("email_id")))

    def _of_namesake(self, progress: Progress) -> Iterator[Row]:
        with closing(Namesake(self.path)) as other:
            self.top = other.last_email()
            if self.top > MOST_ID:  # also by its counter alone
                raise LittleBellError(
                    f"{self.path}: ids go up to {self.top:,} there, here to {MOST_ID:,}"
                )
            total = other.count() + 1
            emails = ("email_id", "tenant", "subject", "recipient", "created_at")
            events = ("id", "tenant", "email_id", "kind", "at", "user_agent", "ip_address")
            done = 0
            for what, names, rows in (
                ("email", emails, other.emails()),
                ("event", events, other.events()),
            ):
                for values in rows:
                    done += 1
                    if done % 1000 == 0:
                        progress(done, total)
                    yield self._of_values(f"{what} {values[0]}", values[0], names, values)

    def _of_values(
        self, where: str, number: int, names: tuple[str, ...], values: tuple[object, ...]
    ) -> Row:
        members: dict[str, object] = {}
        for name, value in zip(names, values, strict=True):
            try:
                text = value.decode("utf-8") if isinstance(value, bytes) else value
            except UnicodeDecodeError:
                return Row(where, number, None, f"{name} is not UTF-8")
            if text is not None and text != "":
                members[name] = text
        if "tenant" not in members:
            return Row(where, number, None, "there is no such email")
        if isinstance(members.get("subject"), str):
            members["subject"] = str(members["subject"])[:LONGEST_SUBJECT]
        return self._row(where, number, members)
