"""The disk fails for a while: answers keep coming, and each event is in the log once."""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bell import Bell
from durable_check import check, copy_database, seed
from durable_load import OPENED, Emails, Hit, Ledger, Load

EMAILS = 20_000
PAUSE = 0.01  # of each client, so that a long failure stays within what may wait
PROGRAM = [sys.executable, str(Path(__file__).with_name("durable_faults.py"))]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("seeded") / "data" / "tracking.db"
    seed(database, EMAILS)
    return database


class Faulty(Bell):
    """A server whose disk can be told to fail."""

    def set_fault(self, fault: str) -> None:
        # Renamed into place: the server must not read half a word.
        new = self.folder / "fault.new"
        new.write_text(fault)
        new.rename(self.folder / "fault")

    def health(self) -> tuple[int, dict[str, object]]:
        answer = self.ask("GET", "/health")
        return answer.status, answer.json

    def wait_for(self, status: int, timeout: float = 20) -> dict[str, object]:
        """Until /health has this status; returns the report."""
        deadline = time.monotonic() + timeout
        while True:
            found, report = self.health()
            if found == status:
                return report
            assert time.monotonic() < deadline, f"/health stays {found}: {report}"
            time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path, seeded: Path) -> Iterator[Callable[..., Faulty]]:
    started: list[Faulty] = []

    def begin(**settings: str) -> Faulty:
        folder = tmp_path / f"bell{len(started)}"
        bell = Faulty(folder, PROGRAM, FAULT=str(folder / "fault"), **settings)
        copy_database(seeded, bell.database)
        started.append(bell)
        bell.start()
        return bell

    yield begin
    for bell in started:
        bell.end()


def check_all_once(bell: Faulty, ledger: Ledger) -> None:
    """The server lived on, so whatever was asked for was answered, and is there once."""
    assert ledger.answered == ledger.sent
    assert ledger.answered.total() > 0
    assert bell.metrics()["events_waiting"] == 0
    assert bell.metrics()["events_dropped_total"] == 0
    check(bell.database, ledger)
    assert bell.stop() == 0
    check(bell.database, ledger)


@pytest.mark.parametrize(("fault", "reason"), [("sync", "I/O error"), ("full", "the disk is full")])
def test_what_waited_is_written_once(start: Callable[..., Faulty], fault: str, reason: str) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
        time.sleep(0.2)
        bell.set_fault(fault)
        report = bell.wait_for(503)
        time.sleep(1.0)
        waiting = bell.metrics()
        refused = bell.ask("POST", "/acme/emails", {"subject": "Hello"})
        bell.set_fault("")
        bell.wait_for(200)
        time.sleep(0.2)
    assert report["status"] == "degraded"
    assert reason in str(report["reason"])
    assert refused.status == 503
    assert refused.headers["retry-after"].isdigit()
    assert waiting["healthy"] == 0
    assert waiting["events_waiting"] > 0
    assert waiting["answers_not_durable_total"] >= waiting["events_waiting"]
    check_all_once(bell, ledger)


def test_one_failed_sync_is_repaired_at_once(start: Callable[..., Faulty]) -> None:
    """Nobody notices: the server opens the file again, compares and appends again."""
    bell, ledger = start(), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
        for _ in range(10):
            time.sleep(0.1)
            bell.set_fault("sync-once")
        time.sleep(0.5)
    bell.wait_for(200)
    assert not (bell.folder / "fault").exists(), "no sync failed"
    assert bell.metrics()["answers_not_durable_total"] == 0
    check_all_once(bell, ledger)


def test_failures_that_come_and_go(start: Callable[..., Faulty], soak: bool) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE, readers=2):
        for n in range(20 if soak else 4):
            for fault in ("sync", "full", "sync-once", ""):
                bell.set_fault(fault)
                time.sleep(0.03 + 0.07 * (n % 4))
        bell.wait_for(200)
    check_all_once(bell, ledger)


@pytest.mark.parametrize("seconds", ["0.002", "0.05"])
def test_a_slow_disk_is_no_failure(start: Callable[..., Faulty], seconds: str) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    bell.set_fault(f"slow {seconds}")
    with Load(bell.port, ledger, Emails(EMAILS)):
        time.sleep(1.0)
        assert bell.health()[0] == 200
    assert bell.metrics()["answers_not_durable_total"] == 0
    check_all_once(bell, ledger)


def test_while_another_program_holds_the_file_events_wait(start: Callable[..., Faulty]) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    other = sqlite3.connect(bell.database, isolation_level=None, timeout=20)
    try:
        with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
            time.sleep(0.2)
            other.execute("BEGIN IMMEDIATE")
            report = bell.wait_for(503)
            time.sleep(1.0)
            other.execute("ROLLBACK")
            bell.wait_for(200)
    finally:
        other.close()
    assert report["reason"] == "another program holds the database"
    check_all_once(bell, ledger)


def test_a_commit_in_doubt_is_settled_when_nothing_may_wait(start: Callable[..., Faulty]) -> None:
    """What the failed sync was for may be in the file after all: dropped or written, not both."""
    bell = start(MAX_WAITING_BYTES="0")
    assert bell.get("/acme/pixel/3.gif").status == 200  # the WAL is begun, and in order
    bell.set_fault("sync")
    assert bell.get("/acme/pixel/1.gif").status == 200
    bell.wait_for(503)
    for _ in range(3):
        assert bell.get("/acme/pixel/2.gif").status == 200
    time.sleep(0.6)  # the server looks at the disk, in vain
    bell.set_fault("")
    bell.wait_for(200)
    ledger = Ledger(EMAILS)
    ledger.sent.update([Hit(OPENED, email, "") for email in (3, 1, 2, 2, 2)])
    check(bell.database, ledger)
    written = len(bell.rows("SELECT * FROM events"))
    assert written + bell.metrics()["events_dropped_total"] == 5


@pytest.mark.parametrize("fault", ["sync", "full"])
def test_the_log_says_once_that_events_wait(start: Callable[..., Faulty], fault: str) -> None:
    bell = start()
    bell.set_fault(fault)
    assert bell.get("/acme/pixel/1.gif").status == 200
    bell.wait_for(503)
    time.sleep(1.0)
    bell.set_fault("")
    bell.wait_for(200)
    assert bell.stop() == 0
    said = [line["message"] for line in bell.warnings()]
    assert said == ["Events wait in memory", "Events are durable again"]
