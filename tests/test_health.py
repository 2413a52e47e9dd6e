"""GET /health"""

import sqlite3
from collections.abc import Callable

import pytest

from bell import Bell, events, wait_until
from little_bell import __version__


def test_it_works(bell: Bell) -> None:
    answer = bell.get("/health")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    health = answer.json
    assert set(health) == {"status", "service", "version", "uptime_seconds", "database"}
    assert health["status"] == "healthy"
    assert health["service"] == "little-bell"
    assert health["version"] == __version__
    assert health["database"]
    assert isinstance(health["uptime_seconds"], int | float)
    assert 0 <= health["uptime_seconds"] < 60


def test_uptime_grows(bell: Bell) -> None:
    first = bell.get("/health").json["uptime_seconds"]
    wait_until(lambda: bell.get("/health").json["uptime_seconds"] > first)


def test_head_and_wrong_method(bell: Bell) -> None:
    head = bell.ask("HEAD", "/health")
    assert (head.status, head.body) == (200, b"")
    answer = bell.ask("DELETE", "/health")
    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("target", ["/health?x=1", "/health?"])
def test_a_query_changes_nothing(bell: Bell, target: str) -> None:
    assert bell.get(target).json["status"] == "healthy"


def test_it_is_degraded_while_events_cannot_be_written(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    bell.create("acme")
    other = sqlite3.connect(bell.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # another program holds the database
    try:
        assert bell.get("/acme/pixel/1.gif").status == 200
        redirect = bell.get("/acme/click/1?url=https://example.com/")
        assert (redirect.status, redirect.headers["location"]) == (302, "https://example.com/")
        answer = bell.get("/health")
        assert (answer.status, answer.json["status"]) == (503, "degraded")
        assert answer.json["reason"]
        assert {"service", "version", "uptime_seconds", "database"} <= set(answer.json)
        refused = bell.ask("POST", "/acme/emails", {})
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "email_id" not in refused.json
    finally:
        other.execute("ROLLBACK")
        other.close()
    wait_until(lambda: bell.get("/health").status == 200)
    assert events(bell, "acme") == [(1, "open"), (1, "click")]
    assert bell.create("acme") == 2
    assert bell.metrics()["answers_not_durable_total"] == 2
