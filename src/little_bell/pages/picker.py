"""The period that a page is asked for, and the choice of others."""

from datetime import tzinfo
from typing import NamedTuple

from little_bell.errors import Refused
from little_bell.pages import words
from little_bell.pages.address import Address, asked
from little_bell.reports.period import (
    DAYS,
    HOURS,
    PRESETS,
    QUARTER,
    WEEKS,
    Period,
    parse,
    preset,
    previous,
    zone_named,
)

QUARTER_MS = QUARTER * 1000
DAY = 86_400 // QUARTER  # buckets
LONGEST = 18 * 366 * DAY

Values = dict[str, object]

DEFAULT = "30d"
PERIODS = (
    ("24h", "24 h", "24 hours"),
    ("7d", "7 d", "7 days"),
    ("30d", "30 d", "30 days"),
    ("90d", "90 d", "90 days"),
    ("12m", "12 m", "12 months"),
    ("all", "All", "All time"),
)
ZONES = (
    "UTC",
    "Africa/Lagos",
    "America/Chicago",
    "America/Los_Angeles",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/London",
)


class Zone(NamedTuple):
    """A time zone."""

    zone: tzinfo
    name: str
    chosen: bool  # by the address
    unknown: bool  # the one asked for is not known here


class Choice(NamedTuple):
    """What was chosen. `name` is of PERIODS; nothing where dates were chosen."""

    period: Period
    before: Period | None
    interval: str
    name: str
    first: str
    last: str
    zone: Zone
    wrong: bool  # what was asked for could not be read


class Option(NamedTuple):
    """One that can be chosen."""

    href: str
    short: str
    long: str
    current: bool


class Dates(NamedTuple):
    """The form for dates of one's own."""

    action: str
    first: str
    last: str
    zone: str
    zones: tuple[str, ...]
    current: bool
    wrong: bool


class Span(NamedTuple):
    """A period in words, and the one before."""

    span: str
    before: str


def zone_of(query: bytes) -> Zone:
    """The time zone that a query asks for; UTC where this system does not know it."""
    name = asked(query, "tz")
    try:
        return Zone(zone_named(name or "UTC"), name or "UTC", bool(name), False)
    except Refused:
        return Zone(zone_named("UTC"), "UTC", True, True)


def choose(query: bytes, now: float, first_bucket: int | None) -> Choice:
    """What a query asks for, at a time in seconds. What cannot be read is as if it were not there.

    `first_bucket` is the first one of which there are figures.
    """
    zone = zone_of(query)
    name, first, last = (asked(query, part) for part in ("period", "from", "to"))
    wrong = False
    if first or last:
        values = {"from": first, "to": last, "tz": zone.name}
        try:
            period, interval = dates(values, now, first_bucket)
            return Choice(
                period, previous(period) if first else None, interval, "", first, last, zone, False
            )
        except Refused:
            wrong = True
    name = name if name in PRESETS else DEFAULT
    period, interval = preset(name, zone.zone, now, first_bucket)
    before = None if name == "all" else previous(period)
    return Choice(period, before, interval, name, "", "", zone, wrong)


def dates(values: dict[str, str], now: float, first_bucket: int | None) -> tuple[Period, str]:
    """A period between dates, bounded on both sides, and the interval that suits it."""
    period = parse({name: text for name, text in values.items() if text})
    whole, _ = preset("all", period.zone, now, first_bucket)
    start = whole.start if period.start is None else period.start
    end = whole.end if period.end is None else period.end
    if start is None or end is None or start >= end:
        raise Refused(400, "to is not after from", "to")
    length = end - start
    if length > LONGEST:
        raise Refused(400, "the period is too long", "from")
    interval = HOURS if length <= 3 * DAY else DAYS if length <= 120 * DAY else WEEKS
    return Period(start, end, period.zone), interval


def options(choice: Choice, where: Address, page: str = "", item: object = None) -> Values:
    """The values that the picker of a page needs."""
    periods = [
        Option(
            where.with_only((*where.zone, ("period", name)), page, item),
            short,
            long,
            name == choice.name,
        )
        for name, short, long in PERIODS
    ]
    form = Dates(
        where.with_only((), page, item),
        choice.first,
        choice.last,
        choice.zone.name,
        ZONES,
        not choice.name,
        choice.wrong,
    )
    before = choice.before
    return {
        "periods": periods,
        "dates": form,
        "period": Span(in_words(choice.period), "" if before is None else in_words(before)),
    }


def heading(choice: Choice) -> str:
    """A period as the heading of a page."""
    for name, _, long in PERIODS:
        if name == choice.name:
            return "Since the beginning" if name == "all" else f"The last {long}"
    return in_words(choice.period)


def in_words(period: Period) -> str:
    """From when to when, in the period's zone."""
    if period.start is None or period.end is None:
        return "All time"
    return words.span(period.start * QUARTER_MS, period.end * QUARTER_MS, period.zone)
