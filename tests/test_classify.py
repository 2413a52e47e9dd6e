"""Who opened it: the table of signals, with the user agents that real clients send."""

import pytest

from little_bell.tracking.classify import (
    classify_agent,
    classify_hit,
    is_instant,
    reason_codes,
)
from little_bell.tracking.hit import GPC, OWN, PREFETCH, RELAY, SCANNER, header_flags
from little_bell.tracking.rules import CLASSES, REASONS, RULES

MOZILLA = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
BROWSER = f"{MOZILLA} Chrome/120.0.0.0 Safari/537.36"

# user agent, class, agent, reason
SIGNALS = [
    ("Mozilla/5.0", "machine", "apple", "apple-mpp"),
    (
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "proxy",
        "gmail",
        "gmail-proxy",
    ),
    (
        f"{MOZILLA} Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0",
        "machine",
        "gmail",
        "gmail-prefetch",
    ),
    # A real Edge 12 does not end in a second Mozilla/5.0.
    (f"{MOZILLA} Chrome/42.0.2311.135 Safari/537.36 Edge/12.246", "human", "browser", "browser"),
    (
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        "proxy",
        "yahoo",
        "yahoo-proxy",
    ),
    ("YahooMailProxy;%20https://help.yahoo.com/kb/x.html", "proxy", "yahoo", "yahoo-proxy"),
    (
        f"{MOZILLA} Chrome/103.0 Safari/537.36 BingPreview/1.0b",
        "machine",
        "microsoft",
        "link-preview",
    ),
    (
        "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
        "machine",
        "microsoft",
        "link-preview",
    ),
    (
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.5197; Pro)",
        "human",
        "microsoft",
        "outlook",
    ),
    ("Mozilla/4.0 (compatible; ms-office; MSOffice 16)", "human", "microsoft", "outlook"),
    ("Outlook-iOS/709.2226530.prod.iphone (3.24.1)", "human", "microsoft", "outlook"),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
        "human",
        "apple",
        "apple-mail",
    ),
    (
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "machine",
        "generic",
        "crawler",
    ),
    (
        "Mozilla/5.0 (compatible; SomeBot/1.0; +http://some.example/)",
        "machine",
        "generic",
        "crawler",
    ),
    ("", "machine", "generic", "empty-agent"),
    ("curl/8.4.0", "machine", "generic", "http-library"),
    ("python-requests/2.32.0", "machine", "generic", "http-library"),
    ("Go-http-client/1.1", "machine", "generic", "http-library"),
    ("Java/17.0.2", "machine", "generic", "http-library"),
    ("okhttp/4.12.0", "machine", "generic", "http-library"),
    ("libwww-perl/6.67", "machine", "generic", "http-library"),
    ("Wget/1.21.3", "machine", "generic", "http-library"),
    (f"{MOZILLA} HeadlessChrome/120.0.0.0 Safari/537.36", "machine", "generic", "headless"),
    (
        "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 "
        "Safari/538.1",
        "machine",
        "generic",
        "headless",
    ),
    (f"{MOZILLA} Chrome/120.0.0.0 Safari/537.36", "human", "browser", "browser"),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "human",
        "browser",
        "browser",
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0",
        "human",
        "generic",
        "mail-client",
    ),
    (
        "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.1; Trident/6.0)",
        "human",
        "browser",
        "browser",
    ),
    ("Mozilla/4.0 (compatible; MSIE 7.0; MSOffice 12)", "human", "microsoft", "outlook"),
    ("Java-http-client/17.0.9", "machine", "generic", "http-library"),
    ("Something/1.0", "unknown", "unknown", "unrecognised"),
    # Bare words of bot lists prove nothing.
    ("JavaMailReader/1.0", "unknown", "unknown", "unrecognised"),
    ("GameRevolution/1.0", "unknown", "unknown", "unrecognised"),
    ("lwplayer/2.0", "unknown", "unknown", "unrecognised"),
    (f"{MOZILLA} Chrome/120.0 Safari/537.36 SecurityBrowser/1.0", "human", "browser", "browser"),
    (f"{MOZILLA} Chrome/120.0 Mobile Safari/537.36 CUBOT_X18", "human", "browser", "browser"),
]


@pytest.mark.parametrize(("agent", "class_", "name", "reason"), SIGNALS)
def test_user_agents(agent: str, class_: str, name: str, reason: str) -> None:
    verdict = classify_agent(agent)
    assert CLASSES[verdict.verdict] == class_
    assert verdict.agent == name
    assert reason_codes(verdict.reasons) == (reason,)


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        (b"sec-purpose", b"prefetch", PREFETCH),
        (b"sec-purpose", b"prefetch;prerender", PREFETCH),
        (b"purpose", b"prefetch", PREFETCH),
        (b"x-purpose", b"preview, Prerender", PREFETCH),
        (b"x-moz", b"prefetch", PREFETCH),
        (b"x-moz", b"other", 0),
        (b"sec-gpc", b"1", GPC),
        (b"sec-gpc", b"0", 0),
    ],
)
def test_headers(name: bytes, value: bytes, flag: int) -> None:
    assert header_flags({b"host": b"x", name: value}) == flag


def test_a_prefetch_by_a_browser_is_a_machine_and_an_address_range_is_only_a_reason() -> None:
    browser = classify_agent(BROWSER)
    prefetched = classify_hit(browser, PREFETCH)
    assert (CLASSES[prefetched.verdict], prefetched.agent) == ("machine", "generic")
    assert reason_codes(prefetched.reasons) == ("browser", "prefetch")
    for flag, reason in ((RELAY, "relay"), (SCANNER, "scanner-range")):
        verdict = classify_hit(browser, flag)
        assert CLASSES[verdict.verdict] == "human"
        assert reason_codes(verdict.reasons) == ("browser", reason)
    assert classify_hit(browser, GPC) == browser


def test_a_look_of_the_senders_own_is_not_counted_with_people() -> None:
    for agent in (BROWSER, SIGNALS[1][0], "Something/1.0"):
        judged = classify_agent(agent)
        own = classify_hit(judged, OWN)
        assert (CLASSES[own.verdict], own.agent) == ("machine", judged.agent)
        assert reason_codes(own.reasons) == (*reason_codes(judged.reasons), "own")
    prefetched = classify_hit(classify_agent(BROWSER), OWN | PREFETCH)
    assert (CLASSES[prefetched.verdict], prefetched.agent) == ("machine", "generic")
    assert reason_codes(prefetched.reasons) == ("browser", "prefetch", "own")


def test_instant_needs_a_clock_that_did_not_run_back() -> None:
    assert is_instant(1000, 1000, 2000)
    assert is_instant(1000, 2999, 2000)
    assert not is_instant(1000, 3000, 2000)
    assert not is_instant(1000, 999, 2000)


def test_reason_bits_are_stable() -> None:
    """Stored bits: a code may be added at the end, never moved."""
    assert [code for code, _ in REASONS] == [
        "browser",
        "gmail-proxy",
        "apple-mpp",
        "apple-mail",
        "outlook",
        "yahoo-proxy",
        "mail-client",
        "unrecognised",
        "http-library",
        "gmail-prefetch",
        "crawler",
        "link-preview",
        "headless",
        "empty-agent",
        "prefetch",
        "instant",
        "burst",
        "relay",
        "scanner-range",
        "own",
    ]


def test_rules_are_written_as_they_are_matched() -> None:
    for rule in RULES:
        for text in (*rule.starts, *rule.contains, *rule.ends):
            assert text == text.lower(), f"{text!r} can never match"
        assert rule.equals or rule.starts or rule.contains or rule.ends
