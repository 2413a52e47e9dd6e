"""A real Prometheus beside the bell, with the configuration of deploy/prometheus."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from bell import wait_until
from programs import free_port, needs

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus"
TOKEN = "a-token-for-the-metrics"
SCRAPE = 0.5  # seconds between two

needs_prometheus = needs("prometheus", "promtool")


def promtool(*arguments: str, given: bytes = b"", folder: Path | None = None) -> tuple[int, str]:
    """Run it; its exit code and all it says."""
    ran = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, timeout=120, cwd=folder
    )
    return ran.returncode, (ran.stdout + ran.stderr).decode("utf-8")


class Sample(NamedTuple):
    """One series of an answer, with its last value."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """Scrapes a port with the right token as job little-bell, with a wrong one as job wrong."""

    def __init__(self, folder: Path, target: int) -> None:
        self.folder = folder
        self.target = f"localhost:{target}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def configure(self) -> None:
        """The configuration that is there for operators, with other addresses and less patience."""
        text = (RULES / "prometheus.yml").read_text()
        for name, token in (("little-bell.token", TOKEN), ("wrong.token", "another-token-for-it")):
            (self.folder / name).write_text(token)
        changes = {
            "/etc/prometheus/little-bell.token": str(self.folder / "little-bell.token"),
            "localhost:3000": self.target,
            "_interval: 15s": f"_interval: {int(SCRAPE * 1000)}ms",
            "- alerts.yml": f"- {RULES / 'alerts.yml'}",
        }
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        _, _, job = text.partition("scrape_configs:\n")
        job = "\n".join(line for line in job.splitlines() if not line.lstrip().startswith("#"))
        job = job.replace("job_name: little-bell", "job_name: wrong")
        text += job.replace("little-bell.token", "wrong.token") + "\n"
        (self.folder / "prometheus.yml").write_text(text)

    def __enter__(self) -> "Prometheus":
        self.configure()
        with (self.folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self.ready, 60)
        except AssertionError:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10):
                return True
        except OSError:
            return False

    def api(self, path: str, **query: str) -> Any:
        """The data of an answer of its API; an error of the query is an AssertionError."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """What an expression gives, now or at some time (seconds since the epoch)."""
        when = {} if at is None else {"time": str(at)}
        result = self.api("query", query=expression, **when)["result"]
        return [Sample(one["metric"], float(one["value"][1])) for one in result]

    def value(self, expression: str, at: float | None = None) -> float:
        """The same where it gives one series."""
        [sample] = self.query(expression, at)
        return sample.value

    def scraped(self) -> float:
        """Wait until all that happened so far is scraped; the time of it."""
        begun = time.time()
        last = 'timestamp(up{job="little-bell"}) and up{job="little-bell"} == 1'
        wait_until(lambda: any(s.value > begun for s in self.query(last)), 30)
        return time.time()
