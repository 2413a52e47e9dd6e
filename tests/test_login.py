"""Logging in and out in a real browser, and what other sites cannot make it do"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from access import bearer, create_key, revoke
from bell import Bell, serving
from browser import faults, needs_chromium, serving_page, visiting

pytestmark = needs_chromium

ASKED_AGAIN = re.compile("status of 401")  # Chromium says so of the form that comes again


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("login")) as bell:
        for tenant in ("acme", "beta", "gone", "open"):
            bell.create(tenant, subject="Hello")
        yield bell


@pytest.fixture(scope="module")
def key(bell: Bell) -> str:
    create_key(bell, "beta")
    return create_key(bell, "acme")


def origin(bell: Bell) -> str:
    return f"http://127.0.0.1:{bell.port}"


def log_in(page: Page, key: str) -> None:
    page.fill("#key", key)
    page.click("text=Log in")


def emails_of(bell: Bell, tenant: str) -> int:
    [(last,)] = bell.rows("SELECT last_email FROM tenants WHERE name = ?", tenant)
    return int(last)


@pytest.mark.parametrize("script", [True, False])
def test_in_and_out(bell: Bell, browser: Browser, key: str, script: bool) -> None:
    with visiting(browser, java_script_enabled=script) as visit:
        page = visit.page
        page.goto(f"{origin(bell)}/acme/dashboard/emails?period=7d")
        expect(page.locator("h1")).to_have_text("acme needs a key")
        log_in(page, "lb_wrong")
        expect(page.locator("#wrong")).to_have_text("This key does not open acme.")
        assert page.input_value("#key") == ""
        log_in(page, key)
        page.wait_for_url("**/acme/dashboard/emails?period=7d**")
        expect(page.locator("table.emails tbody tr").last).to_contain_text("Hello")
        assert key not in page.content() + page.url
        [stored] = page.context.cookies()
        assert stored["httpOnly"]
        assert (stored["path"], stored["sameSite"]) == ("/acme", "Lax")
        # A session is of one tenant.
        page.goto(f"{origin(bell)}/beta/dashboard")
        expect(page.locator("h1")).to_have_text("beta needs a key")
        # What a form of ours does is ours, over plain http to an address that is no localhost too.
        before = emails_of(bell, "acme")
        page.goto(f"{origin(bell)}/acme/dashboard")
        page.locator("form.try button", has_text="Try it").first.click()
        page.wait_for_url("**/acme/dashboard/emails/*")
        assert emails_of(bell, "acme") == before + 1
        page.click("text=Log out")
        page.wait_for_url("**/acme/dashboard/login")
        assert page.context.cookies() == []
        page.goto(f"{origin(bell)}/acme/dashboard")
        expect(page.locator("h1")).to_have_text("acme needs a key")
        assert visit.dialogs == []
        assert [line for line in visit.errors if not ASKED_AGAIN.search(line)] == []


def test_a_page_that_is_looked_at_asks_for_a_key_once_its_own_is_revoked(
    bell: Bell, browser: Browser
) -> None:
    key = create_key(bell, "gone")
    with visiting(browser) as visit:
        page = visit.page
        page.goto(f"{origin(bell)}/gone/dashboard")
        log_in(page, key)
        expect(page.locator(".live")).to_contain_text("updated")
        revoke(bell, "gone", 1)
        page.wait_for_url("**/gone/dashboard/login?next=/gone/dashboard**")
        expect(page.locator("h1")).to_have_text("gone needs a key")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_is_for_everybody(bell: Bell, browser: Browser, key: str, scheme: str) -> None:
    with visiting(browser, color_scheme=scheme, viewport={"width": 360, "height": 740}) as visit:
        page = visit.page
        page.goto(f"{origin(bell)}/acme/dashboard/login")
        assert faults(page) == []
        assert page.evaluate("document.activeElement.id") == "key"
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        visit.check(origin(bell))
        page.keyboard.type("lb_wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#wrong")).to_be_visible()
        assert faults(page) == []
        page.goto(f"{origin(bell)}/open/dashboard")
        expect(page.locator(".notice")).to_contain_text("little-bell keys create open")
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_another_site_does_nothing_with_a_session(bell: Bell, browser: Browser, key: str) -> None:
    """A page of the same host on another port: browsers send it the cookie, SameSite or not."""
    form = '<form method="post" action="{0}/acme/dashboard/try"><button>Win</button></form>'
    with visiting(browser) as visit, serving_page(form.format(origin(bell))) as evil:
        page = visit.page
        page.goto(f"{origin(bell)}/acme/dashboard")
        log_in(page, key)
        expect(page.locator(".live")).to_contain_text("updated")
        before = emails_of(bell, "acme")
        page.goto(evil)
        page.click("text=Win")
        expect(page.locator("h1")).to_have_text("403 Forbidden")
        assert emails_of(bell, "acme") == before
        answer = bell.ask("POST", "/acme/emails", {}, bearer(key))
        assert answer.json["email_id"] == before + 1
