"""The tracker: decides opens and clicks. What it notes is recorded with the tick."""

from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.ops.metrics import Counters
from little_bell.store.tenants import Tenants
from little_bell.tracking.client import client_address, is_own, parse_networks, truncate, within
from little_bell.tracking.hit import (
    CLICK,
    OPEN,
    OWN,
    RELAY,
    SCANNER,
    Hit,
    header_flags,
    parse_id,
    user_agent_text,
)
from little_bell.tracking.links import REDIRECT_HEADERS, canonical, query_value
from little_bell.tracking.pixel import GIF
from little_bell.tracking.pixel import HEADERS as PIXEL_HEADERS
from little_bell.tracking.rules import RELAY_RANGES, SCANNER_RANGES
from little_bell.tracking.signing import Keyring
from little_bell.wire.http import Request
from little_bell.wire.register import Handler
from little_bell.wire.replies import Replies

SOURCES = 4096  # client addresses whose stored form is kept in memory
PIXEL = "pixel"


class Tracker:
    """Handlers by the names of their routes, and the hits that the tick decided so far."""

    def __init__(
        self,
        config: Config,
        replies: Replies,
        counters: Counters,
        tenants: Tenants,
        keyring: Keyring,
    ) -> None:
        self.config = config
        self.replies = replies
        self.counters = counters
        self.tenants = tenants
        self.keyring = keyring
        self.hits: list[Hit] = []
        self.now_ms = 0
        self.relay = parse_networks(RELAY_RANGES)
        self.scanners = parse_networks(SCANNER_RANGES)
        self.own = config.own_addresses
        self.sources: dict[bytes, tuple[bytes, int]] = {}
        replies.prepare(PIXEL, 200, PIXEL_HEADERS, GIF)
        self.handlers: dict[str, Handler] = {
            "pixel": self.pixel,
            "click": self.click,
            "click_url": self.click_url,
        }

    def _hit(
        self, request: Request, segments: list[bytes], peer: bytes, kind: int, url: str | None
    ) -> bool:
        """Note a hit; False where the id was never issued. A HEAD is none."""
        email = parse_id(segments[3])
        tenant = self.tenants.by_name.get(segments[1])
        if tenant is None or not 0 < email <= tenant.last_email:
            self.counters.unknown_ids += 1
            return False
        if request.head_only:
            self.counters.heads += 1
            return True
        headers = request.headers
        address = client_address(peer, headers, self.config.trusted_proxies)
        source = self.sources.get(address)
        if source is None:
            source = self._source(address)
        flags = header_flags(headers) | source[1]
        if self.own and is_own(address, tenant.name, self.own):
            flags |= OWN
        self.hits.append(
            Hit(
                tenant.id,
                email,
                kind,
                self.now_ms,
                flags,
                user_agent_text(headers.get(b"user-agent", b"")),
                source[0],
                url,
            )
        )
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
        self._hit(request, segments, peer, OPEN, None)
        return self.replies.prepared(request, PIXEL)

    def click(self, request: Request, segments: list[bytes], query: bytes, peer: bytes) -> bytes:
        """A redirect to where the link says, counted."""
        url = canonical(query_value(query, "url"))
        if not self._hit(request, segments, peer, CLICK, url):
            raise Refused(404, "this link belongs to no email that was sent from here")
        return self.replies.answer(
            request, "click", 302, (*REDIRECT_HEADERS, ("Location", url)), b""
        )

    def click_url(
        self, request: Request, segments: list[bytes], query: bytes, _peer: bytes
    ) -> bytes:
        """The tracked address of a link."""
        from urllib.parse import quote

        url = canonical(query_value(query, "url"))
        email = parse_id(segments[3])
        tenant = self.tenants.by_name.get(segments[1])
        if tenant is None or not 0 < email <= tenant.last_email:
            raise Refused(404, "there is no such email")
        base = self.config.base_url
        members = {
            "click_url": f"{base}/{tenant.name}/click/{email}?url={quote(url, safe='')}",
            "original_url": url,
        }
        return self.replies.json(request, "click_url", 200, members)
