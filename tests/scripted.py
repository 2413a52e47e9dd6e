"""A server that answers by a script: for failures that a real one does not produce on demand."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Act = Callable[[socket.socket, bytes], None]
"""What becomes of one request: its connection, and the request's bytes, head and body."""


def answer(
    status: int,
    body: bytes = b"",
    kind: str = "application/json",
    *headers: str,
    length: int | None = None,
) -> Act:
    """An answer; `length` is what it says of its body, where that is a lie."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", f"Content-Length: {size}"]
    data = "\r\n".join([*lines, *headers, "", ""]).encode() + body
    return lambda connection, _request: connection.sendall(data)


def raw(data: bytes) -> Act:
    """Bytes, and the end of the connection."""

    def act(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    return act


def cut(connection: socket.socket, _request: bytes) -> None:
    """The end of the connection, without an answer."""
    connection.shutdown(socket.SHUT_RDWR)


def drip(data: bytes, every: float) -> Act:
    """A byte at a time."""

    def act(connection: socket.socket, _request: bytes) -> None:
        gone = threading.Event()
        for at in range(len(data)):
            try:
                connection.sendall(data[at : at + 1])
            except OSError:
                return
            gone.wait(every)

    return act


def forward(port: int, deliver: bool = True) -> Act:
    """Have another server answer; where not to `deliver`, its answer gets lost on the way."""

    def act(connection: socket.socket, request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as other:
            other.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while more := other.recv(65536):
                answer += more
        assert answer
        if deliver:
            connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    return act


class Scripted:
    """Does with each request what stands next in the script; the last entry stays."""

    def __init__(self, script: list[Act]) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.lock = threading.Lock()
        self.threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self, run: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=run, args=given, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            while request := self._read(connection):
                with self.lock:
                    at = min(len(self.requests), len(self.script) - 1)
                    self.requests.append(request)
                self.script[at](connection, request)
        except OSError:
            pass

    def _read(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        size = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        while len(body) < size:
            more = connection.recv(65536)
            if not more:
                return b""
            body += more
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        for one in (self.listener, *self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
        for thread in self.threads:
            thread.join(10)


@contextmanager
def scripted(*script: Act) -> Iterator[Scripted]:
    """A server for as long as the `with` block lasts."""
    server = Scripted(list(script))
    try:
        yield server
    finally:
        server.close()


def header_of(request: bytes, name: str) -> str | None:
    """A header of a request."""
    for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        found, _, value = line.decode("latin-1").partition(":")
        if found.lower() == name.lower():
            return value.strip()
    return None
