"""What a handler of the slow lane answers."""

from collections.abc import Iterator
from typing import NamedTuple

# Headers by which the fast lane tells it of a request, in place of the credentials that it never
# sees; whatever a client says by them is thrown away (see `wire.gate`).
IN_SESSION = b"little-bell-session"
WRONG_KEY = b"little-bell-wrong-key"
REQUEST = b"little-bell-request"  # its number in the log, at DEBUG alone

BEARER = 'Bearer realm="Little Bell"'  # of pages: `Basic` would open a window of the browser's own


class Page(NamedTuple):
    """An answer of the slow lane: whole, or as pieces of some 64 KiB where it may be long.

    A piece is made once the client has taken the one before, in whichever thread is free: the
    iterator must fetch the connection of its thread anew for each, and hold no transaction
    between two. If it is a generator, it is closed where the client does not take all of it; what
    it raises before its first piece is an answer (a Refused as well), later it cuts the body off.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | Iterator[bytes]
