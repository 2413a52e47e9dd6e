"""One request in the slow lane: its body comes in, its answer goes out, at the client's pace."""

import tempfile
from socket import MSG_DONTWAIT, SHUT_WR, SO_LINGER, SOL_SOCKET, socket
from struct import pack
from typing import BinaryIO, cast

from little_bell.wire.http import CONTINUE, MAX_HEAD, MAX_HEADERS, Reader, Request
from little_bell.wire.listener import packed
from little_bell.wire.stream import Stream

IN_MEMORY = 1 << 17  # bytes of a body that need no file
RECEIVE = 1 << 16  # bytes read at once
SLOWEST = 1 << 14  # bytes a second that a client has to take or to bring, after its patience
FOREVER = float("inf")


class Exchange:
    """State of one handed-over request. Only the loop in `slow_lane` touches its socket."""

    def __init__(self, client: socket, message: bytes, now: float, seconds: float) -> None:
        """`message` is a request, whole or up to somewhere in its body; the rest may take so many
        seconds and a second more for each SLOWEST bytes. `now` is monotonic seconds.

        Raises OSError where the client is gone already."""
        self.peer = packed(client.getpeername())
        self.client = client
        # Handing over adds to a head that was within its limits.
        self.reader = Reader(0, lambda _request, _length: True, 2 * MAX_HEAD, 2 * MAX_HEADERS)
        self.reader.feed(message)
        self.request = Request()
        self.segments: list[bytes] = []
        self.query = b""
        self.route = "none"
        self.page = True  # problems are told in a page
        self.batch = False  # it is one of emails
        self.form = ""  # of a batch, once its body is known
        self.body: BinaryIO | None = None
        self.spooled = 0  # bytes of it, roughly
        self.whole = False  # the request is
        self.whole_at = 0.0  # monotonic, since then
        self.answered = False  # its answer is made
        self.stream: Stream | None = None  # where the answer is a long one
        self.out = memoryview(b"")
        self.lingering = False  # all is sent; what still comes is thrown away
        self.mask = 0  # of events that the loop waits for
        self.seconds = seconds
        self.since = now
        self.deadline = now + seconds  # monotonic

    def spool_body(self, folder: str, most: int) -> None:
        """Read the body of the request into a file without a name. Raises BadRequest (413)."""
        file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=folder or ".")  # noqa: SIM115
        self.body = cast(BinaryIO, file)
        self.reader.go_on(self.body, most)
        if self.reader.expects:
            self.reader.expects = False
            self.client.send(CONTINUE, MSG_DONTWAIT)

    def receive(self, now: float) -> bool:
        """Take what came; False at the end of it. Raises BlockingIOError, OSError."""
        data = self.client.recv(RECEIVE, MSG_DONTWAIT)
        self.reader.feed(data)
        if self.body is not None:
            self.spooled += len(data)
        self.deadline = self.since + self.seconds + self.reader.size / SLOWEST
        self.deadline = max(self.deadline, now)
        return bool(data)

    def send(self) -> bool:
        """Hand over what the kernel takes; True once that is all. Raises OSError."""
        try:
            while self.out:
                taken = self.client.send(self.out, MSG_DONTWAIT)
                self.out = self.out[taken:]
                self.deadline += taken / SLOWEST
        except BlockingIOError:
            return False
        return True

    def answer(self, data: bytes, now: float, seconds: float) -> None:
        """From now on this is sent; it may take so many seconds and one for each SLOWEST bytes.

        It is the whole answer, or the next piece of a long one."""
        self.answered = True
        self.since = now
        self.out = memoryview(data)
        self.deadline = now + seconds
        self._forget_body()

    def linger(self, now: float, seconds: float) -> bool:
        """Say that all is sent; True where the client has to be listened to for a while: unread
        bytes would make close() reset the connection and lose the answer."""
        self.client.shutdown(SHUT_WR)
        self.lingering = True
        self.deadline = now + seconds
        return not self.whole or not self.drain()

    def drain(self) -> bool:
        """Throw away what came; True at the end of it, or where there is nothing now."""
        try:
            for _ in range(16):
                if not self.client.recv(RECEIVE, MSG_DONTWAIT):
                    return True
        except BlockingIOError:
            return self.whole
        return False

    def close(self) -> None:
        if self.stream is not None and self.answered and self.request.old:
            # To HTTP/1.0 the end of the connection is that of the body: only a reset says "cut".
            self.client.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
        self.client.close()
        self.reader.close()
        self._forget_body()

    def _forget_body(self) -> None:
        self.spooled = 0
        if self.body is not None:
            try:
                self.body.close()
            except OSError:
                pass  # a full disk did not take the last bytes: nobody needs them any more
            self.body = None
