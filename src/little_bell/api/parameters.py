"""Query parameters, checked: each is known, given once, and not empty."""

from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from little_bell.errors import Refused

MAX_LIMIT = 500
LIMIT = 50
MAX_NUMBER = 18  # digits


class Parameters(dict[str, str]):
    """The parameters of a query by name. Everything raises Refused (400) that names one."""

    def __init__(self, query: bytes, known: Sequence[str], blank: Sequence[str] = ()) -> None:
        """Those of `blank` may be empty."""
        super().__init__()
        for pair in query.split(b"&"):
            if not pair:
                continue
            key, _, value = pair.partition(b"=")
            name = decode(key, "a parameter's name", None)
            if name not in known:
                shown = name[:64]
                known_here = f"known are {', '.join(known)}" if known else "there are none here"
                raise Refused(400, f"unknown parameter {shown!r}; {known_here}", shown)
            if name in self:
                raise Refused(400, f"{name} is given twice", name)
            self[name] = decode(value, name, name)
            if not self[name] and name not in blank:
                raise Refused(400, f"{name} is empty", name)

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number of ASCII digits without a leading zero."""
        text = self.get(name)
        if text is None:
            return None
        good = text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER
        if not good or (text[0] == "0" and text != "0") or not low <= int(text) <= high:
            raise Refused(400, f"{name} is not a whole number from {low} to {high}", name)
        return int(text)

    def limit(self, most: int = MAX_LIMIT) -> int:
        """How many are asked for."""
        found = self.number("limit", 1, most)
        return min(LIMIT, most) if found is None else found

    def choice(self, name: str, options: Sequence[str]) -> str | None:
        """One of some words."""
        text = self.get(name)
        if text is not None and text not in options:
            raise Refused(400, f"{name} is not one of {', '.join(options)}", name)
        return text

    def yes_or_no(self, name: str) -> bool | None:
        """Whether it is yes."""
        text = self.choice(name, ("yes", "no"))
        return None if text is None else text == "yes"


def decode(data: bytes, what: str, field: str | None) -> str:
    """A form-decoded text. Raises Refused (400)."""
    try:
        text = unquote_to_bytes(data.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, f"{what} is not valid UTF-8", field) from None
    if "\0" in text:
        raise Refused(400, f"{what} holds a NUL character", field)
    return text
