"""A program while it runs: started, asked, watched, and gone when the `with` ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.errors import NotMeasuredError
from bench.programs import BROWSER, TENANT, Program

PATIENCE = 20.0  # seconds until a program that does not answer is given up
POLL = 0.0002  # seconds between two attempts to connect

PIXEL = (
    f"GET /{TENANT}/pixel/1.gif HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: {BROWSER}\r\n\r\n"
).encode("ascii")


class Running:
    """One process. Its standard output goes to a file, as a service manager would have it."""

    def __init__(self, program: Program, key: str = "") -> None:
        """Start it. What it prints is in `output` in its folder. `key` is asked with."""
        self.program = program
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.port = program.port
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        with (program.folder / "output").open("ab") as output:
            self.started = time.perf_counter()
            self.process = subprocess.Popen(
                program.command,
                cwd=program.folder,
                env={**inherited, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def first_answer(self) -> float:
        """Seconds from its start to the first answered pixel. Raises NotMeasuredError."""
        while time.perf_counter() - self.started < PATIENCE:
            if self.process.poll() is not None:
                break
            if self._answers():
                return time.perf_counter() - self.started
            time.sleep(POLL)
        said = (self.program.folder / "output").read_text(errors="replace")[-500:].strip()
        raise NotMeasuredError(f"{self.program.name} did not start: {said}")

    def _answers(self) -> bool:
        with socket.socket() as client:
            client.settimeout(PATIENCE)
            try:
                client.connect(("127.0.0.1", self.port))
                client.sendall(PIXEL)
                return client.recv(64).startswith(b"HTTP/1.1 200")
            except OSError:
                return False

    def listening(self) -> "Running":
        """Wait until it takes connections, without a request. Raises NotMeasuredError."""
        while time.perf_counter() - self.started < PATIENCE and self.process.poll() is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.005)
        raise NotMeasuredError(f"{self.program.name} did not start")

    def ask(
        self, method: str, target: str, body: object = None, accept: str = "application/json"
    ) -> tuple[int, bytes]:
        """One request on a connection of its own; returns status and body."""
        data = None if body is None else json.dumps(body)
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            client.request(
                method, target, data, self.headers | {"User-Agent": BROWSER, "Accept": accept}
            )
            response = client.getresponse()
            return response.status, response.read()
        finally:
            client.close()

    def metrics(self) -> dict[str, Any]:
        """Little Bell's /metrics."""
        found: dict[str, Any] = json.loads(self.ask("GET", "/metrics")[1])
        return found

    def resident(self) -> float:
        """MiB of memory in RAM, children included (VmRSS)."""
        pids = [self.process.pid, *children(self.process.pid)]
        return sum(resident(pid) for pid in pids)

    def stop(self) -> None:
        """SIGTERM, and wait; SIGKILL if it does not go."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.process.kill()
        self.process.wait()


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> float:
    """VmRSS of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise NotMeasuredError("this system does not tell a process's memory")
