"""The demo's database: a month through the store's own transactions, as a server would write it."""

import random
from collections.abc import Callable

from little_bell.demo.month import DAY, SEED, Mail, Month, Sight
from little_bell.errors import StoreError
from little_bell.store.job import Job
from little_bell.store.transaction import Transaction
from little_bell.store.wishes import RecipientWish, Wishes
from little_bell.store.writer import Writer

PIECE = 2_000  # emails and hits of a transaction
LEAVES = 4 * DAY  # before now a reader of the shop opts out


class Fill(Job):
    """Emails and hits by the order of time, a piece a step."""

    def __init__(self, month: Month) -> None:
        self.things: list[Mail | Sight] = sorted(
            [*month.mails, *month.sights], key=lambda one: (one.at, isinstance(one, Sight))
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


class Filled:
    """What was written."""

    def __init__(self, emails: int, events: int) -> None:
        self.emails = emails
        self.events = events


def fill(path: str, month: Month, progress: Callable[[int, int], None]) -> Filled:
    """Write a new database at `path`. Raises StoreError, StartError."""
    job = Fill(month)
    leaver = next(mail.person.address for mail in month.mails if mail.email.tenant == "shop")
    left = False
    writer = Writer(path)
    try:
        while not job.over:
            at = job.next_at
            if not left and at > month.now - LEAVES:
                salt = random.Random(SEED).randbytes(16)  # noqa: S311 - a salt of invented people
                wish = RecipientWish("shop", leaver, True, salt)
                writer.write(at, [], [], Wishes([wish]))
                left = True
            writer.write(at, [], [], job)
            progress(job.position, len(job.things))
        events = sum(one.last_seq for one in writer.memory.tenants.by_id.values())
        return Filled(len(month.mails), events)
    finally:
        writer.close()
