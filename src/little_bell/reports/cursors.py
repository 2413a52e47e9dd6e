"""Where a list goes on, as a text that means nothing to whoever keeps it."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from little_bell.errors import Refused

MAX_TEXT = 4096  # characters
MAX_NUMBER = (1 << 63) - 1

INT, OPTIONAL, TEXT = "int", "int or null", "text"


def encode(values: Sequence[int | str | None]) -> str:
    """A cursor as a text of URL-safe characters."""
    data = json.dumps(list(values), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str, *forms: tuple[str, ...]) -> tuple[int | str | None, ...]:
    """The values of a cursor that has one of these forms. Raises Refused (400)."""
    if len(text) <= MAX_TEXT and text.isascii():
        try:
            values = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8"))
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, list) and any(_has_form(values, form) for form in forms):
            return tuple(values)
    raise Refused(400, "cursor is not one that was given here", "cursor")


def is_surrogate(character: str) -> bool:
    """Whether it is half a character, which no text that is stored can hold."""
    return "\ud800" <= character <= "\udfff"


def _has_form(values: list[object], form: tuple[str, ...]) -> bool:
    return len(values) == len(form) and all(map(_is, values, form))


def _is(value: object, kind: str) -> bool:
    if kind == TEXT:
        return isinstance(value, str) and not any(c == "\0" or is_surrogate(c) for c in value)
    if value is None:
        return kind == OPTIONAL
    return type(value) is int and 0 <= value <= MAX_NUMBER
