"""Link targets: canonical, as browsers read them, so that a redirect cannot be bent."""

from little_bell.errors import Refused

MAX_URL = 2048  # characters of the canonical form

# Others are in no name of the DNS, and browsers do not agree on them (`*` is `%2A` in Chromium).
HOST_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_")
NO_HOST = "the url's host has other characters than letters, digits, dots, - and _"

PARTS = ("href", "protocol", "username", "password", "hostname")  # that are looked at

REDIRECT_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex, nofollow"),
)


def warm_up() -> None:
    """Import what links need. Late: 3 MB that a bell which never rang does without; but before
    the first click, which would wait for it."""
    import urllib.parse

    import ada_url

    ada_url.parse_url("https://example.com/", ("href",))
    urllib.parse.quote("")


def query_value(query: bytes, name: str) -> str | None:
    """The first value of a query parameter, form-decoded, or None where there is none.

    Raises Refused (400) where the value is not UTF-8.
    """
    from urllib.parse import unquote_to_bytes

    wanted = name.encode("ascii")
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == wanted:
            try:
                return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8")
            except UnicodeDecodeError:
                raise Refused(400, f"the {name} is not valid UTF-8", name) from None
    return None


def canonical(url: str | None) -> str:
    """A link target in its canonical form, ASCII, at most MAX_URL characters.

    Read by a WHATWG parser (https://url.spec.whatwg.org/), as the browser that follows the
    redirect will read it. Raises Refused (400) for anything but absolute http and https URLs
    without user or password, and with a host that may be a name of the DNS.
    """
    import ada_url

    if url is None or not url.strip():
        raise Refused(400, "the url is missing", "url")
    if len(url) > 4 * MAX_URL:
        raise Refused(400, f"the url is longer than {MAX_URL} characters", "url")
    try:
        parsed = ada_url.parse_url(url, PARTS)
    except ValueError:
        raise Refused(400, "the url is not an absolute http or https URL", "url") from None
    if parsed["protocol"] not in ("http:", "https:"):
        raise Refused(400, "the url is not an absolute http or https URL", "url")
    if parsed["username"] or parsed["password"]:
        raise Refused(400, "the url holds a user name or password", "url")
    host: str = parsed["hostname"]
    if not HOST_CHARS.issuperset(host) and host[:1] != "[":
        raise Refused(400, NO_HOST, "url")
    href: str = parsed["href"]
    if len(href) > MAX_URL:
        raise Refused(400, f"the url is longer than {MAX_URL} characters", "url")
    return href
