"""The client's address behind proxies: whom to believe, and what is kept of it."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from bell import Bell, Line, fresh_tenant, raw_request, serving

LOOPBACK = "127.0.0.0"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """Settings as they come: loopback is a trusted proxy."""
    with serving(tmp_path_factory.mktemp("proxies")) as bell:
        yield bell


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """Behind a chain: loopback, private addresses and one range of a CDN are trusted."""
    trusted = "loopback, private, 203.0.113.0/25, 2001:db8:cd::/48, 198.51.100.7"
    with serving(tmp_path_factory.mktemp("behind"), TRUSTED_PROXIES=trusted) as bell:
        yield bell


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """Nobody is trusted."""
    with serving(tmp_path_factory.mktemp("open"), TRUSTED_PROXIES="none") as bell:
        yield bell


def stored(bell: Bell, *lines: str) -> str:
    """What is stored of the client's address of one open, as text with zeros for what was cut."""
    tenant = fresh_tenant()
    bell.create(tenant)
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/pixel/1.gif", *lines))
        assert line.answer().status == 200
    [(address,)] = bell.rows(
        "SELECT address FROM events JOIN tenants USING (tenant) WHERE name = ?", tenant
    )
    assert len(address) in (3, 6), "the address is not truncated to /24 or /48"
    return str(ip_address(address.ljust(4 if len(address) == 3 else 16, b"\0")))


def test_it_works(bell: Bell) -> None:
    assert stored(bell, "X-Forwarded-For: 192.0.2.77") == "192.0.2.0"
    assert stored(bell) == LOOPBACK


def test_an_address_of_ipv6_keeps_48_bits(bell: Bell) -> None:
    assert stored(bell, "X-Forwarded-For: 2001:db8:1:2:3:4:5:6") == "2001:db8:1::"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # What a client makes up stands at the left of what the trusted proxy added.
        ("6.6.6.6, 192.0.2.77", "192.0.2.0"),
        ("6.6.6.6,192.0.2.77", "192.0.2.0"),
        ("127.0.0.1, 192.0.2.77", "192.0.2.0"),
        ("192.0.2.77, 127.0.0.1", "192.0.2.0"),
        ("6.6.6.6, 192.0.2.77, 127.0.0.9, ::1", "192.0.2.0"),
        ("garbage, 192.0.2.77", "192.0.2.0"),
        (", , 192.0.2.77", "192.0.2.0"),
        # Every hop is trusted: the first one is all that is known.
        ("127.0.0.2, 127.0.0.3", LOOPBACK),
        # Ports, brackets, zones, spaces, case.
        ("192.0.2.77:4711", "192.0.2.0"),
        ("[2001:db8:1::5]:443", "2001:db8:1::"),
        ("[2001:db8:1::5]", "2001:db8:1::"),
        ("2001:DB8:1::5", "2001:db8:1::"),
        ("fe80::1%eth0", "fe80::"),
        ("  192.0.2.77  ", "192.0.2.0"),
        ("\t192.0.2.77\t", "192.0.2.0"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("[::ffff:192.0.2.77]:80", "192.0.2.0"),
    ],
)
def test_entries_are_read_from_the_right(bell: Bell, value: str, expected: str) -> None:
    assert stored(bell, f"X-Forwarded-For: {value}") == expected


@pytest.mark.parametrize(
    "value",
    [
        "unknown",
        "_hidden",
        "garbage",
        "256.1.1.1",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "0x7f.1",
        "2130706433",
        "1.2.3.4/24",
        "::g",
        ":::",
        "[",
        "[]",
        "]",
        ":80",
        "",
        ",",
        ",,,,",
        "6.6.6.6, garbage",
        "6.6.6.6, ",
        "\xff\xfe",
        "6.6.6.6;",
        "'; DROP TABLE events; --",
        "for=6.6.6.6",
        "x" * 10_000,
        "1.1.1.1," * 1000 + "x",
    ],
)
def test_an_entry_that_is_no_address_is_not_believed(bell: Bell, value: str) -> None:
    """Nor is anything at its left: who wrote that is not known."""
    assert stored(bell, f"X-Forwarded-For: {value}") == LOOPBACK


def test_garbage_ends_the_reading_at_the_last_good_entry(bell: Bell) -> None:
    assert stored(bell, "X-Forwarded-For: 6.6.6.6, garbage, 192.0.2.77") == "192.0.2.0"
    assert stored(bell, "X-Forwarded-For: 6.6.6.6, garbage, 127.0.0.5") == LOOPBACK


def test_several_lines_are_one_list(bell: Bell) -> None:
    lines = ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.77"]
    assert stored(bell, *lines) == "192.0.2.0"
    assert stored(bell, *lines, "x-forwarded-for: 127.0.0.1, ::1") == "192.0.2.0"
    assert stored(bell, *lines, "X-FORWARDED-FOR: 198.51.100.9") == "198.51.100.0"


def test_x_real_ip_counts_without_x_forwarded_for(bell: Bell) -> None:
    assert stored(bell, "X-Real-IP: 192.0.2.77") == "192.0.2.0"
    assert stored(bell, "X-Real-IP: 2001:db8:1:2::3") == "2001:db8:1::"
    lines = ["X-Real-IP: 6.6.6.6", "X-Forwarded-For: 192.0.2.77"]
    assert stored(bell, *lines) == "192.0.2.0"
    assert stored(bell, *reversed(lines)) == "192.0.2.0"
    assert stored(bell, "X-Real-IP: garbage") == LOOPBACK


@pytest.mark.parametrize(
    "line", ["Forwarded: for=6.6.6.6", "X_Forwarded_For: 6.6.6.6", "Client-IP: 6.6.6.6"]
)
def test_other_headers_are_not_believed(bell: Bell, line: str) -> None:
    assert stored(bell, line) == LOOPBACK


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.77, 10.1.2.3, 203.0.113.9", "192.0.2.0"),
        ("6.6.6.6, 192.0.2.77, 172.16.0.1", "192.0.2.0"),
        ("192.0.2.77, 198.51.100.7, 192.168.1.1, 127.0.0.1", "192.0.2.0"),
        ("192.0.2.77, 2001:db8:cd:1::2, fd00::1", "192.0.2.0"),
        ("192.0.2.77, ::ffff:10.0.0.1", "192.0.2.0"),
        # Just outside of the ranges: these are the client.
        ("192.0.2.77, 203.0.113.128", "203.0.113.0"),
        ("192.0.2.77, 198.51.100.8", "198.51.100.0"),
        ("192.0.2.77, 172.32.0.1", "172.32.0.0"),
        ("192.0.2.77, 2001:db8:ce::1", "2001:db8:ce::"),
        # A person in the private network itself.
        ("10.9.8.7", "10.9.8.0"),
        ("10.9.8.7, 10.1.1.1", "10.9.8.0"),
    ],
)
def test_each_trusted_hop_vouches_for_the_one_before(
    behind: Bell, value: str, expected: str
) -> None:
    assert stored(behind, f"X-Forwarded-For: {value}") == expected


@pytest.mark.parametrize("line", ["X-Forwarded-For: 192.0.2.77", "X-Real-IP: 192.0.2.77"])
def test_who_is_not_trusted_is_not_believed(open_to_all: Bell, line: str) -> None:
    assert stored(open_to_all, line) == LOOPBACK
    assert stored(open_to_all, line, line) == LOOPBACK


def test_log_lines_hold_the_truncated_address(open_to_all: Bell, bell: Bell) -> None:
    assert stored(bell, "X-Forwarded-For: 192.0.2.251") == "192.0.2.0"
    assert stored(bell, "X-Forwarded-For: 2001:db8:5:6:7::8") == "2001:db8:5::"
    bell.get("/health")  # the log is written once the answer is out
    log = bell.log_file.read_text()
    assert '"ip_address": "192.0.2.0"' in log
    assert '"ip_address": "2001:db8:5::"' in log
    assert "192.0.2.251" not in log
    assert "2001:db8:5:6" not in log


def test_the_whole_address_is_nowhere_in_the_file(bell: Bell) -> None:
    stored(bell, "X-Forwarded-For: 198.51.100.213")
    packed = ip_address("198.51.100.213").packed
    for name in ("tracking.db", "tracking.db-wal"):
        content = bell.database.with_name(name).read_bytes()
        assert packed not in content
        assert b"198.51.100.213" not in content
