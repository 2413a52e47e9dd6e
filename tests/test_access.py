"""Who may do what: every route with every kind of credential, against a table written by hand

A new route needs a row in ROWS; a new kind of credential a line in `Cast.credentials` and a column.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import signatures
from access import (
    ADMIN_KEY,
    HALF_A_DAY,
    OUR_PAGE,
    TOKEN,
    basic,
    bearer,
    cookie,
    create_key,
    from_elsewhere,
    log_in,
    revoke,
    signed,
)
from bell import Answer, Bell, serving
from little_bell.wire.routes import ROUTES

EMAILS = 300  # of each tenant: a request that is let in may delete one

# What a route asks for.
PUBLIC, READ, WRITE, PAGE, PAGE_WRITE, METRICS = range(6)


class Row(NamedTuple):
    """How a route is asked, and what it says to who may."""

    kind: int
    request: str  # {t}: the tenant; {n}: an email that is still there; {token}: of a link
    ok: int
    body: str | None = None
    open: int = 0  # where the tenant is open, if not the same
    type: str = ""  # of the body


ROWS = {
    "pixel": Row(PUBLIC, "GET /{t}/pixel/1.gif", 200),
    "click": Row(PUBLIC, "GET /{t}/click/1?url=https://example.com/", 302),
    "signed_pixel": Row(PUBLIC, "GET /{t}/o/1/AAAAAAAAAAAAAAAA.gif", 200),
    "signed_click": Row(PUBLIC, "GET /{t}/l/1/{token}", 302),
    "click_url": Row(READ, "GET /{t}/click-url/1?url=https://example.com/", 200),
    "create_email": Row(WRITE, "POST /{t}/emails", 201, "{}"),
    "create_message": Row(WRITE, "POST /{t}/messages", 201, "\n\nHi", type="message/rfc822"),
    "change_email": Row(WRITE, "PATCH /{t}/emails/1", 200, '{"subject": "x"}'),
    "delete_email": Row(WRITE, "DELETE /{t}/emails/{n}", 204),
    "delete_tenant": Row(WRITE, "DELETE /{t}?confirm=no", 400),
    "tenant": Row(PUBLIC, "GET /{t}", 302),
    "settings": Row(READ, "GET /{t}/settings", 200),
    "change_settings": Row(WRITE, "PATCH /{t}/settings", 200, '{"retention_days": null}'),
    "opt_out": Row(PUBLIC, "POST /{t}/optouts", 204, "recipient=nobody@example.com"),
    "opted_out": Row(READ, "GET /{t}/optouts/nobody@example.com", 200),
    "opt_in": Row(WRITE, "DELETE /{t}/optouts/nobody@example.com", 204),
    "gpc": Row(PUBLIC, "GET /.well-known/gpc.json", 200),
    "blocks": Row(READ, "GET /{t}/blocks", 200),
    "create_block": Row(WRITE, "POST /{t}/blocks", 400, "{}"),
    "delete_block": Row(WRITE, "DELETE /{t}/blocks/999", 404),
    "recipient": Row(READ, "GET /{t}/recipients/nobody@example.com", 404),
    "erase_recipient": Row(WRITE, "DELETE /{t}/recipients/nobody@example.com", 400),
    "try_it": Row(PAGE_WRITE, "POST /{t}/dashboard/try", 303, ""),
    "login": Row(PUBLIC, "GET /{t}/dashboard/login", 200, open=302),
    "sign_in": Row(PUBLIC, "POST /{t}/dashboard/login", 401, "", open=303),
    "sign_out": Row(PUBLIC, "POST /{t}/dashboard/logout", 303, ""),
    "emails": Row(READ, "GET /{t}/emails", 200),
    "email": Row(READ, "GET /{t}/emails/1", 200),
    "stats": Row(READ, "GET /{t}/stats", 200),
    "links": Row(READ, "GET /{t}/links", 200),
    "campaigns": Row(READ, "GET /{t}/campaigns", 200),
    "clients": Row(READ, "GET /{t}/clients", 200),
    "events": Row(READ, "GET /{t}/events", 200),
    "events_csv": Row(READ, "GET /{t}/events.csv", 200),
    "events_ndjson": Row(READ, "GET /{t}/events.ndjson", 200),
    "emails_csv": Row(READ, "GET /{t}/emails.csv", 200),
    "health": Row(PUBLIC, "GET /health", 200),
    "metrics": Row(METRICS, "GET /metrics", 200),
    "openapi": Row(PUBLIC, "GET /openapi.json", 200),
    "front": Row(PUBLIC, "GET /", 200),
    "dashboard": Row(PAGE, "GET /{t}/dashboard", 200),
    "dashboard_page": Row(PAGE, "GET /{t}/dashboard/emails", 200),
    "dashboard_item": Row(PAGE, "GET /{t}/dashboard/emails/1", 200),
    "static": Row(PUBLIC, "GET /-/app.js", 200),
}

# Other forms of requests, by the names of their routes and what is special.
MORE = (
    ("create_email as a list", Row(WRITE, "POST /{t}/emails", 201, "[{}]")),
    (
        "create_email as NDJSON",
        Row(WRITE, "POST /{t}/emails", 201, "{}\n", type="application/ndjson"),
    ),
    ("create_email with html", Row(WRITE, "POST /{t}/emails", 201, '{"html": "<p>Hi"}')),
    ("create_email on trial", Row(WRITE, "POST /{t}/emails?dry_run=1", 200, '{"html": "<p>Hi"}')),
    (
        "create_message on trial",
        Row(WRITE, "POST /{t}/messages?dry_run=1", 200, "\n\nHi", type="message/rfc822"),
    ),
    ("dashboard, its head", Row(PAGE, "HEAD /{t}/dashboard", 200)),
    ("emails, their head", Row(READ, "HEAD /{t}/emails", 200)),
    ("what is live", Row(PAGE, "GET /{t}/dashboard/live", 200)),
    ("an absolute form", Row(READ, "GET http://bell.example/{t}/stats", 200)),
)

# What a closed tenant answers; OK: as the row says. Columns: READ, WRITE, PAGE, PAGE_WRITE.
OK = 0
NOBODY = (401, 401, 303, 303)
STRANGER = (404, 404, 404, 404)
READER = (OK, 403, OK, 403)
OWNER = (OK, OK, OK, OK)
CLOSED = {
    "none": NOBODY,
    "empty": NOBODY,
    "scheme alone": NOBODY,
    "bearer of nothing": NOBODY,
    "no scheme": NOBODY,
    "other scheme": NOBODY,
    "cut": NOBODY,
    "longer": NOBODY,
    "other case": NOBODY,
    "hash": NOBODY,
    "quoted": NOBODY,
    "two": NOBODY,
    "basic that is no base64": NOBODY,
    "basic without a key": NOBODY,
    "basic with a wrong password": NOBODY,
    "high bytes": NOBODY,
    "revoked": NOBODY,
    "revoked by basic": NOBODY,
    "other": STRANGER,
    "other by basic": STRANGER,
    "read": READER,
    "read by basic": READER,
    "read in a session": READER,
    "write": OWNER,
    "write, scheme in small letters": OWNER,
    "write by basic": OWNER,
    "write as user": OWNER,
    "write in a session": OWNER,
    "write in a session, behind another cookie": OWNER,
    "a session and a wrong key": OWNER,
    "admin": OWNER,
    "admin by basic": OWNER,
    "admin in a session": OWNER,
    "token": NOBODY,
    "signed now": OWNER,
    "expired": NOBODY,
    "stretched": NOBODY,
    "forged": NOBODY,
    "without a signature": NOBODY,
    "number of another key": NOBODY,
    "session of another tenant": NOBODY,
    "session of a revoked key": NOBODY,
    "no session": NOBODY,
}
# What is closed by AUTH=keys alone: ADMIN_KEY opens it, keys of others say nothing.
WITH_ADMIN_KEY = ("admin", "admin by basic", "admin in a session")
OF_ACME = (*(name for name, what in CLOSED.items() if what in (READER, OWNER)), "other")


class Cast:
    """Alice owns `acme`, Charlie `other`; `bare` and `nobody` have no keys."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.emails = 1
        self.secret = bell.database.with_name("tracking.db.secret").read_bytes().split()[0]
        lines = "{}\n" * EMAILS
        headers = {"Content-Type": "application/x-ndjson", **bearer(ADMIN_KEY)}
        for tenant in ("acme", "bare"):
            assert bell.ask("POST", f"/{tenant}/emails", lines, headers).status == 201
        self.write = create_key(bell, "acme")
        self.read = create_key(bell, "acme", "--role", "read", "--name", "reports")
        self.revoked = create_key(bell, "acme")
        self.other = create_key(bell, "other")
        self.closed_session = log_in(bell, "acme", self.revoked)
        revoke(bell, "acme", 3)
        self.credentials = self._credentials()

    def _credentials(self) -> dict[str, dict[str, str]]:
        """Headers by their names in CLOSED."""
        bell, write = self.bell, self.write
        session = log_in(bell, "acme", write)
        now = int(time.time())
        number, expiry, mac = session.split(".")
        assert now + HALF_A_DAY - 60 < int(expiry) <= now + HALF_A_DAY + 60
        swapped = ("A" if mac[0] != "A" else "B") + mac[1:]
        read_session = log_in(bell, "acme", self.read)
        return {
            "none": {},
            "empty": {"Authorization": ""},
            "scheme alone": {"Authorization": "Bearer"},
            "bearer of nothing": {"Authorization": "Bearer  "},
            "no scheme": {"Authorization": write},
            "other scheme": {"Authorization": f"Digest {write}"},
            "cut": bearer(write[:-1]),
            "longer": bearer(write + "A"),
            "other case": bearer(write.swapcase()),
            "hash": bearer(self._hash_of(1)),
            "quoted": bearer(f'"{write}"'),
            "two": bearer(f"{write}, Bearer {write}"),
            "basic that is no base64": {"Authorization": "Basic ?"},
            "basic without a key": basic("", ""),
            "basic with a wrong password": basic(write, "wrong"),
            "high bytes": {"Authorization": "Bearer \xff\xfe"},
            "revoked": bearer(self.revoked),
            "revoked by basic": basic("alice", self.revoked),
            "other": bearer(self.other),
            "other by basic": basic("charlie", self.other),
            "read": bearer(self.read),
            "read by basic": basic("", self.read),
            "read in a session": cookie(read_session),
            "write": bearer(write),
            "write, scheme in small letters": {"Authorization": f"bearer {write}"},
            "write by basic": basic("alice", write),
            "write as user": basic(write, ""),
            "write in a session": cookie(session),
            "write in a session, behind another cookie": {
                "Cookie": f"a=b; lb_session=x; lb_session={session}"
            },
            "a session and a wrong key": {**cookie(session), **bearer("wrong")},
            "admin": bearer(ADMIN_KEY),
            "admin by basic": basic("root", ADMIN_KEY),
            "admin in a session": cookie(log_in(bell, "acme", ADMIN_KEY)),
            "token": bearer(TOKEN),
            "signed now": cookie(signed(bell, "acme", 1, write, now + 60)),
            "expired": cookie(signed(bell, "acme", 1, write, now - 1)),
            "stretched": cookie(f"{number}.{int(expiry) + 60}.{mac}"),
            "forged": cookie(f"{number}.{expiry}.{swapped}"),
            "without a signature": cookie(f"{number}.{expiry}."),
            "number of another key": cookie("1." + read_session.partition(".")[2]),
            "session of another tenant": cookie(log_in(bell, "other", self.other)),
            "session of a revoked key": cookie(self.closed_session),
            "no session": cookie("..."),
        }

    def _hash_of(self, number: int) -> str:
        sql = "SELECT hex(hash) FROM keys WHERE tenant = 1 AND key = ?"
        [(stored,)] = self.bell.rows(sql, number)
        return str(stored).lower()

    def ask(self, row: Row, tenant: str, headers: dict[str, str]) -> Answer:
        """A request of a row, as one of our own pages would send it, from a source of its own."""
        method, target = row.request.split()
        if "{n}" in target:
            self.emails += 1
        target = target.replace("{t}", tenant).replace("{n}", str(self.emails))
        token = signatures.token(self.secret, tenant, 1, "https://example.com/")
        target = target.replace("{token}", token)
        kind = {"Content-Type": row.type} if row.type else {}
        headers = {**OUR_PAGE, **from_elsewhere(), **kind, **headers}
        return self.bell.ask(method, target, row.body, headers)


def all_rows() -> list[tuple[str, Row]]:
    return [*ROWS.items(), *MORE]


NAMES = [name for name, _ in all_rows()]


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    """A server where `acme` and `other` are closed; `bare` is open."""
    with serving(tmp_path_factory.mktemp("open"), ADMIN_KEY=ADMIN_KEY) as bell:
        yield Cast(bell)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    """A server where all are."""
    settings = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY, "METRICS_TOKEN": TOKEN}
    with serving(tmp_path_factory.mktemp("closed"), **settings) as bell:
        yield Cast(bell)


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert set(ROWS) == {route.name for route in ROUTES}
    for route in ROUTES:
        row = ROWS[route.name]
        assert row.request.split()[0] == route.method, route.name


def expected(row: Row, answers: tuple[int, int, int, int]) -> int:
    """What the table says of a row that is closed."""
    if row.kind in (PUBLIC, METRICS):
        return row.ok
    column = {READ: 0, WRITE: 1, PAGE: 2, PAGE_WRITE: 3}[row.kind]
    return answers[column] or row.ok


def without_date(answer: Answer) -> Answer:
    return answer._replace(headers={k: v for k, v in answer.headers.items() if k != "date"})


def check(cast: Cast, name: str, row: Row, tenant: str, credential: str, want: int) -> None:
    """Ask, and look at the answer. Each status has a form of its own."""
    answer = cast.ask(row, tenant, cast.credentials[credential])
    told = f"{name} of {tenant} with {credential}: {answer.status} {answer.body[:200]!r}"
    assert answer.status == want, told
    if row.kind == PUBLIC or want == row.ok:
        return
    if want == 401:
        assert answer.headers["content-type"] == "application/problem+json", told
        schemes = answer.headers["www-authenticate"]
        assert schemes.startswith("Bearer ")
        assert ", Basic " in schemes
    elif want == 303:
        assert answer.headers["location"].startswith(f"/{tenant}/dashboard/login"), told
        assert "set-cookie" not in answer.headers
    elif want == 404:
        nowhere = Row(PUBLIC, row.request.split()[0] + " /no/such/path/at/all", 404, row.body)
        there = cast.ask(nowhere._replace(type=row.type), tenant, {})
        if answer.headers.get("connection") == "close":  # what is not read of a batch's body
            there.headers["connection"] = "close"
        assert without_date(answer) == without_date(there), told


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_tenant(cast: Cast, name: str) -> None:
    row = dict(all_rows())[name]
    for credential, answers in CLOSED.items():
        check(cast, name, row, "acme", credential, expected(row, answers))


@pytest.mark.parametrize("name", NAMES)
def test_an_open_tenant_looks_at_no_key(cast: Cast, name: str) -> None:
    row = dict(all_rows())[name]
    for credential in CLOSED:
        check(cast, name, row, "bare", credential, row.open or row.ok)


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_bell(closed: Cast, name: str) -> None:
    row = dict(all_rows())[name]
    for credential, answers in CLOSED.items():
        if row.kind == METRICS:
            good = (*WITH_ADMIN_KEY[:2], "token")  # a session is of a tenant
            want = row.ok if credential in good else 401
            check(closed, name, row, "acme", credential, want)
            continue
        check(closed, name, row, "acme", credential, expected(row, answers))
        if credential in WITH_ADMIN_KEY[:2]:
            answers = OWNER
        elif "session" in credential or "signed" in credential:
            answers = NOBODY  # of acme: its cookie says nothing elsewhere
        elif answers in (READER, OWNER, STRANGER):
            answers = STRANGER
        check(closed, name, row, "bare", credential, expected(row, answers))


@pytest.mark.parametrize(
    "name", [name for name, row in all_rows() if row.kind not in (PUBLIC, METRICS)]
)
def test_a_closed_bell_does_not_tell_who_is_there(closed: Cast, name: str) -> None:
    """A tenant without keys, and a name that is none, are the same to all but ADMIN_KEY."""
    row = dict(all_rows())[name]
    for credential in ("none", "cut", "other", "revoked", "write", "write in a session"):
        headers = closed.credentials[credential]
        there = closed.ask(row, "bare", headers)
        not_there = closed.ask(row, "nobo", headers)
        for one in (there, not_there):
            if "location" in one.headers:
                one.headers["location"] = one.headers["location"].replace("bare", "nobo")
        assert without_date(there) == without_date(not_there), (name, credential)


def test_a_closed_bell_creates_tenants_for_admin_key_alone(closed: Cast) -> None:
    row = ROWS["create_email"]
    for credential in CLOSED:
        assert closed.ask(row, "fresh", closed.credentials[credential]).status != 201 or (
            credential in WITH_ADMIN_KEY
        )
    assert closed.ask(row, "fresh", bearer(ADMIN_KEY)).status == 201
    key = create_key(closed.bell, "fresher")
    assert closed.ask(row, "fresher", bearer(key)).json["email_id"] == 1


def test_the_measures_are_open_unless_there_is_a_token(cast: Cast) -> None:
    for credential in CLOSED:
        assert cast.ask(ROWS["metrics"], "", cast.credentials[credential]).status == 200


def test_nothing_of_a_key_is_said_anywhere(closed: Cast) -> None:
    """Not in the log, and not in the files: hashes alone."""
    bell = closed.bell
    said = bell.log_file.read_bytes() + bell.error_file.read_bytes()
    stored = b"".join(
        file.read_bytes() for file in bell.database.parent.iterdir() if file.is_file()
    )
    for key in (closed.write, closed.read, closed.revoked, closed.other, ADMIN_KEY, TOKEN):
        assert key.encode() not in said
        assert key.encode() not in stored
