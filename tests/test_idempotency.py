"""Idempotency-Key: the same request gets the same answer, and nothing is created twice."""

import http.client
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batches import (
    NDJSON,
    Sending,
    Watch,
    check_file,
    contents,
    count,
    head_of,
    ids,
    post,
    raw_post,
    settle,
    some,
)
from bell import (
    Answer,
    Bell,
    Line,
    dump,
    exchange,
    fresh_tenant,
    raw_request,
    read_rows,
    serving,
)
from little_bell.store.memory import Limits
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail, Once
from test_disk_errors import PROGRAM, Faulty

JSON = "application/json"
HOUR = 3_600_000  # milliseconds
DAY = 24 * HOUR
NOON = 1_767_614_400_000  # 2026-01-05 12:00:00 UTC

FORMS = {
    "single": (JSON, b'{"subject": "Hello"}', 1),
    "large single": (JSON, b'{"subject": "Hello"}' + b" " * 65_530, 1),
    "list": (JSON, b'[{"subject": "Hello"}, {}, {}]', 3),
    "large list": (
        JSON,
        b"[" + b",".join([b'{"subject": "Hello there"}'] * 999) + b" " * 66_000 + b"]",
        999,
    ),
    "lines": (NDJSON, b'{"subject": "Hello"}\n{}\n', 2),
    "many lines": (NDJSON, b"{}\n" * 1200, 1200),
}

forms = pytest.mark.parametrize(("kind", "body", "emails"), FORMS.values(), ids=FORMS.keys())


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("once"), MAX_BODY_BYTES="100000") as bell:
        yield bell


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    """A server whose disk can be told to fail or to be slow."""
    bell = Faulty(tmp_path, PROGRAM, FAULT=str(tmp_path / "fault"))
    try:
        bell.start()
        yield bell
    finally:
        bell.end()


def keyed(bell: Bell, tenant: str, key: str, kind: str, body: bytes) -> Answer:
    return post(bell, body, tenant, kind, Idempotency_Key=key)


@forms
def test_the_same_request_gets_the_same_answer(
    bell: Bell, kind: str, body: bytes, emails: int
) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    first = keyed(bell, tenant, "a", kind, body)
    assert ids(first) == list(range(2, emails + 2))
    before = dump(bell.database)
    for _ in range(3):
        again = keyed(bell, tenant, "a", kind, body)
        assert (again.status, again.body) == (201, first.body)
        assert again.headers["content-type"] == first.headers["content-type"]
    assert dump(bell.database) == before
    assert bell.create(tenant) == emails + 2


@forms
def test_another_body_is_refused(bell: Bell, kind: str, body: bytes, emails: int) -> None:
    tenant = fresh_tenant()
    first = keyed(bell, tenant, "a", kind, body)
    before = dump(bell.database)
    for other_kind, other in (
        (kind, body + b" "),
        (JSON, b'{"subject": "x"}'),
        (JSON, b"[{}]"),
        (NDJSON, b'{}\n{"subject": "x"}'),
    ):
        answer = keyed(bell, tenant, "a", other_kind, other)
        assert answer.status == 422, answer
        assert answer.headers["content-type"] == "application/problem+json"
    assert dump(bell.database) == before
    assert keyed(bell, tenant, "a", kind, body).body == first.body


@forms
def test_another_key_or_none_creates_again(bell: Bell, kind: str, body: bytes, emails: int) -> None:
    tenant = fresh_tenant()
    every = [keyed(bell, tenant, key, kind, body) for key in ("a", "b", "A")]
    every += [post(bell, body, tenant, kind) for _ in range(2)]
    made = [email for answer in every for email in ids(answer)]
    assert made == list(range(1, 5 * emails + 1))


@forms
def test_keys_are_the_tenants_own(bell: Bell, kind: str, body: bytes, emails: int) -> None:
    one, other = fresh_tenant(), fresh_tenant()
    keyed(bell, one, "a", kind, body)
    assert keyed(bell, other, "a", JSON, b'{"subject": "another"}').json["email_id"] == 1
    assert keyed(bell, one, "a", JSON, b'{"subject": "another"}').status == 422
    assert ids(keyed(bell, one, "a", kind, body)) == list(range(1, emails + 1))


@forms
@pytest.mark.parametrize("key", ["", "x" * 256])
def test_bad_keys_are_refused(bell: Bell, kind: str, body: bytes, emails: int, key: str) -> None:
    before = dump(bell.database)
    answer = keyed(bell, "stranger", key, kind, body)
    assert answer.status == 400
    assert "Idempotency-Key" in answer.json["detail"]
    assert dump(bell.database) == before


@forms
@pytest.mark.parametrize("key", ["x" * 255, "8e03978e-40d5-43e8-bc93-6894a57f9324", '"q,;\'"', "é"])
def test_keys_may_be_any_bytes(bell: Bell, kind: str, body: bytes, emails: int, key: str) -> None:
    tenant = fresh_tenant()
    first = keyed(bell, tenant, key, kind, body)
    assert len(ids(first)) == emails
    assert keyed(bell, tenant, key, kind, body).body == first.body


@forms
def test_refused_requests_are_not_remembered(
    bell: Bell, kind: str, body: bytes, emails: int
) -> None:
    tenant = fresh_tenant()
    for bad_kind, bad in (
        (JSON, b'{"subject": 1}'),
        (JSON, b"[1]"),
        (NDJSON, b"{}\n1\n"),
        (NDJSON, b""),
        (JSON, b"[]"),
    ):
        assert keyed(bell, tenant, "a", bad_kind, bad).status == 400
    assert ids(keyed(bell, tenant, "a", kind, body)) == list(range(1, emails + 1))


def test_texts_and_keys_are_not_kept(bell: Bell) -> None:
    tenant = fresh_tenant()
    keyed(bell, tenant, "a secret key", NDJSON, b"{}\n")
    [row] = bell.rows(
        "SELECT key, digest, first, count FROM idempotency JOIN tenants USING (tenant) "
        "WHERE name = ?",
        tenant,
    )
    assert b"secret" not in row[0]
    assert (len(row[0]), len(row[1]), *row[2:]) == (16, 16, 1, 1)


def test_the_framing_of_a_body_does_not_matter(bell: Bell) -> None:
    tenant = fresh_tenant()
    for kind, body in ((JSON, b'{"subject": "a"}'), (JSON, b"[{}, {}]"), (NDJSON, b"{}\n{}\n")):
        first = keyed(bell, tenant, kind + str(len(body)), kind, body)
        head = head_of(
            tenant,
            "Transfer-Encoding: chunked",
            f"Idempotency-Key: {kind}{len(body)}",
            kind=kind,
        )
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        assert exchange(bell, head + chunks).body == first.body


# Two at once


def test_of_two_in_one_tick_one_is_created(bell: Bell) -> None:
    for n in range(20):
        tenant = fresh_tenant()
        one = raw_post(tenant, b'{"subject": "a"}', f"Idempotency-Key: k{n}", kind=JSON)
        other = raw_post(tenant, b'{"subject": "b"}', f"Idempotency-Key: k{n}", kind=JSON)
        with Line(bell.port) as line:
            line.send(one * 3 + other)
            answers = [line.answer() for _ in range(4)]
        assert ids(answers[0]) == [1]
        for answer in answers[1:3]:
            assert answer.status == 409 or ids(answer) == [1]
            assert answer.status == 201 or answer.headers["retry-after"].isdigit()
        assert answers[3].status in (409, 422)
        assert count(bell, tenant) == 1


@forms
def test_of_many_at_once_one_is_created(bell: Bell, kind: str, body: bytes, emails: int) -> None:
    tenant = fresh_tenant()
    every = [Sending(bell, body, tenant, kind, Idempotency_Key="a") for _ in range(8)]
    answers = [one.result() for one in every]
    created = [answer for answer in answers if answer and answer.status == 201]
    assert len({answer.body for answer in created}) == 1
    for answer in answers:
        assert answer
        assert answer.status in (201, 409)
        assert answer.status == 201 or answer.headers["retry-after"].isdigit()
    assert ids(created[0]) == list(range(1, emails + 1))
    assert count(bell, tenant) == emails
    assert keyed(bell, tenant, "a", kind, body).body == created[0].body


@pytest.mark.alone
def test_while_a_batch_is_written_its_key_is_taken(faulty: Faulty) -> None:
    bell, body = faulty, some(20_000)
    bell.set_fault("slow 0.02")
    sending = Sending(bell, body, Idempotency_Key="a")
    with Watch(bell) as watch:
        watch.wait_for(500)
        for kind, other in ((JSON, b"{}"), (JSON, b"[{}]"), (NDJSON, b"{}\n{}\n"), (NDJSON, body)):
            answer = keyed(bell, "acme", "a", kind, other)
            if watch.written() is None:
                break
            assert answer.status == 409, answer
            assert answer.headers["retry-after"].isdigit()
            assert answer.headers["content-type"] == "application/problem+json"
        assert watch.written() is not None, "the batch was over too soon"
        assert ids(keyed(bell, "other", "a", JSON, b"{}")) == [1]
    first = sending.result()
    assert first
    assert len(ids(first)) == 20_000
    bell.set_fault("")
    assert keyed(bell, "acme", "a", NDJSON, body).body == first.body
    assert keyed(bell, "acme", "a", JSON, b"{}").status == 422
    assert count(bell) == 20_000
    check_file(bell.database)


def test_one_email_and_a_batch_of_the_same_tick_and_key_are_not_both_created(
    faulty: Faulty,
) -> None:
    """A slow commit lets both come together, in either order."""
    bell = faulty
    for n in range(16):
        tenant = fresh_tenant()
        key = f"Idempotency-Key: k{n}"
        with Line(bell.port) as busy, Line(bell.port) as single, Line(bell.port) as many:
            many.send(raw_post(tenant, b"{}\n{}\n", key)[:-1])  # waits in the slow lane
            for line in (single, busy):
                line.send(raw_request())
                assert line.answer().status == 200
            bell.set_fault("slow 0.1")
            busy.send(raw_post("busy", b"{}", kind=JSON))
            time.sleep(0.03)  # now it is in its commit
            single.send(raw_post(tenant, b'{"subject": "a"}', key, kind=JSON))
            many.send(b"\n")
            assert ids(busy.answer()) == [n + 1]
            bell.set_fault("")
            answers = [many.answer(), single.answer()]
        assert sorted(answer.status for answer in answers) in ([201, 409], [201, 422]), answers
        assert count(bell, tenant) == (2 if answers[0].status == 201 else 1)


# What survives


@pytest.mark.parametrize(
    ("kind", "body", "emails"), [FORMS["single"], FORMS["list"], FORMS["many lines"]]
)
def test_keys_survive_a_restart(
    start_bell: Callable[..., Bell], kind: str, body: bytes, emails: int
) -> None:
    bell = start_bell(MAX_BODY_BYTES="100000", BASE_URL="http://track.example")
    first = keyed(bell, "acme", "a", kind, body)
    assert bell.stop() == 0
    bell.start()
    assert keyed(bell, "acme", "a", kind, body).body == first.body
    bell.kill()
    bell.start()
    assert keyed(bell, "acme", "a", kind, body).body == first.body
    assert keyed(bell, "acme", "a", JSON, b"{}").status == 422
    assert count(bell) == emails


def retry(bell: Bell, key: str, kind: str, body: bytes) -> Answer:
    """As a client does: again and again until it is created."""
    deadline = time.monotonic() + 30
    while True:
        answer = keyed(bell, "acme", key, kind, body)
        if answer.status == 201:
            return answer
        assert answer.status in (409, 503), answer
        assert time.monotonic() < deadline, "it is never created"
        time.sleep(0.05)


def test_whatever_is_retried_after_a_kill_is_created_once(
    start_bell: Callable[..., Bell], soak: bool
) -> None:
    chance, bell = random.Random(), start_bell()
    expected: list[int] = []
    kinds = [FORMS["single"], FORMS["lines"], FORMS["list"], FORMS["many lines"]]
    for n in range(300 if soak else 12):
        kind, body, emails = kinds[n % 4]
        with Line(bell.port) as line:
            line.send(raw_post("acme", body, f"Idempotency-Key: k{n}", kind=kind))
            time.sleep(chance.choice((0, 0.001, 0.003, 0.01, 0.03)))
            bell.kill()
        bell.start()
        made = ids(retry(bell, f"k{n}", kind, body))
        assert len(made) == emails
        assert ids(retry(bell, f"k{n}", kind, body)) == made
        expected += made
        found = [email for (email,) in bell.rows("SELECT email FROM emails ORDER BY email")]
        assert found == expected, "what was retried is there twice, or not at all"
    settle(bell)
    check_file(bell.database)


@pytest.mark.parametrize("fault", ["full", "sync"])
def test_a_request_that_the_disk_refused_may_come_again(faulty: Faulty, fault: str) -> None:
    bell = faulty
    known = keyed(bell, "acme", "known", NDJSON, b"{}\n{}\n")
    bell.set_fault(fault)
    for n, (kind, body, _) in enumerate(list(FORMS.values())[:1] + list(FORMS.values())[2:]):
        assert keyed(bell, "acme", f"k{n}", kind, body).status == 503
    bell.set_fault("")
    bell.wait_for(200)
    settle(bell)
    total = 2
    for n, (kind, body, emails) in enumerate(list(FORMS.values())[:1] + list(FORMS.values())[2:]):
        made = ids(retry(bell, f"k{n}", kind, body))
        assert len(made) == emails
        total += emails
        assert count(bell) == total
    assert keyed(bell, "acme", "known", NDJSON, b"{}\n{}\n").body == known.body
    check_file(bell.database)


def test_a_single_failure_of_the_disk_creates_nothing_twice(faulty: Faulty) -> None:
    bell, total = faulty, 0
    for n in range(12):
        kind, body, emails = list(FORMS.values())[(0, 2, 4, 5)[n % 4]]
        bell.set_fault("sync-once")
        try:
            keyed(bell, "acme", f"k{n}", kind, body)
        except (OSError, http.client.HTTPException):
            pass
        made = ids(retry(bell, f"k{n}", kind, body))
        total += emails
        assert len(made) == emails
        settle(bell)
        assert count(bell) == total
    check_file(bell.database)


def test_an_email_that_a_kill_undid_has_no_key(faulty: Faulty) -> None:
    bell = faulty
    bell.create()
    expected = contents(bell.database)
    bell.set_fault("slow 0.02")
    sending = Sending(bell, some(20_000), Idempotency_Key="a")
    with Watch(bell) as watch:
        watch.wait_for(1000)
    bell.kill()
    sending.result()
    bell.set_fault("")
    bell.start()
    assert keyed(bell, "acme", "a", JSON, b"{}").status == 201
    settle(bell)
    assert count(bell) == 2
    assert len(contents(bell.database)["idempotency"]) == len(expected["idempotency"]) + 1


# How long: on the store itself, with times of the test's choosing


class Keys:
    """A database whose emails all come with a key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(str(path), Limits())

    def create(self, key: int, at: int, digest: bytes = b"d" * 16) -> int:
        once = Once(b"%016d" % key, digest)
        written = self.writer.write(at, [NewEmail("acme", None, None, None, None, once)], [])
        return written.emails[0][1]

    def known(self, key: int, at: int, tenant: str = "acme") -> int | None:
        found = self.writer.created_before(tenant, b"%016d" % key, at)
        return None if found is None else found.first

    def kept(self) -> list[int]:
        rows = read_rows(self.path, "SELECT first FROM idempotency ORDER BY first")
        return [first for (first,) in rows]


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    keys = Keys(tmp_path / "t.db")
    yield keys
    keys.writer.close()


def test_a_key_is_kept_for_24_hours(keys: Keys) -> None:
    assert keys.create(1, NOON) == 1
    for later in (0, 1, HOUR, DAY - 1):
        assert keys.known(1, NOON + later) == 1
    assert keys.known(1, NOON + DAY + 1) is None
    assert keys.known(2, NOON) is None
    assert keys.known(1, NOON, "other") is None


def test_an_expired_key_is_taken_anew(keys: Keys) -> None:
    keys.create(1, NOON)
    assert keys.create(1, NOON + 2 * DAY, b"e" * 16) == 2
    assert keys.known(1, NOON + 2 * DAY) == 2
    assert keys.kept() == [2]


def test_a_clock_that_ran_ahead_makes_no_key_last_for_ever(keys: Keys) -> None:
    keys.create(1, NOON + 365 * DAY)
    assert keys.known(1, NOON) is None
    keys.create(2, NOON)
    assert keys.kept() == [2]
    assert keys.create(3, NOON + HOUR) == 3
    assert keys.known(3, NOON) == 3, "an hour back is no reason to forget"


def test_a_clock_that_ran_ahead_for_one_key_among_many_lets_go_of_it(keys: Keys) -> None:
    for n in range(10):
        keys.create(n, NOON + n)
    keys.create(10, NOON + 365 * DAY)
    for n in range(11, 20):
        keys.create(n, NOON + n)
    for n in range(20, 40):
        keys.create(n, NOON + DAY + HOUR + n)
    assert keys.kept() == list(range(21, 41))


def test_expired_keys_go_in_small_steps(keys: Keys) -> None:
    for n in range(100):
        keys.create(n, NOON + n)
    before = len(keys.kept())
    assert before == 100
    n, now = 100, NOON + 3 * DAY
    while len(keys.kept()) > n - 99:
        keys.create(n, now)
        n += 1
        after = len(keys.kept())
        assert before - 8 < after <= before + 1, "many went at once, or none"
        before = after
        assert n < 150, "old keys stay"
    assert keys.kept() == list(range(101, n + 1))


def test_a_key_that_was_not_committed_is_not_known(keys: Keys) -> None:
    keys.create(1, NOON)
    email = NewEmail("acme", None, None, None, None, Once(b"%016d" % 2, b"d" * 16))
    assert keys.writer.accepts(NOON, [email], [])  # written and rolled back
    assert keys.known(2, NOON) is None
    assert keys.create(2, NOON) == 2
    keys.writer.close()
    keys.writer = Writer(str(keys.path))
    assert (keys.known(1, NOON), keys.known(2, NOON)) == (1, 2)


def test_answers_are_json_of_their_form(bell: Bell) -> None:
    tenant = fresh_tenant()
    assert json.loads(keyed(bell, tenant, "a", JSON, b"[{}]").body)[0]["email_id"] == 1
    assert keyed(bell, tenant, "b", JSON, b"{}").json["email_id"] == 2
