"""Privacy at the door: tenants' settings, opt-outs, and what is said of Global Privacy Control."""

import os
from time import gmtime, strftime
from typing import TYPE_CHECKING

from little_bell.config import Config
from little_bell.errors import Refused, StoreError
from little_bell.ops.logs import INFO, Log
from little_bell.store.recorder import Recorder
from little_bell.store.tenants import Policy
from little_bell.tracking.privacy import FULL, SALT
from little_bell.values import NO_TENANT, is_tenant
from little_bell.wire.answers import cors
from little_bell.wire.connection import Later
from little_bell.wire.http import Request
from little_bell.wire.policies import Policies
from little_bell.wire.register import BARE_HEADERS, Handler
from little_bell.wire.replies import Replies
from little_bell.wire.routes import BY_NAME

if TYPE_CHECKING:
    from little_bell.store.wishes import Wish, Wishes

GPC_SINCE = "2026-11-24"  # what we do about it has been so since then
NOT_NOW = "this cannot be written now; try again"


class Wished(Later):
    """The answer to a wish."""

    __slots__ = ("address", "request", "route", "wish")

    def __init__(self, request: Request, route: str, wish: "Wish", address: str) -> None:
        super().__init__()
        self.request = request
        self.route = route
        self.wish = wish
        self.address = address


Outcome = bytes | Later


class Privacy:
    """Handlers by the names of their routes, and the wishes that the tick decided so far."""

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        replies: Replies,
        log: Log,
        policies: Policies,
    ) -> None:
        self.config = config
        self.recorder = recorder
        self.tenants = recorder.writer.memory.tenants
        self.replies = replies
        self.log = log
        self.policies = policies
        self.wished: list[Wished] = []
        self.job: Wishes | None = None  # of those
        self.handlers: dict[str, Handler] = {
            "settings": self.settings,
            "change_settings": self.change_settings,
            "opt_out": self.opt_out,
            "opted_out": self.opted_out,
            "opt_in": self.opt_in,
            "gpc": self.gpc,
        }

    # A tick

    def wishes(self) -> "Wishes | None":
        """What the tick has to write."""
        if not self.wished:
            return None
        from little_bell.store.wishes import Wishes

        self.job = Wishes([one.wish for one in self.wished])
        return self.job

    def settle(self) -> None:
        """Answer what the commit decided."""
        for one in self.wished:
            one.answer = self._answer(one)

    def forget_tick(self) -> None:
        self.wished.clear()
        self.job = None

    def _wish(self, request: Request, route: str, wish: "Wish", address: str = "") -> Wished:
        from little_bell.store.wishes import AT_ONCE

        if len(self.wished) >= AT_ONCE:
            raise Refused(503, NOT_NOW, retry_after=1)
        wished = Wished(request, route, wish, address)
        self.wished.append(wished)
        return wished

    def _answer(self, one: Wished) -> bytes:
        from little_bell.store.wishes import PolicyWish

        request, route, wish = one.request, one.route, one.wish
        error = StoreError("not written") if self.job is None else self.job.error
        if error is not None:
            refused = Refused(503, NOT_NOW, retry_after=1)
            return self.replies.refuse(request, route, refused, BY_NAME[route])
        if isinstance(wish, PolicyWish):
            self.log.write(INFO, "Settings changed", tenant_id=wish.tenant, ip_address=one.address)
            return self._settings(request, route, wish.policy)
        headers = BARE_HEADERS + cors(request.headers, self.config.cors_origins)
        return self.replies.answer(request, route, 204, headers, b"")

    # Settings

    def settings(
        self, request: Request, segments: list[bytes], _query: bytes, _peer: bytes
    ) -> Outcome:
        """What holds for a tenant."""
        known = self.tenants.by_name.get(segments[1])
        if known is None:
            raise Refused(404, "no such tenant: nothing was sent yet")
        return self._settings(request, "settings", known.policy)

    def change_settings(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> Outcome:
        """Note a tenant's own settings; null lets the server's hold."""
        from little_bell.api.privacy import parse_settings
        from little_bell.store.wishes import PolicyWish

        wish = PolicyWish(tenant_of(segments), parse_settings(request.body))
        known = self.tenants.by_name.get(segments[1])
        address = self.policies.address(request, peer, known)
        return self._wish(request, "change_settings", wish, address)

    def _settings(self, request: Request, route: str, own: Policy) -> bytes:
        from little_bell.api.privacy import settings_record

        members = settings_record(own, self.policies.effective(own))
        return self.replies.json(request, route, 200, members)

    # Opt-outs

    def opt_out(
        self, request: Request, segments: list[bytes], _query: bytes, _peer: bytes
    ) -> Outcome:
        """Note that a recipient is to be left alone. The answer is the same whoever that is, and
        whether or not there is such a tenant."""
        from little_bell.api.privacy import parse_optout

        recipient = parse_optout(request.body)
        return self._opt(request, "opt_out", tenant_of(segments), recipient, out=True)

    def opt_in(
        self, request: Request, segments: list[bytes], _query: bytes, _peer: bytes
    ) -> Outcome:
        """Note that a recipient takes an opt-out back."""
        from little_bell.api.privacy import recipient_of

        recipient = recipient_of(segments[3])
        return self._opt(request, "opt_in", tenant_of(segments), recipient, out=False)

    def _opt(self, request: Request, route: str, tenant: str, recipient: str, out: bool) -> Outcome:
        from little_bell.store.wishes import RecipientWish

        return self._wish(request, route, RecipientWish(tenant, recipient, out, os.urandom(SALT)))

    def opted_out(
        self, request: Request, segments: list[bytes], _query: bytes, _peer: bytes
    ) -> Outcome:
        """Whether and since when a recipient is left alone."""
        from little_bell.api.privacy import recipient_of

        recipient = recipient_of(segments[3])
        known = self.tenants.by_name.get(segments[1])
        if known is None:
            raise Refused(404, "no such tenant: nothing was sent yet")
        if self.recorder.must_reopen:
            raise Refused(503, "the disk takes nothing now", retry_after=5)
        try:
            at = self.recorder.writer.opted_out(known, recipient)
        except StoreError:
            raise Refused(503, "the disk takes nothing now", retry_after=5) from None
        members = {"recipient": recipient, "opted_out": at is not None, "at": moment(at)}
        return self.replies.json(request, "opted_out", 200, members)

    # Global Privacy Control

    def gpc(self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes) -> Outcome:
        """Whether `Sec-GPC` is heeded here (https://privacycg.github.io/gpc-spec/)."""
        members = {"gpc": self.config.gpc != FULL, "lastUpdate": GPC_SINCE}
        return self.replies.json(request, "gpc", 200, members)


def tenant_of(segments: list[bytes]) -> str:
    if not is_tenant(segments[1]):
        raise Refused(404, NO_TENANT)
    return segments[1].decode("ascii")


def moment(at: int | None) -> str | None:
    """RFC 3339, as everything that is read."""
    if at is None:
        return None
    seconds, ms = divmod(at, 1000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{ms:03d}Z"
