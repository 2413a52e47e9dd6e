"""The rules that tell people from machines, as data.

Order matters: the first rule that matches a user agent decides. A change here is a new VERSION;
what is stored keeps the version it was judged by and can be judged again.

Sources: Apple's Mail Privacy Protection and Google's and Yahoo's image proxies as seen in the
wild (user agents below are theirs), RFC 9110 section 10.1.5 for declared robots.
"""

from typing import NamedTuple

VERSION = 2  # 2 tells clients, and own addresses

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

    def matches(self, user_agent: str, padded: str) -> bool:
        """Whether every condition that is given holds; `padded` is what `pad` makes of it."""
        if self.equals and user_agent not in self.equals:
            return False
        if self.starts and not padded.startswith(self.starts, 1):
            return False
        if self.ends and not padded.endswith(self.ends):
            return False
        return not self.contains or any(text in padded for text in self.contains)


def pad(user_agent: str) -> str:
    """A user agent as texts are looked for in it: lower case, a space before it.

    So a text that begins with a space finds the beginnings of words, the first one's too:
    ` evolution/` is in `Evolution/3.46` and not in `GameRevolution/1.0`.
    """
    return " " + user_agent.lower()


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
        contains=(
            "microsoft outlook",
            "ms-office",
            " msoffice ",  # Outlook 2007 says no more than `MSOffice 12`
            " macoutlook/",
            "outlook-ios",
            "outlook-android",
        ),
    ),
    Rule(
        "link-preview",
        MACHINE,
        "generic",
        contains=(
            " facebookexternalhit/",  # iMessage says so behind a Safari's name
            " slackbot ",
            " slackbot-",
            " slack-imgproxy",
            " telegrambot ",
            " twitterbot/",
            " linkedinbot/",
        ),
    ),
    Rule("link-preview", MACHINE, "generic", starts=("whatsapp/",)),
    # A declared robot gives its home page: `(compatible; SomeBot/1.0; +http://...)`.
    Rule("crawler", MACHINE, "generic", contains=("+http://", "+https://")),
    # Those that give none, or another address.
    Rule(
        "crawler",
        MACHINE,
        "generic",
        contains=(
            "compatible; bingbot",
            "compatible; bytespider;",
            "compatible; googlebot",
            "compatible; yahoo! slurp",
            " googlebot-image/",
            " googlebot/",
        ),
    ),
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
            "faraday v",
            "faraday/",
            "fasthttp",
            "go-http-client/",
            "got (",
            "got/",
            "guzzlehttp/",
            "hey/",
            "httpie/",
            "http.rb/",
            "insomnia/",
            "jakarta commons-httpclient/",
            "java-http-client/",
            "java/",
            "libcurl",
            "libwww",
            "lwp-",
            "lwp::",
            "node-fetch",
            "okhttp/",
            "php/",
            "postmanruntime/",
            "python-httpx/",
            "python-requests/",
            "python-urllib",
            "python/",
            "reactornetty/",
            "rest-client/",
            "scrapy/",
            "undici",
            "wget/",
            "wrk/",
        ),
    ),
    Rule("http-library", MACHINE, "generic", equals=("node", "Ruby", "PHP", "Java")),
    Rule("http-library", MACHINE, "generic", contains=(" powershell/", " windowspowershell/")),
    Rule("apple-mail", HUMAN, "apple", starts=("mozilla/5.0 (",), ends=("(khtml, like gecko)",)),
    # On iPhone and iPad; since iOS 11.3 the build stands still. Apps that show a web page inside
    # put their own name behind it.
    Rule(
        "apple-mail",
        HUMAN,
        "apple",
        starts=("mozilla/5.0 (iphone;", "mozilla/5.0 (ipad;", "mozilla/5.0 (ipod touch;"),
        ends=("(khtml, like gecko) mobile/15e148",),
    ),
    Rule(
        "mail-client",
        HUMAN,
        "generic",
        contains=(
            " airmail ",
            " airmail/",
            " em client/",
            " em_client/",
            " evolution/",
            "k-9 mail",
            "lotus-notes",
            "postbox/",
            "samsungemail",
            "sparkdesktop",
            "the bat!",
            "thunderbird/",
            "windows-live-mail",
        ),
    ),
    # Outlook Express, and what Windows Live Mail still calls itself.
    Rule("mail-client", HUMAN, "generic", starts=("outlook-express/",)),
    # In text mode; Lynx names libwww as well, but first itself.
    Rule("browser", HUMAN, "browser", starts=("elinks/", "links (", "lynx/", "w3m/")),
    Rule(
        "browser",
        HUMAN,
        "browser",
        starts=("mozilla/", "opera/"),
        contains=("applewebkit/", "gecko/", "chrome/", "msie ", "trident/", "presto/", "safari/"),
    ),
)
FALLBACK = Rule("unrecognised", UNKNOWN, "unknown")


def rule_for(user_agent: str) -> Rule:
    """The rule that decides a user agent."""
    user_agent = user_agent.strip()
    padded = pad(user_agent)
    return next((rule for rule in RULES if rule.matches(user_agent, padded)), FALLBACK)


# Ranges whose full address becomes a flag before truncation: a reason, never a verdict.
# Coarse on purpose. Relay: the blocks that hold most of the egress ranges Apple publishes
# (mask-api.icloud.com/egress-ip-ranges.csv). Scanner: Exchange Online's ranges as Microsoft
# documents them ("Office 365 URLs and IP address ranges", ids 1, 9 and 10).
RELAY_RANGES = "172.224.224.0/20, 104.28.0.0/16, 2a02:26f7::/32"
SCANNER_RANGES = (
    "40.92.0.0/15, 40.107.0.0/16, 52.100.0.0/14, 52.238.78.88/32, 104.47.0.0/17, 2a01:111:f400::/48"
)
