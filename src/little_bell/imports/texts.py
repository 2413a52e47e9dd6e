"""Text files as records: CSV (RFC 4180) and NDJSON, line by line, whatever is wrong with them."""

import csv
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from little_bell.api.emails import read_json
from little_bell.errors import LittleBellError, Refused

LONGEST = 1 << 20  # bytes of a line, and of a record of CSV
MOST_LINES = 1000  # of a record of CSV
NO_LINE = f"it is longer than {LONGEST:,} bytes"
BOM = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """One record and the line where it begins; or what is wrong there."""

    line: int
    members: dict[str, object]
    problem: str = ""


class Line(NamedTuple):
    """One line of a file, with its end; `offset` is that of the next one."""

    number: int
    text: str
    offset: int
    problem: str


def read_lines(file: BinaryIO, number: int = 0) -> Iterator[Line]:
    """The lines from where the file stands; `number` are those before."""
    while data := file.readline(LONGEST + 1):
        number += 1
        if number == 1:
            data = data.removeprefix(BOM)
        problem = text = ""
        if len(data) > LONGEST and not data.endswith(b"\n"):
            problem = NO_LINE
            while len(data) > LONGEST and not data.endswith(b"\n"):
                data = file.readline(LONGEST + 1)
        else:
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                problem = "it is not UTF-8"
        yield Line(number, text, file.tell(), problem)


def read_ndjson(file: BinaryIO) -> Iterator[Record]:
    """The objects of a file, one a line; empty lines are passed over."""
    for line in read_lines(file):
        if line.problem:
            yield Record(line.number, {}, line.problem)
        elif line.text.strip():
            yield _object(line)


def _object(line: Line) -> Record:
    try:
        value = read_json(line.text.encode("utf-8"), "it")
    except Refused as refused:
        return Record(line.number, {}, str(refused))
    if not isinstance(value, dict):
        return Record(line.number, {}, "it is not a JSON object")
    return Record(line.number, value)


class Csv:
    """A file of CSV with a header. A record that is none costs its first line alone: the next one
    is looked for from the second line on, since a lone quote may have swallowed it."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises LittleBellError where there is no header."""
        self.file = file
        self.lines = read_lines(file)
        self.header: list[str] = []
        for line, cells, problem in self._records():
            if problem:
                raise LittleBellError(f"line {line}, the header: {problem}")
            self.header = [cell.strip() for cell in cells]
            break
        twice = sorted({name for name in self.header if name and self.header.count(name) > 1})
        if twice:
            raise LittleBellError(f"the header has {twice[0]!r} more than once")

    def _records(self) -> Iterator[tuple[int, list[str], str]]:
        while True:
            first = next(self.lines, None)
            if first is None:
                return
            if first.problem:
                yield first.number, [], first.problem
                continue
            texts, problem = self._gather(first)
            cells: list[str] = []
            if not problem and not "".join(texts).strip():
                continue
            if not problem:
                cells, problem = _cells(texts, len(self.header))
            if problem and len(texts) > 1:
                self.file.seek(first.offset)
                self.lines = read_lines(self.file, first.number)
            yield first.number, cells, problem

    def _gather(self, first: Line) -> tuple[list[str], str]:
        """The lines of a record: up to where its quotes are closed."""
        texts, size = [first.text], len(first.text)
        quotes = first.text.count('"')
        while quotes % 2:
            line = next(self.lines, None)
            size += 0 if line is None else len(line.text)
            if line is None or line.problem or size > LONGEST or len(texts) == MOST_LINES:
                return [*texts, ""], "a quote is not closed"
            texts.append(line.text)
            quotes += line.text.count('"')
        return texts, ""

    def records(self) -> Iterator[Record]:
        """Those behind the header; cells that are empty are left out."""
        for line, cells, problem in self._records():
            members: dict[str, object] = {}
            if not problem:
                members = {
                    name: cell for name, cell in zip(self.header, cells, strict=True) if cell
                }
            yield Record(line, members, problem)


def _cells(texts: list[str], wanted: int) -> tuple[list[str], str]:
    """The cells of one record, as many as wanted (0: as there are)."""
    try:
        rows = [row for row in csv.reader(texts, strict=True) if row]
    except csv.Error as error:
        return [], f"it is not CSV: {error}"
    if len(rows) != 1:
        return [], "a quote stands where none may"
    if wanted and len(rows[0]) != wanted:
        return [], f"it has {len(rows[0])} cells, the header {wanted}"
    return rows[0], ""
