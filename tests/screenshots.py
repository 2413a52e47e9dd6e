"""Makes docs/img anew, `make screenshots`: pages with the mail of `little-bell demo`.

Fonts are the system's; with Inter (Debian: fonts-inter) they look as they do in docs/img.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, NamedTuple

from playwright.sync_api import ViewportSize, sync_playwright

from bell import serving
from browser import launch, visiting
from little_bell.demo.fill import fill
from little_bell.demo.traffic import Traffic

IMAGES = Path(__file__).parent.parent / "docs" / "img"
MOST = 500_000  # bytes of an image
ZONE = "Europe/Berlin"
WALL = 3_600_000  # ms that its clocks are ahead, about


class Shot(NamedTuple):
    """One image: its file, where the page is, how wide and at most how tall, in pixels."""

    file: str
    path: str
    tall: int
    wide: int = 1280
    scheme: Literal["light", "dark"] = "light"


HOME = "/shop/dashboard"
SHOTS = (
    Shot("dashboard", HOME, 1400),
    Shot("dashboard-dark", HOME, 1400, scheme="dark"),
    Shot("dashboard-phone", f"{HOME}?period=7d", 1900, wide=360),
    Shot("emails", f"{HOME}/emails", 1000),
    Shot("email", f"{HOME}/emails/{{burst}}", 1300),
    Shot("campaigns", f"{HOME}/campaigns?period=90d", 1150),
    Shot("campaign", f"{HOME}/campaigns/{{orders}}", 1200),
    Shot("links", f"{HOME}/links", 900),
    Shot("clients", f"{HOME}/clients", 1200),
    Shot("events", f"{HOME}/events", 1000),
    Shot("start", "/new-here/dashboard", 700),
    Shot("front", "/", 700),
)
BURST = (
    "SELECT email FROM states WHERE tenant = 1 AND opens = 2 AND machine_clicks = 4 AND clicks > 0 "
    "ORDER BY email DESC LIMIT 1"
)
ORDERS = "SELECT campaign FROM campaigns WHERE tenant = 1 AND name = 'Orders'"


def main() -> int:
    """Write every image; returns 1 where one is too big."""
    IMAGES.mkdir(exist_ok=True)
    big = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "data").mkdir()
        traffic = Traffic(int(time.time() * 1000), WALL)
        fill(str(folder / "data" / "tracking.db"), traffic, lambda _done, _of: None)
        with serving(folder, BASE_URL="https://mail.example.com") as bell:
            browser = launch(playwright)
            places = {"burst": bell.rows(BURST)[0][0], "orders": bell.rows(ORDERS)[0][0]}
            for shot in SHOTS:
                view: ViewportSize = {"width": shot.wide, "height": 780}
                with visiting(
                    browser, viewport=view, color_scheme=shot.scheme, timezone_id=ZONE
                ) as visit:
                    page = visit.page
                    page.goto(f"http://127.0.0.1:{bell.port}{shot.path.format(**places)}")
                    page.wait_for_timeout(2500)
                    tall = page.evaluate("document.documentElement.scrollHeight")
                    page.set_viewport_size({"width": shot.wide, "height": min(tall, shot.tall)})
                    image = IMAGES / f"{shot.file}.png"
                    page.screenshot(path=image)
                print(image.name, image.stat().st_size)
                big += [image.name] * (image.stat().st_size > MOST)
            browser.close()
    return 1 if big else 0


if __name__ == "__main__":
    sys.exit(main())
