"""Importing: from the Rust namesake's database and from files, beside a running server and alone"""

import csv
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bell import BROWSER, Bell, dump, read_rows, serving, wait_until
from little_bell.config import Config
from little_bell.errors import DataError, LittleBellError
from little_bell.imports.run import import_history
from little_bell.imports.texts import LONGEST
from little_bell.ops.check import quiet
from little_bell.store.history import Books, Import, PastEmail, Piece
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.wire.control import call
from little_bell.wire.importer import Door
from little_bell.wire.policies import Policies
from namesake import Namesake, moment
from programs import COMMAND, run
from truth import AGENTS, COLUMNS, WHOLE, Event, Mail, Truth, figures

DAY = 86_400_000
HOUR = 3_600_000
URL = "https://example.com/"
HEADER = "email_id,kind,at,url,user_agent,ip_address"


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def other(bell: Bell) -> Iterator[Namesake]:
    """The namesake's database, old.db, which its server still has open."""
    with closing(Namesake(bell.folder / "old.db")) as found:
        yield found


def long_ago(days: int = 30) -> int:
    """A time some days ago, at a full hour (ms UTC)."""
    return (int(time.time() * 1000) - days * DAY) // HOUR * HOUR


def history(path: Path, emails: int = 60, events: int = 600) -> dict[str, Truth]:
    """A namesake's database of two tenants, and what is true of it by the definitions alone."""
    truths = {name: Truth(2000) for name in ("acme", "beta")}
    chance = random.Random(emails)
    other = Namesake(path)
    other.connection.execute("BEGIN")
    whose: dict[int, str] = {}
    at = long_ago()
    for n in range(emails):
        name = chance.choice(("acme", "acme", "beta"))
        email = other.email(name, at + n, f"No {n}", f"r{n}@example.com")
        whose[email] = name
        truths[name].add(Mail(email, at + n, None, f"No {n}", f"r{n}@example.com"))
    at += 1500  # some clicks are instant
    for n in range(events):
        email = chance.randint(1, emails)
        agent = chance.choice(AGENTS)[0]
        kind = chance.choice(("open", "open", "click"))
        network = chance.randrange(4)
        at += chance.choice((1, 400, 5_000, 60 * DAY // events))
        other.event(email, kind, at, agent or None, f"192.0.{network}.{n % 250}")
        event = Event(n + 1, kind, at, agent, network, URL if kind == "click" else None)
        truths[whose[email]].hit(email, event)
    other.connection.execute("COMMIT")
    other.close()
    return truths


def stored(database: Path, tenant: str, scope: int = 0) -> dict[int, list[int]]:
    """A tenant's figures by quarter hours."""
    rows = read_rows(
        database,
        f"SELECT bucket, {', '.join(COLUMNS)} FROM figures JOIN tenants USING (tenant) "
        "WHERE name = ? AND scope = ? ORDER BY bucket",
        tenant,
        scope,
    )
    return {bucket: list(row) for bucket, *row in rows if any(row)}


def expected(truth: Truth) -> dict[int, list[int]]:
    """The same by the truth."""
    counted = truth.count()[WHOLE]
    quarter = HOUR // 4
    return {
        bucket: figures(counted, bucket * quarter, (bucket + 1) * quarter)
        for bucket in sorted({at // quarter for at, _ in counted})
    }


def all_is_well(folder: Path) -> None:
    found = run(folder, "check")
    assert found.returncode == 0, found.stdout
    assert "all is well" in found.stdout


def write(folder: Path, name: str, *lines: str | bytes) -> str:
    data = b"".join(line.encode() + b"\n" if isinstance(line, str) else line for line in lines)
    (folder / name).write_bytes(data)
    return name


def emails_file(folder: Path, *numbers: int, tenant: str = "acme") -> None:
    """Emails of a tenant, imported."""
    rows = [f"{n},{moment(long_ago() + n)}" for n in numbers]
    write(folder, "emails.csv", "email_id,created_at", *rows)
    found = run(folder, "import", "emails.csv", "--tenant", tenant)
    assert found.returncode == 0, found.stderr


def count(database: Path, table: str = "events") -> int:
    return int(next(iter(read_rows(database, f"SELECT count(*) FROM {table}")))[0])


# The namesake's database


def test_it_works(bell: Bell) -> None:
    """Import beside a running server: figures as the definitions say, and old mail goes on."""
    truths = history(bell.folder / "old.db")
    last = max(email for truth in truths.values() for email in truth.mails)
    done = run(bell.folder, "import", "old.db")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported: 60 emails, ")
    for name, truth in truths.items():
        assert stored(bell.database, name) == expected(truth), name
        page = bell.get(f"/{name}/stats").json["figures"]
        whole = figures(truth.count()[WHOLE])
        assert [page[column] for column in COLUMNS] == whole
        for mail in truth.mails.values():
            told = bell.get(f"/{name}/emails/{mail.id}").json
            assert (told["subject"], told["recipient"]) == (mail.subject, mail.recipient)
            judged = {(event.kind, event.at): class_ for event, class_, _ in mail.judged(2000)}
            rows = bell.rows(
                "SELECT kind, at, class FROM events JOIN tenants USING (tenant) "
                "WHERE name = ? AND email = ?",
                name,
                mail.id,
            )
            classes = ("human", "proxy", "machine", "unknown")
            assert {(("open", "click")[k], at): classes[c] for k, at, c in rows} == judged
        assert bell.create(name) == last + 1, "an id of the namesake's may be out already"
    acme = next(iter(truths["acme"].mails))
    before = bell.get(f"/acme/emails/{acme}").json
    pixel = bell.get(f"/acme/pixel/{acme}.gif")
    link = bell.get(f"/acme/click/{acme}?url=https%3A%2F%2Fexample.com%2Fnew")
    assert (pixel.status, link.status, link.headers["location"]) == (200, 302, f"{URL}new")
    after = bell.get(f"/acme/emails/{acme}").json
    assert after["opens"] == before["opens"] + 1
    assert after["clicks"] == before["clicks"] + 1
    all_is_well(bell.folder)


def test_without_a_server_it_is_the_same(bell: Bell, tmp_path: Path) -> None:
    history(bell.folder / "old.db")
    alone = tmp_path / "alone"
    alone.mkdir()
    assert run(bell.folder, "import", "old.db").returncode == 0
    done = run(alone, "import", "../old.db")
    assert done.returncode == 0, done.stderr
    all_is_well(alone)
    beside, without = dump(bell.database), dump(alone / "data" / "tracking.db")
    for table in ("events", "states", "emails", "figures", "days", "email_links", "agents"):
        assert without[table] == beside[table] != [], table


def test_twice_counts_once(bell: Bell) -> None:
    history(bell.folder / "old.db")
    assert run(bell.folder, "import", "old.db").returncode == 0
    before = dump(bell.database)
    second = run(bell.folder, "import", "old.db")
    assert (second.returncode, second.stdout.split(" rows ")[1]) == (
        0,
        "were imported before; nothing was changed\n",
    )
    assert dump(bell.database) == before
    again = run(bell.folder, "import", "old.db", "--again")
    assert "imported: 0 emails, 0 opens, 0 clicks\n" in again.stdout, again.stderr
    assert "not imported: 600 events that are there already" in again.stdout
    assert dump(bell.database)["events"] == before["events"]


def test_what_came_since_is_all_that_is_imported(bell: Bell, other: Namesake) -> None:
    """The namesake goes on for a while, and is imported once more."""
    at = long_ago()
    first = other.email("acme", at, None, None)
    for _ in range(3):  # in one millisecond: all of them are events
        other.event(first, "open", at + DAY, BROWSER, "192.0.2.1")
    assert "1 emails, 3 opens" in run(bell.folder, "import", "old.db").stdout
    other.event(first, "open", at + DAY, BROWSER, "192.0.2.1")
    second = other.email("acme", at + DAY, "Later", None)
    other.event(second, "click", at + 2 * DAY, BROWSER, "192.0.2.1")
    done = run(bell.folder, "import", "old.db")
    assert "imported: 1 emails, 1 opens, 1 clicks\n" in done.stdout, done.stderr
    assert bell.get(f"/acme/emails/{first}").json["opens"] == 4
    all_is_well(bell.folder)


def test_what_was_purged_does_not_come_back(bell: Bell, other: Namesake) -> None:
    at = long_ago()
    email = other.email("acme", at, None, None)
    other.event(email, "open", at + HOUR, BROWSER, "192.0.2.1")
    run(bell.folder, "import", "old.db")
    assert run(bell.folder, "purge", "--days", "10").stdout == "1 events purged\n"
    other.event(email, "open", at + DAY * 2, BROWSER, "192.0.2.1")
    done = run(bell.folder, "import", "old.db")
    assert "imported: 0 emails, 1 opens" in done.stdout, done.stderr
    assert "1 events not younger than others of their email that were purged" in done.stdout
    assert bell.get(f"/acme/emails/{email}").json["opens"] == 2
    all_is_well(bell.folder)


def test_killed_in_the_middle_it_goes_on_and_counts_once(tmp_path: Path) -> None:
    """The command is killed, then the server; the third try finishes. Nothing is lost or twice."""
    with serving(tmp_path) as bell:
        truths = history(tmp_path / "old.db", 300, 6000)
        for victim in ("command", "server"):
            command = subprocess.Popen(
                [*COMMAND, "import", "old.db"],
                cwd=tmp_path,
                env={"PATH": os.environ["PATH"]},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            here = count(bell.database)
            while command.poll() is None and count(bell.database) < here + 200:
                time.sleep(0.005)
            if victim == "command":
                command.send_signal(signal.SIGKILL)
            else:
                bell.kill()
            _, error = command.communicate(timeout=30)
            assert command.returncode == (-9 if victim == "command" else 1), error
            assert here < count(bell.database) < 6000
        assert b"rows are in: the same command goes on" in error
        bell.start()
        done = run(tmp_path, "import", "old.db")
        assert done.returncode == 0, done.stderr
        assert "rows were imported before, and not again" in done.stdout
        assert "not imported" not in done.stdout
        for name, truth in truths.items():
            assert stored(bell.database, name) == expected(truth), name
        assert count(bell.database) == 6000
        all_is_well(tmp_path)


def test_after_a_tenant_was_deleted_it_may_be_imported_again(bell: Bell, other: Namesake) -> None:
    email = other.email("acme", long_ago(), None, None)
    other.event(email, "open", long_ago(20), BROWSER, "192.0.2.1")
    for _ in range(2):
        assert "imported: 1 emails, 1 opens" in run(bell.folder, "import", "old.db").stdout
        assert bell.ask("DELETE", "/acme?confirm=acme").status == 204
        wait_until(lambda: bell.rows("SELECT count(*) FROM imports") == [(0,)])
    assert bell.create() == email + 1


def test_opens_count_while_history_is_imported(tmp_path: Path) -> None:
    """The same emails, in the same moments."""
    with serving(tmp_path) as bell:
        acme = next(iter(history(tmp_path / "old.db", 20, 6000)["acme"].mails))
        emails_file(tmp_path, 1, tenant="live")
        command = subprocess.Popen(
            [*COMMAND, "import", "old.db"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
        )
        sent = 0
        while command.poll() is None:
            here = bell.ask("GET", "/acme/emails?limit=1").status == 200
            for tenant, email in ("live", 1), ("acme", acme if here else 0):
                bell.get(f"/{tenant}/pixel/{email}.gif")
                bell.get(f"/{tenant}/click/{email}?url=https%3A%2F%2Fexample.com%2Fnow")
            sent += 2
        assert command.returncode == 0
        assert sent > 20, "it was over too soon"
        assert bell.get("/live/stats").json["figures"]["machine_clicks"] == 0
        told = bell.get("/live/emails/1").json
        assert told["opens"] + told["clicks"] == sent
        assert count(bell.database) > 6000 + sent
        assert bell.metrics()["checkpoint_held"] == 0
        all_is_well(tmp_path)


def test_tenants_whose_names_cannot_be_and_events_without_email(
    bell: Bell, other: Namesake
) -> None:
    at = long_ago()
    for name in ("acme", "Acme & Sons"):
        other.event(other.email(name, at, None, None), "open", at + HOUR, None, "")
    other.event(77, "open", at + HOUR, None, "")
    refused = run(bell.folder, "import", "old.db")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "email 2: 'Acme & Sons' is no tenant: a tenant's name has" in refused.stderr
    assert "event 3: there is no such email" in refused.stderr
    assert "nothing was imported: 3 rows are bad" in refused.stderr
    assert count(bell.database, "emails") == 0
    done = run(bell.folder, "import", "old.db", "--skip-bad")
    assert "imported: 1 emails, 1 opens, 0 clicks" in done.stdout
    assert "not imported: 3 bad rows" in done.stdout


@pytest.mark.parametrize("what", ["other program", "ours", "broken", "missing", "empty"])
def test_what_is_no_such_database(bell: Bell, what: str) -> None:
    path = bell.folder / "x.db"
    if what == "other program":
        with closing(sqlite3.connect(path)) as foreign:
            foreign.execute("CREATE TABLE emails (id, subject)")
    elif what == "ours":
        path = bell.database
    elif what == "broken":
        path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 16)
    elif what == "empty":
        path.write_bytes(b"")
    found = run(bell.folder, "import", str(path))
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.count("\n") == 1, found.stderr
    assert {
        "other program": "is not a database of the Little Bell in Rust: it has no",
        "ours": "is a database of this Little Bell",
        "broken": "restore a backup",
        "missing": "No such file",
        "empty": "is empty",
    }[what] in found.stderr


@pytest.mark.parametrize("last", [10**15, 2**63 - 1, "many"])
def test_a_counter_of_ids_that_leaves_no_room(tmp_path: Path, last: int | str) -> None:
    """It would become ours: the next email would get no number."""
    other = Namesake(tmp_path / "old.db")
    other.email("acme", long_ago(), None, None)
    other.connection.execute("UPDATE sqlite_sequence SET seq = ?", (last,))
    found = run(tmp_path, "import", "old.db")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.count("\n") == 1, found.stderr
    assert ("ids go up to 1" if last == 10**15 else "ids ") in found.stderr


def test_a_value_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    other = Namesake(tmp_path / "old.db")
    email = other.email("acme", long_ago(), None, None)
    other.event(email, "open", long_ago(), BROWSER, "")
    other.connection.execute("UPDATE events SET user_agent = zeroblob(20000000)")
    found = run(tmp_path, "import", "old.db")
    assert (found.returncode, found.stdout) == (1, "")
    assert "old.db: refused by the database: string or blob too big\n" in found.stderr


@pytest.mark.parametrize("name", ["/dev/stdin", "fifo"])
def test_what_cannot_be_read_twice_is_refused(tmp_path: Path, name: str) -> None:
    """Its head would be lost: of a small file all of it, without a word."""
    os.mkfifo(tmp_path / "fifo")
    found: Any = subprocess.run(
        [*COMMAND, "import", name, "--tenant", "acme"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        input=f"email_id,created_at\n5,{moment(long_ago())}\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert f"{name} is a pipe or a device" in found.stderr
    assert not (tmp_path / "data").exists()


# What may be stored


def test_addresses_consent_and_opt_outs_hold_for_history(bell: Bell, other: Namesake) -> None:
    bell.create("beta")
    bell.ask("PATCH", "/beta/settings", {"consent": "none"})
    bell.create("acme")
    bell.ask("POST", "/acme/optouts", {"recipient": "left@example.com"})
    at = long_ago()
    other.email("none", at, None, None)
    for name, recipient in (("acme", "left@example.com"), ("acme", "x@example.com"), ("beta", "")):
        email = other.email(name, at, None, recipient)
        other.event(email, "open", at + HOUR, BROWSER, "203.0.113.77")
    done = run(bell.folder, "import", "old.db")
    assert "imported: 4 emails, 1 opens, 0 clicks" in done.stdout, done.stderr
    assert "not imported: 1 events of recipients who opted out" in done.stdout
    assert "not imported: 1 events that may not be stored: consent" in done.stdout
    assert bell.rows("SELECT address FROM events") == [(bytes([203, 0, 113]),)]
    all_is_well(bell.folder)


# Files


def test_our_exports_make_the_same_figures(tmp_path: Path) -> None:
    """What a bell exports makes another one say the same, texts that look like formulas too."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with serving(first, OWN_ADDRESSES="acme=198.51.100.7", TRUSTED_PROXIES="loopback") as bell:
        chance = random.Random(7)
        for n in range(12):
            bell.create(
                subject=chance.choice(("=1+1", "'quoted", 'a "b",\nc', "News")),
                recipient=f"r{n}@example.com",
                campaign=chance.choice((None, "spring", "-5 %")),
                metadata={"n": str(n)} if n % 2 else None,
            )
        time.sleep(2.1)  # clicks are instant no more
        for n in range(120):
            email = chance.randint(1, 12)
            agent = chance.choice(AGENTS)[0]
            target = f"/acme/pixel/{email}.gif"
            if n % 3 == 0:
                target = f"/acme/click/{email}?url=https%3A%2F%2Fexample.com%2F{n % 5}"
            sent = {"User-Agent": agent, "X-Forwarded-For": f"198.51.100.{n % 9}"}
            if n % 7 == 0:
                sent["Sec-Purpose"] = "prefetch"
            bell.ask("GET", target, None, sent)
        ours = {
            name: bell.get(f"/acme/{name}").body
            for name in ("emails.csv", "events.csv", "events.ndjson")
        }
        whole = bell.get("/acme/stats").json
        said = bell.get("/acme/campaigns").json, bell.get("/acme/clients").json
        before = {scope: stored(bell.database, "acme", scope) for scope in range(4)}
    for name, body in ours.items():
        (second / name).write_bytes(body)
    with serving(second) as bell:
        assert run(second, "import", "emails.csv", "--tenant", "acme").returncode == 0
        done = run(second, "import", "events.ndjson", "--tenant", "acme")
        assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stdout + done.stderr
        assert bell.get("/acme/stats").json == whole
        assert (bell.get("/acme/campaigns").json, bell.get("/acme/clients").json) == said
        assert {scope: stored(bell.database, "acme", scope) for scope in range(4)} == before
        again = run(second, "import", "events.csv", "--tenant", "acme")
        assert "these 120 rows were imported before" in again.stdout, "they are the same"
        again = run(second, "import", "events.csv", "--tenant", "acme", "--again")
        assert "imported: 0 emails, 0 opens, 0 clicks" in again.stdout, again.stderr
        assert without_id(bell.get("/acme/events.csv").body) == without_id(ours["events.csv"])
        assert without_id(bell.get("/acme/emails.csv").body) == without_id(ours["emails.csv"])
    all_is_well(second)


def without_id(body: bytes) -> list[tuple[tuple[str, str], ...]]:
    rows = csv.DictReader(io.StringIO(body.decode(), newline=""))
    return sorted(tuple((k, v) for k, v in row.items() if k != "id") for row in rows)


def test_the_smallest_files(bell: Bell) -> None:
    """Four columns of anybody's; emails and events in one file of NDJSON, of several tenants."""
    emails_file(bell.folder, 5, 9)
    at = long_ago(3)
    write(
        bell.folder,
        "events.csv",
        "\ufefftype,email,timestamp,url,whatever",
        f"open,5,{moment(at)},,1",
        f"click,9,{moment(at)},HTTPS://Example.com,2",
        "",
        f"click,9,{moment(at + 60_000)},,3",
    )
    done = run(bell.folder, "import", "events.csv", "--tenant", "acme")
    assert done.stdout == (
        "imported: 0 emails, 1 opens, 2 clicks\ncolumns that mean nothing here: whatever\n"
    ), done.stderr
    links = {one["url"]: one["clicks"] for one in bell.get("/acme/links").json["links"]}
    assert links.get(URL) == 0, "nobody's user agent is a machine's"
    lines = [
        {"tenant": t, "email_id": 3, "created_at": moment(at), "metadata": {"a": "b"}}
        for t in ("beta", "gamma")
    ]
    lines.append({"tenant": "beta", "email_id": 3, "kind": "open", "at": "2024-02-29T23:59:60Z"})
    write(bell.folder, "all.ndjson", *(json.dumps(line) for line in lines))
    done = run(bell.folder, "import", "all.ndjson")
    assert done.stdout == "imported: 2 emails, 1 opens, 0 clicks\n", done.stderr
    [event] = bell.get("/beta/events").json["events"]
    assert event["at"] == "2024-02-29T23:59:59.999Z"
    one = run(bell.folder, "import", "all.ndjson", "--tenant", "beta", "--again").stdout
    assert "not imported: 1 rows of other tenants" in one
    all_is_well(bell.folder)


def test_what_exports_say_of_links_that_nobody_knows(bell: Bell, other: Namesake) -> None:
    """Those beyond a tenant's share, those erased, and those of the namesake."""
    at = long_ago()
    other.event(other.email("acme", at, None, None), "click", at + HOUR, BROWSER, "")
    assert run(bell.folder, "import", "old.db").returncode == 0
    ours = bell.get("/acme/events.csv").body
    assert ours.count(b",(other),") == 1
    [top] = bell.get("/acme/links?order=top").json["links"]
    assert (top["url"], top["clicks"], top["unique_clicks"]) == ("(other)", 1, 1)
    write(bell.folder, "emails.csv", bell.get("/acme/emails.csv").body)
    write(bell.folder, "other.csv", ours)
    write(bell.folder, "erased.csv", ours.replace(b",(other),", b",(erased 7),"))
    for tenant, events in ("beta", "other.csv"), ("gamma", "erased.csv"):
        run(bell.folder, "import", "emails.csv", "--tenant", tenant)
        done = run(bell.folder, "import", events, "--tenant", tenant)
        assert done.stdout == "imported: 0 emails, 0 opens, 1 clicks\n", done.stderr
        assert bell.get(f"/{tenant}/links?order=top").json["links"][0] == top


GOOD = "5,open,2024-01-01T00:00:00Z,,,"
WRONG: dict[str, tuple[str | bytes, str]] = {
    "future": ("5,open,2999-01-01T00:00:00Z,,,", "at is in the future"),
    "past": ("5,open,1969-12-31T00:00:00Z,,,", "at is before 1973"),
    "no zone": ("5,open,2024-01-01T00:00:00,,,", "at is no time of RFC 3339"),
    "no day": ("5,open,2024-02-30T00:00:00Z,,,", "at is no time of RFC 3339"),
    "no time": ("5,open,,,,", "it has no at"),
    "zero": ("0,open,2024-01-01T00:00:00Z,,,", "email_id is no number from 1 to"),
    "huge": (f"{10**15},open,2024-01-01T00:00:00Z,,,", "email_id is no number from 1 to"),
    "arabic": ("\u0665,open,2024-01-01T00:00:00Z,,,", "email_id is no number from 1 to"),
    "no id": (",open,2024-01-01T00:00:00Z,,,", "it has no email_id"),
    "unknown id": ("6,open,2024-01-01T00:00:00Z,,,", "there is no email 6 of acme"),
    "kind": ("5,bounce,2024-01-01T00:00:00Z,,,", "kind is neither open nor click: 'bounce'"),
    "script": ("5,click,2024-01-01T00:00:00Z,javascript:1,,", "not an absolute http or https"),
    "address": ("5,open,2024-01-01T00:00:00Z,,,999.1.1.1", "ip_address is none: '999.1.1.1'"),
    "bytes": (b"5,open,2024-01-01T00:00:00Z,,\xff,\n", "it is not UTF-8"),
    "NUL": ("5,open,2024-01-01T00:00:00Z,,a\0b,", "user_agent holds a NUL character"),
    "lone quote": ('5,open,"2024-01-01T00:00:00Z,,,', "a quote is not closed"),
    "cells": ("5,open,2024-01-01T00:00:00Z", "it has 3 cells, the header 6"),
    "long": (b"5," + b"x" * LONGEST + b"\n", "it is longer than 1,048,576 bytes"),
}


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path: Path, wrong: str) -> None:
    emails_file(tmp_path, 5)
    line, reason = WRONG[wrong]
    write(tmp_path, "events.csv", HEADER, GOOD, line, GOOD.replace("00Z", "01Z"))
    database = tmp_path / "data" / "tracking.db"
    refused = run(tmp_path, "import", "events.csv", "--tenant", "acme")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("line 3: "), refused.stderr
    assert reason in refused.stderr
    assert "nothing was imported: 1 rows are bad" in refused.stderr
    assert count(database) == 0
    done = run(tmp_path, "import", "events.csv", "--tenant", "acme", "--skip-bad")
    assert (done.returncode, count(database)) == (0, 2), done.stderr
    assert done.stdout.endswith("opens, 0 clicks\nnot imported: 1 bad rows\n")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "it is not a JSON object"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"email_id": 5, "kind": "open", "at": NaN}', "NaN is no JSON"),
        ('{"email_id": true, "kind": "open", "at": "2024-01-01T00:00:00Z"}', "email_id is no numb"),
        ('{"email_id": 5, "email": 5, "kind": "open"}', "email_id is given twice"),
        ('{"email_id": 5}', "it is no event, which has a kind, and no email"),
        ('{"email_id": 5, "kind": "open", "at": 5}', "at is no time of RFC 3339"),
        ('{"email_id": 5, "created_at": "2024-01-01T00:00:00Z"}', "is there already, with another"),
        ('{"email_id": 6, "created_at": "2024-01-01T00:00:00Z", "metadata": []}', "metadata is"),
    ],
)
def test_bad_lines_of_ndjson(tmp_path: Path, line: str, reason: str) -> None:
    emails_file(tmp_path, 5)
    good = '{"email_id": 5, "kind": "open", "at": "2024-01-01T00:00:00Z", "user_agent": "\\ud800"}'
    write(tmp_path, "x.ndjson", good, line)
    arguments = ["import", "x.ndjson", "--tenant", "acme"]
    refused = run(tmp_path, *arguments)
    assert refused.returncode == 1
    assert refused.stderr.startswith("line 2: ")
    assert reason in refused.stderr.splitlines()[0]
    assert count(tmp_path / "data" / "tracking.db") == 0


def test_a_header_that_says_a_name_twice(tmp_path: Path) -> None:
    """Nobody knows which of the two is meant."""
    write(tmp_path, "x.csv", "email_id,created_at,created_at", f"1,{moment(0)},{moment(1)}")
    found = run(tmp_path, "import", "x.csv", "--tenant", "acme")
    assert (found.returncode, found.stdout) == (1, "")
    assert "the header has 'created_at' more than once" in found.stderr


def test_names_of_columns_can_be_shown(tmp_path: Path) -> None:
    """Neither a lone surrogate nor a terminal's escape is written out."""
    row = {"email_id": 1, "created_at": moment(long_ago()), "\ud800": 1, "\x1b[31mred": 2}
    write(tmp_path, "x.ndjson", json.dumps(row))
    found = run(tmp_path, "import", "x.ndjson", "--tenant", "acme")
    assert (found.returncode, found.stderr) == (0, "")
    assert "columns that mean nothing here: \ufffd, \ufffd[31mred\n" in found.stdout
    write(tmp_path, "x.ndjson", json.dumps({**row, "metadata": {"\x1b[31m": 5}}))
    found = run(tmp_path, "import", "x.ndjson", "--tenant", "acme")
    assert found.stderr.startswith("line 1: metadata.\ufffd[31m is not a string\n")


def test_only_the_first_problems_are_told(tmp_path: Path) -> None:
    write(tmp_path, "x.csv", HEADER, *["x"] * 50)
    refused = run(tmp_path, "import", "x.csv", "--tenant", "acme")
    lines = refused.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [f"line {n}" for n in range(2, 12)]
    assert lines[-1].startswith("little-bell: nothing was imported: 50 rows are bad")


def test_an_email_that_is_another_one_keeps_what_it_has(bell: Bell, other: Namesake) -> None:
    """The bell handed out that number itself: neither the email nor events of the file are its."""
    number = bell.create("acme", subject="Ours")
    at = long_ago()
    assert other.email("acme", at, "Theirs", None) == number
    other.event(number, "open", at, BROWSER, "")
    refused = run(bell.folder, "import", "old.db")
    assert f"email {number} of acme is there already, with another" in refused.stderr
    done = run(bell.folder, "import", "old.db", "--skip-bad")
    assert "imported: 0 emails, 0 opens" in done.stdout
    assert "not imported: 1 events of emails that are other ones here" in done.stdout
    assert "not imported: 1 bad rows" in done.stdout
    told = bell.get(f"/acme/emails/{number}").json
    assert (told["subject"], told["opens"]) == ("Ours", 0)


def test_what_was_left_out_as_bad_is_no_import(bell: Bell) -> None:
    """Events came before their emails: once these are there, the same file brings the rest."""
    at = moment(long_ago(3))
    rows = [f"{n},open,{at},,," for n in (5, 6, 6)]
    write(bell.folder, "events.csv", HEADER, *rows)
    emails_file(bell.folder, 5)
    arguments = ["import", "events.csv", "--tenant", "acme", "--skip-bad"]
    assert "imported: 0 emails, 1 opens" in run(bell.folder, *arguments).stdout
    assert "were imported before" in run(bell.folder, *arguments).stdout
    emails_file(bell.folder, 6)
    for _ in range(2):
        done = run(bell.folder, *arguments)
        assert done.returncode == 0, done.stderr
        assert count(bell.database) == 3, done.stdout
    assert "these 3 rows were imported before" in done.stdout
    all_is_well(bell.folder)


def test_the_id_of_a_bad_email_is_not_handed_out_again(bell: Bell) -> None:
    """Its mail is out, whatever else is wrong with the row: a new one's opens would be mixed up."""
    write(bell.folder, "x.csv", "email_id,created_at", f"7,{moment(long_ago())}", "40,yesterday")
    done = run(bell.folder, "import", "x.csv", "--tenant", "acme", "--skip-bad")
    assert "imported: 1 emails" in done.stdout, done.stderr
    assert bell.create("acme") == 41


def test_an_email_created_between_looking_and_writing(bell: Bell) -> None:
    """It got a number of the file: events of the file are not its own, and are not written."""
    bell.create("beta")
    at = long_ago()
    rows = [{"email_id": n, "created_at": moment(at), "subject": "Theirs"} for n in (1, 2)]
    rows.append({"email_id": 1, "kind": "open", "at": moment(at + HOUR)})
    write(bell.folder, "x.ndjson", *(json.dumps(row) for row in rows))
    created: list[int] = []

    def at_the_last_moment(database: str, method: str, path: str, body: bytes | None) -> Any:
        if path == "/imports" and not created:
            created.append(bell.create("acme", subject="Ours"))
        return call(database, method, path, body)

    config = Config({"DATABASE_URL": f"sqlite://{bell.database}"})
    arguments = (config, str(bell.folder / "x.ndjson"), "acme", False, False, at_the_last_moment)
    for reason in ("email 1 of acme was created meanwhile", "1 rows are bad"):
        with pytest.raises(LittleBellError, match=reason):
            import_history(*arguments, quiet)
        assert count(bell.database) == 0
        assert count(bell.database, "emails") == 2
    assert created == [1]
    assert bell.create("acme") == 3


def test_an_hour_of_history_has_the_bounds_of_any_hour(bell: Bell, tmp_path: Path) -> None:
    """Neither does history use up what today may add."""
    folder = tmp_path / "bounded"
    folder.mkdir()
    with serving(folder, MAX_NEW_AGENTS_PER_HOUR="3", MAX_HITS_PER_EMAIL_HOUR="20") as bounded:
        emails_file(folder, 1)
        at = long_ago(3)
        rows = [f"1,open,{moment(at + HOUR * (n // 30) + n)},,agent {n}," for n in range(60)]
        write(folder, "events.csv", HEADER, *rows)
        done = run(folder, "import", "events.csv", "--tenant", "acme")
        # An email's hours are counted from its twentieth event on.
        assert "imported: 0 emails, 60 opens" not in done.stdout
        assert "events beyond what an email may have in an hour" in done.stdout
        agents = bounded.rows("SELECT count(*) FROM agents")[0][0]
        assert agents == 6, "three of each hour"
        bounded.get("/acme/pixel/1.gif", User_Agent="of today")
        assert bounded.get("/acme/events").json["events"][0]["user_agent"] == "of today"
    all_is_well(folder)


def test_settings_hold_without_a_server_too(tmp_path: Path) -> None:
    """The command judges and bounds as the server would, by the same settings."""
    settings = {
        "MAX_HITS_PER_EMAIL_HOUR": "20",
        "MAX_NEW_AGENTS_PER_HOUR": "3",
        "MAX_NEW_LINKS_PER_HOUR": "2",
        "INSTANT_SECONDS": "30",
    }
    emails_file(tmp_path, 1)
    at = long_ago()
    rows = [f"1,open,{moment(at + 60_000 + n)},,agent {n}," for n in range(60)]
    rows += [f'1,click,{moment(at + n * 10_500)},{URL}{n},"{BROWSER}",' for n in range(1, 5)]
    write(tmp_path, "events.csv", HEADER, *rows)
    ran = subprocess.run(
        [*COMMAND, "import", "events.csv", "--tenant", "acme"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    database = tmp_path / "data" / "tracking.db"
    assert (count(database, "agents"), count(database, "links")) == (3, 2)
    clicks = list(read_rows(database, "SELECT at, class FROM events WHERE kind = 1 ORDER BY at"))
    assert [class_ for _, class_ in clicks] == [2, 2, 0, 0], "instant within 30 seconds"
    assert count(database) < 64, "beyond what an email may have in an hour"


def test_another_import_has_to_wait(bell: Bell) -> None:
    code = (
        "import sys, time; from little_bell.store.lock import Lock; Lock(sys.argv[1]);"
        "print('held', flush=True); time.sleep(60)"
    )
    lock = str(bell.database) + ".import"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        write(bell.folder, "x.csv", HEADER)
        found = run(bell.folder, "import", "x.csv")
        assert found.returncode == 1
        assert "another import into this database is under way" in found.stderr
        holder.kill()


@pytest.mark.parametrize("blocks", [8, 100])
def test_rows_that_nothing_can_hold(bell: Bell, blocks: int) -> None:
    """No file may become larger: where the rows' own one is made, and where it is filled."""
    rows = [f"{n},{moment(long_ago())},{'x' * 90}" for n in range(1, 1001)]
    write(bell.folder, "emails.csv", "email_id,created_at,subject", *rows)
    ran = subprocess.run(
        ["sh", "-c", f'ulimit -f {blocks}; exec "$0" "$@"', *COMMAND, "import", "emails.csv",
         "--tenant", "acme"],
        cwd=bell.folder,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
    assert ran.stderr.startswith("little-bell: the rows cannot be kept beside the database: ")
    assert count(bell.database, "emails") == 0


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from little_bell.cli import main; assert main(sys.argv[1:]) == 0;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    found: list[int] = []
    for rows in (1_000, 30_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        emails_file(folder, 1)
        at = long_ago(3)
        lines = [f"1,open,{moment(at + n)},,," for n in range(rows)]
        write(folder, "events.csv", HEADER, *lines)
        ran: Any = subprocess.run(
            [sys.executable, "-c", code, "import", "events.csv", "--tenant", "acme"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "MAX_HITS_PER_EMAIL_HOUR": "1000000"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        found.append(int(ran.stdout.splitlines()[-1]))
    assert found[1] < found[0] + 25_000, "KiB"


def test_an_email_that_was_created_meanwhile_stops_it(tmp_path: Path) -> None:
    """Between the look at the database and the first row: nothing counts for the wrong email."""
    path = str(tmp_path / "t.db")
    writer = Writer(path)
    writer.write(long_ago(), [NewEmail("acme", "Ours", None, None, None)], [])
    config = Config({"DATABASE_URL": f"sqlite:{path}"})
    email = PastEmail("acme", 1, long_ago(9), "Theirs", None, None, None, 0)
    piece = Piece("acme", b"x" * 16, 1, 0, 1, {}, [(0, email)])
    job = Import(piece, Door(config, Policies(config)), Books(), 1.0)
    with pytest.raises(DataError, match="email 1 of acme was created meanwhile"):
        writer.write(long_ago(), [], [], job)
    writer.close()
    assert list(read_rows(Path(path), "SELECT subject FROM emails")) == [("Ours",)]


def test_many_tenants_take_no_long_turn(bell: Bell, other: Namesake) -> None:
    other.connection.execute("BEGIN")
    at = long_ago()
    for n in range(700):
        other.event(other.email(f"t{n}", at, None, None), "open", at + HOUR, BROWSER, "")
    other.connection.execute("COMMIT")
    done = run(bell.folder, "import", "old.db")
    assert done.stdout == "imported: 700 emails, 700 opens, 0 clicks\n", done.stderr
    assert bell.rows("SELECT min(last_email), max(last_email) FROM tenants") == [(700, 700)]
    all_is_well(bell.folder)
