"""A bad day: readers that stay, slow disks, small caps; the WAL and the longest turn."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench.budgets import LONGEST_TURN
from bench.programs import Program, bell, slow_bell
from bench.results import Row, Section
from bench.run import Run
from bench.running import Running
from bench.wrk import uniform, wrk

CONNECTIONS = 64
MEGABYTE = 1_000_000
CAP = 64 << 20  # bytes: the setting's own
SMALL = 4 << 20  # the smallest that can be set
LOOK = 0.01  # seconds between two looks at the size of the WAL
AFTER = 3.0  # seconds without load, in which the WAL's file may be cut


class Case(NamedTuple):
    """One bad day."""

    name: str
    cap: int = CAP
    held: float = 0.0  # share of the load's time in which another program reads an old state
    delay: int | None = None  # ms added to each sync, by a disk through Python

    def program(self, database: Path) -> Program:
        """The server of this case."""
        folder = database.parent
        program = bell(folder, database)
        if self.delay is not None:
            program = slow_bell(folder, database, self.delay)
        return program._replace(environment={**program.environment, "MAX_WAL_BYTES": str(self.cap)})


CASES = (
    Case("nothing special"),
    Case("a cap of 4 MiB", SMALL),
    Case("a reader for half of the time", held=0.5),
    Case("the same, a cap of 4 MiB", SMALL, 0.5),
    Case("2 ms more a sync", delay=2),
    Case("50 ms more a sync", delay=50),
    Case("50 ms more a sync, a cap of 4 MiB", SMALL, delay=50),
)


class Found(NamedTuple):
    """What one run showed."""

    rate: float
    peak: float  # MB of the WAL
    left: float  # MB of it once the load was over
    turn: float  # ms
    part: float  # ms that the loop spent in a checkpoint at most


class Watch(threading.Thread):
    """Looks at the size of a WAL until it is told to stop."""

    def __init__(self, database: Path) -> None:
        super().__init__()
        self.path = f"{database}-wal"
        self.peak = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(LOOK):
            self.peak = max(self.peak, self.size())

    def size(self) -> int:
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0


def read_for(database: Path, seconds: float) -> Callable[[], None]:
    """Another program that keeps one state of the database; what is returned waits for its end."""

    def read() -> None:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM tenants").fetchall()
            time.sleep(seconds)

    thread = threading.Thread(target=read)
    thread.start()
    return thread.join


def try_case(run: Run, case: Case) -> Found:
    """A fresh server and file under full load."""
    plan = run.plan
    database = run.databases.copy(run.databases.seeded(plan.emails))
    seconds = 2 * plan.seconds
    with Running(case.program(database)) as running:
        running.listening()
        watch = Watch(database)
        watch.start()
        wait = read_for(database, case.held * seconds) if case.held else lambda: None
        load = wrk(running.port, CONNECTIONS, seconds, uniform(plan.emails))
        wait()
        time.sleep(AFTER)
        watch.over.set()
        watch.join()
        metrics = running.metrics()
        left = watch.size()
    run.databases.discard(database)
    return Found(
        load.rate,
        watch.peak / MEGABYTE,
        left / MEGABYTE,
        metrics["longest_turn_seconds"] * 1000,
        metrics["checkpoint_longest_seconds"] * 1000,
    )


def measure(run: Run) -> Section:
    """Each case once a round, in turn."""
    found: dict[str, list[Found]] = {case.name: [] for case in CASES}
    for _ in range(run.plan.rounds):
        for case in CASES:
            one = try_case(run, case)
            found[case.name].append(one)
            run.say(
                f"{one.rate:9,.0f}/s  WAL {one.peak:6.1f} MB, {one.left:5.1f} left  "
                f"turn {one.turn:6.1f} ms, checkpoint {one.part:6.1f} ms  {case.name}"
            )
    rows = []
    for case in CASES:
        runs = found[case.name]
        budget = None if case.delay else LONGEST_TURN
        rows += [
            Row(f"{case.name}: opens", "/s", [one.rate for one in runs]),
            Row(f"{case.name}: largest write-ahead log", "MB", [one.peak for one in runs]),
            Row(f"{case.name}: the same, after the load", "MB", [one.left for one in runs]),
            Row(f"{case.name}: longest turn of the loop", "ms", [one.turn for one in runs], budget),
            Row(f"{case.name}: longest part of a checkpoint in it", "ms", [x.part for x in runs]),
        ]
    notes = [
        f"{CONNECTIONS} connections open emails uniformly at random for {2 * run.plan.seconds} s. "
        "MAX_WAL_BYTES is as it comes (67 MB) unless said. A reader keeps the first state of the "
        "database for the first half: the log cannot begin anew, whoever moves it, and grows.",
        "With slower syncs each turn has one of its own, and a checkpoint's part of the loop one "
        "or two: subtract them. The disk then is a VFS in Python.",
    ]
    return Section("A bad day", notes, rows)
