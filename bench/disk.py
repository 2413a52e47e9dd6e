"""The disk: how long a sync takes, and how many bytes an open takes."""

import os
import random
import time
from pathlib import Path

from bench.budgets import OPEN_BYTES
from bench.databases import grow
from bench.results import Row, Section
from bench.run import Run
from little_bell.store.writer import Writer

BLOCK = 16_384  # bytes: what a commit of some opens writes
FILE = 1 << 24  # bytes


def sync_seconds(folder: Path, times: int) -> list[float]:
    """Seconds of each fdatasync after overwriting 16 KiB, in order of length."""
    path = folder / "syncs"
    block = os.urandom(BLOCK)
    with path.open("wb", buffering=0) as file:
        file.write(bytes(FILE))
        os.fsync(file.fileno())
        took = []
        for n in range(times):
            file.seek(n * BLOCK % FILE)
            file.write(block)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    path.unlink()
    return sorted(took)


def sync_percentiles(run: Run) -> tuple[float, float]:
    """p50 and p99 of fdatasync in ms."""
    took = sync_seconds(run.folder, run.plan.syncs)
    return took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000


def measure_syncs(run: Run) -> Section:
    """fdatasync by itself, with nothing else running."""
    found = [sync_percentiles(run) for _ in range(run.plan.rounds)]
    rows = [
        Row("fdatasync, p50", "ms", [p50 for p50, _ in found]),
        Row("fdatasync, p99", "ms", [p99 for _, p99 in found]),
    ]
    return Section("The disk", ["16 KiB overwritten in a file, then fdatasync."], rows)


def bytes_per_open(database: Path, opens: list[int]) -> float:
    """What the file grew by, all checkpointed, for each open."""
    before = database.stat().st_size
    writer = Writer(str(database))
    grow(writer, iter(opens), len(opens))
    writer.close()
    return (database.stat().st_size - before) / len(opens)


def measure_bytes(run: Run) -> Section:
    """One open of each email, in random order, then the grown file's many."""
    plan = run.plan
    databases = run.databases
    copy = databases.copy(databases.seeded(plan.disk_emails))
    once = list(range(1, plan.disk_emails + 1))
    random.Random(2).shuffle(once)
    first = bytes_per_open(copy, once)
    databases.discard(copy)
    seeded = databases.seeded(plan.grown_emails).stat().st_size
    many = (databases.grown().stat().st_size - seeded) / plan.grown_events
    each = plan.grown_events / plan.grown_emails
    rows = [
        Row("one open of each email", "bytes", [first], OPEN_BYTES),
        Row(f"{each:g} opens of each email on average", "bytes", [many], OPEN_BYTES),
    ]
    note = "Growth of the database file after a truncating checkpoint, log and projections."
    return Section("Disk for one open", [note], rows)
