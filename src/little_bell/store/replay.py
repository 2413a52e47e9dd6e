"""Replay: every figure again from the log alone. Same arithmetic as the writer's, no shortcuts."""

import apsw

from little_bell.store.projection import (
    EmailLink,
    EmailState,
    Figures,
    fresh_row,
    project_click,
    project_open,
    project_sent,
)
from little_bell.store.statements import load
from little_bell.tracking.hit import OPEN

SQL = load("write.sql")


def replay(connection: apsw.Connection) -> Figures:
    """The figures that follow from the emails and the log, for all tenants. Reads only."""
    totals = Figures()
    states: dict[tuple[int, int], EmailState] = {}
    pairs: dict[tuple[int, int, int], EmailLink] = {}
    for tenant, email, created_at, campaign in connection.execute(SQL["unscoped_emails"]):
        state = states[tenant, email] = EmailState(tenant, email, fresh_row(created_at, campaign))
        project_sent(state, totals)
    for tenant, _, at, email, kind, link, class_ in connection.execute(SQL["unscoped_log"]):
        state = states[tenant, email]
        if kind == OPEN:
            project_open(state, at, class_, totals)
        else:
            pair = pairs.setdefault((tenant, email, link), EmailLink())
            project_click(state, pair, link, at, class_, totals)
    return totals
