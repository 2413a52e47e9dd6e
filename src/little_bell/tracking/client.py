"""The client's address: found behind proxies, truncated at the door.

An address is `bytes` as packed by inet_pton: 4 bytes for IPv4, 16 for IPv6 (IPv4-mapped ones
become IPv4). A truncated one keeps its network part alone: 3 bytes (/24) or 6 (/48).
"""

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

MAPPED = b"\x00" * 10 + b"\xff\xff"

NAMED_NETWORKS = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}


class Network(NamedTuple):
    """One address range."""

    width: int  # bytes of an address: 4 or 16
    prefix: int  # the network's bits, as a number
    shift: int  # bits of the host part


def parse_network(text: str) -> Network:
    """One address or CIDR range. Raises ValueError."""
    host, slash, bits = text.partition("/")
    packed = pack(host)
    if packed is None:
        raise ValueError(f"{text!r} is not an address")
    width = len(packed)
    if slash and not (bits.isascii() and bits.isdigit() and len(bits) <= 3):
        raise ValueError(f"{text!r} has a prefix length that is no number")
    length = int(bits) if slash else width * 8
    if length > width * 8:
        raise ValueError(f"{text!r} has a prefix length that does not fit")
    shift = width * 8 - length
    return Network(width, int.from_bytes(packed, "big") >> shift, shift)


def parse_networks(text: str) -> tuple[Network, ...]:
    """A list of addresses, CIDR ranges and the names `loopback` and `private`, by commas.

    Raises ValueError that names the wrong entry.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(
        parse_network(entry)
        for name in names
        if name != "none"
        for entry in NAMED_NETWORKS.get(name, (name,))
    )


def pack(text: str) -> bytes | None:
    """An address, perhaps with brackets, a port or a zone, packed; None where it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    text = text.partition("%")[0]
    try:
        if ":" in text:
            packed = inet_pton(AF_INET6, text)
            return packed[12:] if packed.startswith(MAPPED) else packed
        return inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return None


def within(address: bytes, networks: tuple[Network, ...]) -> bool:
    """Whether a full address lies in one of the ranges."""
    width = len(address)
    number = int.from_bytes(address, "big")
    return any(
        number >> network.shift == network.prefix for network in networks if network.width == width
    )


def is_own(address: bytes, tenant: str, own: dict[str, tuple[Network, ...]]) -> bool:
    """Whether a full address is a sender's own; `own` by tenant, those of all under no name."""
    return within(address, own.get("", ())) or within(address, own.get(tenant, ()))


def client_address(peer: bytes, headers: dict[bytes, bytes], trusted: tuple[Network, ...]) -> bytes:
    """The client's full address: the peer's, or what trusted proxies say of it.

    X-Forwarded-For is read from the right: each trusted hop vouches for the entry at its left.
    X-Real-IP is believed where there is no X-Forwarded-For. An entry that is no address ends the
    reading: the last good one counts.
    """
    forwarded = headers.get(b"x-forwarded-for")
    if forwarded is None:
        forwarded = headers.get(b"x-real-ip")
        if forwarded is None:
            return peer
    if not within(peer, trusted):
        return peer
    address = peer
    for entry in reversed(forwarded.decode("latin-1").split(",")):
        packed = pack(entry)
        if packed is None:
            break
        address = packed
        if not within(address, trusted):
            break
    return address


def truncate(address: bytes) -> bytes:
    """The network part that is stored: /24 of an IPv4 address, /48 of an IPv6 address."""
    return address[:3] if len(address) == 4 else address[:6]


def same_source(one: bytes | None, other: bytes | None) -> bool:
    """Whether two stored addresses are of one network; those that were not stored are."""
    if one == other:
        return True
    return one is not None and other is not None and truncate(one) == truncate(other)


@lru_cache(1024)
def show(stored: bytes | None) -> str:
    """A stored address as text, the cut part as zeros: `192.168.1.0`, `2001:db8:1::`; nothing
    where none was stored."""
    if stored is None:
        return ""
    if len(stored) == 3:
        return f"{stored[0]}.{stored[1]}.{stored[2]}.0"
    if len(stored) == 4:
        return inet_ntop(AF_INET, stored)
    return inet_ntop(AF_INET6, stored.ljust(16, b"\x00"))
