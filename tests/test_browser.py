"""The pages in a real browser: live, without JavaScript, by keyboard, on a phone, under attack"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from bell import BROWSER, Bell, fresh_tenant, serving, wait_until
from browser import Visit, faults, needs_chromium, serving_page, visiting

pytestmark = needs_chromium

PAGES = ("", "/emails", "/campaigns", "/links", "/clients", "/events", "/emails/1", "/campaigns/1")
NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "'-alert(3)-'<svg/onload=alert(4)>",
    "</title></textarea></table><script src=//127.0.0.2/x.js></script>",
    "<a href=javascript:alert(5) autofocus onfocus=alert(6)>x</a>",
    "<meta http-equiv=refresh content='0;url=//127.0.0.2/'><base href=//127.0.0.2/>",
    "{{ 7*7 }}<style>@import '//127.0.0.2/x.css';</style>",
    "\u202e<iframe srcdoc='<script>parent.alert(7)</script>'></iframe>",
)


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("browser"), INSTANT_SECONDS="0") as bell:
        yield bell


@pytest.fixture(scope="module")
def tenant(bell: Bell) -> str:
    """One with something on every page."""
    name = fresh_tenant()
    for n in range(1, 60):
        bell.create(name, subject=f"Letter {n}", recipient=f"u{n}@example.com", campaign="Spring")
    for n in range(1, 60):
        bell.get(f"/{name}/pixel/{n}.gif")
    bell.get(f"/{name}/click/1?url=https://example.com/{'long/' * 60}")
    bell.ask("GET", f"/{name}/pixel/2.gif", headers={"User-Agent": "Mozilla/5.0"})
    return name


def origin(bell: Bell) -> str:
    return f"http://127.0.0.1:{bell.port}"


def at(bell: Bell, tenant: str, page: str = "") -> str:
    return f"{origin(bell)}/{tenant}/dashboard{page}"


def figure(page: Page, term: str) -> str:
    """The number that stands under a term."""
    place = page.locator(f"dl.figures > div:has(dt:text-is('{term}')) strong")
    return place.inner_text()


def test_an_open_and_a_click_arrive_without_a_reload(bell: Bell, browser: Browser) -> None:
    tenant = fresh_tenant()
    answer = bell.ask("POST", f"/{tenant}/emails", {"subject": "Hello"})
    pixel = answer.json["tracking_pixel_url"]
    target = f"{origin(bell)}/health"
    click = bell.get(f"/{tenant}/click-url/1?url={quote(target, safe='')}").json["click_url"]
    with (
        visiting(browser) as dashboard,
        visiting(browser) as reader,
        serving_page(f'<h1>Hello</h1><img src="{pixel}" alt=""><a href="{click}">Go</a>') as mail,
    ):
        page = dashboard.page
        page.goto(at(bell, tenant))
        page.evaluate("window.same = true")
        assert (figure(page, "Sent"), figure(page, "Opens"), figure(page, "Clicks")) == (
            "1",
            "0",
            "0",
        )
        expect(page.locator(".live")).to_contain_text(re.compile(r"updated \d+ s ago"))

        reader.page.goto(mail)
        wait_until(lambda: figure(page, "Opens") == "1")
        expect(page.locator("table.events tbody tr")).to_have_count(1)

        reader.page.click("text=Go")
        reader.page.wait_for_url(target)
        wait_until(lambda: figure(page, "Clicks") == "1")
        expect(page.locator("table.events tbody tr")).to_have_count(2)
        expect(page.locator("[data-say]")).to_have_text(re.compile(r"new events?"))
        assert page.evaluate("window.same"), "it was loaded again"
        dashboard.check(origin(bell))


def test_nothing_new_is_no_change(bell: Bell, browser: Browser, tenant: str) -> None:
    statuses: list[int] = []
    with visiting(browser) as visit:
        page = visit.page
        page.on(
            "response",
            lambda answer: statuses.append(answer.status) if "/live" in answer.url else None,
        )
        page.goto(at(bell, tenant))
        page.wait_for_selector("#values")
        page.evaluate(
            "window.changes = 0; new MutationObserver(l => window.changes += l.length)"
            ".observe(document.querySelector('[data-live]'), {subtree: true, childList: true,"
            " attributes: true, characterData: true})"
        )
        for _ in range(100):
            page.wait_for_timeout(200)
            if len(statuses) >= 3:
                break
        assert statuses[:3] == [200, 304, 304]
        assert page.evaluate("window.changes") == 0


def test_what_is_new_takes_neither_focus_nor_place_nor_what_is_unfolded(
    bell: Bell, browser: Browser
) -> None:
    tenant = fresh_tenant()
    for n in range(1, 16):
        bell.create(tenant, subject=f"Letter {n}")
        bell.get(f"/{tenant}/pixel/{n}.gif")
    with visiting(browser) as visit:
        page = visit.page
        page.goto(at(bell, tenant))
        page.click("#values > summary")
        link = page.locator("table.events tbody tr").nth(2).locator("a")
        link.focus()
        name = link.inner_text()
        page.evaluate("document.querySelector('.events').scrollIntoView()")
        before = link.bounding_box()
        bell.get(f"/{tenant}/pixel/1.gif")
        expect(page.locator("table.events tbody tr").first).to_contain_text("Letter 1")
        wait_until(lambda: figure(page, "Opens") == "16")
        assert page.evaluate("document.activeElement.innerText") == name
        assert page.locator("#values").get_attribute("open") is not None
        after = link.bounding_box()
        assert before
        assert after
        assert page.evaluate("window.scrollY") > 0


def test_it_can_be_paused(bell: Bell, browser: Browser) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    with visiting(browser) as visit:
        page = visit.page
        page.goto(at(bell, tenant, "/emails/1"))
        page.click("text=Pause")
        expect(page.locator(".live")).to_contain_text("Paused")
        asked = len(visit.requests)
        bell.get(f"/{tenant}/pixel/1.gif")
        page.wait_for_timeout(4000)
        assert len(visit.requests) == asked
        assert figure(page, "Opens") == "0"
        page.click("text=Go on")
        wait_until(lambda: figure(page, "Opens") == "1")


def test_a_page_that_is_hidden_asks_nothing(bell: Bell, browser: Browser, tenant: str) -> None:
    with visiting(browser) as visit:
        page = visit.page
        page.add_init_script(
            "let hidden = true; Object.defineProperty(document, 'hidden', {get: () => hidden});"
            "window.show = () => { hidden = false;"
            " document.dispatchEvent(new Event('visibilitychange')) }"
        )
        page.goto(at(bell, tenant, "/emails/1"))
        page.wait_for_timeout(4000)
        asked = len([url for url in visit.requests if url.endswith("/emails/1")])
        assert asked == 1
        page.evaluate("window.show()")
        wait_until(
            lambda: (
                page.wait_for_timeout(50)  # type: ignore[func-returns-value]
                or len([url for url in visit.requests if url.endswith("/emails/1")]) == 2
            )
        )


def test_a_server_that_is_away_is_said(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path) as bell:
        bell.create("acme")
        with visiting(browser) as visit:
            visit.page.goto(at(bell, "acme"))
            bell.stop()
            expect(visit.page.locator(".live")).to_contain_text("No connection")


@pytest.mark.parametrize("script", [True, False])
def test_trying_it(bell: Bell, browser: Browser, script: bool) -> None:
    tenant = fresh_tenant()
    with visiting(browser, java_script_enabled=script) as visit:
        page = visit.page
        page.goto(at(bell, tenant))
        page.locator("main button", has_text="Try it").click()
        page.wait_for_url(re.compile(r"/dashboard/emails/1"))
        expect(page.locator("h2").first).to_contain_text("test email")
        timeline = page.locator(".timeline")
        if script:
            expect(timeline).to_contain_text("Opened by a person")
            assert "try" not in page.url
        else:
            wait_until(lambda: len(bell.rows(OPENS, tenant)) == 1)
            page.locator("main").get_by_text("look again").click()
            expect(timeline).to_contain_text("Opened by a person")
        assert len(bell.rows(OPENS, tenant)) == 1
        visit.check(origin(bell))


OPENS = "SELECT seq FROM events JOIN tenants USING (tenant) WHERE name = ? AND kind = 0"


def test_its_tracked_link_leads_back(bell: Bell, browser: Browser) -> None:
    tenant = fresh_tenant()
    with visiting(browser) as visit:
        page = visit.page
        page.goto(at(bell, tenant))
        page.locator("main button", has_text="Try it").click()
        page.click("text=follow its tracked link")
        page.wait_for_url(f"http://localhost:{bell.port}/{tenant}/dashboard/emails/1")
        expect(page.locator(".timeline")).to_contain_text("Link followed by a person")


def test_it_works_without_javascript(bell: Bell, browser: Browser, tenant: str) -> None:
    with visiting(browser, java_script_enabled=False, timezone_id="Asia/Kolkata") as visit:
        page = visit.page
        page.goto(origin(bell))
        page.fill("#tenant", tenant)
        page.click("text=Open its dashboard")
        assert page.url == at(bell, tenant)
        assert figure(page, "Sent") == "59"
        for hidden in ("Pause", "Copy"):
            expect(page.get_by_role("button", name=hidden)).to_have_count(0)
        page.click("text=The values as a table")
        expect(page.locator("#values table")).to_be_visible()
        page.get_by_role("navigation", name="Period").get_by_role("link", name="7 days").click()
        expect(page.locator("h1")).to_have_text("The last 7 days")
        page.click("summary:text-is('Dates')")
        page.fill("#from", "2020-01-01")
        page.fill("#to", "2020-01-31")
        page.fill("#tz", "Asia/Tokyo")
        page.click("text=Show >> nth=0")
        expect(page.locator("h1")).to_have_text("1 Jan to 31 Jan 2020")
        expect(page.locator("footer")).to_contain_text("Asia/Tokyo")
        page.get_by_role("navigation", name=tenant).get_by_role("link", name="Emails").click()
        page.fill("#q", "Letter 44")
        page.click("text=Search >> nth=-1")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.click("tbody a >> nth=0")
        expect(page.locator("h1")).to_have_text("Letter 44")
        visit.check(origin(bell))


def test_times_are_the_readers(bell: Bell, browser: Browser, tenant: str) -> None:
    with visiting(browser, timezone_id="Asia/Kolkata") as visit:
        page = visit.page
        page.goto(at(bell, tenant))
        page.wait_for_url(re.compile("tz=Asia"))
        expect(page.locator("footer")).to_contain_text("Times in Asia/")
        page.goto(at(bell, tenant, "?tz=America/Lima"))
        page.wait_for_timeout(300)
        expect(page.locator("footer")).to_contain_text("Times in America/Lima")


def test_commands_can_be_copied(bell: Bell, browser: Browser) -> None:
    with visiting(browser, permissions=["clipboard-read", "clipboard-write"]) as visit:
        page = visit.page
        page.goto(at(bell, "nobody-yet"))
        page.get_by_role("button", name="Copy").first.click()
        expect(page.get_by_role("button", name="Copied")).to_have_count(1)
        text = page.evaluate("navigator.clipboard.readText()")
        assert text.startswith("curl http://localhost:")
        assert text.endswith("}'")


@pytest.mark.parametrize("script", [True, False])
def test_hostile_texts_do_nothing(bell: Bell, browser: Browser, script: bool) -> None:
    tenant = fresh_tenant()
    for n, text in enumerate(NASTY, 1):
        metadata = {text[:64]: text}
        bell.create(tenant, subject=text, recipient=text, campaign=text, metadata=metadata)
        agent = f"{BROWSER} {text}".encode().decode("latin-1")
        bell.ask("GET", f"/{tenant}/pixel/{n}.gif", headers={"User-Agent": agent})
        for url in (f"https://example.com/?{text}#{text}", f"https://example.com/{text}"):
            target = f"/{tenant}/click/{n}?url={quote(url, safe='')}"
            bell.ask("GET", target, headers={"User-Agent": agent})
    with visiting(browser, java_script_enabled=script) as visit:
        for path in (*PAGES, *(f"/emails/{n}?try=1" for n in range(2, 1 + len(NASTY)))):
            visit.page.goto(at(bell, tenant, path))
            if script:
                visit.page.wait_for_timeout(100)
        for text in NASTY:
            value = quote(text, safe="")
            for query in ("?tz={}", "?period={}", "?from={}&to={}", "/emails?q={}", "/links?q={}"):
                visit.page.goto(at(bell, tenant, query.replace("{}", value)))
            visit.page.goto(f"{origin(bell)}/?tenant={value}")
        visit.check(origin(bell))


def test_hostile_texts_that_come_live_do_nothing(bell: Bell, browser: Browser) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    with visiting(browser) as visit:
        visit.page.goto(at(bell, tenant))
        for n, text in enumerate(NASTY, 2):
            bell.create(tenant, subject=text, recipient=text, campaign=text)
            bell.get(f"/{tenant}/pixel/{n}.gif")
        expect(visit.page.locator("table.events tbody tr")).to_have_count(len(NASTY))
        expect(visit.page.locator("table.events")).to_contain_text(NASTY[0])
        visit.check(origin(bell))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(bell: Bell, browser: Browser, tenant: str, scheme: str) -> None:
    # Axe is a script of another origin than ours, which the policy would not let in.
    with visiting(browser, color_scheme=scheme, bypass_csp=True) as visit:
        page = visit.page
        page.goto(origin(bell))
        assert faults(page) == []
        for path in (*PAGES, "/emails?q=nothing", "/emails/1?try=1"):
            page.goto(at(bell, tenant, path))
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            page.wait_for_timeout(300)
            assert faults(page) == [], path
        for path in PAGES[:6]:
            page.goto(at(bell, "nobody-yet", path))
            assert faults(page) == [], path


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_nothing_sticks_out(bell: Bell, browser: Browser, tenant: str, width: int) -> None:
    with visiting(browser, viewport={"width": width, "height": 800}) as visit:
        page = visit.page
        for path in (
            "/",
            *(f"/{tenant}/dashboard{path}" for path in PAGES),
            "/nobody-yet/dashboard",
        ):
            page.goto(origin(bell) + path)
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_by_keyboard(bell: Bell, browser: Browser, tenant: str) -> None:
    with visiting(browser) as visit:
        page = visit.page
        page.goto(at(bell, tenant))
        page.keyboard.press("Tab")
        assert focused(visit) == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        seen = []
        for _ in range(12):
            page.keyboard.press("Tab")
            seen.append(focused(visit))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", seen
        assert [one.splitlines()[-1] for one in seen[:6]] == [
            "24 hours",
            "7 days",
            "30 days",
            "90 days",
            "12 months",
            "All time",
        ]
        assert "Dates" in seen
        assert "Pause" in seen
        page.locator("summary", has_text="Dates").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#from")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#from")).to_be_hidden()
        assert focused(visit) == "Dates"


def focused(visit: Visit) -> str:
    """The text of what has the focus."""
    text: str = visit.page.evaluate("document.activeElement.innerText")
    return text.strip()


def test_landmarks_and_headings(bell: Bell, browser: Browser, tenant: str) -> None:
    with visiting(browser) as visit:
        for path in PAGES:
            visit.page.goto(at(bell, tenant, path))
            for tag in ("main", "h1", "header", "footer"):
                assert visit.page.locator(tag).count() == 1, (path, tag)
            levels = visit.page.evaluate(
                "[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])"
            )
            assert all(b - a <= 1 for a, b in pairwise(levels)), path
            missing = visit.page.locator("table:not(:has(thead th))").count()
            assert missing == 0, path
