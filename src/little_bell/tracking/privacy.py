"""Privacy: how much of a hit may be stored, and who is left alone."""

from little_bell.tracking.signing import digest

# Consents, each stricter than the one before: the strictest of all that apply to a hit counts.
FULL = 0  # everything
AGGREGATE = 1  # neither email, address nor user agent, and only the hour: totals, no uniques
NONE = 2  # nothing
CONSENTS = ("full", "aggregate", "none")

# What `Sec-GPC: 1` (https://privacycg.github.io/gpc-spec/) means, by the same numbers.
GPC_CONSENTS = ("ignore", "aggregate", "none")

# How much of addresses is stored.
WHOLE = 0
TRUNCATED = 1  # /24 of IPv4, /48 of IPv6
UNKNOWN = 2  # none
ADDRESSES = ("full", "truncate", "none")

SALT = 16  # bytes
FINGERPRINT = 16


def trimmed(recipient: str) -> str:
    """A recipient without the white space of ASCII around it."""
    return recipient.strip(" \t\n\r\v\f")


def normal(recipient: str) -> str:
    """A recipient as it is compared: without space around it, ASCII letters small, as SQLite's
    NOCASE does."""
    return trimmed(recipient).encode("utf-8").lower().decode("utf-8")


def fingerprint(salt: bytes, recipient: str) -> bytes:
    """What is kept of a recipient who opted out: nobody can tell it without the salt."""
    return digest(salt + normal(recipient).encode("utf-8"))[:FINGERPRINT]
