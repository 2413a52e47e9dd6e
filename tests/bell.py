"""A real Little Bell: a process on a free port, with a database file of its own."""

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36"
)


class Answer(NamedTuple):
    """One answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Bell:
    """Starts, asks, stops and kills one server."""

    def __init__(self, folder: Path, program: list[str] | None = None, **settings: str) -> None:
        """`program` replaces `python -m little_bell`; settings are environment variables."""
        self.folder = folder
        self.database = folder / "data" / "tracking.db"
        self.settings = settings
        self.program = program or [sys.executable, "-m", "little_bell"]
        self.log_file = folder / "stdout.log"
        self.error_file = folder / "stderr.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start_seconds = 20.0

    def start(self) -> "Bell":
        """Start and wait until it listens."""
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
        environment = {**inherited, "PORT": "0", "HOST": "127.0.0.1", **self.settings}
        begin = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as out, self.error_file.open("ab") as err:
            self.process = subprocess.Popen(
                self.program, cwd=self.folder, env=environment, stdout=out, stderr=err
            )
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            with self.log_file.open("rb") as log:
                log.seek(begin)
                for line in log:
                    if b"Little Bell is listening" in line and line.endswith(b"\n"):
                        self.port = json.loads(line)["fields"]["port"]
                        return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"it did not start: {self.error_file.read_text()}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, timeout: float = 15) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | str | dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own. A dict is sent as JSON."""
        data = json.dumps(body) if isinstance(body, dict) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, data, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Answer:
        """GET; keyword arguments are headers with _ for -, and the user agent is a browser's."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", target, headers={"User-Agent": BROWSER, **given})

    def create(self, tenant: str = "acme", **members: Any) -> int:
        """A new email; returns its id."""
        answer = self.ask("POST", f"/{tenant}/emails", members)
        assert answer.status == 201, answer
        email: int = answer.json["email_id"]
        return email

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, each line parsed."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database, read beside the running server."""
        return list(read_rows(self.database, sql, *values))

    def metrics(self) -> dict[str, Any]:
        """/metrics as JSON."""
        found: dict[str, Any] = self.ask(
            "GET", "/metrics", None, {"Accept": "application/json"}
        ).json
        return found


def read_rows(path: Path, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
    """Rows by the standard library's SQLite: another reader than the server's own."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        yield from connection.execute(sql, values)
    finally:
        connection.close()
