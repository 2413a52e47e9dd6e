"""GET /{tenant}/dashboard and the pages below it, and the second process that makes them"""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest

from bell import BROWSER, Bell, Line, dump, events, fresh_tenant, raw_request, serving, wait_until

MACHINE = "Mozilla/5.0"  # Apple's Mail Privacy Protection
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("dashboard"), INSTANT_SECONDS="0") as bell:
        yield bell


class Page(HTMLParser):
    """A page as a browser takes it apart: tags, text, figures, rows of its table of events."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.figures: dict[str, str] = {}  # by their term
        self.rows: list[str] = []
        self.inside: list[str] = []
        self.term = ""
        self.event = False  # within a row of an event
        self.feed(body.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "br", "option"):
            self.inside.append(tag)
        if tag == "tr":
            self.event = re.match(r"e\d+$", dict(attrs).get("id") or "") is not None
            self.rows += [""] * self.event
        if tag == "dt":
            self.term = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag, f"{tag} ends out of order"

    def handle_data(self, data: str) -> None:
        self.text += data
        if "dt" in self.inside:
            self.term += data
        elif "dd" in self.inside:
            self.figures[self.term] = self.figures.get(self.term, "") + " " + data
        elif "td" in self.inside and self.event:
            self.rows[-1] += data

    def figure(self, term: str) -> int:
        """The number beside a term."""
        found = re.match(r"\s*([\d,]+)", self.figures[term])
        assert found, self.figures
        return int(found[1].replace(",", ""))


PAGES = ("", "/emails", "/campaigns", "/links", "/clients", "/events", "/emails/1", "/campaigns/1")


def dashboard(bell: Bell, tenant: str, page: str = "") -> Page:
    answer = bell.get(f"/{tenant}/dashboard{page}")
    assert answer.status == 200, answer
    return Page(answer.body)


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    for n in range(1, 5):
        bell.create(tenant, subject=f"Subject {n}", recipient="ada@example.com")
    for email, agent in ((1, BROWSER), (1, BROWSER), (2, GMAIL), (3, MACHINE)):
        bell.ask("GET", f"/{tenant}/pixel/{email}.gif", headers={"User-Agent": agent})
    bell.get(f"/{tenant}/click/4?url=https://example.com/page")
    answer = bell.get(f"/{tenant}/dashboard")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.body)
    assert page.figure("Sent") == 4
    assert page.figure("Opens") == 3
    assert page.figure("Unique opens") == 3  # the third is inferred from a click
    assert page.figure("Clicks") == 1
    assert page.figure("Unique clicks") == 1
    assert re.search(r"75\.0 ?%", page.figures["Unique opens"])
    assert re.search(r"\b1 inferred", page.figures["Unique opens"])
    assert re.search(r"25\.0 ?%", page.figures["Unique clicks"])
    assert re.search(r"33\.3 ?%", page.figures["Unique clicks"])
    assert re.search(r"machines? 1\b", page.figures["Opens"])
    assert len(page.rows) == 5
    assert "https://example.com/page" in page.rows[0]
    assert "Subject 4" in page.rows[0]
    assert "machine" in page.rows[1]
    assert "proxy" in page.rows[2]
    assert "by a person" in page.rows[3]


def test_figures_are_exact_at_once(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for n in range(1, 6):
        bell.get(f"/{tenant}/pixel/1.gif")
        assert dashboard(bell, tenant).figure("Opens") == n


def test_it_shows_the_newest_events_and_a_list_all_of_them(bell: Bell) -> None:
    tenant = fresh_tenant()
    for n in range(1, 61):
        bell.create(tenant, subject=f"<{n}>")
        bell.get(f"/{tenant}/pixel/{n}.gif")
    rows = dashboard(bell, tenant).rows
    assert len(rows) == 10
    page = dashboard(bell, tenant, "/events")
    assert len(page.rows) == 50
    assert rows == [row[: len(short)] for row, short in zip(page.rows, rows, strict=False)]
    [rest] = [tag["href"] for name, tag in page.tags if name == "a" and tag.get("rel") == "next"]
    older = Page(bell.get(rest or "").body)
    assert not [tag for name, tag in older.tags if tag.get("rel") == "next"]
    for n, row in zip(range(60, 0, -1), page.rows + older.rows, strict=True):
        assert f"<{n}>" in row


def test_without_anything_to_divide_by_there_is_no_rate(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    page = dashboard(bell, tenant)
    assert page.figure("Sent") == 1
    assert re.search(r"\b0\.0 ?% of sent", page.figures["Unique opens"])
    assert not re.search(r"\d ?% of opened", page.figures["Unique clicks"])


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</td></table><script src=//evil.example></script>",
    "{{ 7*7 }}{% raw %}",
    "<!--",
    "&lt;b&gt;&amp;",
    "\u202eevil\u2066",
    "<svg/onload=alert(1)>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_as_text(bell: Bell, text: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, subject=f"s{text}", recipient=f"r{text}", campaign=f"c{text}")
    agent = f"a{text}".encode().decode("latin-1")
    bell.ask("GET", f"/{tenant}/pixel/1.gif", headers={"User-Agent": agent})
    bell.ask("GET", f"/{tenant}/click/1", headers={"User-Agent": agent})
    bell.get(f"/{tenant}/click/1?url={quote('https://example.com/?x=' + text + '#' + text)}")
    for path in PAGES:
        page = dashboard(bell, tenant, path)
        found = {one for one in "src" if f"{one}{text}" in page.text}
        found |= {"a"} if f"a{text}" in page.text else set()
        assert found == SHOWN[path], path
        check_tags(page)


# Which of subject, recipient, campaign and user agent a page shows.
SHOWN = {
    "": {"s", "r", "c"},
    "/emails": {"s", "r", "c"},
    "/campaigns": {"c"},
    "/links": set(),
    "/clients": set(),
    "/events": {"s", "r", "a"},
    "/emails/1": {"s", "r", "c", "a"},
    "/campaigns/1": {"s", "r", "c"},
}


def check_tags(page: Page) -> None:
    """Nothing in a page but what is ours."""
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "base", "style", "embed", "foreignobject")
        if tag == "script":
            assert re.fullmatch(r"/-/app\.js\?v=\w+", attributes["src"] or "")
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href", "action"):
                assert re.match(r"/(?!/)|#main$|$", value or ""), f"{tag} {name}={value}"


@pytest.mark.parametrize("text", [*HOSTILE, "%00", "%FF", "%ED%A0%80", "1" * 5000])
@pytest.mark.parametrize(
    "name", ["q", "next", "period", "from", "to", "tz", "kind", "only", "order"]
)
def test_hostile_queries_are_no_failure(bell: Bell, name: str, text: str) -> None:
    value = text if text.startswith("%") else quote(text)
    for path in PAGES[:6]:
        check_tags(dashboard(bell, "hostile", f"{path}?{name}={value}"))


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/emails/0",
        "/emails/2",
        "/emails/x",
        "/emails/%31",
        "/emails/1.gif",
        "/emails/99999999999999999999",
        "/emails/%D9%A1",
        "/campaigns/1",
        "/campaigns/x",
        "/links/1",
        "/live/1",
        "/try",
    ],
)
def test_what_is_not_there_is_not_found(bell: Bell, path: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/dashboard{path}"))
        assert line.answer().status in (404, 405)


def test_another_tenants_email_is_not_found(bell: Bell) -> None:
    alice, charlie = fresh_tenant(), fresh_tenant()
    bell.create(alice, subject="For Bob", campaign="Secret")
    bell.create(alice, subject="For Bob too", campaign="Secret")
    bell.create(charlie)
    for path in ("/emails/2", "/campaigns/1"):
        assert bell.get(f"/{charlie}/dashboard{path}").status == 404
    for path in PAGES[:6]:
        body = bell.get(f"/{charlie}/dashboard{path}").body
        assert b"Bob" not in body
        assert b"Secret" not in body


def test_periods(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for period in ("24h", "7d", "30d", "90d", "12m", "all"):
        page = dashboard(bell, tenant, f"?period={period}")
        assert page.figure("Sent") == 1
        current = [tag for name, tag in page.tags if tag.get("aria-current") == "true"]
        assert [f"period={period}" in (tag["href"] or "") for tag in current] == [True]
    assert dashboard(bell, tenant, "?from=2020-01-01&to=2020-01-31").figure("Sent") == 0
    assert dashboard(bell, tenant, "?from=2020-01-01").figure("Sent") == 1
    assert dashboard(bell, tenant, "?to=2020-01-01").figure("Sent") == 1  # cannot be: the default


def test_the_period_before_is_beside_it_in_words(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    figures = dashboard(bell, tenant).figures
    assert "+1" in figures["Sent"]
    assert "none before" in figures["Sent"]
    assert "before" not in dashboard(bell, tenant, "?period=all").figures["Sent"]


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York", "UTC"])
def test_the_zone_is_named_and_stays_in_links(bell: Bell, zone: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    page = dashboard(bell, tenant, f"?tz={zone}")
    assert f"Times in {zone}" in page.text
    links = [tag["href"] or "" for name, tag in page.tags if name == "a"]
    inside = [link for link in links if "/dashboard" in link]
    assert len(inside) > 10
    assert all(f"tz={quote(zone, safe='')}" in link for link in inside)


def test_an_unknown_zone_is_said(bell: Bell) -> None:
    assert "Times in UTC, since" in dashboard(bell, fresh_tenant(), "?tz=Moon/Sea").text


def test_search_and_paging(bell: Bell) -> None:
    tenant = fresh_tenant()
    for n in range(1, 56):
        bell.create(tenant, subject=f"Note {n}", recipient=f"u{n}@example.com", campaign=f"c{n}")
    for page, of in (("/emails", "Note"), ("/campaigns?order=newest", "c")):
        first = dashboard(bell, tenant, page)
        [more] = [tag["href"] or "" for name, tag in first.tags if tag.get("rel") == "next"]
        second = Page(bell.get(more).body)
        assert f"{of} 6" in first.text or f"{of}6" in first.text
        assert f"{of} 5\n" not in first.text
        assert not [tag for name, tag in second.tags if tag.get("rel") == "next"]
    for query, found, missing in (
        ("/emails?q=note+7", "Note 7", "Note 8"),
        ("/emails?q=U44@", "Note 44", "Note 45"),
        ("/emails?q=u44", "Note 44", "Note 45"),
        ("/emails?q=55", "Note 55", "Note 54"),
        ("/campaigns?q=C33", "c33", "c34"),
    ):
        text = dashboard(bell, tenant, query).text
        assert found in text
        assert missing not in text
    assert "Show all" in dashboard(bell, tenant, "/emails?q=nowhere").text


def test_an_emails_page_says_why(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, subject="Hello", recipient="ada@example.com", metadata={"order": "77"})
    for agent in (BROWSER, GMAIL, MACHINE):
        bell.ask("GET", f"/{tenant}/pixel/1.gif", headers={"User-Agent": agent})
    text = " ".join(dashboard(bell, tenant, "/emails/1").text.split())
    for words in (
        "Hello",
        "ada@example.com",
        "77",
        "Opened twice; no link was followed yet.",
        "Opened by a person The user agent is a browser's. It counts.",
        "Opened by a person, through a mail proxy Gmail's image proxy fetched it",
        "Fetched by a machine Apple Mail Privacy Protection fetched it ahead",
        "Registered",
    ):
        assert words in text, words


def test_only_a_new_email_is_opened_by_its_page(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    pixel = f"/{tenant}/pixel/1.gif"
    sources = [tag.get("src") for _, tag in dashboard(bell, tenant, "/emails/1?try=1").tags]
    assert pixel in sources
    sources = [tag.get("src") for _, tag in dashboard(bell, tenant, "/emails/1").tags]
    assert pixel not in sources


def test_what_is_live_changes_only_with_what_it_shows(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    target = f"/{tenant}/dashboard/live?period=all"
    first = bell.get(target)
    again = bell.get(target, If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    bell.get(f"/{tenant}/pixel/1.gif")
    third = bell.get(target, If_None_Match=first.headers["etag"])
    assert third.status == 200
    assert len(Page(third.body).rows) == 1


@pytest.mark.parametrize("path", PAGES)
def test_it_asks_nobody_else_and_its_links_lead_somewhere(bell: Bell, path: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, subject="x", campaign="y")
    bell.get(f"/{tenant}/click/1?url=https://elsewhere.example/")
    for query in ("", "?period=7d&tz=Asia/Tokyo", "?kind=click", "?kind=machine"):
        answer = bell.get(f"/{tenant}/dashboard{path}{query}")
        for tag, attributes in Page(answer.body).tags:
            for name in ("src", "href", "action", "srcset", "data", "poster", "formaction"):
                value = attributes.get(name)
                if value and value != "#main":
                    assert re.match(r"/(?!/)", value), f"{tag} {name}={value}"
                    if attributes.get("method") != "post":
                        assert bell.get(value).status == 200, value


def test_its_policy_is_strict(bell: Bell) -> None:
    answer = bell.get(f"/{fresh_tenant()}/dashboard")
    policy = {
        name: values.split()
        for name, _, values in (
            part.strip().partition(" ")
            for part in answer.headers["content-security-policy"].split(";")
        )
    }
    assert policy["default-src"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert policy["base-uri"] == ["'none'"]
    assert set(policy["form-action"]) <= {"'self'", "'none'"}
    for values in policy.values():
        assert set(values) <= {"'none'", "'self'", "data:"}
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    # Nobody else is told of an address; `no-referrer` would take the Origin from our own forms.
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "no-store" in answer.headers["cache-control"]
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("name", ["nobody", "a" * 64, "health", "NOBODY"])
def test_an_unknown_tenant_gets_an_empty_page_and_nothing_is_created(bell: Bell, name: str) -> None:
    before = dump(bell.database)
    page = dashboard(bell, name)
    assert page.rows == []
    assert f"/{name}/emails" in page.text, "it does not say how to begin"
    assert dump(bell.database) == before
    assert bell.get(f"/{name}/pixel/1.gif").status == 200
    assert dump(bell.database) == before


@pytest.mark.parametrize(
    "name", ["_a", "a" * 65, "a.b", "%00", "%FF", "..", "%3Cscript%3E", "%C3%A4"]
)
def test_what_is_no_name_of_a_tenant_has_no_dashboard(bell: Bell, name: str) -> None:
    with Line(bell.port) as line:
        line.send(raw_request(f"/{name}/dashboard"))
        answer = line.answer()
    assert answer.status in (400, 404)
    assert answer.headers["content-type"].startswith("text/html")
    assert b"<script" not in answer.body


def test_head_and_wrong_method(bell: Bell) -> None:
    head = bell.ask("HEAD", "/acme/dashboard")
    assert (head.status, head.body) == (200, b"")
    answer = bell.ask("POST", "/acme/dashboard", b"")
    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))


def test_addresses_carry_base_url(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(BASE_URL="https://track.example.com/bell")
    bell.create("acme")
    page = dashboard(bell, "bell/acme")
    assert "https://track.example.com/bell/acme/emails" in page.text
    assert "localhost" not in page.text


# The slow lane


def children(bell: Bell) -> list[int]:
    """Living child processes of a server (Linux)."""
    path = Path(f"/proc/{bell.pid}/task/{bell.pid}/children")
    if not path.exists():
        pytest.skip("this system does not list the children of a process")
    return [int(pid) for pid in path.read_text().split() if not ended(int(pid))]


def ended(pid: int) -> bool:
    """Whether a process is gone with all its threads, or at most waits to be reaped."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return len(threads) == 1 and Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except OSError:
        return True


def test_the_slow_lane_comes_goes_and_comes_back(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(SLOW_LANE_IDLE_SECONDS="0.5")
    bell.create("acme")
    bell.get("/acme/pixel/1.gif")
    assert children(bell) == [], "nobody asked for a page"
    for starts in (1, 2):
        assert dashboard(bell, "acme").figure("Sent") == 1
        assert len(children(bell)) == 1
        assert bell.metrics()["slow_lane_starts_total"] == starts
        wait_until(lambda: not children(bell))
    # Nothing is left of the processes that went.
    listed = Path(f"/proc/{bell.pid}/task/{bell.pid}/children")
    wait_until(lambda: listed.read_text() == "")


def test_the_slow_lane_stays_while_it_is_used(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    for _ in range(5):
        assert bell.get("/").status == 200
    assert bell.metrics()["slow_lane_starts_total"] == 1


def test_opens_go_on_when_the_slow_lane_is_killed(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    bell.create("acme")
    for n in range(1, 5):
        assert dashboard(bell, "acme").figure("Opens") == n - 1
        [pid] = children(bell)
        os.kill(pid, signal.SIGKILL)
        assert bell.get("/acme/pixel/1.gif").status == 200
        wait_until(lambda: not children(bell))
    assert len(events(bell, "acme")) == 4
    assert bell.get("/health").json["status"] == "healthy"


def test_the_page_right_after_a_kill_works(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    for _ in range(5):
        assert bell.get("/").status == 200
        [pid] = children(bell)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not children(bell))
        assert bell.get("/").status == 200


def test_opens_go_on_while_the_slow_lane_is_stopped(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    bell.create("acme")
    assert bell.get("/").status == 200
    [pid] = children(bell)
    os.kill(pid, signal.SIGSTOP)
    try:
        with Line(bell.port) as waiting:
            waiting.send(raw_request("/acme/dashboard"))
            for _ in range(20):
                assert bell.get("/acme/pixel/1.gif").status == 200
            os.kill(pid, signal.SIGCONT)
            assert waiting.answer().status == 200
    finally:
        os.kill(pid, signal.SIGCONT)


def test_clients_that_drip_do_not_keep_the_pages_from_others(
    start_bell: Callable[..., Bell],
) -> None:
    """Each has its answer but goes on sending, a byte at a time, and never closes."""
    bell = start_bell()
    assert bell.get("/").status == 200
    enough = threading.Event()
    with ExitStack() as clients:
        lines = [clients.enter_context(Line(bell.port)) for _ in range(16)]
        for line in lines:
            line.send(raw_request("/"))

        def drip() -> None:
            while not enough.wait(0.2):
                for line in lines:
                    try:
                        line.send(b"x")
                    except OSError:
                        pass  # it was cut off: that is what is wanted

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            with Line(bell.port) as line:
                line.socket.settimeout(8)
                line.send(raw_request("/acme/dashboard"))
                assert line.answer().status == 200
        except TimeoutError:
            pytest.fail("no page for others")
        finally:
            enough.set()
            dripping.join()
