"""The rules that tell people from machines, as data.

Order matters: the first rule that matches a user agent decides. A change here is a new VERSION;
what is stored keeps the version it was judged by and can be judged again.

Sources: Apple's Mail Privacy Protection and Google's and Yahoo's image proxies as seen in the
wild (user agents below are theirs), RFC 9110 section 10.1.5 for declared robots.
"""

from typing import NamedTuple

VERSION = 1

HUMAN, PROXY, MACHINE, UNKNOWN = range(4)
CLASSES = ("human", "proxy", "machine", "unknown")

# Stable codes: position is the bit that is stored, so append only. The text is for people.
REASONS = (
    ("browser", "the user agent is a browser's"),
    ("gmail-proxy", "Gmail's image proxy fetched it because a person opened the message"),
    ("apple-mpp", "Apple Mail Privacy Protection fetched it ahead; nobody need have read it"),
    ("apple-mail", "the user agent is Apple Mail's"),
    ("outlook", "the user agent is Microsoft Outlook's"),
    ("yahoo-proxy", "Yahoo's image proxy fetched it because a person opened the message"),
    ("mail-client", "the user agent is a mail client's"),
    ("unrecognised", "neither a known browser or mail client nor a known machine"),
    ("http-library", "the user agent is an HTTP library's or a command line tool's"),
    ("gmail-prefetch", "Gmail fetched it at delivery"),
    ("crawler", "the user agent declares a robot"),
    ("link-preview", "a service fetched it to show a preview"),
    ("headless", "the user agent is an automated browser's"),
    ("empty-agent", "the request named no user agent"),
    ("prefetch", "the request said that it was a prefetch or prerender"),
    ("instant", "the click came too soon after the email was created for a person"),
    ("burst", "three or more links of the email were followed from one source within seconds"),
    ("relay", "the address is in a range of Apple's Private Relay; people use it too"),
    ("scanner-range", "the address is in a range of a mail scanner; by itself no proof"),
    ("own", "the address is one of the sender's own"),
)
BIT = {code: 1 << position for position, (code, _) in enumerate(REASONS)}


class Rule(NamedTuple):
    """One line of the table: every condition that is given must hold (any of its texts)."""

    reason: str
    verdict: int
    agent: str
    equals: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


# Texts are matched without regard to case, but for `equals`.
RULES = (
    Rule("empty-agent", MACHINE, "generic", equals=("", "-")),
    Rule("apple-mpp", MACHINE, "apple", equals=("Mozilla/5.0",)),
    Rule("gmail-proxy", PROXY, "gmail", contains=("googleimageproxy", "via ggpht.com")),
    Rule(
        "gmail-prefetch",
        MACHINE,
        "gmail",
        contains=("chrome/42.0.2311.135 safari/537.36 edge/12.246 mozilla/5.0",),
    ),
    Rule("yahoo-proxy", PROXY, "yahoo", contains=("yahoomailproxy",)),
    Rule("link-preview", MACHINE, "microsoft", contains=("bingpreview", "skypeuripreview")),
    # Before crawlers and libraries: several bot lists take Outlook for a machine.
    Rule(
        "outlook",
        HUMAN,
        "microsoft",
        contains=("microsoft outlook", "ms-office", "outlook-ios", "outlook-android"),
    ),
    Rule(
        "link-preview",
        MACHINE,
        "generic",
        starts=(
            "facebookexternalhit/",
            "slackbot",
            "slack-imgproxy",
            "whatsapp/",
            "telegrambot",
            "twitterbot/",
            "linkedinbot/",
        ),
    ),
    # A declared robot gives its home page: `(compatible; SomeBot/1.0; +http://...)`.
    Rule("crawler", MACHINE, "generic", contains=("+http://", "+https://")),
    Rule("crawler", MACHINE, "generic", contains=("compatible; googlebot", "compatible; bingbot")),
    Rule(
        "headless",
        MACHINE,
        "generic",
        contains=("headlesschrome", "phantomjs", "puppeteer", "playwright/", "slimerjs"),
    ),
    # At the start only: bare substrings such as `java` also stand in names of people's clients.
    Rule(
        "http-library",
        MACHINE,
        "generic",
        starts=(
            "aiohttp/",
            "apachebench/",
            "apache-httpclient/",
            "axios/",
            "curl/",
            "dart/",
            "faraday",
            "fasthttp",
            "go-http-client/",
            "got ",
            "got/",
            "guzzlehttp/",
            "hey/",
            "httpie/",
            "http.rb/",
            "insomnia/",
            "java/",
            "libcurl",
            "libwww",
            "lwp",
            "node-fetch",
            "okhttp/",
            "php/",
            "postmanruntime/",
            "python-httpx/",
            "python-requests/",
            "python-urllib",
            "python/",
            "rest-client/",
            "scrapy/",
            "undici",
            "wget/",
            "wrk/",
        ),
    ),
    Rule("http-library", MACHINE, "generic", equals=("node", "Ruby", "PHP", "Java")),
    Rule("apple-mail", HUMAN, "apple", starts=("mozilla/5.0 (",), ends=("(khtml, like gecko)",)),
    Rule(
        "mail-client",
        HUMAN,
        "generic",
        contains=(
            "thunderbird/",
            "airmail",
            "em client",
            "em_client",
            "evolution/",
            "k-9 mail",
            "lotus-notes",
            "postbox/",
            "samsungemail",
            "sparkdesktop",
            "the bat!",
            "windows-live-mail",
        ),
    ),
    Rule(
        "browser",
        HUMAN,
        "browser",
        starts=("mozilla/", "opera/"),
        contains=("applewebkit/", "gecko/", "chrome/", "msie ", "trident/", "presto/", "safari/"),
    ),
)
FALLBACK = Rule("unrecognised", UNKNOWN, "unknown")

# Ranges whose full address becomes a flag before truncation: a reason, never a verdict.
# Coarse on purpose. Relay: the blocks that hold most of the egress ranges Apple publishes
# (mask-api.icloud.com/egress-ip-ranges.csv). Scanner: Exchange Online's ranges as Microsoft
# documents them ("Office 365 URLs and IP address ranges", ids 1, 9 and 10).
RELAY_RANGES = "172.224.224.0/20, 104.28.0.0/16, 2a02:26f7::/32"
SCANNER_RANGES = (
    "40.92.0.0/15, 40.107.0.0/16, 52.100.0.0/14, 52.238.78.88/32, 104.47.0.0/17, 2a01:111:f400::/48"
)
