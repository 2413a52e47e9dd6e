"""Where an address stands in a text, in whatever form, and where it is a part of another."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_bell.tracking.traces import Traces

ANN = Traces("ann@example.com")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("ann@example.com", "(erased)"),
        ("For ANN@Example.Com.", "For (erased)."),
        ("Ann <ann@example.com>, bob@example.com", "Ann <(erased)>, bob@example.com"),
        ("ann@example.com,ann@example.com", "(erased),(erased)"),
        ("https://x.example/?e=ann@example.com&n=1", "https://x.example/?e=(erased)&n=1"),
        ("https://x.example/?e=ann%40example.com", "https://x.example/?e=(erased)"),
        ("https://x.example/?e%3Dann%40example%2Ecom%26", "https://x.example/?e%3D(erased)%26"),
        ("https://x.example/?e=%61%6E%6e%40example.com", "https://x.example/?e=(erased)"),
        ("https://x.example/?u=a%253Dann%252540example.com", "https://x.example/?u=a%253D(erased)"),
        ("https://x.example/?q=to+ann@example.com", "https://x.example/?q=to+(erased)"),
        ("mailto%3Aann%40example.com%3F", "mailto%3A(erased)%3F"),
    ],
)
def test_it_works(text: str, right: str) -> None:
    assert ANN.erase(text) == right


@pytest.mark.parametrize(
    "text",
    [
        "xann@example.com",
        "jo.ann@example.com",
        "jo-ann@example.com",
        "to+ann@example.com",
        "ann@example.com.au",
        "ann@example.community",
        "ann@example.com-pany.org",
        "éann@example.com",
        "https://x.example/?e=xann%40example.com",
        "https://x.example/?e=x%2Bann%40example.com",
        "https://x.example/?e=ann%40example.com%2Eau",
        "https://x.example/" + b64encode(b"xann@example.com").decode(),
        "https://x.example/" + b64encode(b"ann@example.com.au").decode(),
        "ann at example.com",
        "%",
        "%4",
        "%zz%40",
        "",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert ANN.find(text) == []
    assert ANN.erase(text) == text


@pytest.mark.parametrize("recipient", ["news", "7", "@", "ann@", "@example.com", "%", "_"])
def test_words_are_not_looked_for(recipient: str) -> None:
    assert Traces(recipient).erase(f"a {recipient} b") == f"a {recipient} b"


@pytest.mark.parametrize("before", ["", "12:", '{"e":"', "id=7&to=", "<"])
@pytest.mark.parametrize("behind", ["", '"}', "&n=17", " x"])
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_base64(before: str, behind: str, encode: Callable[[bytes], bytes]) -> None:
    code = encode(f"{before}ann@example.com{behind}".encode()).decode().rstrip("=")
    assert ANN.erase(f"https://x.example/?t={code}&n=1") == "https://x.example/?t=(erased)&n=1"


LOCAL = st.from_regex(r"[a-zA-Z0-9_+'é-]{1,12}", fullmatch=True)
ADDRESS = st.builds(
    lambda local, domain: f"{local}@{domain}.example",
    LOCAL,
    st.from_regex("[a-z0-9]{1,9}", fullmatch=True),
)
AROUND = st.sampled_from(["", " ", "<", ">", "/", "?e=", "&", '"', ", ", "(", ")", "\n", "¿"])


@st.composite
def written(draw: st.DrawFn, address: str) -> str:
    """An address in some case, each byte of it percent-encoded or not, perhaps several times."""
    cased = "".join(c.swapcase() if c.isascii() and draw(st.booleans()) else c for c in address)
    text = "".join(
        "".join(f"%{byte:02x}" for byte in c.encode()) if draw(st.booleans()) else c for c in cased
    )
    for _ in range(draw(st.integers(0, 3))):
        text = quote(text, safe="@+'")
    return text


@given(st.data(), ADDRESS, AROUND, AROUND)
def test_whatever_its_form_it_goes_and_the_rest_stays(
    data: st.DataObject, address: str, before: str, behind: str
) -> None:
    form = data.draw(written(address))
    assert Traces(address).erase(f"{before}{form}{behind}") == f"{before}(erased){behind}"


@given(ADDRESS, ADDRESS)
def test_another_address_stays(address: str, other: str) -> None:
    text = f"{other}, {other}"
    assert Traces(address).erase(text) == (
        "(erased), (erased)" if address.lower() == other.lower() else text
    )


@given(st.text(max_size=200), ADDRESS)
def test_no_text_breaks_it(text: str, address: str) -> None:
    spans = Traces(address).find(text)
    assert spans == sorted(spans)
    assert all(0 <= start < end <= len(text) for start, end in spans)
