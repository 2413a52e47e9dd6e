"""Where the loop meets the processes beside it: sockets go to the slow lane, reports and batches
come back."""

import socket
from selectors import EVENT_READ, BaseSelector
from time import monotonic

from little_bell.wire.connection import Connection
from little_bell.wire.fast_lane import FastLane
from little_bell.wire.handover import SlowLane
from little_bell.wire.reviewer import Reviewer

WAITING = 256  # requests for which the channel had no room
PATIENCE = 5.0  # seconds that one waits for it
WAITING_BYTES = 8 << 20  # of these
SOON = 0.002  # seconds between two tries


class Passage:
    """Listens to the slow lane's channel while there is one."""

    def __init__(self, slow: SlowLane, lane: FastLane, selector: BaseSelector) -> None:
        self.slow = slow
        self.reviewer = Reviewer(slow.environment, lane.recorder.writer, lane.log, monotonic())
        self.lane = lane
        self.waiting: dict[Connection, float] = {}  # since when: monotonic
        self.waiting_bytes = 0  # of their messages
        self.selector = selector
        self.watched: socket.socket | None = None  # the channel that the loop listens to

    def give(self, connection: Connection, now: float) -> bool | None:
        """Give a client's socket away with its request; False where it cannot be taken now, None
        where it waits: then it is to be tried again in the next turn."""
        if self.lane.recorder.must_reopen or connection.hand_over is None:
            return self._give_up(connection)
        if connection not in self.waiting and self.waiting:
            return self._wait(connection, now)  # behind the others
        _, message = connection.hand_over
        if self.slow.hand_over(connection.socket, message, now):
            self._watch()
            return True
        self._watch()
        if self.slow.crowded and now <= self.waiting.get(connection, now) + PATIENCE:
            return self._wait(connection, now)
        return self._give_up(connection)

    def _wait(self, connection: Connection, now: float) -> bool | None:
        """Let it wait, with nothing read from it, if there is room."""
        if connection not in self.waiting:
            if len(self.waiting) >= WAITING or self.waiting_bytes > WAITING_BYTES:
                return False
            self.selector.unregister(connection.socket)
            connection.deadline = now + 2 * PATIENCE
            self.waiting[connection] = now
            self.waiting_bytes += size_of(connection)
        return None

    def _give_up(self, connection: Connection) -> bool:
        if self._waits_no_more(connection):
            self.selector.register(connection.socket, EVENT_READ, connection)
        return False

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        if not self._waits_no_more(connection):
            self.selector.unregister(connection.socket)

    def _waits_no_more(self, connection: Connection) -> bool:
        """Whether it waited."""
        if self.waiting.pop(connection, None) is None:
            return False
        self.waiting_bytes -= size_of(connection)
        return True

    def patience(self, now: float) -> float:
        """Seconds that a turn may wait for something to happen."""
        others = min(self.lane.purger.wait(now), self.lane.bulk.erasures.patience)
        return min(SOON, others) if self.waiting else others

    def hear(self) -> None:
        """Count what was answered, and take batches over."""
        counters = self.lane.counters
        for route, status, seconds in self.slow.reports():
            counters.request("slow", route, status)
            if status == 500:  # it logged a fault of its own
                self.lane.log.faults += 1
            if seconds:
                counters.slow_latency.observe(seconds)
        arrivals, self.slow.arrivals = self.slow.arrivals, []
        for arrival in arrivals:
            self.lane.register.arrive(arrival)
        wishes, self.slow.wishes = self.slow.wishes, []
        for wish in wishes:
            self.lane.bulk.erasures.arrive(wish)
        self._watch()

    def sweep(self, now: float) -> None:
        """See to the keys, the slow lane and the other process; once a second or so."""
        self.lane.look_at_secret()
        self.slow.sweep(now)
        if self.lane.recorder.reason is None:
            self.reviewer.sweep(now)
        self._watch()

    def clear(self) -> None:
        """Let the slow lane go: the file is to be opened alone."""
        self.reviewer.stop()
        if self.slow.channel is not None:
            self.slow.let_go()
            self._watch()

    def close(self, seconds: float) -> None:
        """Let the slow lane end within so many seconds."""
        self.reviewer.stop()
        self.slow.stop(seconds)
        self._watch()

    def _watch(self) -> None:
        """Listen to the channel that is open now, if any."""
        channel = self.slow.channel
        if channel is self.watched:
            return
        if self.watched is not None:
            self.selector.unregister(self.watched)  # closed already: found by identity
            self.lane.bulk.abandon()
        if channel is not None:
            self.selector.register(channel, EVENT_READ, self.hear)
            self.lane.counters.slow_starts += 1
        self.watched = channel
        self.lane.counters.slow_pid = 0 if channel is None else self.slow.pid


def size_of(connection: Connection) -> int:
    """Bytes of the message that goes with its socket."""
    return 0 if connection.hand_over is None else len(connection.hand_over[1])
