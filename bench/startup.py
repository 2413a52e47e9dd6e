"""From the start of a process to its first answered pixel."""

from pathlib import Path

from bench.budgets import START, START_FULL
from bench.databases import warm
from bench.programs import Program, bell, nginx, uvicorn
from bench.results import Row, Section
from bench.run import Run
from bench.running import Running


class Starts:
    """The programs that are started in turn."""

    def __init__(self, run: Run) -> None:
        self.run = run
        where = run.installed()
        self.script = (str(where / "little-bell"),)
        self.module = (str(where / "python"), "-m", "little_bell")
        self.kept = run.fresh_folder()  # its file was made by an earlier start
        self.grown = run.databases.grown()
        self.seconds: dict[str, list[float]] = {}

    def programs(self) -> dict[str, Program]:
        """What is started, by the row's name; ports are free ones of this moment."""
        fresh = self.run.fresh_folder

        def kept(command: tuple[str, ...], database: Path | None = None) -> Program:
            return bell(self.kept, database, command)

        return {
            "little-bell": kept(self.script),
            "python -m little_bell": kept(self.module),
            "little-bell, first start: makes its file": bell(fresh(), command=self.script),
            "little-bell, many events in the file": kept(self.script, self.grown),
            "nginx": nginx(fresh()),
            "uvicorn": uvicorn(fresh()),
        }

    def round(self) -> None:
        """Each program once."""
        for name, program in self.programs().items():
            with Running(program) as running:
                self.seconds.setdefault(name, []).append(running.first_answer())


def measure(run: Run) -> Section:
    """So many starts of each, in turn; the first one warms up and does not count."""
    plan = run.plan
    run.say(f"making a file with {plan.grown_events:,} events")
    starts = Starts(run)
    warm(starts.grown)
    starts.round()
    starts.seconds.clear()
    for _ in range(plan.starts):
        starts.round()
    budgets = {
        "little-bell": START,
        "python -m little_bell": START,
        "little-bell, first start: makes its file": START,
        "little-bell, many events in the file": START_FULL,
    }
    rows = [
        Row(name, "ms", [second * 1000 for second in seconds], budgets.get(name))
        for name, seconds in starts.seconds.items()
    ]
    notes = [
        "From before the process is made until a pixel's answer has come, connecting every "
        "0.2 ms. Little Bell is installed from the wheel. Its file exists already unless said.",
        f"Many events: {plan.grown_events:,} over {plan.grown_emails:,} emails, in the system's "
        "cache (the budget speaks of 10,000,000: `--full`).",
    ]
    return Section("Process start to first answered pixel", notes, rows)
