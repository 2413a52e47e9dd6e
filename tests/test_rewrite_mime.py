"""Messages: only what is tracked changes, in its own charset and encoding; rules 13 to 17"""

import base64
import encodings
import quopri
import random
import statistics
import time
from email import message_from_bytes, policy
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from little_bell.mail import lines, mime
from little_bell.mail.content import read_content
from little_bell.mail.envelope import subject_of
from little_bell.mail.html import rewrite_html
from little_bell.mail.mime import rewrite_message
from little_bell.mail.part import DEEPEST, MOST_PARTS
from little_bell.mail.report import (
    ATTACHMENT,
    ENCRYPTED,
    NOWHERE,
    OTHER_TYPE,
    QUERY,
    REASONS,
    SIGNED,
    UNDECODABLE,
    UNENCODABLE,
    Addresses,
    Options,
    Report,
    Skipped,
)
from little_bell.mail.steering import read_steering, without_steering
from little_bell.mail.text import rewrite_text
from little_bell.tracking.links import canonical
from messages import Maker, Spot

HOST = "https://t.example/"
PIXEL = HOST + "acme/o/7/sig.gif"


def track(url: str, label: str, part: str) -> str:
    return f"{HOST}acme/l/7/{base64.urlsafe_b64encode(url.encode()).decode()}"


ADDRESSES = Addresses(track, PIXEL, (HOST,))
TARGET = "https://shop.example/p?a=1&b=2"
LINK = '<a href="https://shop.example/p?a=1&amp;b=2">Shop</a>'
TRACKED = f'<a href="{track(TARGET, "", "")}">Shop</a>'

AS_IS = Options(pixel=NOWHERE)


def with_pixel(html: str) -> str:
    """What rewriting the HTML by itself gives."""
    return rewrite_html(html, ADDRESSES, Options())[0]


def message(*lines: str | bytes, end: bytes = b"\r\n") -> bytes:
    return end.join(line if isinstance(line, bytes) else line.encode() for line in lines)


def rewritten(raw: bytes, options: Options = AS_IS) -> bytes:
    """Rewritten without a problem, and twice as once."""
    new, report = rewrite_message(raw, ADDRESSES, options)
    assert report.problems == []
    again, second = rewrite_message(new, ADDRESSES, options)
    assert again is new
    assert second.tracked == []
    return new


def left_alone(raw: bytes, options: Options = Options(text_too=True)) -> Report:  # noqa: B008
    new, report = rewrite_message(raw, ADDRESSES, options)
    assert new is raw
    assert report.tracked == []
    assert {one.reason for one in report.skipped} <= set(REASONS)
    return report


def reasons(report: Report) -> list[tuple[str, str]]:
    return [(one.part, one.reason) for one in report.skipped if not one.url]


def html_message(html: str | bytes, *fields: str, end: bytes = b"\r\n") -> bytes:
    head = ("MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", *fields, "")
    return message(*head, html, end=end)


def mixed(*parts: str | bytes, kind: str = "mixed", more: str = "") -> bytes:
    """A multipart; each part is a header, an empty line and a body."""
    lines: list[str | bytes] = [f"Content-Type: multipart/{kind}; boundary=bb{more}", ""]
    for part in parts:
        lines += ["--bb", part]
    return message(*lines, "--bb--", "")


HTML_PART = f"Content-Type: text/html\r\n\r\n{LINK}"
TEXT_PART = f"Content-Type: text/plain\r\n\r\nSee {TARGET}"


# Properties over messages that are made byte by byte.


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_all_bytes_but_those_of_changed_texts_stay(seed: int, text_too: bool) -> None:
    made = Maker(seed).message()
    raw = made.raw
    options = Options(text_too=text_too)
    new, report = rewrite_message(raw, ADDRESSES, options)
    assert report.problems == []

    # What each spot must say, by the rewriting of text alone.
    said: dict[int, str] = {}
    opted_out: set[str] = set()
    for spot in sorted(made.spots(), key=lambda spot: not spot.html):
        if spot.html:
            place = options if spot is made.shown else AS_IS
            said[id(spot)], told = rewrite_html(spot.text, ADDRESSES, place)
            opted_out |= told.opted_out()
        else:
            said[id(spot)] = spot.text
            if text_too:
                said[id(spot)] = rewrite_text(spot.text, ADDRESSES, options, opted_out)[0]

    at = 0
    for number, piece in enumerate(made.pieces):
        if isinstance(piece, bytes):
            assert new[at : at + len(piece)] == piece
            at += len(piece)
            continue
        # A fixed piece with a boundary follows, or the message ends.
        rest = b"".join(p for p in made.pieces[number + 1 : number + 3] if isinstance(p, bytes))
        end = new.index(rest, at) if rest else len(new)
        body = new[at:end]
        if said[id(piece)] == piece.text:
            assert body == piece.body
        else:
            assert piece.decode(body) == said[id(piece)]
            check_form(piece, body)
        at = end
    assert at == len(new)
    if all(said[id(spot)] == spot.text for spot in made.spots()):
        assert new is raw
    if made.shown is not None:
        assert said[id(made.shown)].count(PIXEL) == 1


def check_form(spot: Spot, body: bytes) -> None:
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    assert max(map(len, lines)) <= (998 if spot.encoding in ("7bit", "8bit") else 76)
    if spot.encoding == "quoted-printable":
        assert body.isascii()
        assert not any(line.endswith((b" ", b"\t")) for line in lines)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_twice_equals_once(seed: int) -> None:
    options = Options(text_too=True)
    once, _ = rewrite_message(Maker(seed).message().raw, ADDRESSES, options)
    twice, report = rewrite_message(once, ADDRESSES, options)
    assert twice is once
    assert report.tracked == []


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_the_standard_library_reads_the_same_message(seed: int) -> None:
    """Another reader than ours finds the same parts with the same headers."""
    raw = Maker(seed).message().raw
    new, _ = rewrite_message(raw, ADDRESSES, Options(text_too=True))
    before = [part.items() for part in message_from_bytes(raw, policy=policy.compat32).walk()]
    after = [part.items() for part in message_from_bytes(new, policy=policy.compat32).walk()]
    assert [[(k, str(v)) for k, v in part] for part in before] == [
        [(k, str(v)) for k, v in part] for part in after
    ]


# Malformed messages.


def check_it_survives(raw: bytes) -> tuple[bytes, Report]:
    new, report = rewrite_message(raw, ADDRESSES, Options(text_too=True))
    assert not any("could not be rewritten" in problem for problem in report.problems)
    return new, report


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000))
def test_random_bytes_come_back(raw: bytes) -> None:
    assert check_it_survives(raw)[0] is raw


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32))
def test_damaged_messages_do_no_harm(seed: int) -> None:
    chance = random.Random(seed)
    raw = bytearray(Maker(seed).message().raw)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        damage = chance.choice(
            (b"", b"\0", b"=", b"\r", b"\n", b"\xff", b"--b001", b"\n\n", b'"', b"(")
        )
        raw[at : at + chance.choice((0, 1, 30))] = damage
    new, _ = check_it_survives(bytes(raw))
    again, _ = check_it_survives(new)
    assert again == new


def test_a_message_cut_anywhere_comes_back() -> None:
    inner = message(
        "Content-Type: multipart/alternative; boundary=aa", "", "--aa", TEXT_PART, "--aa", HTML_PART
    )
    raw = mixed(message(inner, "--aa--", ""), HTML_PART)
    closed = raw.rindex(b"--bb--") + len(b"--bb--")
    for length in range(closed):
        report = check_it_survives(raw[:length])[1]
        new = rewrite_message(raw[:length], ADDRESSES, Options(text_too=True))[0]
        assert new == raw[:length]
        if length > raw.index(b"\r\n\r\n") + 4:
            assert report.problems == ["the message: its last boundary is missing"]
    for length in range(closed, len(raw) + 1):
        assert rewritten(raw[:length]).count(track(TARGET, "", "").encode()) == 2


def test_an_inner_multipart_without_an_end_is_left_alone() -> None:
    inner = f"Content-Type: multipart/alternative; boundary=aa\r\n\r\n--aa\r\n{HTML_PART}"
    raw = mixed(inner, HTML_PART)
    new, report = rewrite_message(raw, ADDRESSES, AS_IS)
    assert report.problems == ["part 1 (multipart/alternative): its last boundary is missing"]
    assert new == mixed(inner, HTML_PART.replace(LINK, TRACKED))


def test_a_boundary_in_a_boundary() -> None:
    """The inner one begins as the outer one, is it, or holds it: then the outer one ends it."""
    for inner in ("bbb", "bb-b", "x--bb", "bb"):
        part = f"Content-Type: multipart/related; boundary={inner}\r\n\r\n--{inner}\r\n{HTML_PART}"
        raw = mixed(f"{part}\r\n--{inner}--")
        new, report = rewrite_message(raw, ADDRESSES, AS_IS)
        assert new == raw.replace(LINK.encode(), TRACKED.encode())
        if inner == "bb":
            assert report.problems == ["part 1 (multipart/related): its last boundary is missing"]
        else:
            assert report.problems == []


def nested(levels: int) -> bytes:
    """HTML in that many multiparts."""
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%03d\n\n--b%03d\n" % (n, n)
        for n in range(levels)
    )
    tail = b"".join(b"\n--b%03d--" % n for n in reversed(range(levels)))
    return head + HTML_PART.encode() + tail


def test_nesting_has_a_bound() -> None:
    assert TRACKED.encode() in rewritten(nested(DEEPEST))
    for levels in (DEEPEST + 1, 3_000):
        report = left_alone(nested(levels))
        assert [problem.partition(": ")[2] for problem in report.problems] == [
            f"it is nested deeper than {DEEPEST} levels"
        ]


def test_the_number_of_parts_has_a_bound() -> None:
    assert rewritten(mixed(*[HTML_PART] * MOST_PARTS)).count(TRACKED.encode()) == MOST_PARTS
    for raw in (
        mixed(*[HTML_PART] * (MOST_PARTS + 1)),
        mixed(*[f"Content-Type: multipart/mixed; boundary=c\n\n--c\n\n--c{'x' * 9}\n--c--"] * 600),
        mixed(HTML_PART, *["x"] * 1_000_000),
    ):
        report = left_alone(raw)
        assert report.problems == [f"the message has more than {MOST_PARTS} parts"]


MEGABYTES = {
    "text": b"Content-Type: text/html\n\n" + b"lorem ipsum \n" * 800_000,
    "one line": b"Content-Type: text/html\n\n" + b"x" * 10_000_000,
    "blanks, quoted": b"Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
    + b" " * 10_000_000
    + b"x",
    "lines of blanks, quoted": b"Content-Type: text/html\n"
    + b"Content-Transfer-Encoding: quoted-printable\n\n<p>"
    + b" \n" * 500_000,
    "soft breaks": b"Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
    + b"=\n" * 5_000_000,
    "blanks, base64": b"Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n"
    + b" " * 10_000_000,
    "a header": b"Content-Type: text/html" + b"\n x" * 3_000_000,
    "fields": b"a:\n" * 3_000_000 + b"\n",
    "comments": b"Content-Type: " + b"(" * 900_000 + b"\n\nx",
    "parameters": b"Content-Type: text/html" + b";a=b" * 200_000 + b"\n\nx",
    "quotes": b'Content-Type: text/html; a="' + b"\\" * 900_000 + b"\n\nx",
    "dashes": b"Content-Type: multipart/mixed; boundary=-\n\n" + b"-" * 10_000_000,
    "blanks behind a boundary": b"Content-Type: multipart/mixed; boundary=b\n\n"
    + (b"\n--b" + b" " * 1_000 + b"x") * 10_000,
}


@pytest.mark.parametrize("name", MEGABYTES)
@pytest.mark.timeout(60)
def test_ten_megabytes_end(name: str) -> None:
    raw = MEGABYTES[name]
    assert check_it_survives(raw)[0].startswith(raw.partition(b"\n\n")[0])
    assert without_steering(raw) is raw
    assert read_steering(raw) == {}


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("line", ["\n", " \n"])
def test_more_lines_than_anybody_sends_take_no_memory(encoding: str, line: str) -> None:
    html = (LINK + line * (lines.MOST + 1)).encode()
    if encoding == "base64":
        html = base64.b64encode(html)
    elif encoding == "quoted-printable":
        html = html.replace(b"=", b"=3D")
    head = f"Content-Type: text/html; charset=hz\nContent-Transfer-Encoding: {encoding}\n\n"
    raw = b"MIME-Version: 1.0\n" + head.encode() + html
    new, report = rewrite_message(raw, ADDRESSES, AS_IS)
    if encoding == "base64":  # its lines need not be told apart
        assert report.problems == []
    else:
        assert new is raw
        assert report.problems == ["the message: it has more than 1,000,000 lines"]


@pytest.mark.parametrize(
    ("head", "body", "problem"),
    [
        ("Content-Type: text/html; charset=x-none", LINK, "charset 'x-none' is not known"),
        ("Content-Type: text/html; charset=rot13", LINK, "charset 'rot13' is not known"),
        ("Content-Type: text/html; charset=idna", LINK, "charset 'idna' is not known"),
        ("Content-Type: text/html; charset=utf-8", b"\xff" + LINK.encode(), "'utf-8'"),
        ("Content-Type: text/html", b"\xff" + LINK.encode(), "charset 'us-ascii'"),
        ("Content-Type: text/html\r\nContent-Transfer-Encoding: x-uuencode", LINK, "x-uuencode"),
        ("Content-Type: text/html\r\nContent-Transfer-Encoding: base64", LINK, "base64 is broken"),
        (
            "Content-Type: text/html\r\nContent-Transfer-Encoding: base64",
            base64.b64encode(LINK.encode() + b"1")[:-1],
            "base64 is broken",
        ),
        (
            "Content-Type: text/html\r\nContent-Transfer-Encoding: base64",
            base64.b64encode(LINK.encode()) + b"\r\n-- \r\nA list's footer",
            "base64 is broken",
        ),
        (
            "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable",
            LINK,
            "quoted-printable is broken",
        ),
        (
            "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable",
            LINK.replace("=", "=3D").encode() + b"\xff",
            "quoted-printable is broken",
        ),
        ("Content-Type: text/html", LINK + "\0", "NUL"),
        ("Content-Type: text/html\r\nContent-Type: text/plain", LINK, "2 fields content-type"),
        ("Content-Type: text/html charset=utf-8", LINK, "type cannot be read"),
        ("Content-Type: html", LINK, "type cannot be read"),
        ("Content-Type: text/html; charset=a; charset=b", LINK, "type cannot be read"),
        ("Content-Type: text/html\r\nno field", LINK, "a line that is no field"),
        ("Content-Type : text/html", LINK, "a line that is no field"),
        ("Content-Type: text/html\rX: y", LINK, "a stray CR"),
        (
            "Content-Type: multipart/mixed; boundary=cc\r\nContent-Transfer-Encoding: base64",
            f"--cc\r\n\r\n{TARGET}\r\n--cc--",
            "a transfer encoding around them",
        ),
        (
            "Content-Type: multipart/mixed",
            f"--cc\r\n\r\n{TARGET}\r\n--cc--",
            "boundary cannot be read",
        ),
    ],
)
def test_what_cannot_be_read_is_left_alone_and_reported(
    head: str, body: str | bytes, problem: str
) -> None:
    """And the part beside it goes on."""
    bad = message(head, "", body)
    new, report = rewrite_message(mixed(bad, HTML_PART), ADDRESSES, Options(text_too=True))
    assert new == mixed(bad, HTML_PART.replace(LINK, with_pixel(LINK)))
    assert len(report.problems) == 1
    assert report.problems[0].startswith("part 1 (")
    assert problem in report.problems[0]
    assert [reason for _, reason in reasons(report)] == [UNDECODABLE]
    assert left_alone(message("MIME-Version: 1.0", head, "", body)).problems


# The rules.


def test_rule_13_what_fails_leaves_the_original_and_says_so() -> None:
    def fails(url: str, label: str, part: str) -> str:
        raise RuntimeError

    raw = html_message(LINK)
    new, report = rewrite_message(raw, Addresses(fails, PIXEL, (HOST,)), AS_IS)
    assert new is raw
    assert report.tracked == []
    assert report.problems


def test_rule_13_an_error_of_ours_leaves_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, broken in (("rewrite_html", None), ("_spliced", lambda raw, _: raw[1:])):
        with monkeypatch.context() as patch:
            patch.setattr(mime, name, broken)
            report = left_alone(html_message(LINK))
        assert "could not be rewritten" in report.problems[0]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1252"])
def test_rule_14_each_encoding_is_written_again(charset: str, end: bytes) -> None:
    html = f"<body>\n<p>Grüße: 1 =) 2</p>\n{LINK}\n</body>\n".replace("\n", end.decode())
    data = html.encode(charset)
    expected = with_pixel(html)
    for encoding, body, decoder in (
        ("8bit", data, bytes),
        ("binary", data, bytes),
        ("quoted-printable", quoted(data, end), quopri.decodestring),
        ("base64", base64.encodebytes(data).replace(b"\n", end), base64.b64decode),
    ):
        head = (
            "MIME-Version: 1.0",
            f"Content-Transfer-Encoding: {encoding}",
            f"Content-Type: text/html; charset={charset}",
            "",
        )
        new = rewritten(message(*head, body, end=end), Options())
        before = message(*head, b"", end=end)
        assert new.startswith(before)
        assert decoder(new[len(before) :]).decode(charset) == expected
        assert new.count(b"\n") == new.count(end)
        if "bit" not in encoding and encoding != "binary":
            assert max(map(len, new.splitlines())) <= 76


def quoted(data: bytes, end: bytes) -> bytes:
    return quopri.encodestring(data.replace(b"\r\n", b"\n")).replace(b"\n", end)


def test_rule_14_lines_that_stay_keep_their_quoted_bytes() -> None:
    """However they were written: too long, in small letters, with needless codes, with blanks."""
    odd = "caf=c3=a9 =41=42  \r\n" + "x" * 200 + "\r\n=\r\nsoft =  \r\nbreak=20\r\n"
    link = LINK.replace("=", "=3D")
    raw = html_message(f"{odd}{link}\r\n{odd}", "Content-Transfer-Encoding: quoted-printable")
    new = rewritten(raw)
    head, _, tail = raw.partition(link.encode())
    assert new.startswith(head)
    assert new.endswith(tail)
    middle = new.removeprefix(head).removesuffix(tail)
    assert quopri.decodestring(middle).decode() == TRACKED


def test_rule_14_a_line_of_blanks_is_a_line_of_its_own() -> None:
    """Also behind a soft break that has blanks behind it, and an empty line."""
    link = LINK.replace("=", "=3D")
    odd = "soft= \r\n\r\n \r\n=41\r\n"
    raw = html_message(f"{odd}{link}\r\n", "Content-Transfer-Encoding: quoted-printable")
    assert rewritten(raw).startswith(raw.partition(link.encode())[0])


def test_rule_14_line_ends_that_are_encoded_stay_data() -> None:
    html = f"<p>1</p>\r\n{LINK}\r\n<p>2</p>\n"
    coded = html.replace("=", "=3D").replace("\r", "=0D").replace("\n", "=0A")
    raw = html_message(coded, "Content-Transfer-Encoding: quoted-printable")
    new = rewritten(raw)
    body = new.partition(b"\r\n\r\n")[2]
    assert quopri.decodestring(body).decode() == html.replace(LINK, TRACKED)
    assert body.count(b"\n") == body.count(b"=\r\n")  # no line end but soft breaks


def test_rule_14_equal_lines_keep_each_its_own_bytes() -> None:
    link = LINK.replace("=", "=3D")
    raw = html_message(
        f"<p>=61</p>\r\n{link}\r\n<p>a</p>\r\n", "Content-Transfer-Encoding: quoted-printable"
    )
    new = rewritten(raw)
    assert b"<p>=61</p>\r\n" in new
    assert new.endswith(b"\r\n<p>a</p>\r\n")


def test_rule_14_a_text_that_stays_keeps_its_bytes() -> None:
    """Odd as they are: a soft break at the end, base64 in uneven lines."""
    for encoding, body in (
        ("quoted-printable", "<p>=\r\n=20=61</p>=\r\n"),
        ("base64", "PHA+\r\n\r\nYTwv \r\ncD4=\r\n\r\n"),
    ):
        raw = html_message(body, f"Content-Transfer-Encoding: {encoding}")
        assert rewrite_message(raw, ADDRESSES, AS_IS)[0] is raw


def test_rule_14_a_charset_that_can_write_in_two_ways_keeps_its_bytes() -> None:
    """ISO-2022-JP that ends its lines in JIS X 0201, as old mailers do."""
    japanese = b"\x1b$B$3$s\x1b(J\x1b(B"
    body = japanese + b"\r\n" + LINK.encode() + b"\r\n" + japanese + b"\r\n"
    assert body.decode("iso-2022-jp").encode("iso-2022-jp") != body
    raw = message("MIME-Version: 1.0", "Content-Type: text/html; charset=iso-2022-jp", "", body)
    assert rewritten(raw) == raw.replace(LINK.encode(), TRACKED.encode())


def test_rule_14_utf8_that_is_said_to_be_ascii() -> None:
    raw = message("Content-Type: text/html; charset=us-ascii", "", f"Grüße {LINK}")
    assert rewritten(raw) == raw.replace(LINK.encode(), TRACKED.encode())


def test_rule_14_charsets_by_any_of_their_names() -> None:
    for name in (
        "UTF-8",
        "utf8",
        "Latin9",
        "iso-8859-8-i",
        "x-sjis",
        "KOI8-U",
        "cp874",
        "macintosh",
    ):
        raw = message("MIME-Version: 1.0", f"Content-Type: text/html; charset={name}", "", LINK)
        assert rewritten(raw) == raw.replace(LINK.encode(), TRACKED.encode()), name


def test_names_of_charsets_that_nobody_knows_are_not_kept() -> None:
    """Python keeps each name that it was ever asked for."""
    for number in range(100):
        name = f"x-unknown-{number}"
        field = f"Content-Type: text/html; charset={name}"
        left_alone(message("MIME-Version: 1.0", field, "", LINK))
        left_alone(message("MIME-Version: 1.0", f"{field}{'-' * number}utf-8", "", LINK))
        words = f"=?{name}?q?a?="
        assert subject_of(message(f"Subject: {words}", "", "")) == words
    assert not any("unknown" in name for name in encodings._cache)


@pytest.mark.parametrize("charset", ["iso-8859-15", "shift_jis", "utf-8", "us-ascii"])
def test_rule_14_a_query_that_some_write_in_the_charset_of_the_email(charset: str) -> None:
    """Browsers do: https://url.spec.whatwg.org/#query-state. Webmail has made it UTF-8."""
    letter = "表" if charset == "shift_jis" else "&uuml;" if charset == "us-ascii" else "ü"
    url = f"https://shop.example/{letter}?a={letter}#{letter}"
    sure = f"https://shop.example/{letter}?a=%FC#{letter}"
    html = f'<a href="{url}">x</a><a href="{sure}">y</a>'
    raw = b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=" + charset.encode()
    raw += b"\r\n\r\n" + html.encode(charset)
    new, report = rewrite_message(raw, ADDRESSES, AS_IS)
    if charset == "utf-8":
        assert (len(report.tracked), report.skipped) == (2, [])
        return
    [skipped] = report.skipped
    assert skipped.reason == QUERY
    assert f'<a href="{url}">x</a>'.encode(charset) in new
    assert [one.url for one in report.tracked] == [canonical(unescape(sure))]


def test_rule_14_parameters_in_sections_and_comments() -> None:
    raw = message(
        "Content-Type: (a (nested) comment) multipart/mixed;",
        ' boundary*0="b";',
        "\tboundary*1*=%62 (another; one)",
        "",
        "--bb",
        "Content-Type: text/html; charset*=us-ascii'en'utf-8",
        "",
        f"Grüße {LINK}",
        "--bb--",
    )
    assert rewritten(raw) == raw.replace(LINK.encode(), TRACKED.encode())


@pytest.mark.parametrize(
    ("field", "parameters"),
    [  # RFC 2231, 3 and 4.1; RFC 2045, 5.1
        (
            'message/external-body; access-type=URL; URL*0="ftp://";'
            ' URL*1="cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"',
            {"access-type": "URL", "url": "ftp://cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"},
        ),
        (
            "application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20;"
            ' title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2="isn\'t it!"',
            {"title": "This is even more ***fun*** isn't it!"},
        ),
        ("text/plain; charset=us-ascii (Plain text)", {"charset": "us-ascii"}),
        ('text/plain; charset="us-ascii"', {"charset": "us-ascii"}),
        ('text/plain;charset="a\\"b;c" ; ;', {"charset": 'a"b;c'}),
    ],
)
def test_parameters_as_the_standards_show_them(field: str, parameters: dict[str, str]) -> None:
    content = read_content(field)
    assert content.sound
    assert content.parameters == parameters
    assert content.value == field.partition(";")[0].strip()


@given(st.text(st.characters(max_codepoint=255)) | st.text("a/*=;'\"\\( )%0123"))
def test_any_field_is_read(text: str) -> None:
    content = read_content(text)
    assert content.sound or not content.parameters


LONG = "x" * 270


def test_rule_14_a_line_that_grows_too_long_is_broken_in_its_tags() -> None:
    links = (f"<p>{LONG}<a class='a'  href='https://a.example/{n}'>ü</a></p>" for n in range(3))
    html = f"<body>{''.join(links)}</body>"
    assert len(html.encode()) < 998 < len(with_pixel(html).encode())
    for end in (b"\r\n", b"\n"):
        raw = html_message(html + end.decode(), "Content-Transfer-Encoding: 8bit", end=end)
        new = rewritten(raw, Options())
        head, _, body = new.partition(end + end)
        assert raw.startswith(head)
        assert max(map(len, body.split(end))) <= 998
        assert body.count(end) > 1
        # The line ends stand for blanks of tags, and nothing else differs.
        expected = with_pixel(html + end.decode()).encode()
        assert len(body) == len(expected) + (body.count(end) - 1) * (len(end) - 1)
        at = 0
        for byte in expected[: -len(end)]:
            if body.startswith(end, at):
                assert byte == 0x20
                assert body[at + len(end) :].startswith((b"href=", b"src="))
                at += len(end)
            else:
                assert byte == body[at]
                at += 1


@pytest.mark.parametrize("field", ["content-transfer-ENCODING:\r\n 8bit (c)", ""])
def test_rule_14_a_line_that_cannot_be_broken_makes_it_quoted_printable(field: str) -> None:
    html = f"<p><a href='https://a.example/'>ü</a>{'y' * 940}</p>\r\n{LONG}\r\n"
    fields = (field,) if field else ()
    raw = html_message(html, *fields)
    new = rewritten(raw)
    if field:
        head = html_message("", field.replace("\r\n 8bit (c)", " quoted-printable"))
    else:
        head = html_message("", "Content-Transfer-Encoding: quoted-printable")
    assert new.startswith(head)
    body = new.removeprefix(head)
    assert quopri.decodestring(body).decode() == rewrite_html(html, ADDRESSES, AS_IS)[0]
    assert max(map(len, body.splitlines())) <= 76


def test_rule_14_a_text_whose_line_grows_too_long() -> None:
    text = "a" * 980 + f" {TARGET}"
    part = f"Content-Type: text/plain\r\n\r\n{text}"
    new = rewritten(mixed(part), Options(text_too=True))
    assert (
        b"--bb\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        in new
    )
    assert quopri.decodestring(new).count(track(TARGET, "", "").encode()) == 1
    # Without MIME nobody would decode it.
    raw = message("Subject: x", "", text)
    report = left_alone(raw)
    assert reasons(report) == [("message", UNENCODABLE)]
    assert [one.url for one in report.skipped if one.url] == [TARGET]
    assert len(report.problems) == 1


def test_rule_14_a_line_that_was_too_long_before_is_not_ours() -> None:
    raw = html_message(f"{'x' * 1200}\r\n{LINK}\r\n")
    assert rewritten(raw) == raw.replace(LINK.encode(), TRACKED.encode())


def test_rule_14_no_line_of_ours_is_a_boundary_or_a_mailbox_line() -> None:
    html = "".join(f"--bb {n:02} From here. {'x' * 40}" for n in range(20)) + LINK + "\r\n"
    part = "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    coded = "".join(f"--b=62 {n:02} From here. {'x' * 40}=\r\n" for n in range(20)) + LINK.replace(
        "=", "=3D"
    )
    new = rewritten(mixed(part + coded))
    lines = new.splitlines()
    assert [line for line in lines if line.startswith(b"--")] == [b"--bb", b"--bb--"]
    assert not any(line.startswith((b"From ", b".")) for line in lines)
    body = new.partition(part.encode())[2].partition(b"\r\n--bb--")[0]
    assert quopri.decodestring(body).decode() == html.replace(LINK, TRACKED).removesuffix("\r\n")


def test_rule_14_a_message_without_a_final_line_end() -> None:
    for end in ("", "\r\n", "\n", "\r\n\r\n"):
        raw = html_message(LINK + end)
        assert rewritten(raw) == raw.replace(LINK.encode(), TRACKED.encode())
        coded = base64.b64encode(LINK.encode()).decode()
        raw = html_message(coded + end, "Content-Transfer-Encoding: base64")
        assert rewritten(raw).removesuffix(end.encode())[-1:] not in b"\r\n"


def test_rule_14_a_line_of_a_mailbox_before_the_header() -> None:
    raw = b"From alice@example.com Tue Nov 24 20:38:28 2026\n" + html_message(LINK, end=b"\n")
    assert rewritten(raw) == raw.replace(LINK.encode(), TRACKED.encode())


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("Content-Type: text/html\r\nContent-Disposition: attachment", ATTACHMENT),
        ("Content-Type: text/html\r\nContent-Disposition: ATTACHMENT; filename=a.html", ATTACHMENT),
        ("Content-Type: text/html\r\nContent-Disposition: inline; filename=a.html", ATTACHMENT),
        ("Content-Type: text/html\r\nContent-Disposition: attachment; filename=a b", ATTACHMENT),
        ("Content-Type: text/html\r\nContent-Disposition: x-other", ATTACHMENT),
        ("Content-Type: text/html\r\nContent-Disposition: inline; filename=a b", ATTACHMENT),
        ("Content-Type: text/html; name=a.html", ATTACHMENT),
        ("Content-Type: text/plain\r\nContent-Disposition: attachment", ATTACHMENT),
        ("Content-Type: message/rfc822", ATTACHMENT),
        ("Content-Type: text/calendar; method=REQUEST", OTHER_TYPE),
        ("Content-Type: text/x-amp-html", OTHER_TYPE),
        ("Content-Type: application/pkcs7-mime", ENCRYPTED),
        ("Content-Type: application/pkcs7-mime; smime-type=signed-data", SIGNED),
    ],
)
def test_rule_15_parts_that_are_left_alone(head: str, reason: str) -> None:
    alone = f"{head}\r\n\r\nContent-Type: text/html\r\n\r\n{LINK} {TARGET}"
    options = Options(text_too=True)
    for parts in ((alone, HTML_PART), (HTML_PART, alone)):
        new, report = rewrite_message(mixed(*parts), ADDRESSES, options)
        tracked = HTML_PART.replace(LINK, with_pixel(LINK))
        assert new == mixed(*(tracked if part == HTML_PART else part for part in parts))
        assert [told for _, told in reasons(report)] == [reason]
        assert report.problems == []


@pytest.mark.parametrize(("kind", "reason"), [("signed", SIGNED), ("encrypted", ENCRYPTED)])
def test_rule_15_signed_and_encrypted_multiparts(kind: str, reason: str) -> None:
    raw = mixed(HTML_PART, TEXT_PART, kind=kind)
    assert reasons(left_alone(raw)) == [("message", reason)]
    inner = raw.replace(b"bb", b"cc").decode()
    report = left_alone(mixed(inner))
    assert reasons(report) == [(f"1 multipart/{kind}", reason)]
    assert report.problems == []


@pytest.mark.parametrize(("word", "reason"), [("SIGNED ", SIGNED), ("", ENCRYPTED)])
def test_rule_15_pgp_in_a_text(word: str, reason: str) -> None:
    block = f"Hello\r\n-----BEGIN PGP {word}MESSAGE-----\r\n\r\n{TARGET}\r\n-----END PGP"
    new, report = rewrite_message(
        mixed(f"\r\n{block}", HTML_PART), ADDRESSES, Options(text_too=True)
    )
    assert new == mixed(f"\r\n{block}", HTML_PART.replace(LINK, with_pixel(LINK)))
    assert reasons(report) == [("1 text/plain", reason)]
    html = f"{LINK}<pre>-----BEGIN PGP {word}MESSAGE-----\r\n</pre>"
    assert reasons(left_alone(html_message(html))) == [("message", reason)]


def test_rule_15_the_root_of_related_parts_only() -> None:
    parts = (HTML_PART, HTML_PART.replace("\r\n", "\r\nContent-ID: <root@example.com>\r\n", 1))
    raw = mixed(*parts, kind="related")
    assert rewritten(raw) == mixed(parts[0].replace(LINK, TRACKED), parts[1], kind="related")
    for start in ('; start="<root@example.com>"', "; start=<root@example.com>"):
        raw = mixed(*parts, kind="related", more=start)
        tracked = parts[1].replace(LINK, TRACKED)
        assert rewritten(raw) == mixed(parts[0], tracked, kind="related", more=start)
    raw = mixed(*parts, kind="related", more="; start=none")
    assert rewritten(raw).endswith(raw[-100:])


def test_rule_15_an_amp_part_among_alternatives() -> None:
    amp = f"Content-Type: text/x-amp-html\r\n\r\n{LINK}"
    raw = mixed(TEXT_PART, amp, HTML_PART, kind="alternative")
    assert rewritten(raw) == mixed(
        TEXT_PART, amp, HTML_PART.replace(LINK, TRACKED), kind="alternative"
    )


@pytest.mark.parametrize(
    "field",
    [
        "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=x; h=from; bh=; b=",
        "dkim-signature:v=1",
        "ARC-Seal: i=1; a=rsa-sha256",
    ],
)
def test_rule_16_a_signed_message_is_changed_only_when_asked(field: str) -> None:
    raw = html_message(LINK, field)
    report = left_alone(raw)
    assert reasons(report) == [("message", SIGNED)]
    assert report.problems == []
    asked = AS_IS._replace(signed_too=True)
    assert rewritten(raw, asked) == raw.replace(LINK.encode(), TRACKED.encode())
    # Of a message that is passed on, or in a text, it is no signature of this one.
    inside = message("Content-Type: message/rfc822", "", raw)
    assert rewritten(mixed(inside, HTML_PART)).count(TRACKED.encode()) == 1
    assert rewritten(html_message(f"{LINK}\r\n{field}")).count(TRACKED.encode()) == 1


def test_rule_17_list_unsubscribe_stays() -> None:
    fields = (
        "List-Unsubscribe: <https://shop.example/unsubscribe?u=7>,",
        " <mailto:unsubscribe@shop.example>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    )
    raw = html_message(LINK, *fields)
    new = rewritten(raw, Options())
    assert new.startswith(html_message("", *fields))


# The pixel, the text, the report.


def test_one_pixel_in_the_html_that_is_seen() -> None:
    other = HTML_PART.replace("Shop", "Other")
    for raw, seen in (
        (mixed(TEXT_PART, HTML_PART, other, kind="alternative"), "Other"),
        (mixed(TEXT_PART, HTML_PART, other), "Shop"),
        (
            mixed(mixed(TEXT_PART, HTML_PART, kind="alternative").replace(b"bb", b"cc"), other),
            "Shop",
        ),
    ):
        new = rewritten(raw, Options())
        assert new.count(PIXEL.encode()) == 1
        assert new.count(HOST.encode()) == 3
        at = new.index(PIXEL.encode())
        assert new[:at].rindex(seen.encode()) > new[:at].rindex(
            b"--bb" if b"--cc" not in raw else b"--cc"
        )


def test_a_message_of_text_gets_no_pixel() -> None:
    raw = message("Subject: x", "", f"See {TARGET}", "")
    assert rewrite_message(raw, ADDRESSES, Options())[0] is raw
    new = rewritten(raw, Options(text_too=True))
    assert new == raw.replace(TARGET.encode(), track(TARGET, "", "").encode())


def test_a_part_without_an_empty_line_has_no_body_to_write_to() -> None:
    assert rewrite_message(mixed("Content-Type: text/html"), ADDRESSES, Options())[1].problems == []
    bare = "Content-Type: text/html"
    new, report = rewrite_message(mixed(bare, HTML_PART), ADDRESSES, Options())
    assert new == mixed(bare, HTML_PART.replace(LINK, with_pixel(LINK)))
    assert report.problems == []
    left_alone(bare.encode(), Options())


def test_mail_as_apple_makes_it() -> None:
    """HTML goes on behind the file that stands within it: the pixel is in the first piece."""
    pdf = "Content-Type: application/pdf; name=a.pdf\r\nContent-Disposition: inline\r\n\r\nx"
    inside = mixed(HTML_PART, pdf, HTML_PART).replace(b"bb", b"cc").decode()
    raw = mixed(TEXT_PART, inside, kind="alternative")
    first, second = HTML_PART.replace(LINK, with_pixel(LINK)), HTML_PART.replace(LINK, TRACKED)
    inside = mixed(first, pdf, second).replace(b"bb", b"cc").decode()
    assert rewritten(raw, Options()) == mixed(TEXT_PART, inside, kind="alternative")


def test_the_pixel_goes_where_it_can_be_written() -> None:
    odd = HTML_PART.replace("\r\n", "; charset=x-none\r\n", 1)
    new, report = rewrite_message(mixed(odd, HTML_PART), ADDRESSES, Options())
    assert new == mixed(odd, HTML_PART.replace(LINK, with_pixel(LINK)))
    assert len(report.problems) == 1


def test_in_a_flowed_text_an_address_may_go_on_in_the_next_line() -> None:
    """RFC 3676: with DelSp=yes the blank before the line end is none."""
    for flow, tracked in (
        ("; format=flowed; delsp=yes", False),
        ("; Format=Flowed; DelSp=no", True),
        ("; format=flowed", True),
        ("", True),
    ):
        raw = message(f"Content-Type: text/plain{flow}", "", f"See {TARGET} ", "and more", "")
        _, report = rewrite_message(raw, ADDRESSES, Options(text_too=True))
        assert bool(report.tracked) == tracked


def test_text_is_left_alone_unless_asked() -> None:
    raw = mixed(TEXT_PART, HTML_PART, kind="alternative")
    new, report = rewrite_message(raw, ADDRESSES, AS_IS)
    assert new == mixed(TEXT_PART, HTML_PART.replace(LINK, TRACKED), kind="alternative")
    assert reasons(report) == []


def test_what_opted_out_in_html_is_left_alone_in_the_text_before_it() -> None:
    html = HTML_PART.replace("<a ", "<a data-pm-no-track ")
    raw = mixed(TEXT_PART, html, kind="alternative")
    assert rewrite_message(raw, ADDRESSES, Options(text_too=True, pixel=NOWHERE))[0] is raw


def test_the_report_is_in_the_order_of_the_message() -> None:
    raw = mixed("Content-Type: text/calendar\r\n\r\nx", TEXT_PART, HTML_PART)
    _, report = rewrite_message(raw, ADDRESSES, Options(text_too=True))
    assert [(one.url, one.part) for one in report.tracked] == [(TARGET, "text"), (TARGET, "html")]
    assert report.skipped == [Skipped("", OTHER_TYPE, "1 text/calendar")]


def test_the_standard_library_agrees_on_a_message_it_made() -> None:
    """An EmailMessage as an application makes it, with a picture and a file."""
    from email.message import EmailMessage

    mail = EmailMessage()
    mail["Subject"] = "Grüße"
    mail["From"] = "alice@example.com"
    mail.set_content(f"Siehe {TARGET}\n")
    html = f"<html><body><p>Grüße {'ü' * 300}</p>\n{LINK}\n</body></html>\n"
    mail.add_alternative(html, subtype="html")
    mail.get_payload()[1].add_related(b"\x89PNG", "image", "png", cid="<x@example.com>")  # type: ignore[union-attr, index]
    mail.add_attachment("<a href='https://a.example/'>x</a>", subtype="html", filename="a.html")
    for end in ("\n", "\r\n"):
        raw = mail.as_bytes(policy=mail.policy.clone(linesep=end))
        new = rewritten(raw, Options(text_too=True))
        read = message_from_bytes(new, policy=policy.default)
        assert isinstance(read, EmailMessage)
        body = read.get_body(("html",))
        assert body is not None
        assert body.get_content() == with_pixel(html)
        text = read.get_body(("plain",))
        assert text is not None
        assert text.get_content().splitlines() == [f"Siehe {track(TARGET, '', '')}"]
        assert [part.get_content().strip() for part in read.iter_attachments()] == [
            "<a href='https://a.example/'>x</a>"
        ]


# Steering.


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("track=none; campaign=spring", {"track": "none", "campaign": "spring"}),
        ("track=none", {"track": "none"}),
        (
            " Track = none ;; ; campaign = Spring Sale ;",
            {"track": "none", "campaign": "Spring Sale"},
        ),
        (
            "track=none;\r\n campaign=spring;\r\n\tlabel=x",
            {"track": "none", "campaign": "spring", "label": "x"},
        ),
        ('campaign="a; b=\\"c\\""; track=none', {"campaign": 'a; b="c"', "track": "none"}),
        ("campaign=a=b", {"campaign": "a=b"}),
        ("track=none; track=all", {"track": "none"}),
        ("campaign=Frühling", {"campaign": "Frühling"}),
        (
            "=?utf-8?q?campaign=3DFr=C3=BChling=3B_track=3Dnone?=",
            {"campaign": "Frühling", "track": "none"},
        ),
        ("campaign==?utf-8?q?Fr=C3=BChling?=", {"campaign": "Frühling"}),
        ("=?utf-8?b?broken", {}),
        ("", {}),
        ("nothing", {}),
        ("; ; =", {}),
    ],
)
def test_steering_is_read_and_removed(value: str, said: dict[str, str]) -> None:
    for end in (b"\r\n", b"\n"):
        rest = (
            b"Subject: x",
            b"To: bob@example.com,",
            b" charlie@example.com",
            b"",
            b"X-Little-Bell: track=no",
        )
        field = f"x-little-BELL:{value}".encode().replace(b"\r\n", end)
        for at in range(4):
            if at == 2:
                continue  # within a folded field
            raw = end.join((*rest[:at], field, *rest[at:]))
            plain = end.join(rest)
            if at == 3:
                raw = end.join((*rest[:3], field, *rest[3:]))
            assert read_steering(raw) == said
            assert without_steering(raw) == plain


def test_a_message_without_steering_is_the_very_object() -> None:
    for raw in (b"", b"\r\n", b"Subject: x", html_message(LINK), b"X-Little-Bell-Not: a=b\r\n\r\n"):
        assert without_steering(raw) is raw
        assert read_steering(raw) == {}


def test_steering_at_the_ends_of_a_header() -> None:
    assert without_steering(b"X-Little-Bell: a=b") == b""
    assert without_steering(b"X-Little-Bell: a=b\r\n\r\nbody") == b"\r\nbody"
    assert without_steering(b"X-Little-Bell: a=b\r\nX-Little-Bell: c=d\r\n\r\n") == b"\r\n"
    assert read_steering(b"X-Little-Bell: a=b\r\nX-Little-Bell: c=d; a=e\r\n\r\n") == {
        "a": "b",
        "c": "d",
    }


@pytest.mark.parametrize(
    "before",
    [b"no field\r\n", b"J\xfcrgen: x\r\n", b" folded\r\n", b": x\r\n", b"A: x\r\n" * 10_001],
    ids=["no field", "8bit", "folded", "no name", "too many"],
)
def test_steering_is_taken_out_of_a_header_that_cannot_be_read(before: bytes) -> None:
    steering = b"X-Little-Bell: track=none;\r\n campaign=a\r\n"
    body = b"Subject: x\r\n\r\n" + steering
    assert without_steering(before + steering + body) == before + body


@given(st.binary(max_size=300))
def test_steering_of_any_bytes(value: bytes) -> None:
    raw = b"Subject: x\r\nX-Little-Bell: " + value + b"\r\n\r\nbody"
    said = read_steering(raw)
    assert all(name and name == name.lower() for name in said)
    assert without_steering(raw).endswith(b"\r\n\r\nbody")


def test_a_message_of_100_kb_with_200_links(capsys: pytest.CaptureFixture[str]) -> None:
    row = '<p style="color:red">Grüße <a href="https://shop.example/{}?a=1&amp;b=2">Hier</a>{}</p>\r\n'
    html = f"<body>{''.join(row.format(n, 'x' * 400) for n in range(200))}</body>\r\n".encode()
    for encoding, body in (
        ("8bit", html),
        ("quoted-printable", quoted(html, b"\r\n")),
        ("base64", base64.encodebytes(html).replace(b"\n", b"\r\n")),
    ):
        raw = html_message(body, f"Content-Transfer-Encoding: {encoding}")
        times = []
        for _ in range(9):
            start = time.process_time()
            new, report = rewrite_message(raw, ADDRESSES, Options())
            times.append(time.process_time() - start)
            assert new is not raw
            assert len(report.tracked) == 200
        with capsys.disabled():
            print(
                f"\n{encoding}, {len(raw)} bytes: {1000 * statistics.median(times):.1f} ms", end=""
            )
