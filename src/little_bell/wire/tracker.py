"""The tracker: decides opens and clicks. What it notes is recorded with the tick."""

from time import monotonic

from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.ops.metrics import Counters
from little_bell.store.tenants import Tenant, Tenants
from little_bell.tracking.addresses import Addresses, Link, read_name
from little_bell.tracking.client import client_address, is_own, parse_networks, truncate, within
from little_bell.tracking.hit import (
    CLICK,
    GPC,
    OPEN,
    OWN,
    RELAY,
    SCANNER,
    Hit,
    header_flags,
    parse_id,
    user_agent_text,
)
from little_bell.tracking.hosts import allows
from little_bell.tracking.links import REDIRECT_HEADERS, canonical, query_value
from little_bell.tracking.pixel import GIF
from little_bell.tracking.pixel import HEADERS as PIXEL_HEADERS
from little_bell.tracking.privacy import NONE, TRUNCATED, WHOLE
from little_bell.tracking.rules import RELAY_RANGES, SCANNER_RANGES
from little_bell.wire.answers import PAGE_HEADERS, preview, problem
from little_bell.wire.budget import Budget, source_of
from little_bell.wire.http import Request
from little_bell.wire.policies import Policies
from little_bell.wire.register import Handler
from little_bell.wire.replies import Replies

SOURCES = 4096  # client addresses whose stored form is kept in memory
PIXEL, SIGNED_PIXEL, MISS = "pixel", "signed_pixel", "miss"
PREVIEW = b"+"  # behind an address: where does it lead?

MISSED = "this link belongs to no email that was sent from here"
SWITCHED_OFF = "this link was switched off by who sent it"

# Why there is a page and no redirect.
ASKED = "This link leads to:"
UNSIGNED = "It is not known who made this link. If you trust the place, go on to:"
ELSEWHERE = "The sender does not lead to this place any more. If you trust it, go on to:"


class Tracker:
    """Handlers by the names of their routes, and the hits that the tick decided so far."""

    def __init__(
        self,
        config: Config,
        replies: Replies,
        counters: Counters,
        tenants: Tenants,
        addresses: Addresses,
        policies: Policies,
    ) -> None:
        self.config = config
        self.replies = replies
        self.counters = counters
        self.tenants = tenants
        self.addresses = addresses
        self.hits: list[Hit] = []
        self.now_ms = 0
        self.policies = policies
        self.relay = parse_networks(RELAY_RANGES)
        self.scanners = parse_networks(SCANNER_RANGES)
        self.own = config.own_addresses
        self.sources: dict[bytes, tuple[bytes, int]] = {}  # network, flags
        per_minute = config.max_misses_per_minute
        self.misses = Budget(per_minute, max(1, per_minute))
        for name in (PIXEL, SIGNED_PIXEL):
            replies.prepare(name, 200, PIXEL_HEADERS, GIF)
        replies.prepare(MISS, *problem(Refused(404, MISSED), page=True))
        self.handlers: dict[str, Handler] = {
            "pixel": self.pixel,
            "signed_pixel": self.signed_pixel,
            "click": self.click,
            "signed_click": self.signed_click,
            "click_url": self.click_url,
        }

    def _hit(
        self,
        request: Request,
        segments: list[bytes],
        peer: bytes,
        kind: int,
        url: str | None,
        label: str = "",
        part: str = "",
    ) -> bool:
        """Note a hit; False where the id was never issued, which is a miss. A HEAD is none."""
        email = parse_id(segments[3])
        tenant = self._issued(segments[1], email)
        if tenant is None:
            self.counters.unknown_ids += 1  # a pixel's miss costs less than to count it by source
            return False
        if request.head_only:
            self.counters.heads += 1
            return True
        if tenant.blocked is not None and tenant.blocked.holds(email, url):
            self.counters.blocked += 1
            return True
        headers = request.headers
        address = client_address(peer, headers, self.config.trusted_proxies)
        source = self.sources.get(address)
        if source is None:
            source = self._source(address)
        flags = header_flags(headers)
        rules = self.policies.rules(tenant.policy)
        consent = rules.consent
        if flags & GPC and rules.gpc > consent:
            consent = rules.gpc
        if consent == NONE:
            self.counters.withhold("consent" if rules.consent == NONE else "gpc")
            return True
        flags |= source[1]
        if self.own and is_own(address, tenant.name, self.own):
            flags |= OWN
        kept: bytes | None = source[0]
        if rules.addresses != TRUNCATED:
            kept = address if rules.addresses == WHOLE else None
        self.hits.append(
            Hit(
                tenant.id,
                email,
                kind,
                self.now_ms,
                flags,
                user_agent_text(headers.get(b"user-agent", b"")),
                kept,
                url,
                label,
                part,
                consent=consent,
            )
        )
        return True

    def _blocked(self, tenant: bytes, email: int, url: str) -> bool:
        """Whether a link of this email to this canonical target is switched off; counts it."""
        known = self.tenants.by_name.get(tenant)
        if known is None or known.blocked is None or not known.blocked.holds(email, url):
            return False
        self.counters.blocked += 1
        return True

    def _issued(self, tenant: bytes, email: int) -> Tenant | None:
        """The tenant that handed out this id."""
        found = self.tenants.by_name.get(tenant)
        return found if found is not None and 0 < email <= found.last_email else None

    def _limited(self, request: Request, peer: bytes) -> bool:
        """Note a miss: an id that was never handed out, or a signature that is none. True where
        its source has had its share of pages about such, and gets one that is ready.

        Nothing but that depends on it. Strangers may send misses from the addresses of others, as
        through a mail provider's image proxy: so good ids and good signatures always count, which
        means that each has to be looked at."""
        address = client_address(peer, request.headers, self.config.trusted_proxies)
        if not self.misses.spend(source_of(address), monotonic()):
            return False
        self.counters.misses_limited += 1
        return True

    def _source(self, address: bytes) -> tuple[bytes, int]:
        """What is kept of a client's address: its network, and flags for the ranges it was in."""
        flags = 0
        if within(address, self.relay):
            flags |= RELAY
        if within(address, self.scanners):
            flags |= SCANNER
        if len(self.sources) >= SOURCES:
            self.sources.clear()
        source = self.sources[address] = (truncate(address), flags)
        return source

    def pixel(self, request: Request, segments: list[bytes], _query: bytes, peer: bytes) -> bytes:
        """Whatever the address, the same GIF."""
        if not self.addresses.signed:
            self._hit(request, segments, peer, OPEN, None)
        return self.replies.prepared(request, PIXEL)

    def signed_pixel(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> bytes:
        """Whatever the address, the same GIF; it counts where its signature is good."""
        email, name = segments[3:5]
        mac = name.removesuffix(b".gif")
        if mac != name and self.addresses.is_pixel(segments[1], email, mac):
            self._hit(request, segments, peer, OPEN, None)
        else:
            self.counters.bad_signatures += 1
        return self.replies.prepared(request, SIGNED_PIXEL)

    def click(self, request: Request, segments: list[bytes], query: bytes, peer: bytes) -> bytes:
        """A redirect to where the link says, counted; or a page that says where it leads."""
        asked = segments[3].endswith(PREVIEW)
        email = parse_id(segments[3].removesuffix(PREVIEW))
        sig = signature_of(query)
        plain = sig is None and not asked and not self.addresses.signed
        missed = plain and self._issued(segments[1], email) is None
        if missed:
            self.counters.unknown_ids += 1
            if self._limited(request, peer):
                return self.replies.prepared(request, MISS, "click", 404)
        url = canonical(query_value(query, "url"))
        if missed:
            raise Refused(404, MISSED)
        if self._blocked(segments[1], email, url):
            raise Refused(410, SWITCHED_OFF)
        if asked:
            return self._preview(request, "click", url, ASKED)
        signed = sig is not None and self._is_signed(segments, url, sig)
        if self.addresses.signed and not signed:
            return self._preview(request, "click", url, UNSIGNED)
        if not self._leads_to(segments, url):
            return self._preview(request, "click", url, ELSEWHERE)
        if not self._hit(request, segments, peer, CLICK, url) and not signed:
            raise Refused(404, MISSED)
        return self._redirect(request, "click", url)

    def signed_click(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> bytes:
        """A redirect to where the token says, also where nothing is known of the email."""
        email, token = segments[3:5]
        asked = token.endswith(PREVIEW)
        link = self.addresses.read_link(segments[1], email, token.removesuffix(PREVIEW))
        if link is None:
            self.counters.bad_signatures += 1
            if self._limited(request, peer):
                return self.replies.prepared(request, MISS, "signed_click", 404)
            raise Refused(404, "this link is not whole, or was not made here")
        url = canonical(link.url)
        if self._blocked(segments[1], parse_id(email), url):
            raise Refused(410, SWITCHED_OFF)
        if asked or url != link.url:
            return self._preview(request, "signed_click", url, ASKED)
        if not self._leads_to(segments, url):
            return self._preview(request, "signed_click", url, ELSEWHERE)
        self._hit(request, segments, peer, CLICK, url, link.label, link.part)
        return self._redirect(request, "signed_click", url)

    def _is_signed(self, segments: list[bytes], url: str, sig: str) -> bool:
        email = parse_id(segments[3])
        if self.addresses.is_click(segments[1], email, url, sig):
            return True
        self.counters.bad_signatures += 1
        return False

    def _leads_to(self, segments: list[bytes], url: str) -> bool:
        """Whether links of the tenant may lead there; those of an unknown one may."""
        tenant = self.tenants.by_name.get(segments[1])
        return tenant is None or allows(tenant.policy.hosts, url)

    def _redirect(self, request: Request, route: str, url: str) -> bytes:
        return self.replies.answer(request, route, 302, (*REDIRECT_HEADERS, ("Location", url)), b"")

    def _preview(self, request: Request, route: str, url: str, why: str) -> bytes:
        """A page that names a target and leads nowhere by itself; nothing is counted."""
        return self.replies.answer(request, route, 200, PAGE_HEADERS, preview(url, why))

    def click_url(
        self, request: Request, segments: list[bytes], query: bytes, _peer: bytes
    ) -> bytes:
        """The tracked addresses of a link."""
        url = canonical(query_value(query, "url"))
        label, part = (read_name(query_value(query, name), name) for name in ("label", "part"))
        email = parse_id(segments[3])
        tenant = self._issued(segments[1], email)
        if tenant is None:
            raise Refused(404, "there is no such email")
        if not allows(tenant.policy.hosts, url):
            raise Refused(400, f"links of {tenant.name} may not lead to this host", "url")
        base, addresses = self.config.base_url, self.addresses
        members = {
            "click_url": base + addresses.click(tenant.name, email, url),
            "signed_url": base + addresses.link(tenant.name, email, Link(url, label, part)),
            "original_url": url,
        }
        return self.replies.json(request, "click_url", 200, members)


def signature_of(query: bytes) -> str | None:
    """The signature that stands in a link; what is no text is a bad one."""
    try:
        return query_value(query, "sig")
    except Refused:
        return ""
