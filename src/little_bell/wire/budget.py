"""A budget for each source: what it may do at once, and how fast it gets more."""

SOURCES = 4096  # remembered, the oldest are forgotten first


def source_of(address: bytes) -> bytes:
    """What counts as one source: an IPv4 address, or a /64 of IPv6, which one household has."""
    return address if len(address) == 4 else address[:8]


class Budget:
    """A token bucket for each of many sources, in bounded memory.

    A source that is forgotten begins anew: who has more than SOURCES addresses has no bound here.
    """

    __slots__ = ("_burst", "_free_at", "_seconds")

    def __init__(self, per_minute: float, burst: int) -> None:
        """`burst` at once, then `per_minute`; 0: without a limit."""
        self._seconds = 60.0 / per_minute if per_minute else 0.0  # that one costs
        self._burst = (burst - 1) * self._seconds
        self._free_at: dict[bytes, float] = {}  # when all is paid back; the oldest first

    def wait(self, source: bytes, now: float) -> float:
        """Seconds until the source may spend again; 0: it may. `now` is monotonic seconds."""
        return max(0.0, self._free_at.get(source, now) - now - self._burst)

    def spend(self, source: bytes, now: float) -> float:
        """Spend one; the seconds to wait where there is none left, else 0."""
        if not self._seconds:
            return 0.0
        wait = self.wait(source, now)
        if not wait:
            free_at = self._free_at
            before = free_at.pop(source, now)
            if len(free_at) >= SOURCES:
                del free_at[next(iter(free_at))]
            free_at[source] = max(before, now) + self._seconds
        return wait
