"""How long rewriting takes: a newsletter of 100 kB with 200 links, signatures and all."""

from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from time import process_time

from bench.budgets import REWRITING
from bench.results import Row, Section
from bench.run import Run

SIZE = 100_000  # bytes
LINKS = 200
OFTEN = 21  # times each, of which the first warms up

HEAD = """<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
 "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml">
<head><meta http-equiv="Content-Type" content="text/html; charset=utf-8" /><title>Spring</title>
<!--[if mso]><style>table {border-collapse:collapse;}</style><![endif]-->
<style type="text/css">@media only screen and (max-width:480px){.col{width:100%!important}}</style>
</head><body style="margin:0;padding:0;background-color:#f4f4f4">
<div style="display:none;max-height:0">What is new this week&nbsp;&zwnj;&nbsp;&zwnj;</div>
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0">
"""
ITEM = """<tr><td class="col" align="left" style="padding:10px 20px;font-family:Arial,sans-serif">
<a href="https://shop.example/items/{n}?utm_source=mail&amp;utm_campaign=spring&amp;id={n}" \
target="_blank" style="color:#1a73e8;text-decoration:none"><img src="https://img.example/{n}.png" \
width="260" alt="Item {n}" style="display:block;border:0" /></a>
<p style="margin:0 0 10px 0;font-size:14px;line-height:20px">{words}</p>
<!--[if mso]><v:roundrect href="https://shop.example/buy/{n}?a=1&amp;b=2" arcsize="8%">\
<center>Buy</center></v:roundrect><![endif]-->
<![if !mso]><a href="https://shop.example/buy/{n}?a=1&amp;b=2" class="button">Buy</a><![endif]>
</td></tr>
"""
WORDS = "Caf\u00e9 tables &amp; chairs that last for longer than the summer does. "
FOOT = "</table></body></html>\n"


def newsletter(size: int = SIZE, links: int = LINKS) -> str:
    """HTML of so many bytes, with so many links, roughly: three an item, one of them the twin of
    another, for Outlook."""
    items = round(links / 3)
    room = (size - len(HEAD) - len(FOOT)) // items - len(ITEM) - 8
    words = (WORDS * (room // len(WORDS) + 1))[: max(0, room)].rpartition(" ")[0]
    return HEAD + "".join(ITEM.format(n=1000 + n, words=words) for n in range(items)) + FOOT


def as_message(html: str) -> bytes:
    """The same as it would be sent: quoted-printable, beside a text."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = "Spring"
    message["From"], message["To"] = "shop@example.com", "ada@example.com"
    message.set_content("Spring is here.\n")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message.as_bytes()


def timed(work: Callable[[], object]) -> list[float]:
    """Milliseconds of processor time, each time."""
    took = []
    for _ in range(OFTEN):
        start = process_time()
        work()
        took.append((process_time() - start) * 1000)
    return took[1:]


def measure(run: Run) -> Section:
    """In this process, as a thread of the slow lane would do it."""
    from little_bell.mail.html import rewrite_html
    from little_bell.mail.mime import rewrite_message
    from little_bell.mail.report import Options
    from little_bell.mail.rewriting import Recipe
    from little_bell.tracking.signing import Keyring

    html = newsletter()
    message = as_message(html)
    addresses = Recipe("https://t.example", Keyring([b"k" * 32]), "acme", 7, None).addresses()
    _, report = rewrite_html(html, addresses, Options())
    run.say(f"{len(html):,} characters, {len(report.tracked)} links")
    what = f"HTML of {len(html) // 1000} kB, {len(report.tracked)} links"
    rows = [
        Row(what, "ms", timed(lambda: rewrite_html(html, addresses, Options())), REWRITING),
        Row(
            f"the same as a message, {len(message) // 1000} kB of quoted-printable",
            "ms",
            timed(lambda: rewrite_message(message, addresses, Options())),
        ),
    ]
    notes = ["Processor time of one thread; a third of the links are twins for Outlook."]
    return Section("Rewriting", notes, rows)
