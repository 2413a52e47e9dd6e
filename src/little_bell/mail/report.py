"""What rewriting is asked for, and what it says of each link."""

from collections.abc import Callable
from typing import NamedTuple

# Why a link, or a part of an email, was left as it is.
EMPTY = "empty"
RELATIVE = "not absolute"
NOT_HTTP = "not http"
UNREADABLE = "not a url"
CREDENTIALS = "user or password"
TOO_LONG = "too long"
TEMPLATE = "template"
OPTED_OUT = "opted out"
UNSUBSCRIBE = "unsubscribe"
OWN = "own"
REFUSED = "refused"
UNSURE = "end unsure"
QUERY = "query unsure"
VISIBLE = "looks like its address"
SIGNED = "signed message"
ENCRYPTED = "encrypted message"
ATTACHMENT = "attachment"
OTHER_TYPE = "other type"
UNDECODABLE = "cannot be decoded"
UNENCODABLE = "cannot be encoded"

REASONS = {
    EMPTY: "The link has no address.",
    RELATIVE: "The address has no scheme of its own: a fragment, a path or //host.",
    NOT_HTTP: "The address has another scheme than http and https: mailto, tel, an app's.",
    UNREADABLE: "Browsers cannot read the address, or do not agree on its host.",
    CREDENTIALS: "The address holds a user name or a password, or looks as if it did.",
    TOO_LONG: "The address is longer than a tracked link may be.",
    TEMPLATE: "The address holds a token that something else is still to fill in.",
    OPTED_OUT: "The link carries an attribute that says it shall not be tracked.",
    UNSUBSCRIBE: "The address leads to unsubscribing or to preferences.",
    OWN: "The address is one of ours, so it is tracked already.",
    REFUSED: "Links may not lead there; the problems say why.",
    UNSURE: "Nobody can tell where the address ends: it may go on in the next line.",
    QUERY: "Its query has letters beyond ASCII, which some write in the charset of the email.",
    VISIBLE: "The link's text is an address itself; going elsewhere would look like phishing.",
    SIGNED: "A change would break the message's signature.",
    ENCRYPTED: "The message is encrypted.",
    ATTACHMENT: "The part is an attachment, or a message that is passed on.",
    OTHER_TYPE: "The part is neither HTML nor text, or of a kind that must stay as it is.",
    UNDECODABLE: "The part's charset or transfer encoding is unknown, or it does not keep to it.",
    UNENCODABLE: "The part cannot be written in its own charset or transfer encoding again.",
}

BOTTOM, TOP, NOWHERE = "bottom", "top", "none"
PIXEL_PLACES = (BOTTOM, TOP, NOWHERE)

LinkMaker = Callable[[str, str, str], str]
"""From a canonical URL, the link's label and its part to the tracked URL, which is ASCII and holds
no spaces or quotes. Asked once for each URL and label."""


MOST_LINKS = 25_000  # of an email, so that nobody can fill the memory


class TooManyError(ValueError):
    """The email has more links, or images, than anybody sends."""

    def __init__(self) -> None:
        super().__init__(f"it has more than {MOST_LINKS:,} links, or too many images")


class Tracked(NamedTuple):
    """A link that leads through the bell now. `url` is canonical, `part` is html or text."""

    url: str
    tracked_url: str
    label: str
    part: str


class Skipped(NamedTuple):
    """A link that was left as it is. `url` is canonical where there is such a form, else what
    stood there; `reason` is one of REASONS."""

    url: str
    reason: str
    part: str


class Report:
    """What became of each link, in the order of the email, and what went wrong, as sentences."""

    __slots__ = ("problems", "skipped", "tracked")

    def __init__(self) -> None:
        self.tracked: list[Tracked] = []
        self.skipped: list[Skipped] = []
        self.problems: list[str] = []

    @classmethod
    def of_failure(cls, what: str, error: Exception) -> "Report":
        """Of a part that was left as it is because of an error."""
        kind = "" if isinstance(error, TooManyError) else f"{type(error).__name__}: "
        report = cls()
        report.problems.append(f"{what} was left as it is: {kind}{error}"[:500])
        return report

    def add(self, other: "Report") -> None:
        """Append what another one says, as of a further part."""
        self.tracked += other.tracked
        self.skipped += other.skipped
        self.problems += other.problems

    def opted_out(self) -> set[str]:
        """The canonical URLs of links that asked not to be tracked."""
        return {one.url for one in self.skipped if one.reason == OPTED_OUT}

    def as_dict(self) -> dict[str, object]:
        """As it stands in answers in JSON."""
        return {
            "tracked": [one._asdict() for one in self.tracked],
            "skipped": [one._asdict() for one in self.skipped],
            "problems": list(self.problems),
        }


class Options(NamedTuple):
    """What the caller may choose."""

    unsubscribe_too: bool = False  # track links to unsubscribing and preferences as well
    skip_visible_urls: bool = False  # leave links alone whose text is an address itself
    text_too: bool = False  # track the links of the text part
    pixel: str = BOTTOM  # one of PIXEL_PLACES
    placeholder: str | None = None  # the pixel takes the place of this text, where it stands
    signed_too: bool = False  # change a message that carries a DKIM-Signature


class Addresses(NamedTuple):
    """Where what is rewritten leads to."""

    link: LinkMaker
    pixel: str  # URL of the pixel
    own: tuple[str, ...]  # what URLs of our own tracking host begin with, as https://t.example/
