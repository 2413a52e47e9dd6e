"""Properties of rewriting HTML, over mails that are made up.

Some are made of pieces of which is known what becomes of them, so that the whole answer is known.
Others are soups of anything: a parser that builds trees, which the rewriting does not use, says
whether anything but links has changed.
"""

import re
from html import escape

import turbohtml
from hypothesis import example, given
from hypothesis import strategies as st

from little_bell.errors import Refused
from little_bell.mail.html import rewrite_html
from little_bell.mail.report import Options
from little_bell.tracking.links import canonical
from rewriting import ADDRESSES, BARE, HOST, IMG, OFTEN, PIXEL, told, track

# Pieces that stay as they are. Each is whole: it leaves nothing open.
SAME = (
    "text",
    "\r\n",
    "\n\r\t ",
    "\0",
    "\ud800",
    "\U0001f514",
    "\x85\u2028\x0b\x0c",
    "&amp;&copy;&bogus;&#x41;&",
    "{{ x }}",
    "< 3 > 2 < ",
    "<p class=x>",
    "</p >",
    "<BR/>",
    "</b></i></a></table>",
    "<table><tr><td>",
    "<img src=https://img.example/a.png>",
    '<link href="https://shop.example/a.css">',
    "<style>a{b:url(https://shop.example/)}<a href='https://shop.example/'></style>",
    "<script>\"<a href='https://shop.example/'></body>\"</script>",
    "<textarea></body><a href=https://shop.example/></textarea>",
    "<TITLE><a href=https://shop.example/></TiTle>",
    "<template><a href=https://shop.example/></a></body></template>",
    "<!-- <a href='https://shop.example/'> </body> -->",
    "<!--><!---><!>",
    "<!--[if !mso]><!--><!--<![endif]-->",
    "<!--[if mso]><table><tr></body><![endif]-->",
    "<![if !mso]><![endif]>",
    "<?xml version='1.0'?>",
    "<svg><path d='M0 0'/><![CDATA[ > <a href='https://shop.example/'> ]]></svg>",
    "<a name=top>",
    "<a href='#top'>",
    "<a href=mailto:a@b.example>",
    "<a href='{{ url }}'>",
    '<a data-href="https://shop.example/">',
    "<a title='href=\"https://shop.example/\"'>",
    '<a class="untracked" href="https://shop.example/">',
    f'<a href="{HOST}acme/l/1/x">',
    "<a href='https://shop.example/unsubscribe'>",
)
OPENINGS = (
    "<a ",
    "<A\r\n\t",
    "<a/",
    '<a title=">" ',
    "<a x='<a href=y>'",
    "<a disabled\0 ",
    "<area ",
)
HREFS = ("href=", "HREF = ", "hReF\r\n=\n\t", "href\x0c=")
QUOTES = ('"', "'", "")
ENDINGS = (
    ">",
    " >",
    " HREF='https://second.example/'>",
    "\r\nclass=x\r\n>",
    " target='_blank' id=b>",
)
LABELS = ("", "Buy", "Read <b>more</b>", "  a\r\n b ", "&lt;3", "<!-- x -->x")
SHOWN = dict(zip(LABELS, ("", "Buy", "Read more", "a b", "<3", "x"), strict=True))

URLS = st.builds(
    "{}://{}/{}".format,
    st.sampled_from(("https", "http", "HTTPS")),
    st.sampled_from(("shop.example", "Shop.example:8443", "b\u00fccher.example", "127.1", "[::1]")),
    st.text("abz09/-_.~%&=;+@:,!*()?#\u00fc\U0001f514", max_size=20).filter(
        lambda path: not re.search(r"%(?![0-9])|%%|opt|\*", path)
    ),
)


@st.composite
def mails(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """A mail without a pixel, what it becomes, and where its links lead."""
    pieces: list[tuple[str, str]] = []
    targets = []
    for _ in range(draw(st.integers(0, 6))):
        same = "".join(draw(st.lists(st.sampled_from(SAME), max_size=4)))
        url = draw(URLS)
        try:
            target = canonical(url)
        except Refused:
            pieces.append((same, same))
            continue
        opening, quote, label = (draw(st.sampled_from(s)) for s in (OPENINGS, QUOTES, LABELS))
        if opening == "<area ":
            label = ""
        before = same + opening + draw(st.sampled_from(HREFS)) + quote
        after = quote + draw(st.sampled_from(ENDINGS)) + label + "</a>"
        value = escape(url, quote=False) if draw(st.booleans()) else url.replace("&", "&#38;")
        tracked = escape(track(target, SHOWN[label]), quote=False)
        pieces.append((before + value + after, before + tracked + after))
        targets.append(target)
    end = "".join(draw(st.lists(st.sampled_from(SAME), max_size=2)))
    html, expected = ("".join(side) + end for side in zip(*pieces, ("", ""), strict=True))
    return html, expected, targets


@OFTEN
@given(mails())
def test_outside_of_links_nothing_changes(made: tuple[str, str, list[str]]) -> None:
    html, expected, targets = made
    got, report = rewrite_html(html, ADDRESSES, BARE)
    assert got == expected
    assert [one.url for one in report.tracked] == targets
    assert [told(one.tracked_url)[0] for one in report.tracked] == targets
    if not targets:
        assert got is html
    assert rewrite_html(got, ADDRESSES, BARE)[0] is got


@OFTEN
@given(mails(), st.sampled_from(("</body>", "</BODY\n>x</html>", "</html>", "")))
def test_the_pixel_is_all_that_is_added(made: tuple[str, str, list[str]], end: str) -> None:
    html, expected, _ = made
    got, _ = rewrite_html(html + "." + end, ADDRESSES, Options())
    assert got == expected + "." + IMG + end
    assert rewrite_html(got, ADDRESSES, Options())[0] is got


SOUP = (
    *SAME,
    *OPENINGS,
    *HREFS,
    *ENDINGS,
    *QUOTES,
    "https://shop.example/?a=1&copy=2&amp;b",
    "<a href='https://shop.example/a'>",
    '<a href="https://shop.example/a&#x0d;\n&NotEqualTilde;">',
    "<a href=https://shop.example/>",
    "<!--[if mso]>",
    "<![endif]-->",
    '<v:rect href="https://shop.example/a">',
    "<!--",
    "-->",
    "--!>",
    "<![CDATA[",
    "]]>",
    "<",
    ">",
    "</",
    "/",
    "=",
    "data-pm-no-track ",
    *(f"<{slash}{tag}>" for slash in ("", "/") for tag in ("script", "style", "textarea", "title")),
    *(f"<{slash}{tag}>" for slash in ("", "/") for tag in ("template", "svg", "noscript", "body")),
    *(f"<{slash}{tag}>" for slash in ("", "/") for tag in ("xmp", "iframe", "select", "p", "div")),
    "<div style=display:none>",
    "<plaintext>",
)
soups = st.lists(st.sampled_from(SOUP), max_size=16).map("".join)
TRACKED = re.compile(re.escape(f"{HOST}acme/l/1/") + r"[A-Za-z0-9_-]+\?a&amp;b")


def parsed(html: str) -> turbohtml.Document:
    """A tree. It cannot say names of attributes that hold half a character, hence a whole one."""
    return turbohtml.parse(html.replace("\ud800", "\ufffd"))


def tree(html: str) -> list[tuple[str, ...]]:
    """All nodes as a browser without scripts sees them, links apart."""
    found: list[tuple[str, ...]] = []
    for node in parsed(html).descendants:
        if isinstance(node, turbohtml.Element):
            link = node.tag in ("a", "area")
            attrs = [
                f"{name}={value}"
                for name, value in node.attrs.items()
                if name != "href" or not link
            ]
            found.append((node.tag, *attrs))
        else:
            text = getattr(node, "data", "") or ""
            found.append((type(node).__name__, "" if text.lstrip().startswith("[if") else text))
    return found


def hrefs(html: str) -> list[str]:
    return [
        str(node.attrs["href"])
        for node in parsed(html).descendants
        if isinstance(node, turbohtml.Element)
        and node.tag in ("a", "area")
        and "href" in node.attrs
    ]


@OFTEN
@given(soups)
@example("<svg><![CDATA[<a href='https://shop.example/a'>]]></svg>")
@example(
    "<!--[if mso]><a href='https://shop.example/a'>--><noscript><a href=https://shop.example/>"
)
def test_of_a_soup_only_links_change(html: str) -> None:
    got, report = rewrite_html(html, ADDRESSES, BARE)
    assert report.problems == [] or "address itself" in report.problems[0]
    assert (got is html) == (not report.tracked)
    assert tree(got) == tree(html)
    for before, after in zip(hrefs(html), hrefs(got), strict=True):
        if after != before:
            assert told(after)[0] == canonical(before.replace("\n", ""))
    # What stands between the tracked addresses is what stood there, in the same order.
    parts = TRACKED.split(got)
    assert len(parts) == len(report.tracked) + 1
    assert html.startswith(parts[0])
    assert html.endswith(parts[-1])
    at = 0
    for part in parts:
        at = html.index(part, at) + len(part)
    assert rewrite_html(got, ADDRESSES, BARE)[0] is got


@OFTEN
@given(soups, st.sampled_from(("bottom", "top")))
def test_in_a_soup_the_pixel_is_an_image_or_nowhere(html: str, place: str) -> None:
    links, _ = rewrite_html(html, ADDRESSES, BARE)
    got, report = rewrite_html(html, ADDRESSES, Options(pixel=place))
    if got is html or IMG not in got:
        assert got == links
        assert any("no place" in problem for problem in report.problems)
        return
    assert got.count(IMG) == 1
    assert got.replace(IMG, "") == links
    assert rewrite_html(got, ADDRESSES, Options(pixel=place))[0] is got


@OFTEN
@given(st.lists(st.sampled_from(SOUP) | st.text(max_size=5), max_size=20).map("".join))
def test_nothing_makes_it_raise(html: str) -> None:
    for options in (Options(), Options(placeholder="text", pixel="top"), Options(placeholder="<p")):
        got, report = rewrite_html(html, ADDRESSES, options)
        assert got.count(PIXEL) <= 1
        assert not any("Error" in problem for problem in report.problems), report.problems
