"""What the command `keys` asks of a running server, over the control socket."""

import json

from little_bell.errors import Refused
from little_bell.store.key_change import DONE, FULL, MOST_KEYS, KeyChange
from little_bell.values import NO_TENANT, is_tenant

MAX_NAME = 64  # characters of what a key is called
HASH = 32  # bytes


def parse_order(body: bytes) -> KeyChange:
    """`{"tenant", "name", "role", "hash"}`, or `{"tenant", "revoke"}` with a number.

    Raises Refused (400)."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not an object")
    tenant = value.get("tenant")
    if not isinstance(tenant, str) or not is_tenant(tenant.encode("utf-8", "replace")):
        raise Refused(400, NO_TENANT, "tenant")
    revoke = value.get("revoke")
    if revoke is not None:
        if type(revoke) is not int or not 0 < revoke < 1 << 63:
            raise Refused(400, "revoke is not the number of a key", "revoke")
        return KeyChange(tenant, revoke=revoke)
    name, role, hash_ = value.get("name"), value.get("role"), value.get("hash")
    if not isinstance(name, str) or not is_name(name):
        raise Refused(400, f"name is not a text of at most {MAX_NAME} characters", "name")
    if type(role) is not int or role not in (0, 1):
        raise Refused(400, "role is neither 0 nor 1", "role")
    try:
        digest = bytes.fromhex(str(hash_))
    except ValueError:
        digest = b""
    if len(digest) != HASH:
        raise Refused(400, f"hash is not {HASH} bytes in hexadecimal", "hash")
    return KeyChange(tenant, name, role, digest)


def is_name(text: str) -> bool:
    """Whether a key can be called so."""
    return len(text) <= MAX_NAME and text.isprintable()


def told(change: KeyChange) -> dict[str, int]:
    """What became of a change that was written: the key's number. Raises Refused."""
    if change.outcome == FULL:
        raise Refused(422, f"the tenant has {MOST_KEYS} keys already: revoke one of them")
    if change.outcome != DONE:
        raise Refused(404, "there is no such key, or it is revoked already")
    return {"key": change.number}
