"""Rewriting HTML: each rule, under its number.

Tracked addresses here say what they lead to (`rewriting.track`), so that what is expected follows
from the rules.
"""

import pytest

from little_bell.errors import Refused
from little_bell.mail.html import rewrite_html
from little_bell.mail.report import (
    CREDENTIALS,
    EMPTY,
    NOT_HTTP,
    OPTED_OUT,
    OWN,
    REASONS,
    REFUSED,
    RELATIVE,
    TEMPLATE,
    TOO_LONG,
    UNREADABLE,
    UNSUBSCRIBE,
    VISIBLE,
    Addresses,
    LinkMaker,
    Options,
    Report,
    Skipped,
    Tracked,
)
from rewriting import ADDRESSES, BARE, HOST, IMG, PIXEL, attribute, reasons, told, track

URL = "https://shop.example/"


def bare(html: str, options: Options = BARE) -> tuple[str, Report]:
    """Rewritten without a pixel."""
    return rewrite_html(html, ADDRESSES, options)


def becomes(html: str, expected: str, options: Options = BARE) -> Report:
    got, report = bare(html, options)
    assert got == expected
    return report


def untouched(html: str, options: Options = BARE) -> Report:
    """Nothing is tracked, and what comes back is the very text."""
    got, report = bare(html, options)
    assert got is html
    assert report.tracked == []
    return report


def always(tracked: str) -> LinkMaker:
    def link(url: str, label: str, part: str) -> str:
        return tracked

    return link


# Rule 1: splice attribute values; touch no other byte. With nothing to track, output equals input.

STRANGE = (
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x"><![if !mso]>{{ x }}<![endif]>',
    "<?xml version='1.0'?><p/>&nbsp;&copy;&#x41;&bogus;&amp;amp; < & > \"",
    "<TABLE BORDER=0 border=1><tr><td>a<b>b</i>c\r\n\rd\0\x0c\x85\u2028\U0001f514\ud800e",
    "<br/><BR></br></p><img src=a.png><input disabled value='{{ y }}'>",
    "",
    "no tags",
    "<",
    "<a",
    '<a href="https://shop.example/',
    "<a href='https://shop.example/' ",
)


@pytest.mark.parametrize("html", STRANGE)
def test_rule_01_with_nothing_to_track_it_is_the_very_text(html: str) -> None:
    report = untouched(html)
    assert (report.skipped, report.problems) == ([], [])


@pytest.mark.parametrize("before", STRANGE[:6])
@pytest.mark.parametrize("after", STRANGE)
def test_rule_01_what_stands_around_a_link_stays(before: str, after: str) -> None:
    html = f'{before}<a title="&quot;>" href="{URL}" id=a>x</a>{after}'
    becomes(html, f'{before}<a title="&quot;>" href="{attribute(URL, "x")}" id=a>x</a>{after}')


# Rule 2: <a> and <area>; also <a> and v:* in conditional comments, with the twin's address.


@pytest.mark.parametrize("tag", ["a", "area", "A", "AREA"])
def test_rule_02_links_and_areas(tag: str) -> None:
    becomes(f'<{tag} href="{URL}">', f'<{tag} href="{attribute(URL)}">')


@pytest.mark.parametrize(
    "tag", ["link", "base", "img", "v:rect", "abbr", "aa", "a:b", "use", "form"]
)
def test_rule_02_nothing_else_outside_of_comments(tag: str) -> None:
    report = untouched(f'<{tag} href="{URL}" src="{URL}" action="{URL}">x</{tag}>')
    assert report.skipped == []


def test_rule_02_no_css() -> None:
    untouched(
        f'<p style="background:url({URL})"><td background="{URL}"><style>a{{b:url({URL})}}</style>'
    )


@pytest.mark.parametrize("tag", ["v:roundrect", "v:rect", "v:shape", "a", "V:RoundRect"])
@pytest.mark.parametrize(
    "opening",
    [
        "<!--[if mso]>",
        "<!--[if gte mso 9]>",
        "<!--[if (mso)|(IE)]>",
        "<!-- [if mso | IE]>",
        "<!--[IF MSO]>",
    ],
)
def test_rule_02_in_comments_for_outlook(tag: str, opening: str) -> None:
    html = (
        f"<table>{opening}<tr><td><{tag} href='{URL}' x=1><center>Buy</center></{tag}><![endif]-->z"
    )
    report = becomes(html, html.replace(URL, attribute(URL, "Buy")))
    assert report.tracked == [Tracked(URL, track(URL, "Buy"), "Buy", "html")]


@pytest.mark.parametrize("tag", ["v:imagedata", "v:fill", "link", "img", "w:anchorlock"])
def test_rule_02_no_other_tags_in_them(tag: str) -> None:
    untouched(f'<!--[if mso]><{tag} href="{URL}"/><![endif]-->')


def test_rule_02_a_shape_leads_where_its_twin_leads() -> None:
    shape = '<!--[if mso]><v:rect href="{}"><w:anchorlock/>{}</v:rect><![endif]-->'
    html = shape.format(URL, "Now!") + f'<![if !mso]><a href="{URL}">Buy now</a><![endif]>'
    report = becomes(html, html.replace(URL, attribute(URL, "Buy now")))
    assert {one.tracked_url for one in report.tracked} == {track(URL, "Buy now")}
    assert [one.label for one in report.tracked] == ["Buy now"] * 2


def test_rule_02_of_several_twins_the_one_with_its_label_then_the_next() -> None:
    shape = f'<!--[if mso]><v:rect href="{URL}">%s</v:rect><![endif]-->'
    links = [f'<a href="{URL}">{label}</a>' for label in ("One", "Two", "Three")]
    html = links[0] + shape % "Three" + shape % "" + links[1] + links[2] + shape % "other"
    _, report = bare(html)
    assert [one.label for one in report.tracked] == ["One", "Three", "Two", "Two", "Three", "Three"]


def test_rule_02_a_shape_is_left_alone_with_its_twin() -> None:
    shape = f'<!--[if mso]><v:rect href="{URL}">A</v:rect><![endif]-->'
    html = f'{shape}<a class=untracked href="{URL}">A</a>'
    assert reasons(untouched(html)) == [(URL, OPTED_OUT)] * 2


def test_rule_02_the_text_of_a_link_goes_on_behind_a_comment_for_outlook() -> None:
    html = f'<a href="{URL}">Read<!--[if mso]>z<a href="{URL}x">y</a><![endif]--> more</a>'
    assert [one.label for one in bare(html)[1].tracked] == ["Read more", "y"]


# Rule 3: any quoting, any case, spaces around =, <a/href=, duplicates (first wins), not data-href.


@pytest.mark.parametrize(
    "form",
    [
        '<a href="{}">',
        "<a href='{}'>",
        "<a href={}>",
        '<A HREF="{}">',
        "<a hReF = '{}'>",
        '<a\nhref\n=\n"{}"\n>',
        '<a\r\n\thref\r\n=\r\n"{}"\r\n>',
        "<a\x0chref\x0c=\x0c{}\x0c>",
        '<a/href="{}">',
        "<a/href='{}'/>",
        '<a title=">" href="{}">',
        '<a title=\'href="x"\' href="{}">',
        '<a title="a"href="{}"id="b">',
        '<a x=/ href="{}">',
        '<a =href="1" href="{}">',
        '<a "href="1" href="{}">',
        '<a data-href="https://no.example/" href="{}" xlink:href="https://no.example/">',
        '<a href="{}" href="https://second.example/" HREF=https://third.example/>',
        '<a <b href="{}">',
        "<a \U0001f514=1 href={} \0=1>",
        '<a disabled href="{}" disabled>',
        "<a href =   {}  >",
    ],
)
@pytest.mark.parametrize("before", ["", "a\r\n\r\n\U0001f514\0<b>"])
def test_rule_03_however_it_is_written(form: str, before: str) -> None:
    becomes(before + form.format(URL), before + form.format(attribute(URL)))


@pytest.mark.parametrize(
    "html",
    [
        f'<a data-href="{URL}">',
        f'<a xhref="{URL}">',
        f'<a hrefs="{URL}" href-x="{URL}" x:href="{URL}">',
        f"<a title='href=\"{URL}\"'>",
        f'<a title=href="{URL}">',
        f'<a =href="{URL}">',
    ],
)
def test_rule_03_other_attributes(html: str) -> None:
    assert untouched(html).skipped == []


def test_rule_03_where_the_first_of_two_has_no_link_there_is_none() -> None:
    assert reasons(untouched(f'<a href="#x" href="{URL}">')) == [("#x", RELATIVE)]
    assert reasons(untouched(f'<a href href="{URL}">')) == [("", EMPTY)]


def test_rule_03_an_address_without_quotes_gets_them_where_it_needs_them() -> None:
    spaced = ADDRESSES._replace(link=always(f"{HOST}x y"))
    html = rewrite_html(f"<a href={URL} id=b>", spaced, BARE)[0]
    assert html == f'<a href="{HOST}x y" id=b>'


@pytest.mark.parametrize(("quote", "form"), [('"', "&quot;"), ("'", "&#39;")])
def test_rule_03_the_quote_in_use_is_escaped(quote: str, form: str) -> None:
    quoting = ADDRESSES._replace(link=always(f"{HOST}x\"'&"))
    html = rewrite_html(f"<a href={quote}{URL}{quote}>", quoting, BARE)[0]
    escaped = f"{HOST}x\"'&amp;".replace(quote, form)
    assert html == f"<a href={quote}{escaped}{quote}>"


# Rule 4: trim, drop tab and newline inside, decode once as an attribute, canonical URL.


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("  https://shop.example/ \n", "https://shop.example/"),
        ("https://shop\r\n.example/a\tb", "https://shop.example/ab"),
        ("&#9;https&colon;//shop.example/", "https://shop.example/"),
        ("https://shop.example/?a=1&amp;b=2", "https://shop.example/?a=1&b=2"),
        ("https://shop.example/?a=1&b=2", "https://shop.example/?a=1&b=2"),
        ("https://shop.example/?a=1&copy=2", "https://shop.example/?a=1&copy=2"),
        ("https://shop.example/?a=1&copy2", "https://shop.example/?a=1&copy2"),
        ("https://shop.example/?a=1&copy;", "https://shop.example/?a=1%C2%A9"),
        ("https://shop.example/?a=1&amp;copy=2", "https://shop.example/?a=1&copy=2"),
        ("https://shop.example/?a=1&amp;amp;b=2", "https://shop.example/?a=1&amp;b=2"),
        ("https://shop.example/?a=1&#38;lt=2", "https://shop.example/?a=1&lt=2"),
        ("https://shop.example/?a=%26amp%3B", "https://shop.example/?a=%26amp%3B"),
        ("https://shop.example/a&#x20;b", "https://shop.example/a%20b"),
        ("https://shop.example/a b", "https://shop.example/a%20b"),
        ("https://shop.example/gr\u00fcn", "https://shop.example/gr%C3%BCn"),
        ("https://b\u00fccher.example/", "https://xn--bcher-kva.example/"),
        ("HTTPS://SHOP.Example:443/../A", "https://shop.example/A"),
        ("http://shop.example", "http://shop.example/"),
        ("https:\\\\shop.example\\a", "https://shop.example/a"),
        ("https://shop.example/#a&amp;b", "https://shop.example/#a&b"),
        ("https://shop.example/?q=a\0b", "https://shop.example/?q=a%EF%BF%BDb"),
    ],
)
@pytest.mark.parametrize("quote", ['"', "'"])
def test_rule_04_the_target_is_the_canonical_form_of_what_was_meant(
    value: str, url: str, quote: str
) -> None:
    form = f"<a href={quote}{{}}{quote}>x</a>"
    report = becomes(form.format(value), form.format(attribute(url, "x")))
    assert report.tracked[0].url == url
    assert told(report.tracked[0].tracked_url) == [url, "x", "html"]


# Rule 5: only absolute http and https.


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", EMPTY),
        ("   ", EMPTY),
        ("#x", RELATIVE),
        ("a/b.html", RELATIVE),
        ("/a", RELATIVE),
        ("?q=1", RELATIVE),
        ("//shop.example/", RELATIVE),
        ("\\\\shop.example\\", RELATIVE),
        ("https:shop.example", RELATIVE),
        ("https:/shop.example", RELATIVE),
        ("www.shop.example", RELATIVE),
        ("\u00a0https://shop.example/", RELATIVE),
        ("mailto:a@shop.example", NOT_HTTP),
        ("MAILTO:a@shop.example", NOT_HTTP),
        ("tel:+15550100", NOT_HTTP),
        ("sms:+15550100", NOT_HTTP),
        ("callto:a", NOT_HTTP),
        ("javascript:alert(1)", NOT_HTTP),
        ("java&#10;script:alert(1)", NOT_HTTP),
        ("data:text/html,x", NOT_HTTP),
        ("blob:https://shop.example/1", NOT_HTTP),
        ("file:///etc/hosts", NOT_HTTP),
        ("cid:part1@shop.example", NOT_HTTP),
        ("webcal://shop.example/c.ics", NOT_HTTP),
        ("whatsapp://send?text=x", NOT_HTTP),
        ("com.shop.app://x", NOT_HTTP),
        ("ftp://shop.example/", NOT_HTTP),
        ("https://", UNREADABLE),
        ("https://a b/", UNREADABLE),
        ("https://shop.example:99999/", UNREADABLE),
        ("https://*.example/", UNREADABLE),
        ("https://me:secret@shop.example/", CREDENTIALS),
        ("https://shop.example@evil.example/", CREDENTIALS),
    ],
)
def test_rule_05_other_addresses_are_left_alone(value: str, reason: str) -> None:
    report = untouched(f'<a href="{value}">x</a>')
    assert [one.reason for one in report.skipped] == [reason]


def test_rule_05_a_base_changes_nothing() -> None:
    untouched('<base href="https://shop.example/"><a href="a/b">x</a><a href="//c.example">y</a>')


# Rule 6: values with template tokens.


@pytest.mark.parametrize(
    "value",
    [
        "{{ url }}",
        "https://shop.example/{{id}}",
        "https://shop.example/?u=%7B%7Bid%7D%7D",
        "{% url 'x' %}",
        "https://shop.example/{% if a %}b{% endif %}",
        "*|UNSUB|*",
        "https://shop.example/*|ID|*",
        "https://shop.example/?e=*%7CEMAIL%7C*",
        "{url}",
        "{host}/a",
        "https://{host}/a",
        "https://{sub}.shop.example/",
        "{scheme}://shop.example/",
        "%recipient.url%",
        "https://shop.example/?e=%recipient.email%",
        "https://shop.example/%recipient_id%",
        "[unsubscribe]",
        "[[link]]",
        "https://shop.example/[id]",
        "https://shop.example/?e=[Email Address]&a=1",
        "https://[host]/",
        "<%= url %>",
        "${url}",
        "https://shop.example/${id}",
        "%%view_url%%",
    ],
)
def test_rule_06_template_tokens(value: str) -> None:
    assert reasons(untouched(f'<a href="{value}">x</a>')) == [(value, TEMPLATE)]


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/?a[]=1&b[c]=2&d[e][f]=3",
        "https://shop.example/%20a%AB%CDe%",
        "https://shop.example/?p=100%25&q=5%25",
        "https://shop.example/a*b|c",
        "https://[2001:db8::1]/",
        "https://shop.example/?j=%7B%22a%22%3A1%7D",
        "https://shop.example/$5",
    ],
)
def test_rule_06_what_only_looks_like_one(url: str) -> None:
    assert [one.url for one in bare(f'<a href="{url}">x</a>')[1].tracked] == [url]


def test_rule_06_braces_in_a_path_are_no_token() -> None:
    _, report = bare('<a href="https://shop.example/{id}?x={y}">x</a>')
    assert report.tracked[0].url == "https://shop.example/%7Bid%7D?x={y}"


# Rule 7: opting out.


@pytest.mark.parametrize(
    "attribute",
    [
        "data-pm-no-track",
        'data-pm-no-track=""',
        "ses:no-track",
        "SES:NO-TRACK",
        'clicktracking="off"',
        "clicktracking=OFF",
        'disable-tracking="true"',
        "disable-tracking=true",
        'data-msys-clicktrack="0"',
        'mc:disable-tracking=""',
        "mautic:disable-tracking",
        'mautic:disable-tracking="true"',
        'class="untracked"',
        'class="button untracked  big"',
        "data-skip-click",
    ],
)
def test_rule_07_opting_out_as_elsewhere_stays(attribute: str) -> None:
    for html in (f'<a {attribute} href="{URL}">x</a>', f'<a href="{URL}" {attribute}>x</a>'):
        assert reasons(untouched(html)) == [(URL, OPTED_OUT)]


@pytest.mark.parametrize(
    "attribute_",
    [
        'clicktracking="on"',
        "disable-tracking=false",
        "data-msys-clicktrack=1",
        'class="untracked-no"',
    ],
)
def test_rule_07_other_values_do_not(attribute_: str) -> None:
    html = f'<a {attribute_} href="{URL}">x</a>'
    becomes(html, html.replace(URL, attribute(URL, "x")))


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<a data-lb-no-track href="{}">', '<a href="{}">'),
        ('<a href="{}" data-lb-no-track>', '<a href="{}">'),
        ('<a href="{}"\r\n   DATA-LB-No-Track = "yes">', '<a href="{}">'),
        ("<a data-lb-no-track='' id=b\nhref={}>", "<a id=b\nhref={}>"),
        ('<a href="{}" data-lb-no-track data-lb-no-track=1>', '<a href="{}">'),
        ('<a id="b"data-lb-no-track="1"href="{}">', '<a id="b"href="{}">'),
        ('<a data-lb-no-track="1"href="{}">', '<a href="{}">'),
        ("<a href={} data-lb-no-track/>", "<a href={} />"),
        ('<a/data-lb-no-track/href="{}">', '<a//href="{}">'),
        ('<area data-lb-no-track href="{}">', '<area href="{}">'),
        (
            '<!--[if mso]><v:rect data-lb-no-track href="{}"><![endif]-->',
            '<!--[if mso]><v:rect href="{}"><![endif]-->',
        ),
    ],
)
def test_rule_07_our_own_is_taken_out(html: str, expected: str) -> None:
    report = becomes(html.format(URL), expected.format(URL))
    assert reasons(report) == [(URL, OPTED_OUT)]


def test_rule_07_our_own_is_taken_out_of_any_link() -> None:
    becomes('<a data-lb-no-track href="mailto:a@b.example">', '<a href="mailto:a@b.example">')
    becomes("<a data-lb-no-track name=x>", "<a name=x>")
    untouched("<p data-lb-no-track>")


def test_rule_07_what_opted_out_is_known_to_the_text_part() -> None:
    html = f'<a data-pm-no-track href=" {URL}?a=1&amp;b ">x</a><a href="{URL}">y</a>'
    assert bare(html)[1].opted_out() == {f"{URL}?a=1&b"}


# Rule 8: unsubscribe links, our own host, the length limit.


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/unsubscribe",
        "https://shop.example/a?x=Unsubscribe",
        "https://shop.example/optout/7",
        "https://shop.example/OPT-OUT",
        "https://preferences.shop.example/",
    ],
)
def test_rule_08_unsubscribing_is_left_alone_unless_asked(url: str) -> None:
    html = f'<a href="{url}">x</a>'
    assert reasons(untouched(html)) == [(url, UNSUBSCRIBE)]
    becomes(html, html.replace(url, attribute(url, "x")), BARE._replace(unsubscribe_too=True))


@pytest.mark.parametrize(
    "url",
    [HOST, f"{HOST}acme/l/1/x", "http://t.example/", "HTTPS://T.example/a", "https://t.example?x"],
)
def test_rule_08_our_own_host(url: str) -> None:
    assert [one.reason for one in untouched(f'<a href="{url}">x</a>').skipped] == [OWN]


@pytest.mark.parametrize(
    "url",
    [
        "https://t.example.evil.example/",
        "https://x.t.example/",
        "https://a.example/?u=https://t.example/",
    ],
)
def test_rule_08_not_our_own_host(url: str) -> None:
    assert [one.url for one in bare(f'<a href="{url}">x</a>')[1].tracked] == [url]


@pytest.mark.parametrize("own", ["https://shop.example/bell", "https://SHOP.example/bell/"])
def test_rule_08_our_own_place_on_a_host_of_others(own: str) -> None:
    addresses = ADDRESSES._replace(own=(own,))
    for url in ("https://shop.example/bell/x", "https://shop.example/bell"):
        assert rewrite_html(f"<a href={url}>", addresses, BARE)[1].skipped[0].reason == OWN
    for url in ("https://shop.example/bells", "https://shop.example/"):
        assert rewrite_html(f"<a href={url}>", addresses, BARE)[1].tracked[0].url == url


def test_rule_08_length() -> None:
    longest = URL + "a" * (2048 - len(URL))
    umlauts = URL + "\u00fc" * 1000  # six characters each, once it is canonical
    assert bare(f'<a href="{longest}">')[1].tracked[0].url == longest
    for html in (
        f'<a href="{longest}a">',
        f'<a href="{longest * 10}">',
        f'<a href="{umlauts}">',
    ):
        assert [one.reason for one in untouched(html).skipped] == [TOO_LONG]


def test_rule_08_what_the_caller_refuses_is_skipped_alone() -> None:
    def refuse(url: str, label: str, part: str) -> str:
        if "bad" in url:
            raise Refused(400, "links may not lead to that host", "url")
        return track(url, label, part)

    html = f'<a href="https://bad.example/">x</a><a href="{URL}">y</a>'
    got, report = rewrite_html(html, ADDRESSES._replace(link=refuse), BARE)
    assert got == html.replace(URL, attribute(URL, "y"))
    assert reasons(report) == [("https://bad.example/", REFUSED)]
    assert report.problems == ["links may not lead to that host: https://bad.example/"]


# Rule 9: what is not read.


@pytest.mark.parametrize(
    "form",
    [
        "<script>{}</script>",
        "<SCRIPT>{}</Script>",
        "<style>{}</style>",
        "<textarea>{}</textarea>",
        "<title>{}</title>",
        "<xmp>{}</xmp>",
        "<template>{}</template>",
        "<template><template></template>{}</template>",
        "<iframe>{}</iframe>",
        "<noembed>{}</noembed>",
        "<noframes>{}</noframes>",
        "<plaintext>{}",
        "<!-- {} -->",
        "<!--{}--!>",
        "<!-- if mso {} -->",
        "<!--x[if mso]>{}<![endif]-->",
        "<svg><![CDATA[ > {} ]]></svg>",
        "<script>{}",
        "<!-- {}",
        "<title>x</ title>{}",
        '<p title="{}">',
        "<template><!--[if mso]>{}<![endif]--></template>",
        "<script><!--[if mso]>{}<![endif]--></script>",
    ],
)
def test_rule_09_not_inside(form: str) -> None:
    html = form.format(f"<a href='{URL}'>x</a>")
    assert untouched(html).skipped == []
    if "</" in form.replace("</ ", ""):
        behind = f'{html}<a href="{URL}">z</a>'
        becomes(behind, f'{html}<a href="{attribute(URL, "z")}">z</a>')


def test_rule_09_mail_clients_run_no_scripts() -> None:
    link = f'<a href="{URL}">x</a>'
    html = f"<noscript><p>{link}<!--[if mso]>{link}<![endif]--></noscript>"
    becomes(html, html.replace(URL, attribute(URL, "x")))


def test_rule_09_a_script_among_what_is_for_those_who_run_none() -> None:
    html = f'<noscript><script></noscript><a href="{URL}"></script><a href="{URL}">x</a>'
    head, _, tail = html.rpartition(URL)
    becomes(html, head + attribute(URL, "x") + tail)


def test_rule_09_the_word_within_an_address() -> None:
    url = f"{URL}?<noscript>&<NOSCRIPT"
    canonical = f"{URL}?%3Cnoscript%3E&%3CNOSCRIPT"
    becomes(f'<a href="{url}">x</a>', f'<a href="{attribute(canonical, "x")}">x</a>')


@pytest.mark.parametrize("opening", ["<!-->", "<!--->", "<!>", "<?x>", "</>", "<![CDATA[>", "<!x>"])
def test_rule_09_comments_end_where_browsers_end_them(opening: str) -> None:
    html = f'{opening}<a href="{URL}">x</a>-->'
    becomes(html, html.replace(URL, attribute(URL, "x")))


# Rule 10: one pixel.


@pytest.mark.parametrize(
    "html",
    [
        "<html><body><p>x</p>|</body></html>",
        "<html><body>x|</BODY ></html>",
        "<body>x</body>y|</body></html>z",
        "<body>x|</body><!-- </body> --></html>",
        "<body>x|</body><script></body></script><textarea></body></textarea>",
        "<body>x|</body><template></body></template><!--[if mso]></body><![endif]-->",
        "<body>x<!-- </body> --><p>y|</html>",
        "<p>x|",
        "x\r\n|",
        "|",
        "<p>\U0001f514\r\n\0x|</body>\r\n",
        "<p>x<!-- y -->|",
        "<p>x<script></script>|",
    ],
)
def test_rule_10_its_place_at_the_bottom(html: str) -> None:
    got, report = rewrite_html(html.replace("|", ""), ADDRESSES, Options())
    assert got == html.replace("|", IMG)
    assert report.problems == []


def test_rule_10_its_form() -> None:
    addresses = ADDRESSES._replace(pixel=f'{HOST}?a&b"c')
    got, _ = rewrite_html("x", addresses, Options())
    assert got == f'x<img src="{HOST}?a&amp;b&quot;c" width="1" height="1" alt="" />'


@pytest.mark.parametrize(
    "html",
    [
        "<!-- x",
        "<textarea>x",
        "<p",
        '<a href="',
        "<title>",
        "<template>x",
        "<plaintext>x",
        "x</",
        "x<",
    ],
)
def test_rule_10_no_pixel_where_it_would_be_text(html: str) -> None:
    got, report = rewrite_html(html, ADDRESSES, Options())
    if html.endswith("x<"):  # this is text, and what follows a tag
        assert got == html + IMG
    else:
        assert got is html
        assert len(report.problems) == 1


@pytest.mark.parametrize(
    "html",
    [
        "<html><head><title>t</title></head><body class=a>|<p>x</body>",
        "<body>|\n  <p>x",
        '<body><div style="display: none">a<div>b</div></div>|<p>x</p></body>',
        '<body>\n<!-- c --><span class="preheader">a</span>|<p>x</p></body>',
        '<body><div style="max-height:0px">a</div><div style="opacity:0">b</div>| x</body>',
        '<body>|<div style="opacity:0.9">a</div></body>',
        '<body>|<div style="font-size:0px">a</div></body>',
        "<!doctype html><meta charset=utf-8><title>t</title><style>a</style>|<p>x",
        "|x",
        "\r\n|<p>x",
        '<div style="display:none">a</div>|x',
        '<body>|<div style="display:none">a',
        '<body>|<img style="display:none">x',
        "<template>a</body></template>|<p>x",
        "<body>|",
        "|",
    ],
)
def test_rule_10_its_place_at_the_top(html: str) -> None:
    got, _ = rewrite_html(html.replace("|", ""), ADDRESSES, Options(pixel="top"))
    assert got == html.replace("|", IMG)


@pytest.mark.parametrize(
    "placeholder", ["[[pixel]]", "<!-- pixel -->", "<lb-pixel></lb-pixel>", "&#9;"]
)
def test_rule_10_a_placeholder(placeholder: str) -> None:
    hole = f'<a title="{placeholder}" href="{URL}">x</a><script>{placeholder}</script>'
    kept = (
        f'<a title="{placeholder}" href="{attribute(URL, "x")}">x</a><script>{placeholder}</script>'
    )
    html = f"{hole}<p>\r\na{placeholder}b{placeholder}</body>"
    for place in ("bottom", "top"):
        options = Options(pixel=place, placeholder=placeholder)
        got, report = rewrite_html(html, ADDRESSES, options)
        assert got == f"{kept}<p>\r\na{IMG}b</body>"
        assert report.problems == []
    becomes(html, f"{kept}<p>\r\nab</body>", BARE._replace(placeholder=placeholder))


def test_rule_10_a_placeholder_that_is_missing() -> None:
    got, report = rewrite_html("<p>x</body>", ADDRESSES, Options(placeholder="[[pixel]]"))
    assert got == f"<p>x{IMG}</body>"
    assert report.problems == ["the placeholder of the pixel was not found"]


@pytest.mark.parametrize(
    "src",
    [
        f"{HOST}acme/o/7/AbCdEfGh.gif",
        f"{HOST}acme/pixel/7.gif",
        f"{HOST}acme/pixel/7",
        f"{HOST}other/pixel/7?x=1&amp;y",
        "http://t.example/acme/pixel/7.gif",
        f"https://proxy.example/a=s0#{HOST}acme/o/7/AbC.gif",
    ],
)
def test_rule_10_older_pixels_go(src: str) -> None:
    quoted = '<blockquote>a{}b</blockquote><IMG SRC="https://shop.example/pixel/7.gif">'
    old = f'<img alt=""\r\nsrc="{src}" width=1>'
    becomes(quoted.format(old), quoted.format(""))
    got, _ = rewrite_html(quoted.format(old), ADDRESSES, Options())
    assert got == quoted.format("") + IMG


@pytest.mark.parametrize(
    "src",
    [f"{HOST}logo.png", f"{HOST}acme/pixel/x.gif", "https://a.example/o/1/x.gif", f"{HOST}pixel"],
)
def test_rule_10_other_images_stay(src: str) -> None:
    untouched(f'<img src="{src}"><!-- <img src="{PIXEL}"> -->')


def test_rule_10_one_that_has_this_pixel_has_been_here() -> None:
    html = f'<a data-lb-no-track href="{URL}">x</a><img src="{PIXEL}">'
    got, report = rewrite_html(html, ADDRESSES, Options())
    assert got is html
    assert report.problems == ["the HTML holds this pixel already, and was left as it is"]


# Rule 11: texts that are addresses themselves.

ADDRESSES_IN_SIGHT = [
    "https://shop.example/",
    "HTTP://other.example/a",
    "www.shop.example",
    "shop.example",
    "Shop.Example/books",
    " <b>https://shop</b>.example&#8203; ",
]


@pytest.mark.parametrize("text", ADDRESSES_IN_SIGHT)
def test_rule_11_a_text_that_is_an_address_is_reported_or_skipped(text: str) -> None:
    html = f'<a href="https://www.shop.example/a">{text}</a>'
    got, report = bare(html)
    assert got != html
    assert len(report.problems) == 1
    assert "address itself" in report.problems[0]
    report = untouched(html, BARE._replace(skip_visible_urls=True))
    assert reasons(report) == [("https://www.shop.example/a", VISIBLE)]
    assert report.problems == []


@pytest.mark.parametrize(
    "text",
    [
        "Node.js",
        "report.pdf",
        "other.example",
        "Read more",
        "See https://shop.example/",
        "...",
        "",
        "a@shop.example",
    ],
)
def test_rule_11_other_texts(text: str) -> None:
    html = f'<a href="https://www.shop.example/a">{text}</a>'
    _, report = bare(html, BARE._replace(skip_visible_urls=True))
    assert (len(report.tracked), report.problems) == (1, [])


# Rule 12: the report; labels.


@pytest.mark.parametrize(
    ("inner", "label"),
    [
        ("Buy", "Buy"),
        ("  Buy\r\n\t <b>n</b>ow&nbsp;&amp;&nbsp;here ", "Buy now & here"),
        ("one<br>two<p>three</p>four", "one two three four"),
        ('<img alt="Logo" src=a>', "Logo"),
        ('<img alt="" src=a> <img alt=" The  shop " src=b>', "The shop"),
        ('<img alt="Logo" src=a>Home', "Home"),
        ("", ""),
        ("\u200b\u00ad\ufeffZero\u200c", "Zero"),
        ("a\ud800b\0c", "a\ufffdb c"),
        ("<style>x</style><!-- y -->z<script>w</script>", "z"),
        ("x" * 63 + " yz", "x" * 63),
        ("\U0001f514" * 100, "\U0001f514" * 63),  # 255 bytes, as many as a link holds
        ("a < b", "a < b"),
        ("a\x01b\x7fc\x80d", "a b c d"),  # a link holds no controls
    ],
)
def test_rule_12_a_label_is_what_is_seen(inner: str, label: str) -> None:
    _, report = bare(f'<a href="{URL}">{inner}</a> and more')
    assert report.tracked == [Tracked(URL, track(URL, label), label, "html")]


def test_rule_12_an_area_is_called_by_its_alternative_text() -> None:
    _, report = bare(f'<area href="{URL}" alt=" The map ">x')
    assert report.tracked[0].label == "The map"


def test_rule_12_a_link_ends_where_the_next_begins() -> None:
    _, report = bare(f'<a href="{URL}1">one <a href="{URL}2">two</a> three')
    assert [one.label for one in report.tracked] == ["one", "two"]


def test_rule_12_the_report_has_everything_in_its_order() -> None:
    html = (
        f'<a href="#a">x</a><a href="{URL}1">one</a><a href="{URL}unsubscribe">y</a>'
        f'<area href="mailto:a@b.example"><a href="{URL}2">two</a><a name=z>'
    )
    _, report = rewrite_html(html, ADDRESSES, BARE, "part 2")
    assert report.as_dict() == {
        "tracked": [
            {
                "url": f"{URL}{n}",
                "tracked_url": track(f"{URL}{n}", label, "part 2"),
                "label": label,
                "part": "part 2",
            }
            for n, label in ((1, "one"), (2, "two"))
        ],
        "skipped": [
            {"url": "#a", "reason": RELATIVE, "part": "part 2"},
            {"url": f"{URL}unsubscribe", "reason": UNSUBSCRIBE, "part": "part 2"},
            {"url": "mailto:a@b.example", "reason": NOT_HTTP, "part": "part 2"},
        ],
        "problems": [],
    }


def test_rule_12_reports_are_added_up() -> None:
    one, other = bare(f'<a href="{URL}">a</a>')[1], bare('<a href="#">a</a>')[1]
    other.problems.append("p")
    one.add(other)
    assert (len(one.tracked), one.skipped, one.problems) == (
        1,
        [Skipped("#", RELATIVE, "html")],
        ["p"],
    )


def test_rule_12_each_reason_is_explained() -> None:
    import little_bell.mail.report as words

    said = {
        value for name, value in vars(words).items() if name.isupper() and isinstance(value, str)
    }
    assert said - {"bottom", "top", "none"} == set(REASONS)


# Rule 13: whatever fails.


def test_rule_13_a_failure_leaves_the_original_and_is_reported() -> None:
    def fail(url: str, label: str, part: str) -> str:
        raise RuntimeError("no key")

    html = f'<a href="{URL}">x</a>'
    got, report = rewrite_html(html, ADDRESSES._replace(link=fail), Options())
    assert got is html
    assert (report.tracked, report.skipped) == ([], [])
    assert report.problems == ["the HTML was left as it is: RuntimeError: no key"]


def test_rule_13_a_placeholder_that_swallows_a_link() -> None:
    html = f'<p><a href="{URL}">x</a></p>'
    got, report = rewrite_html(html, ADDRESSES, Options(placeholder=html))
    assert got is html
    assert len(report.problems) == 1


# Rule 18: links have their path, once for each URL and label.


def test_rule_18_the_same_link_twice_has_the_same_address() -> None:
    asked: list[tuple[str, str, str]] = []

    def make(url: str, label: str, part: str) -> str:
        asked.append((url, label, part))
        return f"{HOST}{len(asked)}"

    html = f'<a href="{URL}">a</a><a href=" {URL} ">a</a><a href="{URL}">b</a>'
    got, _ = rewrite_html(html, Addresses(make, PIXEL, (HOST,)), BARE)
    assert asked == [(URL, "a", "html"), (URL, "b", "html")]
    assert got == f'<a href="{HOST}1">a</a><a href="{HOST}1">a</a><a href="{HOST}2">b</a>'
