"""A real Chromium, driven by Playwright: what a page did is written down beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from bell import BROWSER
from programs import only_where

CHROMIUM = "/usr/bin/chromium"  # Debian's; none is ever downloaded
needs_chromium = only_where(Path(CHROMIUM).exists(), f"there is no {CHROMIUM}")
SERIOUS = ("serious", "critical")


def launch(playwright: Playwright) -> Browser:
    """Chromium, as tests and screenshots use it."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


class Visit(NamedTuple):
    """A page, and what it must not do."""

    page: Page
    dialogs: list[str]
    errors: list[str]  # of the console, violations of the policy among them
    requests: list[str]

    def check(self, origin: str) -> None:
        """Nothing ran that is not ours, and nobody else was asked."""
        assert self.dialogs == []
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith((origin + "/", "data:"))] == []


@contextmanager
def visiting(browser: Browser, **options: Any) -> Iterator[Visit]:
    """A page in a context of its own. Its user agent is an ordinary browser's."""
    options = {"user_agent": BROWSER, "timezone_id": "UTC", **options}
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(20_000)
    try:
        page = context.new_page()
        visit = Visit(page, [], [], [])
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on(
            "console",
            lambda line: visit.errors.append(line.text) if line.type == "error" else None,
        )

        def dismiss(dialog: Any) -> None:
            visit.dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", dismiss)
        yield visit
    finally:
        context.close()


def faults(page: Page) -> list[str]:
    """What axe finds to be serious or worse (https://github.com/dequelabs/axe-core)."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html']} {node.get('failureSummary')}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


@contextmanager
def serving_page(html: str) -> Iterator[str]:
    """A page on a loopback port of its own, as a mail client's window would be; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = html.encode("utf-8") if self.path == "/" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
