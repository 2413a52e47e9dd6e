"""Where a person's address stands in a text: plain or percent-encoded in any mix, several times
over, or in base64; whatever the case of its letters, and not as a part of another address."""

import re
from binascii import Error, a2b_base64, b2a_base64
from urllib.parse import unquote

ERASED = "(erased)"
LEVELS = 4  # how often a text may be percent-encoded: in a link to a link to a link
LEAST = 6  # bytes of an address that is looked for in base64: of shorter ones too little is typical
LEAD = (0, 2, 3)  # characters of base64 that bytes before it have a part in, by their number

ESCAPES = re.compile("(?:%[0-9A-Fa-f]{2})+")
BASE64 = re.compile("[A-Za-z0-9_+-]+")

Span = tuple[int, int]


def ascii_lower(text: str) -> str:
    """A text with ASCII's capital letters as small ones: recipients are the same where this is."""
    return text.encode("utf-8").lower().decode("utf-8")


class Traces:
    """Looks for one address. What holds no `@` is a word that may stand anywhere: it is not looked
    for at all."""

    def __init__(self, address: str) -> None:
        """`address` is not empty."""
        self.low = address.lower()
        before, _, behind = address.rpartition("@")
        self.sought = bool(before and behind)
        self.pattern = re.compile(rf"(?<![\w.+-]){re.escape(address)}(?![\w-]|\.\w)", re.IGNORECASE)
        self.fragments = fragments({address, ascii_lower(address)}) if self.sought else {}

    def find(self, text: str) -> list[Span]:
        """Where it stands, from left to right."""
        if not self._may_hold(text):
            return []
        spans = set(self._encoded(text))
        # In a link + is a space, unless it is a part of the address.
        for seen in {text, text.replace("+", " ") if "://" in text else text}:
            places: list[int] | None = None
            for _ in range(LEVELS + 1):
                for match in self.pattern.finditer(seen):
                    start, end = match.span()
                    spans.add((start, end) if places is None else (places[start], places[end]))
                plain = unescape(seen, places)
                if plain is None:
                    break
                seen, places = plain
        return merged(spans)

    def erase(self, text: str) -> str:
        """A text without it."""
        parts, last = [], 0
        for start, end in self.find(text):
            parts += [text[last:start], ERASED]
            last = end
        return "".join([*parts, text[last:]])

    def _may_hold(self, text: str) -> bool:
        """Whether it is worth a closer look: this is asked of each text of a tenant."""
        if not self.sought:
            return False
        low = text.lower()
        for _ in range(LEVELS + 1):
            if self.low in low or (" " in self.low and self.low in low.replace("+", " ")):
                return True
            if "%" not in low:
                break
            low = unquote(low).lower()
        return any(fragment in text for fragment in self.fragments)

    def _encoded(self, text: str) -> list[Span]:
        """Where it stands in base64."""
        spans = []
        for fragment, shift in self.fragments.items():
            at = text.find(fragment)
            while at >= 0:
                span = self._run(text, at, at + len(fragment), shift)
                if span is not None:
                    spans.append(span)
                at = text.find(fragment, at + 1)
        return spans

    def _run(self, text: str, start: int, end: int, shift: int) -> Span | None:
        """The base64 around a fragment; None where the address in it is another."""
        run = next((one for one in BASE64.finditer(text) if one.start() <= start < one.end()), None)
        if run is None or run.end() < end:
            return start, end
        first = start - LEAD[shift]
        first -= 4 * max(0, (first - run.start()) // 4)
        if first < run.start():
            return start, end
        code = text[first : run.end()].replace("-", "+").replace("_", "/")
        try:
            told = a2b_base64(code[: len(code) - (len(code) % 4 == 1)] + "=" * (-len(code) % 4))
        except (Error, ValueError):
            return start, end
        if self.pattern.search(told.decode("utf-8", "replace")) is None:
            return None
        return run.start(), run.end()


def fragments(spellings: set[str]) -> dict[str, int]:
    """What of base64 shows each of some texts, whatever stands before and behind it; and how many
    bytes (0 to 2) of the first group of three stand before."""
    found = {}
    for text in spellings:
        data = text.encode("utf-8")
        if len(data) < LEAST:
            continue
        for shift in range(3):
            code = b2a_base64(b"\0" * shift + data).decode("ascii")
            code = code[LEAD[shift] : (shift + len(data)) * 8 // 6]
            found[code] = found[code.replace("+", "-").replace("/", "_")] = shift
    return found


def unescape(text: str, places: list[int] | None) -> tuple[str, list[int]] | None:
    """A text with its percent-encoding taken away once, and where each character (and the end)
    stands in the first text, as `places` says it of this one; None where nothing is encoded."""
    characters: list[str] = []
    stands: list[int] = []
    last = 0
    for match in ESCAPES.finditer(text):
        characters += text[last : match.start()]
        stands += range(last, match.start())
        at = match.start()
        data = bytes.fromhex(match.group().replace("%", ""))
        for character in data.decode("utf-8", "surrogateescape"):
            characters.append(character)
            stands.append(at)
            at += 3 * len(character.encode("utf-8", "surrogateescape"))
        last = match.end()
    if not last:
        return None
    characters += text[last:]
    stands += range(last, len(text) + 1)
    if places is not None:
        stands = [places[at] for at in stands]
    return "".join(characters), stands


def merged(spans: set[Span]) -> list[Span]:
    """Spans in their order; those that overlap as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
