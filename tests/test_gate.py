"""The gate beside its table: batches at their heads, failed keys, forged requests, sessions"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from access import (
    ADMIN_KEY,
    OUR_PAGE,
    TOKEN,
    basic,
    bearer,
    cookie,
    create_key,
    from_elsewhere,
    log_in,
    revoke,
)
from bell import Bell, Line, exchange, raw_request, serving
from little_bell.wire.gate import next_path, presented
from streams import Streaming

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    folder = tmp_path_factory.mktemp("gate")
    with serving(folder, ADMIN_KEY=ADMIN_KEY, CORS_ORIGINS="https://app.example") as bell:
        bell.create("open")
        yield bell


@pytest.fixture(scope="module")
def key(bell: Bell) -> str:
    bell.create("acme")
    return create_key(bell, "acme")


@pytest.fixture(scope="module")
def reader(bell: Bell, key: str) -> str:
    return create_key(bell, "acme", "--role", "read")


# Batches


def head(*lines: str, size: int = 1 << 24) -> bytes:
    kind = "Content-Type: application/x-ndjson"
    return raw_request("/acme/emails", kind, f"Content-Length: {size}", *lines, method="POST")


def test_a_batch_is_refused_before_its_body(bell: Bell, reader: str) -> None:
    """Not a byte of it has to be sent."""
    for lines, status in (
        ((), 401),
        (("Authorization: Bearer lb_wrong", "X-Forwarded-For: 198.51.100.1"), 401),
        ((f"Authorization: Bearer {reader}",), 403),
        (("Expect: 100-continue",), 401),
    ):
        with Line(bell.port) as line:
            line.send(head(*lines))
            answer = line.answer()
            assert answer.status == status
            assert answer.headers["connection"] == "close"
            line.no_more()
            assert line.closed


def test_who_sends_it_all_the_same_can_read_why(bell: Bell, key: str) -> None:
    before = bell.rows("SELECT last_email FROM tenants WHERE name = 'acme'")
    size = 1 << 22
    with Line(bell.port) as line:
        line.send(head(size=size))
        for _ in range(size >> 16):
            line.send(b"{}\n" * 21845 + b"\n")
        assert line.answer().status == 401
    assert bell.rows("SELECT last_email FROM tenants WHERE name = 'acme'") == before
    answer = bell.ask("POST", "/acme/emails", "{}\n" * 3, {**NDJSON, **bearer(key)})
    assert len(answer.body.splitlines()) == 3


def test_what_comes_behind_a_refused_batch_is_not_a_request(bell: Bell) -> None:
    """Its body is never read as one, whatever it holds."""
    inside = raw_request("/open/emails", method="POST", body=b"{}")
    with Line(bell.port) as line:
        line.send(head(size=len(inside)) + inside)
        assert line.answer().status == 401
        line.no_more()
        assert line.closed
    assert bell.rows("SELECT last_email FROM tenants WHERE name = 'open'") == [(1,)]


def test_refused_requests_do_not_end_a_connection(bell: Bell, key: str) -> None:
    stats = "/acme/click-url/1?url=https://x.example/"
    bell.ask("POST", "/acme/emails", {}, bearer(key))
    with Line(bell.port) as line:
        line.send(raw_request(stats) + raw_request(stats, f"Authorization: Bearer {key}"))
        assert [line.answer().status for _ in range(2)] == [401, 200]


# Failed keys


def test_failed_keys_are_slowed_down(bell: Bell, key: str) -> None:
    here = {"X-Forwarded-For": "203.0.113.1"}
    session = cookie(log_in(bell, "acme", key))

    def ask(headers: dict[str, str]) -> int:
        return bell.ask("GET", "/acme/click-url/9?url=x", None, {**here, **headers}).status

    wrong = bearer("lb_wrong")
    missing = [ask({}) for _ in range(20)]
    assert set(missing) == {401}, "no key is no failure"
    right = [ask(bearer(key)) for _ in range(20)]
    assert set(right) == {400}
    assert [ask(wrong) for _ in range(11)] == [401] * 10 + [429]
    answer = bell.ask("GET", "/acme/emails", None, {**here, **bearer(key)})
    assert answer.status == 429, "right ones are not looked at either"
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 6
    assert ask(basic("", key)) == 429
    assert ask(bearer(ADMIN_KEY)) == 429
    assert ask(session) == 400, "sessions go on"
    assert ask({**session, **wrong}) == 400
    assert ask({}) == 401
    assert bell.get("/acme/pixel/1.gif", **here).status == 200
    assert bell.ask("GET", "/open/stats", None, {**here, **wrong}).status == 200
    form = bell.ask("POST", "/acme/dashboard/login", f"key={key}", here)
    assert form.status == 429
    assert "retry-after" in form.headers
    assert "text/html" in form.headers["content-type"]
    assert bell.ask("GET", "/acme/dashboard/login", None, here).status == 200
    here["X-Forwarded-For"] = "203.0.113.2"
    assert ask(bearer(key)) == 400, "another source"


def test_a_household_shares_its_failures(bell: Bell, key: str) -> None:
    def ask(address: str, with_key: str) -> int:
        headers = {"X-Forwarded-For": address, **bearer(with_key)}
        return bell.ask("GET", "/acme/emails", None, headers).status

    for n in range(10):
        assert ask(f"2001:db8:1:2::{n + 1}", "wrong") == 401
    assert ask("2001:db8:1:2:ffff::1", key) == 429
    assert ask("2001:db8:1:3::1", key) == 200


def test_the_form_counts_as_well(bell: Bell, key: str) -> None:
    here = from_elsewhere()
    statuses = [
        bell.ask("POST", "/acme/dashboard/login", "key=wrong", here).status for _ in range(11)
    ]
    assert statuses == [401] * 10 + [429]
    assert bell.ask("GET", "/acme/emails", None, {**here, **bearer(key)}).status == 429


# Requests that other sites make a browser send

FOREIGN = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://bell"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://bell.evil.example"},
    {"Origin": "http://bell:81"},
    {"Origin": "file://bell"},
    {"Origin": "http://bell, http://bell"},
)
OURS = (
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://bell"},
    {"Origin": "https://bell"},
    {"Origin": "http://BELL"},
)
SILENT: dict[str, str] = {}


def from_page(
    bell: Bell, target: str, said: dict[str, str], body: bytes = b"", method: str = "POST"
) -> int:
    """A request to the host `bell`, as some page makes it."""
    lines = [f"{name}: {value}" for name, value in said.items()]
    return exchange(bell, raw_request(target, *lines, method=method, body=body)).status


def test_a_cookie_changes_nothing_for_another_site(bell: Bell, key: str) -> None:
    session = cookie(log_in(bell, "acme", key))
    for said in (*FOREIGN, SILENT):
        headers = {**session, **said}
        assert from_page(bell, "/acme/dashboard/try", headers) == 403, said
        assert from_page(bell, "/acme/emails", headers, b"{}") == 403, said
        assert from_page(bell, "/acme/emails/1", headers, b"{}", "PATCH") == 403, said
        assert from_page(bell, "/acme/emails/1", headers, method="DELETE") == 403, said
        assert from_page(bell, "/acme/dashboard/logout", headers) == 403, said
        assert bell.ask("GET", "/acme/dashboard", None, headers).status == 200
    for said in OURS:
        headers = {**session, **said}
        assert from_page(bell, "/acme/dashboard/try", headers) == 303, said
        assert from_page(bell, "/acme/emails", headers, b"{}") == 201, said
        assert from_page(bell, "/acme/dashboard/logout", headers) == 303, said


def test_nor_does_what_was_typed_into_a_browsers_window(bell: Bell, key: str) -> None:
    for said in FOREIGN:
        assert from_page(bell, "/acme/emails", {**basic("", key), **said}, b"{}") == 403, said
    for said in (*OURS, SILENT):  # curl says nothing
        assert from_page(bell, "/acme/emails", {**basic("", key), **said}, b"{}") == 201, said


def test_a_bearer_is_nobodys_browser(bell: Bell, key: str) -> None:
    for said in (*FOREIGN, *OURS, SILENT):
        assert from_page(bell, "/acme/emails", {**bearer(key), **said}, b"{}") == 201, said


def test_other_sites_log_nobody_in(bell: Bell, key: str) -> None:
    """Else a visitor could be put into somebody else's tenant."""
    body = f"key={key}".encode()
    for said in FOREIGN:
        assert from_page(bell, "/acme/dashboard/login", said, body) == 403, said
    for said in (*OURS, SILENT):
        assert from_page(bell, "/acme/dashboard/login", said, body) == 303, said


def test_other_sites_make_no_test_email_in_an_open_tenant(bell: Bell) -> None:
    for said in FOREIGN:
        assert from_page(bell, "/open/dashboard/try", said) == 403, said


def test_behind_tls_a_page_that_came_in_the_clear_is_another_site(
    start_bell: Callable[..., Bell],
) -> None:
    bell = start_bell(BASE_URL="https://track.example/b")
    key = create_key(bell, "acme")
    answer = bell.ask("POST", "/acme/dashboard/login", f"key={key}", OUR_PAGE)
    assert answer.status == 303
    name, _, rest = answer.headers["set-cookie"].partition("=")
    value, *attributes = rest.split("; ")
    assert name == "__Secure-lb_session"
    assert set(attributes) == {
        "Path=/b/acme",
        "Max-Age=43200",
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
    }
    assert answer.headers["location"] == "/b/acme/dashboard"
    session = {"Cookie": f"{name}={value}"}
    assert bell.ask("GET", "/b/acme/dashboard", None, session).status == 200
    assert bell.ask("GET", "/acme/dashboard", None, session).status == 200, "a proxy may strip it"
    assert bell.ask("GET", "/acme/dashboard", None, cookie(value)).status == 303
    for origin, status in (
        ("https://track.example", 303),
        ("https://bell", 303),
        ("http://bell", 403),
        ("http://track.example", 403),
    ):
        assert from_page(bell, "/acme/dashboard/try", {**session, "Origin": origin}) == status
    asked = bell.ask("GET", "/b/acme/dashboard/emails?period=7d")
    assert asked.headers["location"] == (
        "/b/acme/dashboard/login?next=/acme/dashboard/emails%3Fperiod%3D7d"
    )
    sent = "next=/acme/dashboard/emails%3Fperiod%3D7d&key=" + key
    answer = bell.ask("POST", "/b/acme/dashboard/login", sent, OUR_PAGE)
    assert answer.headers["location"] == "/b/acme/dashboard/emails?period=7d"


def test_pages_of_other_origins_may_send_a_key(bell: Bell, key: str) -> None:
    origin = {"Origin": "https://app.example"}
    asks = {**origin, "Access-Control-Request-Method": "GET"}
    asks["Access-Control-Request-Headers"] = "authorization"
    answer = bell.ask("OPTIONS", "/acme/stats", None, asks)
    assert answer.status == 204
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert bell.ask("GET", "/acme/stats", None, {**origin, **bearer(key)}).status == 200
    refused = bell.ask("GET", "/acme/stats", None, origin)
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in refused.headers


# Sessions


def test_a_session_begins_and_ends(bell: Bell, key: str) -> None:
    answer = bell.ask("POST", "/acme/dashboard/login", f"key=+{key}+", OUR_PAGE)
    assert (answer.status, answer.headers["location"]) == (303, "/acme/dashboard")
    value, *attributes = answer.headers["set-cookie"].removeprefix("lb_session=").split("; ")
    assert set(attributes) == {"Path=/acme", "Max-Age=43200", "HttpOnly", "SameSite=Lax"}
    assert key not in value
    page = bell.ask("GET", "/acme/dashboard", None, cookie(value))
    assert b"Log out" in page.body
    by_key = bell.ask("GET", "/acme/dashboard", None, bearer(key))
    assert by_key.status == 200
    assert b"Log out" not in by_key.body
    gone = bell.ask("POST", "/acme/dashboard/logout", "", {**cookie(value), **OUR_PAGE})
    assert (gone.status, gone.headers["location"]) == (303, "/acme/dashboard/login")
    assert gone.headers["set-cookie"].startswith("lb_session=; Path=/acme; Max-Age=0;")


@pytest.mark.parametrize(
    "sent", ["key=wrong", "key=", "", "key=%ff", "kex=1", "\0", "key=wrong&key="]
)
def test_a_wrong_key_gets_the_form_again(bell: Bell, key: str, sent: str) -> None:
    sent += "&next=/acme/dashboard/emails"
    answer = bell.ask("POST", "/acme/dashboard/login", sent, from_elsewhere())
    if sent.startswith("key=%ff"):
        assert answer.status == 400
        return
    assert answer.status == 401
    assert b"does not open acme" in answer.body
    assert b'value="/acme/dashboard/emails"' in answer.body
    assert b"wrong" not in answer.body.replace(b'"wrong"', b"")
    assert "set-cookie" not in answer.headers
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "Basic" not in answer.headers["www-authenticate"], "a browser would ask in a window"
    assert "no-store" in answer.headers["cache-control"]


def test_a_key_of_another_tenant_begins_no_session(bell: Bell, key: str) -> None:
    other = create_key(bell, "other")
    answer = bell.ask("POST", "/acme/dashboard/login", f"key={other}", from_elsewhere())
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert b"does not open acme" in answer.body


def test_nobody_can_say_that_a_key_was_wrong_or_a_session_is_there(bell: Bell, key: str) -> None:
    """What the fast lane tells the slow one is not taken from clients."""
    headers = {"Little-Bell-Wrong-Key": "1", "Little-Bell-Session": "1"}
    assert bell.ask("GET", "/acme/dashboard/login", None, headers).status == 200
    for given in (bearer(key), {}):
        tenant = "acme" if given else "open"
        answer = bell.ask("GET", f"/{tenant}/dashboard", None, {**headers, **given})
        assert answer.status == 200
        assert b"Log out" not in answer.body


def test_a_session_ends_with_its_key(bell: Bell) -> None:
    ours = create_key(bell, "ended")
    session = cookie(log_in(bell, "ended", ours))
    admin = cookie(log_in(bell, "ended", ADMIN_KEY))
    assert bell.ask("GET", "/ended/dashboard", None, session).status == 200
    revoke(bell, "ended", 1)
    assert bell.ask("GET", "/ended/dashboard", None, session).status == 303
    assert bell.ask("GET", "/ended/stats", None, session).status == 401
    again = create_key(bell, "ended")
    assert bell.ask("GET", "/ended/stats", None, session).status == 401
    assert bell.ask("GET", "/ended/stats", None, bearer(again)).status == 200
    assert bell.ask("GET", "/ended/stats", None, admin).status == 200
    assert bell.ask("GET", "/acme/stats", None, admin).status == 401, "of one tenant alone"


def test_a_session_outlives_a_restart_but_not_another_admin_key_or_secret(
    start_bell: Callable[..., Bell],
) -> None:
    bell = start_bell(ADMIN_KEY=ADMIN_KEY)
    key = create_key(bell, "acme")
    session, admin = cookie(log_in(bell, "acme", key)), cookie(log_in(bell, "acme", ADMIN_KEY))

    def statuses() -> list[int]:
        return [bell.ask("GET", "/acme/stats", None, one).status for one in (session, admin)]

    for settings, expected in (
        ({"ADMIN_KEY": ADMIN_KEY}, [200, 200]),
        ({"ADMIN_KEY": ADMIN_KEY + "2"}, [200, 401]),
        ({"ADMIN_KEY": ""}, [200, 401]),
        ({"ADMIN_KEY": ADMIN_KEY, "SECRET_KEY": "another-secret-of-the-tests"}, [401, 401]),
        ({"ADMIN_KEY": ADMIN_KEY}, [200, 200]),
    ):
        bell.kill()
        bell.settings = settings
        bell.start()
        assert statuses() == expected, settings


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/other/dashboard",
        "/acme/stats",
        "/acme/dashboardx",
        "/acme/dashboard/../stats",
        "/acme/dashboard/..",
        "/acme/dashboard/%2e%2e/x",
        "/acme/dashboard//evil.example",
        "/acme/dashboard\\..",
        "/acme/dashboard?x=\r\nSet-Cookie: a=b",
        "/acme/dashboard#x",
        "/acme/dashboard?x=é",
        "javascript:alert(1)",
        "/acme/dashboard?" + "x" * 1000,
        "",
    ],
)
def test_a_login_leads_nowhere_else(bell: Bell, key: str, wanted: str) -> None:
    from urllib.parse import quote

    assert next_path(wanted, b"acme") == ""
    sent = f"key={key}&next={quote(wanted)}"
    answer = bell.ask("POST", "/acme/dashboard/login", sent, OUR_PAGE)
    assert answer.headers["location"] == "/acme/dashboard"


@pytest.mark.parametrize(
    "wanted",
    [
        "/acme/dashboard",
        "/acme/dashboard/emails/17",
        "/acme/dashboard/emails?q=a%20b&tz=Europe/Berlin",
        "/acme/dashboard?period=7d",
    ],
)
def test_a_login_leads_to_what_was_asked_for(bell: Bell, key: str, wanted: str) -> None:
    asked = bell.ask("GET", wanted)
    assert asked.status == 303
    query = asked.headers["location"].partition("?")[2]
    answer = bell.ask("POST", "/acme/dashboard/login", f"{query}&key={key}", OUR_PAGE)
    assert answer.headers["location"] == wanted


def test_what_changes_something_is_not_asked_for_again(bell: Bell, key: str) -> None:
    answer = bell.ask("POST", "/acme/dashboard/try", "", OUR_PAGE)
    assert (answer.status, answer.headers["location"]) == (303, "/acme/dashboard/login")


# What the slow lane is told


def test_the_slow_lane_gets_no_credentials(tmp_path: Path) -> None:
    """Whoever is let in, and where nobody asks for any."""
    bell = Streaming(tmp_path)
    try:
        bell.start()
        key = create_key(bell, "acme")
        session = cookie(log_in(bell, "acme", key))
        target = "/whole?size=1&headers=1"
        for tenant, headers in (
            ("acme", bearer(key)),
            ("acme", basic("", key)),
            ("acme", session),
            ("acme", {**session, **bearer("wrong")}),
            ("open", {**session, **bearer(key)}),
        ):
            names = bell.ask("GET", f"/{tenant}{target}", None, headers).body.split()
            assert b"host" in names
            assert not {b"authorization", b"cookie"}.intersection(names)
            with_mark = tenant == "acme" and "Cookie" in headers
            assert (b"little-bell-session" in names) is with_mark
    finally:
        bell.end()


def test_only_the_test_email_is_made_at_its_address(bell: Bell) -> None:
    before = bell.rows("SELECT last_email FROM tenants WHERE name = 'open'")
    for page in ("emails", "live", "nothing"):
        assert bell.ask("POST", f"/open/dashboard/{page}", "").status == 405
    assert bell.rows("SELECT last_email FROM tenants WHERE name = 'open'") == before


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"Bearer abc", (b"abc", False)),
        (b"BEARER   abc ", (b"abc", False)),
        (b"Bearer", (b"", False)),
        (b"", (b"", False)),
        (b"Basic dTpw", (b"p", True)),
        (b"basic dTo=", (b"u", True)),
        (b"Basic dTpwOnE=", (b"p:q", True)),
        (b"Basic dTp", (b"", True)),
        (b"Basic d Tpw", (b"", True)),
        (b"Basic", (b"", True)),
        (b"Negotiate abc", (b"", False)),
    ],
)
def test_forms_of_authorization(value: bytes, found: tuple[bytes, bool]) -> None:
    assert presented(value) == found


# What is said while a tenant is open


def said_at_the_start(bell: Bell) -> list[dict[str, str]]:
    return [
        line["fields"]
        for line in bell.lines()
        if line["message"] == "Anybody may read and change tenants that have no key"
    ]


def test_the_log_says_which_tenants_are_open(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    assert said_at_the_start(bell) == [], "there is none"
    for tenant in ("a", "b", "c"):
        bell.create(tenant)
    bell.stop()
    bell.start()
    for tenant in ("d", "e"):
        bell.create(tenant)
    create_key(bell, "b")
    bell.stop()
    bell.start()
    assert [line["tenants"] for line in said_at_the_start(bell)] == ["a, b, c", "4 tenants"]
    assert {line["close_with"] for line in said_at_the_start(bell)} == {
        "little-bell keys create TENANT"
    }
    bell.stop()
    bell.settings = {"AUTH": "keys"}
    bell.start()
    assert len(said_at_the_start(bell)) == 2


def test_the_dashboard_says_that_a_tenant_is_open(bell: Bell, key: str) -> None:
    for page in ("", "/emails", "/emails/1"):
        shown = bell.ask("GET", f"/open/dashboard{page}").body.decode()
        assert "<code>little-bell keys create open</code>" in shown
        assert "Authorization" not in shown
        shown = bell.ask("GET", f"/acme/dashboard{page}", None, bearer(key)).body.decode()
        assert "keys create" not in shown
        if page != "/emails":  # its commands work as they are copied, but for the key
            assert "-H &#39;Authorization: Bearer KEY&#39;" in shown


def test_the_front_page_says_that_its_command_needs_a_key(
    start_bell: Callable[..., Bell],
) -> None:
    """Where no tenant is open, a newcomer's first copied command would get 401."""
    needs = "-H &#39;Authorization: Bearer KEY&#39;"
    assert needs not in start_bell().get("/").body.decode()
    closed = start_bell(AUTH="keys", ADMIN_KEY=ADMIN_KEY)
    assert needs in closed.get("/").body.decode()


def test_metrics_are_read_with_their_token(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(METRICS_TOKEN=TOKEN)
    assert bell.get("/metrics").status == 401
    answer = bell.get("/metrics", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200
    statuses = [bell.get("/metrics", Authorization="Bearer wrong").status for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    assert bell.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
    wrong = bell.get("/metrics", X_Forwarded_For="192.0.2.1")
    assert "Bearer" in wrong.headers["www-authenticate"]
    assert json.loads(wrong.body)["status"] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://other.example"},
        {"Origin": "https://other.example"},
        {"Origin": "null"},
    ],
)
def test_other_sites_switch_nothing_off_of_an_open_tenant(
    bell: Bell, headers: dict[str, str]
) -> None:
    """A form of any site can be sent to a bell on the visitor's machine."""
    bell.create("switched")
    form = {**headers, "Content-Type": "text/plain"}
    answer = bell.ask("POST", "/switched/blocks", '{"tenant": true}', form)
    assert answer.status == 403, answer
    assert bell.get("/switched/click/1?url=https://example.com/").status == 302


@pytest.mark.parametrize(
    "headers",
    [
        {},
        OUR_PAGE,
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example"},
    ],
)
def test_who_may_switch_off_an_open_tenant(bell: Bell, headers: dict[str, str]) -> None:
    email = bell.create("switching")
    answer = bell.ask("POST", "/switching/blocks", {"email": email}, headers)
    assert answer.status == 201, answer
