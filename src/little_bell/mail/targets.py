"""Which addresses may lead through the bell, and why others may not: for HTML and text alike."""

import re

from little_bell.errors import Refused
from little_bell.mail.report import (
    CREDENTIALS,
    EMPTY,
    NOT_HTTP,
    OWN,
    QUERY,
    RELATIVE,
    TEMPLATE,
    TOO_LONG,
    UNREADABLE,
    UNSUBSCRIBE,
    Addresses,
    Options,
)
from little_bell.tracking.addresses import LONGEST
from little_bell.tracking.links import MAX_URL, canonical

MAX_LABEL = 64  # characters
MAX_SHOWN = 200  # characters of an address that has no canonical form, in a report

C0_AND_SPACE = "".join(map(chr, range(33)))  # what a WHATWG parser trims
DROPPED = str.maketrans("", "", "\t\n\r")  # and what it drops inside

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# Without both slashes browsers read `https:path` against the address of the page.
ABSOLUTE = re.compile(r"https?:[/\\]{2}", re.IGNORECASE)

MAYBE_TOKENS = re.compile(r"[{\[*<%$]")
TOKENS = re.compile(
    r"\{\{|\{%|\{#|<%|\$\{|\#\{|%7B%7B|%7B%25"  # Jinja, Handlebars, Liquid, ERB, and so on
    r"|\*(?:\||%7C)"  # *|NAME|*
    r"|%%"  # %%name%%
    r"|%(?![0-9A-F]{2})[A-Z_][\w.]*%"  # %recipient.name%, but not %20
    r"|(?<![\w\]])\[[A-Z_][\w .-]*\]"  # [name] and [[name]], but not [::1]
    r"|\[[A-Z_][\w .-]*\](?![=\[])"  # nor the parameter x[y][z]=
    r"|^\s*\{|^\s*https?:[/\\]{2}[^/\\?#]*[{}]",  # {name} as the scheme or in the host
    re.IGNORECASE,
)
UNSUBSCRIBING = re.compile(r"unsubscribe|opt-?out|preferences")

# Characters that nobody sees; preheaders are full of them.
UNSEEN = {ord(c): None for c in "\u00ad\u034f\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"}
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SURROGATE = re.compile(r"[\ud800-\udfff]")
BARE = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,}(?::\d+)?(?:[/?#]\S*)?", re.IGNORECASE)
SPELLED_OUT = re.compile(r"(?:https?:[/\\]{2}|www\.[\w-]+\.)\S+", re.IGNORECASE)


class Targets:
    """Judges addresses for one email."""

    __slots__ = ("judged", "options", "own", "unicode")

    def __init__(self, addresses: Addresses, options: Options, unicode: bool = True) -> None:
        """`unicode`: the charset of the email is UTF-8, or another one of all characters."""
        own = (_without_scheme(_canonical_or_same(one)).rstrip("/") for one in addresses.own)
        self.own = tuple(one for one in own if one)
        self.options = options
        self.unicode = unicode
        self.judged: dict[str, tuple[str, str | None]] = {}  # emails repeat their addresses

    def judge(self, value: str) -> tuple[str, str | None]:
        """The canonical URL and None, or why `value` (decoded) may not be tracked.

        With a reason the first is canonical where there is such a form, else what stood there.
        """
        found = self.judged.get(value)
        if found is None:
            found = self.judged[value] = self._judge(value)
        return found

    def _judge(self, value: str) -> tuple[str, str | None]:
        url = value.strip(C0_AND_SPACE).translate(DROPPED)
        shown = SURROGATE.sub("\ufffd", url[:MAX_SHOWN])
        if not url:
            return "", EMPTY
        if MAYBE_TOKENS.search(url) and TOKENS.search(url[: 4 * MAX_URL]):
            return shown, TEMPLATE
        if not ABSOLUTE.match(url):
            scheme = SCHEME.match(url[:MAX_SHOWN])
            http = scheme and scheme[0].lower() in ("http:", "https:")
            return shown, NOT_HTTP if scheme and not http else RELATIVE
        if len(url) > 4 * MAX_URL:
            return shown, TOO_LONG
        query = url.partition("#")[0].partition("?")[2]
        unsure = not (self.unicode or query.isascii())
        try:
            url = canonical(url)
        except Refused:
            return shown, _why(url)
        if self.is_own(url):
            return url, OWN
        if not self.options.unsubscribe_too and UNSUBSCRIBING.search(url.lower()):
            return url, UNSUBSCRIBE
        if unsure:
            return url, QUERY
        return url, None

    def is_own(self, url: str) -> bool:
        """Whether a URL leads to our own tracking host, by http or https."""
        return self.behind_own(url) is not None

    def behind_own(self, url: str) -> str | None:
        """What follows the address of our tracking host in a URL, or None."""
        rest = _without_scheme(url)
        for own in self.own:
            if rest.startswith(own) and rest[len(own) : len(own) + 1] in ("", *"/?#"):
                return rest[len(own) :]
        return None


def seen(text: str) -> str:
    """What is seen of a link's text: each run of white space is one space."""
    if not text.isascii():
        text = SURROGATE.sub("\ufffd", text.translate(UNSEEN))
    return " ".join(CONTROLS.sub(" ", text).split())


def label_of(text: str) -> str:
    """A link's label, from what is seen: its first MAX_LABEL characters, as far as a link holds
    them."""
    label = text[:MAX_LABEL]
    if not label.isascii():
        label = label.encode("utf-8")[:LONGEST].decode("utf-8", "ignore")
    return label.rstrip()


def looks_like_address(text: str, url: str) -> bool:
    """Whether what is seen of a link is itself an address, so that a reader who compares the two
    finds another one behind it.

    A name without scheme or www counts where it is the host that `url`, canonical, leads to:
    "Node.js" and "report.pdf" are no addresses.
    """
    if " " in text or "." not in text or len(text) > 4 * MAX_URL:
        return False
    if SPELLED_OUT.fullmatch(text):
        return True
    if not BARE.fullmatch(text):
        return False
    host = _host(url)
    said = _host(_canonical_or_same("https://" + text))
    return host == said or host.endswith("." + said)


def _why(url: str) -> str:
    """Why there is no canonical form of an http URL."""
    import ada_url

    try:
        parsed = ada_url.parse_url(url, ("href", "username", "password"))
    except ValueError:
        return UNREADABLE
    if parsed["username"] or parsed["password"]:
        return CREDENTIALS
    return TOO_LONG if len(parsed["href"]) > MAX_URL else UNREADABLE  # for its host


def _canonical_or_same(url: str) -> str:
    try:
        return canonical(url)
    except Refused:
        return url


def _without_scheme(url: str) -> str:
    return url.partition("://")[2] or url


def _host(url: str) -> str:
    return re.split(r"[/?#:]", _without_scheme(url), maxsplit=1)[0]
