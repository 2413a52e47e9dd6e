"""An HTML email with tracked links and a pixel, and every other byte as it was.

What is changed are the values of `href`; our own opt-out and our older pixels are taken out, the
pixel goes in. Which links, and why others are left alone, the report says.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING

from little_bell.errors import Refused
from little_bell.mail.report import (
    NOWHERE,
    OPTED_OUT,
    REFUSED,
    TOP,
    VISIBLE,
    Addresses,
    Options,
    Report,
    Skipped,
    Tracked,
)
from little_bell.mail.targets import Targets, label_of, looks_like_address, seen

if TYPE_CHECKING:
    from little_bell.mail.scan import Image, Link, Markup
    from little_bell.mail.tokens import Attribute

OWN_OPT_OUT = "data-lb-no-track"
# What other senders' links carry: a name that is enough, or a name and the value it needs.
OPT_OUTS = frozenset(
    (
        OWN_OPT_OUT,
        "data-pm-no-track",
        "ses:no-track",
        "mc:disable-tracking",
        "mautic:disable-tracking",
        "data-skip-click",
    )
)
OPT_OUT_VALUES = (
    ("clicktracking", "off"),
    ("disable-tracking", "true"),
    ("data-msys-clicktrack", "0"),
)
OPT_OUT_CLASS = "untracked"

# Paths of pixels, old ones too. Proxies of mail clients put their own address before a "#".
PIXEL_PATH = re.compile(r"(?:/[^/?#]+)*/(?:o/[^/?#]+/[^/?#]+\.gif|pixel/\d+(?:\.gif)?)(?:[?#].*)?")
BARE = re.compile(r"[^\t\n\f\r \"'`=<>]+")  # what may stand without quotes

Splice = tuple[int, int, str]


def rewrite_html(
    html: str, addresses: Addresses, options: Options, part: str = "html", unicode: bool = True
) -> tuple[str, Report]:
    """The email with its links tracked and a pixel, and what became of each link.

    Never raises: where anything fails, and where there is nothing to change, it is `html` itself.
    An email that holds this very pixel has been here already, and is left alone. `unicode`: it is
    sent in UTF-8, or another charset of all characters.
    """
    try:
        return _Rewriting(html, addresses, options, part, unicode).run()
    except Exception as error:
        return html, Report.of_failure("the HTML", error)


class _Shown:
    """The links to one URL that everybody sees."""

    __slots__ = ("found", "labels", "numbers")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.found: list[tuple[str, str | None]] = []  # label, and the reason to skip it
        self.labels: dict[str, tuple[str, str | None]] = {}

    def add(self, number: int, label: str, reason: str | None) -> None:
        self.numbers.append(number)
        self.found.append((label, reason))
        self.labels.setdefault(label, (label, reason))

    def twin(self, number: int, label: str) -> tuple[str, str | None]:
        """Of what a link in a comment stands for: the link with its label, else the next one,
        else the last."""
        if label in self.labels:
            return self.labels[label]
        return self.found[min(bisect_left(self.numbers, number), len(self.found) - 1)]


class _Rewriting:
    """One email on its way."""

    __slots__ = ("addresses", "html", "options", "part", "report", "splices", "targets", "urls")

    def __init__(
        self, html: str, addresses: Addresses, options: Options, part: str, unicode: bool
    ) -> None:
        self.html = html
        self.addresses = addresses
        self.options = options
        self.part = part
        self.report = Report()
        self.targets = Targets(addresses, options, unicode)
        self.splices: list[Splice] = []
        self.urls: dict[tuple[str, str], str] = {}  # what was made of a URL and a label

    def run(self) -> tuple[str, Report]:
        from little_bell.mail.scan import scan

        markup = scan(self.html, self.options.placeholder)
        if any(image.src.strip() == self.addresses.pixel for image in markup.images):
            self.report.problems.append("the HTML holds this pixel already, and was left as it is")
            return self.html, self.report
        self._links(markup.links)
        for image in markup.images:
            if self._is_old_pixel(image):
                self.splices.append((image.start, image.end, ""))
        self._pixel(markup)
        return (_spliced(self.html, self.splices) if self.splices else self.html), self.report

    def _links(self, links: "Iterable[Link]") -> None:
        """Decide on each link: first on those that everybody sees, then on their twins in comments
        for Outlook, which lead where those do."""
        judged = []
        shown: dict[str, _Shown] = {}
        for number, link in enumerate(links):
            if OWN_OPT_OUT in link.values:
                self._remove_opt_out(link)
            href = next((one for one in link.attributes if one.named("href")), None)
            if href is None:
                continue
            url, reason = self.targets.judge(link.values.get("href", ""))
            text = seen(link.text())
            label = label_of(text)
            if reason is None and _opted_out(link):
                reason = OPTED_OUT
            if reason is None and looks_like_address(text, url):
                if self.options.skip_visible_urls:
                    reason = VISIBLE
                elif not link.comment:
                    self.report.problems.append(
                        f"the text of a tracked link is an address itself: {label}"
                    )
            if not link.comment:
                shown.setdefault(url, _Shown()).add(number, label, reason)
            judged.append((number, link, href, url, label, reason))
        for number, link, href, url, label, reason in judged:
            if link.comment and reason is None and url in shown:
                label, reason = shown[url].twin(number, label)
            if reason is None:
                reason = self._track(href, url, label)
            if reason is not None:
                self.report.skipped.append(Skipped(url, reason, self.part))

    def _track(self, href: "Attribute", url: str, label: str) -> str | None:
        """Lead a link through the bell, or say why not."""
        tracked = self.urls.get((url, label))
        if tracked is None:
            try:
                tracked = self.addresses.link(url, label, self.part)
            except Refused as refused:
                self.report.problems.append(f"{refused.detail}: {url}")
                return REFUSED
            self.urls[url, label] = tracked
        value = tracked.replace("&", "&amp;")
        quote = href.quote
        if quote == "'":
            value = value.replace("'", "&#39;")
        else:
            value = value.replace('"', "&quot;")
            if not quote and not BARE.fullmatch(value):
                value = f'"{value}"'
        self.splices.append((href.value, href.end - len(quote), value))
        self.report.tracked.append(Tracked(url, tracked, label, self.part))
        return None

    def _remove_opt_out(self, link: "Link") -> None:
        for one in link.attributes:
            if not one.named(OWN_OPT_OUT):
                continue
            start = one.start
            # With the space before it, unless that has to part what stands on either side.
            if self.html[one.end] in "\t\n\f\r >":
                while self.html[start - 1] in "\t\n\f\r ":
                    start -= 1
            self.splices.append((start, one.end, ""))

    def _is_old_pixel(self, image: "Image") -> bool:
        src = image.src.strip()
        for url in (src, src.rpartition("#")[2]):
            path = self.targets.behind_own(url)
            if path is not None and PIXEL_PATH.fullmatch(path):
                return True
        return False

    def _pixel(self, markup: "Markup") -> None:
        """Put the pixel in its place: one, wherever that is."""
        placeholder, place = self.options.placeholder, self.options.pixel
        tag = ""
        if place != NOWHERE:
            src = self.addresses.pixel.replace("&", "&amp;").replace('"', "&quot;")
            tag = f'<img src="{src}" width="1" height="1" alt="" />'
        if placeholder and markup.spots:
            # Of several the first one is it; none may be left for people to read.
            for spot in markup.spots:
                self.splices.append((spot, spot + len(placeholder), tag))
                tag = ""
            return
        if not tag:
            return
        if placeholder:
            self.report.problems.append("the placeholder of the pixel was not found")
        at = markup.top if place == TOP else None
        if at is None:
            at = markup.body_end if markup.body_end is not None else markup.html_end
        if at is None and markup.open_end:
            at = len(self.html)
        if at is None:
            self.report.problems.append("there is no place for the pixel: the HTML does not end")
        else:
            self.splices.append((at, at, tag))


def _opted_out(link: "Link") -> bool:
    values = link.values
    if not OPT_OUTS.isdisjoint(values):
        return True
    for name, value in OPT_OUT_VALUES:
        if values.get(name, "").strip().lower() == value:
            return True
    return OPT_OUT_CLASS in values.get("class", "").lower().split()


def _spliced(text: str, splices: list[Splice]) -> str:
    """`text` with each stretch replaced. Raises ValueError where two overlap."""
    pieces: list[str] = []
    end = 0
    for start, stop, new in sorted(splices, key=lambda one: one[:2]):
        if start < end:
            raise ValueError("two changes overlap")
        pieces += (text[end:start], new)
        end = stop
    pieces.append(text[end:])
    return "".join(pieces)
