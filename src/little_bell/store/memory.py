"""What the writer remembers between transactions, bounded, and true only after a commit."""

from typing import NamedTuple

import apsw

from little_bell.store.dictionary import OTHER, Dictionary, Source
from little_bell.store.keys import Keys
from little_bell.store.projection import EmailState
from little_bell.store.statements import load
from little_bell.store.tenants import Tenant, Tenants
from little_bell.tracking.classify import Verdict, classify_agent
from little_bell.tracking.hit import OPEN, Hit

SQL = load("write.sql")

VERDICTS = 4096  # user agents whose verdict is kept
HOT = 4096  # emails with many hits whose hour is counted
STATES = 4096  # emails whose state is kept, the ones hit last: some 400 bytes each
UNKNOWN = -1  # of a click: not looked up yet


class Click(NamedTuple):
    """One click of an email's chain."""

    seq: int
    at: int
    link: int
    address: bytes | None
    prev: int | None
    class_: int
    reasons: int
    client: int | None
    # When people had clicked last before it (ms), first, and its link first; where known.
    before: int | None = UNKNOWN
    first: int | None = UNKNOWN
    first_of_link: int | None = UNKNOWN


class Pending(NamedTuple):
    """Ids of which no email exists: their batch is being written, or it came to nothing."""

    tenant: int
    first: int
    last: int
    last_campaign: int  # of the tenant, before the batch

    def holds(self, tenant: int, email: int) -> bool:
        return tenant == self.tenant and self.first <= email <= self.last


GOING, MOVING, TENANT_GOING = range(3)  # kinds of what is unfinished


class Unfinished(NamedTuple):
    """What an edit left for later (see `store.edits`): events of an email from these down their
    chains; or, where `email` is 0, everything of a tenant."""

    tenant: int
    email: int
    kind: int
    campaign: int | None  # for which those events still count
    next_open: int | None
    next_click: int | None

    def holds(self, kind: int, seq: int) -> bool:
        """Whether an event of this email is one of them."""
        head = self.next_open if kind == OPEN else self.next_click
        return head is not None and seq <= head


class Marking(NamedTuple):
    """An opt-out, or one that is taken back, of a recipient with more emails than a step marks."""

    tenant: int
    recipient: bytes  # its fingerprint
    going: int  # 1: marks are taken away
    address: str
    next_email: int  # from this one down


class Note(NamedTuple):
    """A recipient that is being erased (see `store.erasure`), from what there was up to these
    numbers."""

    number: int
    tenant: int
    recipient: str | None  # None once no row holds it
    last_email: int
    last_agent: int
    last_link: int
    last_campaign: int


class Limits(NamedTuple):
    """Bounds of what strangers can make the store keep."""

    instant_ms: int = 2000
    hits_per_email_hour: int = 10_000
    agents_per_hour: int = 2000
    links_per_hour: int = 10_000


class Memory:
    """Tenants, dictionaries, verdicts of user agents, and emails that were hit of late."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.tenants = Tenants()
        self.keys = Keys()
        self.agents = Dictionary(
            Source("last_agent", SQL["select_agent"], SQL["insert_agent"], limits.agents_per_hour)
        )
        self.links = Dictionary(
            Source("last_link", SQL["select_link"], SQL["insert_link"], limits.links_per_hour)
        )
        self.campaigns = Dictionary(
            Source("last_campaign", SQL["select_campaign"], SQL["insert_campaign"], 0)
        )
        self.pending: Pending | None = None
        self.unfinished: dict[tuple[int, int], Unfinished] = {}  # by tenant and email
        self.marking: dict[tuple[int, str], Marking] = {}  # by tenant and recipient, as compared
        self.erasures: list[Note] = []  # as they were when the file was opened
        self.verdicts: dict[str, Verdict] = {}
        # In two halves: once the newer one is full, the older one is forgotten.
        self.states: dict[tuple[int, int], EmailState] = {}
        self.states_before: dict[tuple[int, int], EmailState] = {}
        self.clicks: dict[tuple[int, int], list[Click]] = {}  # newest last
        # (tenant, email): (hour, hits in it, seq of the capped row or 0)
        self.hot: dict[tuple[int, int], tuple[int, int, int]] = {}

    def verdict(self, user_agent: str) -> Verdict:
        """What the rules say of a user agent."""
        verdict = self.verdicts.get(user_agent)
        if verdict is None:
            if len(self.verdicts) >= VERDICTS:
                self.verdicts.clear()
            verdict = self.verdicts[user_agent] = classify_agent(user_agent)
        return verdict

    def link(self, cursor: apsw.Cursor, tenant: Tenant, hit: Hit) -> int:
        """The number of the link that a click followed; OTHER where nobody knows which it was, as
        of some that were imported."""
        if hit.url is None:
            return OTHER
        return self.links.number(cursor, tenant, hit.url, hit.at, hit.label, hit.part)

    def state(self, key: tuple[int, int]) -> EmailState | None:
        """What became of an email that was hit of late."""
        return self.states.get(key) or self.states_before.get(key)

    def unknown(self, keys: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those of some emails whose state has to be read."""
        return keys.difference(self.states).difference(self.states_before)

    def forget(self, key: tuple[int, int]) -> None:
        """An email was changed by somebody else: read it again."""
        self.states.pop(key, None)
        self.states_before.pop(key, None)
        self.clicks.pop(key, None)

    def committed(self, states: dict[tuple[int, int], EmailState]) -> None:
        """What the transaction learnt is true from now on; `states` are what it changed."""
        self.states.update(states)
        if len(self.states) > STATES // 2:
            self.states_before, self.states = self.states, {}
        for dictionary in (self.agents, self.links, self.campaigns):
            dictionary.committed()

    def rolled_back(self, states: dict[tuple[int, int], EmailState]) -> None:
        """What the transaction learnt was never so; `states` are what it changed."""
        for key in states:
            self.forget(key)
            self.hot.pop(key, None)
        for dictionary in (self.agents, self.links, self.campaigns):
            dictionary.rolled_back()
