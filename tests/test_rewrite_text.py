"""Rewriting plain text: where an address ends, what is left alone, and every other character."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_bell.errors import Refused
from little_bell.mail.report import (
    CREDENTIALS,
    OPTED_OUT,
    OWN,
    REFUSED,
    TEMPLATE,
    TOO_LONG,
    UNREADABLE,
    UNSUBSCRIBE,
    UNSURE,
    Options,
    Report,
    Tracked,
)
from little_bell.mail.text import rewrite_text
from rewriting import ADDRESSES, HOST, OFTEN, reasons, told, track

URL = "https://shop.example/"
TOO = Options(text_too=True)


def rewritten(
    text: str, opted_out: frozenset[str] = frozenset(), flowed: bool = False, options: Options = TOO
) -> tuple[str, Report]:
    return rewrite_text(text, ADDRESSES, options, set(opted_out), flowed)


def becomes(form: str, url: str, flowed: bool = False) -> None:
    """What stands between the bars is the address, and it leads to `url`."""
    before, _, rest = form.partition("|")
    _, _, after = rest.partition("|")
    got, report = rewritten(form.replace("|", ""), flowed=flowed)
    assert got == before + track(url, "", "text") + after
    assert report.tracked == [Tracked(url, track(url, "", "text"), "", "text")]


def untouched(text: str, flowed: bool = False) -> list[tuple[str, str]]:
    got, report = rewritten(text, flowed=flowed)
    assert got is text
    assert report.tracked == []
    return reasons(report)


def test_text_is_left_alone_unless_asked() -> None:
    text = f"See {URL} now"
    got, report = rewritten(text, options=Options())
    assert got is text
    assert (report.tracked, report.skipped, report.problems) == ([], [], [])


@pytest.mark.parametrize(
    "form",
    [
        "|https://shop.example/|",
        "See |https://shop.example/|.",
        "See |https://shop.example/|, or not",
        "Really |https://shop.example/|?!",
        "'|https://shop.example/|'",
        '"|https://shop.example/|".',
        "(|https://shop.example/|)",
        "(see |https://shop.example/|).",
        "a [text](|https://shop.example/|) of Markdown",
        "[|https://shop.example/|]:",
        "<|https://shop.example/|>",
        "<URL:|https://shop.example/|>",
        "Shop:|https://shop.example/|\r\n\r\nBye",
        "> > |https://shop.example/|\r\n> x",
        "\u201c|https://shop.example/|\u201d\u2026",
        "\u8bf7\u770b|https://shop.example/|\u3002",
        "\U0001f514\0\ud800 |https://shop.example/| \x85\u2028",
        "`|https://shop.example/|`",
        "|HTTPS://Shop.Example/|)\";'",
        "|https://shop.example|...",
        "|https://shop.example|\tx",
        "|https://shop.example:443/|)))",
    ],
)
def test_where_an_address_ends(form: str) -> None:
    becomes(form, URL)


@pytest.mark.parametrize(
    ("form", "url"),
    [
        ("|https://shop.example/a_(b)|", f"{URL}a_(b)"),
        ("(|https://shop.example/a_(b)|)", f"{URL}a_(b)"),
        ("(|https://shop.example/a_(b)_c|).", f"{URL}a_(b)_c"),
        ("|https://shop.example/?a=1&amp=2#x|.", f"{URL}?a=1&amp=2#x"),
        ("|https://shop.example/a,b;c:d!e?f'g|,", f"{URL}a,b;c:d!e?f%27g"),
        ("|https://shop.example/a/|, b", f"{URL}a/"),
        ("|https://shop.example/?a[]=1&b[c]=2|", f"{URL}?a[]=1&b[c]=2"),
        ("|https://shop.example/?u=https://other.example/|.", f"{URL}?u=https://other.example/"),
        ("|http://shop.example/%41|", "http://shop.example/%41"),
    ],
)
def test_what_belongs_to_an_address(form: str, url: str) -> None:
    becomes(form, url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://shop.example/{{ id }}", [("https://shop.example/{{", TEMPLATE)]),
        ("https://shop.example/*|ID|*", [("https://shop.example/*|ID|*", TEMPLATE)]),
        ("https://shop.example/[id]", [("https://shop.example/[id]", TEMPLATE)]),
        ("https://shop.example/unsubscribe/7.", [(f"{URL}unsubscribe/7", UNSUBSCRIBE)]),
        (f"{HOST}acme/l/1/x", [(f"{HOST}acme/l/1/x", OWN)]),
        ("https://a:b@shop.example/", [("https://a:b@shop.example/", CREDENTIALS)]),
        ("https://shop.example:99999/", [("https://shop.example:99999/", UNREADABLE)]),
        (URL + "a" * 3000, [((URL + "a" * 3000)[:200], TOO_LONG)]),
        ("https://shop.example/gr\u00fcn", [("https://shop.example/gr\u00fcn", UNSURE)]),
        (f"{URL}\u3092\u898b\u308b", [(f"{URL}\u3092\u898b\u308b", UNSURE)]),
        ("<https://shop.example/a\r\nb/c>", [("https://shop.example/a", UNSURE)]),
        ("> <https://shop.example/a\n> b/c>", [("https://shop.example/a", UNSURE)]),
        ("mailto:a@b.example www.shop.example ftp://a.example/ //a https: https:/a", []),
        ("ftp://a.example/?u=https://shop.example/", []),
        ("www.a.example/?u=https://shop.example/ xhttps://shop.example/", []),
    ],
)  # fmt: skip
def test_what_is_left_alone(text: str, expected: list[tuple[str, str]]) -> None:
    assert untouched(text) == expected


def test_an_address_in_brackets_does_not_go_on_in_another_one() -> None:
    text = f"<{URL}\n  {URL}>"
    assert rewritten(text)[0] == text.replace(URL, track(URL, "", "text"))


def test_a_line_that_ends_behind_the_bracket_is_nothing_special() -> None:
    becomes("<|https://shop.example/|>\r\nb>", URL)
    becomes("|https://shop.example/|\r\nb>", URL)


def test_what_opted_out_in_html_is_left_alone_here() -> None:
    text = f"https://shop.example {URL}a"
    got, report = rewritten(text, frozenset((URL,)))
    assert got == f"https://shop.example {track(f'{URL}a', '', 'text')}"
    assert reasons(report) == [(URL, OPTED_OUT)]


def test_unsubscribing_where_it_is_asked() -> None:
    got, _ = rewritten(f"{URL}unsubscribe", options=TOO._replace(unsubscribe_too=True))
    assert got == track(f"{URL}unsubscribe", "", "text")


def test_flowed_lines_keep_their_spaces() -> None:
    text = f"a \r\nb {URL}\r\n > c \r\n-- \r\n"
    got, _ = rewritten(text, flowed=True)
    assert got == text.replace(URL, track(URL, "", "text"))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_flowed_an_address_at_a_soft_break_may_go_on(end: str) -> None:
    """With DelSp the space goes away where lines are joined (RFC 3676, section 4.1)."""
    text = f"See {URL}long \r\ner/path".replace("\r\n", end)
    assert untouched(text, flowed=True) == [(f"{URL}long", UNSURE)]
    expected = text.replace(f"{URL}long", track(f"{URL}long", "", "text"))
    assert rewritten(text, flowed=False)[0] == expected
    got, _ = rewrite_text(text, ADDRESSES, TOO, set(), flowed=True, delsp=False)
    assert got == expected
    assert rewrite_text(text, ADDRESSES, TOO, set(), flowed=True, delsp=True)[0] is text


def test_flowed_two_spaces_or_the_end_are_no_soft_break_within_an_address() -> None:
    becomes("See |https://shop.example/|  \r\nthere", URL, flowed=True)
    becomes("See |https://shop.example/| \r\n\r\nthere", URL, flowed=True)
    becomes("See |https://shop.example/| ", URL, flowed=True)


def test_the_same_address_twice_is_asked_for_once() -> None:
    asked = []

    def make(url: str, label: str, part: str) -> str:
        asked.append((url, label, part))
        return f"{HOST}{len(asked)}"

    text = f"{URL} https://shop.example {URL}b"
    got, _ = rewrite_text(text, ADDRESSES._replace(link=make), TOO, set())
    assert got == f"{HOST}1 {HOST}1 {HOST}2"
    assert asked == [(URL, "", "text"), (f"{URL}b", "", "text")]


def test_what_the_caller_refuses_is_skipped_alone() -> None:
    def make(url: str, label: str, part: str) -> str:
        if "bad" in url:
            raise Refused(400, "links may not lead to that host", "url")
        return track(url, label, part)

    got, report = rewrite_text(
        f"https://bad.example/ {URL}", ADDRESSES._replace(link=make), TOO, set()
    )
    assert got == f"https://bad.example/ {track(URL, '', 'text')}"
    assert reasons(report) == [("https://bad.example/", REFUSED)]


def test_rule_13_a_failure_leaves_the_original_and_is_reported() -> None:
    def fail(url: str, label: str, part: str) -> str:
        raise RuntimeError("no key")

    text = f"a {URL}"
    got, report = rewrite_text(text, ADDRESSES._replace(link=fail), TOO, set())
    assert got is text
    assert report.tracked == []
    assert report.problems == ["the text was left as it is: RuntimeError: no key"]


# Properties: texts of pieces of which is known what becomes of them.

PLAIN = st.text(st.characters(exclude_characters="<>/hH"), max_size=20).map(lambda t: f" {t} ") | (
    st.sampled_from((" ", "\r\n", "\n> ", " (", ") ", "\t", " \ud800\0\U0001f514 ", ". ", " '"))
)
ENDS = st.sampled_from(("", ".", ",", ")", "),", "?!", ">", "'", '"', ".\r\n", "]"))
PATHS = st.text("abz09/-_.~%2a(),;:!?'=&#+@", max_size=20)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A text, and the URLs in it as they stand there."""
    pieces: list[str] = []
    urls = []
    for _ in range(draw(st.integers(0, 6))):
        url = f"https://{draw(st.sampled_from(('a.example', 'B.example:8080', '127.0.0.1')))}/"
        path = draw(PATHS).strip(".,;:!?'()")
        url += path if path.count("(") == path.count(")") and "%" not in path else ""
        urls.append(url)
        before = draw(st.sampled_from((" ", "(", "<", '"')))
        # What is open may be a URL over several lines: then nobody knows where it ends.
        pieces += (draw(PLAIN), before, url, ">" if before == "<" else draw(ENDS))
        pieces.append(draw(st.sampled_from((" ", "\n", "\r\n"))))
    return "".join(pieces) + draw(PLAIN), urls


@OFTEN
@given(texts())
def test_nothing_else_changes_and_links_lead_where_they_led(given: tuple[str, list[str]]) -> None:
    from little_bell.tracking.links import canonical

    text, urls = given
    got, report = rewritten(text)
    assert [one.url for one in report.tracked] == [canonical(url) for url in urls]
    rest, back = text, got
    for url, one in zip(urls, report.tracked, strict=True):
        before, _, rest = rest.partition(url)
        assert back.startswith(before + one.tracked_url)
        back = back.removeprefix(before + one.tracked_url)
        assert told(one.tracked_url)[0] == canonical(url)
    assert back == rest
    assert rewritten(got)[0] is got


@OFTEN
@given(
    st.text(st.sampled_from("htps:/. \r\n<>()[]ax\ud800\0\U0001f514'\"%{}"), max_size=60),
    st.booleans(),
)
def test_no_text_is_too_odd(text: str, flowed: bool) -> None:
    got, report = rewritten(text, flowed=flowed)
    assert (got is text) == (not report.tracked)
    assert report.problems == []


MEGA = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        URL + ")" * MEGA,
        URL + ").(" * MEGA,
        URL + "a" * MEGA,
        f"{URL} " * 20_000,
        "https://" * (MEGA // 8),
        "<https://a\n" + ">" * MEGA,
        "<https://a\n" * 20_000,
        "\0\ud800" * MEGA,
        "https://[" * 100_000,
    ],
    ids=range(9),
)
def test_time_grows_with_the_length(text: str) -> None:
    start = time.process_time()
    rewritten(text, flowed=True)
    assert time.process_time() - start < 15
