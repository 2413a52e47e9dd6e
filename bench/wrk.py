"""wrk: the closed loop. Each connection sends its next request when it has its answer."""

import itertools
import json
import subprocess
from typing import NamedTuple

from bench.errors import NotMeasuredError
from bench.plan import Plan
from bench.programs import BENCH, BROWSER, TENANT, find_program

SEEDS = itertools.count(1)


class Mix(NamedTuple):
    """Which emails are opened: `share` of the opens among the `newest`, the rest over all."""

    emails: int
    newest: int
    share: float
    paths: str = ""  # a file with the path of each one's pixel


class Load(NamedTuple):
    """What wrk saw. Times are in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    p999: float
    max: float
    errors: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def newest_first(plan: Plan, emails: int) -> Mix:
    """Opens as they come: most of them of what was sent last."""
    return Mix(emails, plan.newest, plan.newest_share)


def uniform(emails: int) -> Mix:
    """Opens spread evenly over all emails."""
    return Mix(emails, 1, 0.0)


def wrk(port: int, connections: int, seconds: int, mix: Mix | None = None) -> Load:
    """One run with one thread of wrk. Without a mix all requests are the same.

    Raises NotMeasuredError.
    """
    script = "report.lua" if mix is None else "open.lua"
    command = [find_program("wrk"), "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{seconds}s", "--timeout", "10s", "--script", str(BENCH / script)]
    command += [
        "--header",
        f"User-Agent: {BROWSER}",
        f"http://127.0.0.1:{port}/{TENANT}/pixel/1.gif",
    ]
    if mix is not None:
        command += ["--", str(mix.emails), str(mix.newest), str(mix.share), str(next(SEEDS))]
        command += [mix.paths] if mix.paths else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        raise NotMeasuredError(f"wrk failed: {(done.stderr or last)[-300:]}")
    return Load(**json.loads(last))
