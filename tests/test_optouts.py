"""Opt-outs: a recipient is left alone, in mail that was sent before as well"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bell import Answer, Bell, Line, dump, fresh_tenant, raw_request, serving
from little_bell.errors import StoreError
from little_bell.store.edits import DONE, NOT_FOUND, Edit, Edits, Finish
from little_bell.store.job import Together
from little_bell.store.memory import Memory
from little_bell.store.recount import Recount
from little_bell.store.transaction import GONE, LEFT_ALONE
from little_bell.store.wishes import Marks, RecipientWish, Wishes
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, OPEN
from little_bell.tracking.privacy import AGGREGATE
from test_figures import NOON, Store

ADA = "ada@example.com"
MINUTE = 60_000
STRANGERS = itertools.count(1)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("optouts"), INSTANT_SECONDS="0") as bell:
        yield bell


def stranger() -> str:
    """An address that has its whole share of opt-outs."""
    n = next(STRANGERS)
    return f"10.0.{n >> 8}.{n & 255}"


def post(
    bell: Bell, tenant: str, body: bytes | dict[str, Any], headers: dict[str, str] | None = None
) -> Answer:
    """An opt-out from somewhere."""
    return bell.ask(
        "POST", f"/{tenant}/optouts", body, {**(headers or {}), "X-Forwarded-For": stranger()}
    )


def opt_out(bell: Bell, tenant: str, recipient: str = ADA) -> None:
    answer = post(bell, tenant, {"recipient": recipient})
    assert (answer.status, answer.body) == (204, b"")


def opt_in(bell: Bell, tenant: str, recipient: str = ADA) -> None:
    answer = bell.ask("DELETE", f"/{tenant}/optouts/{quote(recipient, safe='')}")
    assert (answer.status, answer.body) == (204, b"")


def told(bell: Bell, tenant: str, recipient: str = ADA) -> Any:
    answer = bell.get(f"/{tenant}/optouts/{quote(recipient, safe='')}")
    assert answer.status == 200, answer
    return answer.json


def hits(bell: Bell, tenant: str, *emails: int) -> list[int | None]:
    """Open and click each; the emails of all events, oldest first."""
    for email in emails:
        assert bell.get(f"/{tenant}/pixel/{email}.gif").status == 200
        assert bell.get(f"/{tenant}/click/{email}?url=https://x.example/").status == 302
    listed = bell.get(f"/{tenant}/events?limit=500").json["events"]
    return [one["email_id"] for one in listed[::-1]]


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    for recipient in (ADA, "bob@example.com", None, ADA.upper()):
        bell.create(tenant, recipient=recipient)
    assert hits(bell, tenant, 1) == [1, 1]
    opt_out(bell, tenant)
    bell.create(tenant, recipient=ADA)
    assert hits(bell, tenant, 1, 2, 3, 4, 5) == [1, 1, 2, 2, 3, 3]
    figures = bell.get(f"/{tenant}/stats").json["figures"]
    assert (figures["opens"], figures["clicks"], figures["sent"]) == (3, 3, 5)
    opt_in(bell, tenant)
    assert hits(bell, tenant, 1, 4, 5) == [1, 1, 2, 2, 3, 3, 1, 1, 4, 4, 5, 5]


def test_it_is_told(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    no = {"recipient": ADA, "opted_out": False, "at": None}
    assert told(bell, tenant) == no
    opt_out(bell, tenant)
    first = told(bell, tenant)
    assert (first["opted_out"], first["at"][-1]) == (True, "Z")
    opt_out(bell, tenant, f"  {ADA.upper()} ")
    assert told(bell, tenant) == first  # since when does not change
    assert told(bell, tenant, "Ada@Example.com")["opted_out"]
    assert told(bell, tenant, "a@example.com")["opted_out"] is False
    opt_in(bell, tenant, "ADA@example.com")
    assert told(bell, tenant) == no
    opt_in(bell, tenant)  # there is none any more
    other = fresh_tenant()
    assert bell.get(f"/{other}/optouts/{ADA}").status == 404


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"recipient": "ada@example.com"}', {}),
        (b' {"recipient": " ada@example.com\\n"}', FORM),  # as curl -d says
        (b"recipient=ada@example.com", FORM),
        (b"recipient=ada%40example.com", {}),
        (b"recipient=+ADA%40example.com%20", FORM),
    ],
)
def test_it_may_come_as_json_or_as_a_form(bell: Bell, body: bytes, headers: dict[str, str]) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    assert post(bell, tenant, body, headers).status == 204
    assert told(bell, tenant)["opted_out"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"recipient=",
        b"recipient",
        b"recipient=%20%09",
        b"recipient=%FF",
        b"recipient=%00",
        b"to=ada",
        b"recipient=a&x=1",
        b"\xff",
        b"&" * 1000,
        b'{"recipient": null}',
        b'{"recipient": 1}',
        b'{"recipient": ["a"]}',
        b'{"recipient": "\\u0000"}',
        b'{"recipient": "  "}',
        b'{"recipient": "a", "tenant": "b"}',
        b'{"recipient": "' + b"x" * 321 + b'"}',
        b"{" * 10_000,
    ],
)
def test_a_wrong_one_is_refused_whether_or_not_there_is_such_a_tenant(
    bell: Bell, body: bytes
) -> None:
    tenant, other = fresh_tenant(), fresh_tenant()
    bell.create(tenant)
    one, two = (post(bell, name, body, FORM) for name in (tenant, other))
    assert (one.status, one.body) == (two.status, two.body)
    assert one.status == 400


def test_it_is_no_oracle(bell: Bell) -> None:
    tenant, other = fresh_tenant(), fresh_tenant()
    bell.create(tenant, recipient=ADA)
    answers: set[tuple[Any, ...]] = set()
    for name in (tenant, other):
        for recipient in (ADA, ADA, "nobody@example.com"):
            answer = post(bell, name, {"recipient": recipient})
            headers = {k: v for k, v in answer.headers.items() if k != "date"}
            answers.add((answer.status, answer.body, str(headers)))
    assert len(answers) == 1
    assert bell.rows("SELECT 1 FROM tenants WHERE name = ?", other) == []
    assert post(bell, "_", {"recipient": ADA}).status == 404  # never a tenant's


@pytest.mark.parametrize("name", ["%00", "%FF", "%20", "x" * 321])
def test_a_recipient_that_cannot_be(bell: Bell, name: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for method in ("GET", "DELETE"):
        assert bell.ask(method, f"/{tenant}/optouts/{name}").status == 400


@pytest.mark.parametrize("recipient", ["a/b@x", "ü@xn.example", "Ünï@x", "%40", "?#&=+", '"<a>"'])
def test_any_recipient(bell: Bell, recipient: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, recipient=f" {recipient}\t")
    opt_out(bell, tenant, recipient)
    assert told(bell, tenant, recipient)["opted_out"]
    assert hits(bell, tenant, 1) == []
    opt_in(bell, tenant, recipient)
    assert hits(bell, tenant, 1) == [1, 1]


def test_tenants_are_apart(bell: Bell) -> None:
    one, other = fresh_tenant(), fresh_tenant()
    for tenant in (one, other):
        bell.create(tenant, recipient=ADA)
    opt_out(bell, one)
    assert hits(bell, one, 1) == []
    assert hits(bell, other, 1) == [1, 1]
    found = bell.rows("SELECT salt FROM tenants WHERE name IN (?, ?)", one, other)
    assert sorted(salt is None for (salt,) in found) == [False, True]


def test_a_salted_hash_is_kept_and_no_address(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    recipient = "somebody.who.never.got.mail@example.com"
    opt_out(bell, tenant, recipient.upper())
    [(salt, kept, address)] = bell.rows(
        "SELECT salt, recipient, address FROM optouts JOIN tenants USING (tenant) WHERE name = ?",
        tenant,
    )
    assert kept == hashlib.sha256(salt + recipient.encode()).digest()[:16]
    assert (len(salt), address) == (16, None)
    held = b"".join(path.read_bytes() for path in bell.folder.rglob("*") if path.is_file())
    assert recipient.encode() not in held.lower()


@pytest.mark.parametrize("form", ["list", "ndjson"])
def test_emails_of_a_batch_hear_of_it(bell: Bell, form: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    opt_out(bell, tenant)
    members = [{"recipient": r} for r in (ADA, "bob@example.com", ADA.upper())] + [{}]
    body = "\n".join(map(json.dumps, members)) if form == "ndjson" else json.dumps(members)
    headers = {"Content-Type": "application/x-ndjson"} if form == "ndjson" else {}
    assert bell.ask("POST", f"/{tenant}/emails", body, headers).status == 201
    assert hits(bell, tenant, 2, 3, 4, 5) == [3, 3, 5, 5]


def test_an_email_that_gets_another_recipient(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, recipient="bob@example.com")
    opt_out(bell, tenant)
    assert hits(bell, tenant, 1) == [1, 1]
    assert bell.ask("PATCH", f"/{tenant}/emails/1", {"recipient": ADA}).status == 200
    assert hits(bell, tenant, 1) == [1, 1]
    assert bell.ask("PATCH", f"/{tenant}/emails/1", {"subject": "x"}).status == 200
    assert hits(bell, tenant, 1) == [1, 1]
    assert bell.ask("PATCH", f"/{tenant}/emails/1", {"recipient": None}).status == 200
    assert hits(bell, tenant, 1) == [1, 1, 1, 1]


def test_hits_in_the_same_go_lose_no_mark(bell: Bell) -> None:
    """What an email is known to be is written behind the opt-out, in the same transaction."""
    tenant = fresh_tenant()
    bell.create(tenant, recipient=ADA)
    body = json.dumps({"recipient": ADA}).encode()
    click = raw_request(f"/{tenant}/click/1?url=https://x.example/")
    between = raw_request(f"/{tenant}/optouts", method="POST", body=body)
    with Line(bell.port) as line:
        line.send(click + between + click)
        assert [line.answer().status for _ in range(3)] == [302, 204, 302]
    before = len(hits(bell, tenant))
    assert before <= 2
    assert len(hits(bell, tenant, 1)) == before


def test_it_outlives_a_kill(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(INSTANT_SECONDS="0")
    bell.create(recipient=ADA)
    opt_out(bell, "acme")
    bell.kill()
    bell.start()
    bell.create(recipient=ADA)
    assert told(bell, "acme")["opted_out"]
    assert hits(bell, "acme", 1, 2) == []


def test_it_ends_with_its_tenant(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, recipient=ADA)
    opt_out(bell, tenant)
    assert bell.ask("DELETE", f"/{tenant}?confirm={tenant}").status == 204
    bell.create(tenant, recipient=ADA)
    assert told(bell, tenant)["opted_out"] is False
    assert hits(bell, tenant, 2) == [2, 2]


def test_many_at_once_are_all_answered(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, recipient="r7@example.com")
    requests = [
        raw_request(
            f"/{tenant}/optouts",
            f"X-Forwarded-For: {stranger()}",
            method="POST",
            body=b'{"recipient": "r%d@example.com"}' % n,
        )
        for n in range(200)
    ]
    with Line(bell.port) as line:
        line.send(b"".join(requests))
        answers: list[Answer] = [line.answer() for _ in requests]
    assert {answer.status for answer in answers} <= {204, 503}
    for n, answer in enumerate(answers):
        assert told(bell, tenant, f"r{n}@example.com")["opted_out"] is (answer.status == 204)
    assert [answer.status for answer in answers[:32]] == [204] * 32


# In the store: more emails than a step marks

MANY = 1200


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "t.db")
    store.writer.write(NOON, [NewEmail("acme", None, ADA, None, None)] * MANY, [])
    yield store
    store.writer.close()


def wish(store: Store, out: bool, recipient: str = ADA) -> None:
    wishes = Wishes([RecipientWish("acme", recipient, out, b"s" * 16)])
    store.writer.write(NOON, [], [], wishes)
    assert (wishes.over, wishes.error) == (True, None)


def marked(store: Store) -> int:
    [(n,)] = store.rows("SELECT count(*) FROM states WHERE flags & 2")
    return int(n)


def classes(store: Store, *emails: int) -> list[int]:
    found = [store.hit(email, OPEN, MINUTE) for email in emails]
    return store.writer.write(NOON, [], found).classes


SOME = (1, 300, 800, 1000, MANY)


@pytest.mark.parametrize("restart", [False, True])
def test_it_holds_from_the_first_step_on(store: Store, restart: bool) -> None:
    classes(store, *SOME)  # they are known to the memory
    wish(store, out=True)
    assert marked(store) == 500
    if restart:
        store.writer.close()
        store.writer = Writer(store.path)
    assert classes(store, *SOME) == [LEFT_ALONE] * 5
    assert list(Recount(store.writer.connection)) == []
    while store.writer.memory.marking:
        store.writer.write(NOON, [], [], Marks())
        assert classes(store, *SOME) == [LEFT_ALONE] * 5
    assert marked(store) == MANY
    assert store.rows("SELECT address, next_email FROM optouts") == [(None, None)]
    wish(store, out=False)
    assert marked(store) == MANY - 500
    if restart:
        store.writer.close()
        store.writer = Writer(store.path)
    assert classes(store, *SOME) == [0] * 5
    wish(store, out=True)  # while marks are being taken away
    assert classes(store, *SOME) == [LEFT_ALONE] * 5
    wish(store, out=False)
    while store.writer.memory.marking:
        store.writer.write(NOON, [], [], Marks())
        assert classes(store, *SOME) == [0] * 5
    assert marked(store) == 0
    assert store.rows("SELECT * FROM optouts") == []
    assert list(Recount(store.writer.connection)) == []


def test_emails_that_change_while_marks_are_set(store: Store) -> None:
    wish(store, out=True)
    for email, recipient in ((1, "bob@example.com"), (MANY, "bob@example.com")):
        change = Change(frozenset({"recipient"}), recipient=recipient)
        store.writer.write(NOON, [], [], Edits([Edit("acme", email, change)]))
    store.writer.write(NOON, [NewEmail("acme", None, "eve@example.com", None, None)], [])
    change = Change(frozenset({"recipient"}), recipient="ADA@example.com")
    store.writer.write(NOON, [], [], Edits([Edit("acme", MANY + 1, change)]))
    for _ in range(2):
        assert classes(store, 1, 2, MANY, MANY + 1) == [0, LEFT_ALONE, 0, LEFT_ALONE]
        while store.writer.memory.marking:
            store.writer.write(NOON, [], [], Marks())


def test_a_tenant_that_goes_while_marks_are_set(store: Store) -> None:
    wish(store, out=True)
    store.writer.write(NOON, [], [], Edits([Edit("acme", 0, None)]))
    while store.writer.memory.marking:
        store.writer.write(NOON, [], [], Marks())
    while store.writer.memory.unfinished:
        rest = next(iter(store.writer.memory.unfinished.values()))
        store.writer.write(NOON, [], [], Finish(rest))
    found = dump(Path(store.path))
    assert [name for name, rows in found.items() if rows] == ["tenants"]


def test_what_is_rolled_back_was_never_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    classes(store, *SOME)
    memory: Memory = store.writer.memory
    tenant = memory.tenants.by_name[b"acme"]
    failing = Wishes([RecipientWish("acme", ADA, True, b"s" * 16)])
    broken = Edits([Edit("acme", 1, Change(frozenset({"subject"}), "\ud800"))])
    hit = store.hit(1, CLICK, MINUTE, url="https://x.example/")
    with pytest.raises(StoreError):
        store.writer.write(NOON, [], [hit], Together([failing, broken]))
    assert (tenant.salt, memory.marking) == (None, {})
    assert (marked(store), store.rows("SELECT * FROM optouts")) == (0, [])
    assert classes(store, *SOME) == [0] * 5


def test_edits_of_the_same_tick_know_the_mark(store: Store) -> None:
    """Also of emails whose state was only looked at."""
    looked_at = [store.hit(email, OPEN, MINUTE)._replace(consent=AGGREGATE) for email in (1, 2)]
    wishes = Wishes([RecipientWish("acme", ADA, True, b"s" * 16)])
    edits = Edits(
        [
            Edit("acme", MANY, Change(frozenset({"subject"}), "changed")),
            Edit("acme", 1, Change(frozenset({"subject"}), "changed")),
            Edit("acme", 2, None),
            Edit("acme", 2, Change(frozenset({"subject"}), "changed")),
        ]
    )
    looked_at.append(looked_at[0]._replace(email=MANY))
    store.writer.write(NOON, [], looked_at, Together([wishes, edits]))
    assert [edit.outcome for edit in edits.edits] == [DONE, DONE, DONE, NOT_FOUND]
    assert classes(store, 1, 2, MANY) == [LEFT_ALONE, GONE, LEFT_ALONE]
    while store.writer.memory.marking:
        store.writer.write(NOON, [], [], Marks())
    assert classes(store, 1, 2, MANY) == [LEFT_ALONE, GONE, LEFT_ALONE]
