"""Tracked addresses: the documented forms, and those that hold their own proof.

A link's token is base64url (RFC 4648 5) without padding of: a version byte, the MAC, the label and
the part behind a byte with their length each, and the target. The MAC is over tenant, email, label,
part and target. Mail with it is out for years: whatever changes here needs another version.
"""

from binascii import Error, a2b_base64, b2a_base64
from typing import NamedTuple

from little_bell.errors import Refused
from little_bell.tracking.signing import MAC, Keyring, same

CLICK = b"click/1"  # purposes of signatures
OPEN = b"open/1"
VERSION = 1
LONGEST = 255  # bytes of a label or a part, in UTF-8

URLSAFE = bytes.maketrans(b"+/", b"-_")
STANDARD = bytes.maketrans(b"-_", b"+/")
CONTROLS = frozenset((*range(32), *range(127, 160)))  # of Unicode: category Cc


class Link(NamedTuple):
    """Where a link of an email leads, and what its sender calls it and the part it stands in."""

    url: str  # canonical
    label: str = ""
    part: str = ""


class Addresses:
    """Writes and reads the addresses of emails, as paths: BASE_URL goes in front.

    Tenants are names, as bytes where they were read from a path.
    """

    __slots__ = ("ring", "signed")

    def __init__(self, ring: Keyring, signed: bool) -> None:
        """`signed`: the pixels of new emails are (LINK_POLICY)."""
        self.ring = ring
        self.signed = signed

    def pixel(self, tenant: str, email: int) -> str:
        """The pixel of an email, in the form that counts."""
        if not self.signed:
            return f"/{tenant}/pixel/{email}.gif"
        mac = self.ring.sign(OPEN, tenant.encode("ascii"), b"%d" % email)
        return f"/{tenant}/o/{email}/{encode(mac)}.gif"

    def click(self, tenant: str, email: int, url: str) -> str:
        """A link in the documented form, with its signature behind it; `url` is canonical."""
        from urllib.parse import quote

        mac = self.ring.sign(CLICK, *fields(tenant.encode("ascii"), email, Link(url)))
        return f"/{tenant}/click/{email}?url={quote(url, safe='')}&sig={encode(mac)}"

    def link(self, tenant: str, email: int, link: Link) -> str:
        """A link whose target stands in its path."""
        mac = self.ring.sign(CLICK, *fields(tenant.encode("ascii"), email, link))
        return f"/{tenant}/l/{email}/{encode(write_token(mac, link))}"

    def is_pixel(self, tenant: bytes, email: bytes, mac: bytes) -> bool:
        """Whether `mac` signs the pixel of this email; `email` is as it stands in the path."""
        # As text, of which there is one for any bytes (see `decode`).
        return any(same(encoded(good), mac) for good in self.ring.macs(OPEN, tenant, email))

    def is_click(self, tenant: bytes, email: int, url: str, sig: str) -> bool:
        """Whether `sig` signs this target of a link of this email."""
        found = decode(sig.encode("utf-8"))
        return found is not None and self.ring.verify(
            found, CLICK, *fields(tenant, email, Link(url))
        )

    def read_link(self, tenant: bytes, email: bytes, token: bytes) -> Link | None:
        """What a token holds; None where nobody who has a key made it for this email.

        `email` is as it stands in the path: another way to write the number is another link.
        """
        data = decode(token)
        if data is None or data[:1] != b"%c" % VERSION:
            return None
        mac, rest = data[1 : 1 + MAC], data[1 + MAC :]
        label, rest = take(rest)
        part, url = take(rest)
        if not self.ring.verify(mac, CLICK, tenant, email, label, part, url):
            return None
        try:
            return Link(url.decode("ascii"), is_name(label), is_name(part))
        except ValueError:  # signed by somebody else who has the key
            return None


def fields(tenant: bytes, email: int, link: Link) -> tuple[bytes, ...]:
    """What the signature of a link is over."""
    return (
        tenant,
        b"%d" % email,
        link.label.encode("utf-8"),
        link.part.encode("utf-8"),
        link.url.encode("ascii"),
    )


def write_token(mac: bytes, link: Link) -> bytes:
    """The bytes of a token."""
    label, part = link.label.encode("utf-8"), link.part.encode("utf-8")
    head = b"%c%b%c%b%c%b" % (VERSION, mac, len(label), label, len(part), part)
    return head + link.url.encode("ascii")


def take(data: bytes) -> tuple[bytes, bytes]:
    """What stands behind its length in a byte, and the rest."""
    size = 1 + data[0] if data else 0
    return data[1:size], data[size:]


def is_name(text: bytes) -> str:
    """A label or a part. Raises ValueError where it is none."""
    name = text.decode("utf-8")
    if not CONTROLS.isdisjoint(map(ord, name)):
        raise ValueError("control characters")
    return name


def read_name(text: str | None, field: str) -> str:
    """A label or a part as a sender gives it. Raises Refused (400) that names the field."""
    name = text or ""
    if len(name.encode("utf-8")) > LONGEST:
        raise Refused(400, f"the {field} is longer than {LONGEST} bytes", field)
    if not CONTROLS.isdisjoint(map(ord, name)):
        raise Refused(400, f"the {field} holds control characters", field)
    return name


def encode(data: bytes) -> str:
    """base64url without padding."""
    return encoded(data).decode("ascii")


def encoded(data: bytes) -> bytes:
    """The same as bytes."""
    return b2a_base64(data, newline=False).translate(URLSAFE, b"=")


def decode(text: bytes) -> bytes | None:
    """The bytes behind base64url; None where `encode` would not write them so, so that there is
    one text for any bytes."""
    try:
        data = a2b_base64(text.translate(STANDARD) + b"=" * (-len(text) % 4))
    except Error:
        return None
    return data if encoded(data) == text else None
