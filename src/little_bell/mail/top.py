"""The place at the top of an email: behind <body> and what is hidden there as a preview."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbohtml import Token

HEAD = frozenset(
    ("html", "head", "title", "meta", "link", "style", "script", "base", "bgsound", "basefont")
)
VOID = frozenset(("area", "br", "col", "embed", "hr", "img", "input", "source", "track", "wbr"))
HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all"
    r"|max-height\s*:\s*0|opacity\s*:\s*0(?![.\d])",
    re.IGNORECASE,
)
PREHEADER = re.compile(r"pre-?header|preview", re.IGNORECASE)


class Top:
    """Looks for the place, tag by tag. Each call returns it once it is known, else None.

    Mail clients show the first text as a preview, so emails often begin with one that is hidden
    (a preheader). An element counts as one where its style hides it or its class or id says so.
    """

    __slots__ = ("body", "depth", "hidden", "place")

    def __init__(self) -> None:
        self.place: int | None = None
        self.body = False
        self.hidden = ""  # the tag of the preheader that we are in
        self.depth = 0

    def text(self, at: int, data: str) -> int | None:
        return None if data.isspace() else self._shown(at)

    def opens(self, tag: str, at: int, after: int, token: "Token") -> int | None:
        if self.hidden:
            self.depth += tag == self.hidden
            return None
        if tag == "body":
            self.place = after
            self.body = True
            return None
        if tag in HEAD and not self.body:
            return None
        if tag not in VOID and _is_hidden(token):
            self.place = at if self.place is None else self.place
            self.hidden, self.depth = tag, 1
            return None
        return self._shown(at)

    def closes(self, tag: str, at: int, after: int) -> int | None:
        if self.hidden:
            self.depth -= tag == self.hidden
            if not self.depth:
                self.hidden = ""
                self.place = after
            return None
        return None if tag in HEAD and not self.body else self._shown(at)

    def _shown(self, at: int) -> int | None:
        """What is shown begins at `at`."""
        if self.hidden:
            return None
        return at if self.place is None else self.place


def _is_hidden(token: "Token") -> bool:
    if HIDDEN.search(token.attr("style") or ""):
        return True
    return PREHEADER.search(f"{token.attr('class') or ''} {token.attr('id') or ''}") is not None
