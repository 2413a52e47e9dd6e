"""A hit: one request that may become an event of the log."""

from typing import NamedTuple

from little_bell.tracking.privacy import FULL

OPEN = 0
CLICK = 1
CAPPED = 2
KINDS = ("open", "click", "capped")

# Flags: what classification needs of a request and what truncation would lose.
PREFETCH = 1  # a prefetch or prerender header
GPC = 2  # Sec-GPC: 1
DNT = 4  # DNT: 1
RELAY = 8  # the full address was in a range of Apple's Private Relay
SCANNER = 16  # the full address was in a range of a known link scanner
OWN = 32  # the full address was one of the sender's own
JUDGED = PREFETCH | RELAY | SCANNER | OWN  # those that a class follows from

PREFETCH_HEADERS = (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz")
SIGNALS = frozenset((*PREFETCH_HEADERS, b"sec-gpc", b"dnt"))
MAX_USER_AGENT = 512  # bytes
MAX_ID_DIGITS = 18  # fits a signed 64-bit integer whatever the digits are


class Hit(NamedTuple):
    """One open or click of an issued email, as it was seen at the door."""

    tenant: int
    email: int
    kind: int  # OPEN or CLICK
    at: int  # milliseconds since the epoch, UTC
    flags: int
    user_agent: str  # at most MAX_USER_AGENT bytes of UTF-8
    address: bytes | None  # packed; truncated, or as much of it as the tenant stores
    url: str | None  # canonical target of a click
    label: str = ""  # of the link, and the part of the email where it stands: where signed
    part: str = ""
    consent: int = FULL  # at most so much may be stored (see `tracking.privacy`)

    @property
    def size(self) -> int:
        """Bytes this hit takes in memory while it waits for the disk, roughly."""
        texts = len(self.user_agent) + len(self.url or "") + len(self.label) + len(self.part)
        return 300 + texts


def parse_id(segment: bytes) -> int:
    """The id in the last segment of a tracking address (`12`, `12.gif`), or 0 where it is none.

    ASCII digits without a leading zero only: `int()` alone would take `1_0`, `+1` and Arabic
    digits.
    """
    if segment.endswith(b".gif"):
        segment = segment[:-4]
    if segment.isdigit() and len(segment) <= MAX_ID_DIGITS and segment[0] != 0x30:
        return int(segment)
    return 0


def user_agent_text(raw: bytes) -> str:
    """A User-Agent header as stored: valid UTF-8, cut to MAX_USER_AGENT bytes."""
    if raw.isascii():
        return raw[:MAX_USER_AGENT].decode("ascii")
    text = raw[:MAX_USER_AGENT].decode("utf-8", "replace")
    # Replacement characters take three bytes each.
    return text.encode("utf-8")[:MAX_USER_AGENT].decode("utf-8", "ignore")


def header_flags(headers: dict[bytes, bytes]) -> int:
    """PREFETCH, GPC and DNT as the request's headers (lower-case names) say."""
    if SIGNALS.isdisjoint(headers):
        return 0
    flags = 0
    for name in PREFETCH_HEADERS:
        value = headers.get(name)
        if value is not None and (b"prefetch" in value.lower() or b"prerender" in value.lower()):
            flags |= PREFETCH
    if headers.get(b"sec-gpc") == b"1":
        flags |= GPC
    if headers.get(b"dnt") == b"1":
        flags |= DNT
    return flags
