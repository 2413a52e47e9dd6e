"""Corrections: rows that a recount found wrong, put right while opens go on."""

from typing import Any

from little_bell.errors import StoreError
from little_bell.store.job import Job
from little_bell.store.projection import BUCKET
from little_bell.store.recount import DAYS, EMAIL_LINK, EVENT, FIGURE, MARK, STATE, Correction
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
        days: list[tuple[Any, ...]] = []
        for correction in self.corrections:
            table, key, right = correction.table, correction.key, correction.right
            if table == MARK:
                transaction.cursor.execute(WRITE["unscoped_mark_judged"], right)
            elif key[0] not in transaction.memory.tenants.by_id:  # it went meanwhile
                self.moved += 1
            elif table == FIGURE:
                tenant, scope, id_, bucket = key
                for column, n in enumerate(right or []):
                    transaction.figures.add(tenant, scope, id_, bucket * BUCKET, column, n)
            elif table == DAYS:
                days.append((*key, *(right or [])))
            else:
                self._of_email(transaction, correction)
        if days:
            transaction.cursor.executemany(WRITE["add_days"], days)

    def _of_email(self, transaction: Transaction, correction: Correction) -> None:
        table, key = correction.table, (correction.key[0], correction.key[1])
        if key in transaction.states:  # hit in this very tick
            self.moved += 1
        elif table == EVENT:
            self._event(transaction, correction)
        elif table == STATE:
            self._state(transaction, correction)
        elif table == EMAIL_LINK:
            self._email_link(transaction, correction)
        else:
            raise ValueError(f"there is no table {table!r}")
        transaction.memory.forget(key)

    def _event(self, transaction: Transaction, correction: Correction) -> None:
        cursor = transaction.cursor
        tenant, email, seq = correction.key
        row = cursor.execute(WRITE["select_judgement"], (tenant, seq, email)).fetchone()
        if row is None or list(row) != correction.stored or correction.right is None:
            self.moved += 1
        else:
            cursor.execute(WRITE["judge_event"], (*correction.right, tenant, seq))

    def _state(self, transaction: Transaction, correction: Correction) -> None:
        cursor = transaction.cursor
        row = cursor.execute(WRITE["select_state"], correction.key).fetchone()
        if row is None or list(row[3:]) != correction.stored or correction.right is None:
            self.moved += 1
        else:
            cursor.execute(WRITE["update_state"], (*correction.right, *correction.key))

    def _email_link(self, transaction: Transaction, correction: Correction) -> None:
        cursor = transaction.cursor
        row = cursor.execute(WRITE["select_email_link"], correction.key).fetchone()
        email = cursor.execute(WRITE["select_state"], correction.key[:2]).fetchone()
        lost = email is None and correction.right is not None  # it was deleted meanwhile
        if lost or (None if row is None else list(row)) != correction.stored:
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
