"""What holds for a tenant: its own settings and the server's."""

from typing import NamedTuple

from little_bell.config import Config
from little_bell.store.tenants import NO_POLICY, Policy, Tenant
from little_bell.tracking.client import client_address, show, truncate
from little_bell.tracking.privacy import FULL, TRUNCATED, UNKNOWN
from little_bell.wire.http import Request

KEPT = 256  # different policies of tenants in memory


class Rules(NamedTuple):
    """What holds for a tenant's hits, by the numbers of `tracking.privacy`."""

    consent: int
    addresses: int
    gpc: int


class Policies:
    """The server's policy, and what it makes of tenants' own."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.server = Policy(config.consent, config.addresses, config.gpc, config.retention_days)
        self.known: dict[Policy, Rules] = {}
        self.usual = self._rules(NO_POLICY)  # of tenants that set nothing

    def effective(self, own: Policy) -> Policy:
        """A tenant's settings in place of the server's; but of consents the stricter one holds."""
        given = {name: value for name, value in own._asdict().items() if value is not None}
        given["consent"] = max(self.server.consent or FULL, own.consent or FULL)
        return self.server._replace(**given)

    def rules(self, own: Policy) -> Rules:
        """What holds for the hits of a tenant with a policy of its own."""
        if own is NO_POLICY:  # nearly always
            return self.usual
        rules = self.known.get(own)
        if rules is None:
            if len(self.known) >= KEPT:
                self.known.clear()
            rules = self.known[own] = self._rules(own)
        return rules

    def _rules(self, own: Policy) -> Rules:
        consent, addresses, gpc, *_ = self.effective(own)
        return Rules(consent or FULL, TRUNCATED if addresses is None else addresses, gpc or FULL)

    def address(self, request: Request, peer: bytes, tenant: Tenant | None) -> str:
        """Where a request about a tenant came from, as the log may say it."""
        full = client_address(peer, request.headers, self.config.trusted_proxies)
        return self.shown(show(truncate(full)), tenant)

    def shown(self, address: str, tenant: Tenant | None) -> str:
        """An address as the log may say it: none where none is stored."""
        own = NO_POLICY if tenant is None else tenant.policy
        return "" if self.rules(own).addresses == UNKNOWN else address
