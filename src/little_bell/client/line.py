"""A kept HTTP connection. What happens on it ends at a deadline, however slowly bytes come."""

import io
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ssl import SSLContext

PIECE = 1 << 16  # bytes read at once


class Request(NamedTuple):
    """What is to be asked."""

    method: str
    target: str  # path and query, percent-encoded
    body: bytes | None
    headers: dict[str, str]
    safe: bool  # may be sent twice: it changes nothing, or carries an Idempotency-Key
    most: int  # bytes that the answer's body may have


class Reply(NamedTuple):
    """A whole answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class TooLargeError(HTTPException):
    """The answer has more bytes than were asked for."""


class _Timed:
    """What http.client needs of a socket; each of its waits ends at the deadline."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.deadline = 0.0

    def arm(self) -> None:
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.sock.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self.arm()
        self.sock.sendall(data)  # its timeout is for all of it

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self.sock.makefile("rb", buffering=0), self.arm))

    def close(self) -> None:
        self.sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, raw: Any, arm: Callable[[], None]) -> None:
        self.raw = raw
        self.arm = arm

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.arm()
        count: int | None = self.raw.readinto(buffer)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class Line:
    """A connection to the bell. Raises OSError and HTTPException, and is closed then."""

    def __init__(self, host: str, port: int, context: "SSLContext | None", timeout: float) -> None:
        """Connect within `timeout` seconds for each address of the host; by TLS with `context`."""
        if context is None:
            self.connection = HTTPConnection(host, port, timeout=timeout)
        else:
            self.connection = HTTPSConnection(host, port, timeout=timeout, context=context)
        try:
            self.connection.connect()
        except BaseException:
            self.connection.close()
            raise
        self.timed = _Timed(self.connection.sock)
        self.connection.sock = self.timed
        self.connection.auto_open = 0
        self.used = 0.0  # when it was, in seconds of the monotonic clock

    def exchange(self, request: Request, deadline: float) -> tuple[Reply, bool]:
        """The answer, and whether the connection can be kept. `deadline`: monotonic seconds."""
        self.timed.deadline = deadline
        response: HTTPResponse | None = None
        try:
            try:
                self.connection.request(
                    request.method, request.target, request.body, request.headers
                )
            except ConnectionError:
                pass  # a refusal may come before all of the body was taken
            response = self.connection.getresponse()
            body = _read(response, request.most)
        except BaseException:
            if response is not None:
                response.close()
            self.close()
            raise
        headers = {name.lower(): value for name, value in response.getheaders()}
        keep = not response.will_close
        self.used = monotonic()
        if not keep:
            response.close()
            self.close()
        return Reply(response.status, headers, body), keep

    def close(self) -> None:
        self.connection.close()


def _read(response: HTTPResponse, most: int) -> bytes:
    """The body. Raises IncompleteRead where it was cut, TooLargeError beyond `most` bytes.

    One that is to end with the connection counts as cut, since nobody could tell.
    """
    body = bytearray()
    while piece := response.read(PIECE):
        body += piece
        if len(body) > most:
            raise TooLargeError
    if response.length or (response.length is None and not response.chunked):
        raise IncompleteRead(bytes(body[:PIECE]), response.length)
    return bytes(body)
