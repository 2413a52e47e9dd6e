"""The views: each takes a path's segments, the query and the headers, and makes a page."""

from collections.abc import Callable
from time import time

from jinja2 import Environment, PackageLoader, StrictUndefined

from little_bell import __version__
from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.page import BEARER, IN_SESSION, WRONG_KEY, Page
from little_bell.pages import lists, mail, overview, static, words
from little_bell.pages.address import Address, address, asked
from little_bell.pages.ledger import Ledger
from little_bell.pages.picker import Choice, choose
from little_bell.store.reader import Reader
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.links import query_value
from little_bell.values import is_tenant

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", POLICY),
    # Not `no-referrer`: that makes the Origin of our own forms null, by which they are told from
    # those of other sites. Nobody else gets to know an address either way.
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex, nofollow"),
)
WITH_KEY = " -H 'Authorization: Bearer KEY'"  # in commands, where a tenant is closed

LISTS = {
    "emails": lists.emails,
    "campaigns": lists.campaigns,
    "links": lists.links,
    "clients": lists.clients,
    "events": lists.events,
}


class Views:
    """The pages. Not safe for threads: each has its own, with its own connection."""

    def __init__(self, config: Config, reader: Callable[[], Reader], addresses: Addresses) -> None:
        """`reader` gives the connection of the thread that calls it."""
        self.config = config
        self.reader = reader
        self.addresses = addresses
        self.templates = Environment(
            loader=PackageLoader("little_bell.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters.update(
            deed=words.deed,
            elapsed=words.elapsed,
            iso=words.iso,
            meaning=words.meaning,
            minute=words.minute,
            moment=words.moment,
            percent=words.percent,
            thousands=words.thousands,
        )
        self.templates.globals.update(
            prefix=config.prefix,
            base=config.base_url,
            pixel_of=addresses.pixel,
            version=__version__,
            static=lambda name: config.prefix + static.path(name),
        )

    def _page(
        self, template: str, values: dict[str, object], status: int = 200, *more: tuple[str, str]
    ) -> Page:
        body = self.templates.get_template(template).render(values).encode("utf-8")
        return Page(status, (*PAGE_HEADERS, *more), body)

    def front(self, _segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """What this is, and a field that leads to a tenant's dashboard. Lists no tenants."""
        wanted = (query_value(query, "tenant") or "").strip()
        if wanted and is_tenant(wanted.encode("utf-8")):
            location = f"{self.config.prefix}/{wanted}/dashboard"
            return Page(302, (*PAGE_HEADERS, ("Location", location)), b"")
        auth = "" if self.config.auth == "open" else WITH_KEY
        return self._page("front.html", {"asked": wanted, "auth": auth})

    def login(self, segments: list[str], query: bytes, headers: dict[bytes, bytes]) -> Page:
        """The form that takes a key; leads on where none is needed."""
        where = self._where(segments, b"")
        with self._ledger(where) as ledger:
            if self._is_open(ledger):
                return Page(302, (*PAGE_HEADERS, ("Location", where.to())), b"")
        wrong = WRONG_KEY in headers
        values = {"tenant": where.tenant, "wrong": wrong, "next": asked(query, "next")}
        values["action"] = where.to("login")
        if wrong:
            return self._page("login.html", values, 401, ("WWW-Authenticate", BEARER))
        return self._page("login.html", values)

    def dashboard(self, segments: list[str], query: bytes, headers: dict[bytes, bytes]) -> Page:
        """A tenant's figures and newest events; an empty page for one that sent nothing yet."""
        where = self._where(segments, query)
        with self._ledger(where) as ledger:
            choice = choose(query, time(), ledger.first_bucket())
            values = overview.values(ledger, where, choice)
        access = self._access(ledger, headers)
        return self._page("overview.html", _common(where, choice, "overview") | access | values)

    def dashboard_page(
        self, segments: list[str], query: bytes, headers: dict[bytes, bytes]
    ) -> Page:
        """A list of a tenant's emails, campaigns, links, clients or events; or what is live."""
        where, page = self._where(segments, query), segments[3]
        if page not in (*LISTS, "live"):
            raise Refused(404, "there is nothing here")
        with self._ledger(where) as ledger:
            choice = choose(query, time(), ledger.first_bucket())
            if page == "live":
                values = overview.values(ledger, where, choice)
            else:
                values = LISTS[page](ledger, where, choice, query)
        if page == "live":
            template = "_overview.html" if values["headline"] else "_nothing.html"
        else:
            template = f"{page}.html" if page in ("emails", "events") else "list.html"
        access = self._access(ledger, headers)
        return self._page(template, _common(where, choice, page) | access | values)

    def dashboard_item(
        self, segments: list[str], query: bytes, headers: dict[bytes, bytes]
    ) -> Page:
        """One email with what became of it, or one campaign's figures."""
        where = self._where(segments, query)
        page, item = segments[3:5]
        if page not in ("emails", "campaigns"):
            raise Refused(404, "there is nothing here")
        with self._ledger(where) as ledger:
            choice = choose(query, time(), ledger.first_bucket())
            if page == "emails":
                values = mail.values(
                    ledger, where, item, query, self.config.base_url, time(), self.addresses
                )
                template = "email.html"
            else:
                values = overview.campaign_values(ledger, where, choice, item)
                template = "_campaign.html" if asked(query, "part") else "campaign.html"
        access = self._access(ledger, headers)
        return self._page(template, _common(where, choice, page) | access | values)

    def static(self, segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
        """A file beside this module, by its exact name."""
        name = segments[2]
        file = static.file(name)
        return Page(200, static.headers(name, query_value(query, "v")), file.body)

    def _where(self, segments: list[str], query: bytes) -> Address:
        """Where the pages of the tenant are. Raises Refused where none can have this name."""
        if not is_tenant(segments[1].encode("utf-8")):
            raise Refused(404, "no tenant can have this name")
        return address(self.config.prefix, segments[1], query)

    def _is_open(self, ledger: Ledger) -> bool:
        """Whether anybody may manage the tenant."""
        return self.config.auth == "open" and not ledger.has_keys

    def _access(self, ledger: Ledger, headers: dict[bytes, bytes]) -> dict[str, object]:
        """What a page says of who may see it; `auth` is what its commands need."""
        is_open = self._is_open(ledger)
        auth = "" if is_open else WITH_KEY
        return {"open": is_open, "in_session": IN_SESSION in headers, "auth": auth}

    def _ledger(self, where: Address) -> Ledger:
        return Ledger(self.reader(), where.tenant)


def _common(where: Address, choice: Choice, page: str) -> dict[str, object]:
    """What every page of a tenant needs."""
    return {
        "tenant": where.tenant,
        "title": where.tenant if page in ("overview", "live") else page.capitalize(),
        "page": page,
        "to": where.to,
        "zone": choice.zone,
        "zone_of": choice.zone.zone,
        "kept": where.kept,
    }
