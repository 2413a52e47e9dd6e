"""Handing sockets from the fast lane to the slow one.

Messages to the slow lane are a request's bytes with the client's socket; messages back are
`route status` lines, one for each answer, for the metrics. The fast lane owns the slow one's
life: it starts the process on first need and lets it go by closing the channel.
"""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from time import monotonic, sleep

MAX_MESSAGE = 131_072  # bytes: a head, and the largest body that is read before handing over
IN_FLIGHT = 256  # requests that the slow lane may hold at once
PACKET = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)


class SlowLane:
    """The fast lane's end of the channel."""

    def __init__(self, environment: Mapping[str, str], idle_seconds: float) -> None:
        """`environment` is what the process is started with; it holds the settings."""
        self.environment = dict(environment)
        self.idle_seconds = idle_seconds
        self.channel: socket.socket | None = None
        self.pid = 0
        self.in_flight = 0
        self.starts = 0
        self.last_used = 0.0  # monotonic
        self.leaving: list[int] = []  # processes that were let go and have not ended yet

    def hand_over(self, client: socket.socket, message: bytes, now: float) -> bool:
        """Give a client's socket away; the caller closes its own. False where it was not taken."""
        if len(message) > MAX_MESSAGE or self.in_flight >= IN_FLIGHT:
            return False
        try:
            if self.channel is None:
                self.channel = self._start()
            socket.send_fds(self.channel, [message], [client.fileno()])
        except OSError:  # it takes no more, or no descriptor or process can be had
            return False
        self.in_flight += 1
        self.last_used = now
        return True

    def _start(self) -> socket.socket:
        """A new process; returns our end of its channel. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, PACKET)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MAX_MESSAGE)
        try:
            # As descriptor 3: whatever else is open here is close-on-exec.
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "little_bell.wire.slow_lane"],
                self.environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.in_flight = 0
        self.starts += 1
        return ours

    def reports(self) -> list[tuple[str, int]]:
        """What the slow lane answered since: (route, status). Forgets a process that ended."""
        found: list[tuple[str, int]] = []
        while self.channel is not None:
            try:
                data = self.channel.recv(4096)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.let_go()
                break
            route, _, status = data.decode("ascii").partition(" ")
            found.append((route, int(status)))
            self.in_flight -= 1
        return found

    def sweep(self, now: float) -> None:
        """Let an idle process go, and reap those that ended."""
        if not self.in_flight and now - self.last_used > self.idle_seconds:
            self.let_go()
        for pid in list(self.leaving):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self.leaving.remove(pid)

    def let_go(self) -> None:
        """Close the channel: the process finishes what it has and ends."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
            self.leaving.append(self.pid)
            self.in_flight = 0

    def stop(self, seconds: float) -> None:
        """Let the process end; after so many seconds end it."""
        self.let_go()
        deadline = monotonic() + seconds
        while self.leaving and monotonic() < deadline:
            sleep(0.01)
            self.sweep(monotonic())
        for pid in self.leaving:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        self.leaving.clear()
