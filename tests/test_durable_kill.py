"""kill -9 under load: what was answered is in the log, once; what was not, at most once."""

import contextlib
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from bell import Bell, wait_until
from durable_check import check, copy_database, seed
from durable_load import Emails, Ledger, Load, Reader
from little_bell.errors import LittleBellError
from little_bell.wire.control import call

EMAILS = 40_000
KILLS = 20  # on one file, so that each start finds what the last kill left


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("seeded") / "data" / "tracking.db"
    seed(database, EMAILS)
    return database


def keep_checkpointing(database: Path, gone: threading.Event) -> None:
    """Ask for checkpoints all the time, so that kills hit the middle of some."""
    while not gone.wait(0.01):
        with contextlib.suppress(LittleBellError):
            call(str(database), "POST", "/checkpoint")


def kill_under_load(bell: Bell, ledger: Ledger, emails: Emails) -> None:
    gone = threading.Event()
    checkpoints = threading.Thread(target=keep_checkpointing, args=(bell.database, gone))
    with Load(bell.port, ledger, emails) as load:
        checkpoints.start()
        wait_until(lambda: any(isinstance(one, Reader) and one.answered for one in load.clients))
        time.sleep(random.uniform(0, 0.3))
        bell.kill()
        gone.set()
        load.wait()
    checkpoints.join()


def test_answered_opens_clicks_and_emails_survive_kills(
    tmp_path: Path, seeded: Path, soak: bool
) -> None:
    for series in range(500 // KILLS if soak else 1):
        bell = Bell(tmp_path / f"series{series}")
        copy_database(seeded, bell.database)
        ledger, emails = Ledger(EMAILS), Emails(EMAILS)
        try:
            bell.start()
            for _ in range(KILLS):
                kill_under_load(bell, ledger, emails)
                bell.start()
                assert bell.ask("GET", "/health").status == 200
                check(bell.database, ledger)
            assert bell.create() > ledger.last_issued()
            assert bell.stop() == 0
        finally:
            bell.end()
        shutil.rmtree(bell.folder)  # a soak would fill the disk
