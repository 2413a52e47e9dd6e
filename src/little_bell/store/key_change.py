"""One key that is created or revoked: a job of one step."""

from typing import Any

from little_bell.errors import StoreError
from little_bell.store.job import Job
from little_bell.store.keys import Key
from little_bell.store.memory import Memory
from little_bell.store.statements import load
from little_bell.store.transaction import Transaction

SQL = load("write.sql")

MOST_KEYS = 200  # of a tenant, revoked ones too: the oldest of these are forgotten first

DONE, NOT_FOUND, FULL = range(3)  # what became of it


class KeyChange(Job):
    """A new key by its hash, and its tenant where there is none of this name; or one that goes."""

    def __init__(
        self, tenant: str, name: str = "", role: int = 0, hash_: bytes = b"", revoke: int = 0
    ) -> None:
        """`revoke` is the number of the key that goes; 0: a new one comes."""
        self.tenant = tenant
        self.name = name
        self.role = role
        self.hash = hash_
        self.number = revoke  # of the key, once it has one
        self.revoking = bool(revoke)
        self.outcome = DONE
        self.error: StoreError | None = None
        self.memory: Memory | None = None

    def step(self, transaction: Transaction) -> None:
        self.memory = transaction.memory
        self.outcome = self._revoke(transaction) if self.revoking else self._create(transaction)

    def _create(self, transaction: Transaction) -> int:
        cursor = transaction.cursor
        tenant = transaction.tenant_named(self.tenant, transaction.at)
        counted: list[Any] = cursor.execute(SQL["count_keys"], (tenant.id,)).fetchall()
        known, last = counted[0]
        if known >= MOST_KEYS:
            cursor.execute(SQL["forget_revoked_key"], (tenant.id,))
            if not transaction.changes():
                return FULL
        self.number = last + 1
        row = (tenant.id, self.number, self.name, self.role, self.hash, transaction.at)
        cursor.execute(SQL["insert_key"], row)
        return DONE

    def _revoke(self, transaction: Transaction) -> int:
        tenant = transaction.memory.tenants.by_name.get(self.tenant.encode("ascii"))
        if tenant is None:
            return NOT_FOUND
        values = (transaction.at, tenant.id, self.number)
        transaction.cursor.execute(SQL["revoke_key"], values)
        return DONE if transaction.changes() else NOT_FOUND

    def committed(self) -> None:
        self.over = True
        if self.outcome != DONE or self.memory is None:
            return
        tenant = self.tenant.encode("ascii")
        if self.revoking:
            self.memory.keys.revoke(tenant, self.number)
        else:
            self.memory.keys.add(Key(tenant, self.number, self.role, self.hash))

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True
