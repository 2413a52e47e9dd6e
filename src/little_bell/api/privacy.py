"""What a tenant's settings and an opt-out say, checked; and how settings are shown."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from little_bell.api.emails import MAX_TEXT, clean, read_object
from little_bell.errors import Refused
from little_bell.store.tenants import Policy
from little_bell.tracking.privacy import ADDRESSES, CONSENTS, GPC_CONSENTS, trimmed

MAX_DAYS = 36_500
MAX_HOSTS = 100
MAX_HOST = 255
LABEL = "[0-9a-z]([0-9a-z_-]{0,61}[0-9a-z])?"
# No address: the last part of one is a number
# (https://url.spec.whatwg.org/#ends-in-a-number-checker).
HOST = re.compile(rf"(\*\.)?({LABEL}\.)*[a-z]([0-9a-z-]{{0,61}}[0-9a-z])?")


def one_of(words: tuple[str, ...]) -> Callable[[object, str], int]:
    """A parser of one of some words, whose place is the value."""

    def parse(value: object, name: str) -> int:
        if not isinstance(value, str) or value not in words:
            raise Refused(400, f"{name} is none of {', '.join(words)}", name)
        return words.index(value)

    return parse


def days(value: object, name: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # the same in JSON
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_DAYS:
        raise Refused(400, f"{name} is no whole number from 0 to {MAX_DAYS}", name)
    return value


def hosts(value: object, name: str) -> tuple[str, ...]:
    """Hosts in small letters, each once."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_HOSTS:
        raise Refused(400, f"{name} is no list of 1 to {MAX_HOSTS} hosts", name)
    return tuple(dict.fromkeys(host(one, name) for one in value))


def host(value: object, name: str) -> str:
    """One host, `*.` before it for all below it. Names of other scripts as `xn--`."""
    if isinstance(value, str) and len(value) <= MAX_HOST and value.isascii():
        text = value.lower()
        if HOST.fullmatch(text):
            return text
    raise Refused(400, f"{name} are names such as example.com and *.example.com", name)


SETTINGS: dict[str, Callable[[object, str], Any]] = {
    "consent": one_of(CONSENTS),
    "addresses": one_of(ADDRESSES),
    "gpc": one_of(GPC_CONSENTS),
    "retention_days": days,
    "hosts": hosts,
}


def parse_settings(body: bytes) -> dict[str, Any]:
    """New values of a tenant's settings, None where the server's is to hold.

    Raises Refused (400)."""
    members = read_object(body)
    known = ", ".join(SETTINGS)
    for name in members:
        if name not in SETTINGS:
            shown = clean(name[:64].replace("\0", " "), "name", 64)
            raise Refused(400, f"unknown field {shown!r}; known are {known}", shown)
    if not members:
        raise Refused(400, f"nothing to change; known are {known}")
    return {
        name: None if value is None else SETTINGS[name](value, name)
        for name, value in members.items()
    }


def settings_record(own: Policy, effective: Policy) -> dict[str, object]:
    """A tenant's settings: those that hold, and which of them are its own."""
    return {
        "consent": CONSENTS[effective.consent or 0],
        "addresses": ADDRESSES[effective.addresses or 0],
        "gpc": GPC_CONSENTS[effective.gpc or 0],
        "retention_days": effective.retention_days,
        "hosts": None if effective.hosts is None else list(effective.hosts),
        "own": [name for name, value in own._asdict().items() if value is not None],
    }


def parse_optout(body: bytes) -> str:
    """The recipient who opts out: of a JSON object or a form, whatever the Content-Type says.

    Raises Refused (400)."""
    if body.lstrip()[:1] == b"{":
        members = read_object(body)
    else:
        members = dict(read_form(body))
    for name in members:
        if name != "recipient":
            shown = clean(name[:64].replace("\0", " "), "name", 64)
            raise Refused(400, f"unknown field {shown!r}; known is recipient", shown)
    return check_recipient(members.get("recipient", ""))


def read_form(body: bytes) -> list[tuple[str, object]]:
    """The fields of a form (application/x-www-form-urlencoded). Raises Refused (400)."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10
        )
    except ValueError:
        raise Refused(400, "the body is neither a JSON object nor a form") from None
    return [(name, value) for name, value in pairs]


def check_recipient(value: object) -> str:
    """A recipient. Raises Refused (400)."""
    recipient = trimmed(clean(value, "recipient", MAX_TEXT["recipient"]))
    if not recipient:
        raise Refused(400, "the recipient is missing", "recipient")
    return recipient


def recipient_of(segment: bytes) -> str:
    """The recipient in a path. Raises Refused (400)."""
    try:
        return check_recipient(unquote_to_bytes(segment).decode("utf-8"))
    except UnicodeDecodeError:
        raise Refused(400, "the recipient is not valid UTF-8", "recipient") from None
