"""What has a name: tenants, campaigns and links."""

from collections.abc import Sequence
from typing import NamedTuple

from little_bell.store.reader import Reader
from little_bell.store.tenants import NO_POLICY, Policy, read_hosts

NEWEST = (1 << 63) - 1  # a number beyond all that are handed out
OTHER = "(other)"  # links and user agents beyond a tenant's share


class KeyLine(NamedTuple):
    """A key of a tenant, as its owner sees it."""

    tenant: str
    number: int
    name: str
    role: int  # see `store.keys`
    created_at: int  # milliseconds since the epoch, UTC
    revoked_at: int | None


class KeyHash(NamedTuple):
    """What is needed to try a key."""

    role: int
    hash: bytes  # SHA-256
    revoked_at: int | None


class Campaign(NamedTuple):
    """A campaign of a tenant."""

    id: int
    name: str


class Link(NamedTuple):
    """A target that a tenant's emails link to."""

    id: int
    url: str
    label: str
    part: str


def tenant_id(reader: Reader, name: str) -> int | None:
    """A tenant's number, or None for one that never created an email."""
    row = reader.row("tenant", name)
    return None if row is None else int(row[0])


def policy_of(reader: Reader, tenant: int) -> Policy:
    """What a tenant set for itself; nothing where there is none of this number."""
    row = reader.row("policy", tenant)
    if row is None:
        return NO_POLICY
    consent, addresses, gpc, retention, hosts = row
    return Policy(consent, addresses, gpc, retention, read_hosts(hosts))


def campaign_id(reader: Reader, tenant: int, name: str) -> int | None:
    """A campaign's number, or None where no email is in one of this name."""
    row = reader.row("campaign_id", tenant, name)
    return None if row is None else int(row[0])


def campaigns(
    reader: Reader, tenant: int, before: int | None = None, limit: int = 50
) -> list[Campaign]:
    """Campaigns, newest first, from those older than number `before`."""
    last = NEWEST if before is None else before
    return [Campaign(*row) for row in reader.rows("campaigns", tenant, last, limit)]


def links(reader: Reader, tenant: int, before: int | None = None, limit: int = 50) -> list[Link]:
    """Links that were followed, the newest first, from those older than number `before`."""
    last = NEWEST if before is None else before
    return [Link(*row) for row in reader.rows("links", tenant, last, limit)]


def campaigns_of(reader: Reader, tenant: int, ids: Sequence[int]) -> dict[int, Campaign]:
    """Campaigns by number."""
    return {row[0]: Campaign(*row) for row in reader.some("campaigns_of", tenant, ids)}


def links_of(reader: Reader, tenant: int, ids: Sequence[int]) -> dict[int, Link]:
    """Links by number; 0 is what is beyond a tenant's share of new links."""
    found = {row[0]: Link(*row) for row in reader.some("links_of", tenant, ids)}
    return {id_: found.get(id_) or Link(id_, OTHER, "", "") for id_ in ids}


def has_keys(reader: Reader, tenant: int) -> bool:
    """Whether a tenant ever had a key: then it is closed."""
    row = reader.row("has_keys", tenant)
    return row is not None and bool(row[0])


def keys(reader: Reader, name: str | None) -> list[KeyLine]:
    """Keys of the tenant of this name, or of all, revoked ones too."""
    return [KeyLine(*row) for row in reader.rows("unscoped_keys", name)]


def key_hashes(reader: Reader, tenant: int) -> list[KeyHash]:
    """Hashes of a tenant's keys, revoked ones too; none where it is open."""
    return [KeyHash(*row) for row in reader.rows("key_hashes", tenant)]


def unscoped_open_tenants(reader: Reader) -> list[str]:
    """Names of the tenants that never had a key."""
    return [str(name) for (name,) in reader.rows("unscoped_open_tenants")]
