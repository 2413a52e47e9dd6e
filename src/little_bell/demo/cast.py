"""Who sends what to whom: three invented senders, their mail, and how their readers read. Data."""

from typing import NamedTuple

WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROMIUM = "AppleWebKit/537.36 (KHTML, like Gecko)"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROMIUM}"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {WEBKIT}"

# Mail clients, as they fetch a pixel.
APPLE_PRIVACY = "Mozilla/5.0"
APPLE_PHONE = f"{IPHONE} Mobile/15E148"
APPLE_MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT}"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
GMAIL_AHEAD = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROMIUM} "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
OUTLOOK = "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"
OUTLOOK_PHONE = "Outlook-iOS/723.4127091.prod.iphone (4.2405.0)"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0"
SAMSUNG = "SamsungEmail/6.1.90"
NOT_KNOWN = "Barca/2.8.4100"  # no rule knows it

# Browsers, as they follow a link.
CHROME = f"{WINDOWS} Chrome/138.0.0.0 Safari/537.36"
CHROME_PHONE = (
    f"Mozilla/5.0 (Linux; Android 10; K) {CHROMIUM} Chrome/138.0.0.0 Mobile Safari/537.36"
)
EDGE = f"{WINDOWS} Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0"
SAFARI = f"{APPLE_MAC} Version/18.5 Safari/605.1.15"
SAFARI_PHONE = f"{IPHONE} Version/18.5 Mobile/15E148 Safari/604.1"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

# Machines.
SCANNER = f"{WINDOWS} Chrome/118.0.0.0 Safari/537.36"  # calls itself a browser, and is none
FETCHER = "python-requests/2.32.3"
PREVIEW = "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"
CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


class Reader(NamedTuple):
    """A kind of reader: a mail client, the browser that it opens links in, how many have both."""

    client: str
    browser: str
    weight: int


class Audience(NamedTuple):
    """Readers of one sender: who they are by name, what they use, when they look."""

    address: str  # with {} for a number
    readers: tuple[Reader, ...]
    hours: tuple[int, ...]  # how likely somebody looks in each hour of the day, of 100
    weekend: float  # how likely on Saturday and Sunday, beside another day
    guarded: float  # whose mail goes through a scanner that follows its links


HOME_HOURS = (  # from midnight, twelve a line
    4, 2, 1, 1, 2, 8, 30, 62, 70, 58, 50, 48,
    60, 52, 44, 42, 48, 60, 72, 86, 100, 88, 52, 18,
)  # fmt: skip
WORK_HOURS = (  # from midnight, twelve a line
    1, 1, 1, 1, 1, 3, 12, 38, 84, 100, 96, 84,
    58, 70, 88, 82, 68, 44, 22, 14, 12, 10, 5, 2,
)  # fmt: skip

AT_HOME = (
    Reader(GMAIL, CHROME_PHONE, 26),
    Reader(GMAIL, CHROME, 12),
    Reader(APPLE_PRIVACY, SAFARI_PHONE, 22),
    Reader(APPLE_PHONE, SAFARI_PHONE, 11),
    Reader(APPLE_MAC, SAFARI, 6),
    Reader(YAHOO, CHROME, 7),
    Reader(OUTLOOK, EDGE, 6),
    Reader(SAMSUNG, CHROME_PHONE, 5),
    Reader(THUNDERBIRD, FIREFOX, 3),
    Reader(NOT_KNOWN, FIREFOX, 2),
)
AT_WORK = (
    Reader(OUTLOOK, EDGE, 38),
    Reader(OUTLOOK_PHONE, SAFARI_PHONE, 12),
    Reader(GMAIL, CHROME, 24),
    Reader(APPLE_MAC, SAFARI, 10),
    Reader(APPLE_PRIVACY, SAFARI, 8),
    Reader(THUNDERBIRD, FIREFOX, 6),
    Reader(NOT_KNOWN, CHROME, 2),
)


class Link(NamedTuple):
    """A link of an email: what it is called, where it leads, how much it is liked."""

    label: str
    url: str
    weight: int = 1


class Kind(NamedTuple):
    """What goes out under one campaign again and again: to how many a day, and how it does."""

    campaign: str
    subjects: tuple[str, ...]
    links: tuple[Link, ...]
    opened: float  # share of people
    followed: float  # share of people
    a_day: int = 0  # on a working day; where 0, all at once (see Letter)
    at_once: bool = False  # who gets it waits for it: opened within minutes
    key: str = "order"  # of its metadata


class Letter(NamedTuple):
    """One sending to a whole list: how many days ago, at which hour, to how many."""

    kind: Kind
    days: int
    hour: float
    people: int


class Sender(NamedTuple):
    """A tenant."""

    tenant: str
    about: str
    audience: Audience
    daily: tuple[Kind, ...]
    letters: tuple[Letter, ...]
    people: int  # who get its daily mail
    weekend: float  # how much goes out on Saturday and Sunday, beside another day


BOOKS = "https://books.example.com"
FRONT = Link("new books", f"{BOOKS}/new", 5)
ESSAY = Link("essay", f"{BOOKS}/essays/why-we-reread", 3)
EVENING = Link("evenings", f"{BOOKS}/evenings", 3)
GIFT = Link("gift cards", f"{BOOKS}/gift-cards", 1)
SIGNED = Link("signed copies", f"{BOOKS}/signed", 4)
SEAT = Link("book a seat", f"{BOOKS}/evenings/seats", 6)
ISSUE = (FRONT, ESSAY, EVENING, GIFT)


def letter(campaign: str, subject: str, opened: float, followed: float, *links: Link) -> Kind:
    return Kind(campaign, (subject,), links, opened, followed, key="edition")


# How many days ago, at which hour, to how many; then what.
LETTERS = (
    (
        60,
        17.2,
        150,
        letter("Reading circle", "The circle reads a thin book", 0.6, 0.2, SEAT, ESSAY),
    ),
    (58, 9.1, 330, letter("Letter 41", "What we read on trains", 0.43, 0.1, *ISSUE)),
    (52, 17.2, 180, letter("Signed copies", "Forty signed copies", 0.5, 0.16, SIGNED, EVENING)),
    (47, 9.1, 345, letter("Letter 42", "Small books, long walks", 0.44, 0.11, *ISSUE)),
    (
        42,
        18.0,
        210,
        letter("Night of poems", "Come to a night of poems", 0.55, 0.19, SEAT, EVENING),
    ),
    (38, 9.1, 350, letter("Letter 43", "Ten we could not put down", 0.46, 0.12, *ISSUE)),
    (
        33,
        7.5,
        365,
        letter("Half price", "Three days, half the price", 0.38, 0.15, FRONT, SIGNED, GIFT),
    ),
    (27, 17.2, 160, letter("Second circle", "The circle reads aloud", 0.61, 0.21, SEAT, ESSAY)),
    (25, 9.1, 370, letter("Letter 44", "The shelf by the window", 0.45, 0.12, *ISSUE)),
    (19, 18.0, 225, letter("Night of maps", "Come to a night of maps", 0.56, 0.2, SEAT, EVENING)),
    (16, 9.1, 385, letter("Letter 45", "Books to give away twice", 0.47, 0.13, *ISSUE)),
    (
        10,
        17.2,
        190,
        letter("Signed again", "Signed copies, once more", 0.52, 0.18, SIGNED, EVENING),
    ),
    (6, 9.1, 400, letter("Letter 46", "A short list of long books", 0.48, 0.13, *ISSUE)),
    (2, 18.0, 240, letter("Night of radio", "Come to a night of radio", 0.57, 0.21, SEAT, EVENING)),
)
SHOP = Sender(
    "shop",
    "a bookshop: letters to its readers, orders on their way",
    Audience("reader{}@example.com", AT_HOME, HOME_HOURS, 1.1, 0.035),
    (
        Kind(
            "Orders",
            ("Your order is on its way", "Your order is ready", "Thank you for your order"),
            (Link("track", f"{BOOKS}/orders/track", 6), Link("help", f"{BOOKS}/help")),
            0.74,
            0.34,
            24,
        ),
        Kind(
            "Back in stock",
            ("A book you asked for is here",),
            (Link("the book", f"{BOOKS}/shelf/asked-for", 5), FRONT),
            0.68,
            0.39,
            7,
        ),
        Kind(
            "Welcome",
            ("Welcome to the shop",),
            (Link("first shelf", f"{BOOKS}/welcome", 3), EVENING, GIFT),
            0.63,
            0.24,
            5,
        ),
    ),
    tuple(Letter(kind, days, hour, people) for days, hour, people, kind in LETTERS),
    400,
    0.8,
)

BOARD = "https://boards.example.org"
APP = Sender(
    "app",
    "an app: sign-ins, comments, receipts, a summary each week",
    Audience("user{}@example.org", (*AT_WORK, *AT_HOME), WORK_HOURS, 0.35, 0.08),
    (
        Kind(
            "Sign-in",
            ("Your sign-in link",),
            (Link("sign in", f"{BOARD}/sign-in"),),
            0.9,
            0.86,
            17,
            True,
            "region",
        ),
        Kind(
            "Comments",
            ("A new comment on your board", "You were mentioned on a board"),
            (Link("read it", f"{BOARD}/inbox", 5), Link("settings", f"{BOARD}/settings")),
            0.58,
            0.31,
            19,
            key="board",
        ),
        Kind(
            "Receipts",
            ("Receipt for this month",),
            (Link("receipt", f"{BOARD}/receipts"),),
            0.52,
            0.12,
            7,
            key="plan",
        ),
        Kind(
            "Welcome",
            ("Your first board, in three steps",),
            (
                Link("start", f"{BOARD}/start", 5),
                Link("invite", f"{BOARD}/invite", 2),
                Link("guide", f"{BOARD}/guide", 2),
            ),
            0.66,
            0.42,
            5,
            key="plan",
        ),
    ),
    tuple(
        Letter(
            Kind(
                "Weekly summary",
                ("Your week on the boards",),
                (
                    Link("open boards", f"{BOARD}/inbox", 4),
                    Link("calmer mail", f"{BOARD}/settings"),
                ),
                0.39,
                0.09,
                key="plan",
            ),
            days,
            8.0,
            people,
        )
        for days, people in (
            (57, 118),
            (50, 121),
            (43, 128),
            (36, 131),
            (29, 139),
            (22, 146),
            (15, 150),
            (8, 158),
            (1, 163),
        )
    ),
    340,
    0.45,
)

WORK = "https://studio.example.net"
STUDIO = Sender(
    "studio",
    "a small team that writes to people one by one",
    Audience("desk{}@example.net", AT_WORK, WORK_HOURS, 0.12, 0.24),
    (
        Kind(
            "First note",
            (
                "A thought on your shop window",
                "Two ideas for your next catalogue",
                "Your signs, seen from the street",
            ),
            (Link("our work", f"{WORK}/work", 4), Link("a call", f"{WORK}/call", 1)),
            0.46,
            0.12,
            15,
            key="by",
        ),
        Kind(
            "Follow-up",
            ("Once more about your shop window", "Was this of use?"),
            (Link("a call", f"{WORK}/call", 3), Link("our work", f"{WORK}/work", 2)),
            0.37,
            0.1,
            8,
            key="by",
        ),
        Kind(
            "Proposals",
            ("Our proposal, as we said on the phone",),
            (
                Link("proposal", f"{WORK}/proposals/draft", 6),
                Link("prices", f"{WORK}/prices", 3),
                Link("our work", f"{WORK}/work", 2),
            ),
            0.91,
            0.62,
            3,
            key="by",
        ),
    ),
    (),
    420,
    0.0,
)

SENDERS = (SHOP, APP, STUDIO)
NOTES = {  # values of metadata by their keys
    "order": ("web", "counter", "telephone"),
    "edition": ("letters",),
    "region": ("north", "south", "west"),
    "board": ("garden", "kitchen", "harbour", "attic"),
    "plan": ("free", "team", "house"),
    "by": ("front desk", "workshop"),
}
