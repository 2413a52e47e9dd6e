"""What must be true of a database after whatever happened to its server."""

import shutil
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw

from durable_load import TENANT, Hit, Ledger
from little_bell.store.database import migrate, open_writer
from little_bell.store.recount import Recount
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail

HOUR = 3_600_000  # milliseconds

EVENTS = """
SELECT e.kind, e.email, coalesce(l.url, ''), count(*)
FROM events AS e
LEFT JOIN links AS l ON l.tenant = e.tenant AND l.link = e.link
WHERE e.tenant = (SELECT tenant FROM tenants WHERE name = ?)
GROUP BY 1, 2, 3
"""

# Emails whose state is not what their events say, by another arithmetic than the server's own.
STATES_APART = """
WITH told AS (
    SELECT tenant, email,
        sum(kind = 0 AND class <> 2) AS opens,
        sum(kind = 0 AND class = 2) AS machine_opens,
        sum(kind = 1 AND class <> 2) AS clicks,
        sum(kind = 1 AND class = 2) AS machine_clicks,
        min(CASE WHEN kind = 0 AND class <> 2 THEN at END) AS first_open,
        max(CASE WHEN kind = 0 AND class <> 2 THEN at END) AS last_open,
        min(CASE WHEN kind = 1 AND class <> 2 THEN at END) AS first_click,
        max(CASE WHEN kind = 1 AND class <> 2 THEN at END) AS last_click,
        max(CASE WHEN kind = 0 THEN seq END) AS head_open,
        max(CASE WHEN kind = 1 THEN seq END) AS head_click
    FROM events WHERE kind < 2 GROUP BY tenant, email
)
SELECT s.tenant, s.email
FROM states AS s LEFT JOIN told AS t ON t.tenant = s.tenant AND t.email = s.email
WHERE (s.opens, s.machine_opens, s.clicks, s.machine_clicks) IS NOT
    (ifnull(t.opens, 0), ifnull(t.machine_opens, 0), ifnull(t.clicks, 0),
    ifnull(t.machine_clicks, 0))
OR (s.first_open, s.last_open, s.first_click, s.last_click, s.head_open, s.head_click) IS NOT
    (t.first_open, t.last_open, t.first_click, t.last_click, t.head_open, t.head_click)
"""

LINKS_APART = """
SELECT tenant, email, link, sum(people), sum(machines) FROM (
    SELECT tenant, email, link, class <> 2 AS people, class = 2 AS machines
    FROM events WHERE kind = 1
    UNION ALL
    SELECT tenant, email, link, -clicks, -machine_clicks FROM email_links
)
GROUP BY 1, 2, 3 HAVING sum(people) <> 0 OR sum(machines) <> 0
"""

ORPHANS = """
SELECT tenant, seq FROM events
WHERE (tenant, email) NOT IN (SELECT tenant, email FROM states)
OR (tenant, email) NOT IN (SELECT tenant, email FROM emails)
"""

NUMBERS_BEHIND = """
SELECT name FROM tenants AS t
WHERE last_seq < (SELECT ifnull(max(seq), 0) FROM events AS e WHERE e.tenant = t.tenant)
OR last_email < (SELECT ifnull(max(email), 0) FROM emails AS m WHERE m.tenant = t.tenant)
"""

Bucket = tuple[int, int, int, int]


def seed(database: Path, emails: int) -> None:
    """A database whose tenant sent so many emails an hour ago, so that clicks are no machine's."""
    database.parent.mkdir(parents=True, exist_ok=True)
    connection = open_writer(str(database))
    migrate(connection)
    connection.close()
    writer = Writer(str(database))
    email = NewEmail(TENANT, "Hello", None, "spring", None)
    writer.write(int(time.time() * 1000) - HOUR, [email] * emails, [])
    writer.close()


def copy_database(source: Path, target: Path) -> None:
    """A copy of a database that no server has open, with its WAL where there is one."""
    target.parent.mkdir(parents=True)
    for suffix in ("", "-wal", "-journal"):
        if Path(f"{source}{suffix}").exists():
            shutil.copy(f"{source}{suffix}", f"{target}{suffix}")


def rows_by_bucket(rows: Iterable[tuple[Any, ...]]) -> dict[Bucket, tuple[int, ...]]:
    """Figures by their key; a bucket of zeros is as good as none."""
    return {(r[0], r[1], r[2], r[3]): r[4:] for r in rows if any(r[4:])}


def check_agreement(connection: apsw.Connection) -> None:
    """The file is whole, and states, links, numbers and figures say what the events say."""
    assert connection.pragma("integrity_check") == "ok"
    assert connection.execute(ORPHANS).fetchall() == []
    assert connection.execute(STATES_APART).fetchall() == []
    assert connection.execute(LINKS_APART).fetchall() == []
    assert connection.execute(NUMBERS_BEHIND).fetchall() == []
    recount = Recount(connection)
    assert (list(recount), recount.problems) == ([], [])


def events_in(connection: apsw.Connection) -> Counter[Hit]:
    rows: list[tuple[Any, ...]] = connection.execute(EVENTS, (TENANT,)).fetchall()
    return Counter({Hit(kind, email, url): count for kind, email, url, count in rows})


def emails_in(connection: apsw.Connection) -> set[int]:
    rows: Iterable[tuple[Any, ...]] = connection.execute(
        "SELECT email FROM emails JOIN states USING (tenant, email)"
        " WHERE tenant = (SELECT tenant FROM tenants WHERE name = ?)",
        (TENANT,),
    )
    return {email for (email,) in rows}


def check(database: Path, ledger: Ledger, durable: bool = True) -> None:
    """The promise: what was answered is there exactly once, what was not at most once.

    `durable` is false where the server said that answers were no promise: then what was answered
    may be missing, but nothing may be there twice, and nothing may disagree.
    """
    connection = apsw.Connection(str(database))
    try:
        check_agreement(connection)
        found = events_in(connection)
        emails = emails_in(connection)
    finally:
        connection.close()
    extra = found - ledger.sent
    assert not extra, f"more often in the log than asked for: {extra.most_common(3)}"
    assert len(ledger.issued) == len(set(ledger.issued)), "an id was handed out twice"
    assert set(ledger.issued) <= emails, "an email was answered and is not there"
    lost = ledger.answered - found
    if durable:
        assert not lost, f"answered and not in the log: {sum(lost.values())}, as {next(iter(lost))}"
