"""The parts of a message (RFC 2045, 2046), as spans of its bytes.

The standard library's parser does not say where a part begins, and what it writes is not what it
read. Here nothing is ever written: whoever changes a part puts other bytes into its span.

Line ends are LF and CRLF, mixed as they come. An outer boundary ends what stands inside, whatever
the inner ones say. Whatever two programs may read in two ways is a problem of its part.
"""

import re
from collections.abc import Iterator

from little_bell.mail.content import Content, read_content
from little_bell.mail.header import Header, read_header

MOST_PARTS = 1_000
DEEPEST = 50

_REST = re.compile(rb"(--)?[ \t]*\r?(?:\n|\Z)")  # of the line of a boundary


class TooManyPartsError(ValueError):
    """The message has more than MOST_PARTS parts."""


class Part:
    """A message or a part of one.

    Its body is `raw[header.body:end]`: the line end before a boundary belongs to the boundary.
    `problem` is a sentence where it cannot be read for sure, and then it has no children.
    """

    __slots__ = (
        "boundaries",
        "children",
        "disposition",
        "encoding",
        "end",
        "header",
        "number",
        "parent",
        "problem",
        "type",
    )

    def __init__(
        self, raw: bytes, start: int, end: int, number: str, parent: "Part | None"
    ) -> None:
        self.header: Header = read_header(raw, start, end)
        self.end = end
        self.number = number  # as in IMAP: "" for the whole message, "2.1" for a part of a part
        self.parent = parent
        self.boundaries: tuple[bytes, ...] = () if parent is None else parent.boundaries
        self.children: list[Part] = []
        self.problem = self.header.problem
        self.type: Content = self._content(raw, b"content-type", self._default())
        self.disposition: Content = self._content(raw, b"content-disposition", "inline")
        self.encoding = self._encoding(raw)

    @property
    def kind(self) -> str:
        """The type, as text/html."""
        return self.type.value

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.number} {self.kind}" if self.number else "message"

    def walk(self) -> "Iterator[Part]":
        """This part and all inside, in the order of the bytes."""
        yield self
        for child in self.children:
            yield from child.walk()

    def _default(self) -> str:
        digest = self.parent is not None and self.parent.kind == "multipart/digest"
        return "message/rfc822" if digest else "text/plain"

    def _content(self, raw: bytes, name: bytes, default: str) -> Content:
        values = self.header.values(raw, name)
        content = read_content(values[0] if values else default)
        if len(values) > 1:
            self._fail(f"it has {len(values)} fields {name.decode()}")
        return content

    def _encoding(self, raw: bytes) -> str:
        """The Content-Transfer-Encoding in lower case."""
        values = self.header.values(raw, b"content-transfer-encoding")
        if len(values) > 1:
            self._fail(f"it has {len(values)} fields content-transfer-encoding")
        if not values:
            return "7bit"
        content = read_content(values[0])
        if not content.sound or content.parameters:
            self._fail("its transfer encoding cannot be read")
        return content.value

    def _fail(self, problem: str) -> None:
        self.problem = self.problem or problem


def read_message(raw: bytes) -> Part:
    """The message with all its parts. Raises TooManyPartsError."""
    root = Part(raw, 0, len(raw), "", None)
    left = MOST_PARTS
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.problem is None and part.kind.startswith("multipart/"):
            _split(raw, part, left)
            left -= len(part.children)
            waiting += reversed(part.children)
    return root


def _split(raw: bytes, part: Part, most: int) -> None:
    """Find the children of a multipart."""
    boundary = part.type.parameters.get("boundary", "").rstrip(" \t").encode("latin-1", "replace")
    if not part.type.sound or not boundary or b"\n" in boundary:
        part.problem = "its boundary cannot be read"
    elif part.encoding not in ("7bit", "8bit", "binary"):
        part.problem = "it has parts, and a transfer encoding around them"
    elif len(part.boundaries) == DEEPEST:
        part.problem = f"it is nested deeper than {DEEPEST} levels"
    else:
        spans = _spans(raw, part, boundary, most)
        if spans is None:
            part.problem = "its last boundary is missing"
            return
        prefix = f"{part.number}." if part.number else ""
        part.boundaries = (*part.boundaries, b"--" + boundary)
        part.children = [
            Part(raw, start, end, f"{prefix}{number}", part)
            for number, (start, end) in enumerate(spans, 1)
        ]


def _spans(raw: bytes, part: Part, boundary: bytes, most: int) -> list[tuple[int, int]] | None:
    """From where to where the children reach; None where the closing boundary is missing."""
    mark = b"\n--" + boundary
    spans: list[tuple[int, int]] = []
    start = None  # of the child that is open
    at = raw.find(mark, max(part.header.body - 1, 0), part.end)
    while at >= 0:
        rest = _REST.match(raw, at + len(mark), part.end)
        if rest is None:
            at = raw.find(mark, at + 1, part.end)
            continue
        if start is not None:
            if len(spans) == most:
                raise TooManyPartsError
            bare = at - 1 if raw[at - 1] == 0x0D else at
            spans.append((start, max(start, bare)))
        if rest[1]:
            return spans if start is not None else None
        start = rest.end()
        at = raw.find(mark, start - 1, part.end)
    return None
