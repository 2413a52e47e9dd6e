"""Lines of a body: those that did not change keep their bytes, and none becomes too long."""

import html
import re
from collections.abc import Callable, Collection, Sequence
from typing import AnyStr

MOST = 1_000_000  # lines, each of which takes some 300 bytes of memory
LONGEST = 998  # octets without the line end (RFC 5322, 2.1.1)

_TEXT = re.compile(r"[^\n]*\n|[^\n]+")
_BYTES = re.compile(rb"[^\n]*\n|[^\n]+")
_LINK = re.compile(r"""[ \t](?:href|src)[ \t]*=[ \t]*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.I)


def check(text: str | bytes) -> None:
    """Raise ValueError with a sentence where there are more lines than anybody sends."""
    count = text.count("\n") if isinstance(text, str) else text.count(b"\n")
    if count > MOST:
        raise ValueError(f"it has more than {MOST:,} lines")


def of_text(text: str) -> list[str]:
    """The lines, each with its LF. Raises ValueError."""
    check(text)
    return _TEXT.findall(text)


def of_bytes(data: bytes) -> list[bytes]:
    """The lines, each with its LF. Raises ValueError."""
    check(data)
    return _BYTES.findall(data)


def keep(
    was: Sequence[tuple[AnyStr, bytes]],
    now: Sequence[AnyStr],
    write: Callable[[AnyStr], bytes],
) -> bytes:
    """The lines of `now`, written as they were written where they stood in `was` already."""
    if len(was) == len(now):
        return b"".join(
            written if line == before else write(line)
            for line, (before, written) in zip(now, was, strict=True)
        )
    known = dict(was)
    return b"".join(known.get(line) or write(line) for line in now)


def too_long(was: bytes, now: bytes) -> bool:
    """Whether a line that was not there before has more than LONGEST octets."""
    long = [line for line in of_bytes(now) if _length(line) > LONGEST]
    return bool(long) and not set(of_bytes(was)).issuperset(long)


def _length(line: bytes) -> int:
    return len(line.removesuffix(b"\n").removesuffix(b"\r"))


def fold(text: str, codec: str, targets: Collection[str], line_end: str) -> str:
    """Break lines of HTML that are too long in the white space before an attribute that leads to
    one of `targets`: there it surely is white space of a tag. Where that does not help, the line
    stays as it is."""
    return "".join(
        _fold(line, codec, targets, line_end) if len(line) > LONGEST // 4 else line
        for line in of_text(text)
    )


def _fold(line: str, codec: str, targets: Collection[str], line_end: str) -> str:
    if _length(line.encode(codec, "xmlcharrefreplace")) <= LONGEST:
        return line
    folded: list[str] = []
    start = 0  # of the line that grows
    last = 0  # where it can be broken
    points = [
        match.start()
        for match in _LINK.finditer(line)
        if html.unescape(match[1] or match[2] or match[3] or "") in targets
    ]
    for point in (*points, len(line)):
        if last > start and _length(line[start:point].encode(codec, "xmlcharrefreplace")) > LONGEST:
            folded += (line[start:last], line_end)
            start = last + 1  # the line end stands for the blank
        last = point
    return "".join((*folded, line[start:]))
