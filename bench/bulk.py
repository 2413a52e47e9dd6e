"""Bulk creation: how long 100,000 emails take, and what it costs the opens meanwhile."""

import http.client
import json
import time

from bench.budgets import BULK, BULK_GROWTH, LONGEST_TURN
from bench.errors import NotMeasuredError
from bench.programs import TENANT, bell
from bench.results import Row, Section
from bench.run import Run
from bench.running import Running, resident

EMAILS = 100_000
NDJSON = "application/x-ndjson"


def ndjson(emails: int) -> bytes:
    """Emails as a campaign has them."""
    lines = (
        json.dumps(
            {
                "subject": "Spring is here",
                "recipient": f"reader{n}@mail.example.com",
                "campaign": "spring",
                "metadata": {"customer": f"{n:08}"},
            }
        )
        for n in range(emails)
    )
    return "\n".join(lines).encode("ascii")


def post(running: Running, body: bytes) -> int:
    """Create emails; returns the status once the answer has come whole."""
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    headers = running.headers | {"Content-Type": NDJSON}
    try:
        client.request("POST", f"/{TENANT}/emails", body, headers)
        answer = client.getresponse()
        answer.read()
        return answer.status
    finally:
        client.close()


def create(running: Running, body: bytes) -> float:
    """Seconds until all of it is created. Raises NotMeasuredError."""
    begun = time.perf_counter()
    status = post(running, body)
    if status != 201:
        raise NotMeasuredError(f"the batch was answered {status}")
    return time.perf_counter() - begun


def measure(run: Run) -> Section:
    """One batch on a fresh server, to warm it up, and then another."""
    body = ndjson(EMAILS)
    seconds, growth, turns = [], [], []
    for _ in range(run.plan.rounds):
        with Running(bell(run.fresh_folder())) as running:
            running.listening()
            create(running, body)
            before = resident(running.process.pid)
            seconds.append(create(running, body))
            growth.append(resident(running.process.pid) - before)
            turns.append(running.metrics()["longest_turn_seconds"] * 1000)
        run.say(f"{EMAILS:,} emails in {seconds[-1]:.2f} s")
    rows = [
        Row(f"{EMAILS:,} emails as NDJSON, until the whole answer", "s", seconds, BULK),
        Row("the fast lane's memory grew by", "MiB", growth, BULK_GROWTH),
        Row("longest turn of the loop", "ms", turns, LONGEST_TURN),
    ]
    notes = [
        f"One request of {len(body) / 1e6:.1f} MB, the second on a fresh server, nothing else "
        "under way; what it costs opens stands under the open loop."
    ]
    return Section("Bulk creation", notes, rows)
