"""The demo's database: its traffic, by the store's own transactions, as a server writes it."""

import random
from typing import NamedTuple

from little_bell.demo.traffic import DAY, SEED, Mail, Sight, Traffic
from little_bell.errors import StoreError
from little_bell.store.copy import Progress
from little_bell.store.job import Job
from little_bell.store.transaction import Transaction
from little_bell.store.wishes import RecipientWish, Wishes
from little_bell.store.writer import Writer

PIECE = 2_000  # emails and hits of a transaction
LEAVES = 4 * DAY  # before now a reader of the shop opts out


class Fill(Job):
    """Emails and hits by the order of time, a piece a step."""

    def __init__(self, traffic: Traffic) -> None:
        self.things: list[Mail | Sight] = sorted(
            [*traffic.mails, *traffic.sights], key=lambda one: (one.at, isinstance(one, Sight))
        )
        self.ids: list[tuple[int, int]] = []  # of mails, by their order
        self.position = 0
        self._reached = 0

    @property
    def next_at(self) -> int:
        """When the next thing happened (ms UTC)."""
        return self.things[self.position].at

    def step(self, transaction: Transaction) -> None:
        piece = self.things[self.position : self.position + PIECE]
        for one in piece:
            if isinstance(one, Mail):
                self.ids.append(transaction.create(one.at, one.email))
            else:
                tenant, email = self.ids[one.mail]
                transaction.hit(one.hit._replace(tenant=tenant, email=email))
        self._reached = self.position + len(piece)

    def committed(self) -> None:
        self.position = self._reached
        self.over = self.position >= len(self.things)

    def failed(self, error: StoreError) -> None:
        """Nobody goes on: `fill` raises."""


class Filled(NamedTuple):
    """What was written."""

    emails: int
    events: int


def fill(path: str, traffic: Traffic, progress: Progress) -> Filled:
    """Write a new database at `path`. Raises StoreError, StartError."""
    job = Fill(traffic)
    leaver = next(mail.person.address for mail in traffic.mails if mail.email.tenant == "shop")
    left = False
    writer = Writer(path)
    try:
        while not job.over:
            at = job.next_at
            if not left and at > traffic.now - LEAVES:
                salt = random.Random(SEED).randbytes(16)  # noqa: S311 - a salt of invented people
                wish = RecipientWish("shop", leaver, True, salt)
                writer.write(at, [], [], Wishes([wish]))
                left = True
            writer.write(at, [], [], job)
            progress(job.position, len(job.things))
        events = sum(one.last_seq for one in writer.memory.tenants.by_id.values())
        return Filled(len(traffic.mails), events)
    finally:
        writer.close()
