"""Batches for tests: bodies of many emails, and a look at what becomes of them."""

import contextlib
import http.client
import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import apsw

from bell import Answer, Bell, dump, raw_request, wait_until
from durable_check import check_agreement

NDJSON = "application/x-ndjson"
FILES = {f"tracking.db{end}" for end in ("", "-wal", "-shm", ".lock", ".secret")}

# Rows of a batch without an email or a state, and the other way round; campaigns without a name.
APART = """
SELECT tenant, email FROM emails WHERE (tenant, email) NOT IN (SELECT tenant, email FROM states)
UNION ALL
SELECT tenant, email FROM states WHERE (tenant, email) NOT IN (SELECT tenant, email FROM emails)
UNION ALL
SELECT tenant, email FROM states WHERE campaign IS NOT NULL
AND (tenant, campaign) NOT IN (SELECT tenant, campaign FROM campaigns)
"""


def lines(emails: Iterable[object], end: str = "\n") -> bytes:
    """NDJSON of these values."""
    return "".join(json.dumps(email, ensure_ascii=False) + end for email in emails).encode()


def some(count: int, campaign: str = "spring") -> bytes:
    """NDJSON of so many emails."""
    email = {"subject": "Hello", "recipient": "ada@example.com", "campaign": campaign}
    return lines([email]) * count


def post(
    bell: Bell, body: bytes, tenant: str = "acme", kind: str = NDJSON, **headers: str
) -> Answer:
    """Create many; keyword arguments are headers with _ for -."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return bell.ask("POST", f"/{tenant}/emails", body, {"Content-Type": kind, **given})


def raw_post(tenant: str, body: bytes, *more: str, kind: str = NDJSON) -> bytes:
    """The same as bytes."""
    target = f"/{tenant}/emails"
    return raw_request(target, f"Content-Type: {kind}", *more, method="POST", body=body)


def head_of(tenant: str, *more: str, kind: str = NDJSON, version: str = "1.1") -> bytes:
    """The head of such a request; `more` says how long the body is."""
    target = f"/{tenant}/emails"
    return raw_request(target, f"Content-Type: {kind}", *more, method="POST", version=version)


def ids(answer: Answer) -> list[int]:
    """The ids of an answer in either form, its status and every address checked."""
    assert answer.status == 201, answer
    if answer.headers["content-type"] == NDJSON:
        made = [json.loads(line) for line in answer.body.splitlines()]
    else:
        made = answer.json if isinstance(answer.json, list) else [answer.json]
    for one in made:
        assert set(one) == {"email_id", "tracking_pixel_url"}
        assert one["tracking_pixel_url"].endswith(f"/pixel/{one['email_id']}.gif")
    return [one["email_id"] for one in made]


def stored(bell: Bell, tenant: str) -> list[tuple[Any, ...]]:
    """What was kept of a tenant's emails: id, subject, recipient, campaign, metadata."""
    return bell.rows(
        "SELECT e.email, subject, recipient, c.name, metadata FROM tenants AS t "
        "JOIN emails AS e USING (tenant) JOIN states AS s USING (tenant, email) "
        "LEFT JOIN campaigns AS c ON c.tenant = t.tenant AND c.campaign = s.campaign "
        "WHERE t.name = ? ORDER BY e.email",
        tenant,
    )


def count(bell: Bell, tenant: str = "acme") -> int:
    [(found,)] = bell.rows(
        "SELECT count(*) FROM emails JOIN tenants USING (tenant) WHERE name = ?", tenant
    )
    return int(found)


def sent(bell: Bell, tenant: str = "acme") -> dict[str, int]:
    """The figure `sent` of each campaign, and of the tenant under the name of nothing."""
    rows = bell.rows(
        "SELECT ifnull(c.name, ''), sum(sent) FROM tenants AS t JOIN figures AS f USING (tenant) "
        "LEFT JOIN campaigns AS c ON c.tenant = t.tenant AND f.scope = 1 AND c.campaign = f.id "
        "WHERE t.name = ? AND scope < 2 GROUP BY 1 HAVING sum(sent) > 0",
        tenant,
    )
    return dict(rows)


class Sending(threading.Thread):
    """One request in the background. `answer` is None where the connection broke."""

    def __init__(
        self, bell: Bell, body: bytes, tenant: str = "acme", kind: str = NDJSON, **headers: str
    ) -> None:
        super().__init__(daemon=True)
        self.kind = kind
        self.bell = bell
        self.body = body
        self.tenant = tenant
        self.headers = headers
        self.answer: Answer | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = post(self.bell, self.body, self.tenant, self.kind, **self.headers)
        except (OSError, http.client.HTTPException):
            pass  # that is what a kill looks like from here

    def result(self) -> Answer | None:
        self.join(60)
        assert not self.is_alive(), "the request has no answer"
        return self.answer


class Watch:
    """Looks at the batch that is being written, on a connection of its own."""

    def __init__(self, bell: Bell) -> None:
        self.connection = apsw.Connection(str(bell.database), apsw.SQLITE_OPEN_READONLY)
        self.connection.set_busy_timeout(10_000)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def written(self) -> int | None:
        """How many emails of it are in the file; None where none is pending."""
        rows = self.connection.execute(
            "SELECT (SELECT count(*) FROM emails AS e WHERE e.tenant = p.tenant "
            "AND e.email BETWEEN p.first AND p.last) FROM pending AS p"
        ).fetchall()
        return int(str(rows[0][0])) if rows else None

    def range(self) -> tuple[int, int]:
        [(first, last)] = self.connection.execute("SELECT first, last FROM pending").fetchall()
        return int(str(first)), int(str(last))

    def wait_for(self, least: int) -> None:
        """Until so many are written."""
        wait_until(lambda: (self.written() or 0) >= least)


def settle(bell: Bell) -> None:
    """Wait until no batch is being written and what another left is gone."""
    wait_until(lambda: not bell.rows("SELECT 1 FROM pending"))


def contents(database: Path) -> Mapping[str, list[tuple[Any, ...]]]:
    """Every row, but for the numbers that a batch which came to nothing has used up."""
    found = dump(database)
    found["tenants"] = [(id_, name, at, seq) for id_, name, at, _, seq, *_ in found["tenants"]]
    return found


def check_file(database: Path) -> None:
    """Whatever happened: all that is in the file agrees, and nothing is half there."""
    connection = apsw.Connection(str(database))
    try:
        assert connection.execute("SELECT * FROM pending").fetchall() == []
        assert connection.execute(APART).fetchall() == []
        check_agreement(connection)
    finally:
        connection.close()


def check_folder(bell: Bell) -> None:
    """No file is left behind."""
    found = {path.name for path in bell.database.parent.iterdir()}
    assert found <= FILES | {"tracking.db.control"}, found


def alive(bell: Bell) -> list[int]:
    """The processes that a server started and that have not ended."""
    found = []
    for pid in Path(f"/proc/{bell.pid}/task/{bell.pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                found.append(int(pid))
    return found


def slow_lane(bell: Bell) -> int:
    """The process behind the pages and the batches; there is one."""
    [pid] = alive(bell)
    return pid


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
