"""Wishes about privacy: what tenants set for themselves, and who wants to be left alone.

All wishes of a tick are written in one step. An opt-out marks the emails of its recipient, those
that were sent already too. Where these are more than a step marks, the rest follows in steps
(`Marks`); `store.optouts` knows of them meanwhile.
"""

import json
from typing import Any

from little_bell.errors import StoreError
from little_bell.store.job import ROWS, Job
from little_bell.store.memory import Marking
from little_bell.store.statements import load
from little_bell.store.tenants import Policy, Tenant
from little_bell.store.transaction import Transaction
from little_bell.tracking.privacy import fingerprint, normal

SQL = load("write.sql")

AT_ONCE = 64  # wishes of a tick
LAST_ID = (1 << 63) - 1


class Wish:
    """Something that is asked for a tenant."""

    tenant: str  # its name

    def come_true(self, transaction: Transaction, left: int, /) -> int:
        """Write it; `left` emails may still be marked. Returns how many were."""
        raise NotImplementedError


class PolicyWish(Wish):
    """A tenant's own settings: those that are `given` change. The tenant is made where need be."""

    def __init__(self, tenant: str, given: dict[str, Any]) -> None:
        """`given`: values of members of `Policy`; None: the server's holds again."""
        self.tenant = tenant
        self.given = given
        self.policy = Policy()  # as it is then

    def come_true(self, transaction: Transaction, _left: int) -> int:
        tenant = transaction.tenant_named(self.tenant, transaction.at)
        self.policy = transaction.settle(tenant).policy._replace(**self.given)
        tenant.policy = self.policy
        *rest, hosts = self.policy
        text = None if hosts is None else json.dumps(hosts)
        transaction.cursor.execute(SQL["update_policy"], (tenant.id, *rest, text))
        return 0


class RecipientWish(Wish):
    """A recipient opts out, or in again. Nothing happens where there is no such tenant."""

    def __init__(self, tenant: str, recipient: str, out: bool, salt: bytes) -> None:
        """`salt` is a new one, for a tenant that has none yet."""
        self.tenant = tenant
        self.recipient = recipient
        self.out = out
        self.salt = salt

    def come_true(self, transaction: Transaction, left: int) -> int:
        tenant = transaction.memory.tenants.by_name.get(self.tenant.encode("ascii"))
        if tenant is None or (tenant.salt is None and not self.out):
            return 0
        salt = tenant.salt or self._salt(transaction, tenant)
        key = (tenant.id, fingerprint(salt, self.recipient))
        if self.out:
            if transaction.cursor.execute(SQL["select_optout"], key).fetchone() is not None:
                return 0
            transaction.cursor.execute(SQL["insert_optout"], (*key, transaction.at))
        else:
            transaction.cursor.execute(SQL["retract_optout"], key)
            if not transaction.changes():
                return 0
        text = normal(self.recipient)
        return go_on(transaction, Marking(*key, 0 if self.out else 1, text, LAST_ID), left)

    def _salt(self, transaction: Transaction, tenant: Tenant) -> bytes:
        transaction.settle(tenant).salt = self.salt
        transaction.cursor.execute(SQL["update_salt"], (tenant.id, self.salt))
        return self.salt


def go_on(transaction: Transaction, marking: Marking, left: int) -> int:
    """Mark so many emails of a recipient, keep what then remains; returns how many there were."""
    cursor = transaction.cursor
    tenant, recipient, going, address, below = marking
    rows: list[tuple[Any, ...]] = []
    if left > 0:
        some: tuple[Any, ...] = (tenant, address, below, left)
        rows = cursor.execute(SQL["emails_to_mark"], some).fetchall()
        for email in [int(row[0]) for row in rows]:
            transaction.mark((tenant, email), not going)
    rest = {key: one for key, one in transaction.optouts.marking.items() if one[:2] != marking[:2]}
    if left > 0 and len(rows) < left:
        cursor.execute(SQL["update_marking"], (tenant, recipient, None, None))
        if going:
            cursor.execute(SQL["delete_optout"], (tenant, recipient))
    else:
        marking = marking._replace(next_email=rows[-1][0] - 1 if rows else below)
        cursor.execute(SQL["update_marking"], (tenant, recipient, address, marking.next_email))
        rest[tenant, address] = marking
    transaction.optouts.marking = rest
    return len(rows)


class Wishes(Job):
    """All wishes of a tick, in one step."""

    def __init__(self, wishes: list[Wish]) -> None:
        self.wishes = wishes
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        left = ROWS
        for wish in self.wishes:
            left -= wish.come_true(transaction, left)

    def committed(self) -> None:
        self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True


class Marks(Job):
    """A step more of what an opt-out left."""

    def __init__(self) -> None:
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        if transaction.optouts.marking:
            go_on(transaction, next(iter(transaction.optouts.marking.values())), ROWS)

    def committed(self) -> None:
        self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error  # it is still to be done: there will be another
        self.over = True
