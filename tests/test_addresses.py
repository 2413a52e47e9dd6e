"""Signed addresses: golden vectors, tokens that cannot be bent, one text for each"""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import signatures
from little_bell.errors import Refused
from little_bell.tracking.addresses import Addresses, Link, decode, encode, read_name
from little_bell.tracking.signing import Keyring

KEY = b"a key that signs the golden vectors"

# Mail with these is out for years: they hold for ever. Made by tests/signatures.py.
LINKS = (
    ("acme", 1, Link("https://example.com/"), "AZOx3duT5jiV7quxkAAAaHR0cHM6Ly9leGFtcGxlLmNvbS8"),
    (
        "acme",
        123456789,
        Link("https://example.com/?a=1&b=%20#part", "offer", "header"),
        "AVWVnqwKWFmVZRfehwVvZmZlcgZoZWFkZXJodHRwczovL2V4YW1wbGUuY29tLz9hPTEmYj0lMjAjcGFydA",
    ),
    (
        "T_-9",
        7,
        Link("https://xn--mnchen-3ya.example/%C3%BC", "Größe 42 ✓", ""),
        "Abep547e_ORYYbsaYA5HcsO2w59lIDQyIOKckwBodHRwczovL3huLS1tbmNoZW4tM3lhLmV4YW1wbGUvJUMzJUJD",
    ),
    (
        "a",
        1,
        Link("http://[::1]:8080/", "", "footer"),
        "AV8CGkqyoYzT0-DUjQAGZm9vdGVyaHR0cDovL1s6OjFdOjgwODAv",
    ),
)
CLICKS = (
    ("acme", 1, "https://example.com/", "k7Hd25PmOJXuq7GQ"),
    ("acme", 123456789, "https://example.com/?a=1&b=%20#part", "giDUeRDyf7UlQGmg"),
    ("T_-9", 7, "https://xn--mnchen-3ya.example/%C3%BC", "jzj9_LkhfrEUkViS"),
)
PIXELS = (
    ("acme", 1, "KHlFU0TpHa9h4npc"),
    ("acme", 123456789, "P8bFvIfyai8OTFHR"),
    ("T_-9", 7, "IJuQu21_O5DAYlOa"),
)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
emails = st.integers(1, 10**18 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
targets = st.from_regex(r"https?://[a-z]{1,9}\.example/[!-~]{0,40}", fullmatch=True)
links = st.builds(Link, targets, texts, texts)


def ours(*keys: bytes) -> Addresses:
    return Addresses(Keyring(keys or (KEY,)), True)


def read(addresses: Addresses, path: str) -> Link | None:
    """What a path of a link says."""
    _, tenant, _, email, token = path.encode("ascii").split(b"/")
    return addresses.read_link(tenant, email, token)


@pytest.mark.parametrize(("tenant", "email", "link", "token"), LINKS)
def test_golden_links(tenant: str, email: int, link: Link, token: str) -> None:
    assert signatures.token(KEY, tenant, email, *link) == token
    assert ours().link(tenant, email, link) == f"/{tenant}/l/{email}/{token}"
    assert ours().read_link(tenant.encode(), b"%d" % email, token.encode()) == link
    # And with the key of those days behind newer ones.
    assert read(ours(b"new", KEY), f"/{tenant}/l/{email}/{token}") == link


@pytest.mark.parametrize(("tenant", "email", "url", "mac"), CLICKS)
def test_golden_clicks(tenant: str, email: int, url: str, mac: str) -> None:
    assert signatures.text(signatures.click_mac(KEY, tenant, email, url)) == mac
    assert ours().click(tenant, email, url).endswith(f"&sig={mac}")
    assert ours().is_click(tenant.encode(), email, url, mac)
    assert not ours().is_click(tenant.encode(), email + 1, url, mac)


@pytest.mark.parametrize(("tenant", "email", "mac"), PIXELS)
def test_golden_pixels(tenant: str, email: int, mac: str) -> None:
    assert signatures.pixel(KEY, tenant, email) == f"{mac}.gif"
    assert ours().pixel(tenant, email) == f"/{tenant}/o/{email}/{mac}.gif"
    assert ours().is_pixel(tenant.encode(), b"%d" % email, mac.encode())
    assert not ours().is_pixel(tenant.encode(), b"%d" % (email + 1), mac.encode())


def test_the_documented_pixel_has_no_signature() -> None:
    assert Addresses(Keyring([KEY]), False).pixel("acme", 12) == "/acme/pixel/12.gif"


@given(names, emails, links, st.binary(min_size=1, max_size=99))
def test_what_is_written_is_read(tenant: str, email: int, link: Link, key: bytes) -> None:
    assume(max(len(link.label.encode()), len(link.part.encode())) <= 255)
    path = ours(key).link(tenant, email, link)
    assert path == f"/{tenant}/l/{email}/{signatures.token(key, tenant, email, *link)}"
    assert read(ours(key), path) == link
    assert read(ours(key + b"x"), path) is None


@pytest.mark.parametrize(("tenant", "email", "link", "token"), LINKS)
def test_no_bit_can_be_turned(tenant: str, email: int, link: Link, token: str) -> None:
    addresses = ours()
    data = decode(token.encode())
    assert data is not None
    for bit in range(8 * len(data)):
        bent = bytearray(data)
        bent[bit // 8] ^= 1 << bit % 8
        assert (
            addresses.read_link(tenant.encode(), b"%d" % email, encode(bytes(bent)).encode())
            is None
        )
    for at in range(len(token)):
        for bit in range(8):
            other = bytearray(token.encode())
            other[at] ^= 1 << bit
            assert addresses.read_link(tenant.encode(), b"%d" % email, bytes(other)) is None
    for cut in range(len(token)):
        assert addresses.read_link(tenant.encode(), b"%d" % email, token[:cut].encode()) is None


@pytest.mark.parametrize(("tenant", "email", "mac"), PIXELS)
def test_no_bit_of_a_pixel_can_be_turned(tenant: str, email: int, mac: str) -> None:
    for at in range(len(mac)):
        for bit in range(8):
            other = bytearray(mac.encode())
            other[at] ^= 1 << bit
            assert not ours().is_pixel(tenant.encode(), b"%d" % email, bytes(other))
    for cut in range(len(mac)):
        assert not ours().is_pixel(tenant.encode(), b"%d" % email, mac[:cut].encode())


@given(names, emails, links, names, emails)
def test_a_link_is_of_one_email(
    tenant: str, email: int, link: Link, other: str, another: int
) -> None:
    token = ours().link(tenant, email, link).rpartition("/")[2].encode()
    for who, which in ((other, email), (tenant, another), (other, another)):
        same = (who, which) == (tenant, email)
        found = ours().read_link(who.encode(), b"%d" % which, token)
        assert found == (link if same else None)


@given(names, emails, links, st.data())
def test_fields_cannot_be_shifted(tenant: str, email: int, link: Link, data: st.DataObject) -> None:
    """The same bytes behind the signature, with the borders between them elsewhere."""
    right = decode(ours().link(tenant, email, link).rpartition("/")[2].encode())
    assert right is not None
    whole = link.label.encode() + link.part.encode() + link.url.encode()
    one, two = sorted(data.draw(st.integers(0, len(whole)), "border") for _ in range(2))
    assume(two < 256)
    shifted = bytes([one]) + whole[:one] + bytes([two - one]) + whole[one:two] + whole[two:]
    assume(shifted != right[13:])
    token = encode(right[:13] + shifted).encode()
    assert ours().read_link(tenant.encode(), b"%d" % email, token) is None


def test_digits_do_not_move_between_tenant_and_email() -> None:
    link = Link("https://example.com/")
    token = ours().link("acme1", 1, link).rpartition("/")[2].encode()
    assert ours().read_link(b"acme", b"11", token) is None
    mac = ours().pixel("acme1", 1).rpartition("/")[2].removesuffix(".gif").encode()
    assert ours().is_pixel(b"acme1", b"1", mac)
    assert not ours().is_pixel(b"acme", b"11", mac)


@pytest.mark.parametrize("email", [b"01", b"+1", b"1.gif", b"1 ", b"", b"%31", b"\xd9\xa1"])
def test_a_number_is_written_in_one_way(email: bytes) -> None:
    token = LINKS[0][3].encode()
    assert ours().read_link(b"acme", email, token) is None
    assert not ours().is_pixel(b"acme", email, PIXELS[0][2].encode())


@pytest.mark.parametrize(
    "bend",
    [
        lambda text: text + "=",
        lambda text: text + "==",
        lambda text: text + "A",
        lambda text: text + "AA",
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text[:20] + "\n" + text[20:],
        lambda text: text[:20] + "=" + text[20:],
        lambda text: text[:20] + "." + text[20:],
        lambda text: text.replace("-", "+").replace("_", "/"),
        lambda text: text.replace("-", "%2D").replace("_", "%5F"),
        lambda text: text[:-1] + chr(ord(text[-1]) + 1),  # bits that belong to no byte
    ],
)
def test_a_token_is_written_in_one_way(bend: object) -> None:
    tenant, email, link, token = LINKS[2]
    assert callable(bend)
    assert ours().read_link(tenant.encode(), b"%d" % email, token.encode()) == link
    bent = bend(token)
    assert bent != token
    assert ours().read_link(tenant.encode(), b"%d" % email, bent.encode()) is None


@given(st.binary(max_size=60))
def test_any_bytes_have_one_text(data: bytes) -> None:
    assert encode(data) == signatures.text(data)
    assert decode(encode(data).encode()) == data


@given(st.binary(max_size=80))
def test_any_text_is_refused_or_the_only_one(text: bytes) -> None:
    found = decode(text)
    assert found is None or encode(found).encode() == text
    assert ours().read_link(b"acme", b"1", text) is None
    assert not ours().is_pixel(b"acme", b"1", text)


@given(st.binary(max_size=80), st.sampled_from([b"\x00", b"\x01", b"\x02", b"\xff"]))
def test_any_bytes_as_a_token(data: bytes, version: bytes) -> None:
    assert ours().read_link(b"acme", b"1", encode(version + data).encode()) is None


def test_what_others_signed_with_the_key_is_no_link() -> None:
    """A label with control characters, a target beyond ASCII, bytes that are no text."""
    for label, url in (
        (b"a\x00b", b"https://a/"),
        (b"\xff", b"https://a/"),
        (b"", b"https://\xe9/"),
    ):
        signed = signatures.mac(KEY, b"click/1", b"acme", b"1", label, b"", url)
        token = signatures.text(b"\x01" + signed + bytes([len(label)]) + label + b"\x00" + url)
        assert ours().read_link(b"acme", b"1", token.encode()) is None
    other = signatures.text(signatures.mac(KEY, b"open/1", b"acme", b"1"))
    assert not ours().is_click(b"acme", 1, "https://a/", other)


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "\x00", "a\tb", "\n", "\x7f", "\x85"])
def test_a_label_that_is_none(name: str) -> None:
    with pytest.raises(Refused) as refused:
        read_name(name, "label")
    assert (refused.value.status, refused.value.field) == (400, "label")


@pytest.mark.parametrize("name", ["", "a" * 255, "é" * 127, "a b", "\u202e", "✓"])
def test_a_label(name: str) -> None:
    assert read_name(name, "label") == name
    link = Link("https://example.com/", name, name)
    assert read(ours(), ours().link("acme", 1, link)) == link


def test_no_label_is_an_empty_one() -> None:
    assert read_name(None, "part") == ""
