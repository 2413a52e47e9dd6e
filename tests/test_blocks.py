"""/{tenant}/blocks: what is switched off does not count, and its links lead nowhere"""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bell import Answer, Bell, Line, events, fresh_tenant, raw_request, serving
from little_bell.store.blocks import MAX_BLOCKS, Blocked, gather
from little_bell.tracking.pixel import GIF

EVIL = "https://evil.example/login"
GOOD = "https://example.com/"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("blocks"), INSTANT_SECONDS="0") as bell:
        yield bell


def block(bell: Bell, name: str, /, **what: object) -> Answer:
    return bell.ask("POST", f"/{name}/blocks", what)


def click(bell: Bell, tenant: str, email: int, url: str, **headers: str) -> Answer:
    return bell.get(f"/{tenant}/click/{email}?url={quote(url, safe='')}", **headers)


def sent(bell: Bell, emails: int = 2) -> str:
    """A tenant of its own with some emails."""
    tenant = fresh_tenant()
    for _ in range(emails):
        bell.create(tenant)
    return tenant


def is_gone(answer: Answer, url: str = EVIL) -> bool:
    """A page that says the link was switched off, and not where it led."""
    assert answer.status == 410, answer
    assert "location" not in answer.headers
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "no-store" in answer.headers["cache-control"]
    assert b"switched off" in answer.body
    assert url.encode() not in answer.body
    assert b"evil" not in answer.body
    return True


def test_it_works(bell: Bell) -> None:
    tenant = sent(bell)
    assert click(bell, tenant, 1, EVIL).status == 302
    answer = block(bell, tenant, url="HTTPS://EVIL.example:443/login")
    assert answer.status == 201
    created_at = answer.json.pop("created_at")
    members = {"block": 1, "tenant": False, "email": None, "url": EVIL}
    assert answer.json == members | {"created_at": created_at}
    for email in (1, 2):
        assert is_gone(click(bell, tenant, email, EVIL))
        assert click(bell, tenant, email, GOOD).headers["location"] == GOOD
        assert bell.get(f"/{tenant}/pixel/{email}.gif").body == GIF
    assert is_gone(click(bell, tenant, 1, "https://EVIL.example/./login"))
    counted = [(1, "click"), (1, "click"), (1, "open"), (2, "click"), (2, "open")]
    assert events(bell, tenant) == counted
    assert bell.ask("GET", f"/{tenant}/blocks").json == {
        "blocks": [members | {"created_at": created_at}],
        "next": None,
    }
    assert bell.ask("DELETE", f"/{tenant}/blocks/1").status == 204
    assert click(bell, tenant, 1, EVIL).status == 302
    assert bell.ask("GET", f"/{tenant}/blocks").json["blocks"] == []


def test_an_email(bell: Bell) -> None:
    tenant = sent(bell)
    assert block(bell, tenant, email=2).json["email"] == 2
    pixel, other = (bell.get(f"/{tenant}/pixel/{email}.gif") for email in (2, 1))
    assert (pixel.status, pixel.body) == (other.status, other.body) == (200, GIF)
    assert pixel.headers.keys() == other.headers.keys()
    assert is_gone(click(bell, tenant, 2, GOOD), GOOD)
    assert click(bell, tenant, 1, GOOD).status == 302
    assert events(bell, tenant) == [(1, "open"), (1, "click")]


def test_a_tenant(bell: Bell) -> None:
    tenant, other = sent(bell), sent(bell)
    answer = block(bell, tenant, tenant=True)
    assert (answer.json["tenant"], answer.json["email"], answer.json["url"]) == (True, None, None)
    for email in (1, 2):
        assert bell.get(f"/{tenant}/pixel/{email}.gif").body == GIF
        assert is_gone(click(bell, tenant, email, GOOD), GOOD)
    assert click(bell, tenant, 999, GOOD).status == 404, "no email of the tenant's"
    assert events(bell, tenant) == []
    assert click(bell, other, 1, GOOD).status == 302
    assert bell.create(tenant) == 3, "emails are created all the same"
    assert is_gone(click(bell, tenant, 3, GOOD), GOOD)


def test_head_is_told_as_well(bell: Bell) -> None:
    tenant = sent(bell)
    block(bell, tenant, url=EVIL)
    answer = bell.ask("HEAD", f"/{tenant}/click/1?url={EVIL}")
    assert (answer.status, answer.body) == (410, b"")


def test_it_counts_what_it_does_not_count(bell: Bell) -> None:
    tenant = sent(bell)
    block(bell, tenant, email=1)
    before = bell.metrics()["hits_blocked_total"]
    bell.get(f"/{tenant}/pixel/1.gif")
    click(bell, tenant, 1, GOOD)
    bell.get(f"/{tenant}/pixel/2.gif")
    assert bell.metrics()["hits_blocked_total"] == before + 2


def test_the_same_again_is_the_same(bell: Bell) -> None:
    tenant = sent(bell)
    for what in ({"url": EVIL}, {"email": 1}, {"tenant": True}):
        first, again = block(bell, tenant, **what), block(bell, tenant, **what)
        assert (first.status, again.status) == (201, 200)
        assert first.json == again.json
    assert len(bell.ask("GET", f"/{tenant}/blocks").json["blocks"]) == 3


def test_it_holds_from_the_answer_on(bell: Bell) -> None:
    """Requests of one connection, in one tick or not: what follows the answer is blocked."""
    tenant = sent(bell, 1)
    body = b'{"url": "%s"}' % EVIL.encode()
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/blocks", method="POST", body=body))
        assert line.answer().status == 201
        line.send(raw_request(f"/{tenant}/click/1?url={EVIL}"))
        assert line.answer().status == 410
    assert events(bell, tenant) == []


def test_many_in_one_tick(bell: Bell) -> None:
    """Also with edits of emails among them, and a tenant that goes."""
    tenant = sent(bell, 5)
    requests = [
        raw_request(f"/{tenant}/blocks", method="POST", body=b'{"email": %d}' % n)
        for n in range(1, 6)
    ]
    requests.insert(2, raw_request(f"/{tenant}/emails/5", method="DELETE"))
    requests.append(raw_request(f"/{tenant}/blocks/2", method="DELETE"))
    requests.append(raw_request(f"/{tenant}?confirm={tenant}", method="DELETE"))
    requests.append(raw_request(f"/{tenant}/blocks", method="POST", body=b'{"tenant": true}'))
    with Line(bell.port) as line:
        line.send(b"".join(requests))
        statuses = [line.answer().status for _ in requests]
    assert statuses == [201, 201, 204, 201, 201, 201, 204, 204, 201]
    found = bell.ask("GET", f"/{tenant}/blocks").json["blocks"]
    assert [(one["block"], one["email"], one["tenant"]) for one in found] == [
        (6, None, True),
        (5, 5, False),
        (4, 4, False),
        (3, 3, False),
        (1, 1, False),
    ]
    assert is_gone(click(bell, tenant, 2, GOOD), GOOD)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_outlives_the_server(start_bell: Callable[..., Bell], end: str) -> None:
    bell = start_bell(INSTANT_SECONDS="0")
    tenant = sent(bell)
    assert block(bell, tenant, url=EVIL).status == 201
    assert block(bell, tenant, email=2).status == 201
    assert block(bell, "nobody", tenant=True).status == 404
    getattr(bell, end)()
    bell.start()
    assert is_gone(click(bell, tenant, 1, EVIL))
    assert is_gone(click(bell, tenant, 2, GOOD), GOOD)
    assert click(bell, tenant, 1, GOOD).status == 302
    assert block(bell, tenant, url=GOOD).json["block"] == 3


def test_it_outlives_its_email_and_its_tenant(bell: Bell) -> None:
    tenant = sent(bell)
    block(bell, tenant, url=EVIL)
    block(bell, tenant, email=2)
    assert bell.ask("DELETE", f"/{tenant}/emails/1").status == 204
    assert is_gone(click(bell, tenant, 1, EVIL))
    assert bell.ask("DELETE", f"/{tenant}?confirm={tenant}").status == 204
    assert bell.create(tenant) == 3
    assert is_gone(click(bell, tenant, 3, EVIL))
    assert is_gone(click(bell, tenant, 2, GOOD), GOOD)
    assert click(bell, tenant, 3, GOOD).status == 302
    listed = bell.ask("GET", f"/{tenant}/blocks").json["blocks"]
    assert [one["block"] for one in listed] == [2, 1]
    tenants = bell.rows(
        "SELECT DISTINCT b.tenant, name FROM blocks AS b LEFT JOIN tenants AS t"
        " ON t.tenant = b.tenant"
    )
    assert None not in [name for _, name in tenants], "rows of a number that is gone"


def test_a_number_is_not_given_again(bell: Bell) -> None:
    """Else a DELETE that is sent twice would switch on what is another's."""
    tenant = sent(bell)
    assert block(bell, tenant, email=1).json["block"] == 1
    assert bell.ask("DELETE", f"/{tenant}/blocks/1").status == 204
    assert block(bell, tenant, email=2).json["block"] == 2
    assert bell.ask("DELETE", f"/{tenant}/blocks/1").status == 404
    assert is_gone(click(bell, tenant, 2, GOOD), GOOD)


def test_pages_of_the_list(bell: Bell) -> None:
    tenant = sent(bell, 7)
    for email in range(1, 8):
        block(bell, tenant, email=email)
    found, target = [], f"/{tenant}/blocks?limit=3"
    while target:
        page = bell.ask("GET", target).json
        assert len(page["blocks"]) <= 3
        found += [one["email"] for one in page["blocks"]]
        target = page["next"]
    assert found == [7, 6, 5, 4, 3, 2, 1]


def test_a_thousand_and_no_more(bell: Bell) -> None:
    tenant = sent(bell, 1)
    with Line(bell.port) as line:
        for n in range(MAX_BLOCKS):
            body = b'{"url": "https://example.com/%d"}' % n
            line.send(raw_request(f"/{tenant}/blocks", method="POST", body=body))
            assert line.answer().status == 201
    answer = block(bell, tenant, url=EVIL)
    assert answer.status == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert click(bell, tenant, 1, EVIL).status == 302
    assert block(bell, tenant, url=f"{GOOD}7").status == 200
    assert bell.ask("DELETE", f"/{tenant}?confirm={tenant}").status == 204
    assert is_gone(click(bell, tenant, 1, f"{GOOD}999"), GOOD)
    assert bell.ask("DELETE", f"/{tenant}/blocks/1").status == 204
    assert block(bell, tenant, url=EVIL).status == 201


def test_of_another_tenant(bell: Bell) -> None:
    alice, charlie = sent(bell), sent(bell)
    block(bell, alice, url=EVIL)
    assert bell.ask("DELETE", f"/{charlie}/blocks/1").status == 404
    assert bell.ask("GET", f"/{charlie}/blocks").json["blocks"] == []
    assert click(bell, charlie, 1, EVIL).status == 302
    assert is_gone(click(bell, alice, 1, EVIL))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{}", None),
        (b"[]", None),
        (b"{", None),
        (b'{"email": 1, "url": "https://example.com/"}', None),
        (b'{"link": 1}', None),
        (b'{"email": "1"}', "email"),
        (b'{"email": true}', "email"),
        (b'{"email": 0}', "email"),
        (b'{"email": -1}', "email"),
        (b'{"email": 1.5}', "email"),
        (b'{"email": 1e400}', "email"),
        (b'{"email": null}', "email"),
        (b'{"email": 1000000000000000000}', "email"),
        (b'{"tenant": false}', "tenant"),
        (b'{"tenant": 1}', "tenant"),
        (b'{"tenant": "acme"}', "tenant"),
        (b'{"url": 1}', "url"),
        (b'{"url": ""}', "url"),
        (b'{"url": "javascript:x"}', "url"),
        (b'{"url": "https://a@b/"}', "url"),
        (b'{"url": "https://x/\\ud800"}', "url"),
        (b'{"url": "https://example.com/%s"}' % (b"x" * 2048), "url"),
    ],
)
def test_what_is_refused(bell: Bell, body: bytes, field: str | None) -> None:
    tenant = sent(bell, 1)
    answer = bell.ask("POST", f"/{tenant}/blocks", body)
    assert answer.status == 400, answer
    assert answer.json.get("field") == field
    assert (
        bell.rows("SELECT 1 FROM blocks JOIN tenants USING (tenant) WHERE name = ?", tenant) == []
    )


@pytest.mark.parametrize("target", ["/nobody/blocks", "/_/blocks", "/%61cme/blocks"])
def test_no_tenant_comes_of_it(bell: Bell, target: str) -> None:
    assert bell.ask("POST", target, {"tenant": True}).status == 404
    assert bell.rows("SELECT 1 FROM tenants WHERE name = 'nobody'") == []


@pytest.mark.parametrize("number", ["0", "01", "1.gif", "x", "-1", "999", "9" * 30, "%31"])
def test_no_such_block(bell: Bell, number: str) -> None:
    tenant = sent(bell, 1)
    block(bell, tenant, tenant=True)
    assert bell.ask("DELETE", f"/{tenant}/blocks/{number}").status == 404
    assert is_gone(click(bell, tenant, 1, GOOD), GOOD)


def test_an_email_that_was_never_sent(bell: Bell) -> None:
    tenant = sent(bell, 2)
    assert block(bell, tenant, email=3).status == 404
    assert bell.create(tenant) == 3
    assert click(bell, tenant, 3, GOOD).status == 302


def test_it_is_logged(bell: Bell) -> None:
    tenant = sent(bell, 1)
    block(bell, tenant, url=EVIL)
    bell.ask("DELETE", f"/{tenant}/blocks/1")
    deadline = time.monotonic() + 5  # a line is written behind the answers of its turn
    found: list[dict[str, Any]] = []
    while len(found) < 3 and time.monotonic() < deadline:
        found = [one for one in bell.lines() if one["fields"].get("tenant_id") == tenant]
    assert [one["message"] for one in found[1:]] == ["Switched off", "Switched on"]
    assert [one["fields"]["block"] for one in found[1:]] == [1, 1]
    assert "evil" not in str(found), "a link may carry an address"


def test_figures_are_without_what_is_off(bell: Bell) -> None:
    tenant = sent(bell)
    block(bell, tenant, email=1)
    for email in (1, 2):
        bell.get(f"/{tenant}/pixel/{email}.gif")
        click(bell, tenant, email, GOOD)
    figures = bell.ask("GET", f"/{tenant}/stats").json["figures"]
    assert (figures["sent"], figures["opens"], figures["clicks"]) == (2, 1, 1)


# What is in memory

kinds = st.one_of(
    st.tuples(st.integers(1, 5), st.none()),
    st.tuples(st.just(0), st.sampled_from([EVIL, GOOD, f"{GOOD}2"])),
    st.just((0, None)),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.booleans(), kinds), max_size=30))
def test_memory_is_what_a_list_would_say(steps: list[tuple[bool, tuple[int, str | None]]]) -> None:
    blocked = Blocked()
    known: dict[tuple[int, str | None], int] = {}
    for on, what in steps:
        if on and what not in known:
            known[what] = blocked.last + 1
            blocked = blocked.added(blocked.last + 1, *what)
        elif not on and what in known:
            blocked = blocked.without(known.pop(what))
        assert blocked.size == len(known)
        assert {n for n in range(40) if blocked.has(n)} == set(known.values())
        assert all(blocked.number(*one) == number for one, number in known.items())
        for email in range(1, 6):
            for url in (None, EVIL, GOOD):
                expected = (0, None) in known or (email, None) in known
                expected = expected or (url is not None and (0, url) in known)
                assert blocked.holds(email, url) is expected
    rows = [(7, number, email or None, url) for (email, url), number in known.items()]
    read = gather(rows).get(7, Blocked())
    assert read._replace(last=0) == blocked._replace(last=0)
