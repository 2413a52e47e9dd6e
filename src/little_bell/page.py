"""What a handler of the slow lane answers."""

from collections.abc import Iterator
from typing import NamedTuple


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
