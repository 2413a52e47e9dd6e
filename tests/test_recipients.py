"""GET and DELETE /{tenant}/recipients/{recipient}: all of one person's data, and none of it."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bell import BROWSER, Answer, Bell, Line, dump, raw_request, serving, wait_until
from little_bell.config import Config
from little_bell.ops.logs import Log
from little_bell.ops.metrics import Counters
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.database import PAGE_SIZE
from little_bell.store.memory import Limits
from little_bell.store.recorder import Recorder
from little_bell.store.wipe import unused
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit
from little_bell.wire.bulk import Bulk
from little_bell.wire.handover import Wish
from little_bell.wire.policies import Policies

ANN = "ann@example.com"
PATH = "/acme/recipients/ann%40example.com"
NOON = 1_767_614_400_000
NDJSON = {"Content-Type": "application/x-ndjson"}


def erase(bell: Bell, recipient: str = ANN, tenant: str = "acme") -> Answer:
    coded = quote(recipient, safe="")
    return bell.ask("DELETE", f"/{tenant}/recipients/{coded}?confirm={coded}")


def forms(address: str) -> list[bytes]:
    """What may stand in a file of an address, all in small letters."""
    each = "".join(f"%{byte:02x}" for byte in address.encode())
    return [
        text.encode()
        for text in (address, quote(address, safe=""), quote(quote(address, safe="")), each)
    ]


def codes(address: str) -> list[bytes]:
    """The same in base64, as it stands."""
    return [b64encode(f"{before}{address}".encode())[4:-4] for before in ("", "1", "12", "123")]


def found_in(folder: Path, address: str = ANN) -> list[str]:
    """Where the bytes of an address stand in the files of a folder."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            data = path.read_bytes()
            small = data.lower()
            found += [f"{path.name}: {form!r}" for form in forms(address) if form in small]
            found += [f"{path.name}: {code!r}" for code in codes(address) if code in data]
    return found


def command(bell: Bell, *words: str) -> str:
    """What a command prints; it must succeed."""
    environment = {"DATABASE_URL": f"sqlite:{bell.database}", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, "-m", "little_bell", *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def figures(bell: Bell, tenant: str = "acme") -> dict[str, Any]:
    """What a tenant's reports say, but for names."""
    said = {
        name: bell.get(f"/{tenant}/{name}").json
        for name in ("stats", "campaigns", "links", "clients")
    }
    for name in ("campaigns", "links"):
        for one in said[name][name]:
            one.pop("campaign" if name == "campaigns" else "url")
    return said


def click(bell: Bell, email: int, url: str, tenant: str = "acme", agent: str = BROWSER) -> None:
    target = f"/{tenant}/click/{email}?url={quote(url, safe='')}"
    assert bell.get(target, User_Agent=agent).status == 302


def traffic(bell: Bell) -> None:
    """Emails to several people of several tenants, in all the forms in which an address gets in."""
    lines = []
    for i in range(300):
        to = (ANN, "Ann@Example.com", "ANN@EXAMPLE.COM", f"user{i}@example.com")[i % 4]
        lines.append({"recipient": to, "subject": f"Hello {to}", "metadata": {"to": to}})
    batch = "".join(json.dumps(line) + "\n" for line in lines)
    headers = {**NDJSON, "Idempotency-Key": "batch"}
    assert bell.ask("POST", "/acme/emails", batch, headers).status == 201
    single = json.dumps({"recipient": ANN, "subject": "A single one"})
    answer = bell.ask("POST", "/acme/emails", single, {"Idempotency-Key": "single"})
    assert answer.json["email_id"] == 301
    bell.create(recipient="  Ann@Example.com ", campaign="spring")
    # Others, who name her.
    bell.create(subject=f"FW: {ANN.upper()}", recipient="bob@example.com", campaign=f"for {ANN}")
    link = f"https://x.example/?e={quote(ANN)}"
    bell.create(recipient=f"Ann <{ANN}>", metadata={ANN: link, "n": "1", "é": f"{ANN}, and {ANN}"})
    # Others, whose address holds hers.
    bell.create(recipient="xann@example.com", subject="For xann@example.com", campaign="spring")
    bell.create(recipient="ann@example.com.au", metadata={"to": "ann@example.com.au"})
    for email in (1, 2, 4, 301, 303, 305):
        bell.get(f"/acme/pixel/{email}.gif")
        bell.get(f"/acme/pixel/{email}.gif", User_Agent=f"Reader/1.0 ({ANN})")
        for form in (ANN, ANN.upper(), quote(ANN, safe=""), quote(quote(ANN, safe=""))):
            click(bell, email, f"https://x.example/?e={form}&email={email}")
        token = b64encode(json.dumps({"to": ANN}).encode()).decode()
        click(bell, email, f"https://x.example/t/{token}")
        click(bell, email, "https://x.example/?e=xann@example.com")
        click(bell, email, "https://x.example/plain")
    # Rows that grow and shrink, so that old versions lie about in pages.
    dice = random.Random(1)
    for _ in range(150):
        email = dice.randrange(1, 300)
        long = {"to": lines[email - 1]["recipient"], "x": "y" * dice.choice((0, 30, 400, 900))}
        bell.ask("PATCH", f"/acme/emails/{email}", {"metadata": long})
    for to in ("someone@example.com", ANN, "else@example.com", ANN):
        bell.ask("PATCH", "/acme/emails/8", {"recipient": to})
    for email in range(100, 130):
        assert bell.ask("DELETE", f"/acme/emails/{email}").status == 204
    # Another tenant.
    for i in range(20):
        bell.create("other", recipient=ANN, subject=f"For {ANN} {i}", campaign=ANN)
        click(bell, 1 + i, f"https://x.example/?e={ANN}", "other")
        bell.get(f"/other/pixel/{1 + i}.gif")


def test_it_works(tmp_path: Path) -> None:
    with serving(tmp_path, INSTANT_SECONDS="0") as bell:
        bell.create(recipient="Ann@Example.com", subject="One", campaign="spring")
        bell.create(recipient="bob@example.com")
        bell.create(recipient=ANN, metadata={"order": "17"})
        bell.get("/acme/pixel/1.gif")
        click(bell, 1, "https://example.com/a")
        click(bell, 1, "https://example.com/a")
        answer = bell.get("/acme/recipients/ANN@example.com")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-disposition"] == 'attachment; filename="acme-recipient.json"'
        said = answer.json
        assert set(said) == {"recipient", "opted_out", "emails"}
        assert (said["recipient"], said["opted_out"]) == ("ANN@example.com", False)
        for email in said["emails"]:
            shown = bell.get(f"/acme/emails/{email['email_id']}").json
            links = email.pop("links")
            del shown["next"], shown["events_purged"]
            assert email == shown
            if email["email_id"] == 1:
                assert [(one["url"], one["clicks"]) for one in links] == [
                    ("https://example.com/a", 2)
                ]
            else:
                assert links == []
        assert [email["email_id"] for email in said["emails"]] == [3, 1]
        before = figures(bell)
        answer = erase(bell)
        assert (answer.status, answer.body) == (204, b"")
        assert bell.get(PATH).status == 404
        assert figures(bell) == before
        assert [one["email_id"] for one in bell.get("/acme/emails").json["emails"]] == [2]
        assert bell.get("/acme/events").json["events"] == []
        assert bell.get("/acme/pixel/1.gif").status == 200
        assert erase(bell).status == 404
        [line] = [one for one in bell.lines() if one["message"] == "Recipient erased"]
        assert line["fields"]["emails"] == 2
        assert ANN not in bell.log_file.read_text().lower()


def test_a_link_that_is_erased_is_another_one_afterwards(tmp_path: Path) -> None:
    """What the server remembers of links, user agents and campaigns is forgotten with them."""
    with serving(tmp_path, INSTANT_SECONDS="0") as bell:
        url, agent, campaign = f"https://x.example/?e={ANN}", f"Reader ({ANN})", f"for {ANN}"
        bell.create(recipient="bob@example.com", campaign=campaign)
        click(bell, 1, url, agent=agent)
        assert erase(bell).status == 204
        names = (
            "SELECT url FROM links",
            "SELECT user_agent FROM agents",
            "SELECT name FROM campaigns",
        )
        assert [bell.rows(sql) for sql in names] == [[("(erased 1)",)]] * 3
        click(bell, 1, url, agent=agent)
        bell.create(campaign=campaign)
        assert bell.rows("SELECT link, agent FROM events ORDER BY seq") == [(1, 1), (2, 2)]
        assert bell.rows("SELECT campaign FROM states ORDER BY email") == [(1,), (2,)]
        command(bell, "check")


def test_long_exports_are_whole(tmp_path: Path) -> None:
    """More emails, events and links than a piece holds."""
    database = tmp_path / "data" / "tracking.db"
    database.parent.mkdir()
    writer = Writer(str(database), Limits(instant_ms=0))
    writer.write(NOON, [NewEmail("acme", None, ANN, None, None)] * 120, [])
    hits = [
        Hit(
            1,
            7,
            i % 2,
            NOON + 3_600_000 * i,
            0,
            BROWSER,
            b"abc",
            f"https://x/{i}" if i % 2 else None,
        )
        for i in range(1200)
    ]
    writer.write(NOON, [], hits)
    writer.close()
    with serving(tmp_path) as bell:
        said = bell.get(PATH, Accept_Encoding="gzip;q=0").json
    assert [one["email_id"] for one in said["emails"]] == list(range(120, 0, -1))
    [email] = [one for one in said["emails"] if one["events"]]
    assert email["email_id"] == 7
    assert [event["id"] for event in email["events"]] == list(range(1200, 0, -1))
    assert sorted(link["link_id"] for link in email["links"]) == list(range(1, 601))


def test_it_says_who_opted_out(tmp_path: Path) -> None:
    from hashlib import sha256

    with serving(tmp_path) as bell:
        bell.create(recipient=ANN)
        bell.stop()
        connection = sqlite3.connect(bell.database)
        connection.execute("UPDATE tenants SET salt = x'0102'")
        digest = sha256(b"\x01\x02" + ANN.encode()).digest()[:16]
        connection.execute(
            "INSERT INTO optouts (tenant, recipient, at) VALUES (1, ?, 0)", (digest,)
        )
        connection.commit()
        connection.close()
        bell.start()
        assert bell.get(PATH).json["opted_out"] is True
        assert bell.get("/acme/recipients/bob@example.com").status == 404
        assert erase(bell).status == 204
        assert bell.get(PATH).json == {"recipient": ANN, "opted_out": True, "emails": []}


def test_nothing_of_it_is_in_any_file_and_nothing_else_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path, INSTANT_SECONDS="0") as bell:
        traffic(bell)
        before, rows, other = figures(bell), dump(bell.database), figures(bell, "other")
        own = {
            row[1]
            for row in rows["emails"]
            if row[0] == 1 and (row[3] or "").strip().lower() == ANN
        }
        assert len(own) > 200
        assert found_in(bell.database.parent)
        assert erase(bell, tenant="other").status == 204
        assert figures(bell, "other") == other
        assert dump(bell.database)["emails"] == [row for row in rows["emails"] if row[0] == 1]
        # What only looks like her is as it was; of all files, the lock and the sockets too.
        assert erase(bell, "  ANN@example.com").status == 204
        after = dump(bell.database)
        hidden = {"xann@example.com": "", "ann@example.com.au": ""}
        texts = [row for row in after["emails"] if not any(name in str(row) for name in hidden)]
        assert not any(ANN in str(row).lower() for row in texts)
        assert figures(bell) == before
        for table in ("emails", "states", "events"):
            left = [row for row in rows[table] if row[0] == 1]
            where = 3 if table == "events" else 1
            kept = [row for row in left if row[where] not in own]
            if table == "emails":
                named = {303, 304}
                kept = [row for row in kept if row[1] not in named]
                assert [row for row in after[table] if row[1] not in named] == kept
            else:
                assert after[table] == kept
        texts_of = {row[1]: row[2:] for row in after["emails"]}
        assert texts_of[303] == ("FW: (erased)", "bob@example.com", None)
        assert texts_of[304][1] == "Ann <(erased)>"
        assert json.loads(texts_of[304][2]) == {
            "(erased)": "https://x.example/?e=(erased)",
            "n": "1",
            "é": "(erased), and (erased)",
        }
        assert texts_of[305] == ("For xann@example.com", "xann@example.com", None)
        assert texts_of[306] == (None, "ann@example.com.au", '{"to":"ann@example.com.au"}')
        urls = [row[2] for row in after["links"] if row[0] == 1]
        assert "https://x.example/?e=xann@example.com" in urls
        assert "https://x.example/plain" in urls
        assert sum(url.startswith("(erased ") for url in urls) == 6 * 4 + 1
        assert [row[2] for row in after["campaigns"] if row[0] == 1] == ["spring", "(erased 2)"]
        keys = [(row[4], row[5], row[6]) for row in after["idempotency"] if row[1] == 1]
        [(first, count, digest)] = [(row[4], row[5], row[3]) for row in after["idempotency"]]
        assert len(keys) == 1
        assert (first, count, digest) == (1, 300, b"")
        # With the key of the batch comes its answer, and no email twice.
        once = {**NDJSON, "Idempotency-Key": "batch"}
        again = bell.ask("POST", "/acme/emails", "{}\n" * 300, once)
        assert again.status == 201
        ids = [json.loads(line)["email_id"] for line in again.body.splitlines()]
        assert ids == list(range(1, 301))
        assert bell.ask("POST", "/acme/emails", "{}\n", once).status == 422
        assert bell.ask("POST", "/acme/emails", "{}", {"Idempotency-Key": "batch"}).status == 422
        assert bell.rows("SELECT last_email FROM tenants WHERE tenant = 1") == [(306,)]
        # The last ones that have hers in theirs go, too: then no byte of it may be left.
        for email in (305, 306):
            assert bell.ask("DELETE", f"/acme/emails/{email}").status == 204
        for stranger in ("xann@example.com", "ann@example.com.au"):
            erase(bell, stranger)
        assert found_in(bell.database.parent) == []
        command(bell, "check")
        assert figures(bell) == before
        rebuilt = dump(bell.database)
        command(bell, "rebuild")
        assert dump(bell.database) == rebuilt
        assert found_in(bell.database.parent) == []
        assert bell.rows("SELECT count(*) FROM erasures") == [(0,)]
        bell.stop()
        assert found_in(bell.database.parent) == []


HOSTILE = [
    ("/acme/recipients/%00", 400),
    ("/acme/recipients/ann%40example.com%00", 400),
    ("/acme/recipients/%ff", 400),
    ("/acme/recipients/%ed%a0%80", 400),
    ("/acme/recipients/" + "a" * 321, 400),
    ("/acme/recipients/" + "%C3%A9" * 321, 400),
    ("/acme/recipients/%25", 404),
    ("/acme/recipients/_", 404),
    ("/acme/recipients/%25%40%25", 404),
    ("/acme/recipients/_nn@example.com", 404),
    ("/acme/recipients/*", 404),
    ("/acme/recipients/'", 404),
    ("/acme/recipients/'%20OR%20''='", 404),
    ("/acme/recipients/%22", 404),
    ("/acme/recipients/%5B%5D(.*)%2B%3F", 404),
    ("/acme/recipients/.*@.*", 404),
    ("/acme/recipients/", 404),
    ("/acme/recipients/%20", 404),
    ("/acme/recipients/example.com", 404),
    ("/acme/recipients/@example.com", 404),
    ("/acme/recipients/ann@", 404),
    ("/acme/recipients/ann@example.co", 404),
    ("/acme/recipients/nn@example.com", 404),
    ("/acme/recipients/%F0%9F%94%94", 404),
    ("/nobody/recipients/ann@example.com", 404),
    ("/_/recipients/ann@example.com", 404),
]


def test_hostile_recipients_change_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as bell:
        bell.create(recipient=ANN, subject="100 % for _you_", metadata={"a": "'b' \"c\" é"})
        bell.create(recipient="Ann@Example.com", campaign="(.*)+?")
        bell.create(recipient="news", subject="news for the news")
        bell.get("/acme/pixel/1.gif")
        before = dump(bell.database)
        for path, status in HOSTILE:
            confirm = path.rpartition("/")[2]
            target = f"{path}?confirm={confirm}"
            answer = bell.ask("DELETE", target)
            assert answer.status == status or (not confirm and answer.status == 400), (path, answer)
            assert answer.headers["content-type"] == "application/problem+json"
            assert bell.get(path).status == status, path
        for query in ("", "?confirm=", "?confirm=bob@example.com", "?confirm=a&confirm=b", "?x=1"):
            assert bell.ask("DELETE", f"{PATH}{query}").status == 400
        assert bell.ask("POST", PATH).status == 405
        assert dump(bell.database) == before
        # A word is nobody's address: only the email goes.
        assert erase(bell, "news").status == 204
        assert [row[2] for row in dump(bell.database)["emails"]] == [
            row[2] for row in before["emails"][:2]
        ]


@pytest.mark.parametrize(
    "recipient", ["ann+tag@example.com", "o'hara@example.com", "ünï@bücher.example"]
)
def test_other_addresses(tmp_path: Path, recipient: str) -> None:
    with serving(tmp_path) as bell:
        bell.create(recipient=recipient, subject=recipient)
        bell.create(recipient="bob@example.com", subject=f"About {recipient}")
        assert bell.get(f"/acme/recipients/{quote(recipient)}").json["emails"]
        # As people write it.
        plain = quote(recipient, safe="+@'")
        answer = bell.ask("DELETE", f"/acme/recipients/{plain}?confirm={plain}")
        assert answer.status == 204, answer
        assert bell.rows("SELECT subject FROM emails") == [("About (erased)",)]
        assert found_in(bell.database.parent, recipient.lower()) == []


# Crashes


class Lane:
    """The writer's part of the fast lane: turns without sockets."""

    def __init__(self, path: Path) -> None:
        self.writer = Writer(str(path), Limits(instant_ms=0))
        self.recorder = Recorder(self.writer, 1 << 20)
        self.checkpointer = Checkpointer(self.writer, 1 << 26)
        self.told: list[tuple[int, int, int]] = []
        log = Log(1000)
        tell = lambda *what: self.told.append(what)  # noqa: E731
        policies, counters = Policies(Config({})), Counters()
        self.bulk = Bulk(self.recorder, self.checkpointer, log, tell, [], policies, counters)
        self.longest = 0.0  # seconds of the processor: what a turn takes where nobody else is

    def turn(self) -> None:
        now = time.monotonic()
        started = time.thread_time()
        job = self.bulk.job(now)
        if job is not None:
            assert self.recorder.record(NOON, [], [], now, job).durable
        self.bulk.settle(now)
        self.checkpointer.step(now)
        self.longest = max(self.longest, time.thread_time() - started)
        if job is None and self.bulk.erasures.patience:
            time.sleep(0.001)

    @property
    def idle(self) -> bool:
        erasures = self.bulk.erasures
        return erasures.wish is None and not erasures.queue

    def finish(self, most: float = 20) -> None:
        end = time.monotonic() + most
        while not self.idle:
            assert time.monotonic() < end
            self.turn()

    def close(self) -> None:
        self.checkpointer.close()
        self.writer.close()
        self.checkpointer.release()


@contextmanager
def lane(path: Path) -> Iterator[Lane]:
    found = Lane(path)
    try:
        yield found
    finally:
        found.close()


def disorder(path: Path, seed: int, emails: int) -> None:
    """Emails that come in disorder, grow, shrink and go: copies lie about in pages."""
    dice = random.Random(seed)
    writer = Writer(str(path), Limits(instant_ms=0))
    for at in range(0, emails, 100):
        some = []
        for _ in range(100):
            to = ANN if dice.random() < 0.2 else f"user{dice.randrange(10**6)}@mail.example"
            text = (
                None if dice.random() < 0.5 else json.dumps({"a": to + "m" * dice.randrange(900)})
            )
            some.append(NewEmail("acme", f"For {to}" + "s" * dice.randrange(60), to, None, text))
        writer.write(NOON, some, [])
        writer.write(
            NOON + 60_000,
            [],
            [
                Hit(1, at + 1 + i, kind, NOON + 60_000, 0, BROWSER, b"abc", url)
                for i in range(0, 100, 20)
                for kind, url in ((OPEN, None), (CLICK, f"https://x.example/?e={ANN}&n={i}"))
            ],
        )
        cursor = writer.cursor
        for _ in range(30):
            email = dice.randrange(1, at + 101)
            row: Any = cursor.execute(
                "SELECT recipient FROM emails WHERE email = ?", (email,)
            ).fetchone()
            text = json.dumps({"a": row[0] + "m" * dice.choice((0, 10, 700, 1500))})
            cursor.execute("UPDATE emails SET metadata = ? WHERE email = ?", (text, email))
    writer.close()


def copy_of(folder: Path, to: Path) -> Path:
    """The files as they are at this moment: what a kill would leave."""
    to.mkdir()
    for path in folder.iterdir():
        if not path.name.endswith("-shm"):
            shutil.copy(path, to / path.name)
    return to


def test_after_a_crash_at_any_step_it_ends_erased(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "x.db"
    disorder(path, 3, 800)
    crashes: list[Path] = []
    with lane(path) as first:
        first.bulk.erasures.arrive(Wish(1, "acme", ANN, "192.0.2.0"))
        while not first.idle:
            first.turn()
            crashes.append(copy_of(tmp_path / "a", tmp_path / str(len(crashes))))
        assert first.told == [(1, 204, 0)]
        assert found_in(tmp_path / "a") == []
    assert len(crashes) > 20
    stages = set()
    for folder in crashes[:: max(1, len(crashes) // 25)]:
        with lane(folder / "x.db") as second:
            noted = second.writer.memory.erasures
            stages.add((len(noted), bool(noted and noted[0].recipient)))
            if not noted and found_in(folder):  # it was not begun: nobody was told of anything
                continue
            second.finish()
            assert found_in(folder) == []
            assert second.writer.cursor.execute("SELECT count(*) FROM erasures").fetchall() == [
                (0,)
            ]
    assert stages >= {(1, True), (1, False)}


@pytest.mark.parametrize("seed", [0, 1])
def test_unused_parts_of_pages_are_overwritten(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "x.db"
    disorder(path, seed, 2000)
    with lane(path) as one:
        one.bulk.erasures.arrive(Wish(1, "acme", ANN, "192.0.2.0"))
        one.finish()
        assert found_in(tmp_path) == []
        # Nor does it come back with pages that the writer still had in memory.
        cursor = one.writer.cursor
        cursor.execute("UPDATE emails SET subject = substr(subject, 2) || 'x'")
        assert found_in(tmp_path) == []
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_what_is_unused_is_what_sqlite_says(tmp_path: Path) -> None:
    """By the virtual table dbstat, whose `unused` counts these bytes and what of free blocks names
    the next one and the size, and fragments."""
    path = tmp_path / "x.db"
    disorder(path, 5, 600)
    writer = Writer(str(path))
    data = path.read_bytes()
    count = 0
    sql = "SELECT pageno, pagetype, unused FROM dbstat"
    rows: list[Any] = writer.connection.execute(sql).fetchall()
    for number, kind, size in rows:
        page = data[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        spans = unused(page, number)
        if kind == "overflow":
            assert spans == []
            continue
        begin = 100 if number == 1 else 0
        fragments = page[begin + 7]
        free = sum(end - start for start, end in spans)
        blocks = 0
        at = int.from_bytes(page[begin + 1 : begin + 3], "big")
        while at:
            blocks += 1
            at = int.from_bytes(page[at : at + 2], "big")
        assert free + 4 * blocks + fragments == size, (number, kind)
        count += 1
    assert count > 100
    writer.close()


def test_a_kill_amid_requests(tmp_path: Path) -> None:
    """kill -9 while a client waits; from the note on the rest is done by the next server."""
    bell = Bell(tmp_path, None, INSTANT_SECONDS="0")
    bell.database.parent.mkdir()
    disorder(bell.database, 7, 1000)
    for delay in (0.0, 0.03, 0.06, 0.1):
        bell.start()
        try:
            bell.create(recipient=ANN, subject=ANN)
            bell.get("/acme/emails")  # the slow lane is there
            with Line(bell.port) as line:
                line.send(raw_request(f"{PATH}?confirm={ANN}", method="DELETE"))
                time.sleep(delay)
                bell.kill()
            bell.start()
            wait_until(lambda: bell.rows("SELECT count(*) FROM erasures") == [(0,)])
            left = found_in(bell.database.parent)
            assert not left or bell.rows(
                "SELECT count(*) FROM emails WHERE recipient = ?", ANN
            ) != [(0,)]
            erase(bell)
            assert found_in(bell.database.parent) == []
            bell.stop()
        finally:
            bell.end()


def test_it_is_finished_though_the_client_goes_away(tmp_path: Path) -> None:
    with serving(tmp_path) as bell:
        for _ in range(30):
            bell.create(recipient=ANN)
        with Line(bell.port) as line:
            line.send(raw_request(f"{PATH}?confirm={ANN}", method="DELETE"))
        wait_until(lambda: any(one["message"] == "Recipient erased" for one in bell.lines()))
        assert found_in(bell.database.parent) == []


# Beside others

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM emails").fetchall()
print("reading", flush=True)
sys.stdin.read()
"""


def test_a_reader_of_an_old_state_holds_it_up_and_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    disorder(path, 1, 500)
    monkeypatch.setattr("little_bell.wire.erasures.PATIENCE", 0.5)
    with lane(path) as one:
        one.bulk.erasures.arrive(Wish(1, "acme", ANN, "192.0.2.0"))
        # Another process: locks of one process do not hold against itself.
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        wait = time.monotonic() + 10
        while not one.told and time.monotonic() < wait:
            one.turn()
        assert one.told == [(1, 202, 0)]
        assert not one.idle
        reader.communicate(b"enough")
        one.finish()
        assert one.told == [(1, 202, 0)]
        assert found_in(tmp_path) == []


def test_beside_load(tmp_path: Path) -> None:
    """Opens, clicks and new emails of that very recipient meanwhile: those that were there before
    the request are gone, those that came after its answer stay, and figures are right."""
    with serving(tmp_path, INSTANT_SECONDS="0") as bell:
        lines = [{"recipient": ANN, "campaign": "spring", "subject": ANN}] * 1500
        body = "".join(json.dumps(line) + "\n" for line in lines)
        assert bell.ask("POST", "/acme/emails", body, NDJSON).status == 201
        over = threading.Event()
        failed: list[object] = []

        def load(seed: int) -> None:
            dice = random.Random(seed)
            while not over.is_set():
                email = dice.randrange(1, 1501)
                answers = [
                    bell.get(f"/acme/pixel/{email}.gif"),
                    bell.get(f"/acme/click/{email}?url=https://x.example/?e={ANN}"),
                    bell.ask("POST", "/acme/emails", {"recipient": ANN, "campaign": "spring"}),
                    bell.ask("PATCH", f"/acme/emails/{email}", {"subject": f"To {ANN}"}),
                ]
                wanted = ((200,), (302, 404), (201,), (200, 404, 409, 503))
                failed.extend(
                    one for one, good in zip(answers, wanted, strict=True) if one.status not in good
                )

        threads = [threading.Thread(target=load, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        answer = erase(bell)
        [(last,)] = bell.rows("SELECT last_email FROM tenants")
        time.sleep(0.1)
        over.set()
        for thread in threads:
            thread.join()
        assert answer.status == 204
        assert failed == []
        left = [email for (email,) in bell.rows("SELECT email FROM emails")]
        assert min(left) > 1500
        assert max(left) > last
        stats = bell.get("/acme/stats").json["figures"]
        assert stats["sent"] == bell.rows("SELECT last_email FROM tenants")[0][0]
        command(bell, "check")
        # Now that nobody sends any more, nothing is left.
        assert erase(bell).status == 204
        assert found_in(bell.database.parent) == []
        assert bell.get("/acme/stats").json["figures"] == stats
        command(bell, "check")


def test_no_turn_is_long(tmp_path: Path) -> None:
    """5,000 emails of one recipient, and as many links that name it."""
    path = tmp_path / "x.db"
    writer = Writer(str(path), Limits(instant_ms=0))
    text = json.dumps({"to": "bob@example.com", "x": "y" * 100, "u": "https%3A%2F%2Fx%2F"})
    for at in range(0, 10_000, 500):
        some = [
            NewEmail("acme", f"For {to}", to, f"c{at % 7}", text)
            for to in (ANN if i % 2 else f"u{i}@mail.example" for i in range(500))
        ]
        writer.write(NOON + at * 60_000, some, [])
        hits = [
            Hit(1, at + 1 + i, kind, NOON + (at + i) * 60_000, 0, BROWSER, b"abc", url)
            for i in range(500)
            for kind, url in (
                (OPEN, None),
                (CLICK, f"https://x.example/{at + i}?e=ann%40example.com"),
            )
        ]
        writer.write(NOON, [], hits)
    writer.close()
    with lane(path) as one:
        one.bulk.erasures.arrive(Wish(1, "acme", ANN, "192.0.2.0"))
        started = time.perf_counter()
        one.finish(60)
        print(f"{time.perf_counter() - started:.2f} s, longest turn {one.longest * 1000:.1f} ms")
        assert one.told == [(1, 204, 0)]
        assert one.longest < 0.02
    assert found_in(tmp_path) == []
