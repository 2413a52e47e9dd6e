"""The tags, comments and texts of HTML's source, and the attributes of a tag, by their offsets.

Tokens are those of the WHATWG standard (https://html.spec.whatwg.org/multipage/parsing.html). The
tokenizer says where each begins; where the attributes of a tag stand we find ourselves.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from turbohtml import Token

NAME = re.compile(r"<[^\t\n\f />]+")
ATTRIBUTE = re.compile(
    r"[\t\n\f /]*([^\t\n\f />][^\t\n\f />=]*)"
    r"(?:[\t\n\f ]*=[\t\n\f ]*(\"[^\"]*\"|'[^']*'|[^\t\n\f >]*))?"
)


class Attribute(NamedTuple):
    """An attribute as it stands in the source. Offsets are into the whole text."""

    name: str  # as written
    start: int
    end: int
    value: int  # where the value begins, behind its quote; `end` where there is none
    quote: str  # " or ', or nothing

    def named(self, name: str) -> bool:
        """Whether it has this name, of ASCII in lower case."""
        return self.name.isascii() and self.name.lower() == name


def tokens(text: str, base: int = 0) -> Iterator[tuple[int, "Token"]]:
    """Each token and its offset from `base`. The only line ends in `text` are LF.

    A tag that does not end is no token.
    """
    from turbohtml import tokenize

    line, begins = 1, 0
    for token in tokenize(text, capture_source=True):
        while line < token.line:
            begins = text.index("\n", begins) + 1
            line += 1
        yield base + begins + token.col, token


def attributes(text: str, start: int, end: int) -> list[Attribute]:
    """All attributes of the start tag that stands from `start` to `end`, doubles too."""
    name = NAME.match(text, start, end)
    at = name.end() if name else end
    found = []
    while at < end - 1:
        one = ATTRIBUTE.match(text, at, end - 1)
        if one is None:
            break
        at = value = one.end()
        quote = ""
        if one[2] is not None:
            value = one.start(2)
            if one[2][:1] in ("'", '"'):
                quote = one[2][0]
                value += 1
        found.append(Attribute(one[1], one.start(1), at, value, quote))
    return found
