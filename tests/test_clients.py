"""Which client and which device: stable numbers, and never at odds with the rules."""

import pytest

from little_bell.tracking.clients import (
    AT_HOME,
    BY_REASON,
    CLIENT,
    CLIENTS,
    DEVICE,
    DEVICE_SPAN,
    DEVICES,
    PLATFORMS,
    client_names,
    client_of,
)
from little_bell.tracking.rules import RULES

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1"


def test_it_works() -> None:
    assert client_of(f"{CHROME}20.0.0.0 Safari/537.36") == CLIENT["chrome"] * 8 + DEVICE["desktop"]
    assert client_names(17 * 8 + 1) == ("chrome", "desktop")
    assert client_names(client_of("Mozilla/5.0")) == ("apple-privacy", "unknown")
    assert dict(CLIENTS)["apple-privacy"] == "Apple Mail (privacy)"


def test_numbers_are_stable() -> None:
    """Stored numbers: one may be added at the end, never moved."""
    assert " ".join(code for code, _ in CLIENTS) == (
        "unknown gmail apple-mail apple-privacy outlook yahoo-mail thunderbird samsung-email spark "
        "airmail em-client k-9 evolution postbox lotus-notes windows-mail the-bat chrome safari "
        "firefox edge opera samsung-internet internet-explorer browser http-library crawler "
        "link-preview headless"
    )
    assert DEVICES == ("unknown", "desktop", "phone", "tablet", "server")
    assert DEVICE_SPAN == 8
    assert len(DEVICES) <= DEVICE_SPAN
    assert len({title for _, title in CLIENTS}) == len(CLIENTS) == len(CLIENT)


def test_each_number_has_names_and_others_are_unknown() -> None:
    for client, (code, _) in enumerate(CLIENTS):
        for device, name in enumerate(DEVICES):
            assert client_names(client * 8 + device) == (code, name)
    for number in (None, -1, len(CLIENTS) * 8, 1 << 40):
        assert client_names(number) == ("unknown", "unknown")
    assert client_names(CLIENT["gmail"] * 8 + 7) == ("gmail", "unknown")


@pytest.mark.parametrize(
    "machine",
    [
        f"{CHROME}20.0 Safari/537.36 (compatible; SomeBot/1.0; +https://some.example)",
        f"{CHROME}20.0 Safari/537.36 BingPreview/1.0b",
        CHROME.replace("Chrome/1", "HeadlessChrome/120.0 Safari/537.36"),
        "curl/8.4.0 (Windows NT 10.0) Chrome/120.0 Thunderbird/140.0",
    ],
)
def test_a_machine_is_no_browser_whatever_it_imitates(machine: str) -> None:
    client, device = client_names(client_of(machine))
    assert client in ("crawler", "link-preview", "headless", "http-library")
    assert device == "server"


def test_an_android_tablet_leaves_out_what_a_phone_says() -> None:
    android = "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1.0"
    assert client_names(client_of(f"{android} Safari/537.36")) == ("chrome", "tablet")
    assert client_names(client_of(f"{android} Mobile Safari/537.36")) == ("chrome", "phone")


@pytest.mark.parametrize("blank", ["", "  ", "-"])
def test_nothing_is_known_of_nobody(blank: str) -> None:
    assert client_of(blank) == 0


def test_the_tables_agree_with_the_rules() -> None:
    """Every reason of the rules is there, every code exists, every text can match."""
    reasons = {rule.reason for rule in RULES}
    assert reasons - {"empty-agent"} == set(BY_REASON)
    for reason, lines in BY_REASON.items():
        texts_of_rules = [
            text
            for rule in RULES
            if rule.reason == reason
            for text in (*rule.contains, *rule.starts)
        ]
        for texts, code in lines:
            assert code in CLIENT
            assert all(text == text.lower() for text in texts)
            if reason == "mail-client":  # what is recognised has a name
                texts_of_rules = [t for t in texts_of_rules if t not in texts]
        if reason == "mail-client":
            assert texts_of_rules == []
    for texts, device in PLATFORMS:
        assert device in DEVICES
        assert all(text == text.lower() for text in texts)
    assert set(AT_HOME) <= set(CLIENT)
    assert set(AT_HOME.values()) <= set(DEVICES)
