"""Idempotency keys: the same request gets the same answer, for a day.

Draft of the IETF: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
"""

from typing import Any, NamedTuple

import apsw

from little_bell.store.dictionary import HOUR
from little_bell.store.statements import load
from little_bell.tracking.email import Once

SQL = load("write.sql")

KEPT = 24 * HOUR
EXPIRED = 4  # old keys that go with each new one, at most


class Created(NamedTuple):
    """What the first request with a key created: ids from `first` on."""

    digest: bytes
    first: int
    emails: int


def find(cursor: apsw.Cursor, tenant: int, key: bytes, now: int) -> Created | None:
    """What a key stands for, unless its day is over. `now` is in ms UTC."""
    # All of it: a statement left open would be a reader in the way of checkpoints.
    rows: list[Any] = cursor.execute(SQL["select_idempotency"], (tenant, key)).fetchall()
    for digest, first, emails, at in rows:
        if abs(now - at) <= KEPT:
            return Created(digest, first, emails)
    return None


def keep(cursor: apsw.Cursor, tenant: int, once: Once, first: int, emails: int, now: int) -> None:
    """Remember what a key stands for from now on."""
    cursor.execute(SQL["unscoped_expire_idempotency"], (now - KEPT, now + KEPT, EXPIRED))
    row = (tenant, once.key, once.digest, first, emails, now)
    cursor.execute(SQL["insert_idempotency"], row)
