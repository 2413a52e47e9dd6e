"""Plain words for people: numbers, moments in a zone, differences, classes and reasons."""

from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from little_bell.tracking.rules import REASONS

MEANING = dict(REASONS)
DASH = "–"  # noqa: RUF001 - an en dash: no value
MINUS = "−"  # noqa: RUF001 - a minus sign, as wide as a plus
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What an event was, by its kind and class.
DEEDS = {
    ("open", "human"): "Opened by a person",
    ("open", "proxy"): "Opened by a person, through a mail proxy",
    ("open", "unknown"): "Opened, perhaps by a person",
    ("open", "machine"): "Fetched by a machine",
    ("click", "human"): "Link followed by a person",
    ("click", "proxy"): "Link followed through a proxy",
    ("click", "unknown"): "Link followed, perhaps by a person",
    ("click", "machine"): "Link followed by a machine",
}
CLASS_NOTES = {
    "human": "It counts.",
    "proxy": "It counts, since a proxy fetches when a person opens.",
    "unknown": "It counts with people.",
    "machine": "It stands beside and never counts.",
}


class Change(NamedTuple):
    """How a figure differs from the one of the period before: never by colour alone."""

    direction: str  # up, down, same
    sign: str  # +8.1 %
    words: str  # more than 11,540 before


def thousands(n: int) -> str:
    return f"{n:,}"


def percent(share: float | None) -> str:
    """A rate for people; a dash where there is none."""
    return DASH if share is None else f"{share * 100:.1f} %"


def signed(number: float, form: str) -> str:
    """A number with its sign, a true minus."""
    text = format(abs(number), form)
    if text.strip("0.,") == "":
        return "±" + text
    return ("+" if number > 0 else MINUS) + text


def change(now: int, before: int | None) -> Change | None:
    """A count beside the one before; None where there is no period before."""
    if before is None:
        return None
    if now == before:
        return Change("same", "±0", f"as before: {before:,}" if before else "none before either")
    direction, word = ("up", "more") if now > before else ("down", "fewer")
    if not before:
        return Change(direction, f"+{now:,}", "none before")
    sign = signed((now - before) / before * 100, ",.1f") + " %"
    if sign.startswith("±"):  # less than 0.05 %
        sign = signed(now - before, ",")
    return Change(direction, sign, f"{word} than {before:,} before")


def points(now: float | None, before: float | None) -> Change | None:
    """A rate beside the one before, in percentage points."""
    if now is None or before is None:
        return None
    sign = signed((now - before) * 100, ".1f")
    direction = {"+": "up", MINUS: "down"}.get(sign[0], "same")
    return Change(direction, sign, f"points, {percent(before)} before")


def local(at: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at / 1000, zone)


def iso(at: int) -> str:
    """A moment for programs: the `datetime` of a <time>."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at: int, zone: tzinfo) -> str:
    """`24 Nov 2026`."""
    then = local(at, zone)
    return f"{then.day} {MONTHS[then.month - 1]} {then.year}"


def moment(at: int, zone: tzinfo) -> str:
    """`24 Nov 2026, 16:47:05`."""
    return f"{day(at, zone)}, {local(at, zone):%H:%M:%S}"


def minute(at: int, zone: tzinfo) -> str:
    """`24 Nov 2026, 16:47`."""
    return f"{day(at, zone)}, {local(at, zone):%H:%M}"


def span(start: int, end: int, zone: tzinfo) -> str:
    """`25 Oct to 24 Nov 2026`; with times where it does not run from midnight to midnight."""
    first, last = local(start, zone), local(end, zone)
    if first.hour or first.minute or last.hour or last.minute:
        if first.date() == last.date():
            return f"{minute(start, zone)} to {last:%H:%M}"
        return f"{minute(start, zone)} to {minute(end, zone)}"
    if end > start:
        last = local(end - 1, zone)  # the end is not within
    if first.date() == last.date():
        return day(start, zone)
    if first.year == last.year:
        return f"{first.day} {MONTHS[first.month - 1]} to {day(end - 1, zone)}"
    return f"{day(start, zone)} to {day(end - 1, zone)}"


def elapsed(ms: int) -> str:
    """How long after: `8 s`, `3 min`, `2 h 5 min`, `4 days`."""
    seconds = ms // 1000
    if seconds < 0:
        return "before"
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86_400:
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days = seconds // 86_400
    return f"{days} day" if days == 1 else f"{days:,} days"


def deed(kind: str, class_: str | None, n: int | None = None) -> str:
    """What an event was: `Opened by a person`."""
    if n or class_ is None:
        return f"{n or 0:,} more, beyond the cap"
    return DEEDS.get((kind, class_), kind)


def meaning(code: str) -> str:
    """A reason as a sentence."""
    text = MEANING.get(code, code)
    return text[:1].upper() + text[1:]
