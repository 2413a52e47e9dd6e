"""Hosts where links may lead: names, names below others, and forms of the same host"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import signatures
from bell import Bell, events, serving
from little_bell.tracking.hosts import allows, canonical_host
from little_bell.tracking.links import canonical

KEY = "a-key-that-signs-links-in-tests"
HOSTS = ("example.com", "*.shop.example", "bücher.example", "192.0.2.7", "[2001:db8::1]")

ALLOWED = (
    "https://example.com/",
    "http://EXAMPLE.com:8443/x?y#z",
    "https://example.com./",
    "https://ｅｘａｍｐｌｅ.com/",  # noqa: RUF001 - full width
    "https://a.shop.example/",
    "https://a.b.SHOP.example:444/",
    "https://a.shop.example./",
    "https://bücher.example/",
    "https://xn--bcher-kva.example/",
    "http://192.0.2.7:81/",
    "http://0xc0000207/",
    "http://[2001:DB8:0::1]/",
)
ELSEWHERE = (
    "https://example.com.evil.example/",
    "https://evilexample.com/",
    "https://www.example.com/",
    "https://example.comm/",
    "https://example.co/",
    "https://evil.example/?example.com/",
    "https://evil.example/#@example.com/",
    "https://evil.example\\@example.com/",
    "https://shop.example/",
    "https://evilshop.example/",
    "https://.shop.example.evil.example/",
    "https://bucher.example/",
    "http://192.0.2.70/",
    "http://[2001:db8::11]/",
    "https://example.com../",
)


@pytest.mark.parametrize("url", ALLOWED)
def test_these_are_allowed(url: str) -> None:
    assert allows(HOSTS, canonical(url))


@pytest.mark.parametrize("url", ELSEWHERE)
def test_these_are_elsewhere(url: str) -> None:
    assert not allows(HOSTS, canonical(url))


def test_without_a_list_all_are_allowed_and_with_an_empty_one_none() -> None:
    assert allows(None, "https://example.com/")
    assert not allows((), "https://example.com/")
    assert not allows(("no host", "*"), "https://example.com/")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("127.1", "127.0.0.1"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_has_one_form(text: str, host: str) -> None:
    assert canonical_host(text) == canonical_host(host) == host


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "*", "*.", "*.*.example", "a*.example", "a:80", "a:443", "[::1]:80", "*.127.0.0.1",
        "*.[::1]", "a b", "a/b", "a\\b", "a?b", "a#b", "u@a", "https://a", "a\tb", "ex%61mple.com",
        "::1", "256.256.256.256", "a\x00b",
    ],
)  # fmt: skip
def test_no_hosts(text: str) -> None:
    with pytest.raises(ValueError, match="host"):
        canonical_host(text)


# In a server


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """Tenants with and without a list; it is in the file before the server starts."""
    folder = tmp_path_factory.mktemp("hosts")
    with serving(folder, SECRET_KEY=KEY) as bell:
        for tenant in ("narrow", "wide", "shut"):
            bell.create(tenant)
        assert bell.stop() == 0
        limit(bell.database, narrow=HOSTS, shut=())
        yield bell.start()


def limit(database: Path, **hosts: tuple[str, ...]) -> None:
    connection = sqlite3.connect(database)
    for tenant, names in hosts.items():
        connection.execute(
            "UPDATE tenants SET hosts = ? WHERE name = ?", (json.dumps(names), tenant)
        )
    connection.commit()
    connection.close()


@pytest.mark.parametrize("tenant", ["narrow", "wide", "shut"])
def test_links_that_lead_elsewhere_are_shown_and_not_followed(bell: Bell, tenant: str) -> None:
    for url in (*ALLOWED, *ELSEWHERE):
        allowed = tenant == "wide" or (tenant == "narrow" and url in ALLOWED)
        target = canonical(url)
        sig = signatures.text(signatures.click_mac(KEY.encode(), tenant, 1, target))
        token = signatures.token(KEY.encode(), tenant, 1, target, "x", "y")
        query = f"?url={quote(url, safe='')}"
        for path in (f"click/1{query}", f"click/1{query}&sig={sig}", f"l/1/{token}"):
            before = len(events(bell, tenant))
            answer = bell.get(f"/{tenant}/{path}")
            if allowed:
                assert (answer.status, answer.headers["location"]) == (302, target)
            else:
                assert answer.status == 200, answer
                assert "location" not in answer.headers
                assert f'href="{target.replace("&", "&amp;")}"'.encode() in answer.body
            assert len(events(bell, tenant)) - before == allowed
        made = bell.get(f"/{tenant}/click-url/1{query}")
        assert made.status == (200 if allowed else 400)
        assert allowed or made.json["field"] == "url"
