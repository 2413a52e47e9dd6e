"""Signatures: the standard's own vectors, fields that cannot be shifted, rings of keys"""

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_bell.tracking.signing import MAC, MOST_KEYS, Keyring, _mac, _prepare

# RFC 4231, test cases 1, 2, 3, 6 and 7: key, message, HMAC-SHA-256.
VECTORS = (
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data."
        b" The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
)

fields = st.lists(st.binary(max_size=9), max_size=4)
keys = st.binary(max_size=140)


@pytest.mark.parametrize(("key", "message", "digest"), VECTORS)
def test_the_vectors_of_rfc_4231(key: bytes, message: bytes, digest: str) -> None:
    assert _mac(_prepare(key), message) == bytes.fromhex(digest)[:MAC]


@given(keys, fields)
def test_it_is_the_hmac_of_the_fields_behind_their_lengths(key: bytes, fields: list[bytes]) -> None:
    message = b"".join(len(f).to_bytes(4, "big") + f for f in (b"test", *fields))
    assert Keyring([key]).sign(b"test", *fields) == hmac.digest(key, message, "sha256")[:12]


@given(fields, fields)
def test_other_fields_have_another_signature(one: list[bytes], other: list[bytes]) -> None:
    ring = Keyring([b"k" * 32])
    assert ring.verify(ring.sign(b"click", *one), b"click", *other) == (one == other)
    assert not ring.verify(ring.sign(b"click", *one), b"open", *one)


def test_the_first_key_signs_and_any_of_them_verifies() -> None:
    new, old, strange = (sha256(name).digest() for name in (b"new", b"old", b"strange"))
    ring = Keyring([new, old])
    assert ring.sign(b"x", b"1") == Keyring([new]).sign(b"x", b"1")
    for key in (new, old):
        assert ring.verify(Keyring([key]).sign(b"x", b"1"), b"x", b"1")
    assert not ring.verify(Keyring([strange]).sign(b"x", b"1"), b"x", b"1")
    assert not ring.verify(b"", b"x", b"1")
    assert not ring.verify(ring.sign(b"x", b"1")[:-1], b"x", b"1")


@pytest.mark.parametrize("number", [0, MOST_KEYS + 1])
def test_a_ring_has_keys_and_not_too_many(number: int) -> None:
    with pytest.raises(ValueError, match="keys"):
        Keyring([b"k"] * number)
