"""Purging beside a running server: by retention, by command, killed in the middle, under opens"""

import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from bell import BROWSER, Bell, wait_until
from little_bell.store.purge import DAY
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit
from programs import run

ADDRESS = bytes.fromhex("20010db8abcd")  # of old events: a network that is nobody else's
URLS = [f"https://example.com/{name}" for name in "xyz"]
FIGURES = "SELECT tenant, scope, id, bucket, sent, opens, machine_opens, unique_opens, "
FIGURES += "inferred_opens, clicks, machine_clicks, unique_clicks FROM figures"


def fill(folder: Path, old: int, tenants: tuple[str, ...] = ("acme",), emails: int = 40) -> Path:
    """A database with `old` events of 50 to 40 days ago for each tenant, and 20 of today."""
    path = folder / "data" / "tracking.db"
    path.parent.mkdir(parents=True)
    writer = Writer(str(path))
    chance = random.Random(old)
    now = int(time.time() * 1000)
    try:
        for number, name in enumerate(tenants, 1):
            new = [NewEmail(name, f"No {n}", None, f"c{n % 3}", None) for n in range(emails)]
            writer.write(now - 51 * DAY, new, [])
            ages = [50 * DAY - n * (10 * DAY // old) for n in range(old)] + [10_000] * 20
            hits = []
            for age in ages:
                kind = chance.choice((OPEN, OPEN, CLICK))
                url = chance.choice(URLS) if kind == CLICK else None
                source = ADDRESS if age > DAY else b"\xc0\x00\x02"
                email = chance.randint(1, emails)
                hits.append(Hit(number, email, kind, now - age, 0, BROWSER, source, url))
            for start in range(0, len(hits), 500):
                writer.write(now, [], hits[start : start + 500])
    finally:
        writer.close()
    return path


def bell_on(folder: Path, **settings: str) -> Bell:
    return Bell(folder, None, **settings).start()


def bytes_found(bell: Bell) -> dict[str, int]:
    """How often the address of an old event stands in which file."""
    files = [path for path in bell.folder.rglob("*") if path.is_file()]
    found = {path.name: path.read_bytes().count(ADDRESS) for path in files}
    return {name: n for name, n in found.items() if n}


def hardly_left(bell: Bell) -> bool:
    """Whether the address is gone, but for single copies where SQLite moved rows (see USAGE.md)."""
    found = bytes_found(bell)
    return set(found) <= {"tracking.db"} and found.get("tracking.db", 0) <= 12


def told(bell: Bell) -> list[dict[str, object]]:
    """What the log says of purges."""
    return [line["fields"] for line in bell.lines() if line["message"] == "Events purged"]


def fewer(bell: Bell, than: int) -> bool:
    return int(bell.rows("SELECT count(*) FROM events")[0][0]) < than


def all_is_well(bell: Bell) -> None:
    for command in ("check", "rebuild"):
        ended = run(bell.folder, command)
        assert ended.returncode == 0, ended.stdout
        assert "all is well" in ended.stdout or ended.stdout.startswith("0 rows corrected")


def test_retention_takes_old_events_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, 3_000, ("acme", "beta"))
    bell = Bell(tmp_path, None, RETENTION_DAYS="30")
    try:
        assert bytes_found(bell)["tracking.db"] >= 6_000
        before = [row for row in bell.rows(FIGURES) if any(row[4:])]
        states = bell.rows("SELECT * FROM states")
        bell.start()
        acme = bell.get("/acme/stats").json
        wait_until(lambda: bell.metrics()["events_purged_total"] == 6_000)
        assert bell.rows("SELECT tenant, count(*) FROM events GROUP BY 1") == [(1, 20), (2, 20)]
        assert [row for row in bell.rows(FIGURES) if any(row[4:])] == before
        assert bell.rows("SELECT * FROM states") == states
        assert bell.get("/acme/stats").json == acme
        wait_until(lambda: len(told(bell)) == 2)
        assert told(bell) == [
            {"tenant_id": "acme", "events": 3_000},
            {"tenant_id": "beta", "events": 3_000},
        ]
        wait_until(lambda: hardly_left(bell))
        all_is_well(bell)
    finally:
        bell.end()


def test_a_tenant_has_a_retention_of_its_own(tmp_path: Path) -> None:
    path = fill(tmp_path, 100, ("acme", "beta", "gamma"))
    writer = Writer(str(path))
    for name, days in (("acme", 0), ("beta", 47)):  # for ever, and three days of the ten
        writer.connection.execute(
            "UPDATE tenants SET retention_days = ? WHERE name = ?", (days, name)
        )
    writer.close()
    bell = bell_on(tmp_path, RETENTION_DAYS="30")
    try:
        wait_until(lambda: bell.metrics()["events_purged_total"] >= 130)
        left = dict(bell.rows("SELECT tenant, count(*) FROM events GROUP BY 1"))
        assert (left[1], left[3]) == (120, 20)
        assert left[2] in (89, 90)
    finally:
        bell.end()


def test_an_email_tells_that_its_older_events_were_purged(tmp_path: Path) -> None:
    fill(tmp_path, 60, emails=1)
    bell = bell_on(tmp_path)
    try:
        first = bell.get("/acme/emails/1?limit=70").json
        assert (first["events_purged"], len(first["events"])) == (0, 70)
        assert run(tmp_path, "purge", "--days", "30").stdout == "60 events purged\n"
        found = bell.get("/acme/emails/1").json
        assert (found["events_purged"], len(found["events"]), found["next"]) == (60, 20, None)
        for name in ("opens", "clicks", "machine_clicks", "first_open", "last_open", "opened"):
            assert found[name] == first[name]
        assert bell.get(first["next"]).json["events"] == []
        page = bell.get("/acme/dashboard/emails/1").body.decode()
        assert "Older events were purged" in page
        assert "60 of them" in page
        assert "Older events were purged" not in bell.get("/acme/dashboard/events").body.decode()
        lines = bell.get("/acme/events.ndjson").body.decode().splitlines()
        assert {json.loads(line)["email_id"] for line in lines} == {1}
        assert len(lines) == 20
        assert len(bell.get("/acme/events?after=0").json["events"]) == 20
        assert bell.ask("DELETE", "/acme/emails/1").status == 204
        assert bell.rows("SELECT sum(opens) FROM figures WHERE scope = 0") == [(first["opens"],)]
        all_is_well(bell)
    finally:
        bell.end()


@pytest.mark.parametrize("beside", [True, False], ids=["beside a server", "alone"])
def test_the_command_purges(tmp_path: Path, beside: bool) -> None:
    fill(tmp_path, 1_500, ("acme", "beta"))
    bell = Bell(tmp_path, None)
    try:
        assert bytes_found(bell)["tracking.db"] >= 3_000
        if beside:
            bell.start()
        ended = run(tmp_path, "purge", "--days=30", "--tenant", "beta")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1,500 events purged\n", "")
        assert bell.rows("SELECT tenant, count(*) FROM events GROUP BY 1") == [(1, 1520), (2, 20)]
        ended = run(tmp_path, "purge", "--days=30", "--tenant", "beta")
        assert (ended.returncode, ended.stdout) == (0, "0 events purged\n")
        day = datetime.now(UTC).date() - timedelta(days=45)
        noon = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000
        old = bell.rows("SELECT count(*) FROM events WHERE tenant = 1 AND at < ?", noon)[0][0]
        assert 500 < old < 900
        ended = run(tmp_path, "purge", "--before", str(day))
        assert (ended.returncode, ended.stdout) == (0, f"{old:,} events purged\n")
        assert run(tmp_path, "purge", "--days=30").stdout == f"{1500 - old:,} events purged\n"
        wait_until(lambda: hardly_left(bell))
        all_is_well(bell)
    finally:
        bell.end()


def test_a_wrong_command_says_what_is_wrong(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    bell = bell_on(tmp_path)
    tomorrow = str(datetime.now(UTC).date() + timedelta(days=1))
    try:
        for arguments, wrong in (
            ([], "--days N or --before"),
            (["--days=3", "--before=2026-01-01"], "--days N or --before"),
            (["--days=0"], "from 1"),
            (["--days=-1"], "from 1"),
            (["--days=x"], "from 1"),
            (["--days=99999999999999999999"], "from 1"),
            (["--before=yesterday"], "a date such as"),
            (["--before=2026-02-30"], "a date such as"),
            (["--before=2026-01-01T00:00"], "a date such as"),
            ([f"--before={tomorrow}"], "last day"),
            (["--days=1", "--tenant=nobody"], "no such tenant"),
        ):
            ended = run(tmp_path, "purge", *arguments)
            assert (ended.returncode, ended.stdout) == (1, ""), arguments
            assert wrong in ended.stderr, (arguments, ended.stderr)
        assert bell.rows("SELECT count(*) FROM events") == [(40,)]
    finally:
        bell.end()


def test_a_purge_goes_on_after_a_kill(tmp_path: Path) -> None:
    fill(tmp_path, 8_000)
    bell = Bell(tmp_path, None)
    before = [row for row in bell.rows(FIGURES) if any(row[4:])]
    states = bell.rows("SELECT * FROM states")
    left = 8_020
    try:
        for _ in range(2):
            bell.start()
            command = subprocess.Popen(
                [sys.executable, "-m", "little_bell", "purge", "--days", "30"],
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_until(partial(fewer, bell, left))
            bell.kill()
            assert command.wait(30) == 1
            left = bell.rows("SELECT count(*) FROM events")[0][0]
            assert run(tmp_path, "check").returncode == 0
        assert left > 20
        bell.start()
        assert run(tmp_path, "purge", "--days", "30").stdout == f"{left - 20:,} events purged\n"
        assert [row for row in bell.rows(FIGURES) if any(row[4:])] == before
        assert bell.rows("SELECT * FROM states") == states
        all_is_well(bell)
    finally:
        bell.end()


def test_opens_go_on_while_much_is_purged(tmp_path: Path, soak: bool) -> None:
    """Timings are printed: a turn takes no longer for it."""
    events = 100_000 if soak else 5_000
    fill(tmp_path, events, emails=events // 3)
    bell = bell_on(tmp_path)
    try:
        longest = bell.metrics()["longest_turn_seconds"]
        started = time.monotonic()
        command = subprocess.Popen(
            [sys.executable, "-m", "little_bell", "purge", "--days", "30"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
        )
        waits = []
        opens = 0
        while command.poll() is None:
            begun = time.perf_counter()
            assert bell.get(f"/acme/pixel/{1 + opens % 500}.gif").status == 200
            waits.append(time.perf_counter() - begun)
            opens += 1
            time.sleep(0.002)
        assert command.communicate()[0] == f"{events:,} events purged\n".encode()
        waits.sort()
        found = bell.metrics()
        print(
            f"{events:,} events in {time.monotonic() - started:.1f} s beside {opens} opens: "
            f"longest turn {found['longest_turn_seconds'] * 1000:.1f} ms "
            f"(before {longest * 1000:.1f}), median {waits[len(waits) // 2] * 1000:.1f} ms, "
            f"99 % {waits[len(waits) * 99 // 100] * 1000:.1f} ms"
        )
        assert found["longest_turn_seconds"] < 1
        left = 20 + opens
        assert bell.rows("SELECT count(*) FROM events") == [(left,)]
        all_is_well(bell)
    finally:
        bell.end()
