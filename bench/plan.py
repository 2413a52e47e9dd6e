"""How much is measured: the whole, the short form, and the long one."""

from typing import NamedTuple


class Plan(NamedTuple):
    """Sizes of everything. Durations are in seconds."""

    description: str
    rounds: int = 3
    seconds: int = 4  # of one closed-loop run
    open_loop_seconds: float = 8
    emails: int = 100_000  # of the closed and the open loop
    newest: int = 5_000
    newest_share: float = 0.9
    starts: int = 15
    memory_emails: int = 1_000_000
    memory_opens: int = 1_000_000
    grown_emails: int = 100_000
    grown_events: int = 1_000_000
    few_emails: int = 10_000
    few_events: int = 100_000
    disk_emails: int = 100_000
    syncs: int = 300


DEFAULT = Plan("the default form")
QUICK = Plan(
    "the short form (`--quick`): a smoke test, its figures say little",
    rounds=1,
    seconds=1,
    open_loop_seconds=2,
    emails=20_000,
    starts=5,
    memory_emails=50_000,
    memory_opens=50_000,
    grown_emails=20_000,
    grown_events=60_000,
    few_emails=2_000,
    few_events=6_000,
    disk_emails=20_000,
    syncs=100,
)
FULL = Plan("the long form (`--full`)", grown_emails=1_000_000, grown_events=10_000_000)
