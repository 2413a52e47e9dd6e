"""LOG_LEVEL=debug: each step of a request in the log, tied together by its number"""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bell import BROWSER, Bell, Line, raw_request, serving, wait_until

ADMIN, TOKEN = "the-key-of-the-admin", "the-token-of-metrics"
KEY = {"Authorization": f"Bearer {ADMIN}"}
SETTINGS = {"LOG_LEVEL": "debug", "AUTH": "keys", "ADMIN_KEY": ADMIN, "METRICS_TOKEN": TOKEN}

MARKS = itertools.count()
Steps = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """A server that tells everything, where acme has an email."""
    with serving(tmp_path_factory.mktemp("told"), **SETTINGS) as bell:
        assert bell.ask("POST", "/acme/emails", {}, KEY).status == 201
        yield bell


def debug(bell: Bell) -> list[dict[str, Any]]:
    """The lines at DEBUG so far; the last one may be half there yet."""
    whole, _, _ = bell.log_file.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if line["level"] == "DEBUG"]


def steps(bell: Bell, act: Callable[[], object], last: str = "Answered") -> Steps:
    """(message, fields) of the one request that `act` makes, once `last` was said, and of what
    has no request."""
    mark = f"/_mark{next(MARKS)}"
    bell.ask("GET", mark)  # once its line is there, so are those of all that was before
    wait_until(lambda: any(line["fields"].get("target") == mark for line in debug(bell)))
    act()

    def found() -> Steps:
        lines = [(line["message"], line["fields"]) for line in debug(bell)]
        targets = [fields.get("target") for _, fields in lines]
        lines = lines[targets.index(mark) + 1 :]
        reads = [n for n, (message, _) in enumerate(lines) if message == "Request read"]
        if not reads:
            return []
        number = lines[reads[-1]][1]["request"]
        return [one for one in lines if one[1].get("request") in (None, number)]

    wait_until(lambda: last in dict(found()))
    return found()


def get(bell: Bell, target: str, **headers: str) -> Callable[[], object]:
    return lambda: bell.get(target, **headers)


def messages(found: Steps) -> list[str]:
    return [message for message, _ in found]


def test_it_works(told: Bell) -> None:
    found = steps(told, get(told, "/acme/pixel/1.gif"))
    assert messages(found) == [
        "Request read",
        "Route found",
        "Let in",
        "Noted",
        "Committed",
        "Counted",
        "Answered",
    ]
    said = dict(found)
    assert said["Request read"]["target"] == "/acme/pixel/1.gif"
    assert said["Request read"]["method"] == "GET"
    assert said["Request read"]["client"] == "127.0.0.0"
    assert said["Route found"]["route"] == "pixel"
    assert said["Let in"]["by"] == "public"
    assert said["Committed"]["hits"] == 1
    assert said["Committed"]["milliseconds"] > 0
    counted = said["Counted"]
    assert (counted["what"], counted["class"], counted["stored"]) == ("open", "human", "event")
    assert counted["reasons"] == ["browser"]
    answered = said["Answered"]
    assert (answered["route"], answered["status"]) == ("pixel", 200)
    assert answered["milliseconds"] >= said["Committed"]["milliseconds"]


@pytest.mark.parametrize(
    ("method", "target", "headers", "why"),
    [
        ("GET", "/acme/pixel/99.gif", {}, "no such email was handed out"),
        ("GET", "/nobody/pixel/1.gif", {}, "no such email was handed out"),
        ("HEAD", "/acme/pixel/1.gif", {}, "it is a HEAD"),
        ("GET", "/acme/o/1/wrong.gif", {}, "its signature is not good"),
        ("GET", "/acme/l/1/wrong", {}, "its signature is not good"),
    ],
)
def test_why_a_hit_is_not_counted(
    told: Bell, method: str, target: str, headers: dict[str, str], why: str
) -> None:
    found = steps(told, lambda: told.ask(method, target, headers=headers))
    assert dict(found)["Not counted"]["why"] == [why]
    assert "Committed" not in messages(found)


def test_consent_opt_outs_switches_and_caps(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(LOG_LEVEL="debug", GPC="none", MAX_HITS_PER_EMAIL_HOUR="2")
    bell.create()
    assert bell.create(consent="none") == 2
    assert bell.create(recipient="ada@example.com") == 3
    assert bell.ask("POST", "/acme/optouts", {"recipient": "ada@example.com"}).status == 204
    assert bell.create() == 4
    assert bell.ask("POST", "/acme/blocks", {"email": 4}).status == 201
    assert bell.create() == 5

    def why(target: str, **headers: str) -> object:
        return dict(steps(bell, get(bell, target, **headers)))["Not counted"]["why"]

    assert why("/acme/pixel/1.gif", Sec_GPC="1") == ["Sec-GPC: 1"]
    assert why("/acme/pixel/2.gif") == ["no consent"]
    assert why("/acme/pixel/3.gif") == ["its recipient opted out"]
    assert why("/acme/pixel/4.gif") == ["it is switched off"]
    classes = [
        dict(steps(bell, get(bell, "/acme/pixel/5.gif")))["Counted"]["class"] for _ in range(8)
    ]
    assert classes[:2] == ["human", "human"]
    assert classes[-1] == "capped"


def test_a_click_and_what_it_was_taken_for(told: Bell) -> None:
    click = "/acme/click/1?url=https://example.com"
    counted = dict(steps(told, get(told, click, User_Agent="curl/8.0")))["Counted"]
    assert (counted["what"], counted["class"]) == ("click", "machine")
    assert counted["reasons"]


def test_a_request_that_is_refused_says_why(told: Bell) -> None:
    found = steps(told, get(told, "/acme/click/1?url=ftp://example.com"))
    answered = dict(found)["Answered"]
    assert answered["status"] == 400
    assert answered["why"] == "the url is not an absolute http or https URL"
    assert "Counted" not in messages(found)
    found = steps(told, get(told, "/no/such/thing/here"))
    assert messages(found) == ["Request read", "No route found", "Answered"]


def test_who_was_let_in_and_who_was_not(told: Bell) -> None:
    refused = dict(steps(told, get(told, "/acme/emails")))
    assert refused["Not let in"]["by"] == "nothing"
    assert refused["Answered"]["status"] == 401
    refused = dict(steps(told, get(told, "/acme/emails", Authorization="Bearer guess")))
    assert refused["Not let in"]["by"] == "a key that opens nothing"
    allowed = dict(steps(told, get(told, "/acme/settings", **KEY)))
    assert allowed["Let in"]["by"] == "ADMIN_KEY, write"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    signed = told.ask("POST", "/acme/dashboard/login", f"key={ADMIN}", form)
    cookie = signed.headers["set-cookie"].partition(";")[0]
    dashboard = get(told, "/acme/dashboard", Cookie=cookie)
    allowed = dict(steps(told, dashboard, "Answered by the slow lane"))
    assert allowed["Let in"]["by"] == "a cookie"


def test_the_way_through_the_slow_lane(told: Bell) -> None:
    # The processes write for themselves: whose line comes first is not said.
    found = steps(told, get(told, "/acme/emails", **KEY), "Answered by the slow lane")
    wait_until(lambda: any(x["message"] == "Handed over" for x in debug(told)))
    said = dict(found)
    assert said["Taken by the slow lane"]["route"] == "emails"
    assert (said["Made"]["status"], said["Made"]["what"]) == (200, "whole")
    assert 0 < said["Made"]["milliseconds"] <= said["Answered by the slow lane"]["milliseconds"]
    found = steps(told, get(told, "/acme/events.csv", **KEY), "Answered by the slow lane")
    assert "a piece" in [fields["what"] for message, fields in found if message == "Made"]


def test_a_batch_too(told: Bell) -> None:
    headers = {"Content-Type": "application/x-ndjson", **KEY}
    act = lambda: told.ask("POST", "/acme/emails", b"{}\n" * 10, headers)  # noqa: E731
    said = dict(steps(told, act, "Answered by the slow lane"))
    assert said["Taken by the slow lane"]["body_bytes"] > 0
    assert said["Made"]["status"] == 201


def test_requests_of_a_connection_are_told_apart(told: Bell) -> None:
    before = len(debug(told))
    with Line(told.port) as line:
        line.send(raw_request("/acme/pixel/1.gif") * 3 + b"garbage\r\n\r\n")
        line.rest()
    wait_until(lambda: "Refused as it came" in [x["message"] for x in debug(told)[before:]])
    lines = [(x["message"], x["fields"]) for x in debug(told)[before:]]
    answered = [fields for message, fields in lines if message == "Answered"]
    connection = answered[0]["request"].partition(".")[0]
    assert [one["request"] for one in answered] == [f"{connection}.{n}" for n in (1, 2, 3)]
    refused = dict(lines)["Refused as it came"]
    assert (refused["request"], refused["status"]) == (f"{connection}.4", 400)
    counted = [fields["request"] for message, fields in lines if message == "Counted"]
    assert counted == [one["request"] for one in answered]


def test_no_client_chooses_the_number(told: Bell) -> None:
    act = get(told, "/acme/emails", Little_Bell_Request="9999.9", **KEY)
    found = steps(told, act, "Answered by the slow lane")
    assert found[0][1]["request"] != "9999.9"


def test_nothing_secret_is_in_it(told: Bell) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    signed = told.ask("POST", "/acme/dashboard/login", f"key={ADMIN}", form)
    cookie = signed.headers["set-cookie"].partition(";")[0]
    told.get("/acme/dashboard", Cookie=cookie)
    told.get("/acme/dashboard/login?next=/acme/dashboard/secret-page")
    told.ask("POST", "/acme/dashboard/login", "key=a-key-that-was-mistyped", form)
    told.get("/metrics", Authorization=f"Bearer {TOKEN}")
    told.get("/acme/emails", Authorization="Bearer a-key-that-was-guessed")
    told.get("/acme/emails", **KEY)
    last = get(told, "/acme/settings", **KEY)
    steps(told, last)
    log = told.log_file.read_text()
    secret = told.database.with_name("tracking.db.secret").read_text().split()[0]
    value = cookie.partition("=")[2]
    for hidden in (ADMIN, TOKEN, value, secret, "mistyped", "guessed", "secret-page"):
        assert hidden not in log


@pytest.mark.parametrize(
    ("addresses", "shown"), [("none", ""), ("truncate", "203.0.113.0"), ("full", "203.0.113.7")]
)
def test_addresses_are_as_they_may_be_stored(
    start_bell: Callable[..., Bell], addresses: str, shown: str
) -> None:
    bell = start_bell(LOG_LEVEL="debug", ADDRESSES=addresses)
    bell.create()
    headers = {"User-Agent": BROWSER, "X-Forwarded-For": "203.0.113.7"}
    found = steps(bell, lambda: bell.ask("GET", "/acme/pixel/1.gif", headers=headers))
    assert dict(found)["Request read"]["client"] == shown
    if addresses != "full":
        assert "203.0.113.7" not in bell.log_file.read_text()


def test_a_tenant_may_be_stricter_with_addresses(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(LOG_LEVEL="debug")
    bell.create()
    assert bell.ask("PATCH", "/acme/settings", {"addresses": "none"}).status == 200
    headers = {"User-Agent": BROWSER, "X-Forwarded-For": "203.0.113.7"}
    for target in ("/acme/pixel/1.gif", "/acme/emails", "/acme/nothing/of/it"):
        found = steps(bell, get(bell, target, **headers), "Request read")
        assert dict(found)["Request read"]["client"] == ""
    assert "203.0.113" not in bell.log_file.read_text()


def test_keys_in_a_target_are_left_out(told: Bell) -> None:
    command = [sys.executable, "-m", "little_bell", "keys", "create", "mistaken"]
    key = subprocess.check_output(command, cwd=told.folder, text=True, timeout=30).strip()
    for target, shown in (
        (f"/mistaken/emails?key={key}&limit=1", "/mistaken/emails?key=lb_...&limit=1"),
        (f"/mistaken/emails/{key}/", "/mistaken/emails/lb_.../"),
        (f"/acme/emails?key={ADMIN}", "/acme/emails?key=..."),
        (f"/metrics?token={TOKEN}", "/metrics?token=..."),
    ):
        assert dict(steps(told, get(told, target)))["Request read"]["target"] == shown
    absolute = f"http://somebody:{ADMIN}word@localhost/acme/pixel/1.gif"
    with Line(told.port) as line:
        line.send(raw_request(absolute))
        assert line.answer().status == 200
    steps(told, get(told, "/health"))
    log = told.log_file.read_text()
    assert "http://...@localhost/acme/pixel/1.gif" in log
    for hidden in (key, ADMIN, TOKEN, "somebody"):
        assert hidden not in log


def test_the_answers_are_the_same(told: Bell, start_bell: Callable[..., Bell]) -> None:
    quiet = start_bell(**{**SETTINGS, "LOG_LEVEL": "info"})
    quiet.ask("POST", "/acme/emails", {}, KEY)
    for target in ("/acme/pixel/1.gif", "/acme/click/1?url=https://example.com", "/nothing"):
        one, other = told.get(target), quiet.get(target)
        for answer in (one, other):
            answer.headers.pop("date")
        assert one == other
    assert {line["level"] for line in quiet.lines()} == {"INFO"}


def test_at_other_levels_it_is_not_even_loaded() -> None:
    code = (
        "import sys, little_bell.serve, little_bell.wire.server, little_bell.wire.slow_lane;"
        "print([name for name in sys.modules if name.endswith('steps')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert ran.stdout == "[]\n", ran.stderr
