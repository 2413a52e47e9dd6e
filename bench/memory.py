"""Resident memory: idle, and after a great many opens."""

import time
from urllib.parse import quote

from bench.budgets import IDLE_MEMORY, USED_MEMORY
from bench.programs import TENANT, bell, nginx, uvicorn
from bench.results import Row, Section
from bench.run import Run
from bench.running import Running
from bench.wrk import uniform, wrk

CONNECTIONS = 64
EACH = 200  # times that every other route is used
LONGEST = 300.0  # seconds after which the opens are left at what they are


def idle(run: Run) -> tuple[float, float, float]:
    """MiB a second after the start, after one pixel, and after an email and its open."""
    command = (str(run.installed() / "little-bell"),)
    with Running(bell(run.fresh_folder(), command=command)) as running:
        time.sleep(1)
        still = running.resident()
        running.first_answer()
        pixel = running.resident()
        running.ask("POST", f"/{TENANT}/emails", {"subject": "Hello"})
        running.ask("GET", f"/{TENANT}/pixel/1.gif")
        return still, pixel, running.resident()


def others(run: Run) -> tuple[float, float]:
    """MiB of nginx, master and worker, and of uvicorn, after one answer each."""
    found = []
    for program in (nginx(run.fresh_folder()), uvicorn(run.fresh_folder())):
        with Running(program) as running:
            running.first_answer()
            time.sleep(0.5)
            found.append(running.resident())
    return found[0], found[1]


def use_every_route(running: Running, emails: int) -> None:
    """Pixels, clicks, addresses of clicks, emails, health and metrics."""
    for n in range(EACH):
        email = 1 + n * emails // EACH
        url = quote(f"https://shop.example/offers/{n}?from=mail", safe="")
        running.ask(
            "POST", f"/{TENANT}/emails", {"subject": f"Hello {n}", "metadata": {"n": f"{n}"}}
        )
        running.ask("GET", f"/{TENANT}/pixel/{email}.gif")
        running.ask("GET", f"/{TENANT}/click-url/{email}?url={url}")
        running.ask("GET", f"/{TENANT}/click/{email}?url={url}")
        running.ask("GET", "/health")
        running.ask("GET", "/metrics", accept="text/plain")


def used(run: Run) -> tuple[float, int]:
    """MiB after the plan's opens, and how many they were."""
    plan = run.plan
    command = (str(run.installed() / "little-bell"),)
    database = run.databases.copy(run.databases.seeded(plan.memory_emails))
    with Running(bell(database.parent, database, command)) as running:
        running.listening()
        use_every_route(running, plan.memory_emails)
        opens, deadline = 0, time.monotonic() + LONGEST
        while opens < plan.memory_opens and time.monotonic() < deadline:
            mix = uniform(plan.memory_emails)
            opens += wrk(running.port, CONNECTIONS, plan.seconds, mix).requests
        use_every_route(running, plan.memory_emails)
        found = running.resident()
    run.databases.discard(database)
    return found, opens


def measure(run: Run) -> Section:
    """Idle processes, then one that has worked."""
    installed = [idle(run) for _ in range(run.plan.rounds)]
    still, pixel, email = ([one[i] for one in installed] for i in range(3))
    run.say(f"idle {still[0]:.1f} MiB, after one pixel {pixel[0]:.1f} MiB")
    compared = [others(run) for _ in range(run.plan.rounds)]
    run.say(f"seeding {run.plan.memory_emails:,} emails and opening them")
    after, opens = used(run)
    run.say(f"after {opens:,} opens {after:.1f} MiB")
    rows = [
        Row("Little Bell, idle, 1 s after its start", "MiB", still, IDLE_MEMORY),
        Row("Little Bell, after one pixel", "MiB", pixel, IDLE_MEMORY),
        Row("Little Bell, after an email's creation and its open", "MiB", email),
        Row("nginx, master and worker, after one GIF", "MiB", [one[0] for one in compared]),
        Row("uvicorn, after one GIF", "MiB", [one[1] for one in compared]),
        Row("Little Bell, all routes used, many opens", "MiB", [after], USED_MEMORY),
    ]
    notes = [
        "VmRSS of the fast lane, installed from the wheel, started by its console script without "
        "configuration but for where it listens.",
        f"Many opens: {opens:,} over {run.plan.memory_emails:,} emails, uniformly at random, and "
        f"each tracking route {2 * EACH} times, with as many link targets.",
    ]
    return Section("Memory", notes, rows)
