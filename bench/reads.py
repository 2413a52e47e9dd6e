"""How long pages and the API take with many events in the file, against few."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.budgets import READ, READS_GROWTH, Budget
from bench.databases import CAMPAIGNS, warm
from bench.errors import NotMeasuredError
from bench.programs import TENANT, Program, bell
from bench.results import Row, Section
from bench.run import Run
from bench.running import Running

TIMES = 15  # that each is asked for, in each file in turn


def addresses() -> dict[str, str]:
    """What is asked for, by what it is called."""
    today = datetime.now(UTC).date()
    month, year = today - timedelta(days=29), today - timedelta(days=364)
    return {
        "dashboard, 30 days": "/dashboard?period=30d",
        "dashboard, 12 months": "/dashboard?period=12m",
        "dashboard, always": "/dashboard?period=all",
        "its list of emails": "/dashboard/emails",
        "its list of campaigns": "/dashboard/campaigns",
        "its list of links": "/dashboard/links",
        "its list of events": "/dashboard/events",
        "an email's page": "/dashboard/emails/17",
        "stats, a month by hours": f"/stats?from={month}&to={today}&interval=hour&tz=Asia/Kolkata",
        "stats, a year by days": f"/stats?from={year}&to={today}&interval=day&tz=Europe/Berlin",
        "stats of a campaign": f"/stats?from={month}&to={today}&campaign=campaign-1",
        "emails": "/emails",
        "emails of a campaign": "/emails?campaign=campaign-1",
        "emails of a recipient": "/emails?recipient=reader77@example.com",
        "emails, beginning of a recipient": "/emails?recipient_prefix=reader7",
        "emails, part of a subject": "/emails?subject=number%20999",
        "emails, not opened": "/emails?opened=no",
        "emails, last activity": "/emails?order=activity",
        "an email": "/emails/17",
        "events": "/events",
        "events, what is rare": "/events?kind=click&class=unknown",
        "links, the most followed": "/links?order=top",
        "campaigns": "/campaigns",
        "clients": "/clients",
    }


def ask(server: Running, path: str) -> float:
    """Milliseconds of one request. Raises NotMeasuredError where it is refused."""
    begun = time.perf_counter()
    status, body = server.ask("GET", f"/{TENANT}{path}", accept="*/*")
    if status != 200:
        raise NotMeasuredError(f"{path}: {status} {body[:200]!r}")
    return (time.perf_counter() - begun) * 1000


def measure(run: Run) -> Section:
    """Both files served at once, asked in turn, after one request of each that is not counted."""
    plan = run.plan
    run.say(f"making a file with {plan.grown_events:,} events of all kinds, if there is none yet")
    few_path = run.databases.copy(run.databases.traffic(plan.few_emails, plan.few_events))
    many_path = run.databases.copy(run.databases.traffic(plan.grown_emails, plan.grown_events))
    with Running(serving(run, few_path)) as few, Running(serving(run, many_path)) as many:
        for server in (few, many):
            server.listening()
        rows = [row for name, path in addresses().items() for row in compare(name, path, few, many)]
        longest = many.metrics()["longest_turn_seconds"] * 1000
    rows.append(Row("longest turn of the fast lane meanwhile", "ms", [longest], Budget(20, 10)))
    for path in (few_path, many_path):
        run.databases.discard(path)
    note = (
        f"{plan.grown_events:,} events over {plan.grown_emails:,} emails, against "
        f"{plan.few_events:,} over {plan.few_emails:,}: 12 user agents, "
        f"{CAMPAIGNS} campaigns of 8 links each in both, 30 days (the budget speaks of 10,000,000 "
        f"events: `--full`). Warm; medians of {TIMES} requests over HTTP, connections and all."
    )
    return Section("Pages and the API as the file grows", [note], rows)


def serving(run: Run, database: Path) -> Program:
    warm(database)
    return bell(run.fresh_folder(), database)


def compare(name: str, path: str, few: Running, many: Running) -> list[Row]:
    """Two rows: the time with many events, and how often it is that with few."""
    for server in (few, many):
        ask(server, path)
    took = [(ask(few, path), ask(many, path)) for _ in range(TIMES)]
    with_few, with_many = (statistics.median(times) for times in zip(*took, strict=True))
    return [
        Row(name, "ms", [with_many], READ),
        Row("- against few", "x", [with_many / with_few], READS_GROWTH),
    ]
