"""The open loop: how long an open waits at half of the maximum, alone and in company."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.budgets import LONGEST_TURN, P99
from bench.closed import closed_bell, make_key, signed_paths
from bench.company import BATCH, BATCHES_RATE, EMAILS_RATE, EXPORTS_RATE, PAGES_RATE, Company
from bench.errors import NotMeasuredError
from bench.machine import busy_share
from bench.programs import BENCH, bell
from bench.results import Row, Section
from bench.run import Run
from bench.running import Running
from bench.wrk import newest_first, wrk

CONNECTIONS = 64
WARM_UP = 1.0  # seconds that are not counted
CLIENT_LIMIT = 20_000  # opens/s that the client sustains beside the server
CLOSED = "in company, keys and signatures"
LATE = 1.0  # ms of its own that a client may be late at p99


class Phase(NamedTuple):
    """One run of the open loop. Times are in ms."""

    client: dict[str, float]  # as the client printed it, in seconds
    metrics: dict[str, Any]
    pages: list[float]
    emails: list[float]
    batches: list[float]
    exports: list[float]
    refused: int
    busy: float  # percent of all cores, with other things, before

    def over(self, bound: str) -> int:
        """Turns that took longer than a bound of the histogram, in seconds."""
        turns = self.metrics["tick_seconds"]
        return int(turns["count"] - turns["buckets"][bound])

    @property
    def commit(self) -> float:
        """Mean duration of a commit."""
        commits = self.metrics["commit_seconds"]
        return float(commits["sum"] / max(1, commits["count"]) * 1000)


def peak(run: Run) -> float:
    """The most opens/s of this run; measured now where the closed loop was left out."""
    if not run.peak:
        database = run.databases.copy(run.databases.seeded(run.plan.emails))
        with Running(bell(database.parent, database)) as running:
            running.listening()
            mix = newest_first(run.plan, run.plan.emails)
            run.peak = wrk(running.port, CONNECTIONS, run.plan.seconds, mix).rate
        run.databases.discard(database)
    return run.peak


def drive(run: Run, port: int, rate: float, *paths: Path) -> dict[str, float]:
    """The client, to its end. Raises NotMeasuredError."""
    plan = run.plan
    numbers = [port, rate, plan.open_loop_seconds, WARM_UP, CONNECTIONS]
    numbers += [plan.emails, plan.newest, plan.newest_share]
    command = [sys.executable, "-P", str(BENCH / "open_loop.py"), *map(str, (*numbers, *paths))]
    limit = plan.open_loop_seconds + 60
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    if done.returncode:
        raise NotMeasuredError(f"the open-loop client failed: {done.stderr.strip()[-300:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def phase(run: Run, rate: float, busy: bool, closed: bool = False) -> Phase:
    """A fresh server and file, so that the longest turn is of this phase. `closed`: with a key for
    the tenant, and signed pixels."""
    database = run.databases.copy(run.databases.seeded(run.plan.emails))
    program, key, paths = bell(database.parent, database), "", []
    if closed:
        program, key = closed_bell(database.parent, database), make_key(database)
        paths = [signed_paths(run.folder, run.plan.emails)]
    busy_before = busy_share()
    with Running(program, key) as running:
        running.listening()
        company = Company(running)
        with company if busy else nullcontext():
            client = drive(run, running.port, rate, *paths)
        metrics = running.metrics()
    run.databases.discard(database)
    pages, emails, batches, exports = (
        [took * 1000 for took in part]
        for part in (company.pages, company.emails, company.batches, company.exports)
    )
    return Phase(client, metrics, pages, emails, batches, exports, company.refused, busy_before)


def say(run: Run, name: str, found: Phase) -> None:
    """One line about a phase."""
    client = found.client
    times = "  ".join(f"{key} {client[key] * 1000:.2f}" for key in ("p50", "p99", "p999", "max"))
    turn = found.metrics["longest_turn_seconds"] * 1000
    lag = client["lag_p99"] * 1000
    run.say(
        f"{client['achieved']:,.0f}/s of {client['offered']:,.0f}/s  {times} ms  "
        f"turn {turn:.2f} ms  client late p99 {lag:.2f} ms, cpu {client['cpu']:.0%}  {name}"
    )


def phase_rows(name: str, phases: list[Phase], busy: bool) -> list[Row]:
    """The rows of one kind of phase."""

    def row(what: str, key: str) -> Row:
        return Row(f"{name}: {what}", "ms", [one.client[key] * 1000 for one in phases])

    turns = [one.metrics["longest_turn_seconds"] * 1000 for one in phases]
    checkpoints = [one.metrics["checkpoint_longest_seconds"] * 1000 for one in phases]
    rows = [
        row("p50", "p50"),
        row("p99", "p99")._replace(budget=P99),
        row("p99.9", "p999"),
        row("longest", "max"),
        Row(f"{name}: longest turn of the loop", "ms", turns, LONGEST_TURN),
        Row(f"{name}: turns over 10 ms", "", [one.over("0.01") for one in phases]),
        Row(f"{name}: turns in all", "", [one.metrics["tick_seconds"]["count"] for one in phases]),
        Row(f"{name}: checkpoints", "", [one.metrics["checkpoints_total"] for one in phases]),
        Row(f"{name}: longest part of one in the loop", "ms", checkpoints),
        Row(f"{name}: mean commit", "ms", [one.commit for one in phases]),
        Row(f"{name}: offered", "/s", [one.client["offered"] for one in phases]),
        Row(f"{name}: achieved", "/s", [one.client["achieved"] for one in phases]),
        Row(f"{name}: never answered", "", [one.client["unanswered"] for one in phases]),
        row("client late by its own fault, p99", "lag_p99"),
        Row(f"{name}: client's share of a core", "%", [one.client["cpu"] * 100 for one in phases]),
        Row(f"{name}: all cores busy with other things, before", "%", [one.busy for one in phases]),
    ]
    if busy:
        pages = [median(one.pages) for one in phases]
        emails = [sorted(one.emails)[int(len(one.emails) * 0.99)] for one in phases]
        rows.append(Row(f"{name}: a page, median", "ms", pages))
        batches = [median(one.batches) for one in phases]
        rows.append(Row(f"{name}: a batch of {BATCH:,} emails, median", "ms", batches))
        rows.append(Row(f"{name}: an email's creation, p99", "ms", emails))
        exports = [median(one.exports) for one in phases]
        rows.append(Row(f"{name}: an export of the log as CSV, median", "ms", exports))
        rows.append(Row(f"{name}: pages and emails refused", "", [one.refused for one in phases]))
    return rows


def doubts(phases: list[Phase]) -> list[str]:
    """What keeps these figures from being the server's alone."""
    clients = [one.client for one in phases]
    slow = sum(client["achieved"] < 0.98 * client["offered"] for client in clients)
    late = sum(client["lag_p99"] * 1000 > LATE for client in clients)
    notes = []
    if slow:
        notes.append(f"**The schedule was not kept in {slow} of {len(clients)} phases.**")
    if late:
        notes.append(
            f"**The client itself was more than {LATE:g} ms late at p99 in {late} of "
            f"{len(clients)} phases: the latencies are partly its own.**"
        )
    return notes


def measure(run: Run) -> Section:
    """Alone and in company, in turn."""
    half = peak(run) / 2
    rate = min(half, CLIENT_LIMIT)
    kinds: dict[str, list[Phase]] = {"alone": [], "in company": [], CLOSED: []}
    for _ in range(run.plan.rounds):
        for name, phases in kinds.items():
            phases.append(phase(run, rate, name != "alone", name == CLOSED))
            say(run, name, phases[-1])
    rows = [row for name in kinds for row in phase_rows(name, kinds[name], name != "alone")]
    limited = "" if rate == half else f", held down to what the client sustains, {CLIENT_LIMIT:,}/s"
    notes = [
        f"Offered: half of the maximum of this run ({run.peak:,.0f}/s){limited}. Arrivals are a "
        "Poisson process; latency counts from the moment an open was due (no coordinated "
        f"omission); {CONNECTIONS} connections, one request in flight on each.",
        f"In company: a page or a read of the API {PAGES_RATE:g} times a second, {EMAILS_RATE:g} "
        f"emails a second are created, {BATCH:,} more in one request every {1 / BATCHES_RATE:g} "
        f"seconds, and the whole log is exported as CSV every {1 / EXPORTS_RATE:g} seconds.",
        "With keys and signatures: the same, a key for the tenant, LINK_POLICY=signed, the address "
        "of each pixel signed.",
        *doubts([one for phases in kinds.values() for one in phases]),
    ]
    return Section("Latency in an open loop", notes, rows)
