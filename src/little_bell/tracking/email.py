"""An email as its sender announces it, before it has an id."""

from typing import NamedTuple

from little_bell.tracking.privacy import FULL


class Once(NamedTuple):
    """An Idempotency-Key, and what came with it. Hashes, of 16 bytes each."""

    key: bytes
    digest: bytes


class NewEmail(NamedTuple):
    """What `POST /{tenant}/emails` says. Texts are valid UTF-8 without NUL."""

    tenant: str  # name
    subject: str | None
    recipient: str | None
    campaign: str | None
    metadata: str | None  # a JSON object of strings, as text
    once: Once | None = None
    consent: int = FULL  # of `tracking.privacy`; FULL says nothing: the tenant's may be stricter


class Change(NamedTuple):
    """What `PATCH /{tenant}/emails/{email}` says: new values of the fields that are `given`."""

    given: frozenset[str]  # names of the fields below
    subject: str | None = None
    recipient: str | None = None
    campaign: str | None = None
    metadata: str | None = None
    consent: int = FULL
