"""The value of Content-Type and Content-Disposition: a word and parameters (RFC 2045, 2231)."""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MOST_PARAMETERS = 100
_NEEDED = ("boundary", "charset")  # to be said once

_WORD = r"[!#-'*+.0-9A-Z^-z{|}~-]+"  # RFC 2045, without the / of types
_VALUE = re.compile(rf"({_WORD}(?:/{_WORD})?)")
_NAME = re.compile(rf"({_WORD})[ \t]*=")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r'[^\s;"()]+')  # with / and =, which many boundaries have unquoted
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*([0-9]{1,3}))?(\*?)")


class Content(NamedTuple):
    """`parameters` have names in lower case. What could not be read to its end is not `sound`, and
    then programs may not agree on any of it."""

    value: str  # in lower case; empty where there is none that can be read
    parameters: dict[str, str]
    sound: bool


class _Reader:
    """A position in the text that is read."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """The first group of what stands here, if it matches (all of it where there is none)."""
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[1] if pattern.groups else match[0]

    def space(self) -> bool:
        """Step over white space and comments; false where a comment has no end."""
        depth = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "(":
                depth += 1
            elif char == ")" and depth:
                depth -= 1
            elif depth and char == "\\":
                self.at += 1
            elif not depth and char not in " \t":
                return True
            self.at += 1
        return not depth


def read_content(text: str) -> Content:
    """Read an unfolded value. Never raises."""
    reader = _Reader(text)
    if not reader.space() or (value := reader.take(_VALUE)) is None:
        return Content("", {}, False)
    pairs: dict[str, str] = {}
    sound = reader.space() and _parameters(reader, pairs)
    parameters = _joined(pairs) if sound else None
    return Content(value.lower(), parameters or {}, parameters is not None)


def _parameters(reader: _Reader, pairs: dict[str, str]) -> bool:
    """Read the parameters as they stand into `pairs`; false where that fails."""
    while reader.at < len(reader.text):
        if reader.text[reader.at] != ";":
            return False
        reader.at += 1
        if not reader.space():
            return False
        if reader.at == len(reader.text) or reader.text[reader.at] == ";":
            continue
        name = reader.take(_NAME)
        if name is None or name.lower() in pairs or len(pairs) == MOST_PARAMETERS:
            return False
        reader.space()
        value = reader.take(_QUOTED)
        if value is not None:
            value = _ESCAPE.sub(r"\1", value)
        else:
            value = reader.take(_BARE)
        if value is None or not reader.space():
            return False
        pairs[name.lower()] = value
    return True


def _joined(pairs: dict[str, str]) -> dict[str, str] | None:
    """Put together what RFC 2231 cuts (name*0, name*1) or encodes (name*); None where it is wrong.

    A character beyond ASCII is one byte of the header.
    """
    sections: dict[str, dict[int, str]] = {}
    whole: dict[str, str] = {}
    for name, value in pairs.items():
        match = _SECTION.fullmatch(name)
        if match is None or (match[3] and match[1] in pairs and match[1] in _NEEDED):
            return None
        if match[3]:
            if match[2] in (None, "0"):  # charset'language'value
                if value.count("'") < 2:
                    return None
                value = value.split("'", 2)[2]
            value = unquote_to_bytes(value.encode("latin-1", "replace")).decode("latin-1")
        if match[2] is None:
            if match[1] not in whole or match[3]:  # filename= beside filename*=, as mailers do
                whole[match[1]] = value
        else:
            section = sections.setdefault(match[1], {})
            if int(match[2]) in section:
                return None
            section[int(match[2])] = value
    for name, section in sections.items():
        if name in whole or sorted(section) != list(range(len(section))):
            return None
        whole[name] = "".join(section[number] for number in sorted(section))
    return whole
