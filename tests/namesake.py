"""A database of the Little Bell in Rust, made by its schema with the standard library's SQLite."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

SCHEMA = """
CREATE TABLE tenants (id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE emails (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tenant_id TEXT NOT NULL, subject TEXT, recipient TEXT,
    created_at TEXT NOT NULL, FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email_id INTEGER NOT NULL, event_type TEXT NOT NULL,
    timestamp TEXT NOT NULL, user_agent TEXT, ip_address TEXT,
    FOREIGN KEY (email_id) REFERENCES emails (id)
);
"""


def moment(ms: int) -> str:
    """A time as chrono's `to_rfc3339` writes it, with nanoseconds."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}456789+00:00"


class Namesake:
    """Until it is closed, what is written stands in its write-ahead log: as while its server
    runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = wal")
        self.connection.executescript(SCHEMA)

    def email(self, tenant: str, at: int, subject: str | None, recipient: str | None) -> int:
        self.connection.execute(
            "INSERT OR IGNORE INTO tenants VALUES (?, ?, ?)", (tenant, tenant, moment(at))
        )
        found = self.connection.execute(
            "INSERT INTO emails (tenant_id, subject, recipient, created_at) VALUES (?, ?, ?, ?)",
            (tenant, subject, recipient, moment(at)),
        ).lastrowid
        assert found is not None
        return found

    def event(self, email: int, kind: str, at: int, agent: str | None, address: str) -> None:
        self.connection.execute(
            "INSERT INTO events (email_id, event_type, timestamp, user_agent, ip_address) "
            "VALUES (?, ?, ?, ?, ?)",
            (email, kind, moment(at), agent, address),
        )

    def close(self) -> None:
        self.connection.close()
