"""Values of settings: how each is read from its text, and what is wanted where it cannot be."""

import os
from collections.abc import Callable

from little_bell.tracking.client import Network, parse_network, parse_networks
from little_bell.tracking.signing import MOST_KEYS

LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40, "off": 100}  # of log lines

TENANT_CHARS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")

SHORTEST_KEY = 16  # characters of a secret

UNIX = "unix:"  # before the path of a socket
MAX_SOCKET_PATH = 107  # bytes (Linux; unix(7))

NO_TENANT = "a tenant's name has 1 to 64 letters, digits, - and _, a letter or digit first"


def is_tenant(name: bytes) -> bool:
    """Whether a path segment is a tenant's name: `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`."""
    return 0 < len(name) <= 64 and name[0] not in b"_-" and TENANT_CHARS.issuperset(name)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        if (
            not text.isascii()
            or not text.isdigit()
            or len(text) > 18
            or not low <= int(text) <= high
        ):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def seconds(text: str) -> float:
    """A number of seconds, fractions allowed, from 0 to a day."""
    whole_part, _, fraction = text.partition(".")
    digits = whole_part + fraction
    good = digits.isascii() and digits.isdigit() and len(digits) <= 18
    if not good or not float(text) <= 86_400:
        raise ValueError("a number of seconds from 0 to 86400")
    return float(text)


def database_path(text: str) -> str:
    """The file of `sqlite:PATH`, `sqlite://PATH` or `sqlite:///ABSOLUTE`, `?mode=rwc` allowed.

    Links are followed, so that two servers find one lock.
    """
    scheme, colon, rest = text.partition(":")
    if scheme != "sqlite" or not colon:
        raise ValueError("sqlite:FILE (other databases are not supported)")
    path, _, options = rest.partition("?")
    if options not in ("", "mode=rwc"):
        raise ValueError("sqlite:FILE, with no option but ?mode=rwc")
    if path.startswith("//"):
        path = path[2:]
    if not path or path.startswith(":memory:") or path.endswith("/") or "\0" in path:
        raise ValueError("sqlite:FILE, the path of a file")
    if not path.isprintable():  # as lone surrogates are, which stand for bytes that are no UTF-8
        raise ValueError("sqlite:FILE, a path that can be printed")
    return os.path.realpath(path)


def host(text: str) -> str:
    """An address or a name, as the system will resolve it; or `unix:PATH`, made absolute."""
    if not text.startswith(UNIX):
        return text
    path = text.removeprefix(UNIX)
    if not path or path.endswith("/") or not path.isprintable():
        raise ValueError("unix:PATH, the path of a socket")
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ValueError(f"unix:PATH of at most {MAX_SOCKET_PATH} bytes")
    return UNIX + path


def base_url(text: str) -> str:
    """An http or https URL, perhaps with a path prefix, without a slash at its end."""
    scheme, separator, rest = text.partition("://")
    bad = not text.isascii() or any(c in text for c in ' "<>\\^`{|}?#@\r\n\t')
    if scheme not in ("", "http", "https") or bad or (text and (not separator or rest[:1] in "/")):
        raise ValueError("an http or https URL such as https://track.example.com/bell")
    return text.rstrip("/")


def log_level(text: str) -> int:
    """A level by its name."""
    name = {"warning": "warn", "trace": "debug"}.get(text.lower(), text.lower())
    if name not in LEVELS:
        raise ValueError("debug, info, warn, error or off")
    return LEVELS[name]


def rust_log(text: str) -> int | None:
    """The level that a RUST_LOG filter (`little_bell=debug`, `info`) gives to this program."""
    level = None
    for part in text.split(","):
        target, equals, name = part.strip().rpartition("=")
        ours = equals and target in ("little_bell", "little-bell")
        if ours or (not equals and name.lower() in ("trace", "warning", *LEVELS)):
            level = log_level(name)
        elif name in ("little_bell", "little-bell"):  # a target alone: all of it
            level = LEVELS["debug"]
    return level


def networks(text: str) -> tuple[Network, ...]:
    try:
        return parse_networks(text)
    except ValueError as error:
        raise ValueError(f"addresses, CIDR ranges, loopback, private or none ({error})") from None


def own_addresses(text: str) -> dict[str, tuple[Network, ...]]:
    """Addresses and ranges, by commas, after `TENANT=` for one tenant; those of all under no name.

    Names such as `private` are not taken: behind a proxy that is not trusted all would be own.
    """
    found: dict[str, tuple[Network, ...]] = {}
    for entry in (part.strip() for part in text.split(",")):
        if not entry:
            continue
        tenant, equals, address = entry.rpartition("=")
        tenant = tenant.strip()
        if equals and not is_tenant(tenant.encode("utf-8", "replace")):
            raise ValueError(f"addresses, CIDR ranges or TENANT=ADDRESS ({NO_TENANT})")
        try:
            network = parse_network(address.strip())
        except ValueError as error:
            raise ValueError(f"addresses, CIDR ranges or TENANT=ADDRESS ({error})") from None
        found[tenant] = (*found.get(tenant, ()), network)
    return found


def secret_keys(text: str) -> tuple[str, ...]:
    """Keys, by white space."""
    keys = tuple(text.split())
    if len(keys) > MOST_KEYS or any(len(key) < SHORTEST_KEY for key in keys):
        raise ValueError(
            f"at most {MOST_KEYS} keys by spaces, of at least {SHORTEST_KEY} characters each"
        )
    return keys


def secret(text: str) -> str:
    """One key that its holder sends; nothing where there is none."""
    good = text.isascii() and text.isprintable() and " " not in text
    if text and not (good and len(text) >= SHORTEST_KEY):
        raise ValueError(f"at least {SHORTEST_KEY} printable characters of ASCII without spaces")
    return text


def one_of(*words: str) -> Callable[[str], str]:
    """A parser of one of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(" or ".join(words))
        return text

    return parse


def place_in(words: tuple[str, ...]) -> Callable[[str], int]:
    """A parser of one of some words, whose place is the value."""

    def parse(text: str) -> int:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return words.index(text)

    return parse


def file_path(text: str) -> str:
    """The path of a file, made absolute; nothing where there is none."""
    if text.endswith("/") or not text.isprintable():
        raise ValueError("the path of a file")
    return os.path.realpath(text) if text else ""


def origins(text: str) -> tuple[str, ...]:
    """Origins that may call the API from a browser, by commas; `*` for all."""
    found = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for origin in found:
        bad = not origin.isascii() or any(c in origin for c in " \"'<>\r\n")
        if bad or (origin != "*" and not origin.startswith(("http://", "https://"))):
            raise ValueError("origins such as https://app.example.com, or *")
    return found
