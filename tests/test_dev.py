"""`make dev` starts anew after a change; `make audit` passes nothing that it could not look up."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bell import Bell, wait_until
from programs import free_port

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
MAKE = ["make", "--silent", "--old-file=.venv/dev", f"BIN={BIN}"]  # nothing is installed again


# make dev


class Workshop(Bell):
    """A copy of the code under `make dev`, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        # Its own process group, as in a terminal: whatever happens, all of it can be ended.
        super().__init__(
            folder,
            ["setsid", *MAKE, "dev"],
            PORT=str(free_port()),
            PYTHONPATH=str(folder / "src"),
        )

    def starts(self) -> list[int]:
        """The process of each start so far."""
        return [
            line["fields"]["pid"]
            for line in self.lines()
            if line["message"] == "Little Bell is listening"
        ]

    def end(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        super().end()


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """`make dev` that listens."""
    workshop = Workshop(tmp_path)
    try:
        workshop.start()
        yield workshop
    finally:
        workshop.end()


def test_it_starts_anew_after_each_change(workshop: Workshop) -> None:
    assert workshop.create("acme") == 1
    assert (workshop.folder / "data" / "dev.db").exists()
    wait_until(lambda: any(line["level"] == "DEBUG" for line in workshop.lines()))

    # Not only Python: a file of the pages, too. The port is the same, so the first one let it go.
    style = next((workshop.folder / "src" / "little_bell" / "pages" / "static").glob("*.css"))
    style.write_text(style.read_text() + "\n")
    wait_until(lambda: len(workshop.starts()) == 2)
    assert [line["message"] for line in workshop.lines()].count("Stopped") == 1
    assert workshop.create("acme") == 2, "the same database"

    # What cannot be run is said, and waited for.
    code = workshop.folder / "src" / "little_bell" / "cli.py"
    good = code.read_text()
    code.write_text(good + "def (\n")
    wait_until(lambda: "SyntaxError" in workshop.error_file.read_text())
    code.write_text(good)
    wait_until(lambda: len(workshop.starts()) == 3)
    assert workshop.create("acme") == 3

    assert len(set(workshop.starts())) == 3
    os.killpg(workshop.pid, signal.SIGTERM)  # as Ctrl-C, which a background job does not get
    assert workshop.process is not None
    workshop.process.wait(20)
    assert [line["message"] for line in workshop.lines()].count("Stopped") == 3


# make audit


@contextmanager
def advisories(vulnerable: str = "") -> Iterator[tuple[str, list[str]]]:
    """A database of advisories that speaks OSV's language; its address, and who was asked for."""
    asked: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = question["package"]["name"]
            asked.append(f"{name}=={question['version']}")
            found = {
                "id": "PYSEC-2099-1",
                "summary": "made up",
                "affected": [
                    {
                        "package": {"name": name, "ecosystem": "PyPI"},
                        "ranges": [
                            {
                                "type": "ECOSYSTEM",
                                "events": [{"introduced": "0"}, {"fixed": "99"}],
                            }
                        ],
                    }
                ],
            }
            body = json.dumps({"vulns": [found]} if name == vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def audit(address: str, **environment: str) -> tuple[int, str]:
    """`make audit` with this database of advisories: (exit code, all that it says)."""
    service = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": address}
    ran = subprocess.run(
        [*MAKE, "audit"],
        cwd=ROOT,
        env={**os.environ, **service, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return ran.returncode, ran.stdout


def test_a_known_vulnerability_fails_the_audit() -> None:
    with advisories(vulnerable="jinja2") as (address, asked):
        code, said = audit(address)
    assert code != 0
    assert "PYSEC-2099-1" in said
    assert "The audit failed" in said
    pins = [
        line.lower().replace("_", "-").replace(".", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert sorted(pin.replace(".", "-") for pin in asked) == sorted(pins)


def test_what_cannot_be_looked_up_fails_the_audit() -> None:
    code, said = audit(f"http://127.0.0.1:{free_port()}/")
    assert code != 0
    assert "The audit failed" in said
