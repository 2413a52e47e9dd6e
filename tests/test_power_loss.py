"""The power goes at any write or sync: what was answered is on the platter, once."""

import random
import shutil
import sys
from pathlib import Path

import apsw
import pytest

from bell import Bell
from durable_check import check, copy_database, seed
from durable_load import Emails, Ledger, Load
from durable_vfs import CUT

EMAILS = 6000
PROGRAM = [sys.executable, str(Path(__file__).with_name("durable_power.py"))]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("seeded") / "data" / "tracking.db"
    seed(database, EMAILS)
    return database


def cut_power(
    folder: Path, seeded: Path, chance: random.Random, **settings: str
) -> tuple[Path, Ledger]:
    """Run until the cut; returns the image of the database, and what was answered before."""
    image = folder / "image" / "data"
    bell = Bell(
        folder / "bell",
        PROGRAM,
        POWER_IMAGE=str(image),
        POWER_SEED=str(chance.getrandbits(32)),
        **settings,
    )
    copy_database(seeded, bell.database)
    ledger = Ledger(EMAILS)
    try:
        try:
            bell.start()
        except AssertionError:  # the power went while it started
            assert bell.process is not None
            assert bell.process.poll() == CUT, bell.error_file.read_text()
        else:
            with Load(bell.port, ledger, Emails(EMAILS), readers=3) as load:
                load.wait()
            assert bell.process is not None
            assert bell.process.wait(20) == CUT, bell.error_file.read_text()
    finally:
        bell.end()
    return image / "tracking.db", ledger


def any_moment(chance: random.Random) -> dict[str, str]:
    """Often early, where the file and its WAL are opened; else in the midst of the load."""
    if chance.random() < 0.4:  # while a checkpoint writes the database
        return {"POWER_FILE": "tracking.db", "POWER_CUT": str(int(10 ** chance.uniform(0.3, 2.5)))}
    return {"POWER_CUT": str(int(10 ** chance.uniform(0.3, 3.6)))}


def restart(image: Path) -> None:
    """A server takes up what the cut left, without help."""
    bell = Bell(image.parents[1]).start()
    try:
        assert bell.ask("GET", "/health").status == 200
    finally:
        bell.end()


def test_answered_events_survive_power_cuts(tmp_path: Path, seeded: Path, soak: bool) -> None:
    answered = 0
    for n in range(500 if soak else 30):
        chance = random.Random()
        database, ledger = cut_power(tmp_path / str(n), seeded, chance, **any_moment(chance))
        answered += ledger.answered.total()
        if n % 3 == 0:
            restart(database)
        check(database, ledger)
        shutil.rmtree(tmp_path / str(n))  # a soak would fill the disk
    assert answered > 1000, "the load did nothing"


def first_loss(folder: Path, seeded: Path, cuts: int, synchronous: str) -> int | None:
    """Which of so many cuts was the first to break the promise."""
    for n in range(cuts):
        chance = random.Random()
        settings = {**any_moment(chance), "POWER_SYNCHRONOUS": synchronous}
        database, ledger = cut_power(folder / str(n), seeded, chance, **settings)
        try:
            check(database, ledger)
        except (AssertionError, apsw.Error):
            return n
    return None


@pytest.mark.parametrize("synchronous", ["off", "normal"])
def test_with_fewer_syncs_answered_events_are_lost(
    tmp_path: Path, seeded: Path, synchronous: str
) -> None:
    """The test above can fail: the same cuts, of a server that does not sync each commit."""
    assert first_loss(tmp_path, seeded, 80, synchronous) is not None


def test_answered_events_survive_power_cuts_after_syncs_that_failed(
    tmp_path: Path, seeded: Path, soak: bool
) -> None:
    """A failed sync is not repaired by the next: the pages must be written again."""
    promised = 0
    for n in range(200 if soak else 20):
        chance = random.Random()
        settings = {
            "POWER_CUT": str(int(10 ** chance.uniform(2.5, 3.8))),
            "POWER_SYNC_FAILS": str(chance.randrange(25, 60)),
        }
        database, ledger = cut_power(tmp_path / str(n), seeded, chance, **settings)
        durable = not (database.parents[1] / "not-durable").exists()
        check(database, ledger, durable)
        shutil.rmtree(tmp_path / str(n))
        promised += durable
    assert promised, "it never promised anything"
