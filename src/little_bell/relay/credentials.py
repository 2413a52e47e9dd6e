"""Who may send: keys are tried against the database file, whether the bell runs or not."""

import os
from time import time
from typing import NamedTuple

from little_bell.config import Config
from little_bell.store import names
from little_bell.store.keys import WRITE
from little_bell.store.reader import Reader
from little_bell.tracking.signing import digest, same
from little_bell.values import is_tenant

State = tuple[tuple[int, int, int], ...]
MOST_KNOWN = 1000  # tenants
QUIET = 2.0  # seconds after a change; within them another one may have the same time


class Login(NamedTuple):
    """Who sends. `local`: from this very machine."""

    tenant: str
    key: str
    local: bool


class Credentials:
    """Opens the file anew whenever it changed: a revoked key, or a restored file, counts at once.
    One thread's."""

    def __init__(self, config: Config) -> None:
        self.path = config.database_url
        self.all_closed = config.auth == "keys"
        self.admin = digest(config.admin_key.encode("ascii")) if config.admin_key else b""
        self.known: dict[str, list[names.KeyHash]] = {}  # as of this state of the file:
        self.state: State | None = None

    def admit(self, login: Login) -> bool:
        """Whether this one may send mail of its tenant. Blocks for a look-up; raises StoreError or
        StartError where the file cannot be read.

        A tenant that never had a key is open, unless AUTH=keys, to this machine alone: elsewhere
        the relay would be everybody's.
        """
        if not is_tenant(login.tenant.encode("utf-8", "replace")):
            return False
        given = digest(login.key.encode("utf-8", "surrogateescape"))
        if self.admin and same(given, self.admin):
            return True
        known = self._hashes(login.tenant)
        if not known:
            return login.local and not self.all_closed
        good = [one.role for one in known if one.revoked_at is None and same(given, one.hash)]
        return WRITE in good

    def _hashes(self, tenant: str) -> list[names.KeyHash]:
        """After a crash of the bell each opening reads the whole write-ahead log: not twice."""
        state = state_of(self.path)
        if state is None or state != self.state or len(self.known) >= MOST_KNOWN:
            self.known.clear()
        if tenant not in self.known:
            self.known[tenant] = self._read(tenant)
        self.state = state
        return self.known[tenant]

    def _read(self, tenant: str) -> list[names.KeyHash]:
        if not os.path.exists(self.path):
            return []  # no bell was ever started here
        reader = Reader(self.path)
        try:
            reader.check_schema()
            with reader:  # a tenant that is deleted gets another number
                number = names.tenant_id(reader, tenant)
                return [] if number is None else names.key_hashes(reader, number)
        finally:
            reader.close()


def state_of(path: str) -> State | None:
    """What changes with each commit to a database: inode, size and time of the file and its log.
    None where that cannot be relied on."""
    found = []
    for name in (path, path + "-wal"):
        try:
            status = os.stat(name)
        except OSError:
            continue
        if status.st_size:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    latest = max((one[2] for one in found), default=0)
    return tuple(found) if time() - latest / 1e9 > QUIET else None
