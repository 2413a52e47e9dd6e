"""Logging in and out: a key becomes a session of a browser."""

from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.page import WRONG_KEY
from little_bell.tracking.links import query_value
from little_bell.values import is_tenant
from little_bell.wire.gate import EVERY, OTHER_SITE, Gate, hide, next_path
from little_bell.wire.http import Headers, Request
from little_bell.wire.origin import FOREIGN, OURS, asked_by
from little_bell.wire.replies import Replies


class Login:
    """Handlers by the names of their routes."""

    def __init__(self, config: Config, replies: Replies, gate: Gate) -> None:
        self.config = config
        self.replies = replies
        self.gate = gate
        self.now = 0.0
        self.handlers = {"sign_in": self.sign_in, "sign_out": self.sign_out}

    def sign_in(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> bytes | None:
        """Begin a session; None: the slow lane is to show the form again."""
        tenant = self._tenant(segments)
        if asked_by(request.headers, self.config.base_url) == FOREIGN:
            raise Refused(403, OTHER_SITE)
        wanted = next_path(query_value(request.body, "next") or "", tenant)
        to = wanted or f"/{tenant.decode('ascii')}/dashboard"
        if self.gate.is_open(tenant):
            return self._lead(request, "sign_in", to)
        given = (query_value(request.body, "key") or "").strip().encode("utf-8")
        key = self.gate.try_key(given, request, peer) if given else None
        if key is None or key.tenant not in (tenant, EVERY):
            self._ask_again(request, tenant, wanted)
            return None
        cookie = self.gate.sessions.begin(tenant, key, self.now)
        return self._lead(request, "sign_in", to, ("Set-Cookie", cookie))

    def sign_out(
        self, request: Request, segments: list[bytes], _query: bytes, _peer: bytes
    ) -> bytes | None:
        """End the session of this browser."""
        tenant = self._tenant(segments)
        asked = asked_by(request.headers, self.config.base_url)
        if asked == FOREIGN or (asked != OURS and b"cookie" in request.headers):
            raise Refused(403, OTHER_SITE)
        cookie = ("Set-Cookie", self.gate.sessions.end(tenant))
        to = f"/{tenant.decode('ascii')}/dashboard/login"
        return self._lead(request, "sign_out", to, cookie)

    def _tenant(self, segments: list[bytes]) -> bytes:
        if not is_tenant(segments[1]):
            raise Refused(404, "there is nothing here")
        return segments[1]

    def _lead(self, request: Request, route: str, to: str, *more: tuple[str, str]) -> bytes:
        headers: Headers = (
            ("Location", self.config.prefix + to),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "same-origin"),
            *more,
        )
        return self.replies.answer(request, route, 303, headers, b"")

    def _ask_again(self, request: Request, tenant: bytes, wanted: str) -> None:
        """Make the request one for the form, without the key."""
        from urllib.parse import quote

        request.method = b"GET"
        request.body = b""
        target = f"/{tenant.decode('ascii')}/dashboard/login?next={quote(wanted, safe='')}"
        request.target = target.encode("ascii")
        hide(request.headers)
        request.headers.pop(b"if-none-match", None)
        request.headers[WRONG_KEY] = b"1"
