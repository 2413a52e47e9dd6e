"""Opens and clicks that are stored without their email: part of a transaction."""

from typing import TYPE_CHECKING

import apsw

from little_bell.store.dictionary import HOUR
from little_bell.store.projection import EmailState, Figures, project_aggregate
from little_bell.store.statements import load
from little_bell.store.tenants import Tenant
from little_bell.tracking.classify import INSTANT, classify_hit, is_instant
from little_bell.tracking.hit import JUDGED, OPEN, Hit
from little_bell.tracking.rules import MACHINE, VERSION

if TYPE_CHECKING:
    from little_bell.store.memory import Memory

SQL = load("write.sql")


class Aggregates:
    """They keep neither address nor user agent, and of their moment the hour. The state of their
    email does not hear of them."""

    __slots__ = ("cursor", "emails", "figures", "memory", "rows")

    def __init__(self, cursor: apsw.Cursor, memory: "Memory", figures: Figures) -> None:
        self.cursor = cursor
        self.memory = memory
        self.figures = figures
        self.emails: set[tuple[int, int]] = set()  # of which there are some
        self.rows: list[tuple[object, ...]] = []

    def add(self, tenant: Tenant, hit: Hit, state: EmailState) -> int:
        """Add one; returns its class."""
        memory = self.memory
        flags = hit.flags & JUDGED
        class_, _, reasons, client = classify_hit(memory.verdict(hit.user_agent), flags)
        link = None
        if hit.kind != OPEN:
            link = memory.link(self.cursor, tenant, hit)
            if is_instant(state.created_at, hit.at, memory.limits.instant_ms):
                class_, reasons = MACHINE, reasons | INSTANT
        at = hit.at // HOUR * HOUR
        campaign = state.campaign
        project_aggregate(
            hit.tenant, hit.kind, class_, client, link, at, campaign, figures=self.figures
        )
        tenant.last_seq = seq = tenant.last_seq + 1
        judged = (class_, reasons, VERSION, client)
        self.rows.append((hit.tenant, seq, at, hit.kind, flags, link, *judged, campaign))
        return class_

    def flush(self) -> None:
        """Write them."""
        if self.rows:
            self.cursor.executemany(SQL["insert_aggregate"], self.rows)

    def undo(self) -> None:
        """They were rolled back: they have no share of their emails' hour."""
        for key in self.emails:
            self.memory.hot.pop(key, None)
