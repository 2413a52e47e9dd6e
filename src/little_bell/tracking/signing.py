"""Signatures: HMAC-SHA256 (RFC 2104), cut to 96 bits, over fields that nobody can shift.

A ring holds keys: the first one signs, any of them verifies, so that a key can be replaced while
mail that the old one signed is still out.
"""

from _operator import _compare_digest as same  # hmac.compare_digest, without OpenSSL (3.7 MB)
from collections.abc import Sequence
from typing import Any

try:
    from _sha2 import sha256 as sha256  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    try:
        from _sha256 import sha256 as sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:  # a Python that was built without its own
        from hashlib import sha256 as sha256

__all__ = ["Keyring", "digest", "same"]

MAC = 12  # bytes
BLOCK = 64  # bytes that SHA-256 takes at once
MOST_KEYS = 16

SIZES = tuple(n.to_bytes(4, "big") for n in range(256))  # in front of short fields

INNER = bytes(n ^ 0x36 for n in range(256))
OUTER = bytes(n ^ 0x5C for n in range(256))


class Keyring:
    """Signs and verifies. `purpose` and `fields` are the message: each goes in with its length."""

    __slots__ = ("keys",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys` are secrets of any length, at least one."""
        self.put(keys)

    def put(self, keys: Sequence[bytes]) -> None:
        """Take these keys in place of those before, for all who hold this ring."""
        if not 0 < len(keys) <= MOST_KEYS:
            raise ValueError(f"a ring has 1 to {MOST_KEYS} keys")
        self.keys = [_prepare(key) for key in keys]

    def sign(self, purpose: bytes, *fields: bytes) -> bytes:
        """MAC bytes by the first key."""
        return _mac(self.keys[0], _message(purpose, fields))

    def macs(self, purpose: bytes, *fields: bytes) -> list[bytes]:
        """MAC bytes by each of the keys."""
        message = _message(purpose, fields)
        return [_mac(key, message) for key in self.keys]

    def verify(self, mac: bytes, purpose: bytes, *fields: bytes) -> bool:
        """Whether one of the keys signed exactly these fields for this purpose. Takes the same
        time whatever is wrong in `mac`."""
        return any(same(good, mac) for good in self.macs(purpose, *fields))


def digest(data: bytes) -> bytes:
    """SHA-256 (FIPS 180-4), without OpenSSL."""
    found: bytes = sha256(data).digest()
    return found


def _prepare(key: bytes) -> tuple[Any, Any]:
    """The inner and outer hash with the key in it already."""
    if len(key) > BLOCK:
        key = sha256(key).digest()
    key = key.ljust(BLOCK, b"\0")
    return sha256(key.translate(INNER)), sha256(key.translate(OUTER))


def _mac(key: tuple[Any, Any], message: bytes) -> bytes:
    inner, outer = key[0].copy(), key[1].copy()
    inner.update(message)
    outer.update(inner.digest())
    mac: bytes = outer.digest()[:MAC]
    return mac


def _message(purpose: bytes, fields: tuple[bytes, ...]) -> bytes:
    """Each field behind its length in four bytes: no two lists of fields give the same."""
    parts = []
    for field in (purpose, *fields):
        size = len(field)
        parts.append(SIZES[size] if size < 256 else size.to_bytes(4, "big"))
        parts.append(field)
    return b"".join(parts)
