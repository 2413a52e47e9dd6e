"""Corrections: rows that a recount found wrong, put right while opens go on."""

from little_bell.errors import StoreError
from little_bell.store.job import Job
from little_bell.store.projection import BUCKET
from little_bell.store.recount import EMAIL_LINK, FIGURE, STATE, Correction
from little_bell.store.statements import load
from little_bell.store.transaction import Transaction

WRITE = load("write.sql")


class Corrections(Job):
    """One step. A row of an email that is not as the recount found it has moved on: it is left for
    the next recount, and counted. Figures are added to, so that they may have moved on."""

    def __init__(self, corrections: list[Correction]) -> None:
        self.corrections = corrections
        self.moved = 0
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        self.moved = 0
        for correction in self.corrections:
            table, key = correction.table, correction.key
            if table == FIGURE:
                tenant, scope, id_, bucket = key
                for column, n in enumerate(correction.right or []):
                    transaction.figures.add(tenant, scope, id_, bucket * BUCKET, column, n)
            elif (key[0], key[1]) in transaction.states:  # hit in this very tick
                self.moved += 1
            elif table == STATE:
                self._state(transaction, correction)
            elif table == EMAIL_LINK:
                self._email_link(transaction, correction)
            else:
                raise ValueError(f"there is no table {table!r}")
            if table != FIGURE:
                transaction.memory.forget((key[0], key[1]))

    def _state(self, transaction: Transaction, correction: Correction) -> None:
        cursor = transaction.cursor
        row = cursor.execute(WRITE["select_state"], correction.key).fetchone()
        if row is None or list(row[2:]) != correction.stored or correction.right is None:
            self.moved += 1
        else:
            cursor.execute(WRITE["update_state"], (*correction.right, *correction.key))

    def _email_link(self, transaction: Transaction, correction: Correction) -> None:
        cursor = transaction.cursor
        row = cursor.execute(WRITE["select_email_link"], correction.key).fetchone()
        if (None if row is None else list(row)) != correction.stored:
            self.moved += 1
        elif correction.right is None:
            cursor.execute(WRITE["delete_email_link"], correction.key)
        else:
            cursor.execute(WRITE["upsert_email_link"], (*correction.key, *correction.right))

    def committed(self) -> None:
        self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True
