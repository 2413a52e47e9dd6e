"""SIGTERM and SIGINT as a socket that becomes readable, so that the loop wakes up for them."""

import signal
import socket


class Signals:
    """Takes the signals over until `close`. One per process, in its main thread."""

    __slots__ = ("_other", "socket")

    def __init__(self) -> None:
        self.socket, self._other = socket.socketpair()
        for end in (self.socket, self._other):
            end.setblocking(False)
        signal.set_wakeup_fd(self._other.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)

    def drain(self) -> None:
        """Take note of the signals that came."""
        self.socket.recv(64)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self.socket.close()
        self._other.close()
