"""HTTP/1.1 as values: requests read from bytes by llhttp, answers written to bytes.

Grammar is llhttp's (RFC 9112, strict). What is ours is framing: a head or a body is fed to the
parser no further than its end, so that a flood of pipelined requests waits in the buffer instead of
being taken all at once.
"""

from collections.abc import Callable
from time import gmtime, strftime, time
from typing import BinaryIO

import httptools

MAX_HEAD = 16_384  # bytes of request line and headers
MAX_HEADERS = 100

REASON_PHRASES = {
    100: "Continue",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

KNOWN_HOSTS: set[bytes] = set()  # values of Host that were found well-formed
HOST_CHARS = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%"
)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Headers = tuple[tuple[str, str], ...]


class BadRequest(Exception):  # noqa: N818 - it is what the client sent, not our error
    """The bytes are no request that is served: answer `status` and close."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def is_host(value: bytes) -> bool:
    """Whether a Host is `uri-host [":" port]` (RFC 9112 3.2), perhaps empty. Good ones are kept."""
    if value.startswith(b"["):  # an IPv6 address
        host, _, port = value[1:].replace(b"]:", b"]").partition(b"]")
        host = host.replace(b":", b"")
    else:
        host, _, port = value.partition(b":")
    if (port and not port.isdigit()) or not HOST_CHARS.issuperset(host):
        return False
    if len(KNOWN_HOSTS) < 256 and len(value) < 256:
        KNOWN_HOSTS.add(value)
    return True


class Request:
    """One request. Header names are lower-case; repeated ones are joined by commas (RFC 9110)."""

    __slots__ = ("body", "headers", "keep_alive", "method", "old", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = False
        self.old = False  # HTTP/1.0

    @property
    def head_only(self) -> bool:
        return self.method == b"HEAD"

    def dump(self) -> bytes:
        """The request as bytes again, for the other lane: the connection ends with it."""
        framing = (b"content-length", b"transfer-encoding", b"expect")
        return self._head(framing, b"content-length: %d\r\n" % len(self.body)) + self.body

    def dump_head(self) -> bytes:
        """The same, of a request whose body is still to come in the form its head says."""
        return self._head((), b"")

    def _head(self, without: tuple[bytes, ...], framing: bytes) -> bytes:
        lines = [self.method + b" " + self.target + b" HTTP/1." + (b"0" if self.old else b"1")]
        lines += [
            name + b": " + value
            for name, value in self.headers.items()
            if name != b"connection" and name not in without
        ]
        return b"\r\n".join((*lines, b"connection: close", framing, b""))


class Reader:
    """Reads the requests of one connection.

    `feed` takes bytes; `next` gives the next whole request, or None until more bytes came.
    Memory is bounded by MAX_HEAD, `max_body` and what `feed` was given.
    """

    __slots__ = (
        "_body",
        "_body_left",
        "_body_size",
        "_done",
        "_parser",
        "_request",
        "_tail",
        "buffer",
        "divert",
        "diverted",
        "expects",
        "max_body",
        "max_head",
        "max_headers",
        "reading",
        "size",
        "spool",
    )

    def __init__(
        self,
        max_body: int,
        divert: Callable[[Request, int], bool] | None = None,
        max_head: int = MAX_HEAD,
        max_headers: int = MAX_HEADERS,
    ) -> None:
        """`divert` is asked at the head of a request with a body (of so many bytes, -1: chunked)
        whether somebody else reads that body: then `next` gives the request without it, `diverted`
        is true, and `buffer` holds what came of the body so far."""
        self.divert = divert
        self.max_body = max_body
        self.max_head = max_head
        self.max_headers = max_headers
        self.buffer = b""  # what may hold more requests
        self.size = 0  # bytes fed of the request under way
        self.reading = False  # in the middle of a request
        self.expects = False  # the client waits for `100 Continue`
        self.diverted = False
        self.spool: BinaryIO | None = None
        self._request = Request()
        self._body = bytearray()
        self._body_size = 0
        self._body_left: int | None = None  # bytes, -1: chunked, None: still in the head
        self._done = False
        self._tail = b""  # end of a head that came in parts
        self._parser = httptools.HttpRequestParser(self)

    def close(self) -> None:
        """Break the cycle with the parser, so that memory goes back at once."""
        del self._parser

    def feed(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data

    def next(self) -> Request | None:
        """The next whole request. Raises BadRequest."""
        while not self._done:
            buffer = self.buffer
            if not buffer:
                return None
            left = self._body_left
            if left is None:
                self._feed_head(buffer)
                if self.diverted:
                    return self._request
            elif left < 0:
                self.buffer = b""
                self.size += len(buffer)
                # Chunk sizes, extensions and trailers are bytes, too.
                if self.size > self.max_head + 2 * self.max_body:
                    raise BadRequest(413, f"the body is larger than {self.max_body} bytes")
                self._parse(buffer)
            else:
                part = buffer[:left]
                self.buffer = buffer[left:]
                self._body_left = left - len(part)
                self.size += len(part)
                self._parse(part)
        request = self._request
        if self._body:
            request.body = bytes(self._body)
            self._body = bytearray()
        self.size = 0
        self.reading = self._done = self.expects = False
        self._body_left = None
        self._body_size = 0
        return request

    def go_on(self, spool: BinaryIO, max_body: int) -> None:
        """Read the body of a diverted request after all, into a file. Raises BadRequest (413)."""
        self.diverted = False
        self.spool = spool
        self.max_body = max_body
        self._check_length()

    def _check_length(self) -> None:
        if self._body_left is not None and self._body_left > self.max_body:
            raise BadRequest(413, f"the body is larger than {self.max_body} bytes")

    def _feed_head(self, buffer: bytes) -> None:
        """Feed what belongs to the head, and no byte behind it."""
        if not self.reading:
            if buffer[0] in b"\r\n":  # empty lines before a request line (RFC 9112 2.2)
                self.buffer = buffer.lstrip(b"\r\n")
                return
            self.reading = True
            self._request = Request()
            self._tail = b""
        end = (self._tail + buffer).find(b"\r\n\r\n")
        if end < 0:
            head, self.buffer = buffer, b""
            self._tail = (self._tail + buffer)[-3:]
        else:
            end += 4 - len(self._tail)
            head, self.buffer = buffer[:end], buffer[end:]
        self.size += len(head)
        if self.size > self.max_head:
            raise BadRequest(431, "the request line and headers are too large")
        self._parse(head)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
            return
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: answered as if it had not been asked for
            # (RFC 9110 7.8), and closed, since what follows may be of that protocol.
            pass
        except httptools.HttpParserCallbackError as error:
            if not self._done:
                raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            if not self._done:
                raise BadRequest(400, f"malformed request: {error}") from None
        # What came behind a whole request cannot be served: answer that one and close.
        self._request.keep_alive = False
        self.buffer = b""

    # What llhttp calls

    def on_url(self, url: bytes) -> None:
        self._request.target += url  # in parts where it came in parts

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._body_left is not None:
            return  # a trailer: nothing here reads any
        name = name.lower()
        headers = self._request.headers
        if name in headers:
            if name == b"host":
                raise BadRequest(400, "more than one Host")
            value = headers[name] + b", " + value
        elif len(headers) >= self.max_headers:
            raise BadRequest(431, "too many headers")
        headers[name] = value

    def on_headers_complete(self) -> None:
        request = self._request
        headers = request.headers
        parser = self._parser
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                status = 505 if version > "1.1" else 400
                raise BadRequest(status, "HTTP/1.1 and HTTP/1.0 are spoken here")
            request.old = True
        host = headers.get(b"host")
        if host is None:
            if not request.old:
                raise BadRequest(400, "a request of HTTP/1.1 names its Host")
        elif host not in KNOWN_HOSTS and not is_host(host):
            raise BadRequest(400, "the Host is malformed")
        self._body_left = 0
        if b"transfer-encoding" in headers:
            if request.old:
                raise BadRequest(400, "HTTP/1.0 has no Transfer-Encoding")
            if headers[b"transfer-encoding"].lower() != b"chunked":
                raise BadRequest(400, "the only Transfer-Encoding understood is chunked")
            self._body_left = -1
        elif b"content-length" in headers:
            self._body_left = int(headers[b"content-length"])
        if not self._body_left:
            return
        if b"expect" in headers:
            if headers[b"expect"].lower() != b"100-continue":
                raise BadRequest(417, "only 100-continue can be expected")
            self.expects = not request.old
        if self.divert is not None and self.divert(request, self._body_left):
            self.diverted = True
        else:
            self._check_length()

    def on_body(self, data: bytes) -> None:
        self._body_size += len(data)
        if self._body_size > self.max_body:
            raise BadRequest(413, f"the body is larger than {self.max_body} bytes")
        if self.spool is not None:
            self.spool.write(data)
        else:
            self._body += data

    def on_message_begin(self) -> None:
        if self._done:
            # Only behind a chunked body can the parser run into the next request.
            raise BadRequest(400, "a request behind a chunked body came too early")

    def on_message_complete(self) -> None:
        self._done = True


class Answers:
    """Writes answers. The Date (RFC 9110 6.6.1) is made once a second by `tick`."""

    __slots__ = ("_parts", "_second", "date", "prepared")

    def __init__(self) -> None:
        self._second = -1  # none yet
        self._parts: dict[tuple[str, bool, bytes], tuple[bytes, bytes]] = {}
        self.date = b""
        self.prepared: dict[tuple[str, bool, bytes], bytes] = {}
        self.tick(time())

    def tick(self, now: float) -> None:
        """Let time pass: `now` is in seconds since the epoch."""
        second = int(now)
        if second != self._second:
            self._second = second
            self.date = strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime(second)).encode()
            for key, (head, rest) in self._parts.items():
                self.prepared[key] = head + self.date + rest

    def prepare(self, name: str, status: int, headers: Headers, body: bytes) -> None:
        """Keep an answer ready: `prepared[name, head_only, connection_line]` is its bytes."""
        head = status_line(status)
        fields = header_lines(headers) + b"Content-Length: %d\r\n" % len(body)
        for head_only in (False, True):
            for line in (b"", CLOSE, KEEP_ALIVE):
                rest = fields + line + b"\r\n" + (b"" if head_only else body)
                self._parts[name, head_only, line] = (head, rest)
                self.prepared[name, head_only, line] = head + self.date + rest

    def write(self, request: Request, status: int, headers: Headers, body: bytes) -> bytes:
        """One answer to one request, whole."""
        parts = [status_line(status), self.date, header_lines(headers)]
        if status not in (204, 304):
            parts.append(b"Content-Length: %d\r\n" % len(body))
        parts.append(connection_line(request))
        parts.append(b"\r\n")
        if not request.head_only:
            parts.append(body)
        return b"".join(parts)

    def begin(self, request: Request, status: int, headers: Headers) -> bytes:
        """The head of an answer of unknown length: in chunks, or to HTTP/1.0 up to the end."""
        framing = b"" if request.old else b"Transfer-Encoding: chunked\r\n"
        fields = header_lines(headers) + framing + connection_line(request)
        return status_line(status) + self.date + fields + b"\r\n"


CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"  # only HTTP/1.0 needs to be told


def connection_line(request: Request) -> bytes:
    """What the answer says of the connection."""
    if not request.keep_alive:
        return CLOSE
    return KEEP_ALIVE if request.old else b""


def status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {REASON_PHRASES[status]}\r\n".encode("ascii")


def header_lines(headers: Headers) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("ascii")
