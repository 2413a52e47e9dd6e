"""GET of emails, one email, stats, links, campaigns, clients and events"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from bell import BROWSER, Bell, Line, dump, fresh_tenant, raw_request, serving
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit
from test_figures import HOME, MINUTE, Store

MACHINE = "Mozilla/5.0"  # Apple's Mail Privacy Protection
READS = ("emails", "emails/1", "stats", "links", "campaigns", "clients", "events")


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    folder = tmp_path_factory.mktemp("reads")
    with serving(folder, INSTANT_SECONDS="0", CORS_ORIGINS="https://app.example") as bell:
        yield bell


def read(bell: Bell, target: str) -> Any:
    answer = bell.get(target)
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.json


def refused(bell: Bell, target: str, field: str | None, status: int = 400) -> None:
    answer = bell.get(target)
    assert answer.status == status, (target, answer)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json.get("field") == field, (target, answer.json)


def filled(bell: Bell) -> str:
    """A tenant with three emails: one opened, one clicked, one opened by a machine."""
    tenant = fresh_tenant()
    bell.create(tenant, subject="One", recipient="ada@example.com", campaign="spring")
    bell.create(
        tenant, subject="Two", recipient="Bob@example.com", campaign="spring", metadata={"a": "b"}
    )
    bell.create(tenant, subject="Three")
    bell.get(f"/{tenant}/pixel/1.gif")
    bell.get(f"/{tenant}/click/2?url=https://example.com/x")
    bell.ask("GET", f"/{tenant}/pixel/3.gif", headers={"User-Agent": MACHINE})
    return tenant


def every(bell: Bell, target: str, member: str) -> list[Any]:
    """The items of all pages."""
    found: list[Any] = []
    address: str | None = target
    while address is not None:
        page = read(bell, address)
        found += page[member]
        assert page["next"] != address
        address = page["next"]
    return found


def test_emails(bell: Bell) -> None:
    tenant = filled(bell)
    page = read(bell, f"/{tenant}/emails")
    assert page["next"] is None
    assert [email["email_id"] for email in page["emails"]] == [3, 2, 1]
    _, two, one = page["emails"]
    moment = two.pop("created_at")
    assert datetime.fromisoformat(moment).tzinfo == UTC
    assert moment.endswith("Z")
    assert two.pop("first_click") == two.pop("last_click") >= moment
    assert two == {
        "email_id": 2,
        "subject": "Two",
        "recipient": "Bob@example.com",
        "campaign": "spring",
        "metadata": {"a": "b"},
        "consent": "full",
        "opened": True,
        "clicked": True,
        "opens": 0,
        "machine_opens": 0,
        "clicks": 1,
        "machine_clicks": 0,
        "first_open": None,
        "last_open": None,
        "first_machine_open": None,
        "last_machine_open": None,
        "first_machine_click": None,
        "last_machine_click": None,
        "seconds_to_first_open": None,
    }
    assert one["seconds_to_first_open"] == pytest.approx(
        (
            datetime.fromisoformat(one["first_open"]) - datetime.fromisoformat(one["created_at"])
        ).total_seconds()
    )
    assert (one["opened"], one["clicked"], one["opens"]) == (True, False, 1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("campaign=spring", [2, 1]),
        ("campaign=none", []),
        ("recipient=bob%40EXAMPLE.com", [2]),
        ("recipient_prefix=ada", [1]),
        ("subject=o", [2, 1]),
        ("subject=%C3%B6", []),
        ("opened=yes", [2, 1]),
        ("opened=no", [3]),
        ("clicked=yes", [2]),
        ("clicked=no&opened=yes", [1]),
        ("order=activity", [3, 2, 1]),
        ("order=activity&recipient_prefix=a", [1]),
        ("order=newest", [3, 2, 1]),
    ],
)
def test_emails_by_each_filter(bell: Bell, query: str, found: list[int]) -> None:
    tenant = filled(bell)
    for limit in (1, 2, 500):
        listed = every(bell, f"/{tenant}/emails?{query}&limit={limit}", "emails")
        assert [email["email_id"] for email in listed] == found


def test_each_page_once_while_emails_are_created(bell: Bell) -> None:
    tenant = filled(bell)
    address: str | None = f"/{tenant}/emails?limit=1&subject=%26%3D%2B+&clicked=no"
    bell.create(tenant, subject="&=+ ")
    seen = []
    while address is not None:
        page = read(bell, address)
        seen += [email["email_id"] for email in page["emails"]]
        address = page["next"]
        bell.create(tenant, subject="&=+ ")
    assert seen == [4]


def test_one_email_and_its_events(bell: Bell) -> None:
    tenant = filled(bell)
    bell.get(f"/{tenant}/pixel/2.gif")
    page = read(bell, f"/{tenant}/emails/2")
    assert (page["email_id"], page["subject"], page["next"]) == (2, "Two", None)
    opened, clicked = page["events"]
    assert (opened["kind"], opened["url"]) == ("open", None)
    assert clicked["id"] == 2
    at = datetime.fromisoformat(clicked.pop("at"))
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    client, device = clicked.pop("client"), clicked.pop("device")
    assert isinstance(client, str)
    assert isinstance(device, str)
    assert clicked == {
        "id": 2,
        "email_id": 2,
        "kind": "click",
        "class": "human",
        "agent": "browser",
        "reasons": ["browser"],
        "ip_address": "127.0.0.0",
        "user_agent": BROWSER,
        "url": "https://example.com/x",
        "label": "",
    }
    listed = every(bell, f"/{tenant}/emails/2?limit=1", "events")
    assert [event["kind"] for event in listed] == ["open", "click"]
    for number in ("9", "0", "01", "x", "2.gif", "%32", "-1", "9" * 30):
        refused(bell, f"/{tenant}/emails/{number}", None, 404)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [3, 2, 1]),
        ("kind=open", [3, 1]),
        ("kind=click", [2]),
        ("class=machine", [3]),
        ("class=proxy", []),
        ("email=2", [2]),
        ("email=2&kind=open", []),
        ("email=1&class=human", [1]),
        ("before=3", [2, 1]),
        ("before=3&email=1", [1]),
        ("after=1", [2, 3]),
        ("after=0&class=human", [1, 2]),
        ("after=0&email=2", [2]),
        ("after=3", []),
    ],
)
def test_events_by_each_filter(bell: Bell, query: str, found: list[int]) -> None:
    tenant = filled(bell)
    for limit in (1, 2, 500):
        listed = every(bell, f"/{tenant}/events?{query}&limit={limit}", "events")
        assert [event["id"] for event in listed] == found


def test_figures_of_all_time(bell: Bell) -> None:
    tenant = filled(bell)
    page = read(bell, f"/{tenant}/stats")
    figures = {
        "sent": 3,
        "opens": 1,
        "machine_opens": 1,
        "unique_opens": 2,
        "inferred_opens": 1,
        "clicks": 1,
        "machine_clicks": 0,
        "unique_clicks": 1,
        "open_rate": 2 / 3,
        "click_rate": 1 / 3,
        "click_to_open": 0.5,
    }
    assert page == {
        "from": None,
        "to": None,
        "tz": "UTC",
        "campaign": None,
        "interval": None,
        "figures": figures,
        "series": None,
    }
    spring = read(bell, f"/{tenant}/stats?campaign=spring")
    assert (spring["campaign"], spring["figures"]["sent"]) == ("spring", 2)
    assert spring["figures"]["open_rate"] == 1.0
    refused(bell, f"/{tenant}/stats?campaign=summer", "campaign", 404)
    now = read(bell, f"/{tenant}/stats?interval=hour")
    for name in ("sent", "opens", "unique_opens", "clicks"):
        assert sum(row[name] for row in now["series"]) == now["figures"][name] == figures[name]
    old = read(bell, f"/{tenant}/stats?to=2020-01-01")["figures"]
    assert (old["sent"], old["open_rate"]) == (0, None)


def test_links_campaigns_and_clients(bell: Bell) -> None:
    tenant = filled(bell)
    bell.get(f"/{tenant}/click/1?url=https://example.com/y")
    bell.get(f"/{tenant}/click/1?url=https://example.com/y")
    for order in ("newest", "top"):
        page = read(bell, f"/{tenant}/links?order={order}")
        assert page["next"] is None
        assert {(one["label"], one["part"]) for one in page["links"]} == {("", "")}
        assert [(link["url"], link["clicks"], link["unique_clicks"]) for link in page["links"]] == [
            ("https://example.com/y", 2, 1),
            ("https://example.com/x", 1, 1),
        ]
        page = read(bell, f"/{tenant}/campaigns?order={order}")
        assert [(one["campaign"], one["sent"], one["clicks"]) for one in page["campaigns"]] == [
            ("spring", 2, 3)
        ]
    assert [link["link_id"] for link in every(bell, f"/{tenant}/links?limit=1", "links")] == [2, 1]
    clients = read(bell, f"/{tenant}/clients")["clients"]
    assert sum(one["opens"] for one in clients) == 1
    assert sum(one["machine_opens"] for one in clients) == 1
    assert sum(one["clicks"] for one in clients) == 3
    nothing = read(bell, f"/{tenant}/links?order=top&to=2020-01-01&tz=Asia/Kolkata")
    assert nothing == {
        "from": None,
        "to": "2020-01-01T18:30:00Z",
        "tz": "Asia/Kolkata",
        "links": [],
        "next": None,
    }


@pytest.mark.parametrize("path", READS)
def test_each_refuses_what_it_does_not_know(bell: Bell, path: str) -> None:
    tenant = filled(bell)
    for query, field in (
        ("frm=2026-01-01", "frm"),
        ("limit", "limit"),
        ("%FF=1", None),
        ("x=%00", "x"),
        ("%3Cscript%3E=1", "<script>"),
    ):
        refused(bell, f"/{tenant}/{path}?{query}", field)
    if path != "stats":
        for text in ("0", "501", "-1", "1.5", "1_0", "%D9%A1", "", "05", "9" * 40, "+5"):
            refused(bell, f"/{tenant}/{path}?limit={text}", "limit")
        refused(bell, f"/{tenant}/{path}?limit=5&limit=5", "limit")
    refused(bell, f"/{fresh_tenant()}/{path}", None, 404)
    refused(bell, f"/_x/{path}", None, 404)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("emails?opened=true", "opened"),
        ("emails?order=oldest", "order"),
        ("emails?subject=%FF", "subject"),
        ("emails?campaign=", "campaign"),
        ("emails?recipient=a&recipient_prefix=a", "recipient_prefix"),
        ("emails?cursor=x", "cursor"),
        ("emails?cursor=WyJhIiwxXQ", "cursor"),
        ("events?kind=capped", "kind"),
        ("events?class=people", "class"),
        ("events?email=0", "email"),
        ("events?after=1&before=2", "before"),
        ("events?after=x", "after"),
        ("events?cursor=WzEsMl0", "cursor"),
        ("emails/1?cursor=WzFd", "cursor"),
        ("stats?interval=month", "interval"),
        ("stats?from=2026-02-30", "from"),
        ("stats?from=2026-01-01&to=2026-12-31&interval=hour", "interval"),
        ("stats?tz=Mars", "tz"),
        ("links?order=top&limit=101", "limit"),
        ("links?order=top&cursor=WzFd", "cursor"),
        ("clients?limit=101", "limit"),
    ],
)
def test_values_of_no_meaning_are_refused(bell: Bell, target: str, field: str) -> None:
    refused(bell, f"/{filled(bell)}/{target}", field)


@pytest.mark.parametrize("path", READS)
def test_head_options_and_other_methods(bell: Bell, path: str) -> None:
    tenant = filled(bell)
    before = dump(bell.database)
    head = bell.ask("HEAD", f"/{tenant}/{path}")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == bell.get(f"/{tenant}/{path}").headers["content-length"]
    allowed = {"GET", "HEAD", "OPTIONS"} | ({"POST"} if path == "emails" else set())
    options = bell.ask("OPTIONS", f"/{tenant}/{path}")
    assert options.status == 204
    assert allowed <= set(options.headers["allow"].split(", "))
    answer = bell.ask("PUT", f"/{tenant}/{path}", b"")
    assert answer.status == 405
    assert allowed <= set(answer.headers["allow"].split(", "))
    assert dump(bell.database) == before


def test_a_get_with_a_body_reads_all_the_same(bell: Bell) -> None:
    tenant = filled(bell)
    for body in (b"[]", b"x" * 1000):
        headers = {"Content-Type": "application/x-ndjson"}
        assert bell.ask("GET", f"/{tenant}/emails", body, headers).status == 200
    assert bell.create(tenant) == 4


def test_pages_of_allowed_origins_may_read(bell: Bell) -> None:
    tenant = filled(bell)
    for path in (*READS, "emails/99", "stats?tz=x"):
        answer = bell.get(f"/{tenant}/{path}", Origin="https://app.example")
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        answer = bell.get(f"/{tenant}/{path}", Origin="https://evil.example")
        assert "access-control-allow-origin" not in answer.headers


def test_nothing_of_another_tenant_is_read(bell: Bell) -> None:
    secret = fresh_tenant()
    bell.create(secret, subject="secret", recipient="secret@example.com", campaign="secret")
    bell.get(f"/{secret}/click/1?url=https://secret.example/")
    tenant = fresh_tenant()
    bell.create(tenant, campaign="mine")
    for path in (*READS, "emails?order=activity", "links?order=top", "campaigns?order=top"):
        answer = bell.get(f"/{tenant}/{path}")
        assert answer.status == 200
        assert b"secret" not in answer.body
    refused(bell, f"/{tenant}/stats?campaign=secret", "campaign", 404)
    assert read(bell, f"/{tenant}/emails?campaign=secret")["emails"] == []
    cursor = read(bell, f"/{secret}/emails/1?limit=1")
    assert cursor["events"]
    assert read(bell, f"/{tenant}/emails/1?cursor={quote('W251bGwsMV0')}")["events"] == []


def test_the_next_address_has_base_urls_path(tmp_path: Path) -> None:
    with serving(tmp_path, BASE_URL="https://track.example.com/bell") as bell:
        for _ in range(3):
            bell.create("acme", subject="ä&b")
        first = read(bell, "/bell/acme/emails?limit=2&subject=%C3%A4%26b")
        assert first["next"].startswith("/bell/acme/emails?")
        assert [email["email_id"] for email in read(bell, first["next"])["emails"]] == [1]


# Figures by time zones, against a count of the log that knows calendars alone.

SPANS = {
    "Asia/Kolkata": date(2026, 1, 3),
    "Asia/Kathmandu": date(2026, 1, 3),
    "America/St_Johns": date(2026, 3, 6),
    "Australia/Lord_Howe": date(2026, 4, 3),
    "Europe/Berlin": date(2026, 3, 27),
    "Europe/London": date(2026, 10, 23),
}


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """A server on a log of opens and clicks through five days of each zone."""
    folder = tmp_path_factory.mktemp("zones")
    (folder / "data").mkdir()
    store = Store(folder / "data" / "tracking.db")
    for zone, first in SPANS.items():
        begin = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(zone))
        start = int(begin.timestamp() * 1000)
        store.writer.write(start, [NewEmail("acme", zone, None, zone, None)], [])
        email = list(SPANS).index(zone) + 1
        for n in range(5 * 24 * 3):
            moment = start + n * 20 * MINUTE + n % 7 * MINUTE
            kind = CLICK if n % 5 == 0 else OPEN
            url = "https://example.com/" if kind == CLICK else None
            store.writer.write(moment, [], [Hit(1, email, kind, moment, 0, BROWSER, HOME, url)])
    store.writer.close()
    with serving(folder) as bell:
        yield bell


@pytest.mark.parametrize("span", ["from=2090-01-01", "to=2020-01-01"])
def test_a_series_of_times_of_which_there_is_nothing_has_no_interval(bell: Bell, span: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    page = read(bell, f"/{tenant}/stats?{span}&interval=day")
    assert page["series"] == []
    assert not any(page["figures"].values())
    plain = read(bell, f"/{tenant}/stats?{span}")
    assert (page["from"], page["to"]) == (plain["from"], plain["to"])


@pytest.mark.parametrize("interval", ["hour", "day", "week"])
@pytest.mark.parametrize("zone", SPANS)
def test_stats_in_a_time_zone(long_log: Bell, zone: str, interval: str) -> None:
    first = SPANS[zone]
    last = first + timedelta(4)
    here = ZoneInfo(zone)
    query = f"from={first}&to={last}&tz={zone}&interval={interval}"
    page = read(long_log, f"/acme/stats?{query}")

    def begin(at: int) -> str:
        """What an interval is known by: the clock and calendar of the zone."""
        clock = datetime.fromtimestamp(at / 1000, here)
        if interval == "hour":
            return f"{clock.date()} {clock.hour} {clock.utcoffset()}"
        day = clock.date() - timedelta(clock.weekday() if interval == "week" else 0)
        return str(max(day, first))

    expected: dict[str, Counter[str]] = {"opens": Counter(), "clicks": Counter()}
    for kind, at in long_log.rows("SELECT kind, at FROM events WHERE class <> 2"):
        if first <= datetime.fromtimestamp(at / 1000, here).date() <= last:
            expected["clicks" if kind else "opens"][begin(at)] += 1
    assert sum(expected["opens"].values()) > 200
    for name, counted in expected.items():
        got = {}
        for row in page["series"]:
            at = int(datetime.fromisoformat(row["start"]).timestamp() * 1000)
            assert datetime.fromisoformat(row["local_start"]).timestamp() * 1000 == at
            key = begin(at)
            assert key not in got
            if row[name]:
                got[key] = row[name]
        assert got == dict(counted)
        assert page["figures"][name] == sum(counted.values())
    assert page["series"][0]["start"] == page["from"]
    assert page["series"][-1]["end"] == page["to"]
    for row, after in zip(page["series"], page["series"][1:], strict=False):
        assert row["end"] == after["start"]


def test_a_raw_request_line_gets_json(bell: Bell) -> None:
    tenant = filled(bell)
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/events?limit=1"))
        assert json.loads(line.answer().body)["events"][0]["id"] == 3
