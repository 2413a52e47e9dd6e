"""Two months of a small bookshop's mail, written through the store: for screenshots and browsers.

Everybody in it is invented; addresses are example.com's (RFC 2606).
"""

import json
import random
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bell import BROWSER
from little_bell.store.database import migrate, open_writer
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit

TENANT = "lantern-books"
SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {WEBKIT}"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
OUTLOOK = "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0"
MAC_MAIL = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
)
PRIVACY = "Mozilla/5.0"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
SAFARI = f"{IPHONE} Version/17.5 Mobile/15E148 Safari/604.1"
PIXEL_PHONE = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Mobile Safari/537.36"
)
SCANNER = f"{WINDOWS}Chrome/118.0.0.0 Safari/537.36"

# (mail client, browser of its clicks, weight)
READERS = (
    (GMAIL, PIXEL_PHONE, 30),
    (GMAIL, BROWSER, 14),
    (PRIVACY, SAFARI, 22),
    (IPHONE, SAFARI, 9),
    (OUTLOOK, BROWSER, 11),
    (MAC_MAIL, SAFARI, 6),
    (YAHOO, BROWSER, 5),
    (THUNDERBIRD, FIREFOX, 3),
)
FIRST = [
    "wren",
    "finch",
    "robin",
    "heron",
    "plover",
    "merlin",
    "siskin",
    "avocet",
    "linnet",
    "dunlin",
    "teal",
    "martin",
]
LAST = [
    "alder",
    "rowan",
    "hazel",
    "birch",
    "aspen",
    "maple",
    "willow",
    "larch",
    "cedar",
    "elder",
    "hawthorn",
    "juniper",
]
SHOP = "https://books.example.com"
NEWS = (f"{SHOP}/new", f"{SHOP}/essays/why-we-reread", f"{SHOP}/events", f"{SHOP}/gift-cards")


class Sending(NamedTuple):
    """A campaign: when it went out (days before now, hour), to how many, with which links."""

    campaign: str
    subject: str
    days: float
    people: int
    links: tuple[str, ...]
    likes: float  # share of those who open


SENDINGS = (
    Sending("September letter", "Books for the first cold evenings", 56.3, 520, NEWS, 0.44),
    Sending("Signed copies", "Forty signed copies, one evening", 45.2, 260, NEWS[:2], 0.52),
    Sending("October letter", "What we read in the dark of October", 27.3, 560, NEWS, 0.47),
    Sending("Autumn sale", "Three days, a third off the shelves", 18.4, 610, NEWS[:1], 0.39),
    Sending("Night of poems", "You are invited: a night of poems", 11.2, 340, NEWS[2:3], 0.58),
    Sending("November letter", "Long books for short days", 4.3, 590, NEWS, 0.45),
)
DAILY = (
    ("Orders", "Your order is on its way", f"{SHOP}/orders/track", 0.72),
    ("Welcome", "Welcome to the lantern", f"{SHOP}/welcome", 0.6),
)


class Mail(NamedTuple):
    """An email that goes out, and what becomes of it."""

    at: int
    email: NewEmail
    links: tuple[str, ...]
    likes: float


def mails(now: int, chance: random.Random) -> list[Mail]:
    """All that is sent, by time."""
    found = []
    for one in SENDINGS:
        at = now - int(one.days * DAY)
        metadata = json.dumps({"edition": one.campaign.split()[0].lower(), "list": "letters"})
        for n in range(one.people):
            email = NewEmail(TENANT, one.subject, reader(chance), one.campaign, metadata)
            found.append(Mail(at + n * 400, email, one.links, one.likes))
    for day in range(60, -1, -1):
        for campaign, subject, link, likes in DAILY:
            for _ in range(chance.randint(2, 9)):
                at = now - day * DAY - int(chance.random() * 14 * HOUR)
                number = chance.randint(10_000, 99_999)
                email = NewEmail(
                    TENANT, subject, reader(chance), campaign, json.dumps({"order": str(number)})
                )
                found.append(Mail(at, email, (link,), likes))
    return sorted(found, key=lambda mail: mail.at)


def reader(chance: random.Random) -> str:
    return f"{chance.choice(FIRST)}.{chance.choice(LAST)}@example.com"


def later(at: int, chance: random.Random) -> int:
    """When somebody looks: within hours mostly, by day rather than by night."""
    while True:
        then = at + 40 * SECOND + int(chance.expovariate(1 / (9 * HOUR)))
        if 6 <= then // HOUR % 24 < 22 or chance.random() < 0.12:
            return then


def hits(sent: list[Mail], now: int, chance: random.Random) -> list[Hit]:
    """All that is opened and followed, by time."""
    found = []
    for number, mail in enumerate(sent, 1):
        client, browser, _ = chance.choices(READERS, [one[2] for one in READERS])[0]
        source = bytes((198, 51, chance.randint(90, 110)))
        if client == PRIVACY:  # fetched ahead, read or not
            at = mail.at + chance.randint(20, 5000) * SECOND
            found.append(Hit(1, number, OPEN, at, 0, client, bytes((203, 0, 113)), None))
        elif chance.random() < mail.likes:
            at = later(mail.at, chance)
            for _ in range(chance.choice((1, 1, 1, 2, 2, 3))):
                found.append(Hit(1, number, OPEN, at, 0, client, source, None))
                at += int(chance.expovariate(1 / DAY)) + 5 * SECOND
        if chance.random() < mail.likes / 4:
            at = later(mail.at, chance)
            link = chance.choices(mail.links, range(len(mail.links) * 2, len(mail.links), -1))[0]
            found.append(Hit(1, number, CLICK, at, 0, browser, source, link))
        if len(mail.links) > 2 and chance.random() < 0.04:  # a scanner follows all at once
            at = mail.at + 3 * SECOND
            for n, link in enumerate(mail.links):
                found.append(
                    Hit(1, number, CLICK, at + n * 300, 0, SCANNER, bytes((192, 0, 2)), link)
                )
    return sorted((hit for hit in found if hit.at < now), key=lambda hit: hit.at)


def fill(path: Path, now: int) -> int:
    """Write a new database; returns how many emails it has."""
    chance = random.Random(7)
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = open_writer(str(path))
    migrate(connection)
    connection.close()
    sent = mails(now, chance)
    writer = Writer(str(path))
    try:
        for at, together in groupby(sent, key=lambda mail: mail.at):
            writer.write(at, [mail.email for mail in together], [])
        for _, hour in groupby(hits(sent, now, chance), key=lambda hit: hit.at // HOUR):
            some = list(hour)
            writer.write(some[0].at, [], some)
    finally:
        writer.close()
    return len(sent)
