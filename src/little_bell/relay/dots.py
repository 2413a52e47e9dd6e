"""A message on the wire (RFC 5321 4.5.2): dots doubled at the begin of lines, a lone one at its
end. Only CRLF ends a line (4.1.1.4)."""

from asyncio import IncompleteReadError, StreamReader
from collections.abc import AsyncIterator

PIECE = 1 << 16  # octets that are read at once
END = b"\r\n.\r\n"


async def read_pieces(reader: StreamReader) -> AsyncIterator[bytes]:
    """A message up to the lone dot, in pieces, dots undoubled; what stands behind it stays unread.

    Pieces and not lines: empty lines take long by the million, and all sessions wait.
    """
    kept = b"\r\n"  # of what came before and may belong to the end; here as if a line had ended
    first = len(kept)
    while True:
        block = await reader.read(PIECE)
        if not block:
            raise IncompleteReadError(kept, None)
        data = kept + block
        end = data.find(END)
        if end >= 0:
            reader._buffer[:0] = data[end + len(END) :]  # type: ignore[attr-defined]
            yield undotted(data[: end + 2])[first:]
            return
        open_from = len(data) - next(n for n in range(4, -1, -1) if data.endswith(END[:n]))
        kept = data[open_from:]
        if open_from:
            yield undotted(data[:open_from])[first:]
            first = 0


def undotted(piece: bytes) -> bytes:
    return piece.replace(b"\r\n.", b"\r\n")


def dotted(message: bytes) -> bytes:
    """A message whose lines all end with CRLF, as it goes behind DATA, with its end."""
    dot = b"." if message.startswith(b".") else b""
    return b"".join((dot, message.replace(b"\r\n.", b"\r\n.."), b".\r\n"))


def whole(pieces: bytearray) -> bytes:
    """All of it as bytes; nothing is left there, so that a message takes its memory once."""
    data = bytes(pieces)
    pieces.clear()
    return data
