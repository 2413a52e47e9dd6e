"""What the design promises. The benchmark prints figures beside these; it asserts none."""

from typing import NamedTuple

MEGABYTE = 1_000_000 / (1 << 20)  # in MiB


class Budget(NamedTuple):
    """Bounds in the unit of the row they belong to. `more`: a larger figure is a better one."""

    must: float
    aim: float
    more: bool = False

    def met(self, figure: float) -> str:
        """Which of the two a figure keeps."""
        for bound, name in ((self.aim, "aim"), (self.must, "must")):
            if figure >= bound if self.more else figure <= bound:
                return name
        return "**no**"


AGAINST_NGINX = Budget(0.20, 0.35, more=True)  # ratio of opens/s
AGAINST_UVICORN = Budget(0.75, 1.0, more=True)
P99 = Budget(20, 8)  # ms
LONGEST_TURN = Budget(20, 10)  # ms
IDLE_MEMORY = Budget(18, 15 * MEGABYTE)  # MiB
USED_MEMORY = Budget(26, 20 * MEGABYTE)
START = Budget(70, 45)  # ms
START_FULL = Budget(100, 60)
GROWN = Budget(0.80, 0.95, more=True)  # ratio of opens/s
READ = Budget(50, 25)  # ms
READS_GROWTH = Budget(1.5, 1.2)  # ratio: flat
OPEN_BYTES = Budget(90, 65)
BULK = Budget(5, 2.5)  # s for 100,000 emails
REWRITING = Budget(10, 5)  # ms for 100 kB of HTML with 200 links
BULK_GROWTH = Budget(2, 1)  # MiB: flat
LOST = Budget(0, 0)  # answers without their event
