"""One row of an import: what a file says of an email or an event, checked as at the door."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from little_bell.api.emails import clean, read_email, read_json
from little_bell.errors import Refused
from little_bell.store.history import Past, PastEmail, PastEvent
from little_bell.tracking.addresses import read_name
from little_bell.tracking.client import pack
from little_bell.tracking.hit import CLICK, OPEN, OWN, PREFETCH, RELAY, SCANNER, user_agent_text
from little_bell.tracking.links import canonical
from little_bell.values import NO_TENANT, is_tenant

MOST_ID = 10**15 - 1  # leaves room: ids that follow have 18 digits at most
FIRST_YEAR = 1973  # as periods (reports.period)
LONGEST = 1 << 16  # characters of a user agent; 512 bytes of it are kept

# Our names of what a row has, and others that are understood.
NAMES = {
    "tenant": ("tenant", "tenant_id"),
    "email_id": ("email_id", "email"),
    "kind": ("kind", "event_type", "type"),
    "at": ("at", "timestamp"),
    "url": ("url",),
    "label": ("label",),
    "user_agent": ("user_agent",),
    "ip_address": ("ip_address", "address", "ip"),
    "reasons": ("reasons",),
    "created_at": ("created_at",),
    "subject": ("subject",),
    "recipient": ("recipient",),
    "campaign": ("campaign",),
    "metadata": ("metadata",),
    "consent": ("consent",),
}
KNOWN = {name: ours for ours, names in NAMES.items() for name in names}
# What our exports have besides: it follows from the rest.
FOLLOWS = re.compile(
    "id|class|agent|client|device|opened|clicked|(machine_)?(opens|clicks)|"
    "(first|last)_(machine_)?(open|click)|seconds_to_first_open"
)

KINDS = {"open": OPEN, "click": CLICK}
FLAGS = {"prefetch": PREFETCH, "relay": RELAY, "scanner-range": SCANNER, "own": OWN}
NO_LONGER = re.compile(r"\(other\)|\(erased \d+\)")  # in our exports: targets that nobody knows
TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
NO_TIME = "{} is no time of RFC 3339, such as 2026-01-31T12:00:00Z"


NAMELESS = "events that name no email (they were only counted)"


class LeftOut(Exception):  # noqa: N818 - nothing is wrong
    """A row that cannot count for anything, and why."""


def named(members: Mapping[str, object], unused: set[str]) -> dict[str, object]:
    """Members under our names; what is not understood goes to `unused`. Raises Refused."""
    found: dict[str, object] = {}
    for name, value in members.items():
        ours = KNOWN.get(name)
        if ours is None:
            if len(unused) < 10 and not FOLLOWS.fullmatch(name):
                unused.add(shown(name[:64]))
        elif ours in found:
            raise Refused(400, f"{ours} is given twice")
        elif value is not None:
            found[ours] = value
    return found


def shown(text: str) -> str:
    """A text that is safe to be shown: without controls and lone surrogates."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def read_time(value: object, name: str, now: int) -> int:
    """A time in ms since the epoch; `now` is the latest one that is taken. Raises Refused."""
    found = TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Refused(400, NO_TIME.format(name) if value is not None else f"it has no {name}")
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    leap = second == "60"
    whole = 59 if leap else int(second)
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour), int(minute), whole, tzinfo=UTC
        )
    except ValueError:
        raise Refused(400, NO_TIME.format(name)) from None
    if int(year) < FIRST_YEAR:
        raise Refused(400, f"{name} is before {FIRST_YEAR}")
    at = int(moment.timestamp()) * 1000
    at += 999 if leap else int((fraction or "0")[:3].ljust(3, "0"))
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise Refused(400, NO_TIME.format(name))
        offset = (int(hours) * 60 + int(minutes)) * 60_000
        at += offset if sign == "-" else -offset
    if at > now:
        raise Refused(400, f"{name} is in the future")
    return at


def read_id(value: object) -> int:
    """An email's number. Raises Refused."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value) if value[0] != "0" else 0
    if value is None:
        raise Refused(400, "it has no email_id")
    if type(value) is not int or not 1 <= value <= MOST_ID:
        raise Refused(400, f"email_id is no number from 1 to {MOST_ID:,}")
    return value


def read_tenant(value: object, tenant: str | None) -> str:
    """Whose a row is; `tenant` where it does not say. Raises Refused."""
    if value is None:
        if tenant is None:
            raise Refused(400, "it has no tenant: give --tenant NAME")
        return tenant
    if not isinstance(value, str) or not is_tenant(value.encode("utf-8", "replace")):
        raise Refused(400, f"{str(value)[:80]!r} is no tenant: {NO_TENANT}")
    return value


def read_row(members: dict[str, object], tenant: str | None, now: int, ours: bool) -> Past:
    """An email or an event from members under our names. `ours`: they are of one of our exports.

    Raises Refused, or LeftOut.
    """
    if "kind" in members:
        if ours and "email_id" not in members:
            raise LeftOut(NAMELESS)
        return read_event(members, tenant, now)
    if "created_at" not in members:
        raise Refused(400, "it is no event, which has a kind, and no email, which has a created_at")
    name, email = read_tenant(members.get("tenant"), tenant), read_id(members.get("email_id"))
    created_at = read_time(members["created_at"], "created_at", now)
    names = ("subject", "recipient", "campaign", "consent")
    texts: dict[str, object] = {k: members[k] for k in names if k in members}
    metadata = members.get("metadata")
    if isinstance(metadata, str):  # a cell of CSV
        metadata = read_json(metadata.encode("utf-8", "replace"), "metadata")
    if metadata is not None:
        texts["metadata"] = metadata
    _, subject, recipient, campaign, packed, _, consent = read_email(name, texts)
    return PastEmail(name, email, created_at, subject, recipient, campaign, packed, consent)


def read_event(members: dict[str, object], tenant: str | None, now: int) -> PastEvent:
    """An open or a click. Raises Refused."""
    kind = KINDS.get(str(members["kind"]))
    if kind is None:
        raise Refused(400, f"kind is neither open nor click: {str(members['kind'])[:40]!r}")
    agent = clean(members.get("user_agent", ""), "user_agent", LONGEST)
    address = None
    if "ip_address" in members:
        address = pack(str(members["ip_address"]))
        if address is None:
            raise Refused(400, f"ip_address is none: {str(members['ip_address'])[:60]!r}")
    url, label = None, ""
    if kind == CLICK and "url" in members and not NO_LONGER.fullmatch(str(members["url"])):
        url = canonical(clean(members["url"], "url", LONGEST))
        label = read_name(clean(members.get("label", ""), "label", LONGEST), "label")
    return PastEvent(
        read_tenant(members.get("tenant"), tenant),
        read_id(members.get("email_id")),
        kind,
        read_time(members.get("at"), "at", now),
        read_flags(members.get("reasons")),
        user_agent_text(agent.encode("utf-8")),
        address,
        url,
        label,
    )


def read_flags(reasons: object) -> int:
    """What the reasons of an event, as our exports give them, say of its request."""
    if reasons is None:
        return 0
    words = reasons.split() if isinstance(reasons, str) else reasons
    if not isinstance(words, list):
        raise Refused(400, "reasons are no list")
    flags = 0
    for word in words:
        flags |= FLAGS.get(word, 0) if isinstance(word, str) else 0
    return flags
