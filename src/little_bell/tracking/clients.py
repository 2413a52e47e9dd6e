"""Which mail client (or browser, or service) and which class of device a user agent is.

It follows the rules: the reason of the rule that decides a user agent says which clients it may be,
so that what is judged a crawler is never shown as the browser that it imitates.
"""

from little_bell.tracking.rules import Rule, pad, rule_for

# Stable codes and titles for people: position is the number that is stored, so append only.
CLIENTS = (
    ("unknown", "Unknown"),
    ("gmail", "Gmail"),
    ("apple-mail", "Apple Mail"),
    ("apple-privacy", "Apple Mail (privacy)"),
    ("outlook", "Outlook"),
    ("yahoo-mail", "Yahoo Mail"),
    ("thunderbird", "Thunderbird"),
    ("samsung-email", "Samsung Email"),
    ("spark", "Spark"),
    ("airmail", "Airmail"),
    ("em-client", "eM Client"),
    ("k-9", "K-9 Mail"),
    ("evolution", "Evolution"),
    ("postbox", "Postbox"),
    ("lotus-notes", "Lotus Notes"),
    ("windows-mail", "Windows Mail"),
    ("the-bat", "The Bat!"),
    ("chrome", "Chrome"),
    ("safari", "Safari"),
    ("firefox", "Firefox"),
    ("edge", "Edge"),
    ("opera", "Opera"),
    ("samsung-internet", "Samsung Internet"),
    ("internet-explorer", "Internet Explorer"),
    ("browser", "Another browser"),
    ("http-library", "HTTP library"),
    ("crawler", "Crawler"),
    ("link-preview", "Link preview"),
    ("headless", "Automated browser"),
)
CLIENT = {code: number for number, (code, _) in enumerate(CLIENTS)}

# Append only as well, and at most DEVICE_SPAN of them.
DEVICES = ("unknown", "desktop", "phone", "tablet", "server")
DEVICE = {code: number for number, code in enumerate(DEVICES)}
DEVICE_SPAN = 8

# By the reason of the rule: (any of these texts, client), the first that is found counts. Texts are
# looked for as those of rules are (`pad`); one that is empty is found in all.
BY_REASON: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "gmail-proxy": ((("",), "gmail"),),
    "gmail-prefetch": ((("",), "gmail"),),
    "apple-mpp": ((("",), "apple-privacy"),),
    "apple-mail": ((("",), "apple-mail"),),
    "outlook": ((("",), "outlook"),),
    "yahoo-proxy": ((("",), "yahoo-mail"),),
    "http-library": ((("",), "http-library"),),
    "crawler": ((("",), "crawler"),),
    "link-preview": ((("",), "link-preview"),),
    "headless": ((("",), "headless"),),
    "mail-client": (
        (("samsungemail",), "samsung-email"),
        (("sparkdesktop",), "spark"),
        ((" airmail ", " airmail/"), "airmail"),
        ((" em client/", " em_client/"), "em-client"),
        (("k-9 mail",), "k-9"),
        ((" evolution/",), "evolution"),
        (("lotus-notes",), "lotus-notes"),
        (("windows-live-mail", "outlook-express/"), "windows-mail"),
        (("the bat!",), "the-bat"),
        (("postbox/",), "postbox"),  # says Thunderbird as well
        (("thunderbird/",), "thunderbird"),
    ),
    # Nearly every browser says Chrome or Safari behind its own name.
    "browser": (
        ((" edg/", " edge/", " edga/", " edgios/"), "edge"),
        ((" opr/", " opt/", " opios/", " opera ", " opera/"), "opera"),
        ((" samsungbrowser/",), "samsung-internet"),
        ((" palemoon/", " seamonkey/", " waterfox/"), "browser"),
        ((" duckduckgo/", " electron/", " gsa/", " vivaldi/", " yabrowser/"), "browser"),
        ((" ucbrowser/", "[fban/", "[fbav/", " instagram ", " [linkedinapp]"), "browser"),
        ((" firefox/", " fxios/"), "firefox"),
        ((" msie ", " trident/"), "internet-explorer"),
        ((" chrome/", " crios/", " chromium/"), "chrome"),
        ((" android ",), "browser"),  # its old browser says Safari
        ((" javafx/", "(x11;"), "browser"),  # and Epiphany, with all of Safari's name
        ((" version/",), "safari"),
        (("",), "browser"),
    ),
}

# Reasons whose requests come from a server, whatever device the user agent names.
SERVERS = frozenset(("http-library", "crawler", "link-preview", "headless"))
# Proxies hide the device, and so does Apple's privacy protection.
HIDDEN = frozenset(("gmail-proxy", "gmail-prefetch", "yahoo-proxy", "apple-mpp", "empty-agent"))

# (all of these texts, device), the first line that holds counts.
PLATFORMS = (
    # An iPad that asks for desktop sites, as it comes and as its Mail does, says what a Mac says:
    # it cannot be told, and counts as a desktop.
    (("(ipad;",), "tablet"),
    (("(iphone;",), "phone"),
    (("(ipod",), "phone"),
    (("windows phone",), "phone"),
    (("outlook-ios",), "phone"),  # an iPad's is `prod.iphone` too
    # `Mobile` on phones only is a custom of browsers; mail clients never say it.
    (("android", " mobile"), "phone"),
    (("android", "(mobile;"), "phone"),
    ((" mozilla/", "android"), "tablet"),
    (("android",), "phone"),
    (("(mobile;",), "phone"),
    (("windows nt",), "desktop"),  # before anything about tablets: Outlook says `Tablet PC 2.0`
    (("macintosh",), "desktop"),
    (("mac os x",), "desktop"),
    (("(x11;",), "desktop"),
)

# What runs on one class of devices alone, where the user agent names no platform.
AT_HOME = {
    "outlook": "desktop",
    "samsung-email": "phone",
    "k-9": "phone",
    "thunderbird": "desktop",
    "spark": "desktop",  # only its desktop form names itself
    "em-client": "desktop",
    "evolution": "desktop",
    "postbox": "desktop",
    "lotus-notes": "desktop",
    "windows-mail": "desktop",
    "the-bat": "desktop",
}


def client_by(rule: Rule, user_agent: str) -> int:
    """Client and device of a user agent that a rule decides, as one number."""
    padded = pad(user_agent)
    client = "unknown"
    for texts, code in BY_REASON.get(rule.reason, ()):
        if any(text in padded for text in texts):
            client = code
            break
    device = AT_HOME.get(client, "unknown")
    if rule.reason in SERVERS:
        device = "server"
    elif rule.reason not in HIDDEN:
        for all_of, code in PLATFORMS:
            if all(text in padded for text in all_of):
                device = code
                break
    return CLIENT[client] * DEVICE_SPAN + DEVICE[device]


def client_of(user_agent: str) -> int:
    """Client and device of a user agent as one number: `client * 8 + device`."""
    return client_by(rule_for(user_agent), user_agent)


def client_names(number: int | None) -> tuple[str, str]:
    """The codes of client and device; `unknown` each where the number says nothing."""
    if number is None or not 0 <= number < len(CLIENTS) * DEVICE_SPAN:
        return "unknown", "unknown"
    client, device = divmod(number, DEVICE_SPAN)
    return CLIENTS[client][0], DEVICES[device] if device < len(DEVICES) else "unknown"
