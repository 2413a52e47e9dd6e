"""One client's connection: its bytes in, its answers out, its deadline."""

from socket import socket

from little_bell.wire.http import Reader, Request


class Later:
    """In place of an answer: it follows from the tick's commit."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer = b""


class Connection:
    """State of one connection. The loop in `server` drives it."""

    __slots__ = (
        "closing",
        "control",
        "deadline",
        "hand_over",
        "held",
        "lingering",
        "number",
        "out",
        "owed",
        "peer",
        "reader",
        "socket",
        "unsent",
        "writing",
    )

    def __init__(self, sock: socket, peer: bytes, reader: Reader, control: bool) -> None:
        self.socket = sock
        self.peer = peer  # packed address
        self.control = control  # it came over the control socket
        self.reader = reader
        self.out: list[bytes | Later] = []  # answers of this tick
        self.unsent = b""  # what the kernel did not take yet
        self.writing = False  # the loop waits until the kernel takes more
        # A request for the slow lane, once all is sent and there is room for it, as bytes too.
        self.hand_over: tuple[Request, bytes] | None = None
        self.closing = False  # no further request is read
        self.lingering = False  # all is sent; what still comes is thrown away
        self.held = 0  # bytes of an unfinished request, as `room` counts them
        self.owed = 0  # bytes of `unsent`, as `room` counts them
        self.number = 0  # in the order of acceptance
        self.deadline = 0.0  # monotonic seconds

    @property
    def idle(self) -> bool:
        """Nothing of a request has come, nothing is to be sent or handed over."""
        reader = self.reader
        busy = reader.reading or self.unsent or self.out or reader.buffer
        return not busy and self.hand_over is None

    def refuse(self, answer: bytes) -> None:
        """Answer what is not read to its end, and close once the client stops sending."""
        self.out.append(answer)
        self.closing = True
        self.lingering = True

    def collect(self) -> None:
        """Make this tick's answers the bytes to send."""
        out = self.out
        if out:
            answers = [one if isinstance(one, bytes) else one.answer for one in out]
            self.unsent += answers[0] if len(answers) == 1 else b"".join(answers)
            out.clear()
