"""The header of a message or of a part of one: fields as spans of its bytes (RFC 5322)."""

import re
from email.errors import HeaderParseError
from email.header import decode_header
from typing import NamedTuple

from little_bell.mail.charset import codec_of

MOST_BYTES = 1 << 20
MOST_FIELDS = 10_000

_FIELD = re.compile(rb"([!-9;-~]+)([ \t]*):[^\n]*(?:\n[ \t][^\n]*)*\n?")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_STRAY = re.compile(rb"\r(?!\n)|\0")


class Field(NamedTuple):
    """A field with its folded lines: `raw[start:end]`."""

    name: bytes  # in lower case
    start: int
    value: int  # where what stands behind the colon begins
    end: int  # behind the line end


class Header(NamedTuple):
    """`problem` is a sentence where programs would not agree on what stands there."""

    start: int
    fields: tuple[Field, ...]
    end: int  # where the fields end
    body: int  # behind the empty line
    problem: str | None

    def values(self, raw: bytes, name: bytes) -> list[str]:
        """What the fields of this name (in lower case) say, unfolded; each byte is a character."""
        return [
            _FOLD.sub(b"", raw[field.value : field.end]).decode("latin-1").strip(" \t\r\n")
            for field in self.fields
            if field.name == name
        ]

    def has(self, *names: bytes) -> bool:
        return any(field.name in names for field in self.fields)


def read_header(raw: bytes, start: int, end: int) -> Header:
    """The header that begins at `start`, in a part that ends at `end`.

    A first line "From ..." of a mailbox file is stepped over at the beginning of `raw`.
    """
    bottom, body = _empty_line(raw, start, min(end, start + MOST_BYTES), end)
    fields: list[Field] = []
    problem = None
    at = start
    if start == 0 and raw.startswith((b"From ", b">From "), 0, bottom):
        at = raw.find(b"\n", 0, bottom) + 1 or bottom
    if bottom - start > MOST_BYTES:
        return Header(start, (), bottom, body, "the header is too long")
    if _STRAY.search(raw, start, bottom):
        problem = "the header holds a stray CR or a NUL"
    while at < bottom:
        match = _FIELD.match(raw, at, bottom)
        if match is None or (match[2] and match[1].lower().startswith(b"content-")):
            problem = "the header has a line that is no field"
            break
        if len(fields) == MOST_FIELDS:
            return Header(start, (), bottom, body, "the header has too many fields")
        fields.append(Field(match[1].lower(), at, match.end(2) + 1, match.end()))
        at = match.end()
    return Header(start, tuple(fields), bottom, body, problem)


def decode_words(value: str) -> str:
    """The text of a value whose characters are bytes: UTF-8, encoded words (RFC 2047)."""
    try:
        text = value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        text = value
    if "=?" not in text:
        return text
    try:
        return "".join(
            word if isinstance(word, str) else word.decode(codec_of(charset or "us-ascii"))
            for word, charset in decode_header(text)
        )
    except (HeaderParseError, LookupError, ValueError):
        return text


def _empty_line(raw: bytes, start: int, near: int, end: int) -> tuple[int, int]:
    """Where the header ends and the body begins. Without an empty line all of it is header."""
    for line in (b"\n", b"\r\n"):
        if raw.startswith(line, start, end):
            return start, start + len(line)
    found = [
        (at + 1, at + 1 + len(line))
        for line in (b"\n", b"\r\n")
        if (at := raw.find(b"\n" + line, start, near)) >= 0
    ]
    return min(found, default=(end, end))
