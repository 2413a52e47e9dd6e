"""Where the loop meets the processes beside it: sockets go to the slow lane, reports and batches
come back."""

import socket
from selectors import EVENT_READ, BaseSelector
from time import monotonic

from little_bell.wire.fast_lane import FastLane
from little_bell.wire.handover import SlowLane
from little_bell.wire.reviewer import Reviewer


class Passage:
    """Listens to the slow lane's channel while there is one."""

    def __init__(self, slow: SlowLane, lane: FastLane, selector: BaseSelector) -> None:
        self.slow = slow
        self.reviewer = Reviewer(slow.environment, lane.recorder.writer, lane.log, monotonic())
        self.lane = lane
        self.selector = selector
        self.watched: socket.socket | None = None  # the channel that the loop listens to

    def give(self, client: socket.socket, message: bytes, now: float) -> bool:
        """Give a client's socket away with its request; False where it cannot be taken now."""
        if self.lane.recorder.must_reopen:
            return False
        taken = self.slow.hand_over(client, message, now)
        self._watch()
        return taken

    def hear(self) -> None:
        """Count what was answered, and take batches over."""
        for route, status in self.slow.reports():
            self.lane.counters.request("slow", route, status)
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
