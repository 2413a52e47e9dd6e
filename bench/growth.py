"""Opens a second with many events in the file, against a file with none."""

from pathlib import Path

from bench.budgets import GROWN
from bench.databases import warm
from bench.programs import bell
from bench.results import Row, Section, ratio
from bench.run import Run
from bench.running import Running
from bench.wrk import uniform, wrk

CONNECTIONS = 64


def rate(run: Run, database: Path) -> float:
    """Opens a second, uniformly at random."""
    warm(database)
    with Running(bell(run.fresh_folder(), database)) as running:
        running.listening()
        mix = uniform(run.plan.grown_emails)
        return wrk(running.port, CONNECTIONS, run.plan.seconds, mix).rate


def measure(run: Run) -> Section:
    """Empty and grown in turn. The grown file grows on by what is measured."""
    plan = run.plan
    run.say(f"making a file with {plan.grown_events:,} events, if there is none yet")
    databases = run.databases
    grown = databases.copy(databases.grown())
    empty_rates, grown_rates = [], []
    for _ in range(plan.rounds):
        copy = databases.copy(databases.seeded(plan.grown_emails))
        empty_rates.append(rate(run, copy))
        databases.discard(copy)
        grown_rates.append(rate(run, grown))
        run.say(f"empty {empty_rates[-1]:,.0f}/s, grown {grown_rates[-1]:,.0f}/s")
    databases.discard(grown)
    rows = [
        Row("no events", "/s", empty_rates),
        Row("many events", "/s", grown_rates),
        ratio("many against none", grown_rates, empty_rates, GROWN),
    ]
    note = (
        f"{plan.grown_emails:,} emails in both, opened uniformly at random; many: "
        f"{plan.grown_events:,} events before (the budget speaks of 10,000,000: `--full`). Warm."
    )
    return Section("Opens a second as the file grows", [note], rows)
