"""Content-Transfer-Encodings (RFC 2045, 6): strict to read, and lines that did not change keep
their very bytes when a body is written again."""

import binascii
import re

from little_bell.mail import lines

BASE64 = "base64"
QUOTED = "quoted-printable"
PLAIN = ("7bit", "8bit", "binary")

LONGEST = 76  # characters of an encoded line

_BROKEN = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*(?:\r?\n|\Z))")
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
_BLANK_ENDS = (b" \n", b"\t\n", b" \r\n", b"\t\r\n")
_HARD_END = re.compile(rb"\n(?<!=\n)(?<!=\r\n)")
# What mail servers, mailboxes and boundaries have at the beginning of a line.
_RISKY = re.compile(rb"^(?:\.|From |--)", re.MULTILINE)
_CODED_END = re.compile(rb"=0[AaDd]")
_ALPHABET = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_SPACE = b" \t\r\n"


def decode(body: bytes, encoding: str) -> bytes:
    """What a body stands for. Raises ValueError with a sentence."""
    if encoding in PLAIN:
        return body
    if encoding == QUOTED:
        _check_quoted(body)
        return binascii.a2b_qp(_bare(body) if _has_blanks(body) else body)
    if encoding == BASE64:
        packed = body.translate(None, _SPACE)
        if len(packed) % 4 or not _ALPHABET.fullmatch(packed):
            raise ValueError("its base64 is broken")
        return binascii.a2b_base64(packed)
    raise ValueError(f"its transfer encoding {encoding[:40]!r} is not known")


def encode(data: bytes, encoding: str, was: bytes, line_end: bytes) -> bytes:
    """A body that stands for `data`, in the manner of the body that `was` there."""
    if encoding == QUOTED:
        return _quote_again(data, was, line_end)
    if encoding == BASE64:
        lead = len(was) - len(was.lstrip(_SPACE))
        tail = len(was.rstrip(_SPACE))
        packed = binascii.b2a_base64(data, newline=False)
        pieces = [packed[at : at + LONGEST] for at in range(0, len(packed), LONGEST)]
        return was[:lead] + line_end.join(pieces) + was[max(lead, tail) :]
    return data


def quote(data: bytes, line_end: bytes) -> bytes:
    """Quoted-printable of text whose line ends are those of the message."""
    return b"".join(
        _quoted(line[: -len(end)] if (end := _end(line)) else line, line_end) + end
        for line in lines.of_bytes(data)
    )


def _end(line: bytes) -> bytes:
    if line.endswith(b"\r\n"):
        return b"\r\n"
    return b"\n" if line.endswith(b"\n") else b""


def _check_quoted(body: bytes) -> None:
    stray = body.count(b"\r") - body.count(b"\r\n")
    if stray or body.translate(None, _PRINTABLE) or _BROKEN.search(body):
        raise ValueError("its quoted-printable is broken")


def _quoted_lines(body: bytes) -> list[tuple[bytes, bytes]]:
    """Each line that the body stands for, up to a line end that is not encoded, and how it is
    written there."""
    blanks = _has_blanks(body)
    found: list[tuple[bytes, bytes]] = []
    start = 0
    ends = [match.end() for match in _HARD_END.finditer(body)]
    for end in (*ends, len(body)):
        if blanks and end < len(body):
            line = body[max(start, body.rfind(b"\n", start, end - 1) + 1) : end]
            if line.rstrip(_SPACE).endswith(b"="):
                continue
        if end > start:
            written = body[start:end]
            found.append((binascii.a2b_qp(_bare(written) if blanks else written), written))
        start = end
    return found


def _has_blanks(body: bytes) -> bool:
    """Whether a line ends in blanks."""
    return body.endswith((b" ", b"\t")) or any(end in body for end in _BLANK_ENDS)


def _bare(body: bytes) -> bytes:
    """Without the blanks at the ends of lines: they came on the way (RFC 2045, 6.7, rule 3)."""
    return b"".join(line.rstrip(_SPACE) + _end(line) for line in lines.of_bytes(body))


def _quote_again(data: bytes, was: bytes, line_end: bytes) -> bytes:
    if _CODED_END.search(was):
        # Line ends are data here, so they do not tell where a line of the body ends.
        return _quoted(data, line_end)
    lines.check(was)
    known = _quoted_lines(was)
    if known and not known[-1][0]:  # it goes with the line before
        *known, (_, rest) = known
        known[-1:] = [(line, written + rest) for line, written in known[-1:]]
    return lines.keep(known, lines.of_bytes(data), lambda line: quote(line, line_end))


def _quoted(text: bytes, line_end: bytes) -> bytes:
    """One line without its end, folded by soft breaks. CR and LF in it are encoded."""
    coded = binascii.b2a_qp(text, istext=False).replace(b"=\r\n", b"=\n")
    if not _RISKY.search(coded):
        return coded.replace(b"=\n", b"=" + line_end)
    coded = coded.replace(b"=\n", b"")
    pieces = []
    at = 0
    while at < len(coded):
        first = b""
        if _RISKY.match(coded[at : at + 5]):
            first = b"=%02X" % coded[at]
            at += 1
        room = LONGEST - len(first)
        if len(coded) - at <= room:
            end = len(coded)
        else:
            end = at + room - 1
            # Not within an encoded byte.
            cut = coded.rfind(b"=", end - 2, end)
            end = cut if cut >= 0 else end
        pieces.append(first + coded[at:end])
        at = end
    return (b"=" + line_end).join(pieces)
