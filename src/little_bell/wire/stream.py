"""A long body, piece by piece: framed, and compressed where its client likes that."""

import zlib
from collections.abc import Iterator

from little_bell.wire.representation import GZIP, LEVEL


class Stream:
    """The rest of an answer. A thread makes the next piece, or the loop has it: never both."""

    def __init__(
        self, pieces: Iterator[bytes], status: int, head: bytes, chunked: bool, gzip: bool
    ) -> None:
        """`head` is sent before the first piece."""
        self.pieces = pieces
        self.status = status
        self.head = head
        self.chunked = chunked
        self.packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP) if gzip else None
        self.making = False  # a thread has it
        self.over = False  # the last piece is made

    def next(self) -> bytes:
        """In a thread: the next piece as it is sent; sets `over`. Raises what its maker does."""
        piece = next(self.pieces, None)
        if piece is None:
            self.over = True
            self.close()
            data = self.packer.flush() if self.packer is not None else b""
        elif piece and self.packer is not None:
            data = self.packer.compress(piece) + self.packer.flush(zlib.Z_SYNC_FLUSH)
        else:
            data = piece
        if self.chunked:
            if data:  # an empty chunk would be the last
                data = b"%x\r\n%b\r\n" % (len(data), data)
            if self.over:
                data += b"0\r\n\r\n"
        head, self.head = self.head, b""
        return head + data

    def close(self) -> None:
        """In a thread: let the maker clean up; nobody wants more. Raises what it does."""
        close = getattr(self.pieces, "close", None)
        if close is not None:
            close()
