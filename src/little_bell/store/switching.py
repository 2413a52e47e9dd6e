"""Edits that switch something off, or on again (see `store.blocks`)."""

from little_bell.store.blocks import EMAIL, LINK, MAX_BLOCKS, NO_BLOCKS, TENANT, Blocked
from little_bell.store.edits import DONE, NO_ROOM, NOT_FOUND, Edit
from little_bell.store.statements import load
from little_bell.store.tenants import Tenant
from little_bell.store.transaction import Transaction

SQL = load("write.sql")


class SwitchOff(Edit):
    """A new block: of an email, of a canonical target, or where neither is given of the tenant.

    Afterwards `block` is its number, or that of the same one which was there, made `at` (ms)."""

    __slots__ = ("at", "block", "fresh", "url")

    def __init__(self, tenant: str, email: int, url: str | None) -> None:
        """`email` is 0 where it is not one."""
        super().__init__(tenant, email, None)
        self.url = url
        self.block = 0
        self.at = 0
        self.fresh = False  # it was not there before

    def apply(self, transaction: Transaction, _share: int) -> tuple[int, int]:
        tenant = transaction.memory.tenants.by_name.get(self.tenant.encode("ascii"))
        if tenant is None or self.email > tenant.last_email:
            return NOT_FOUND, 0
        blocked = blocks_of(transaction, tenant)
        self.block = blocked.number(self.email, self.url)
        if self.block:
            key = (tenant.id, self.block)
            self.at = next(iter(transaction.cursor.execute(SQL["select_block"], key)))[0]
            return DONE, 1
        if blocked.size >= MAX_BLOCKS:
            return NO_ROOM, 0
        self.block, self.at, self.fresh = blocked.last + 1, transaction.at, True
        kind = EMAIL if self.email else TENANT if self.url is None else LINK
        row = (tenant.id, self.block, kind, self.email or None, self.url, self.at)
        transaction.cursor.execute(SQL["insert_block"], row)
        transaction.blocked[tenant.id] = blocked.added(self.block, self.email, self.url)
        return DONE, 1


class SwitchOn(Edit):
    """A block goes."""

    __slots__ = ("block",)

    def __init__(self, tenant: str, block: int) -> None:
        super().__init__(tenant, 0, None)
        self.block = block

    @property
    def what(self) -> str:
        return "block"

    def apply(self, transaction: Transaction, _share: int) -> tuple[int, int]:
        tenant = transaction.memory.tenants.by_name.get(self.tenant.encode("ascii"))
        if tenant is None:
            return NOT_FOUND, 0
        blocked = blocks_of(transaction, tenant)
        if not blocked.has(self.block):
            return NOT_FOUND, 0
        transaction.cursor.execute(SQL["delete_block"], (tenant.id, self.block))
        transaction.blocked[tenant.id] = blocked.without(self.block)
        return DONE, 1


def blocks_of(transaction: Transaction, tenant: Tenant) -> Blocked:
    """What is switched off, as the transaction has it so far."""
    return transaction.blocked.get(tenant.id, tenant.blocked) or NO_BLOCKS
