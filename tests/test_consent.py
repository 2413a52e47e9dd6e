"""Consent: how much of an open or a click is stored, and what the figures make of it"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bell import BROWSER, Answer, Bell, dump, fresh_tenant, serving
from little_bell.store.edits import Edit, Edits
from little_bell.store.memory import Limits
from little_bell.store.recount import Recount
from little_bell.store.wishes import RecipientWish, Wish, Wishes
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, DNT, GPC, OPEN, PREFETCH, Hit
from little_bell.tracking.privacy import AGGREGATE, FULL, NONE
from programs import run
from test_figures import HOME, NOON, OFFICE, Store, check_states, days_apart
from truth import AGENTS, COLUMNS, Event, Mail, Truth, figures

HOUR, MINUTE = 3_600_000, 60_000
SECRET_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 SomebodysOwnBrowser/77.7"
URL = "https://example.com/offer"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("consent"), INSTANT_SECONDS="0") as bell:
        yield bell


def events(bell: Bell, tenant: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = bell.get(f"/{tenant}/events?limit=500").json["events"]
    return found


def figures_of(bell: Bell, tenant: str, **query: str) -> dict[str, Any]:
    parameters = "&".join(f"{name}={value}" for name, value in query.items())
    found: dict[str, Any] = bell.get(f"/{tenant}/stats?{parameters}").json["figures"]
    return found


def click(bell: Bell, tenant: str, email: int, **headers: str) -> Answer:
    return bell.get(f"/{tenant}/click/{email}?url={URL}", **headers)


# Over HTTP


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    for consent in ("full", "aggregate", "none", None):
        bell.create(tenant, campaign="spring", consent=consent)
    for email in (1, 2, 3, 4):
        assert bell.get(f"/{tenant}/pixel/{email}.gif").status == 200
        assert click(bell, tenant, email).status == 302
    found = figures_of(bell, tenant)
    assert (found["opens"], found["unique_opens"]) == (3, 2)
    assert (found["clicks"], found["unique_clicks"]) == (3, 2)
    assert figures_of(bell, tenant, campaign="spring") == found
    assert {one["email_id"] for one in events(bell, tenant)} == {1, 4, None}
    [link] = bell.get(f"/{tenant}/links").json["links"]
    assert (link["clicks"], link["unique_clicks"]) == (3, 2)
    [client] = bell.get(f"/{tenant}/clients").json["clients"]
    assert (client["client"], client["opens"], client["clicks"]) == ("chrome", 3, 3)
    consents = ["full", "aggregate", "none", "full"]
    listed = bell.get(f"/{tenant}/emails").json["emails"]
    assert [one["consent"] for one in listed[::-1]] == consents
    assert bell.get(f"/{tenant}/emails/2").json["consent"] == "aggregate"
    assert [one["opens"] for one in listed[::-1]] == [1, 0, 0, 1]


def test_an_event_that_is_only_counted_names_nobody(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, subject="For her eyes", consent="aggregate")
    click(bell, tenant, 1, User_Agent=SECRET_AGENT, DNT="1", Sec_GPC="1")
    [event] = events(bell, tenant)
    assert (event["email_id"], event["ip_address"]) == (None, None)
    assert (event["user_agent"], event["agent"]) == (None, None)
    assert event["at"].endswith(":00:00.000Z")
    assert (event["kind"], event["class"], event["url"]) == ("click", "human", URL)
    where = "FROM events JOIN tenants USING (tenant) WHERE name = ?"
    [row] = bell.rows(f"SELECT email, flags, agent, address, prev, at % {HOUR} {where}", tenant)
    assert row == (0, 0, None, None, None, 0)
    assert bell.get(f"/{tenant}/emails/1").json["events"] == []
    [line] = bell.get(f"/{tenant}/events.ndjson").body.splitlines()
    assert json.loads(line) == event
    assert bell.get(f"/{tenant}/events.csv").body.splitlines()[1].startswith(b"1,,click,")
    for page in ("dashboard", "dashboard/events"):
        shown = bell.get(f"/{tenant}/{page}")
        assert shown.status == 200
        assert b"Not stored" in shown.body
        assert b"For her eyes" not in re.sub(rb"(?s)<h2.*?Emails.*", b"", shown.body)
    lines = [one for one in bell.lines() if one["fields"].get("tenant_id") == tenant]
    assert [one["fields"] for one in lines if one["message"] == "Link clicked"] == [
        {"tenant_id": tenant}
    ]


def test_nothing_of_it_stands_in_the_files(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(INSTANT_SECONDS="0", TRUSTED_PROXIES="loopback")
    bell.create(consent="aggregate")
    bell.create(consent="none")
    for email in (1, 2):
        for _ in range(3):
            headers = {"User_Agent": SECRET_AGENT, "X_Forwarded_For": "203.0.113.77"}
            bell.get(f"/acme/pixel/{email}.gif", **headers)
            click(bell, "acme", email, **headers)
    files = sorted(bell.folder.rglob("*"))
    for _ in range(2):  # with the write-ahead log, and without
        held = b"".join(path.read_bytes() for path in files if path.is_file())
        assert URL.encode() in held
        for secret in (b"SomebodysOwnBrowser", bytes((203, 0, 113)), b"203.0.113"):
            assert secret not in held
        bell.stop()
    found = dump(bell.database)
    assert found["email_links"] == []
    assert found["agents"] == []
    assert [row[3] for row in found["events"]] == [0] * 6


@pytest.mark.parametrize("consent", ["aggregate", "none"])
def test_the_answers_are_those_of_any_email(bell: Bell, consent: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    bell.create(tenant, consent=consent)
    for path in ("pixel/{}.gif", f"click/{{}}?url={URL}"):
        one, other = (bell.get(f"/{tenant}/{path.format(email)}") for email in (1, 2))
        assert one.status == other.status
        alike = [{k: v for k, v in a.headers.items() if k != "date"} for a in (one, other)]
        assert alike[0] == alike[1]
        assert one.body == other.body


def test_signed_addresses_ask_as_well(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for consent, seen in (("none", set()), ("aggregate", {None}), ("full", {None, 1})):
        bell.ask("PATCH", f"/{tenant}/emails/1", {"consent": consent})
        urls = bell.get(f"/{tenant}/click-url/1?url={URL}&label=top").json
        signed = urls["signed_url"].partition(f":{bell.port}")[2]
        assert bell.get(signed).status == 302
        found = events(bell, tenant)
        assert {one["email_id"] for one in found} == seen
        assert {one["label"] for one in found} <= {"top"}


def test_what_is_withheld_is_counted(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, consent="none")
    bell.create(tenant, recipient="ada@example.com")
    bell.ask("POST", f"/{tenant}/optouts", {"recipient": "ada@example.com"})
    bell.ask("PATCH", f"/{tenant}/settings", {"gpc": "none"})
    before = withheld(bell)
    bell.get(f"/{tenant}/pixel/1.gif")
    bell.get(f"/{tenant}/pixel/2.gif")
    bell.get(f"/{tenant}/pixel/2.gif", Sec_GPC="1")
    after = withheld(bell)
    assert {name: n - before[name] for name, n in after.items()} == {
        "consent": 1,
        "optout": 1,
        "gpc": 1,
    }
    assert events(bell, tenant) == []


def withheld(bell: Bell) -> dict[str, int]:
    return {one["reason"]: one["value"] for one in bell.metrics()["events_withheld_total"]}


def test_it_can_be_changed(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    bell.get(f"/{tenant}/pixel/1.gif")
    for consent, told in (("none", "none"), ("aggregate", "aggregate"), (None, "full")):
        answer = bell.ask("PATCH", f"/{tenant}/emails/1", {"consent": consent})
        assert answer.json["consent"] == told
        bell.get(f"/{tenant}/pixel/1.gif")
    answer = bell.ask("PATCH", f"/{tenant}/emails/1", {"subject": "x"})
    assert answer.json["consent"] == "full"
    found = figures_of(bell, tenant)
    assert (found["opens"], found["unique_opens"]) == (3, 1)
    assert [one["email_id"] for one in events(bell, tenant)] == [1, None, 1]


@pytest.mark.parametrize("form", ["one", "list", "ndjson"])
def test_it_comes_with_each_way_to_create(bell: Bell, form: str) -> None:
    tenant = fresh_tenant()
    members: list[dict[str, Any]] = [
        {"consent": "none"},
        {"consent": "aggregate"},
        {"consent": None},
        {},
    ]
    if form == "one":
        for one in members:
            bell.create(tenant, **one)
    else:
        lines = form == "ndjson"
        body = "\n".join(map(json.dumps, members)) if lines else json.dumps(members)
        headers = {"Content-Type": "application/x-ndjson"} if lines else {}
        assert bell.ask("POST", f"/{tenant}/emails", body, headers).status == 201
    listed = bell.get(f"/{tenant}/emails").json["emails"]
    assert [one["consent"] for one in listed] == ["full", "full", "aggregate", "none"]
    table = bell.get(f"/{tenant}/emails.csv").body.decode().splitlines()
    assert table[0].split(",")[6] == "consent"
    assert [row.split(",")[6] for row in table[1:]] == ["full", "full", "aggregate", "none"]


@pytest.mark.parametrize("consent", ["all", "FULL", "", 0, 1, True, ["none"], {}])
def test_a_wrong_one_is_refused_and_nothing_is_lost(bell: Bell, consent: object) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, consent="none")
    for answer in (
        bell.ask("POST", f"/{tenant}/emails", json.dumps({"consent": consent})),
        bell.ask("PATCH", f"/{tenant}/emails/1", json.dumps({"consent": consent, "subject": "x"})),
        bell.ask("POST", f"/{tenant}/emails", json.dumps([{}, {"consent": consent}])),
    ):
        assert (answer.status, answer.json["field"]) == (400, "consent")
    [email] = bell.get(f"/{tenant}/emails").json["emails"]
    assert (email["consent"], email["subject"]) == ("none", None)


def test_sec_gpc_and_only_that_is_heeded(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for headers in ({"Sec_GPC": "1"}, {"Sec_GPC": "0"}, {"Sec_GPC": "true"}, {"DNT": "1"}, {}):
        bell.get(f"/{tenant}/pixel/1.gif", **headers)
    assert [one["email_id"] for one in events(bell, tenant)] == [1, 1, 1, 1, None]


def test_a_tenant_that_goes_takes_them_along(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, consent="aggregate")
    bell.get(f"/{tenant}/pixel/1.gif")
    assert bell.ask("DELETE", f"/{tenant}?confirm={tenant}").status == 204
    bell.create(tenant)
    assert events(bell, tenant) == []
    assert figures_of(bell, tenant)["opens"] == 0


# In the store, at times of the test's choosing


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "t.db")
    yield store
    store.writer.close()


def less(hit: Hit) -> Hit:
    return hit._replace(consent=AGGREGATE)


def test_it_counts_at_the_beginning_of_its_hour_in_no_unique(store: Store) -> None:
    store.create(campaign="spring")
    store.write(less(store.hit(1, OPEN, 50 * MINUTE)), less(store.hit(1, CLICK, 59 * MINUTE)))
    assert store.buckets("opens") == store.buckets("clicks") == {12 * 60: 1}
    assert store.figures().unique_opens == store.figures().unique_clicks == 0
    [state] = store.rows("SELECT opens, clicks, head_open, head_click, first_click FROM states")
    assert state == (0, 0, None, None, None)
    assert store.rows("SELECT count(*) FROM email_links") == [(0,)]


@pytest.mark.parametrize(
    ("consent", "rows"),
    # An event; figures and days of tenant and client; the tenant's numbers.
    [(AGGREGATE, 1 + 2 + 2 + 1), (NONE, 0)],
)
def test_nothing_else_is_written(store: Store, consent: int, rows: int) -> None:
    store.create()
    for _ in range(2):
        before = store.writer.connection.total_changes()
        store.write(store.hit(1, OPEN, MINUTE)._replace(consent=consent))
        assert store.writer.connection.total_changes() - before == rows
    [state] = store.rows("SELECT * FROM states")
    assert state[6:] == (0,) * 4 + (None,) * 10


def test_instant_is_judged_and_burst_is_not(store: Store) -> None:
    store.create()
    urls = [f"https://{name}.example/" for name in "wxyz"]
    store.write(less(store.hit(1, CLICK, 1_999, url=urls[0])))
    store.write(*[less(store.hit(1, CLICK, MINUTE, url=url)) for url in urls])
    assert (store.figures().machine_clicks, store.figures().clicks) == (1, 4)
    # Nor do they help others to be one.
    store.write(*[store.hit(1, CLICK, MINUTE + 1, url=url) for url in urls[:2]])
    assert store.figures().clicks == 6


def test_flags_that_no_class_follows_from_are_dropped(store: Store) -> None:
    store.create()
    store.write(less(store.hit(1, OPEN, MINUTE, flags=GPC | DNT | PREFETCH)))
    assert store.rows("SELECT flags, class FROM events") == [(PREFETCH, 2)]


def test_the_cap_holds_and_no_row_tells_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", Limits(hits_per_email_hour=10))
    store.create(2)
    for _ in range(5):
        store.write(*[less(store.hit(1, OPEN, 5 * MINUTE)) for _ in range(9)])
    assert store.figures().opens == 10
    store.write(less(store.hit(2, OPEN, 5 * MINUTE)), less(store.hit(1, OPEN, 65 * MINUTE)))
    assert store.figures().opens == 12
    assert store.rows("SELECT DISTINCT kind FROM events") == [(0,)]
    for _ in range(10):  # written and rolled back: no share is used up
        assert store.writer.accepts(NOON, [], [less(store.hit(2, OPEN, 5 * MINUTE))])
    store.write(*[less(store.hit(2, OPEN, 5 * MINUTE)) for _ in range(9)])
    assert store.figures().opens == 21
    store.writer.close()


def test_events_stay_where_their_email_moves_or_goes(store: Store) -> None:
    store.create(campaign="spring")
    store.write(less(store.hit(1, OPEN, MINUTE)))
    change = Change(frozenset({"campaign"}), campaign="summer")
    store.writer.write(NOON, [], [], Edits([Edit("acme", 1, change)]))
    store.writer.write(NOON, [], [], Edits([Edit("acme", 1, None)]))
    assert store.figures().opens == 1
    assert store.rows("SELECT opens FROM figures WHERE scope = 1 AND id = 1") == [(1,)]
    counted = Recount(store.writer.connection, judge=True)
    assert (list(counted), counted.problems, counted.events) == ([], [], 1)


def test_events_that_older_rules_judged_stay_as_they_are(store: Store) -> None:
    store.create()
    store.write(less(store.hit(1, OPEN, MINUTE)), less(store.hit(1, CLICK, MINUTE, url=URL)))
    store.writer.connection.execute("UPDATE events SET rules = 0")
    counted = Recount(store.writer.connection, judge=True)
    assert (list(counted), counted.problems) == ([], [])


def test_a_recount_finds_what_is_wrong(store: Store) -> None:
    store.create()
    store.write(less(store.hit(1, OPEN, MINUTE)))
    store.writer.connection.execute("DELETE FROM events")
    assert [one.right for one in Recount(store.writer.connection) if one.table == "figure"] == [
        [0, -1, 0, 0, 0, 0, 0, 0]
    ] * 2  # of the tenant and of the client


# The property: whatever comes, figures are those of a naive recount, and so after a restart.

RECIPIENTS = ("ada@example.com", "Ada@Example.COM", "bob@example.com", None)
CAMPAIGNS = (None, "spring", "summer")
URLS = tuple(f"https://{name}.example/" for name in "wxyz")

creations = st.tuples(
    st.just("create"),
    st.sampled_from(CAMPAIGNS),
    st.sampled_from(RECIPIENTS),
    st.sampled_from((FULL, FULL, AGGREGATE, NONE)),
)
hits = st.tuples(
    st.just("hit"),
    st.integers(0, 5),
    st.sampled_from((None, None, *URLS)),
    st.sampled_from((0, 500, 4_000, 20 * MINUTE, -3_000)),
    st.sampled_from(AGENTS),
    st.sampled_from((HOME, OFFICE, b"\xc0\xa8\x01\x07", b"\xc0\xa8\x01\x08", None)),
    st.sampled_from((FULL, FULL, FULL, AGGREGATE)),
    st.sampled_from((0, 0, GPC, PREFETCH)),
)
optouts = st.tuples(st.just("opt"), st.sampled_from(RECIPIENTS[:3]), st.booleans())
changes = st.tuples(
    st.just("change"),
    st.integers(0, 5),
    st.sampled_from(
        (
            {"consent": FULL},
            {"consent": AGGREGATE},
            {"consent": NONE},
            {"recipient": "ada@example.com"},
            {"recipient": "bob@example.com"},
            {"recipient": None},
            {"campaign": "summer"},
            None,
        )
    ),
)
restarts = st.just(("restart",))
steps = st.lists(
    st.one_of(creations, hits, hits, hits, hits, optouts, changes, restarts), max_size=40
)
FILES = itertools.count()


class World:
    """A store, and what is so by the definitions."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.writer = Writer(self.path)
        self.truth = Truth(2000)
        self.at = NOON
        self.seq = 0
        self.out: set[str] = set()
        self.create(None, "ada@example.com", FULL)
        self.create("spring", "bob@example.com", AGGREGATE)

    def create(self, campaign: str | None, recipient: str | None, consent: int) -> None:
        new = NewEmail("acme", None, recipient, campaign, None, None, consent)
        [(_, email)] = self.writer.write(self.at, [new], []).emails
        mail = Mail(email, self.at, campaign, None, recipient)
        mail.consent = consent
        self.truth.add(mail)

    def mail(self, number: int) -> Mail:
        mails = list(self.truth.mails.values())
        return mails[number % len(mails)]

    def hit(
        self,
        number: int,
        url: str | None,
        later: int,
        agent: tuple[str, ...],
        address: bytes | None,
        consent: int,
        flags: int,
    ) -> None:
        mail = self.mail(number)
        self.at += max(later, 0)
        at = self.at + min(later, 0)
        kind = OPEN if url is None else CLICK
        self.writer.write(
            at, [], [Hit(1, mail.id, kind, at, flags, agent[0], address, url, consent=consent)]
        )
        if mail.gone or (mail.recipient or "").lower() in self.out:
            return
        consent = max(consent, mail.consent)
        source = None if address is None else address[:3]
        name = "open" if url is None else "click"
        prefetch = bool(flags & PREFETCH)
        event = Event(self.seq, name, at, agent[0], source, url, False, prefetch)
        self.seq += 1
        if consent == FULL:
            self.truth.hit(mail.id, event)
        elif consent == AGGREGATE:
            self.truth.total(mail.id, event)

    def opt(self, recipient: str, out: bool) -> None:
        wishes: list[Wish] = [RecipientWish("acme", recipient, out, b"%016d" % self.seq)]
        self.writer.write(self.at, [], [], Wishes(wishes))
        (self.out.add if out else self.out.discard)(recipient.lower())

    def change(self, number: int, change: dict[str, Any] | None) -> None:
        mail = self.mail(number)
        edit = Edit("acme", mail.id, None)
        if change is not None:
            edit.change = Change(frozenset(change), **change)
        self.writer.write(self.at, [], [], Edits([edit]))
        if change is None:
            mail.gone = True
        elif not mail.gone:
            for name, value in change.items():
                setattr(mail, name, value)

    def restart(self) -> None:
        self.writer.close()
        self.writer = Writer(self.path)

    def look(self) -> None:
        counted = Recount(self.writer.connection)
        assert (list(counted), counted.problems) == ([], [])
        store = Store.__new__(Store)
        store.path, store.writer = self.path, self.writer
        expected: dict[tuple[int, int], list[int]] = {}
        for (scope, name), rows in self.truth.count().items():
            id_ = self.number(store, scope, name)
            if id_ is not None:
                expected[id_] = figures(rows)
        columns = ", ".join(f"sum({column})" for column in COLUMNS)
        found = {
            (scope, id_): row
            for scope, id_, *row in store.rows(
                f"SELECT scope, id, {columns} FROM figures WHERE scope < 3 GROUP BY scope, id"
            )
            if any(row)
        }
        assert found == {key: row for key, row in expected.items() if any(row)}
        hours = [at // HOUR * HOUR for at, column in self.truth.count().get(("tenant", None), [])]
        assert min(hours) >= NOON - HOUR
        assert days_apart(store) == []
        check_states(store)

    @staticmethod
    def number(store: Store, scope: str, name: object) -> tuple[int, int] | None:
        if scope == "tenant":
            return 0, 0
        if scope == "client":  # test_figures counts these by number
            return None
        table, column = ("campaigns", "name") if scope == "campaign" else ("links", "url")
        [(id_,)] = store.rows(f"SELECT {scope} FROM {table} WHERE {column} = ?", name)
        return (1 if scope == "campaign" else 2), id_


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps)
def test_figures_equal_a_naive_recount(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    world = World(tmp_path / f"{next(FILES)}.db")
    try:
        for name, *values in steps:
            getattr(world, name)(*values)
        world.look()
        world.restart()
        world.look()
    finally:
        world.writer.close()


def test_check_and_rebuild_find_nothing(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(INSTANT_SECONDS="0")
    for consent in ("full", "aggregate", "none"):
        bell.create(consent=consent, recipient=f"{consent}@example.com", campaign="spring")
    bell.create(recipient="ada@example.com")
    bell.ask("POST", "/acme/optouts", {"recipient": "ada@example.com"})
    for _ in range(3):
        for email in (1, 2, 3, 4):
            bell.get(f"/acme/pixel/{email}.gif", User_Agent=BROWSER)
            click(bell, "acme", email)
    assert figures_of(bell, "acme")["opens"] == 6
    before = dump(bell.database)
    for command in ("check", "rebuild", "check"):
        ran = run(bell.folder, command)
        assert ran.returncode == 0, ran
    assert dump(bell.database) == before
