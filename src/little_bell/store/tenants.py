"""Tenants in memory: the last numbers handed out, so that a hit needs no lookup."""

from typing import NamedTuple

from little_bell.store.blocks import Blocked

Numbers = tuple[int, int, int, int, int]  # email, seq, agent, link, campaign


class Policy(NamedTuple):
    """What a tenant set for itself; None: the server's setting holds."""

    consent: int | None = None  # of `tracking.privacy`, for emails that say nothing
    addresses: int | None = None  # how much of them is stored
    gpc: int | None = None  # what `Sec-GPC: 1` means: a consent
    retention_days: int | None = None  # of events; 0: for ever
    hosts: tuple[str, ...] | None = None  # where links may lead; None: anywhere


NO_POLICY = Policy()
NAMED = 3  # tenants that are named, where there are no more


def some(names: list[str]) -> str:
    """Up to three names of tenants; of more, how many there are."""
    return ", ".join(names) if len(names) <= NAMED else f"{len(names):,} tenants"


def read_hosts(text: str | None) -> tuple[str, ...] | None:
    """The column `hosts`."""
    if text is None:
        return None
    import json

    return tuple(json.loads(text))


class Tenant:
    """One tenant's counters. Writers snapshot them and put them back where a commit fails."""

    __slots__ = (
        "blocked",
        "id",
        "last_agent",
        "last_campaign",
        "last_email",
        "last_link",
        "last_seq",
        "name",
        "policy",
        "salt",
    )

    def __init__(
        self,
        id_: int,
        name: str,
        last_email: int = 0,
        last_seq: int = 0,
        last_agent: int = 0,
        last_link: int = 0,
        last_campaign: int = 0,
    ) -> None:
        self.id = id_
        self.name = name
        self.last_email = last_email
        self.last_seq = last_seq
        self.last_agent = last_agent
        self.last_link = last_link
        self.last_campaign = last_campaign
        self.policy = NO_POLICY
        self.salt: bytes | None = None  # None: nobody ever opted out
        self.blocked: Blocked | None = None  # what is switched off

    def numbers(self) -> Numbers:
        """The counters, in the order of `update_tenant`."""
        return (
            self.last_email,
            self.last_seq,
            self.last_agent,
            self.last_link,
            self.last_campaign,
        )

    def restore(self, numbers: Numbers) -> None:
        """Put the counters back."""
        (
            self.last_email,
            self.last_seq,
            self.last_agent,
            self.last_link,
            self.last_campaign,
        ) = numbers


class Tenants:
    """All tenants, by name (ASCII bytes, as they stand in a path) and by number."""

    __slots__ = ("by_id", "by_name", "last")

    def __init__(self) -> None:
        self.by_name: dict[bytes, Tenant] = {}
        self.by_id: dict[int, Tenant] = {}
        self.last = 0

    def add(self, tenant: Tenant) -> None:
        self.by_name[tenant.name.encode("ascii")] = tenant
        self.by_id[tenant.id] = tenant
        self.last = max(self.last, tenant.id)

    def discard(self, tenant: Tenant) -> None:
        """Forget a tenant: its creation was rolled back, and its number is used again; or another
        one, with a higher number, takes its name."""
        del self.by_name[tenant.name.encode("ascii")]
        del self.by_id[tenant.id]
        self.last = max(self.by_id, default=0)
