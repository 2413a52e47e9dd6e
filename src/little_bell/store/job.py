"""Jobs: work of the writer that is too long for one tick, done in steps.

A step is part of its tick's own transaction: it is durable together with the tick's events, and
costs no sync of its own.
"""

from little_bell.errors import StoreError
from little_bell.store.transaction import Transaction

ROWS = 500  # that a step writes at most
BYTES = 1 << 18  # of texts that a step writes, roughly


class Job:
    """What the writer calls. A step may be tried again after an error: it changes only the
    transaction, and `committed` is where the job goes on."""

    over = False  # nothing more is to be done

    def step(self, transaction: Transaction) -> None:
        """Add the next part to a transaction. May raise what the driver raises."""
        raise NotImplementedError

    def committed(self) -> None:
        """The last step is durable."""
        raise NotImplementedError

    def failed(self, error: StoreError) -> None:
        """The last step was not written, or nobody knows; there will be no other."""
        raise NotImplementedError


class Together(Job):
    """The steps of several jobs, in one transaction."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs

    def step(self, transaction: Transaction) -> None:
        for job in self.jobs:
            job.step(transaction)

    def committed(self) -> None:
        for job in self.jobs:
            job.committed()

    def failed(self, error: StoreError) -> None:
        for job in self.jobs:
            job.failed(error)
