"""The truth: whatever happened, everything that can be read equals a naive count, at once."""

import csv
import http.client
import io
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest

from bell import Bell, Line, dump, raw_request
from little_bell.reports import period
from little_bell.store import sums
from little_bell.store.edits import Edit, Edits
from little_bell.store.reader import Reader
from little_bell.store.recount import Recount
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit
from programs import run
from truth import AGENTS, COLUMNS, HOUR, VERDICTS, WHOLE, WINDOW, Event, Mail, Truth, figures, rates

ZONES = ("UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Chatham")
CONSENTS = ("full", "aggregate", "none")
CAMPAIGNS = (None, "spring", "summer & more", "=winter")
URLS = tuple(f"https://{name}.example/" for name in "vwxyz")
OWN = "192.0.2.77"
# Addresses and the networks of them that are kept.
ADDRESSES = {
    "203.0.113.5": "203.0.113.0",
    "203.0.113.250": "203.0.113.0",
    "198.51.100.7": "198.51.100.0",
    "2001:db8:1:2::3": "2001:db8:1::",
    OWN: "192.0.2.0",
    "192.0.2.78": "192.0.2.0",  # a stranger from the same network
}
INSTANT = 400  # ms
SLACK = 200  # ms between what the test and the server take for now
QUARTER = 900_000  # ms


def ms(text: str) -> int:
    """A time as the API says it, exactly."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return int(seconds) * 1000 + int(fraction or 0)


def key(moment: datetime, interval: str) -> object:
    """Which hour, day or week of its zone a time is in; an hour that comes twice is two."""
    if interval == "hour":
        return moment.date(), moment.hour, moment.utcoffset()
    day = moment.date()
    return day if interval == "day" else day - timedelta(day.weekday())


def by_interval(
    counted: list[tuple[int, str]], zone: tzinfo, interval: str
) -> dict[object, list[int]]:
    """Figures of each interval that has any."""
    found: dict[object, list[tuple[int, str]]] = {}
    for at, column in counted:
        moment = datetime.fromtimestamp(at // 1000, zone)
        found.setdefault(key(moment, interval), []).append((at, column))
    return {one: figures(rows) for one, rows in found.items()}


class Walk:
    """A random walk of one tenant on a running server, by HTTP alone; `truth` knows what is so."""

    def __init__(self, bell: Bell, tenant: str, seed: int) -> None:
        self.bell = bell
        self.tenant = tenant
        self.random = random.Random(seed)
        self.truth = Truth(INSTANT)
        self.last_event = 0
        self.last_email = 0
        self.connection = http.client.HTTPConnection("127.0.0.1", bell.port, timeout=20)
        self.steps: list[str] = []  # for who reads a failure

    # Reading

    def get(self, path: str, **parameters: object) -> bytes:
        query = f"?{urlencode(parameters)}" if parameters else ""
        self.connection.request("GET", f"/{self.tenant}/{path}{query}")
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, parameters, body)
        return body

    def json(self, path: str, **parameters: object) -> Any:
        return json.loads(self.get(path, **parameters))

    def all(self, path: str, member: str, **parameters: object) -> list[Any]:
        """A list, page by page."""
        answer = self.json(path, **parameters, limit=self.random.choice((7, 100, 500)))
        found = list(answer[member])
        while answer["next"] is not None:
            answer = json.loads(self.get(answer["next"].removeprefix(f"/{self.tenant}/")))
            found += answer[member]
        return found

    # What happens

    def salvo(self) -> None:
        """Opens and clicks in one go, which may share a tick; and an edit behind them, perhaps."""
        some = self.random
        mails = list(self.truth.mails.values())[-12:]
        one = some.choice(mails)
        requests, expected, heads = [], [], []
        less: set[int] = set()  # events that may only be counted
        burst = some.random() < 0.25
        agent = some.choice(AGENTS)[0]
        address = some.choice(list(ADDRESSES))
        for _ in range(some.choice((1, 1, 2, 3, 5, 8))):
            if not burst:
                one = some.choice(mails)
                agent = some.choice(AGENTS)[0]
                address = some.choice(list(ADDRESSES))
            url = some.choice(URLS) if burst or some.random() < 0.4 else None
            target = f"/{self.tenant}/pixel/{one.id}.gif"
            if url is not None:
                target = f"/{self.tenant}/click/{one.id}?url={quote(url, safe='')}"
            lines = [f"X-Forwarded-For: {address}"] + [f"User-Agent: {agent}"] * bool(agent)
            prefetch = some.random() < 0.08
            lines += ["Sec-Purpose: prefetch;prerender"] * prefetch
            age = int(time.time() * 1000) - one.created_at
            gpc = some.random() < 0.1 and (url is None or abs(age - INSTANT) > 2 * SLACK)
            lines += ["Sec-GPC: 1"] * gpc
            head = some.random() < 0.08
            requests.append(raw_request(target, *lines, method="HEAD" if head else "GET"))
            heads.append(head)
            consent = max(one.consent, int(gpc))
            if not head and not one.gone and consent < 2:
                kind = "open" if url is None else "click"
                mine = address == OWN
                event = Event(0, kind, 0, agent, ADDRESSES[address], url, mine, prefetch)
                expected.append((one, event))
                less |= {id(event)} if consent else set()
        edit = self.edit() if some.random() < 0.2 else None
        began = int(time.time() * 1000)
        if edit is not None and edit[2] is not None and not sure(edit[2], began):
            edit = None
        with Line(self.bell.port) as line:
            line.send(b"".join(requests) + (edit[0] if edit else b""))
            for head in heads:
                assert line.answer(head).status in (200, 302)
            if edit:
                assert line.answer().status == edit[1]
        ended = int(time.time() * 1000)
        if edit is not None and edit[2] is None:
            self.forget()
            return
        gone = edit[2] if edit is not None else None
        listed = self.json("events", after=self.last_event, limit=500)["events"]
        kept = [one for one in expected if one[0] is not gone or id(one[1]) in less]
        assert len(listed) == len(kept)
        places = {id(event): place for place, (_, event) in enumerate(kept)}
        for mail, event in expected:
            if id(event) in less:
                told = listed[places[id(event)]]
                assert (told["email_id"], told["kind"]) == (None, event.kind)
                assert (told["user_agent"], told["ip_address"]) == (None, None)
                assert told["url"] == event.url
                event.id, event.at = told["id"], began
                self.last_event = event.id
                self.truth.total(mail.id, event)
                assert ms(told["at"]) in (event.at, event.at + HOUR)
                event.at = ms(told["at"])
                continue
            if id(event) in places:
                told = listed[places[id(event)]]
                assert (told["email_id"], told["kind"]) == (mail.id, event.kind)
                assert told["user_agent"] == event.agent
                assert (told["ip_address"], told["url"]) == (event.source, event.url)
                event.id, event.at = told["id"], ms(told["at"])
                self.last_event = event.id
            else:  # it went with its email in the same go; when, roughly, is known
                event.id, event.at = -len(mail.events) - 1, began
            assert began - SLACK <= event.at <= ended + SLACK
            self.truth.hit(mail.id, event)
        if edit is not None:
            edit[3]()

    def edit(self) -> tuple[bytes, int, Mail | None, Callable[[], None]]:
        """A change or a deletion: request, status, the email that goes, and what is so then."""
        some = self.random
        alive = self.truth.alive[-12:]
        if some.random() < 0.1 or not alive:
            target = f"/{self.tenant}?confirm={self.tenant}"
            return raw_request(target, method="DELETE"), 204, None, self.forget
        mail = some.choice(alive)
        target = f"/{self.tenant}/emails/{mail.id}"
        if some.random() < 0.4:
            gone = lambda: setattr(mail, "gone", True)  # noqa: E731
            return raw_request(target, method="DELETE"), 204, mail, gone
        campaign = some.choice(CAMPAIGNS)
        change = {"campaign": campaign, "subject": f"changed {len(self.steps)}"}

        def changed() -> None:
            mail.campaign, mail.subject = campaign, change["subject"]
            self.truth.name(campaign)

        body = json.dumps(change).encode()
        nobody = Mail(0, 0)
        return raw_request(target, method="PATCH", body=body), 200, nobody, changed

    def forget(self) -> None:
        """The tenant is gone; ids go on."""
        self.truth = Truth(INSTANT)
        self.create()  # else there is nothing to look at

    def create(self) -> None:
        """One email, or some in a batch."""
        some = self.random
        members = [
            {
                "subject": f"Subject {n}",
                "recipient": f"r{n}@example.com",
                "campaign": some.choice(CAMPAIGNS),
                "consent": some.choice((None, None, None, None, *CONSENTS)),
            }
            for n in range(some.choice((1, 1, 1, 4)))
        ]
        headers = {}
        body = json.dumps(members[0])
        if len(members) > 1:
            headers["Content-Type"] = "application/x-ndjson"
            body = "".join(json.dumps(one) + "\n" for one in members)
        began = int(time.time() * 1000)
        answer = self.bell.ask("POST", f"/{self.tenant}/emails", body, headers)
        assert answer.status == 201, answer
        for line, one in zip(answer.body.splitlines(), members, strict=True):
            email = json.loads(line)["email_id"]
            assert email > self.last_email
            self.last_email = email
            at = ms(self.json(f"emails/{email}")["created_at"])
            assert began - SLACK <= at <= time.time() * 1000 + SLACK
            mail = Mail(email, at, one["campaign"], one["subject"], one["recipient"])
            mail.consent = CONSENTS.index(one["consent"] or "full")
            self.truth.add(mail)

    def step(self) -> None:
        some = self.random
        if some.random() < 0.2:
            self.steps.append("create")
            self.create()
        elif some.random() < 0.2:
            self.steps.append("edit")
            request, status, gone, changed = self.edit()
            with Line(self.bell.port) as line:
                line.send(request)
                assert line.answer().status == status
            self.steps.append(f"edit {status} {gone}")
            changed()
        else:
            self.steps.append("salvo")
            self.salvo()
        self.look()

    # What is so

    def look(self) -> None:
        """Everything that can be read, against the truth."""
        counted = self.truth.count()
        self.look_at_stats(counted.get(WHOLE, []), None)
        name = self.random.choice(self.truth.campaigns or [None])
        if name is not None:
            self.look_at_stats(counted.get(("campaign", name), []), name)
        self.look_at_rankings(counted)
        self.look_at_emails()
        self.look_at_events()
        self.look_at_dashboard(figures(counted.get(WHOLE, [])))

    def look_at_stats(self, counted: list[tuple[int, str]], campaign: str | None) -> None:
        some = self.random
        given: dict[str, object] = {} if campaign is None else {"campaign": campaign}
        found = self.json("stats", **given)["figures"]
        expected = figures(counted)
        assert [found[column] for column in COLUMNS] == expected
        assert [found[rate] for rate in ("open_rate", "click_rate", "click_to_open")] == rates(
            expected
        )
        zone, interval = some.choice(ZONES), some.choice(("hour", "day", "week"))
        answer = self.json("stats", **given, tz=zone, interval=interval)
        assert answer["figures"] == found
        rows = {}
        for row in answer["series"]:
            start = datetime.fromisoformat(row["local_start"])
            one = key(start.replace(tzinfo=None) if interval != "hour" else start, interval)
            assert one not in rows
            rows[one] = [row[column] for column in COLUMNS]
            assert [row["open_rate"], row["click_rate"], row["click_to_open"]] == rates(rows[one])
        naive = by_interval(counted, ZoneInfo(zone), interval)
        assert {one: row for one, row in rows.items() if any(row)} == naive
        edge = (int(time.time() * 1000) // QUARTER + some.choice((-1, 0, 0, 1))) * QUARTER
        moment = datetime.fromtimestamp(edge // 1000, ZoneInfo(zone)).isoformat()
        for bound, of in (("from", figures(counted, edge)), ("to", figures(counted, 0, edge))):
            part = self.json("stats", **given, **{bound: moment})["figures"]
            assert [part[column] for column in COLUMNS] == of

    def look_at_rankings(self, counted: dict[Any, list[tuple[int, str]]]) -> None:
        links = self.all("links", "links")
        assert [one["url"] for one in links] == self.truth.links[::-1]
        three = ("clicks", "machine_clicks", "unique_clicks")
        self.figures_are(links, counted, "link", "url", three)
        campaigns = self.all("campaigns", "campaigns")
        assert [one["campaign"] for one in campaigns] == self.truth.campaigns[::-1]
        self.figures_are(campaigns, counted, "campaign", "campaign", COLUMNS)
        for rows, path, of in (
            (links, "links", "clicks"),
            (campaigns, "campaigns", "unique_opens"),
        ):
            top = self.json(path, order="top", limit=100)[path]
            ranked = sorted((one for one in rows if one[of]), key=lambda one: -one[of])
            assert top == ranked  # the newer first where equal, as `rows` are
        clients = self.json("clients", limit=100)["clients"]
        for one in clients:
            one["both"] = (one["client"], one["device"])
        four = ("opens", "machine_opens", "clicks", "machine_clicks")
        self.figures_are(clients, counted, "client", "both", four)
        totals = [sum(one[column] for column in four) for one in clients]
        assert totals == sorted(totals, reverse=True)
        every = [sum(one[column] for one in clients) for column in four]
        whole = figures(counted.get(WHOLE, []))
        assert every == [whole[COLUMNS.index(column)] for column in four]

    def figures_are(
        self,
        rows: list[Any],
        counted: dict[Any, list[tuple[int, str]]],
        kind: str,
        name: str,
        columns: tuple[str, ...],
    ) -> None:
        for row in rows:
            expected = figures(counted.get((kind, row[name]), []))
            for column in columns:
                assert row[column] == expected[COLUMNS.index(column)], (row, column)
        named = {row[name] for row in rows}
        assert {of for scope, of in counted if scope == kind} <= named

    def look_at_emails(self) -> None:
        listed = self.all("emails", "emails")
        alive = self.truth.alive[::-1]
        assert [one["email_id"] for one in listed] == [mail.id for mail in alive]
        for one, mail in zip(listed, alive, strict=True):
            assert one == self.described(mail)
        opened, clicked = self.random.choice(("yes", "no")), self.random.choice(("yes", "no"))
        some = [
            one
            for one in listed
            if (one["opened"], one["clicked"]) == (opened == "yes", clicked == "yes")
        ]
        assert self.all("emails", "emails", opened=opened, clicked=clicked) == some
        name = self.random.choice(CAMPAIGNS)
        if name is not None:
            found = self.all("emails", "emails", campaign=name)
            assert found == [one for one in listed if one["campaign"] == name]
        table = csv_of(self.get("emails.csv"))
        assert [row["email_id"] for row in table] == [str(mail.id) for mail in alive]
        for row, one in zip(table, listed, strict=True):
            assert (row["opens"], row["machine_clicks"]) == (
                str(one["opens"]),
                str(one["machine_clicks"]),
            )
        for mail in alive[:2]:
            one = self.json(f"emails/{mail.id}", limit=500)
            events = one.pop("events")
            assert (one.pop("next"), one.pop("events_purged")) == (None, 0)
            assert one == self.described(mail)
            assert [event["id"] for event in events] == [event.id for event in mail.events[::-1]]

    def described(self, mail: Mail) -> dict[str, object]:
        """An email as the API says it."""
        judged = mail.judged(INSTANT)
        members: dict[str, object] = {}
        for kind in ("open", "click"):
            for prefix, machine in (("", False), ("machine_", True)):
                ats = [
                    event.at
                    for event, class_, _ in judged
                    if event.kind == kind and (class_ == "machine") == machine
                ]
                members[f"{prefix}{kind}s"] = len(ats)
                members[f"first_{prefix}{kind}"] = stamp(min(ats)) if ats else None
                members[f"last_{prefix}{kind}"] = stamp(max(ats)) if ats else None
        opened = [
            event.at for event, class_, _ in judged if event.kind == "open" and class_ != "machine"
        ]
        waited = (min(opened) - mail.created_at) / 1000 if opened else None
        return {
            "email_id": mail.id,
            "seconds_to_first_open": waited,
            "created_at": stamp(mail.created_at),
            "subject": mail.subject,
            "recipient": mail.recipient,
            "campaign": mail.campaign,
            "metadata": None,
            "consent": CONSENTS[mail.consent],
            "opened": bool(members["opens"] or members["clicks"]),
            "clicked": bool(members["clicks"]),
            **members,
        }

    def look_at_events(self) -> None:
        log = self.truth.log()
        listed = self.all("events", "events")[::-1]
        assert [one["id"] for one in listed] == [event.id for _, event, _, _ in log]
        for one, (mail, event, class_, reasons) in zip(listed, log, strict=True):
            email = None if mail is None else mail.id
            assert (one["email_id"], one["kind"], one["class"]) == (email, event.kind, class_)
            assert set(one["reasons"]) & {"own", "prefetch", "instant", "burst"} == reasons
            assert [one["client"], one["device"]] == VERDICTS[event.agent][1:]
            assert one["at"] == stamp(event.at)
        class_ = self.random.choice(("human", "proxy", "machine", "unknown"))
        some = [one for one in listed if one["class"] == class_]
        assert self.all("events", "events", **{"class": class_}) == some[::-1]
        lines = self.get("events.ndjson").splitlines()
        assert [json.loads(line) for line in lines] == listed
        rows = csv_of(self.get("events.csv", kind="click"))
        clicks = [str(one["id"]) for one in listed if one["kind"] == "click"]
        assert [row["id"] for row in rows] == clicks

    def look_at_dashboard(self, expected: list[int]) -> None:
        sent, opens, machine_opens, uniques, inferred, clicks, machine_clicks, clicked = expected
        page = self.get("dashboard", period="24h").decode()
        large = dict(re.findall(r"<dt>([^<]*)</dt><dd><strong>([\d,]+)</strong>", page))
        assert {term: int(value.replace(",", "")) for term, value in large.items()} == {
            "Sent": sent,
            "Unique opens": uniques,
            "Unique clicks": clicked,
            "Opens": opens,
            "Clicks": clicks,
        }
        small = re.findall(r"<small>([^<]*)</small>", page)
        machines = [one for one in small if "machines" in one]
        assert machines == [f"by people; machines {n:,}" for n in (machine_opens, machine_clicks)]
        told = [one for one in small if "inferred" in one]
        assert told == [f"{inferred:,} inferred from clicks"] * bool(inferred)


def sure(mail: Mail, now: int) -> bool:
    """Whether what a click of now would be does not hang on a few milliseconds."""
    edges = [mail.created_at + INSTANT, *(event.at + WINDOW for event in mail.events)]
    edges += [now // QUARTER * QUARTER, (now // QUARTER + 1) * QUARTER]
    return all(abs(now - edge) > SLACK for edge in edges)


def stamp(at: int) -> str:
    moment = datetime.fromtimestamp(at // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}Z"


def csv_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True))


@pytest.mark.timeout(1800)
def test_everything_that_can_be_read_is_so_at_once(
    start_bell: Callable[..., Bell], soak: bool
) -> None:
    own = {"OWN_ADDRESSES": OWN, "INSTANT_SECONDS": str(INSTANT / 1000)}
    for seed in range(3 if soak else 1):
        bell = start_bell(**own, MAX_BULK_BYTES="100000")
        walks = [Walk(bell, tenant, seed * 10 + n) for n, tenant in enumerate(("acme", "other"))]
        for walk in walks:
            walk.create()
        for n in range(1500 if soak else 200):
            walks[n % 5 == 4].step()  # the other one hears of nothing
        for walk in walks:
            walk.look()
        checked = run(bell.folder, "check")
        assert checked.returncode == 0, checked
        before = dump(bell.database)
        rebuilt = run(bell.folder, "rebuild")
        assert rebuilt.returncode == 0, rebuilt
        assert dump(bell.database) == before
        for walk in walks:
            walk.look()
            walk.connection.close()
        assert bell.stop() == 0
        assert "failed" not in bell.log_file.read_text()


# Other times than now: a year of hits in zones whose clocks are set, by half an hour even.

YEAR = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC
DAY = 86_400_000
HOME, OFFICE = b"\xc0\xa8\x01", b"\x0a\x00\x00"


class Year:
    """A store with one tenant, written at random times of a year, and the truth of it."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = str(path)
        self.writer = Writer(self.path)
        self.random = random.Random(seed)
        self.truth = Truth(2000)
        self.seq = 0
        self.changes = [  # around these clocks are set
            at
            for zone in ZONES[1:]
            for at in range(YEAR, YEAR + 365 * DAY, 3_600_000)
            if offset(zone, at) != offset(zone, at + 3_600_000)
        ]

    def moment(self) -> int:
        """Any time of the year; many beside a change of some clock, or of the year."""
        some = self.random
        if some.random() < 0.5:
            return some.choice([*self.changes, YEAR]) + some.randint(-10, 10) * QUARTER
        return YEAR + some.randrange(365 * DAY)

    def create(self) -> None:
        at, campaign = self.moment(), self.random.choice(CAMPAIGNS)
        [(_, email)] = self.writer.write(
            at, [NewEmail("acme", None, None, campaign, None)], []
        ).emails
        self.truth.add(Mail(email, at, campaign))

    def hits(self) -> None:
        """One, or some of a moment, in one transaction or in several."""
        some = self.random
        mail = some.choice(self.truth.alive)
        at = some.choice((self.moment(), mail.created_at + some.randrange(3 * QUARTER)))
        found = []
        agent = some.choice(AGENTS)[0]
        for _ in range(some.choice((1, 1, 2, 5))):
            at += some.choice((0, 500, 4_000, QUARTER, -3_000))
            url = some.choice((None, *URLS))
            kind = OPEN if url is None else CLICK
            address = some.choice((HOME, HOME, OFFICE))
            found.append(Hit(1, mail.id, kind, at, 0, agent, address, url))
            self.seq += 1
            name = "open" if url is None else "click"
            self.truth.hit(mail.id, Event(self.seq, name, at, agent, address, url))
        for hits in [found] if some.random() < 0.5 else [[hit] for hit in found]:
            self.writer.write(at, [], hits)

    def edit(self) -> None:
        mail, campaign = self.random.choice(self.truth.alive), self.random.choice(CAMPAIGNS)
        change = None
        if self.random.random() < 0.6 or len(self.truth.alive) < 3:
            change = Change(frozenset({"campaign"}), None, None, campaign, None)
            mail.campaign = campaign
            self.truth.name(campaign)
        else:
            mail.gone = True
        self.writer.write(self.moment(), [], [], Edits([Edit("acme", mail.id, change)]))


def offset(zone: str, at: int) -> timedelta | None:
    return datetime.fromtimestamp(at // 1000, ZoneInfo(zone)).utcoffset()


@pytest.fixture(params=range(3))
def year(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Year]:
    year = Year(tmp_path / "year.db", request.param)
    yield year
    year.writer.close()


def test_series_of_a_year_in_any_zone_equal_a_naive_count(year: Year, soak: bool) -> None:
    for n in range(3_000 if soak else 400):
        if n < 10 or year.random.random() < 0.05:
            year.create()
        elif year.random.random() < 0.1:
            year.edit()
        else:
            year.hits()
    counted = year.truth.count()
    recount = Recount(year.writer.connection)
    assert (list(recount), recount.problems) == ([], [])
    reader = Reader(year.path)
    try:
        numbers = {
            name: number
            for number, name in reader.connection.execute("SELECT campaign, name FROM campaigns")
        }
        for scope, id_, rows in (
            (0, 0, counted[WHOLE]),
            *((1, numbers[name], counted.get(("campaign", name), [])) for name in numbers),
        ):
            for zone in ZONES:
                look_at_series(year, reader, scope, id_, rows, zone)
    finally:
        reader.close()


def look_at_series(
    year: Year, reader: Reader, scope: int, id_: int, rows: list[tuple[int, str]], name: str
) -> None:
    zone = period.zone_named(name)
    for interval, days in (("week", 372), ("day", 372), *[("hour", 30)] * 4):
        first = YEAR - 5 * DAY
        if interval == "hour":  # a month around a change
            first = year.random.choice(year.changes) - 15 * DAY
        start, end = first // QUARTER, (first + days * DAY) // QUARTER
        edges = period.edges(zone, start, end, interval)
        assert edges[0] == start
        assert edges[-1] == end
        found: dict[object, list[int]] = {}
        for begin, row in zip(edges, sums.series(reader, 1, scope, id_, edges), strict=False):
            one = key(datetime.fromtimestamp(begin * QUARTER // 1000, ZoneInfo(name)), interval)
            assert one not in found, "an interval that comes twice"
            found[one] = list(row)
        within = [(at, of) for at, of in rows if start * QUARTER <= at < end * QUARTER]
        naive = by_interval(within, ZoneInfo(name), interval)
        assert {one: row for one, row in found.items() if any(row)} == naive
        total = Counter(of for _, of in within)
        assert list(sums.figures(reader, 1, scope, id_, start, end)) == [
            total[column] for column in COLUMNS
        ]
