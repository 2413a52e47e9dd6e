"""POST /{tenant}/emails with many emails: all of them or none, whatever happens meanwhile."""

import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batches import (
    NDJSON,
    Sending,
    Watch,
    alive,
    check_file,
    check_folder,
    contents,
    count,
    descriptors,
    head_of,
    ids,
    lines,
    post,
    raw_post,
    sent,
    settle,
    slow_lane,
    some,
    stored,
)
from bell import Bell, Line, dump, events, exchange, fresh_tenant, linux, serving, wait_until
from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.signing import Keyring
from little_bell.wire.exchange import Exchange
from little_bell.wire.handover import PACKET, SlowLane
from little_bell.wire.intake import Intake
from test_disk_errors import PROGRAM, Faulty

MAX_LINES = 100_000
LIST = "application/json"
SLOW_DISK = "slow 0.02"  # so that a batch takes a while, and its middle can be met
MIDDLE = 20_000  # emails of such a batch


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("batches")) as bell:
        yield bell


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """Another one with few rows, for tests that look at all of them."""
    with serving(tmp_path_factory.mktemp("strict")) as bell:
        bell.create("acme", campaign="winter")
        yield bell


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Callable[..., Faulty]]:
    """Starts a server whose disk can be told to fail or to be slow."""
    started: list[Faulty] = []

    def begin(**settings: str) -> Faulty:
        folder = tmp_path / f"faulty{len(started)}"
        folder.mkdir()
        bell = Faulty(folder, PROGRAM, FAULT=str(folder / "fault"), **settings)
        started.append(bell)
        bell.start()
        return bell

    yield begin
    for bell in started:
        bell.end()


def refused(bell: Bell, body: bytes, kind: str = NDJSON, status: int = 400) -> Any:
    """Post a batch that is refused as problem+json, and creates nothing at all."""
    before = dump(bell.database)
    answer = post(bell, body, "stranger", kind)
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert dump(bell.database) == before, "a refused batch left something behind"
    return answer.json


# It works


def test_lines_are_created_in_their_order(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, campaign="winter")
    answer = post(
        bell,
        lines(
            [
                {"subject": "Hello, wörld 😀", "recipient": "ada@example.com"},
                {"campaign": "spring", "metadata": {"order": "12", "naïve": "ja"}},
                {},
                {"subject": None, "campaign": "winter", "metadata": {}},
                {"subject": "last", "campaign": "spring"},
            ]
        ),
        tenant,
    )
    assert answer.headers["content-type"] == NDJSON
    base = f"http://localhost:{bell.port}/{tenant}/pixel"
    assert [json.loads(line) for line in answer.body.splitlines()] == [
        {"email_id": n, "tracking_pixel_url": f"{base}/{n}.gif"} for n in range(2, 7)
    ]
    assert stored(bell, tenant)[1:] == [
        (2, "Hello, wörld 😀", "ada@example.com", None, None),
        (3, None, None, "spring", '{"order":"12","naïve":"ja"}'),
        (4, None, None, None, None),
        (5, None, None, "winter", None),
        (6, "last", None, "spring", None),
    ]
    assert sent(bell, tenant) == {"": 6, "winter": 2, "spring": 2}
    assert bell.create(tenant) == 7


def test_a_list_is_answered_with_a_list(bell: Bell) -> None:
    tenant = fresh_tenant()
    answer = post(bell, b' \r\n[{"subject": "a"}, {"campaign": "x"}]', tenant, LIST)
    assert answer.headers["content-type"] == LIST
    assert isinstance(answer.json, list)
    assert ids(answer) == [1, 2]
    assert stored(bell, tenant) == [(1, "a", None, None, None), (2, None, None, "x", None)]
    assert sent(bell, tenant) == {"": 2, "x": 1}


def test_a_batch_has_one_line_in_the_log(bell: Bell) -> None:
    tenant = fresh_tenant()
    post(bell, some(700), tenant, X_Forwarded_For="203.0.113.77")

    def found() -> list[dict[str, Any]]:
        return [one for one in bell.lines() if one["fields"].get("tenant_id") == tenant]

    wait_until(found)
    [line] = found()
    assert (line["level"], line["message"]) == ("INFO", "Emails created")
    assert line["fields"] == {
        "tenant_id": tenant,
        "email_id": 1,
        "emails": 700,
        "ip_address": "203.0.113.0",
    }


def test_emails_of_a_batch_are_opened_and_clicked_as_any_other(bell: Bell) -> None:
    tenant = fresh_tenant()
    assert ids(post(bell, some(1200), tenant)) == list(range(1, 1201))
    for email in (1, 500, 501, 1200):
        assert bell.get(f"/{tenant}/pixel/{email}.gif").status == 200
        assert bell.get(f"/{tenant}/click/{email}?url=https://example.com/").status == 302
    bell.get(f"/{tenant}/pixel/1201.gif")
    assert events(bell, tenant) == [
        (email, kind) for email in (1, 500, 501, 1200) for kind in ("open", "click")
    ]
    page = bell.get(f"/{tenant}/dashboard")
    assert (page.status, b"1,200" in page.body or b"1200" in page.body) == (200, True)


# Each form


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"subject":"a"}\r\n{"subject":"b"}\r\n', 2),
        (b'{"subject":"a"}\n{"subject":"b"}', 2),
        (b'\n\r\n  \t\n{"subject":"a"}\n\n\n{"subject":"b"}\n \n', 2),
        (b'{"subject":"a"}', 1),
        (b" {} \n\t{}\t\n", 2),
        (b'{"subject":"a\\nb"}\n', 1),
    ],
    ids=["CRLF", "no last newline", "empty lines", "one line", "spaces", "an escaped newline"],
)
def test_lines_may_end_as_they_like(bell: Bell, body: bytes, expected: int) -> None:
    tenant = fresh_tenant()
    assert ids(post(bell, body, tenant)) == list(range(1, expected + 1))
    assert count(bell, tenant) == expected


@pytest.mark.parametrize(
    "kind", ["APPLICATION/X-NDJSON", "application/x-ndjson; charset=UTF-8", "application/x-NDJSON;"]
)
def test_the_content_type_is_read_as_http_says(bell: Bell, kind: str) -> None:
    tenant = fresh_tenant()
    answer = post(bell, b"{}\n{}\n", tenant, kind)
    assert answer.headers["content-type"] == NDJSON
    assert ids(answer) == [1, 2]


@pytest.mark.parametrize("emails", [1, 3, 999])
@pytest.mark.parametrize("size", [0, 50, 900], ids=lambda size: f"texts of {size}")
def test_lists_of_every_size_work(bell: Bell, emails: int, size: int) -> None:
    """The small ones are read by the fast lane, the larger ones by the slow."""
    tenant = fresh_tenant()
    body = json.dumps([{"subject": f"{n}" + "x" * size} for n in range(emails)]).encode()
    assert ids(post(bell, body, tenant, LIST)) == list(range(1, emails + 1))
    assert [row[1] for row in stored(bell, tenant)] == [f"{n}" + "x" * size for n in range(emails)]


def chunked(body: bytes, chance: random.Random) -> bytes:
    """A body in chunks of any size."""
    parts = []
    while body:
        size = chance.choice((1, 7, 500, 4096, 70_000))
        parts.append(b"%x;a=b\r\n%s\r\n" % (len(body[:size]), body[:size]))
        body = body[size:]
    return b"".join((*parts, b"0\r\nTrailer: x\r\n\r\n"))


@pytest.mark.parametrize("kind", [NDJSON, LIST])
def test_bodies_may_come_in_chunks(bell: Bell, kind: str) -> None:
    chance = random.Random(1)
    for emails in (1, 40, 500):
        tenant = fresh_tenant()
        body = some(emails)
        if kind is LIST:
            body = b"[" + body.strip().replace(b"\n", b",") + b"]"
        head = head_of(tenant, "Transfer-Encoding: chunked", kind=kind)
        assert ids(exchange(bell, head + chunked(body, chance))) == list(range(1, emails + 1))


@pytest.mark.parametrize("seed", range(6))
def test_requests_may_come_in_pieces(bell: Bell, seed: int) -> None:
    chance, tenant = random.Random(seed), fresh_tenant()
    emails = [{"subject": "é" * chance.randint(0, 900)} for _ in range(300)]
    data = raw_post(tenant, lines(emails))
    cuts = sorted(chance.randrange(len(data)) for _ in range(12))
    cuts += [data.index(b"\r\n\r\n") + n for n in range(5)]
    with Line(bell.port) as line:
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
            line.send(data[begin:end])
            time.sleep(chance.choice((0, 0, 0.01)))
        assert ids(line.answer()) == list(range(1, 301))
        assert line.closed
    assert [row[1] or "" for row in stored(bell, tenant)] == [one["subject"] for one in emails]


@pytest.mark.parametrize("size", [900_000, 983_040, 1_000_000, 1_048_576, 2_097_152, 2_500_000])
def test_bodies_of_any_size_are_read_to_their_end(bell: Bell, size: int) -> None:
    """Reads are counted in turns: where the last one ends, nothing more makes a socket ready."""
    tenant = fresh_tenant()
    for spare in (0, 16_384, 40_000):
        pad = b"\n" * (size + spare - 3)
        assert post(bell, pad[: MAX_LINES // 2] + b" " * 10 + b"{}\n", tenant).status == 201
        wide = b" " * 1000 + b"\n"
        body = wide * ((size + spare) // len(wide)) + b"{}\n"
        assert post(bell, body, tenant).status == 201
    assert count(bell, tenant) == 6


def test_who_expects_100_continue_gets_it(bell: Bell) -> None:
    tenant = fresh_tenant()
    body = some(2000)
    with Line(bell.port) as line:
        line.send(head_of(tenant, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert line.answer().status == 100
        line.send(body)
        assert len(ids(line.answer())) == 2000


def test_who_expects_100_continue_for_too_much_is_refused_at_once(bell: Bell) -> None:
    with Line(bell.port) as line:
        line.send(head_of("stranger", "Content-Length: 67108865", "Expect: 100-continue"))
        assert line.answer().status == 413


@pytest.mark.parametrize("kind", [NDJSON, LIST])
def test_http_1_0_works(bell: Bell, kind: str) -> None:
    tenant = fresh_tenant()
    body = b'[{"subject": "a"}, {}]' if kind is LIST else b'{"subject": "a"}\n{}\n'
    head = head_of(tenant, f"Content-Length: {len(body)}", kind=kind, version="1.0")
    with Line(bell.port) as line:
        line.send(head + body)
        assert ids(line.answer()) == [1, 2]
        assert line.closed


def test_a_batch_behind_other_requests_of_its_connection_is_answered_last(bell: Bell) -> None:
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        single = raw_post(tenant, b"{}", kind=LIST)
        line.send(single + single + raw_post(tenant, some(600)))
        assert [ids(line.answer()), ids(line.answer())] == [[1], [2]]
        assert ids(line.answer()) == list(range(3, 603))
        assert line.closed


def test_who_half_closes_behind_the_request_is_answered(bell: Bell) -> None:
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        line.send(raw_post(tenant, some(3000)))
        line.no_more()
        assert len(ids(line.answer())) == 3000


# Each refusal

BAD = [
    (b"{", None),
    (b"nonsense", None),
    (b"[]", None),
    (b"1", None),
    (b"null", None),
    (b'"text"', None),
    (b"{} {}", None),
    (b'{"subject":NaN}', None),
    (b'{"subject":1}', "subject"),
    (b'{"subject":"' + b"x" * 999 + b'"}', "subject"),
    (b'{"recipient":"' + b"x" * 321 + b'"}', "recipient"),
    (b'{"campaign":"' + b"x" * 129 + b'"}', "campaign"),
    (b'{"subject":"\\u0000"}', "subject"),
    (b'{"metadata":[]}', "metadata"),
    (b'{"metadata":{"a":1}}', "metadata.a"),
    (b'{"subjet":"Hello"}', "subjet"),
    (b'{"email_id":7}', "email_id"),
]


@pytest.mark.parametrize(("bad", "field"), BAD, ids=[bad[:30].decode() for bad, _ in BAD])
@pytest.mark.parametrize("before", [0, 3])
def test_a_bad_line_is_named_and_nothing_is_created(
    strict: Bell, bad: bytes, field: str | None, before: int
) -> None:
    problem = refused(strict, b"\n" + some(before) + bad + b"\n" + some(2))
    assert (problem["line"], problem.get("field")) == (before + 2, field)
    assert "index" not in problem


@pytest.mark.parametrize(("bad", "field"), BAD[2:6] + BAD[8:], ids=str)
@pytest.mark.parametrize("before", [0, 2])
def test_a_bad_item_is_named_and_nothing_is_created(
    strict: Bell, bad: bytes, field: str | None, before: int
) -> None:
    problem = refused(strict, b"[" + b"{}," * before + bad + b", {}]", LIST)
    assert (problem["index"], problem.get("field")) == (before, field)
    assert "line" not in problem


@pytest.mark.parametrize("body", [b"[", b"[{}", b"[{},]", b"[{}] []", b"[\xff]", b"[" * 60_000])
@pytest.mark.parametrize("spaces", [0, 70_000])
def test_a_list_that_is_no_json_is_refused(strict: Bell, body: bytes, spaces: int) -> None:
    assert "field" not in refused(strict, body + b" " * spaces, LIST)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", NDJSON), (b"\n \r\n", NDJSON), (b"[]", LIST), (b" [ ] ", LIST)],
)
def test_no_emails_are_no_batch(strict: Bell, body: bytes, kind: str) -> None:
    assert "no emails" in refused(strict, body, kind)["detail"]


def test_a_bad_line_behind_50000_good_ones_is_named(strict: Bell) -> None:
    assert refused(strict, some(50_000, "new") + b'{"subject": 1}\n')["line"] == 50_001


@pytest.mark.parametrize("name", ["_x", "a.b", "x" * 65, "%41"])
def test_a_name_that_is_no_tenants_is_404(strict: Bell, name: str) -> None:
    before = dump(strict.database)
    for body, kind in ((b"{}\n", NDJSON), (b"[{}]", LIST)):
        assert post(strict, body, name, kind).status == 404
    assert dump(strict.database) == before


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"[" * (1 << 20), 1),
        (b'{"metadata":' * 80_000, 1),
        (b'{"subject":' + b"9" * 1_000_000 + b"}", 1),
        (b'{"subject":1e999999}', 1),
        (b'{"metadata":{"a":"' + b"x" * 1_000_000 + b'"}}', 1),
        (b'{"metadata":{' + b",".join(b'"%d":"x"' % n for n in range(80_000)) + b"}}", 1),
        (b"{}\n" * 1000 + b'{"subject":"\xff"}\n{}\n', 1001),
        (b"{}\n" * 1000 + b'{"subject":"\xed\xa0\x80"}\n{}\n', 1001),
        (b"{}\n" * 1000 + b'{"subject":"\x00"}\n{}\n', 1001),
        (b"\xef\xbb\xbf{}\n", 1),
    ],
    ids=[
        "deep lists",
        "deep objects",
        "a million digits",
        "a huge exponent",
        "a long value",
        "80,000 members",
        "no UTF-8",
        "a surrogate in UTF-8",
        "a NUL",
        "a byte order mark",
    ],
)
def test_hostile_lines_are_refused(strict: Bell, body: bytes, line: int) -> None:
    assert refused(strict, body)["line"] == line
    assert strict.get("/acme/dashboard").status == 200


def test_lone_surrogates_are_replaced_as_for_one_email(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = b'{"subject":"\\ud800x","campaign":"\\udfff","metadata":{"\\ud800":"\\udfff"}}'
    assert ids(post(bell, email + b"\n" + email, tenant)) == [1, 2]
    assert ids(post(bell, email, tenant, LIST)) == [3]
    expected = ("\ufffdx", None, "\ufffd", '{"\ufffd":"\ufffd"}')
    assert [row[1:] for row in stored(bell, tenant)] == [expected] * 3
    assert sent(bell, tenant) == {"": 3, "\ufffd": 3}


# Limits


def test_a_list_has_at_most_1000_items(strict: Bell) -> None:
    tenant = fresh_tenant()
    full = b"[" + b",".join([b"{}"] * 1000) + b"]"
    assert ids(post(strict, full, tenant, LIST)) == list(range(1, 1001))
    refused(strict, full[:-1] + b",{}]", LIST, 413)


def test_a_list_of_over_8_megabytes_is_refused(strict: Bell) -> None:
    refused(strict, b"[{}" + b" " * (8 << 20) + b"]", LIST, 413)
    big = {"subject": "x" * 998, "metadata": {f"{n}": "y" * 1024 for n in range(6)}}
    tenant = fresh_tenant()
    assert len(ids(post(strict, json.dumps([big] * 1000).encode(), tenant, LIST))) == 1000


def test_one_email_alone_is_no_list_and_as_small_as_ever(strict: Bell) -> None:
    """MAX_BODY_BYTES holds for it, whoever reads it."""
    refused(strict, b'{"subject": "x"' + b" " * 70_000 + b"}", LIST, 413)
    refused(strict, b" " * 70_000 + b"{}", LIST, 413)


def test_a_line_has_a_bound(strict: Bell) -> None:
    problem = refused(strict, some(2) + b'{"subject":"a"' + b" " * (1 << 20) + b"}\n")
    assert problem["line"] == 3
    tenant = fresh_tenant()
    wide = b'{"subject":"a"' + b" " * 1_000_000 + b"}\n"
    assert ids(post(strict, wide * 3, tenant)) == [1, 2, 3]


def test_a_batch_has_at_most_500_campaigns(strict: Bell) -> None:
    tenant = fresh_tenant()
    emails = [{"campaign": f"c{n % 500}"} for n in range(1500)]
    assert len(ids(post(strict, lines(emails), tenant))) == 1500
    assert sent(strict, tenant) == {"": 1500, **{f"c{n}": 3 for n in range(500)}}
    refused(strict, lines({"campaign": f"{n}"} for n in range(501)))
    refused(strict, lines({"campaign": f"{n}"} for n in range(MAX_LINES)))
    many = json.dumps([{"campaign": f"{n}"} for n in range(501)]).encode()
    refused(strict, many, LIST)


def test_empty_lines_have_a_bound(strict: Bell) -> None:
    """Millions of them would keep others waiting for long."""
    tenant = fresh_tenant()
    assert ids(post(strict, b"\n" * MAX_LINES + b"{}", tenant)) == [1]
    refused(strict, b"\n" * (MAX_LINES + 1) + b"{}", status=413)


@pytest.mark.parametrize("way", ["Content-Length", "chunks"])
def test_max_bulk_bytes_bounds_a_body(start_bell: Callable[..., Bell], way: str) -> None:
    bell = start_bell(MAX_BULK_BYTES="70000")
    before = dump(bell.database)
    for size, status in ((70_000, 201), (70_001, 413)):
        body = b"{}\n" + b" " * (size - 6) + b"{}\n"
        assert len(body) == size
        if way == "chunks":
            head = head_of("acme", "Transfer-Encoding: chunked")
            answer = exchange(bell, head + b"%x\r\n%s\r\n0\r\n\r\n" % (size, body))
        else:
            answer = post(bell, body)
        assert answer.status == status, answer
        if status == 413:
            assert answer.headers["content-type"] == "application/problem+json"
    assert count(bell) == 2
    assert before != dump(bell.database)
    endless = head_of("acme", "Transfer-Encoding: chunked") + b"1\r\n{\r\n" * 60_000
    assert exchange(bell, endless + b"0\r\n\r\n").status in (400, 413)


def test_what_a_head_promises_beyond_the_bound_is_refused_at_once(bell: Bell) -> None:
    for length in ("67108865", "99999999999", "999999999999999999"):
        with Line(bell.port) as line:
            line.send(head_of("acme", f"Content-Length: {length}") + b"{}\n")
            assert line.answer().status == 413


# Meanwhile


def test_others_go_on_while_a_batch_is_written(faulty: Callable[..., Faulty]) -> None:
    bell = faulty(INSTANT_SECONDS="0")
    first = [bell.create() for _ in range(50)]
    bell.set_fault(SLOW_DISK)
    sending = Sending(bell, some(2 * MIDDLE))
    singles: list[int] = []
    opened = 0
    with Watch(bell) as watch:
        watch.wait_for(1)
        low, high = watch.range()
        while watch.written() is not None:
            singles.append(bell.create(campaign="spring"))
            email = first[opened % len(first)]
            bell.get(f"/acme/pixel/{email}.gif")
            bell.get(f"/acme/click/{singles[-1]}?url=https://example.com/")
            guessed = low + opened
            assert bell.get(f"/acme/pixel/{guessed}.gif").status == 200
            if watch.written() is None:
                break  # that guess may have come late enough to count
            opened += 1
            assert not bell.rows("SELECT 1 FROM events WHERE email = ?", guessed)
    answer = sending.result()
    assert answer
    made = ids(answer)
    assert opened >= 3, "the batch was over too soon"
    assert made == list(range(low, high + 1))
    assert len(made) == 2 * MIDDLE
    assert set(made).isdisjoint(singles + first)
    assert len(set(singles)) == len(singles)
    [(n,)] = bell.rows("SELECT count(*) FROM events WHERE kind = 0 AND email <= 50")
    assert n >= opened
    [(n,)] = bell.rows("SELECT count(*) FROM events WHERE kind = 1")
    assert n == len(singles)
    in_batch = "SELECT count(*) FROM events WHERE email BETWEEN ? AND ?"
    [(n,)] = bell.rows(in_batch, low, low + opened - 1)
    assert n == 0
    bell.get(f"/acme/pixel/{low}.gif")
    assert bell.rows(in_batch, low, low) == [(1,)]
    expected = {"": 2 * MIDDLE + 50 + len(singles), "spring": 2 * MIDDLE + len(singles)}
    assert sent(bell) == expected
    check_file(bell.database)


def test_a_batch_of_another_waits_for_its_turn(faulty: Callable[..., Faulty]) -> None:
    bell = faulty()
    bell.set_fault(SLOW_DISK)
    every = [Sending(bell, some(4000), f"tenant{n}") for n in range(5)]
    every += [Sending(bell, some(600)) for _ in range(3)]
    with Watch(bell) as watch:
        watch.wait_for(1)
        found = watch.connection.execute("SELECT count(*) FROM pending").fetchall()
        assert found[0][0] == 1
    answers = [one.result() for one in every]
    assert all(answers)
    made = [ids(answer) for answer in answers if answer]
    assert made[:5] == [list(range(1, 4001))] * 5
    assert sorted(email for one in made[5:] for email in one) == list(range(1, 1801))
    check_file(bell.database)


def test_past_16_that_wait_batches_are_refused_and_told_to_come_again(
    faulty: Callable[..., Faulty],
) -> None:
    bell = faulty()
    bell.set_fault("slow 0.05")
    every = [Sending(bell, some(2000))] + [Sending(bell, b"{}\n" * 2) for _ in range(24)]
    answers = [one.result() for one in every]
    bell.set_fault("")
    found = [answer for answer in answers if answer]
    assert len(found) == 25
    for answer in found:
        if answer.status != 201:
            assert answer.status == 503
            assert answer.headers["retry-after"].isdigit()
    made = [email for answer in found if answer.status == 201 for email in ids(answer)]
    assert len(made) < 2000 + 48, "none was refused"
    assert len(made) == len(set(made)) == count(bell)
    check_file(bell.database)


# Clients that go away


def await_quiet(bell: Bell) -> None:
    """Nothing is being written, and pages are served."""
    settle(bell)
    assert bell.get("/acme/dashboard").status == 200


def test_a_client_that_goes_away_amid_its_upload_creates_nothing(bell: Bell) -> None:
    tenant = fresh_tenant()
    data = raw_post(tenant, some(3000))
    for end in (data.index(b"\r\n\r\n") + 4, 5000, len(data) // 2, len(data) - 1):
        for way in ("close", "reset", "half-close"):
            with Line(bell.port) as line:
                line.send(data[:end])
                if way == "reset":
                    line.reset()
                elif way == "half-close":
                    line.no_more()
                    line.rest()
    await_quiet(bell)
    assert bell.rows("SELECT 1 FROM tenants WHERE name = ?", tenant) == []


def test_clients_that_go_away_leave_room_for_others(bell: Bell) -> None:
    """There are 256 places in the slow lane; none may be lost."""
    pieces = [b"", b"{", some(100)]
    for n in range(300):
        with Line(bell.port) as line:
            line.send(head_of("acme", "Content-Length: 500000") + pieces[n % 3])
            if n % 2:
                line.reset()
        if n % 20 == 19:
            time.sleep(0.05)  # 64 uploads at once are allowed
    await_quiet(bell)
    assert ids(post(bell, b"{}\n", fresh_tenant())) == [1]


def test_a_client_that_goes_away_while_it_waits_has_its_batch_or_nothing(
    faulty: Callable[..., Faulty],
) -> None:
    bell = faulty()
    bell.set_fault(SLOW_DISK)
    for n in range(4):
        before = count(bell)
        with Watch(bell) as watch, Line(bell.port) as line:
            line.send(raw_post("acme", some(4000)))
            if n % 2:
                watch.wait_for(1000)
            line.reset()
            if not n % 2:
                time.sleep(0.1)
        settle(bell)
        time.sleep(0.3)
        settle(bell)
        assert count(bell) in (before, before + 4000)
    bell.set_fault("")
    await_quiet(bell)
    check_file(bell.database)


def test_a_client_that_goes_away_amid_the_answer_has_its_batch(bell: Bell) -> None:
    tenant = fresh_tenant()
    for n in range(1, 4):
        with Line(bell.port, receive_buffer=4096) as line:
            line.send(raw_post(tenant, some(20_000)))
            assert line.socket.recv(100).startswith(b"HTTP/1.1 201 ")
            line.reset()
        assert count(bell, tenant) == 20_000 * n
    await_quiet(bell)
    assert sent(bell, tenant) == {"": 60_000, "spring": 60_000}


def test_a_slow_reader_gets_its_answer_and_holds_up_nobody(bell: Bell) -> None:
    tenant = fresh_tenant()
    with Line(bell.port, receive_buffer=4096) as line:
        line.send(raw_post(tenant, some(30_000)))
        line.socket.recv(10)
        time.sleep(0.5)
        assert ids(post(bell, some(10), fresh_tenant())) == list(range(1, 11))
        await_quiet(bell)
        rest = line.rest()
    assert rest.count(b'"email_id"') == 30_000


@linux
def test_each_request_in_the_slow_lane_is_counted_out_once(
    start_bell: Callable[..., Bell],
) -> None:
    """The lane is let go once it holds none; one too many or too few would keep it for ever."""
    bell = start_bell(SLOW_LANE_IDLE_SECONDS="0.2", REQUEST_SECONDS="1")
    whole = raw_post("acme", some(3000))
    promise = head_of("acme", "Content-Length: 500000")
    leaving = [whole[:400], whole[:200_000], whole, promise + b"x" * 600_000]
    for group in ("served", "refused", "gone", "reset", "late"):
        if group == "served":
            assert len(ids(post(bell, some(3000), Idempotency_Key="a"))) == 3000
            assert len(ids(post(bell, some(3000), Idempotency_Key="a"))) == 3000
            assert bell.get("/acme/dashboard").status == 200
        elif group == "refused":
            assert post(bell, b"1\n").status == 400
            assert post(bell, b"[1]", kind=LIST).status == 400
            assert post(bell, b"{}\n", "_").status == 404
            assert post(bell, b"{}\n", Idempotency_Key="a").status == 422
            assert exchange(bell, head_of("acme", "Content-Length: 99999999")).status == 413
            bad = head_of("acme", "Transfer-Encoding: chunked") + b"nonsense\r\n"
            assert exchange(bell, bad).status == 400
        elif group == "late":
            assert exchange(bell, promise).status == 408
        else:
            for data in leaving:
                with Line(bell.port) as line:
                    line.send(data)
                    if group == "reset":
                        line.reset()
        assert bell.metrics()["slow_lane_starts_total"] >= 1
        wait_until(lambda: not alive(bell))


@linux
def test_nothing_is_left_open_once_clients_are_gone(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    assert ids(post(bell, some(2000))) == list(range(1, 2001))
    lanes = (bell.pid, slow_lane(bell))
    time.sleep(0.2)
    before = {pid: descriptors(pid) for pid in lanes}

    def come_and_go() -> None:
        for _ in range(10):
            post(bell, some(2000))
            post(bell, some(2000) + b"nonsense")
            post(bell, b"[{}, 1]", kind=LIST)
            with Line(bell.port) as line:
                line.send(raw_post("acme", some(9000))[:300_000])
            with Line(bell.port) as line:
                line.send(raw_post("acme", some(9000)))
                line.reset()

    for _ in range(2):
        come_and_go()
        wait_until(lambda: all(descriptors(pid) <= n + 2 for pid, n in before.items()))
    assert slow_lane(bell) == lanes[1], "the slow lane did not live through it"


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[Bell]:
    """A server whose lanes may have 64 descriptors each."""
    program = ["sh", "-c", f"ulimit -n 64; exec {sys.executable} -m little_bell"]
    bell = Bell(tmp_path, program)
    try:
        yield bell.start()
    finally:
        bell.end()


def test_the_bell_lives_on_when_its_descriptors_run_out(cramped: Bell) -> None:
    idle = [Line(cramped.port) for _ in range(200)]
    try:
        for _ in range(3):
            assert cramped.ask("GET", "/health").status == 200
            assert cramped.create() > 0
    finally:
        for line in idle:
            line.socket.close()
    assert ids(post(cramped, b"{}\n" * 600)) == list(range(4, 604))
    assert cramped.stop() == 0


def test_the_slow_lane_lives_on_when_its_descriptors_run_out(cramped: Bell) -> None:
    assert cramped.get("/acme/dashboard").status == 200
    slow = [Line(cramped.port) for _ in range(62)]
    try:
        for n, line in enumerate(slow):
            line.send(head_of("acme", "Content-Length: 1000000") + b" " * 10_000 * (n % 3 * 8))
            time.sleep(0.005)
        time.sleep(0.3)
    finally:
        for line in slow:
            line.socket.close()
    wait_until(lambda: post(cramped, b"{}\n", "after").status == 201)
    assert cramped.get("/acme/dashboard").status == 200
    assert cramped.metrics()["slow_lane_starts_total"] == 1


def test_a_batch_whose_descriptor_was_lost_is_told_to_come_again() -> None:
    """The kernel delivers the message alone where the table of descriptors is full."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, PACKET)
    lane = SlowLane({}, 60.0)
    with ours, theirs:
        ours.setblocking(False)
        lane.channel, lane.in_flight = ours, 2
        for message in (b"7 1234", b"dashboard 200 1500"):
            theirs.send(message)
        assert lane.reports() == [("dashboard", 200, 0.0015)]
        assert (lane.arrivals, lane.in_flight) == ([], 1)
        assert theirs.recv(100) == b"7 503 0"


def test_all_bodies_together_are_bounded_as_long_as_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait for their turn as well: a body that came whole is still on the disk."""
    monkeypatch.setattr("little_bell.wire.intake.SPOOLED", 250_000)
    intake = Intake(
        Config({}), Addresses(Keyring([b"k"]), False), lambda _message, _descriptor: None
    )
    exchanges: list[Exchange] = []
    ends: list[socket.socket] = []
    try:
        for _ in range(3):
            intake.bound(exchanges)
            ours, theirs = socket.socketpair()
            ends.append(ours)
            one = Exchange(theirs, head_of("acme", "Content-Length: 100000"), 0.0, 15.0)
            exchanges.append(one)
            assert one.reader.next() is not None
            one.spool_body(str(tmp_path), 1 << 20)
            ours.sendall(b" " * 100_000)
            while one.reader.next() is None:
                one.receive(0.0)
        with pytest.raises(Refused):
            intake.bound(exchanges)
        with pytest.raises(Refused):
            intake.admit(exchanges)
        exchanges[0].answer(b"", 0.0, 15.0)
        intake.admit(exchanges)
    finally:
        for one in exchanges:
            one.close()
        for end in ends:
            end.close()


def test_a_slow_upload_ends_with_408(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(REQUEST_SECONDS="1")
    bell.create()
    before = dump(bell.database)
    with Line(bell.port) as one, Line(bell.port) as other, Line(bell.port) as trickle:
        one.send(head_of("acme", "Content-Length: 4000000"))
        other.send(head_of("acme", "Content-Length: 4000000") + b"{}\n{}\n")
        trickle.send(head_of("acme", "Transfer-Encoding: chunked") + b"3\r\n{}\n\r\n")
        deadline = time.monotonic() + 15
        try:
            while time.monotonic() < deadline:  # a byte now and then buys no time
                trickle.send(b"1\r\n\n\r\n")
                time.sleep(0.1)
        except ConnectionError:
            pass
        assert time.monotonic() < deadline, "a trickle goes on for ever"
        for line in (one, other):
            answer = line.answer()
            assert answer.status == 408
            assert answer.headers["content-type"] == "application/problem+json"
            assert line.closed
    assert dump(bell.database) == before


def test_many_slow_uploads_keep_nobody_from_being_served(bell: Bell) -> None:
    tenant = fresh_tenant()
    slow = [Line(bell.port) for _ in range(50)]
    try:
        for n, line in enumerate(slow):
            begin = some(n * 20)
            line.send(head_of(tenant, f"Content-Length: {len(begin) + 3}") + begin)
        time.sleep(0.3)
        for _ in range(3):
            assert bell.get("/acme/dashboard").status == 200
            assert len(ids(post(bell, some(600), fresh_tenant()))) == 600
        made = []
        for line in slow:
            line.send(b"{}\n")
            made += ids(line.answer())
    finally:
        for line in slow:
            line.socket.close()
    assert sorted(made) == list(range(1, 50 + 20 * 50 * 49 // 2 + 1))


def test_of_more_than_64_uploads_the_slowest_give_way_and_pages_are_served(bell: Bell) -> None:
    slow = [Line(bell.port) for _ in range(80)]
    try:
        for line in slow:
            line.send(head_of("acme", "Content-Length: 100000") + b"{}\n")
        assert bell.get("/acme/dashboard").status == 200
        sockets = {line.socket: line for line in slow}
        wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) >= 16)
        for ready in select.select(sockets, [], [], 0)[0]:
            answer = sockets[ready].answer()
            assert answer.status == 408
        # Nobody waits for those that stall.
        assert ids(post(bell, some(50), "beside")) == list(range(1, 51))
    finally:
        for line in slow:
            line.socket.close()
    wait_until(lambda: post(bell, b"{}\n", "after").status == 201)


# Kills and stops


def written_now(bell: Bell) -> int:
    """Emails of a pending batch in the file of a server that is gone."""
    with Watch(bell) as watch:
        return watch.written() or 0


def refused_or_broken(sending: Sending) -> None:
    answer = sending.result()
    if answer is not None:  # the other lane lived long enough to say so
        assert answer.status == 503
        assert answer.headers["retry-after"].isdigit()


def kill_amid_a_batch(bell: Faulty, chance: random.Random) -> None:
    """Kill in the middle of a batch, and of the sweep behind it; nothing of it may remain."""
    before = contents(bell.database)
    last = bell.create("acme")
    expected = dict(contents(bell.database))
    assert expected != before
    bell.set_fault(SLOW_DISK)
    sending = Sending(bell, some(MIDDLE, f"campaign{last}"), Idempotency_Key=f"key{last}")
    with Watch(bell) as watch:
        watch.wait_for(chance.randrange(500, MIDDLE - 5000))
        _, high = watch.range()
    bell.kill()
    refused_or_broken(sending)
    assert written_now(bell) > 0, "the kill did not hit the middle"
    for _ in range(chance.randrange(3)):  # the sweep is slow, too
        bell.start()
        assert bell.create("other") > 0
        expected = {}
        time.sleep(chance.uniform(0, 0.2))
        bell.kill()
    bell.set_fault("")
    bell.start()
    settle(bell)
    if expected:
        assert contents(bell.database) == expected
    assert bell.rows("SELECT 1 FROM emails WHERE tenant = 1 AND email > ?", last) == []
    assert bell.rows("SELECT 1 FROM states WHERE tenant = 1 AND email > ?", last) == []
    assert bell.rows("SELECT 1 FROM campaigns") == []
    assert bell.rows("SELECT 1 FROM idempotency") == []
    check_file(bell.database)
    check_folder(bell)
    assert bell.create("acme") == high + 1


def test_kills_amid_a_batch_leave_nothing_of_it(faulty: Callable[..., Faulty], soak: bool) -> None:
    chance, bell = random.Random(), faulty()
    for _ in range(100 if soak else 3):
        kill_amid_a_batch(bell, chance)
    made = ids(post(bell, some(1000), Idempotency_Key="key1"))
    assert len(made) == 1000
    assert sent(bell)["spring"] == 1000


def test_kills_at_any_moment_leave_all_or_nothing(
    start_bell: Callable[..., Bell], soak: bool
) -> None:
    chance, bell = random.Random(), start_bell()
    expected = 0
    for _ in range(200 if soak else 6):
        sending = Sending(bell, some(3000))
        time.sleep(chance.uniform(0, 0.15))
        bell.kill()
        answer = sending.result()
        bell.start()
        settle(bell)
        found = count(bell)
        assert found in (expected, expected + 3000)
        if answer is None or answer.status == 503:
            pass  # the slow lane may live long enough to say so
        else:
            assert ids(answer)[-1] <= bell.create() - 1
            assert found == expected + 3000, "an answered batch is lost"
            found += 1
        expected = found
        check_file(bell.database)
        check_folder(bell)


@linux
def test_a_kill_of_the_slow_lane_amid_a_batch_leaves_nothing_of_it(
    faulty: Callable[..., Faulty],
) -> None:
    bell = faulty()
    bell.create()
    expected = contents(bell.database)
    for _ in range(3):
        bell.set_fault(SLOW_DISK)
        sending = Sending(bell, some(MIDDLE))
        waiting = Sending(bell, some(100), "other")
        with Watch(bell) as watch:
            watch.wait_for(2000)
        os.kill(slow_lane(bell), signal.SIGKILL)
        bell.set_fault("")
        refused_or_broken(sending)
        other = waiting.result()
        settle(bell)
        if other is None:
            assert contents(bell.database) == expected
        else:
            expected = contents(bell.database)
        assert count(bell) == 1
        assert bell.get("/acme/dashboard").status == 200
        check_folder(bell)
    made = ids(post(bell, some(500)))
    assert len(made) == 500
    assert made[0] > 1 + 3 * MIDDLE, "ids are used twice"
    check_file(bell.database)


def test_sigterm_amid_a_batch_leaves_all_or_nothing(faulty: Callable[..., Faulty]) -> None:
    bell = faulty()
    expected = 0
    for _ in range(2):
        bell.set_fault(SLOW_DISK)
        sending = Sending(bell, some(MIDDLE))
        with Watch(bell) as watch:
            watch.wait_for(1000)
        assert bell.stop() == 0
        answer = sending.result()
        assert answer is not None, "the connection broke without an answer"
        if answer.status == 201:
            expected += len(ids(answer))
        else:
            assert answer.status == 503
            assert answer.headers["retry-after"].isdigit()
        check_folder(bell)
        bell.set_fault("")
        bell.start()
        settle(bell)
        assert count(bell) == expected
        check_file(bell.database)
    assert len(ids(post(bell, some(1000)))) == 1000


# The disk fails


@pytest.mark.parametrize("fault", ["full", "sync"])
def test_a_disk_that_fails_amid_a_batch_leaves_nothing_of_it(
    faulty: Callable[..., Faulty], fault: str
) -> None:
    bell = faulty()
    assert bell.create() == 1
    expected = contents(bell.database)
    bell.set_fault(SLOW_DISK)
    sending = Sending(bell, some(MIDDLE, "new"), Idempotency_Key="one")
    with Watch(bell) as watch:
        watch.wait_for(1000)
    waiting = Sending(bell, some(700, "newer"))
    time.sleep(0.1)
    bell.set_fault(fault)
    answers = [sending.result(), waiting.result()]
    for answer in answers:
        assert answer is not None
        assert answer.status == 503, answer
        assert answer.headers["retry-after"].isdigit()
        assert answer.headers["content-type"] == "application/problem+json"
    late = post(bell, some(10))
    assert late.status == 503
    assert late.headers["retry-after"].isdigit()
    assert late.headers["content-type"] == "application/problem+json"
    assert bell.get("/acme/pixel/1.gif").status == 200
    bell.set_fault("")
    bell.wait_for(200)
    settle(bell)
    found = contents(bell.database)
    for table in ("emails", "campaigns", "idempotency", "pending"):
        assert found[table] == expected[table], table
    assert sent(bell) == {"": 1}
    assert len(ids(post(bell, some(700, "new"), Idempotency_Key="one"))) == 700
    assert sent(bell) == {"": 701, "new": 700}
    check_file(bell.database)
    check_folder(bell)
    assert bell.stop() == 0


def test_single_failures_of_the_disk_leave_all_or_nothing(faulty: Callable[..., Faulty]) -> None:
    """Repaired at once for the others; the batch may be told to come again."""
    bell = faulty()
    bell.create()
    expected, unsure = 1, 0
    for n in range(8):
        bell.set_fault("")
        sending = Sending(bell, some(3000))
        time.sleep(0.02 * n)
        bell.set_fault("sync-once")
        assert bell.get("/acme/pixel/1.gif").status == 200
        answer = sending.result()
        bell.set_fault("")
        bell.wait_for(200)
        settle(bell)
        assert answer is None or answer.status in (201, 503)
        if answer is not None and answer.status == 201:
            expected += 3000
        elif count(bell) == expected + 3000:  # the commit in doubt was the last of the batch
            expected += 3000
            unsure += 1
        assert count(bell) == expected
        check_file(bell.database)
    assert unsure <= 2
    assert bell.get("/acme/dashboard").status == 200


# Many


@linux
def test_memory_stays_flat_over_batches_of_100000(start_bell: Callable[..., Bell]) -> None:
    """A first batch warms caches; each other one may add 1 MiB at most, of the 8 MB it brings."""
    bell = start_bell(LOG_LEVEL="info")
    emails = (f"ada{n}@example.com" for n in range(MAX_LINES))
    body = lines({"subject": "Hello", "recipient": one, "campaign": "spring"} for one in emails)
    assert len(ids(post(bell, body))) == MAX_LINES
    slow = slow_lane(bell)
    before = bell.metrics()["memory_bytes"]
    rounds = 2
    for n in range(1, rounds + 1):
        answer = post(bell, body)
        assert ids(answer) == list(range(n * MAX_LINES + 1, (n + 1) * MAX_LINES + 1))
    assert bell.metrics()["memory_bytes"] - before < rounds << 20
    assert count(bell) == (rounds + 1) * MAX_LINES
    assert sent(bell) == dict.fromkeys(("", "spring"), (rounds + 1) * MAX_LINES)
    more = post(bell, body + b"{}\n")
    assert more.status == 413
    assert count(bell) == (rounds + 1) * MAX_LINES
    assert slow_lane(bell) == slow
