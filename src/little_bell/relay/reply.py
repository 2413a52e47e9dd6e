"""Answers of SMTP (RFC 5321 4.2), the upstream's and our own."""

import re
from typing import NamedTuple

from aiosmtplib.response import SMTPResponse

LONGEST_LINE = 500  # octets of text; 512 with code and line end (RFC 5321 4.5.3.1.5)

_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?= |$)")


class Reply(NamedTuple):
    """A code and lines of text, without line ends."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def good(self) -> bool:
        return 200 <= self.code < 300

    @property
    def closing(self) -> bool:
        """Whether who said this closes the connection."""
        return self.code == 421

    @property
    def raw(self) -> bytes:
        """As it goes over the wire, but for the last line end."""
        *first, last = self.lines
        lines = [b"%d-%b" % (self.code, line) for line in first]
        return b"\r\n".join([*lines, b"%d %b" % (self.code, last)])

    @property
    def short(self) -> str:
        """What a log may show: texts of mail servers repeat addresses."""
        enhanced = _ENHANCED.match(self.lines[-1])
        return f"{self.code} {enhanced[0].decode()}" if enhanced else str(self.code)


def reply(code: int, text: str) -> Reply:
    """One of our own; `text` begins with its enhanced code (RFC 3463)."""
    return Reply(code, (text.encode("ascii"),))


NO_SENSE = reply(451, "4.5.0 the upstream's answer makes no sense")


def heard(response: SMTPResponse, expected: int = 0) -> Reply:
    """What an upstream answered, as it is. What is no verdict (2xx, 4xx, 5xx) becomes 451, unless
    it is `expected`."""
    code = response.code
    if code != expected and not (200 <= code < 300 or 400 <= code < 600):
        return NO_SENSE
    text = response.message.encode("utf-8", "surrogateescape")
    lines = [_CONTROLS.sub(b" ", line)[:LONGEST_LINE] for line in text.split(b"\n")]
    return Reply(code, tuple(lines[:100]))
