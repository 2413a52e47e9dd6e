"""Limits by source: management is refused beyond its share, tracking never is"""

from collections.abc import Callable

import pytest

from bell import Answer, Bell, Line, events, exchange, raw_request
from little_bell.tracking.pixel import GIF
from little_bell.wire.control import call
from little_bell.wire.routes import FAST, PUBLIC, ROUTES

NDJSON = "Content-Type: application/x-ndjson"


def of(address: str) -> str:
    """A header by which the proxy, which is loopback, says who it is."""
    return f"X-Forwarded-For: {address}"


def ask(bell: Bell, target: str, address: str, method: str = "GET", *lines: str) -> Answer:
    body = b"{}" if method in ("POST", "PATCH") else None
    data = raw_request(target, of(address), *lines, method=method, body=body)
    with Line(bell.port) as line:
        line.send(data)
        return line.answer(head_only=method == "HEAD")


def use_up(bell: Bell, address: str) -> Answer:
    """Ask until it is too much."""
    for _ in range(10):
        answer = ask(bell, "/acme/click-url/1?url=https://example.com/", address)
        if answer.status == 429:
            return answer
    raise AssertionError("there is no limit")


def is_limited(answer: Answer) -> None:
    assert answer.status == 429, answer
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    kind = answer.headers["content-type"]
    assert kind in ("application/problem+json", "text/html; charset=utf-8")
    if kind.endswith("json") and answer.body:
        assert answer.json["status"] == 429


def path(pattern: str) -> str:
    for name, value in (
        ("{tenant}", "acme"),
        ("{email}", "1"),
        ("{page}", "emails"),
        ("{item}", "1"),
        ("{block}", "1"),
    ):
        pattern = pattern.replace(name, value)
    return pattern


def test_it_works(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_REQUESTS_PER_MINUTE="4")
    bell.create()
    answers = [ask(bell, "/acme/emails", "192.0.2.1", "POST") for _ in range(6)]
    assert [one.status for one in answers] == [201] * 4 + [429] * 2
    is_limited(answers[4])
    assert answers[4].headers["content-type"] == "application/problem+json"
    assert bell.metrics()["requests_limited_total"] == 2
    assert bell.rows("SELECT count(*) FROM emails") == [(5,)]
    assert ask(bell, "/acme/emails", "192.0.2.2", "POST").status == 201
    pixel = ask(bell, "/acme/pixel/1.gif", "192.0.2.1")
    assert (pixel.status, pixel.body) == (200, GIF)
    assert events(bell, "acme") == [(1, "open")]


def test_of_ipv6_a_64_is_one(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_REQUESTS_PER_MINUTE="1")
    bell.create()
    statuses = [
        ask(bell, "/acme/emails", address, "POST").status
        for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:0:1:f::1")
    ]
    assert statuses == [201, 429, 201, 429]


def test_every_route_of_management_and_no_other(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_REQUESTS_PER_MINUTE="2")
    bell.create()
    use_up(bell, "192.0.2.1")
    limited: list[str] = []
    free: list[str] = []
    for route in ROUTES:
        target = path(route.pattern).replace("{file}", "style.css")
        answer = ask(bell, target, "192.0.2.1", route.method)
        (limited if answer.status == 429 else free).append(route.name)
        if answer.status == 429:
            is_limited(answer)
            kind = "text/html; charset=utf-8" if route.page else "application/problem+json"
            assert answer.headers["content-type"] == kind
    assert limited == [
        route.name
        for route in ROUTES
        # Pages that anybody may see are made where those of management are.
        if route.access != PUBLIC or route.lane != FAST or route.name == "sign_in"
    ]
    assert free
    is_limited(ask(bell, "/acme/emails", "192.0.2.1", "HEAD"))
    assert bell.metrics()["slow_lane_starts_total"] <= 1


def test_a_batch_is_refused_at_its_head(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_REQUESTS_PER_MINUTE="1")
    bell.create("other")
    lines = b'{"subject": "x"}\n' * 20_000
    data = raw_request("/acme/emails", of("192.0.2.1"), NDJSON, method="POST", body=lines)
    assert exchange(bell, data).status == 201
    with Line(bell.port) as line:
        line.send(data[:100_000])
        answer = line.answer()
        is_limited(answer)
        assert answer.headers["connection"] == "close"
        line.send(data[100_000:200_000])
    assert bell.rows("SELECT count(*) FROM emails") == [(20_001,)]
    assert bell.get("/health").status == 200


def test_none_is_no_limit(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_REQUESTS_PER_MINUTE="0", MAX_MISSES_PER_MINUTE="0")
    request = raw_request("/acme/emails", method="POST", body=b"{}")
    missing = raw_request("/acme/click/99999?url=https://example.com/")
    with Line(bell.port) as line:
        for _ in range(30):
            line.send(request * 30 + missing * 30)
            assert [line.answer().status for _ in range(60)] == [201] * 30 + [404] * 30
    assert bell.metrics()["misses_limited_total"] == 0


def test_the_control_socket_is_not_limited(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_REQUESTS_PER_MINUTE="1")
    use_up(bell, "127.0.0.1")
    database = str(bell.database)
    assert [call(database, "GET", "/status")[0] for _ in range(5)] == [200] * 5


# Misses


def test_misses_stop_no_opens_of_the_same_address(start_bell: Callable[..., Bell]) -> None:
    """As a flood of bad ids through a mail provider's proxy would be."""
    bell = start_bell(MAX_MISSES_PER_MINUTE="3", INSTANT_SECONDS="0")
    bell.create()
    address = of("192.0.2.1")
    url = "https://example.com/"
    miss = [
        raw_request(f"/acme/pixel/{n}.gif", address) + raw_request(f"/acme/click/{n}?url={url}")
        for n in range(2, 52)
    ]
    with Line(bell.port) as line:
        for n in range(50):
            line.send(
                miss[n]
                + raw_request("/acme/pixel/1.gif", address)
                + raw_request(f"/acme/click/1?url={url}", address)
            )
            bad, _, good, click = (line.answer() for _ in range(4))
            assert (bad.status, bad.body) == (good.status, good.body) == (200, GIF)
            assert (click.status, click.headers["location"]) == (302, url)
    assert len(events(bell, "acme")) == 100
    assert bell.metrics()["hits_unknown_id_total"] == 100
    assert bell.metrics()["misses_limited_total"] >= 45, "of clicks: pixels are the same anyway"


def test_a_miss_is_told_the_same_beyond_the_share(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_MISSES_PER_MINUTE="2")
    bell.create()
    target = "/acme/click/7?url=https://example.com/"
    answers = [ask(bell, target, "192.0.2.1") for _ in range(5)]
    for one in answers:
        one.headers.pop("date")
        assert one == answers[0]
        assert one.status == 404
    # The target is not looked at any more; that of another source is.
    bad = "/acme/click/7?url=x"
    assert ask(bell, bad, "192.0.2.1").status == 404
    assert ask(bell, bad, "192.0.2.2").status == 400
    assert ask(bell, "/acme/click/1?url=x", "192.0.2.1").status == 400
    head = ask(bell, target, "192.0.2.1", "HEAD")
    assert (head.status, head.body) == (404, b"")
    assert bell.metrics()["misses_limited_total"] == 5


def test_memory_of_many_sources_is_bounded(start_bell: Callable[..., Bell]) -> None:
    """Tens of thousands of sources, each with a miss and a request."""
    bell = start_bell()
    bell.create()

    def memory() -> int:
        return int(bell.metrics()["memory_bytes"])

    def flood(begin: int, end: int) -> None:
        with Line(bell.port) as line:
            for n in range(begin, end, 30):
                parts = []
                for m in range(n, n + 30):
                    address = of(f"10.{m >> 16}.{m >> 8 & 255}.{m & 255}")
                    parts.append(raw_request("/acme/pixel/9.gif", address))
                    parts.append(raw_request("/acme/click-url/9", address))
                line.send(b"".join(parts))
                for _ in parts:
                    line.answer()

    flood(0, 9000)
    before = memory()
    flood(9000, 30_000)
    assert memory() < before + (2 << 20)
    assert bell.get("/health").status == 200


@pytest.mark.parametrize("address", ["", "x", "999.1.1.1", "2001:db8::1%eth0"])
def test_an_odd_address_is_somebodys(start_bell: Callable[..., Bell], address: str) -> None:
    bell = start_bell(MAX_REQUESTS_PER_MINUTE="1")
    bell.create("other")
    assert ask(bell, "/acme/emails", address, "POST").status in (201, 429)
    assert ask(bell, "/acme/emails", address, "POST").status == 429
