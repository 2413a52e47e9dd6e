"""An import: read all, look what is wrong and what is there, then write, through the running server
or else as the writer."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from time import sleep, time
from typing import NamedTuple

from little_bell.config import Config
from little_bell.errors import LittleBellError, StartError
from little_bell.imports.compare import BAD, Problems, Words, compare
from little_bell.imports.sources import Source
from little_bell.ops.beside import Call, detail, is_running, own_writer
from little_bell.ops.check import Say
from little_bell.ops.limits import limits
from little_bell.ops.purge import finish
from little_bell.ops.side_file import side_file
from little_bell.store.batch import Sweep
from little_bell.store.history import Books, Import, Past, Piece
from little_bell.store.ledger import Ledger
from little_bell.store.lock import Lock
from little_bell.store.spool import Spool
from little_bell.store.writer import Writer
from little_bell.wire.importer import Door
from little_bell.wire.pieces import pack
from little_bell.wire.policies import Policies

LEAST, MOST = 16, 500  # rows of a piece
TENANTS = 100  # whose numbers are reserved at once
BYTES = 1 << 16  # of texts of a piece, roughly
TRIES = 100  # of one piece, while the disk fails
PAUSE = 0.1  # seconds between them
WAL_PAGES = 20_000  # of the write-ahead log, before it is moved into the file

Counts = dict[str, int]


class Answer(NamedTuple):
    """What became of a piece."""

    reached: int | None  # rows that are in now; None: it has to be sent again
    counts: Counts
    rest: float  # seconds until the next one


Send = Callable[[Piece], Answer]


class Imported(NamedTuple):
    """What an import did. `counts` is what was written, or was not by the rules."""

    counts: Counts
    left_out: Counts  # why, and how many
    before: int  # rows that an earlier run had written
    total: int
    bad: int
    unused: list[str]  # columns that mean nothing here


class BadRowsError(LittleBellError):
    """Rows are wrong, and nothing was written."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(
            f"nothing was imported: {problems.count:,} rows are bad (--skip-bad leaves them out)"
        )
        self.shown = problems.shown


def import_history(
    config: Config,
    path: str,
    tenant: str | None,
    skip_bad: bool,
    again: bool,
    call: Call,
    say: Say,
) -> Imported:
    """Import a file. `again`: also where an import of the very same rows was made.

    Raises LittleBellError (BadRowsError before anything is written), StoreError, OSError.
    """
    database = config.database_url
    now = int(time() * 1000)
    source = Source(path, tenant, now)
    os.makedirs(os.path.dirname(database) or ".", exist_ok=True)
    problems = Problems()
    left_out: Counts = {}
    with ExitStack() as stack:
        stack.enter_context(alone(database))
        spool = stack.enter_context(
            closing(Spool(stack.enter_context(side_file(os.path.dirname(database)))))
        )
        progress = say("reading")
        for row in source.rows(progress):
            if row.left_out:
                left_out[row.left_out] = left_out.get(row.left_out, 0) + 1
            elif row.value is None:
                problems.add(row.where, row.problem)
            else:
                problem = spool.add(row.line, row.value)
                if problem:
                    problems.add(row.where, problem)
        progress(1, 1)
        name = spool.whole() if not again else spool.whole() + now.to_bytes(8, "big")
        tops = {
            one: max(top, source.top, source.tops.get(one, 0)) for one, top in spool.tops.items()
        }
        send = stack.enter_context(sender(config, database, call))
        with closing(Ledger(database)) as ledger:
            done = ledger.done(spool.owner, name)
            if done < spool.total or problems.count:
                progress = say("comparing")
                words = Words("email", "event") if source.is_database else Words("line", "line")
                bad = compare(spool, ledger, problems, words, progress)
                progress(1, 1)
                if bad:  # without these it is another import: they may be good one day
                    name = hashlib.sha256(name + bad).digest()[: len(name)]
                    done = ledger.done(spool.owner, name)
        if problems.count and not skip_bad:
            raise BadRowsError(problems)
        queue = Queue(spool, name, done)
        reserve(queue, tops, send)
        counts = write(queue, spool.total, send, say)
        left_out.update(queue.left_out)
        unused = sorted(source.unused)
        return Imported(counts, left_out, done, spool.total, problems.count, unused)


@contextmanager
def alone(database: str) -> Iterator[None]:
    """One import at a time. Raises LittleBellError where another is under way."""
    try:
        lock = Lock(database + ".import")
    except StartError:
        raise LittleBellError("another import into this database is under way") from None
    try:
        yield
    finally:
        lock.release()


class Queue:
    """The rows that are still to be written, in order."""

    def __init__(self, spool: Spool, name: bytes, start: int) -> None:
        self.spool = spool
        self.name = name
        self.start = start
        self.source = spool.from_place(start)
        self.rows: deque[tuple[int, Past]] = deque()
        self.left_out: Counts = {}  # why rows are not written, and how many so far

    def reach(self, place: int) -> None:
        """Everything before this place is written, or left out."""
        self.start = place
        while self.rows and self.rows[0][0] < place:
            self.rows.popleft()

    def piece(self, most: int) -> Piece:
        """The next rows, as many as that at most."""
        while len(self.rows) <= most:
            found = next(self.source, None)
            if found is None:
                break
            place, row, why = found
            if why is None:
                self.rows.append((place, row))
            elif why not in BAD:
                self.left_out[why] = self.left_out.get(why, 0) + 1
        rows: list[tuple[int, Past]] = []
        weight, end = 0, self.spool.total
        for place, row in self.rows:
            weight += sum(len(text) for text in row if isinstance(text, str))
            if len(rows) == most or (rows and weight > BYTES):
                end = place
                break
            rows.append((place, row))
        return self._piece(end, {}, rows)

    def reserved(self, tops: dict[str, int]) -> Piece:
        """No rows, but numbers that must not be handed out any more."""
        return self._piece(self.start, tops, [])

    def _piece(self, end: int, tops: dict[str, int], rows: list[tuple[int, Past]]) -> Piece:
        spool = self.spool
        return Piece(spool.owner, self.name, spool.total, self.start, end, tops, rows)


def reserve(queue: Queue, tops: dict[str, int], send: Send) -> None:
    """See that no number of the rows is handed out to new emails meanwhile."""
    names = list(tops)
    for start in range(0, len(names), TENANTS):
        piece = queue.reserved({name: tops[name] for name in names[start : start + TENANTS]})
        while queue.start < queue.spool.total:
            answer = send(piece)
            if answer.reached is not None:
                break
            sleep(answer.rest)


def write(queue: Queue, total: int, send: Send, say: Say) -> Counts:
    """Send all rows of a queue, in pieces; returns what became of them."""
    counts, size = dict[str, int](), LEAST
    progress = say("importing")
    while queue.start < total:
        piece = queue.piece(size)
        answer = send(piece)
        if answer.reached is not None:
            for what, count in answer.counts.items():
                counts[what] = counts.get(what, 0) + count
            size = max(LEAST, size // 2) if answer.reached < piece.end else min(MOST, size * 2)
            if answer.reached < piece.start:
                raise LittleBellError(f"{queue.spool.owner} was deleted meanwhile: import again")
            queue.reach(answer.reached)
            progress(queue.start, total + 1)
        if answer.rest:
            sleep(answer.rest)
    progress(1, 1)
    return counts


@contextmanager
def sender(config: Config, database: str, call: Call) -> Iterator[Send]:
    """A function that has a piece written. Raises LittleBellError, StartError, StoreError."""
    if is_running(database, call):
        yield lambda piece: ask(database, call, piece)
    else:
        with own_writer(database, limits(config)) as writer:
            finish(writer)
            while writer.memory.pending is not None:
                writer.write(int(time() * 1000), [], [], Sweep(writer.memory.pending))
            door, books = Door(config, Policies(config)), Books()
            yield lambda piece: written(writer, piece, door, books)
            writer.checkpoint("truncate")


def written(writer: Writer, piece: Piece, door: Door, books: Books) -> Answer:
    """Have our own writer write a piece."""
    job = Import(piece, door, books, float("inf"))
    writer.write(int(time() * 1000), [], [], job)
    if writer.wal_pages > WAL_PAGES:
        writer.checkpoint("truncate")
    return Answer(job.reached, job.counts, 0.0)


def ask(database: str, call: Call, piece: Piece) -> Answer:
    """Have the running server write a piece, or its beginning."""
    body = pack(piece)
    for _ in range(TRIES):
        try:
            status, answer = call(database, "POST", "/imports", body)
        except LittleBellError as error:
            raise LittleBellError(
                f"{error}; {piece.start:,} of {piece.total:,} rows are in: the same command goes on"
            ) from None
        if status == 200:
            told = json.loads(answer)
            return Answer(told["reached"], told["counts"], told["rest"])
        if status == 404:
            raise LittleBellError("the running server is of an older version: restart it")
        if status not in (409, 503):
            break
        sleep(PAUSE)
    raise LittleBellError(
        f"the server refused: {detail(answer)}; {piece.start:,} of {piece.total:,} rows are in: "
        "the same command goes on"
    )
