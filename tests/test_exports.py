"""GET of events.csv, events.ndjson and emails.csv"""

import csv
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bell import BROWSER, Bell, fresh_tenant, serving
from little_bell.api import exports
from little_bell.store import events
from little_bell.store.reader import Reader
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN
from test_figures import APPLE, MINUTE, NOON, Store


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("exports"), INSTANT_SECONDS="0") as bell:
        yield bell


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "t.db")
    yield store
    store.writer.close()


def table(data: bytes) -> list[dict[str, str]]:
    """Rows of CSV by the names in its header; lines end as RFC 4180 has it."""
    text = data.decode("utf-8")
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_the_log_as_csv_and_ndjson(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    bell.get(f"/{tenant}/pixel/1.gif")
    bell.get(f"/{tenant}/click/1?url=https://example.com/a,b")
    listed = bell.get(f"/{tenant}/events?after=0").json["events"]
    answer = bell.get(f"/{tenant}/events.ndjson")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.body.splitlines()] == listed
    answer = bell.get(f"/{tenant}/events.csv")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{tenant}-events.csv"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    rows = table(answer.body)
    assert [list(row) for row in rows] == [list(event) for event in listed]
    assert rows[1]["url"] == "https://example.com/a,b"
    assert rows[1]["reasons"] == "browser"
    assert rows[0]["url"] == rows[0]["label"] == ""
    assert rows[0]["at"] == listed[0]["at"]
    for query, found in (("kind=click", [2]), ("class=machine", []), ("after=1", [2])):
        answer = bell.get(f"/{tenant}/events.csv?{query}")
        assert [
            int(row["id"]) for row in csv.DictReader(answer.body.decode().splitlines())
        ] == found


def test_emails_as_csv(bell: Bell) -> None:
    tenant = fresh_tenant()
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", 'a"b', "a,b", "a\r\nb", "ä", "x=1"]
    for text in hostile:
        bell.create(tenant, subject=text, metadata={"=a": "b"})
    answer = bell.get(f"/{tenant}/emails.csv")
    rows = table(answer.body)
    assert [int(row["email_id"]) for row in rows] == list(range(len(hostile), 0, -1))
    for text, row in zip(hostile, reversed(rows), strict=True):
        assert row["subject"] == (f"'{text}" if text[0] in "=+-@\t\r" else text)
        assert json.loads(row["metadata"]) == {"=a": "b"}
        assert (row["opened"], row["opens"], row["first_open"]) == ("no", "0", "")


@pytest.mark.parametrize("path", ["events.csv", "events.ndjson", "emails.csv"])
def test_what_is_refused(bell: Bell, path: str) -> None:
    tenant = fresh_tenant()
    assert bell.get(f"/{tenant}/{path}").status == 404
    bell.create(tenant)
    assert bell.get(f"/{tenant}/{path}").status == 200
    answer = bell.get(f"/{tenant}/{path}?limit=5")
    assert (answer.status, answer.json["field"]) == (400, "limit")
    if path != "emails.csv":
        answer = bell.get(f"/{tenant}/{path}?kind=capped")
        assert (answer.status, answer.json["field"]) == (400, "kind")
    assert bell.ask("HEAD", f"/{tenant}/{path}").status == 200
    assert bell.ask("POST", f"/{tenant}/{path}", b"").status == 405


def test_nothing_of_another_tenant_is_exported(bell: Bell) -> None:
    secret, tenant = fresh_tenant(), fresh_tenant()
    bell.create(secret, subject="secret")
    bell.get(f"/{secret}/click/1?url=https://secret.example/")
    bell.create(tenant)
    for path in ("events.csv", "events.ndjson", "emails.csv"):
        assert b"secret" not in bell.get(f"/{tenant}/{path}").body


def test_each_piece_is_a_read_of_its_own_by_whatever_thread(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PIECE", 2)
    store.writer.write(NOON, [NewEmail("acme", "s", None, None, None)] * 5, [])
    for minute in range(5, 10):
        store.write(store.hit(1, OPEN, minute * MINUTE))
    local = threading.local()
    readers: list[Reader] = []

    def reader() -> Reader:
        if not hasattr(local, "reader"):
            local.reader = Reader(store.path)
            readers.append(local.reader)
        mine: Reader = local.reader
        return mine

    def take(pieces: Iterator[bytes], found: list[bytes]) -> None:
        for piece in pieces:
            found.append(piece)
            return

    def drain(pieces: Iterator[bytes]) -> list[bytes]:
        """Take each piece in a thread of its own; after each one more is written."""
        found: list[bytes] = []
        while True:
            known = len(found)
            thread = threading.Thread(target=take, args=(pieces, found))
            thread.start()
            thread.join()
            assert all(not one.connection.in_transaction for one in readers)
            if len(found) == known:
                return found
            store.write(store.hit(1, OPEN, 30 * MINUTE))
            store.writer.write(NOON, [NewEmail("acme", "late", None, None, None)], [])

    pieces = drain(exports.events_ndjson(reader, 1, events.ALL, 0))
    assert [len(piece.splitlines()) for piece in pieces] == [2, 2, 1]
    ids = [json.loads(line)["id"] for piece in pieces for line in piece.splitlines()]
    assert ids == [1, 2, 3, 4, 5]  # and none that came later
    rows = table(b"".join(drain(exports.emails_csv(reader, 1))))
    # Three came before; one after the header, which is a piece without a read.
    assert [int(row["email_id"]) for row in rows] == list(range(9, 0, -1))
    for one in readers:
        one.close()


def test_pieces_of_what_is_rare_are_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_AT", 2)
    store.create()
    for agent in (BROWSER, APPLE, BROWSER, BROWSER, BROWSER, APPLE):
        store.write(store.hit(1, OPEN, 5 * MINUTE, agent))
    store.write(store.hit(1, CLICK, 9 * MINUTE, url="https://example.com/"))
    reader = Reader(store.path)

    def ids(search: events.Search, after: int = 0) -> list[Any]:
        pieces = exports.events_ndjson(lambda: reader, 1, search, after)
        return [json.loads(line)["id"] for piece in pieces for line in piece.splitlines()]

    assert ids(events.Search(class_=2)) == [2, 6]
    assert ids(events.Search(class_=2), 2) == [6]
    assert ids(events.Search(kind=CLICK)) == [7]
    assert ids(events.ALL, 7) == []
    reader.close()
