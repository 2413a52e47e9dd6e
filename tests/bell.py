"""A real Little Bell: a process on a free port, with a database file of its own."""

import http.client
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pytest

# What reads /proc or limits others: needed on Linux, where it has to be there, and elsewhere not.
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, as Linux has it")

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

    def warnings(self) -> list[dict[str, Any]]:
        """What the log says beyond INFO, but for what a start says while a tenant is open."""
        return [
            line
            for line in self.lines()
            if line["level"] != "INFO" and not line["message"].startswith("Anybody may read")
        ]

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


# For the tests of endpoints and wire.

NAMES = itertools.count(1)
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]+")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~]*)")


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Bell]:
    """A server for as long as the `with` block lasts: for fixtures that tests share."""
    bell = Bell(folder, None, **settings)
    try:
        yield bell.start()
    finally:
        bell.end()


def fresh_tenant() -> str:
    """A tenant that no test used yet, where tests share a server."""
    return f"tenant{next(NAMES)}"


def wait_until(condition: Callable[[], object], timeout: float = 20) -> None:
    """Wait until something holds; fails when it does not come true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def dump(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    tables = [
        name
        for (name,) in read_rows(database, "SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]
    return {
        name: list(read_rows(database, f"SELECT * FROM {name} ORDER BY 1, 2"))
        for name in tables
        if not name.startswith("sqlite_")
    }


def events(bell: Bell, tenant: str) -> list[tuple[int, str]]:
    """A tenant's log: (email, open or click)."""
    rows = bell.rows(
        "SELECT email, kind FROM events JOIN tenants USING (tenant) WHERE name = ? ORDER BY seq",
        tenant,
    )
    return [(email, ("open", "click", "capped")[kind]) for email, kind in rows]


def raw_request(
    target: str = "/health",
    *lines: str,
    method: str = "GET",
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """A request as bytes; `lines` are whole header lines beside Host and Content-Length."""
    head = [f"{method} {target} HTTP/{version}", "Host: bell", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")


class Line:
    """A raw connection: any bytes out, whole answers in."""

    def __init__(self, port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        """`receive_buffer` bounds what the kernel takes for a client that does not read."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> "Line":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def no_more(self) -> None:
        """Half-close: nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a RST, as a client that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _more(self) -> bool:
        """Read; False at the end. A reset is an end as well."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.buffer += data
        return bool(data)

    def answer(self, head_only: bool = False) -> Answer:
        """The next whole answer, its form checked (RFC 9112). `head_only`: it answers a HEAD."""
        while b"\r\n\r\n" not in self.buffer:
            assert self._more(), f"the connection ended without a whole answer: {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status_line = STATUS_LINE.fullmatch(first)
        assert status_line, first
        headers: dict[str, str] = {}
        for line in lines:
            header = HEADER_LINE.fullmatch(line)
            assert header, line
            name = header[1].decode().lower()
            assert name not in headers, f"{name} twice"
            headers[name] = header[2].decode()
        status = int(status_line[1])
        if status < 200 or status == 204:
            assert "content-length" not in headers
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            return Answer(status, headers, b"" if head_only else self._chunks())
        size = 0 if head_only else int(headers["content-length"])
        return Answer(status, headers, self._take(size))

    def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            assert self._more(), "the connection ended within a body"
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _chunks(self) -> bytes:
        """A body in chunks (RFC 9112 7.1), without extensions and trailers."""
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                assert self._more(), "the connection ended within a body"
            size, _, self.buffer = self.buffer.partition(b"\r\n")
            chunk = self._take(int(size, 16) + 2)
            assert chunk.endswith(b"\r\n")
            body += chunk[:-2]
            if chunk == b"\r\n":
                return body

    def rest(self) -> bytes:
        """Whatever still comes until the server closes."""
        while self._more():
            pass
        return self.buffer

    @property
    def closed(self) -> bool:
        """Whether the server closed, without another byte. Waits for it."""
        return self.rest() == b""


def exchange(bell: Bell, data: bytes) -> Answer:
    """Send bytes on a connection of their own; the first answer."""
    with Line(bell.port) as line:
        line.send(data)
        return line.answer()
