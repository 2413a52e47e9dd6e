"""Whole messages: their HTML and text parts are rewritten, each in its own charset and transfer
encoding, and every other byte goes out as it came.

Left alone are attachments, messages that are passed on, signed and encrypted parts, calendars and
AMP. In a report such a part stands among the skipped with no URL, and its number and type as the
part ("1.2 text/html"; "message" for all of it). What could not be read or written is a problem too.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from little_bell.mail import charset, lines, transfer
from little_bell.mail.html import rewrite_html
from little_bell.mail.part import MOST_PARTS, Part, TooManyPartsError, read_message
from little_bell.mail.report import (
    ATTACHMENT,
    ENCRYPTED,
    MOST_LINKS,
    NOWHERE,
    OTHER_TYPE,
    SIGNED,
    UNDECODABLE,
    UNENCODABLE,
    Addresses,
    Options,
    Report,
    Skipped,
    TooManyError,
)
from little_bell.mail.text import rewrite_text

HTML, TEXT = "text/html", "text/plain"

# What a change would break, whoever made it.
SIGNATURES = (b"dkim-signature", b"domainkey-signature", b"arc-seal", b"arc-message-signature")

_LEFT_ALONE = {
    "multipart/signed": SIGNED,
    "multipart/encrypted": ENCRYPTED,
    "application/pkcs7-mime": ENCRYPTED,
    "application/x-pkcs7-mime": ENCRYPTED,
    "message/rfc822": ATTACHMENT,
    "message/global": ATTACHMENT,
    "text/calendar": OTHER_TYPE,
    "text/x-amp-html": OTHER_TYPE,
}
_BODIES = ("multipart/alternative", "multipart/related")  # whose parts are bodies, not files
_PGP = re.compile(r"^-----BEGIN PGP (SIGNED )?MESSAGE-----", re.MULTILINE)
_TAG_BEFORE_PGP = re.compile(r">-----BEGIN PGP (SIGNED )?MESSAGE-----")


Notes = list[tuple[Part, Report]]  # what is to be said of each part


class Change(NamedTuple):
    """`raw[start:end]` becomes `data`."""

    start: int
    end: int
    data: bytes


class Text:
    """What an HTML or text part says, with all that is needed to write it again.

    Raises ValueError with a sentence where the part cannot be read.
    """

    __slots__ = ("body", "codec", "data", "part", "text")

    def __init__(self, raw: bytes, part: Part) -> None:
        self.part = part
        self.body = _body(raw, part)
        self.data = transfer.decode(self.body, part.encoding)
        name = part.type.parameters.get("charset", "us-ascii")
        self.text, self.codec = charset.decode(self.data, name)
        if "\0" in self.text or b"\0" in self.body:
            raise ValueError("it holds a NUL")

    @property
    def html(self) -> bool:
        return self.part.kind == HTML


def rewrite_message(raw: bytes, addresses: Addresses, options: Options) -> tuple[bytes, Report]:
    """The message with its links tracked and one pixel in the HTML that people see.

    Never raises. Where nothing is to be changed, or anything fails, the very object comes back.
    A message without HTML gets no pixel. A part that fails stays as it is, and the others go on.
    """
    try:
        return _rewrite(raw, addresses, options)
    except TooManyPartsError:
        problem = f"the message has more than {MOST_PARTS} parts"
    except TooManyError:
        problem = f"the message has more than {MOST_LINKS:,} links"
    except Exception as error:  # rule 13: mail goes out, whatever happens
        problem = f"the message could not be rewritten: {type(error).__name__}"
    report = Report()
    report.problems.append(problem)
    return raw, report


def _rewrite(raw: bytes, addresses: Addresses, options: Options) -> tuple[bytes, Report]:
    message = read_message(raw)
    report = Report()
    if message.header.has(*SIGNATURES) and not options.signed_too:
        report.skipped.append(Skipped("", SIGNED, message.name))
        return raw, report
    notes: Notes = []
    texts = [
        text for part in _parts(raw, message, options, notes) if (text := _read(raw, part, notes))
    ]
    pixel = _shown(message, {text.part for text in texts})
    changes: list[Change] = []
    expected: dict[str, str] = {}
    opted_out: set[str] = set()
    links = 0
    # HTML first: what opted out there is left alone in the text as well.
    for text in sorted(texts, key=lambda text: not text.html):
        if text.html:
            place = options if text.part is pixel else options._replace(pixel=NOWHERE)
            now, told = rewrite_html(
                text.text, addresses, place, unicode=charset.is_unicode(text.codec)
            )
            opted_out |= told.opted_out()
        else:
            parameters = text.part.type.parameters
            flowed = parameters.get("format", "").lower() == "flowed"
            cut = parameters.get("delsp", "").lower() == "yes"
            now, told = rewrite_text(text.text, addresses, options, opted_out, flowed, cut)
        notes.append((text.part, told))
        links += len(told.tracked) + len(told.skipped)
        if links > MOST_LINKS:
            raise TooManyError
        if now == text.text:
            continue
        try:
            written, expected[text.part.number] = _write(raw, text, now, addresses, told)
        except ValueError as error:
            told.skipped += [Skipped(one.url, UNENCODABLE, one.part) for one in told.tracked]
            told.tracked.clear()
            _fail(notes, text.part, UNENCODABLE, str(error))
            continue
        changes += written
    for _, told in sorted(notes, key=lambda note: note[0].header.start):
        report.add(told)
    if not changes:
        return raw, report
    new = _spliced(raw, changes)
    if not _holds(raw, message, new, expected):
        raise ValueError("another message would come of it")
    return new, report


def _parts(raw: bytes, part: Part, options: Options, notes: Notes) -> Iterator[Part]:
    """The HTML and text parts that may be changed; why others may not is noted."""
    kind = part.kind
    wanted = kind == HTML or (kind == TEXT and options.text_too)
    if part.header.problem or (part.problem and (wanted or kind.startswith("multipart/"))):
        _fail(notes, part, UNDECODABLE, part.problem or "")
    elif "/" not in kind:
        _fail(notes, part, UNDECODABLE, "its type cannot be read")
    elif kind in _LEFT_ALONE:
        signed = "signed" in part.type.parameters.get("smime-type", "").lower()
        _skip(notes, part, SIGNED if signed else _LEFT_ALONE[kind])
    elif not wanted and not kind.startswith("multipart/"):
        pass
    elif part.header.end == part.header.body:
        pass  # all of it is header: no empty line, no body
    elif _is_attached(part):
        _skip(notes, part, ATTACHMENT)
    elif kind == "multipart/related":
        yield from _parts(raw, _root(raw, part), options, notes)
    elif kind.startswith("multipart/"):
        for child in part.children:
            yield from _parts(raw, child, options, notes)
    elif not part.type.sound:
        _fail(notes, part, UNDECODABLE, "its type cannot be read")
    else:
        yield part


def _is_attached(part: Part) -> bool:
    """Whether the part is a file rather than something to read here."""
    disposition = part.disposition
    if disposition.value != "inline" or not disposition.sound:
        return True
    if part.parent is None or part.parent.kind in _BODIES:
        return False
    return bool(disposition.parameters.get("filename") or part.type.parameters.get("name"))


def _read(raw: bytes, part: Part, notes: Notes) -> Text | None:
    """What a part says, or None where it is left alone."""
    try:
        text = Text(raw, part)
    except ValueError as error:
        _fail(notes, part, UNDECODABLE, str(error))
        return None
    if reason := _pgp(text):
        _skip(notes, part, reason)
        return None
    return text


def _root(raw: bytes, part: Part) -> Part:
    """The root of a multipart/related (RFC 2387): all others are its images and styles."""
    start = part.type.parameters.get("start")
    for child in part.children:
        if start and start in child.header.values(raw, b"content-id"):
            return child
    return part.children[0]


def _shown(part: Part, parts: set[Part]) -> Part | None:
    """The HTML that people see first: of alternatives the last one, else the first."""
    if part.kind == HTML:
        return part if part in parts else None
    found = [html for child in part.children if (html := _shown(child, parts)) is not None]
    if not found:
        return None
    return found[-1] if part.kind == "multipart/alternative" else found[0]


def _pgp(text: Text) -> str | None:
    """The reason to leave a text alone that is signed or encrypted in place."""
    match = _PGP.search(text.text)
    if match is None and text.html:
        match = _TAG_BEFORE_PGP.search(text.text)
    if match is None:
        return None
    return SIGNED if match[1] else ENCRYPTED


def _write(
    raw: bytes, text: Text, now: str, addresses: Addresses, told: Report
) -> tuple[list[Change], str]:
    """What changes where the part says `now`, and what it then says: the same, but for line ends
    in the white space of long tags. Raises ValueError with a sentence."""
    part = text.part
    line_end = _line_end(raw, part)
    data = charset.encode(now, text.codec, text.data, text.text, text.html)
    changes: list[Change] = []
    if part.encoding in transfer.PLAIN and lines.too_long(text.data, data):
        folded = now
        if text.html:
            targets = {one.tracked_url for one in told.tracked} | {addresses.pixel}
            folded = lines.fold(now, text.codec, targets, line_end.decode())
        data = charset.encode(folded, text.codec, text.data, text.text, text.html)
        if lines.too_long(text.data, data):
            data = charset.encode(now, text.codec, text.data, text.text, text.html)
            changes.append(_now_quoted(raw, part, line_end))
    if changes:
        body = transfer.quote(data, line_end)
    else:
        body = transfer.encode(data, part.encoding, text.body, line_end)
    changes.append(Change(part.header.body, part.end, body))
    return changes, data.decode(text.codec)


def _body(raw: bytes, part: Part) -> bytes:
    return raw[part.header.body : part.end]


def _line_end(raw: bytes, part: Part) -> bytes:
    """How the part ends its lines, or its header where it has no two."""
    for start, end in ((part.header.body, part.end), (part.header.start, part.header.body)):
        at = raw.find(b"\n", start, end)
        if at >= 0:
            return b"\r\n" if at > 0 and raw[at - 1] == 0x0D else b"\n"
    return b"\r\n"


def _now_quoted(raw: bytes, part: Part, line_end: bytes) -> Change:
    """The header says quoted-printable from now on."""
    for field in part.header.fields:
        if field.name == b"content-transfer-encoding":
            value = raw[field.value : field.end].rstrip(b"\r\n")
            return Change(field.value, field.value + len(value), b" quoted-printable")
    if part.parent is None and not part.header.has(b"mime-version"):
        raise ValueError("its lines would be too long, and it is not MIME")
    field_line = b"Content-Transfer-Encoding: quoted-printable" + line_end
    return Change(part.header.end, part.header.end, field_line)


def _spliced(raw: bytes, changes: list[Change]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for change in sorted(changes):
        pieces += (raw[at : change.start], change.data)
        at = change.end
    return b"".join((*pieces, raw[at:]))


def _holds(raw: bytes, message: Part, new: bytes, expected: dict[str, str]) -> bool:
    """Whether `new` is read as the same message, with the texts that are expected."""
    before, after = list(message.walk()), list(read_message(new).walk())
    if len(before) != len(after):
        return False
    for one, other in zip(before, after, strict=True):
        if (one.number, one.kind, one.problem) != (other.number, other.kind, other.problem):
            return False
        if one.number in expected:
            if Text(new, other).text != expected[one.number]:
                return False
        elif not one.children and _body(raw, one) != _body(new, other):
            return False
    return True


def _skip(notes: Notes, part: Part, reason: str) -> None:
    report = Report()
    report.skipped.append(Skipped("", reason, part.name[:60]))
    notes.append((part, report))


def _fail(notes: Notes, part: Part, reason: str, problem: str) -> None:
    """Note a part that should have been rewritten."""
    _skip(notes, part, reason)
    where = f"part {part.number} ({part.kind[:40]})" if part.number else "the message"
    notes[-1][1].problems.append(f"{where}: {problem}")
