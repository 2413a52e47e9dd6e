"""The gate: who may do what. Every request passes it before its handler, or the slow lane, sees it.

From its first key on, what a route reads or changes of a tenant needs one; with AUTH=keys that of
every other name needs ADMIN_KEY. Another tenant's things are not there for a key.
"""

from binascii import a2b_base64
from math import ceil
from time import monotonic

from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.page import IN_SESSION, WRONG_KEY
from little_bell.store.keys import READ, WRITE, Key, Keys
from little_bell.tracking.client import client_address
from little_bell.tracking.signing import Keyring, digest, same
from little_bell.values import is_tenant
from little_bell.wire import routes
from little_bell.wire.budget import Budget, source_of
from little_bell.wire.http import Request
from little_bell.wire.origin import FOREIGN, OURS, asked_by
from little_bell.wire.replies import Replies
from little_bell.wire.routes import Route
from little_bell.wire.sessions import ADMIN, Sessions

FAILURES_PER_MINUTE = 10
FAILURES_AT_ONCE = 10
WISHES_PER_MINUTE = 60  # what strangers may change: opt-outs
WISHES_AT_ONCE = 60
SAFE = (b"GET", b"HEAD")
EVERY = b""  # in place of the tenant that a key opens
LONGEST_NEXT = 1000  # characters of an address that a login leads to

NOT_PASSED_ON = (b"authorization", b"cookie", IN_SESSION, WRONG_KEY)

NEEDS_KEY = "this needs a key: Authorization: Bearer KEY"
SLOWED = "too many keys that open nothing came from this address; try again"
OTHER_SITE = "another site asked for this"


class Gate:
    """Decides by what is in memory alone."""

    def __init__(self, config: Config, keys: Keys, keyring: Keyring, replies: Replies) -> None:
        self.config = config
        self.keys = keys
        self.replies = replies
        self.all_closed = config.auth == "keys"
        self.admin = Key(EVERY, ADMIN, WRITE, digest(config.admin_key.encode("ascii")))
        self.has_admin = bool(config.admin_key)
        self.metrics_token = digest(config.metrics_token.encode("ascii"))
        self.sessions = Sessions(config, keyring, keys, self.admin if self.has_admin else None)
        self.failures = Budget(FAILURES_PER_MINUTE, FAILURES_AT_ONCE)
        most = config.max_requests_per_minute
        self.requests = Budget(most, max(1, most))
        self.wishes = Budget(WISHES_PER_MINUTE, WISHES_AT_ONCE)

    def is_open(self, tenant: bytes) -> bool:
        """Whether anybody may manage a tenant."""
        return not self.all_closed and tenant not in self.keys.closed

    def admit(
        self, request: Request, route: Route, segments: list[bytes], peer: bytes, now: float
    ) -> bytes | None:
        """None: the request may go on, without its credentials. Else its answer; or Refused is
        raised. `now` is seconds since the epoch."""
        access = route.access
        if access is not routes.PUBLIC or route.lane is not routes.FAST or route.name == "sign_in":
            # What comes to the slow lane takes a place there, whoever may ask for it.
            self._spend(self.requests, request, peer)
        elif route.name == "opt_out":
            self._spend(self.wishes, request, peer)
        if access is routes.PUBLIC:
            if route.lane is not routes.FAST:
                hide(request.headers)
            return None
        if access is routes.MEASURES:
            self._measures(request, peer)
            return None
        tenant = segments[1]
        in_session = False
        if not self.is_open(tenant):
            if not is_tenant(tenant):
                return self.nothing_here(request)
            key = self.sessions.find(request.headers, tenant, now)
            in_session = key is not None
            if key is None:
                key = self._by_header(request, peer)
            if key is None:
                return self._ask(request, route, segments)
            if key.tenant not in (tenant, EVERY):
                return self.nothing_here(request)
            if in_session and self._asked_by(request) != OURS:
                raise Refused(403, OTHER_SITE)
            if key.role < (READ if access is routes.READ else WRITE):
                raise Refused(403, "this key may read, and change nothing")
        elif route.name == "create_block" and self._from_elsewhere(request):
            raise Refused(403, OTHER_SITE)
        hide(request.headers)
        if in_session:
            request.headers[IN_SESSION] = b"1"
        return None

    def _spend(self, budget: Budget, request: Request, peer: bytes) -> None:
        """Count a request of a source. Raises Refused (429) where it had its share."""
        wait = budget.spend(self._source(request, peer), monotonic())
        if wait:
            self.replies.counters.requests_limited += 1
            raise Refused(429, "too many requests came from this address", retry_after=ceil(wait))

    def _source(self, request: Request, peer: bytes) -> bytes:
        return source_of(client_address(peer, request.headers, self.config.trusted_proxies))

    def try_key(self, given: bytes, request: Request, peer: bytes) -> Key | None:
        """The key that was given, whosever it is; None where it is none. Raises Refused (429)."""
        source = self._source(request, peer)
        wait = self.failures.wait(source, monotonic())
        if wait:
            self.replies.counters.keys_refused["limited"] += 1
            raise Refused(429, SLOWED, retry_after=ceil(wait))
        hash_ = digest(given)
        if self.has_admin and same(hash_, self.admin.hash):
            return self.admin
        key = self.keys.by_hash.get(hash_)
        if key is None:
            self.replies.counters.keys_refused["unknown"] += 1
            self.failures.spend(source, monotonic())
        return key

    def nothing_here(self, request: Request) -> bytes:
        """The answer to a path that no route has."""
        return self.replies.refuse(request, "none", Refused(404, "there is nothing here"), None)

    def _by_header(self, request: Request, peer: bytes) -> Key | None:
        value = request.headers.get(b"authorization")
        if value is None:
            return None
        given, basic = presented(value)
        key = self.try_key(given, request, peer)
        # Browsers send along what was typed into their window, whoever asks.
        if key is not None and basic and self._asked_by(request) == FOREIGN:
            raise Refused(403, OTHER_SITE)
        return key

    def _asked_by(self, request: Request) -> int:
        """Whose page asked, where the request may change something."""
        if request.method in SAFE:
            return OURS
        return asked_by(request.headers, self.config.base_url)

    def _from_elsewhere(self, request: Request) -> bool:
        """Whether another site's page asked, whose origin CORS_ORIGINS does not name. A form needs
        no leave to be sent here, as PATCH and DELETE do: without this any site that a user of an
        open bell visits could switch its tenants off."""
        origins = self.config.cors_origins
        origin = request.headers.get(b"origin", b"").decode("latin-1")
        return not (origin in origins or "*" in origins) and self._asked_by(request) == FOREIGN

    def _measures(self, request: Request, peer: bytes) -> None:
        """Let through who has METRICS_TOKEN, where that is set, or ADMIN_KEY. Raises Refused."""
        if not self.config.metrics_token:
            return
        value = request.headers.get(b"authorization")
        if value is None:
            raise Refused(401, "this needs METRICS_TOKEN: Authorization: Bearer TOKEN")
        given, _ = presented(value)
        if same(digest(given), self.metrics_token):
            return
        if self.try_key(given, request, peer) is not self.admin:
            raise Refused(401, "this token does not open the metrics")

    def _ask(self, request: Request, route: Route, segments: list[bytes]) -> bytes:
        """Ask for a key: people by the form, programs by a problem."""
        if not route.page:
            raise Refused(401, NEEDS_KEY)
        from urllib.parse import quote

        location = f"{self.config.prefix}/{segments[1].decode('ascii')}/dashboard/login"
        if request.method in SAFE:
            wanted = next_path(self._origin_form(request, segments), segments[1])
            location += f"?next={quote(wanted, safe='/')}" if wanted else ""
        headers = (("Location", location), ("Cache-Control", "no-store"))
        return self.replies.answer(request, route.name, 303, headers, b"")

    def _origin_form(self, request: Request, segments: list[bytes]) -> str:
        """What was asked for, without the prefix."""
        query = request.target.partition(b"?")[2]
        path = b"/".join(segments)
        return (path + b"?" + query if query else path).decode("latin-1")


def hide(headers: dict[bytes, bytes]) -> None:
    """Take credentials away, and what only we may tell the slow lane."""
    for name in NOT_PASSED_ON:
        headers.pop(name, None)


def presented(value: bytes) -> tuple[bytes, bool]:
    """The key in an Authorization header, and whether it came by Basic (RFC 7617), as password or
    as user with none. Nothing where it holds none."""
    scheme, _, rest = value.partition(b" ")
    scheme, rest = scheme.lower(), rest.strip()
    if scheme == b"bearer":
        return rest, False
    if scheme != b"basic":
        return b"", False
    try:
        user, _, password = a2b_base64(rest, strict_mode=True).partition(b":")
    except ValueError:
        return b"", True
    return password or user, True


def next_path(text: str, tenant: bytes) -> str:
    """An address behind the prefix, if it is one of the tenant's dashboard; else nothing."""
    path, _, _ = text.partition("?")
    segments = path.split("/")
    inside = segments[:3] == ["", tenant.decode("ascii"), "dashboard"]
    plain = text.isascii() and text.isprintable() and not set(' "<>\\^`{|}#').intersection(text)
    simple = all(segment.isalnum() for segment in segments[3:])
    return text if inside and plain and simple and len(text) <= LONGEST_NEXT else ""
