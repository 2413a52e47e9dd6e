"""Handing sockets from the fast lane to the slow one.

Messages to the slow lane are a request's bytes with the client's socket, or `number status first`:
what became of a batch or an erasure. Messages back are `route status microseconds`, one for each
answer, for the metrics, `exports number` of the long answers that go on, `number offset` with a
descriptor: a batch of emails to be created (see `store.batch_file`), or `erase number ...`: a
recipient to be erased. The fast lane owns the slow one's life: it starts the process on first need
and lets it go by closing the channel.
"""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from time import monotonic, sleep
from typing import NamedTuple

EXPORTS = "exports"  # in place of a route, with how many long answers are under way
ERASE = "erase"  # the same, with a recipient to be erased
MAX_MESSAGE = 131_072  # bytes: a head, and the largest body that is read before handing over
MAX_BODY = 65_536  # bytes of a body in a message; the slow lane reads longer ones itself
IN_FLIGHT = 256  # requests that the slow lane may hold at once
ARRIVALS = 16  # batches, and emails by themselves, that are taken at once
PACKET = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)


class Arrival(NamedTuple):
    """A batch that the slow lane parsed; whoever takes it closes the descriptor."""

    number: int  # by which the slow lane knows it
    descriptor: int
    offset: int  # of the plan in the file


class Wish(NamedTuple):
    """A recipient that a client wants to be erased."""

    number: int  # by which the slow lane knows it; 0: nobody waits for an answer
    tenant: str
    recipient: str
    address: str  # of the client, as shown

    def message(self) -> bytes:
        """What the slow lane sends."""
        recipient = self.recipient.encode("utf-8").hex()
        return f"{ERASE} {self.number} {self.tenant} {recipient} {self.address}".encode("ascii")


def read_wish(text: str) -> Wish:
    """What stands behind ERASE in such a message."""
    number, tenant, recipient, address = text.split(" ")
    return Wish(int(number), tenant, bytes.fromhex(recipient).decode("utf-8"), address)


class SlowLane:
    """The fast lane's end of the channel."""

    def __init__(self, environment: Mapping[str, str], idle_seconds: float) -> None:
        """`environment` is what the process is started with; it holds the settings."""
        self.environment = dict(environment)
        self.idle_seconds = idle_seconds
        self.channel: socket.socket | None = None
        self.pid = 0
        self.in_flight = 0
        self.exports = 0
        self.starts = 0
        self.last_used = 0.0  # monotonic
        self.crowded = False  # the last message found no room in the channel
        self.leaving: list[int] = []  # processes that were let go and have not ended yet
        self.arrivals: list[Arrival] = []
        self.wishes: list[Wish] = []
        self.untold: list[bytes] = []  # outcomes that the channel had no room for

    def hand_over(self, client: socket.socket, message: bytes, now: float) -> bool:
        """Give a client's socket away; the caller closes its own. False where it was not taken;
        `crowded` says whether it may be in a moment."""
        self.crowded = False
        if len(message) > MAX_MESSAGE or self.in_flight >= IN_FLIGHT:
            return False
        try:
            if self.channel is None:
                self.channel = self._start()
            socket.send_fds(self.channel, [message], [client.fileno()])
        except BlockingIOError:  # it holds a megabyte or two
            self.crowded = True
            return False
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
            # -P: what lies in the folder of the start is no module.
            # As descriptor 3: whatever else is open here is close-on-exec.
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "little_bell.wire.slow_lane"],
                self.environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.in_flight = self.exports = 0
        self.starts += 1
        return ours

    def reports(self) -> list[tuple[str, int, float]]:
        """What the slow lane answered since: (route, status, seconds from the whole request to
        its answer, 0.0: unknown), up to what fills `arrivals`: the rest is for the next turn.
        Forgets a process that ended."""
        found: list[tuple[str, int, float]] = []
        while self.channel is not None and len(self.arrivals) < ARRIVALS:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.channel, 4096, 1)
            except BlockingIOError:
                break
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.let_go()
                break
            first, _, second = data.decode("ascii").partition(" ")
            if descriptors:
                self.arrivals.append(Arrival(int(first), descriptors[0], int(second)))
                continue
            if first.isdigit():  # a batch; there was no descriptor left for its file
                self.tell(int(first), 503, 0)
                continue
            if first == EXPORTS:
                self.exports = int(second)
                self.last_used = monotonic()
                continue
            if first == ERASE:
                self.wishes.append(read_wish(second))
                continue
            status, micros = second.split()
            found.append((first, int(status), int(micros) / 1e6))
            self.in_flight -= 1
        return found

    def tell(self, number: int, status: int, first: int) -> None:
        """Say what became of a batch: a status of HTTP, and the first id where it is 201."""
        self.untold.append(f"{number} {status} {first}".encode("ascii"))
        self._tell()

    def _tell(self) -> None:
        while self.untold and self.channel is not None:
            try:
                self.channel.send(self.untold[0])
            except OSError:
                return  # no room: with the next one, or the next sweep
            del self.untold[0]

    def sweep(self, now: float) -> None:
        """Let an idle process go, and reap those that ended."""
        self._tell()
        if not (self.in_flight or self.exports) and now - self.last_used > self.idle_seconds:
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
            self.untold.clear()
            for arrival in self.arrivals:
                os.close(arrival.descriptor)
            self.arrivals.clear()
            self.wishes.clear()
            self.leaving.append(self.pid)
            self.in_flight = self.exports = 0

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
