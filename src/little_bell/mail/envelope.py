"""What a message says of itself: its subject, and to whom it goes."""

from email.utils import getaddresses

from little_bell.mail.header import decode_words, read_header

LONGEST = 4_000  # characters of a field that is read


def subject_of(raw: bytes) -> str | None:
    """The message's subject, decoded; None where there is none to be read. Never raises."""
    header = read_header(raw, 0, len(raw))
    found = header.values(raw, b"subject")
    if not found:
        return None
    return _printable(decode_words(found[0][:LONGEST])) or None


def recipient_of(raw: bytes) -> str | None:
    """The address in To, where it is exactly one; else None. Never raises."""
    header = read_header(raw, 0, len(raw))
    found = header.values(raw, b"to")
    if not found or sum(map(len, found)) > LONGEST:
        return None
    try:
        texts = [value.encode("latin-1").decode("utf-8") for value in found]
        addresses = [address for _, address in getaddresses(texts) if address]
    except (ValueError, IndexError, RecursionError):  # comments within comments
        return None
    if len(addresses) != 1 or not all(addresses[0].partition("@")):
        return None
    return addresses[0]


def _printable(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())
