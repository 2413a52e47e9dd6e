"""The views: each takes a path's segments, the query and the headers, and makes a page."""

from collections.abc import Callable
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from little_bell import __version__
from little_bell.config import Config, is_tenant
from little_bell.errors import Refused
from little_bell.page import Page
from little_bell.store import events, names, sums
from little_bell.store.reader import Reader
from little_bell.tracking.links import query_value
from little_bell.tracking.rules import REASONS

RECENT = 50  # events on a tenant's first page
SHOWN = events.Search(capped=True)

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex, nofollow"),
)
STATIC = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}

MEANING = dict(REASONS)


def percent(share: float | None) -> str:
    """A rate for people; a dash where there is none."""
    return "–" if share is None else f"{share * 100:.1f} %"  # noqa: RUF001 - an en dash


def moment(at: int) -> str:
    """A time in ms since the epoch, in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def thousands(n: int) -> str:
    return f"{n:,}"


class Views:
    """The pages. Not safe for threads: each has its own, with its own connection."""

    def __init__(self, config: Config, reader: Callable[[], Reader]) -> None:
        """`reader` gives the connection of the thread that calls it."""
        self.config = config
        self.reader = reader
        self.templates = Environment(
            loader=PackageLoader("little_bell.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters.update(percent=percent, moment=moment, thousands=thousands)
        self.templates.globals.update(
            prefix=config.prefix, base=config.base_url, version=__version__
        )

    def _page(self, name: str, **values: object) -> Page:
        body = self.templates.get_template(name).render(**values).encode("utf-8")
        return Page(200, PAGE_HEADERS, body)

    def front(self, _segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """What this is, and a field that leads to a tenant's dashboard. Lists no tenants."""
        asked = (query_value(query, "tenant") or "").strip()
        if asked and is_tenant(asked.encode("utf-8")):
            location = f"{self.config.prefix}/{asked}/dashboard"
            return Page(302, (*PAGE_HEADERS, ("Location", location)), b"")
        return self._page("front.html", asked=asked)

    def dashboard(self, segments: list[str], _query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """A tenant's figures and newest events; an empty page for one that sent nothing yet."""
        name = segments[1]
        if not is_tenant(name.encode("utf-8")):
            raise Refused(404, "no tenant can have this name")
        with self.reader() as reader:  # one snapshot, so that figures and events agree
            tenant = names.tenant_id(reader, name)
            figures = None if tenant is None else sums.figures(reader, tenant)
            recent = [] if tenant is None else events.before(reader, tenant, SHOWN, None, RECENT)[0]
        return self._page(
            "dashboard.html", tenant=name, figures=figures, events=recent, meaning=MEANING
        )

    def static(self, segments: list[str], _query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """A file beside this module, by its exact name."""
        from importlib.resources import files

        name = segments[2]
        if name not in STATIC:
            raise Refused(404, "there is nothing here")
        body = files("little_bell.pages").joinpath("static", name).read_bytes()
        headers = (
            ("Content-Type", STATIC[name]),
            ("Cache-Control", "public, max-age=3600"),
            ("Content-Security-Policy", "default-src 'none'"),
            ("X-Content-Type-Options", "nosniff"),
        )
        return Page(200, headers, body)
