"""Settings of privacy: the server's and a tenant's own, addresses, Global Privacy Control"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bell import Answer, Bell, Line, fresh_tenant, raw_request, serving
from little_bell.errors import StoreError
from little_bell.store.edits import Edit, Edits
from little_bell.store.job import Together
from little_bell.store.wishes import PolicyWish, Wishes
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK
from little_bell.tracking.privacy import AGGREGATE, NONE, UNKNOWN, WHOLE
from test_figures import HOME, MINUTE, NOON, Store

NOTHING_SET = {
    "consent": "full",
    "addresses": "truncate",
    "gpc": "aggregate",
    "retention_days": 0,
    "hosts": None,
    "own": [],
}


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("settings"), INSTANT_SECONDS="0") as bell:
        yield bell


def patch(bell: Bell, tenant: str, **members: object) -> Any:
    answer = bell.ask("PATCH", f"/{tenant}/settings", members)
    assert answer.status == 200, answer
    return answer.json


def read(bell: Bell, tenant: str) -> Any:
    return bell.get(f"/{tenant}/settings").json


def last_event(bell: Bell, tenant: str, **headers: str) -> dict[str, Any] | None:
    """Opens the tenant's first email; the newest event after it, if it is new."""
    before = bell.get(f"/{tenant}/events?limit=1").json["events"]
    assert bell.get(f"/{tenant}/pixel/1.gif", **headers).status == 200
    after: list[dict[str, Any]] = bell.get(f"/{tenant}/events?limit=1").json["events"]
    return after[0] if after != before else None


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    assert bell.get(f"/{tenant}/settings").status == 404
    bell.create(tenant)
    assert read(bell, tenant) == NOTHING_SET
    changed = patch(bell, tenant, consent="aggregate", hosts=["Example.com", "*.example.com"])
    assert changed == {
        **NOTHING_SET,
        "consent": "aggregate",
        "hosts": ["example.com", "*.example.com"],
        "own": ["consent", "hosts"],
    }
    assert read(bell, tenant) == changed
    changed = patch(bell, tenant, consent=None, retention_days=30, addresses="none", gpc="ignore")
    assert changed == {
        "consent": "full",
        "addresses": "none",
        "gpc": "ignore",
        "retention_days": 30,
        "hosts": ["example.com", "*.example.com"],
        "own": ["addresses", "gpc", "retention_days", "hosts"],
    }
    nothing = dict.fromkeys(("addresses", "gpc", "retention_days", "hosts"))
    assert patch(bell, tenant, **nothing) == NOTHING_SET


def test_a_tenant_is_made_where_there_is_none(bell: Bell) -> None:
    tenant = fresh_tenant()
    patch(bell, tenant, consent="none")
    assert read(bell, tenant)["consent"] == "none"
    assert bell.create(tenant) == 1
    assert last_event(bell, tenant) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", None),
        ("{}", None),
        ("[]", None),
        ("no", None),
        ("{" * 10_000, None),
        ('{"consent": "all"}', "consent"),
        ('{"consent": 1}', "consent"),
        ('{"addresses": "whole"}', "addresses"),
        ('{"addresses": ["none"]}', "addresses"),
        ('{"gpc": "full"}', "gpc"),
        ('{"gpc": true}', "gpc"),
        ('{"retention_days": -1}', "retention_days"),
        ('{"retention_days": 36501}', "retention_days"),
        ('{"retention_days": 1.5}', "retention_days"),
        ('{"retention_days": true}', "retention_days"),
        ('{"retention_days": "1"}', "retention_days"),
        ('{"retention_days": 1e400}', "retention_days"),
        ('{"hosts": []}', "hosts"),
        ('{"hosts": "example.com"}', "hosts"),
        ('{"hosts": {"example.com": 1}}', "hosts"),
        (json.dumps({"hosts": [f"h{n}.example" for n in range(101)]}), "hosts"),
        ('{"salt": "x"}', "salt"),
        ('{"own": []}', "own"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_lost(
    bell: Bell, body: str, field: str | None
) -> None:
    tenant = fresh_tenant()
    before = patch(bell, tenant, consent="aggregate", hosts=["example.com"])
    answer = bell.ask("PATCH", f"/{tenant}/settings", body)
    assert (answer.status, answer.json.get("field")) == (400, field)
    if field is not None and field in NOTHING_SET and field != "own":  # nor what is right beside it
        members = {**json.loads(body), "consent": json.loads(body).get("consent", "none")}
        assert bell.ask("PATCH", f"/{tenant}/settings", json.dumps(members)).status == 400
    assert read(bell, tenant) == before


HOSTS = [
    "example.com",
    "*.example.com",
    "localhost",
    "a.b.c.xn--bcher-kva",
    "x-1.example",
    "a_b.de",
]
NO_HOSTS = [
    *("", ".", "*", "*.", "*.*.example.com", "exa*mple.com", "example.com.", ".example.com"),
    *("https://example.com", "example.com/", "example.com:80", "user@example.com", "a b.example"),
    *("127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::1]", "::1", "-a.example", "a-.example"),
    *("bücher.example", "example.com\n", "a..b", "x" * 64, "%65xample.com", "example.com\\"),
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host(bell: Bell, host: str) -> None:
    tenant = fresh_tenant()
    assert patch(bell, tenant, hosts=[host, host.upper()])["hosts"] == [host]


@pytest.mark.parametrize("host", [*NO_HOSTS, None, 1, ["example.com"]])
def test_no_host(bell: Bell, host: object) -> None:
    answer = bell.ask("PATCH", f"/{fresh_tenant()}/settings", json.dumps({"hosts": ["a", host]}))
    assert (answer.status, answer.json["field"]) == (400, "hosts")


def test_no_tenant(bell: Bell) -> None:
    for name in ("_", "a.b", "x" * 65):
        for method in ("GET", "PATCH"):
            answer = bell.ask(method, f"/{name}/settings", {"consent": "none"})
            assert answer.status == 404


def test_it_holds_from_the_answer_on_and_after_a_kill(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(INSTANT_SECONDS="0")
    bell.create()
    for consent, expected in (("none", []), ("aggregate", [None]), (None, [1])):
        body = json.dumps({"consent": consent}).encode()
        with Line(bell.port) as line:
            line.send(raw_request("/acme/settings", method="PATCH", body=body))
            assert line.answer().status == 200
        event = last_event(bell, "acme")
        assert ([] if event is None else [event["email_id"]]) == expected
    patch(bell, "acme", consent="none", hosts=["example.com"], retention_days=7)
    before = read(bell, "acme")
    bell.kill()
    bell.start()
    assert read(bell, "acme") == before
    assert last_event(bell, "acme") is None


def test_settings_stay_where_a_tenant_begins_anew(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    before = patch(bell, tenant, consent="none")
    assert bell.ask("DELETE", f"/{tenant}?confirm={tenant}").status == 204
    assert read(bell, tenant) == before


def test_the_servers_hold_where_a_tenant_says_nothing(tmp_path: Path) -> None:
    settings = {"CONSENT": "aggregate", "ADDRESSES": "full", "GPC": "none", "RETENTION_DAYS": "90"}
    with serving(tmp_path, **settings, INSTANT_SECONDS="0") as bell:
        bell.create()
        assert read(bell, "acme") == {
            "consent": "aggregate",
            "addresses": "full",
            "gpc": "none",
            "retention_days": 90,
            "hosts": None,
            "own": [],
        }
        event = last_event(bell, "acme")
        assert event is not None
        assert event["email_id"] is None
        assert last_event(bell, "acme", Sec_GPC="1") is None
        # Of consents the stricter one; in other things the tenant's own.
        shown = patch(bell, "acme", consent="full", gpc="ignore", addresses="none")
        assert (shown["consent"], shown["gpc"]) == ("aggregate", "ignore")
        assert shown["own"] == ["consent", "addresses", "gpc"]
        event = last_event(bell, "acme", Sec_GPC="1")
        assert event is not None
        assert event["email_id"] is None
        assert patch(bell, "acme", consent="none")["consent"] == "none"
        assert last_event(bell, "acme") is None


@pytest.mark.parametrize(
    ("setting", "seen"), [("ignore", 1), ("aggregate", None), ("none", "nothing")]
)
def test_what_sec_gpc_means(bell: Bell, setting: str, seen: object) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    patch(bell, tenant, gpc=setting)
    event = last_event(bell, tenant, Sec_GPC="1")
    assert ("nothing" if event is None else event["email_id"]) == seen
    event = last_event(bell, tenant, DNT="1")
    assert event is not None
    assert event["email_id"] == 1


# Addresses

CLIENTS = {"203.0.113.77": bytes((203, 0, 113, 77)), "2001:db8:1:2::3": None}


@pytest.mark.parametrize(
    ("setting", "v4", "v6", "stored"),
    [
        ("none", None, None, [None, None]),
        ("truncate", "203.0.113.0", "2001:db8:1::", [3, 6]),
        ("full", "203.0.113.77", "2001:db8:1:2::3", [4, 16]),
    ],
)
def test_addresses(
    bell: Bell, setting: str, v4: str | None, v6: str | None, stored: list[int | None]
) -> None:
    tenant = fresh_tenant()
    patch(bell, tenant, addresses=setting)
    for address in CLIENTS:
        headers = {"X-Forwarded-For": address}
        assert bell.ask("POST", f"/{tenant}/emails", {}, headers).status == 201
        body = '{"subject": "a"}\n' * 2
        kind = {"Content-Type": "application/x-ndjson"}
        assert bell.ask("POST", f"/{tenant}/emails", body, {**headers, **kind}).status == 201
        bell.get(f"/{tenant}/pixel/1.gif", X_Forwarded_For=address)
        bell.ask("PATCH", f"/{tenant}/emails/1", {"subject": "x"}, headers)
        bell.ask("PATCH", f"/{tenant}/settings", {"gpc": None}, headers)
    rows = bell.rows(
        "SELECT length(address) FROM events JOIN tenants USING (tenant) WHERE name = ?", tenant
    )
    assert [length for (length,) in rows] == stored
    listed = bell.get(f"/{tenant}/events").json["events"]
    assert [one["ip_address"] for one in listed] == [v6, v4]
    assert bell.get(f"/{tenant}/dashboard/events").status == 200
    cut = ["", ""] if setting == "none" else ["203.0.113.0", "2001:db8:1::"]
    lines = [one for one in bell.lines() if one["fields"].get("tenant_id") == tenant]
    for message in ("Email created", "Emails created", "Email changed"):
        shown = [one["fields"]["ip_address"] for one in lines if one["message"] == message]
        assert shown == cut, message
    opened = [one["fields"]["ip_address"] for one in lines if one["message"] == "Email opened"]
    assert opened == [v4 or "", v6 or ""]


@pytest.mark.parametrize(
    ("addresses", "machine"),
    [
        ((b"\x01\x02\x03\x04", b"\x01\x02\x03\x05", b"\x01\x02\x03\x06"), 3),
        ((b"\x01\x02\x03\x04", b"\x01\x02\x03", b"\x01\x02\x03\x06"), 3),
        ((b"\x01\x02\x03\x04", b"\x01\x02\x04\x04", b"\x01\x02\x03\x06"), 0),
        ((bytes(16), bytes(15) + b"\x01", bytes(6)), 3),
        ((bytes(16), bytes(4), bytes(6)), 0),
        ((None, None, None), 3),
        ((None, HOME, None), 0),
    ],
)
def test_a_source_is_a_network_whatever_is_stored(
    tmp_path: Path, addresses: tuple[bytes | None, ...], machine: int
) -> None:
    store = Store(tmp_path / "t.db")
    store.create()
    for n, address in enumerate(addresses):
        hit = store.hit(1, CLICK, MINUTE + n, url=f"https://{n}.example/")
        store.write(hit._replace(address=address))
    assert store.figures().machine_clicks == machine
    store.writer.close()


# Global Privacy Control


@pytest.mark.parametrize(
    ("setting", "heeded"), [("aggregate", True), ("none", True), ("ignore", 0)]
)
def test_what_is_said_of_it(tmp_path: Path, setting: str, heeded: bool) -> None:
    with serving(tmp_path, GPC=setting, BASE_URL="https://track.example.com/bell") as bell:
        for path in ("/.well-known/gpc.json", "/bell/.well-known/gpc.json"):
            answer: Answer = bell.get(path)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert answer.json == {"gpc": bool(heeded), "lastUpdate": "2026-11-24"}
        assert bell.ask("POST", "/.well-known/gpc.json").status == 405
        assert bell.get("/.well-known/other.json").status == 404


# In the store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "t.db")
    store.create()
    yield store
    store.writer.close()


def test_what_is_rolled_back_was_never_so(store: Store) -> None:
    tenants = store.writer.memory.tenants
    wishes = Wishes([PolicyWish("acme", {"consent": NONE}), PolicyWish("new", {"gpc": NONE})])
    broken = Edits([Edit("acme", 1, Change(frozenset({"subject"}), "\ud800"))])
    with pytest.raises(StoreError):
        store.writer.write(NOON, [], [], Together([wishes, broken]))
    assert tenants.by_name[b"acme"].policy.consent is None
    assert b"new" not in tenants.by_name
    [(consent,)] = store.rows("SELECT consent FROM tenants")
    assert consent is None


def test_what_was_written_is_known_after_a_start_and_a_reopening(store: Store) -> None:
    given = {
        "consent": AGGREGATE,
        "addresses": UNKNOWN,
        "gpc": NONE,
        "retention_days": 7,
        "hosts": ("a.example",),
    }
    wishes = [
        PolicyWish("acme", {**given, "addresses": WHOLE}),
        PolicyWish("acme", {"addresses": UNKNOWN}),
    ]
    store.writer.write(NOON, [], [], Wishes(list(wishes)))
    [policy] = {store.writer.memory.tenants.by_name[b"acme"].policy}
    assert policy._asdict() == given
    store.writer.reopen()
    assert store.writer.memory.tenants.by_name[b"acme"].policy == policy
    store.writer.write(NOON, [NewEmail("acme", None, None, None, None)], [])
    other = Writer(store.path)
    assert other.memory.tenants.by_name[b"acme"].policy == policy
    other.close()


def test_no_wish_is_lost_beside_a_batch(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    patch(bell, "acme", consent="none")
    body = b'{"recipient": "ada@example.com"}\n' * 20_000
    with Line(bell.port) as line:
        kind = "Content-Type: application/x-ndjson"
        line.send(raw_request("/acme/emails", kind, method="POST", body=body))
        asked = 0
        deadline = time.monotonic() + 20
        while not bell.rows("SELECT 1 FROM pending") and time.monotonic() < deadline:
            os.sched_yield()
        while bell.rows("SELECT 1 FROM pending"):
            asked += 1
            patch(bell, "acme", retention_days=asked)
            sent = {"recipient": "ada@example.com"}
            address = {"X-Forwarded-For": f"10.0.0.{asked % 256}"}
            assert bell.ask("POST", "/acme/optouts", sent, address).status == 204
        assert line.answer().status == 201
    assert asked
    assert read(bell, "acme")["retention_days"] == asked
    bell.get("/health")
    [(unmarked,)] = bell.rows("SELECT count(*) FROM states WHERE NOT flags & 2")
    while unmarked:  # the rest of it follows in steps
        time.sleep(0.05)
        left, unmarked = (
            unmarked,
            bell.rows("SELECT count(*) FROM states WHERE NOT flags & 2")[0][0],
        )
        assert unmarked <= left
        assert time.monotonic() < deadline
