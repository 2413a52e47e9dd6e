"""Room for new connections: how many there may be, and which of them go first."""

import heapq  # here, not at first use: with no descriptor left nothing can be imported
from collections.abc import Collection

from little_bell.wire.connection import Connection

OTHERS = 64  # descriptors for everything that is no connection
SHARE = 100  # one in so many connections goes at a time
PENDING = 16 << 20  # bytes of unfinished requests, all connections together
OWED = 16 << 20  # bytes of answers that clients do not take, all connections together
RESTING = 1.0  # seconds after which an idle connection goes before those that bring something


def most_connections(wanted: int) -> tuple[int, str]:
    """How many connections there may be, and what bounds them.

    Raises the limit of open files as far as the system lets us; some are kept for other uses.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + OTHERS:
        target = wanted + OTHERS if hard == resource.RLIM_INFINITY else min(wanted + OTHERS, hard)
        if target > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    others = min(OTHERS, soft // 2)
    if wanted <= soft - others:
        return wanted, "MAX_CONNECTIONS is reached"
    return soft - others, f"the limit of open files ({soft}) is reached"


class Room:
    """Bounds what all connections take together, and knows which came no further for longest."""

    def __init__(self, idle_seconds: float, request_seconds: float) -> None:
        self.idle_seconds = idle_seconds
        self.request_seconds = request_seconds
        self.pending = 0  # bytes of unfinished requests
        self.owed = 0  # bytes of answers that the kernel did not take yet

    def hold(self, connection: Connection) -> bool:
        """Account for its unfinished request; False where that grew and there is no room."""
        held = len(connection.reader.buffer) + connection.reader.size
        grown = held - connection.held
        self.pending += grown
        connection.held = held
        return grown <= 0 or self.pending <= PENDING

    def owe(self, connection: Connection) -> bool:
        """Account for the answers that it does not take; False where these are too many."""
        self.owed += len(connection.unsent) - connection.owed
        connection.owed = len(connection.unsent)
        return self.owed <= OWED

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self.pending -= connection.held
        self.owed -= connection.owed

    def since(self, connection: Connection) -> float:
        """When it became idle, or its request or answer began (monotonic seconds)."""
        if connection.idle:
            return connection.deadline - self.idle_seconds
        return connection.deadline - self.request_seconds

    def first_to_go(self, connections: Collection[Connection], now: float) -> list[Connection]:
        """One in a hundred, one at least: those idle for longest, and once none has been idle for
        a second, those that came no further for longest. None that waits for this tick's commit.
        """
        still = []
        for one in connections:
            if not one.out:
                since = self.since(one)
                resting = one.idle and now - since > RESTING
                still.append((not resting, since, one.number, one))
        least = heapq.nsmallest(max(1, len(still) // SHARE), still)
        return [connection for *_, connection in least]
