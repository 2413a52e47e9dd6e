"""The closed loop: as many opens as a server answers, at 64 and at 512 connections."""

from pathlib import Path
from statistics import median

from bench.budgets import AGAINST_NGINX, AGAINST_UVICORN, LOST
from bench.closed import closed_bell, make_key, signed_paths
from bench.databases import count_events
from bench.disk import sync_percentiles
from bench.machine import busy_share
from bench.programs import Program, bell, nginx, slow_bell, uvicorn
from bench.results import Row, Section, ratio
from bench.run import Run
from bench.running import Running
from bench.wrk import Load, Mix, newest_first, uniform, wrk

NGINX, UVICORN = "nginx", "uvicorn"
NEWEST, UNIFORM = "Little Bell", "Little Bell, uniformly at random"
CLOSED = "Little Bell, signed pixels of a tenant with a key"
SHIM, SLOW = "Little Bell, disk through Python", "Little Bell, the same and 2 ms a sync"
FEW, MANY = 64, 512  # connections


class Throughput:
    """Gathers the runs of all rounds."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.loads: dict[tuple[str, int], list[Load]] = {}
        self.lost: list[float] = []
        self.extra: list[float] = []  # events more than answers: in flight when wrk stopped
        self.syncs: list[float] = []
        self.busy: list[float] = []

    def note(self, name: str, connections: int, load: Load) -> None:
        """Keep a run and print it."""
        self.loads.setdefault((name, connections), []).append(load)
        errors = f", {load.errors} ERRORS" if load.errors else ""
        self.run.say(
            f"{connections:3} connections  {load.rate:9,.0f}/s  p99 {load.p99 * 1000:6.2f} ms  "
            f"{name}{errors}"
        )

    def constant(self, program: Program, connections: int) -> None:
        """A server without a database."""
        with Running(program) as running:
            running.first_answer()
            load = wrk(running.port, connections, self.run.plan.seconds)
        self.note(program.name, connections, load)

    def durable(self, name: str, connections: int, mix: Mix, delay: int | None = None) -> None:
        """Little Bell on a fresh copy, killed at the end: each answer must have its event."""
        run = self.run
        database = run.databases.copy(run.databases.seeded(mix.emails))
        program = self._program(database, delay)
        if mix.paths:
            make_key(database)
            program = closed_bell(database.parent, database)
        with Running(program) as running:
            running.listening()
            load = wrk(running.port, connections, run.plan.seconds, mix)
            running.kill()
        events = count_events(database)
        self.lost.append(max(0, load.requests - load.errors - events))
        self.extra.append(events - load.requests)
        run.databases.discard(database)
        self.note(name, connections, load)

    def _program(self, database: Path, delay: int | None) -> Program:
        folder = database.parent
        return bell(folder, database) if delay is None else slow_bell(folder, database, delay)

    def round(self) -> None:
        """Every server once, in turn."""
        run = self.run
        emails = run.plan.emails
        p50, p99 = sync_percentiles(run)
        self.syncs.append(p50)
        self.busy.append(busy_share())
        run.say(f"fdatasync p50 {p50:.2f} ms, p99 {p99:.2f} ms; others {self.busy[-1]:.0f} % busy")
        for connections in (FEW, MANY):
            self.constant(nginx(run.fresh_folder()), connections)
            self.constant(uvicorn(run.fresh_folder()), connections)
            self.durable(NEWEST, connections, newest_first(run.plan, emails))
            self.durable(UNIFORM, connections, uniform(emails))
        signed = str(signed_paths(run.folder, emails))
        self.durable(CLOSED, FEW, newest_first(run.plan, emails)._replace(paths=signed))
        self.durable(SHIM, FEW, newest_first(run.plan, emails), 0)
        self.durable(SLOW, FEW, newest_first(run.plan, emails), 2)

    def rates(self, name: str, connections: int) -> list[float]:
        """Answers a second, round by round."""
        return [load.rate for load in self.loads[name, connections]]

    def rate_rows(self, connections: int, names: tuple[str, ...]) -> list[Row]:
        """Rates and p99 of some servers."""
        rows = []
        for name in names:
            p99 = [load.p99 * 1000 for load in self.loads[name, connections]]
            rows.append(
                Row(f"{name}, {connections} connections", "/s", self.rates(name, connections))
            )
            rows.append(Row(f"{name}, {connections} connections, p99", "ms", p99))
        return rows

    def rows(self) -> list[Row]:
        """The section's table."""
        rows = [*self.rate_rows(FEW, (NGINX, UVICORN, NEWEST, UNIFORM, CLOSED))]
        for connections in (FEW, MANY):
            budgets = (AGAINST_NGINX, AGAINST_UVICORN) if connections == FEW else (None, None)
            for other, budget in zip((NGINX, UVICORN), budgets, strict=True):
                for name in (NEWEST, UNIFORM, CLOSED)[: 3 if connections == FEW else 2]:
                    ours, theirs = self.rates(name, connections), self.rates(other, connections)
                    what = f"{name}, against {other}, {connections} connections"
                    rows.append(ratio(what, ours, theirs, budget))
            if connections == FEW:
                rows.append(Row("fdatasync, p50, before each round", "ms", self.syncs))
                rows.append(Row("all cores busy with other things, before", "%", self.busy))
                rows += self.rate_rows(MANY, (NGINX, UVICORN, NEWEST, UNIFORM))
        rows += self.rate_rows(FEW, (SHIM, SLOW))
        rows.append(Row("answers without their event after kill -9", "", self.lost, LOST))
        rows.append(Row("events beyond the answers (in flight)", "", self.extra))
        return rows


def measure(run: Run) -> Section:
    """All rounds."""
    plan = run.plan
    run.databases.seeded(plan.emails)
    throughput = Throughput(run)
    for _ in range(plan.rounds):
        throughput.round()
    run.peak = median(throughput.rates(NEWEST, FEW))
    notes = [
        f"wrk with one thread, {plan.seconds} s a run, keep-alive, one browser's user agent.",
        "nginx: one worker, `empty_gif`, access log with buffer=64k flush=1s. uvicorn: one "
        "process, uvloop, httptools, no access log, a constant GIF. Both get one constant request.",
        f"Little Bell: default settings, log to a file, {plan.emails:,} emails of one tenant in a "
        f"fresh file; {plan.newest_share:.0%} of the opens among the newest {plan.newest:,} and "
        "the rest over all, or all of them uniformly at random. It is killed with SIGKILL when "
        "wrk stops, and the rows of the log are compared with the answers that wrk counted.",
        "Signed pixels: SECRET_KEY and LINK_POLICY=signed are set, the tenant has a key.",
        "Disk through Python: a VFS that inherits the system's, to make its syncs slower.",
    ]
    return Section("Opens a second", notes, throughput.rows())
