"""The source of an HTML email: where its links, its images and the places for a pixel stand.

No tree is built: time and memory grow with the length, however deep elements are nested.
"""

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from little_bell.mail.report import MOST_LINKS, TooManyError
from little_bell.mail.tokens import Attribute, attributes, tokens
from little_bell.mail.top import Top

if TYPE_CHECKING:
    from turbohtml import Token

MOST_ATTRIBUTES = 250_000  # of all links
MOST_IMAGES = 100_000
MAX_TEXT = 4096  # characters of each piece of a link's text that are kept

# What these hold is text for every parser.
RAW = re.compile("script|style|textarea|title|xmp|iframe|noembed|noframes|plaintext")
FOREIGN = frozenset(("svg", "math"))
# Between these there is white space, as it were.
BREAK = re.compile("br|hr|p|div|center|blockquote|pre|ul|ol|li|table|tr|td|th|h[1-6]")
# Tags that matter within a link, or at the top, alone.
PLAIN = frozenset(("p", "div", "table", "tbody", "tr", "td", "span", "b", "strong", "br", "font"))
# Shapes of VML, as Outlook draws them.
SHAPE = re.compile("v:(?:roundrect|rect|shape|oval|group|image|line|polyline|curve|arc)")
# What <noscript> holds is text for a tokenizer of those who run scripts. Mail clients do not: it is
# shown as another element, of a name of the same length.
NOSCRIPT = re.compile(r"(?<=<noscrip)t", re.IGNORECASE)
MARKS = {"t": "\ue000", "T": "\ue001"}
MARKED = re.compile("(<noscrip)([\ue000\ue001])", re.IGNORECASE)
HIDDEN, TEXT, TAG = 0, 1, 2
CONDITIONAL = re.compile(r"<!--[\t\n\f ]*\[if\b[^\]>]*\]>", re.IGNORECASE)


class Link:
    """A tag that may have a link: `a`, `area`, or a shape of VML."""

    __slots__ = ("alt", "attributes", "comment", "end", "start", "tag", "texts", "values")

    def __init__(
        self, tag: str, at: tuple[int, int], token: "Token", found: list[Attribute], comment: bool
    ) -> None:
        self.tag = tag
        self.start, self.end = at
        self.comment = comment  # whether it stands in one, for Outlook alone
        # Decoded; the first of several of a name.
        self.values = {name: unmarked(value) for name, value in token.attrs or ()}
        self.attributes = found
        self.texts: list[str] = []
        self.alt = self.values.get("alt", "") if tag == "area" else ""

    def text(self) -> str:
        """What can be read of it, or the alternative text of its first image that has one."""
        text = "".join(self.texts)
        return text if text.strip() else self.alt


class Image(NamedTuple):
    start: int
    end: int
    src: str  # decoded


class Markup:
    """What was found. Offsets are into the email; None and nothing where there is no such thing."""

    __slots__ = ("body_end", "html_end", "images", "links", "open_end", "spots", "top")

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.images: list[Image] = []  # those that are shown
        self.body_end: int | None = None  # where the last </body> begins
        self.html_end: int | None = None
        self.open_end = False  # whether a tag behind the last character would be one
        self.top: int | None = None  # behind <body> and a preheader
        self.spots: list[int] = []  # where a placeholder stands in text, or begins as a tag does


def scan(html: str, placeholder: str | None = None) -> Markup:
    """Read an email. Its line ends may be any; lone surrogates and NUL are allowed.

    Raises TooManyError."""
    # CR LF would count as one character for the tokenizer. Of the line ends of values and texts
    # nothing is kept, so that two LF do.
    text = html.replace("\r", "\n")
    places = _occurrences(text, placeholder) if placeholder else []
    if NOSCRIPT.search(text):
        text = NOSCRIPT.sub(_marked, text)
    scanner = _Scanner(text, places)
    scanner.walk(_Region(0, len(text)))
    return scanner.markup


class _Region:
    """A stretch of the source that is read by itself, and what we are in at the moment."""

    __slots__ = ("comment", "end", "foreign", "raw", "skip", "start", "templates")

    def __init__(self, start: int, end: int, comment: bool = False) -> None:
        self.start = start
        self.end = end
        self.comment = comment
        self.raw = ""  # the element whose content is text for the tokenizer
        self.templates = 0  # how many are open
        self.foreign = 0
        self.skip = start  # nothing that begins before it is read


class _Scanner:
    """Goes through the tokens and notes what it sees."""

    __slots__ = ("attributes", "link", "markup", "outline", "places", "text", "top")

    def __init__(self, text: str, places: list[int]) -> None:
        self.text = text
        self.markup = Markup()
        self.attributes = 0  # of all links
        self.link: Link | None = None  # whose text is being read
        self.top: Top | None = Top()
        self.places = places  # where the placeholder stands
        self.outline: list[tuple[int, int]] = []  # tokens: HIDDEN, TEXT or TAG

    def walk(self, region: _Region) -> None:
        from turbohtml import TokenType

        text, comment = TokenType.TEXT, TokenType.COMMENT
        start, end = TokenType.START_TAG, TokenType.END_TAG
        shown = not region.comment
        # A tag behind the end tells whether it would be one there.
        tail = "<img>" if shown else ""
        for at, token in tokens(self.text[region.start : region.end] + tail, region.start):
            kind = token.type
            if self.places and shown:
                hidden = region.templates or (kind is text and region.raw)
                self.outline.append((at, HIDDEN if hidden else TEXT if kind is text else TAG))
            if kind is text:
                self._text(region, at, token.data or "")
                continue
            tag = token.tag
            source = token.source or ""
            after = at + len(source)
            region.raw = ""
            if after > region.end:
                is_tag = kind is start and at == region.end >= region.skip
                self.markup.open_end = is_tag and not region.templates
                break
            if at < region.skip:
                continue
            if tag is None:
                if kind is comment:
                    self._comment(region, at, after, source)
            elif tag in PLAIN and self.link is None and self.top is None:
                continue  # most of them
            elif kind is start:
                self._opens(region, at, after, tag, token)
            elif kind is end:
                self._closes(region, at, after, tag)
        if shown:
            if self.top is not None:
                self.markup.top = self.top.place
            self.markup.spots = _spots(self.places, self.outline)

    def _text(self, region: _Region, at: int, data: str) -> None:
        if region.raw or region.templates or at < region.skip:
            return
        if self.link is not None:
            self.link.texts.append(data[:MAX_TEXT])
        if not region.comment and self.top is not None and at < region.end:
            self._at_top(self.top.text(at, data))

    def _opens(self, region: _Region, at: int, after: int, tag: str, token: "Token") -> None:
        if RAW.fullmatch(tag):
            region.raw = tag
        elif tag == "template":
            region.templates += 1
        elif tag in FOREIGN and not token.self_closing:
            region.foreign += 1
        if region.templates:
            return
        if tag in ("a", "area") or (region.comment and SHAPE.fullmatch(tag)):
            found = attributes(self.text, at, after)
            link = Link(tag, (at, after), token, found, region.comment)
            self.markup.links.append(link)
            self.attributes += len(found)
            if len(self.markup.links) > MOST_LINKS or self.attributes > MOST_ATTRIBUTES:
                raise TooManyError
            self.link = None if tag == "area" else link
        elif tag == "img":
            if self.link is not None and not self.link.alt:
                self.link.alt = token.attr("alt") or ""
            if not region.comment:
                self.markup.images.append(Image(at, after, unmarked(token.attr("src") or "")))
                if len(self.markup.images) > MOST_IMAGES:
                    raise TooManyError
        elif self.link is not None and BREAK.fullmatch(tag):
            self.link.texts.append(" ")
        if not region.comment and self.top is not None:
            self._at_top(self.top.opens(tag, at, after, token))

    def _closes(self, region: _Region, at: int, after: int, tag: str) -> None:
        if tag == "template":
            region.templates = max(0, region.templates - 1)
            return
        if tag in FOREIGN:
            region.foreign = max(0, region.foreign - 1)
        if region.templates:
            return
        if self.link is not None:
            if tag == self.link.tag:
                self.link = None
            elif BREAK.fullmatch(tag):
                self.link.texts.append(" ")
        if not region.comment:
            if tag == "body":
                self.markup.body_end = at
            elif tag == "html":
                self.markup.html_end = at
            if self.top is not None:
                self._at_top(self.top.closes(tag, at, after))

    def _comment(self, region: _Region, at: int, after: int, source: str) -> None:
        if region.foreign and source.startswith("<![CDATA["):
            close = self.text.find("]]>", at, region.end)
            region.skip = region.end + 1 if close < 0 else close + 3
            return
        opening = CONDITIONAL.match(source)
        if opening is None or region.comment or region.templates:
            return
        # Outlook reads what others take for a comment. The text of a link around it goes on behind.
        inner = at + opening.end()
        end = after - (4 if source.endswith("--!>") else 3)
        outer, self.link = self.link, None
        self.walk(_Region(inner, max(inner, end), comment=True))
        self.link = outer

    def _at_top(self, place: int | None) -> None:
        if place is not None:
            self.markup.top, self.top = place, None


def unmarked(value: str) -> str:
    """A value as it was before a <noscript> in it was marked."""
    if "\ue000" in value or "\ue001" in value:
        return MARKED.sub(lambda found: found[1] + ("t" if found[2] == "\ue000" else "T"), value)
    return value


def _marked(found: re.Match[str]) -> str:
    return MARKS[found[0]]


def _occurrences(text: str, wanted: str) -> list[int]:
    places = []
    at = text.find(wanted)
    while at >= 0:
        places.append(at)
        at = text.find(wanted, at + len(wanted))
    return places


def _spots(places: list[int], outline: list[tuple[int, int]]) -> list[int]:
    """Those places that are within text, or where a tag or a comment begins."""
    starts = [at for at, _ in outline]
    spots = []
    for place in places:
        index = bisect_right(starts, place) - 1
        kind = outline[index][1] if index >= 0 else HIDDEN
        if kind == TEXT or (kind == TAG and starts[index] == place):
            spots.append(place)
    return spots
