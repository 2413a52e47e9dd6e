"""The wall clock jumps under a running server, by libfaketime: a file says what time it is."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from bell import Bell, Line, raw_request, wait_until
from durable_check import check, check_agreement, seed
from durable_load import Emails, Ledger, Load
from test_figures import Store, bursts, check_states, recount

EMAILS = 40_000
NOON = "2030-01-05 12:00:00"
DAY = 86_400
BURST, MACHINE = 1 << 16, 2
# libfaketime takes the end of Python's sleep, a time of the monotonic clock, for one of the wall's.
# Where two threads ask it at once, it may tell one of them the real time: so what the bell would
# import in a thread behind its first commit, which looks at times of files, is there before.
PROGRAM = """
import select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
from little_bell.cli import main
from little_bell.tracking.links import warm_up
warm_up()
sys.exit(main())
"""
COLUMNS = (
    "sent, opens, machine_opens, unique_opens, inferred_opens, "
    "clicks, machine_clicks, unique_clicks"
)


def milliseconds(shown: str) -> int:
    """Of a time as the file names it, in UTC."""
    return int(datetime.fromisoformat(shown).replace(tzinfo=UTC).timestamp() * 1000)


class Clock:
    """What a program sees as the time: `+3600` or `-86400` from the real one, or it stands still
    at `2030-01-05 12:00:00`. The monotonic clock is the real one."""

    def __init__(self, folder: Path, library: str) -> None:
        self.path = folder / "clock"
        self.settings = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "UTC",
        }
        self.show("+0")

    def show(self, shown: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(shown)
        new.rename(self.path)


def seconds_seen(clock: Clock) -> float:
    """What another Python takes for the time."""
    program = [sys.executable, "-c", "import time; print(time.time())"]
    return float(subprocess.check_output(program, env=clock.settings, timeout=30))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that is right; skips where this system has no libfaketime that works."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed")
    found = [*Path("/usr").glob("lib*/*/faketime/libfaketime.so.1")]
    found += Path("/usr").glob("lib*/faketime/libfaketime.so.1")
    if not found:
        pytest.skip("faketime is installed, but not its library")
    clock = Clock(tmp_path, str(found[0]))
    clock.show(NOON)
    if seconds_seen(clock) * 1000 != milliseconds(NOON):
        pytest.skip("libfaketime does nothing here")
    clock.show("+0")
    return clock


@pytest.fixture
def start(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Bell]]:
    """Starts the server that sees that clock; afterwards all is as if nothing had been."""
    started: list[Bell] = []

    def begin(**settings: str) -> Bell:
        bell = Bell(tmp_path, [sys.executable, "-c", PROGRAM], **clock.settings, **settings)
        started.append(bell)
        return bell.start()

    yield begin
    for bell in started:
        try:
            assert bell.stop() == 0
            assert bell.warnings() == []
            assert bell.error_file.read_text() == ""
            is_consistent(bell)
        finally:
            bell.end()


def is_consistent(bell: Bell) -> None:
    """States and figures are what the log says, by a replay and by naive recounts."""
    connection = apsw.Connection(str(bell.database))
    try:
        check_agreement(connection)
    finally:
        connection.close()
    tenants = len(bell.rows("SELECT * FROM tenants"))
    if tenants == 1 and len(bell.rows("SELECT * FROM states LIMIT 101")) <= 100:
        store = cast(Store, bell)  # they only ask it for rows
        stored = {
            (scope, id_, bucket): list(row)
            for scope, id_, bucket, *row in bell.rows(
                f"SELECT scope, id, bucket, {COLUMNS} FROM figures"
            )
            if any(row)
        }
        assert stored == recount(store)
        check_states(store)
        marked = bell.rows("SELECT seq FROM events WHERE reasons & ?", BURST)
        assert {seq for (seq,) in marked} == bursts(store)


def click(bell: Bell, email: int, name: str = "x") -> None:
    answer = bell.get(f"/acme/click/{email}?url=https%3A%2F%2F{name}.example%2F")
    assert answer.status == 302


def open_(bell: Bell, email: int) -> dict[str, str]:
    """Open an email; the headers of the answer."""
    answer = bell.get(f"/acme/pixel/{email}.gif")
    assert answer.status == 200
    return answer.headers


def last_event(bell: Bell) -> dict[str, Any]:
    names = ("at", "class", "reasons")
    [row] = bell.rows("SELECT at, class, reasons FROM events ORDER BY seq DESC LIMIT 1")
    return dict(zip(names, row, strict=True))


SHIFTS = {"an hour on": 3600, "a day back": -DAY, "a century on": 36_525 * DAY}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS.keys())
def test_hits_count_at_the_time_that_is_shown(
    start: Callable[..., Bell], clock: Clock, shift: int
) -> None:
    bell = start()
    email = bell.create()
    open_(bell, email)
    clock.show(f"{shift:+d}")
    before = int(time.time()) + shift
    dated = parsedate_to_datetime(open_(bell, email)["date"]).timestamp()
    click(bell, email)
    after = time.time() + shift + 1
    assert before <= dated <= after
    for (at,) in bell.rows("SELECT at FROM events WHERE seq > 1"):
        assert before <= at / 1000 <= after
    wait_until(lambda: bell.lines()[-1]["message"] == "Link clicked")
    said = bell.lines()[-1]
    assert before <= datetime.fromisoformat(said["timestamp"]).timestamp() <= after
    assert bell.get("/acme/dashboard").status == 200
    assert bell.create() == email + 1
    metrics = bell.metrics()
    assert 0 <= metrics["uptime_seconds"] < 1000
    assert 0 <= metrics["longest_turn_seconds"] < 1000
    assert metrics["latency_seconds"]["sum"] >= 0


@pytest.mark.parametrize(
    "shown", ["1970-01-01 00:00:00", "1970-03-04 05:06:07", "2100-02-28 23:59:59"]
)
def test_hits_count_while_the_clock_is_far_off(
    start: Callable[..., Bell], clock: Clock, shown: str
) -> None:
    bell = start()
    email = bell.create()
    clock.show(shown)
    headers = open_(bell, email)
    assert parsedate_to_datetime(headers["date"]).strftime("%Y-%m-%d %H:%M:%S") == shown
    assert last_event(bell)["at"] == milliseconds(shown)
    wait_until(lambda: bell.lines()[-1]["message"] == "Email opened")
    assert bell.lines()[-1]["timestamp"] == shown.replace(" ", "T") + "Z"
    page = bell.get("/acme/dashboard")
    assert page.status == 200
    assert f'datetime="{shown.replace(chr(32), chr(84))}'.encode() in page.body
    assert bell.create() == email + 1
    assert bell.rows("SELECT created_at FROM states WHERE email = 2") == [(milliseconds(shown),)]


def test_first_and_last_are_the_earliest_and_the_latest(
    start: Callable[..., Bell], clock: Clock
) -> None:
    bell = start()
    clock.show(NOON)
    email = bell.create()
    times = [
        "2030-01-06 12:00:00",
        "2030-01-05 13:00:00",
        "2031-07-01 00:00:00",
        "1970-01-02 00:00:00",
        "2030-01-07 12:00:00",
    ]
    for shown in times:
        clock.show(shown)
        open_(bell, email)
        click(bell, email)
    [found] = bell.rows("SELECT first_open, last_open, first_click, last_click FROM states")
    first, last = milliseconds(times[3]), milliseconds(times[2])
    assert found == (first, last, first, last)
    [bucket] = bell.rows("SELECT bucket FROM figures WHERE unique_opens = 1 AND scope = 0")
    assert bucket == (first // 900_000,)


def test_a_click_before_the_creation_is_not_instant(
    start: Callable[..., Bell], clock: Clock
) -> None:
    bell = start()
    clock.show(NOON)
    email = bell.create()
    for shown, machine in (
        ("2030-01-05 11:59:59", False),
        ("2030-01-04 12:00:01", False),
        ("1970-01-01 00:00:01", False),
        ("2030-01-05 12:00:01", True),
        ("2030-01-05 12:00:02", False),
    ):
        clock.show(shown)
        click(bell, email)
        assert (last_event(bell)["class"] == MACHINE) is machine, shown


@pytest.mark.parametrize(
    ("times", "marked"),
    [
        (("12:10:00", "12:10:04", "12:10:08"), 3),
        (("12:10:08", "12:10:04", "12:10:00"), 3),
        (("12:10:04", "12:10:09", "12:09:59"), 3),
        (("12:10:00", "12:10:04", "12:10:11"), 0),
        (("12:10:40", "12:10:20", "12:10:00"), 0),
        (("12:10:00", "12:10:01", "13:10:01"), 0),
        (("12:10:00", "11:10:00", "12:10:01", "12:10:02"), 3),
    ],
    ids=lambda value: None if isinstance(value, int) else ", ".join(value),
)
def test_three_links_are_a_burst_by_the_times_that_were_shown(
    start: Callable[..., Bell], clock: Clock, times: tuple[str, ...], marked: int
) -> None:
    bell = start()
    clock.show(NOON)
    email = bell.create()
    for moment, name in zip(times, "wxyz", strict=False):
        clock.show(f"2030-01-05 {moment}")
        click(bell, email, name)
    assert bell.rows("SELECT count(*) FROM events WHERE reasons & ?", BURST) == [(marked,)]
    clicks = bell.rows("SELECT clicks, machine_clicks FROM states")
    assert clicks == [(len(times) - marked, marked)]


def test_connections_outlive_a_jump(start: Callable[..., Bell], clock: Clock) -> None:
    bell = start(IDLE_SECONDS="60", REQUEST_SECONDS="60", SLOW_LANE_IDLE_SECONDS="60")
    bell.create()
    request = raw_request("/acme/pixel/1.gif")
    assert bell.get("/acme/dashboard").status == 200
    with Line(bell.port) as idle, Line(bell.port) as half:
        idle.send(request)
        assert idle.answer().status == 200
        for shown in ("+86400", "1970-01-01 00:00:00"):
            half.send(request[:20])
            clock.show(shown)
            time.sleep(1.3)  # the server looks once a second whose time is over
            half.send(request[20:])
            assert half.answer().status == 200
            idle.send(request)
            assert idle.answer().status == 200
    assert bell.get("/acme/dashboard").status == 200
    assert bell.metrics()["slow_lane_starts_total"] == 1


@pytest.mark.parametrize("shown", [NOON, "-86400"], ids=["stands still", "jumps back"])
def test_idle_connections_end_though_the_clock(
    start: Callable[..., Bell], clock: Clock, shown: str
) -> None:
    bell = start(IDLE_SECONDS="1", REQUEST_SECONDS="1")
    with Line(bell.port) as idle, Line(bell.port) as half:
        half.send(b"GET ")
        clock.show(shown)
        assert idle.closed
        assert half.answer().status == 408


def test_everything_is_counted_while_the_clock_jumps_under_load(
    start: Callable[..., Bell], clock: Clock, soak: bool, tmp_path: Path
) -> None:
    emails = EMAILS * (5 if soak else 1)
    seed(tmp_path / "data" / "tracking.db", emails)
    bell, ledger = start(), Ledger(emails)
    shown = ("+3600", "-86400", NOON, "1970-01-01 00:00:00", "2100-03-01 00:00:00", "+0")
    with Load(bell.port, ledger, Emails(emails), 0.005):
        for _ in range(20 if soak else 3):
            for one in shown:
                clock.show(one)
                time.sleep(0.1)
    assert ledger.answered == ledger.sent
    assert ledger.answered.total() > 100
    years = bell.rows("SELECT DISTINCT strftime('%Y', at / 1000, 'unixepoch') FROM events")
    assert {"1970", "2030", "2100"} <= {year for (year,) in years}
    assert bell.metrics()["answers_not_durable_total"] == 0
    check(bell.database, ledger)


def test_it_starts_while_the_clock_is_years_behind(
    start: Callable[..., Bell], clock: Clock
) -> None:
    """As a small computer does whose clock has no battery, before it hears of the time."""
    bell = start()
    email = bell.create()
    click(bell, email)
    assert bell.stop() == 0
    clock.show("1970-01-01 00:00:12")
    bell.start()
    open_(bell, email)
    click(bell, email)
    assert bell.create() == email + 1
    clock.show("+0")
    open_(bell, email)
    wait_until(lambda: bell.lines()[-1]["message"] == "Email opened")
    [row] = bell.rows("SELECT opens, first_open FROM states WHERE email = ?", email)
    assert row == (2, 12_000)


def test_it_starts_in_the_first_second_of_1970(start: Callable[..., Bell], clock: Clock) -> None:
    clock.show("1970-01-01 00:00:00")
    bell = start()
    bell.create()
    assert bell.lines()[0]["timestamp"] == "1970-01-01T00:00:00Z"
    assert open_(bell, 1)["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"
