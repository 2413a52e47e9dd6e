"""A server with the routes of `more_routes`, and clients for its long answers."""

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bell import Bell, Line, raw_request

FOLDER = Path(__file__).parent / "more_routes"


def body_of(pieces: int, size: int) -> bytes:
    """What a stream of so many pieces of so many bytes is."""
    return b"".join((b"%08d\n" % number * (size // 9 + 1))[:size] for number in range(pieces))


class Streaming(Bell):
    """Answers `/acme/stream` and `/acme/whole` as their query says."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.notes_file = folder / "notes.txt"
        settings |= {"PYTHONPATH": str(FOLDER), "NOTES": str(self.notes_file)}
        super().__init__(folder, None, **settings)

    def notes(self, name: str) -> list[str]:
        """What was noted of a stream so far: begun, numbers of pieces, closed."""
        lines = self.notes_file.read_text().splitlines() if self.notes_file.exists() else []
        return [line.split()[1] for line in lines if line.split()[0] == name]

    def made(self, name: str) -> int:
        """How many of its pieces are made."""
        return sum(note.isdecimal() for note in self.notes(name))

    def threads(self, name: str) -> set[str]:
        """Those that made its pieces."""
        lines = self.notes_file.read_text().splitlines()
        return {
            line.split()[2] for line in lines if line.split()[0] == name and line.count(" ") > 1
        }

    def failures(self) -> list[str]:
        return [one["fields"]["error"] for one in self.lines() if "error" in one.get("fields", {})]

    @contextmanager
    def asking(self, target: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", target, headers=given)
            yield connection.getresponse()
        finally:
            connection.close()

    def begin(self, target: str, *lines: str, version: str = "1.1") -> Line:
        """A client with a small buffer that asked, and has not read anything yet."""
        line = Line(self.port, receive_buffer=16_384)
        line.send(raw_request(target, *lines, version=version))
        return line


def resident(pid: int) -> int:
    """Bytes of memory that a process has (Linux)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
