"""Keys in memory: which opens which tenant, so that a request needs no lookup."""

from collections.abc import Iterable
from typing import NamedTuple

READ, WRITE = range(2)  # roles
ROLES = ("read", "write")


class Key(NamedTuple):
    """One key, as it is known by its hash."""

    tenant: bytes  # its name: that stays where a tenant gets another number
    number: int
    role: int
    hash: bytes  # SHA-256


class Keys:
    """The keys of all tenants that were not revoked, and who ever had one. True after a commit."""

    __slots__ = ("by_hash", "by_number", "closed")

    def __init__(self) -> None:
        self.by_hash: dict[bytes, Key] = {}
        self.by_number: dict[tuple[bytes, int], Key] = {}
        self.closed: set[bytes] = set()  # names of tenants

    def load(self, rows: Iterable[tuple[str, int, int, bytes, int | None]]) -> None:
        """Know these alone: name of the tenant, number, role, hash, when it was revoked."""
        self.by_hash.clear()
        self.by_number.clear()
        self.closed.clear()
        for name, number, role, hash_, revoked_at in rows:
            tenant = name.encode("ascii")
            self.closed.add(tenant)
            if revoked_at is None:
                self.add(Key(tenant, number, role, hash_))

    def add(self, key: Key) -> None:
        """A key was created."""
        self.closed.add(key.tenant)
        self.by_hash[key.hash] = key
        self.by_number[key.tenant, key.number] = key

    def revoke(self, tenant: bytes, number: int) -> None:
        """A key opens nothing any more; its tenant stays closed."""
        key = self.by_number.pop((tenant, number), None)
        if key is not None:
            del self.by_hash[key.hash]
