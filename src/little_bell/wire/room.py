"""Room for new connections: how many there may be, and which of them go first."""

from collections.abc import Collection

from little_bell.wire.connection import Connection

OTHERS = 64  # descriptors for everything that is no connection
SHARE = 100  # one in so many connections goes at a time
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
    """Knows when a connection became idle, or its request or answer began."""

    def __init__(self, idle_seconds: float, request_seconds: float) -> None:
        self.idle_seconds = idle_seconds
        self.request_seconds = request_seconds

    def since(self, connection: Connection) -> float:
        """Monotonic seconds."""
        if connection.idle:
            return connection.deadline - self.idle_seconds
        return connection.deadline - self.request_seconds

    def first_to_go(self, connections: Collection[Connection], now: float) -> list[Connection]:
        """One in a hundred, one at least: those idle for longest, and once none has been idle for
        a second, those that came no further for longest. None that waits for this tick's commit.
        """
        import heapq

        still = []
        for one in connections:
            if not one.out:
                since = self.since(one)
                resting = one.idle and now - since > RESTING
                still.append((not resting, since, one.number, one))
        least = heapq.nsmallest(max(1, len(still) // SHARE), still)
        return [connection for *_, connection in least]
