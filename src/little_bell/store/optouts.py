"""Who is left alone: part of a transaction."""

from typing import TYPE_CHECKING

import apsw

from little_bell.store.projection import OPTED_OUT, EmailState
from little_bell.store.statements import load
from little_bell.store.tenants import Tenant
from little_bell.tracking.privacy import fingerprint, normal

if TYPE_CHECKING:
    from little_bell.store.memory import Memory

SQL = load("write.sql")


class OptOuts:
    """Recipients who opted out. Their emails are marked, so that a hit needs no look-up; `marking`
    are those of whom some emails are not marked yet, or still are (see `store.wishes`)."""

    __slots__ = ("cursor", "marking")

    def __init__(self, cursor: apsw.Cursor, memory: "Memory") -> None:
        self.cursor = cursor
        self.marking = memory.marking  # another dict where it changes

    def hold(self, tenant: Tenant, recipient: str | None) -> bool:
        """Whether a recipient is left alone."""
        if tenant.salt is None or recipient is None:
            return False
        key = (tenant.id, fingerprint(tenant.salt, recipient))
        return self.cursor.execute(SQL["select_optout"], key).fetchone() is not None

    def hold_that_of(self, state: EmailState) -> bool:
        """Whether an email's recipient is left alone."""
        marked = bool(state.flags & OPTED_OUT)
        if any(tenant == state.tenant for tenant, _ in self.marking):
            key = (state.tenant, state.email)
            row = self.cursor.execute(SQL["select_recipient"], key).fetchone()
            if row is not None and row[0] is not None:
                marking = self.marking.get((state.tenant, normal(str(row[0]))))
                return marked if marking is None else not marking.going
        return marked
