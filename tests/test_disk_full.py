"""The disk is full for a while: a small file system in memory, filled to its last byte."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batches import (
    NDJSON,
    check_file,
    check_folder,
    contents,
    head_of,
    ids,
    lines,
    post,
    settle,
)
from bell import Answer, Bell, exchange, wait_until
from durable_check import check, seed
from durable_load import CLICKED, OPENED, Emails, Hit, Ledger, Load

EMAILS = 10_000
LIST = "application/json"
MEGABYTES = 8
PAUSE = 0.01  # of each client, so that what waits stays within its bound


class Volume:
    """A file system of its own that holds one database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def fill(self) -> None:
        """Until not one byte more fits."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (65_536, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass  # that is what is wanted

    def make_room(self) -> None:
        self.filler.unlink()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """Mounted where the server looks for its `data` folder, and gone when the test is over."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs Linux and root")
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "little-bell-test", str(folder)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False, timeout=30)
    if tried.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {tried.stderr.strip()}")
    try:
        yield Volume(folder)
    finally:
        # Lazy: it must go even where a server that failed to stop still holds it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


@pytest.fixture
def start(tmp_path: Path, volume: Volume) -> Iterator[Callable[..., Bell]]:
    """Starts the one server on the volume."""
    started: list[Bell] = []

    def begin(**settings: str) -> Bell:
        bell = Bell(tmp_path, None, **settings)
        started.append(bell)
        seed(bell.database, EMAILS)
        return bell.start()

    yield begin
    for bell in started:
        bell.end()


def wait_for_health(bell: Bell, status: int, timeout: float = 20) -> Answer:
    deadline = time.monotonic() + timeout
    while True:
        answer = bell.ask("GET", "/health")
        if answer.status == status:
            return answer
        assert time.monotonic() < deadline, f"/health stays {answer}"
        time.sleep(0.02)


def test_events_wait_until_there_is_room(start: Callable[..., Bell], volume: Volume) -> None:
    bell, ledger = start(), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
        time.sleep(0.2)
        volume.fill()
        health = wait_for_health(bell, 503)
        time.sleep(1.0)
        full = bell.metrics()
        refused = bell.ask("POST", "/acme/emails", {"subject": "Hello"})
        opened = bell.get("/acme/pixel/1.gif")
        clicked = bell.get("/acme/click/1?url=https%3A%2F%2Fexample.com%2F")
        emails = len(ledger.issued)
        volume.make_room()
        wait_for_health(bell, 200)
        time.sleep(0.2)

    assert health.json["status"] == "degraded"
    assert health.json["reason"] == "the disk is full"
    assert refused.status == 503
    assert refused.headers["retry-after"].isdigit()
    assert b"email_id" not in refused.body
    assert (opened.status, clicked.status) == (200, 302)
    assert full["events_waiting"] > 0
    assert full["answers_not_durable_total"] >= full["events_waiting"]
    assert full["healthy"] == 0

    assert len(ledger.issued) > emails, "no email was created once there was room"
    assert ledger.answered == ledger.sent
    after = bell.metrics()
    assert (after["events_waiting"], after["events_dropped_total"]) == (0, 0)
    for _ in range(2):
        ledger.issued.append(bell.create())
    count_own(ledger)
    check(bell.database, ledger)
    assert bell.stop() == 0
    check(bell.database, ledger)


def count_own(ledger: Ledger) -> None:
    """The open and the click that the test itself asked for."""
    own = [Hit(OPENED, 1, ""), Hit(CLICKED, 1, "https://example.com/")]
    ledger.sent.update(own)
    ledger.answered.update(own)


def test_what_does_not_fit_into_memory_is_dropped_and_counted(
    start: Callable[..., Bell], volume: Volume
) -> None:
    bell, ledger = start(MAX_WAITING_BYTES="20000"), Ledger(EMAILS)
    with Load(bell.port, ledger, Emails(EMAILS), PAUSE):
        volume.fill()
        wait_for_health(bell, 503)
        time.sleep(1.0)
        waiting = bell.metrics()["events_waiting"]
        volume.make_room()
        wait_for_health(bell, 200)
    assert ledger.answered == ledger.sent
    assert 0 < waiting < 20000 / 300
    dropped = bell.metrics()["events_dropped_total"]
    assert dropped > 0
    check(bell.database, ledger, durable=False)
    [(events,)] = bell.rows("SELECT count(*) FROM events")
    assert events + dropped == ledger.answered.total()
    assert bell.stop() == 0
    [line] = [line for line in bell.lines() if line["message"] == "Events are durable again"]
    assert line["fields"]["dropped"] == dropped


@pytest.mark.parametrize("megabytes", [2, 3, 5, 9])
def test_a_batch_that_finds_no_room_creates_nothing(
    start: Callable[..., Bell], volume: Volume, megabytes: int
) -> None:
    """Its body, what the slow lane makes of it, or its rows: each is on the disk, one after the
    other."""
    bell = start()
    bell.get("/acme/dashboard")  # the slow lane is there
    before = contents(bell.database)
    email = {"subject": "x" * 900, "campaign": "new"}
    body = lines([email] * (megabytes * 1000))
    for _ in range(3):
        answer = post(bell, body)
        assert answer.status == 503, answer
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"].isdigit()
        assert bell.get("/acme/pixel/1.gif").status == 200
    wait_for_health(bell, 200)
    settle(bell)
    after = contents(bell.database)
    for table in ("emails", "campaigns", "pending", "idempotency"):
        assert after[table] == before[table]
    assert bell.metrics()["slow_lane_starts_total"] == 1, "the slow lane did not live through it"
    assert len(ids(post(bell, lines([email] * 10)))) == 10
    check_file(bell.database)
    check_folder(bell)


def test_no_batch_is_taken_while_the_disk_is_full(
    start: Callable[..., Bell], volume: Volume
) -> None:
    bell = start()
    bell.get("/acme/dashboard")
    before = contents(bell.database)
    volume.fill()
    for size in (10, 100, 200_000, 300_001):
        for kind, email in ((NDJSON, b"{}\n"), (LIST, b"[{}]")):
            answer = post(bell, email + b" " * size, kind=kind)
            assert answer.status == 503, answer
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"].isdigit()
    assert bell.get("/acme/dashboard").status == 200
    assert contents(bell.database) == before
    volume.make_room()
    wait_for_health(bell, 200)
    assert len(ids(post(bell, b"{}\n" * 700))) == 700
    assert bell.metrics()["slow_lane_starts_total"] == 1, "the slow lane did not live through it"
    check_file(bell.database)


def test_a_body_whose_end_finds_no_room_is_refused_as_any_other(
    start: Callable[..., Bell], volume: Volume
) -> None:
    """Small writes are buffered, so that the disk may fail when the file is closed or read."""
    bell = start()
    bell.get("/acme/dashboard")
    before = contents(bell.database)
    volume.fill()
    os.truncate(volume.filler, volume.filler.stat().st_size - 200 * 1024)
    for kilobytes in (*range(190, 212), 300):
        head = head_of("acme", "Transfer-Encoding: chunked")
        chunks = b"400\r\n" + b" " * 1023 + b"\n\r\n"
        answer = exchange(bell, head + chunks * kilobytes + b"3\r\n{}\n\r\n0\r\n\r\n")
        assert answer.status in (201, 503), answer
        assert bell.get("/acme/dashboard").status == 200
    assert answer.status == 503
    assert bell.metrics()["slow_lane_starts_total"] == 1, "the slow lane did not live through it"
    assert len(contents(bell.database)["emails"]) < len(before["emails"]) + 22
    volume.make_room()
    wait_for_health(bell, 200)
    assert len(ids(post(bell, b"{}\n" * 700))) == 700
    check_file(bell.database)


def test_an_import_that_fills_the_disk_ends_and_leaves_room(
    tmp_path: Path, start: Callable[..., Bell], volume: Volume
) -> None:
    """Its own rows lie on that disk: as long as it waits for room, there is none for opens."""
    bell = start()
    tenant = "gamma"
    rows = [{"email_id": n, "created_at": "2024-01-01T00:00:00Z"} for n in range(1, 301)]
    for n in range(9000):
        at = f"2024-02-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z"
        agent = f"Mozilla/5.0 {'x' * 150} {n % 100}"
        rows.append({"email_id": n % 300 + 1, "kind": "open", "at": at, "user_agent": agent})
    (tmp_path / "all.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "little_bell", "import", "all.ndjson", "--tenant", tenant]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    here = "SELECT count(*) FROM events JOIN tenants USING (tenant) WHERE name = 'gamma'"
    wait_until(lambda: process.poll() is not None or bell.rows(here)[0][0] > 100)
    volume.fill()
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, b""), error
    assert b"the disk takes nothing now" in error
    assert b"rows are in: the same command goes on" in error
    wait_for_health(bell, 200)  # what the import held is free: no other room was made
    volume.make_room()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert bell.rows(here) == [(9000,)]
