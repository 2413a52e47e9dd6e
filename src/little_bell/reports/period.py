"""Periods in a time zone, as spans of quarter hours (buckets), and their hours, days and weeks.

A day begins when its date does: it may have 23 or 25 hours, and where a clock is put forward at
midnight it begins at one. An hour that comes twice is two hours. Where a zone was not whole quarter
hours from UTC (none is since 1979) times are rounded down to one.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from little_bell.errors import Refused

QUARTER = 900  # seconds: a bucket of figures
HOUR = 3600
DAY = 24 * HOUR
FIRST_YEAR, LAST_YEAR = 1973, 2100  # all zones are whole minutes from UTC since 1972
MAX_INTERVALS = 1000

HOURS, DAYS, WEEKS = INTERVALS = ("hour", "day", "week")
PRESETS = ("24h", "7d", "30d", "90d", "12m", "all")
DAYS_OF = {"7d": 7, "30d": 30, "90d": 90}

DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
# RFC 3339; a + that was not encoded came as a space.
TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?"
    r"(?:([Zz])|([+ -])([0-9]{2}):([0-9]{2}))"
)
ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


class Period(NamedTuple):
    """Buckets from `start` up to, not including, `end`; None: without a bound."""

    start: int | None
    end: int | None
    zone: tzinfo


def zone_named(name: str) -> tzinfo:
    """A time zone by its IANA name. Raises Refused (400)."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    bad = len(name) > 64 or not ZONE.fullmatch(name) or name.startswith(("right/", "posix/"))
    try:
        if not bad:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass  # there is none, or a folder
    raise Refused(400, "tz is not the name of a time zone, such as Europe/Berlin", "tz")


def parse(values: Mapping[str, str]) -> Period:
    """The period of `from`, `to` and `tz`: each a date, which is a whole day of the zone, or a time
    of RFC 3339. Times are rounded to quarter hours, outwards. Raises Refused (400)."""
    zone = zone_named(values.get("tz", "UTC"))
    start = end = None
    if "from" in values:
        start = _parse(values["from"], "from", zone)
    if "to" in values:
        end = _parse(values["to"], "to", zone)
    if start is not None and end is not None and start >= end:
        raise Refused(400, "to is not after from", "to")
    return Period(start, end, zone)


def parse_interval(values: Mapping[str, str]) -> str | None:
    """The value of `interval`. Raises Refused (400)."""
    interval = values.get("interval")
    if interval is not None and interval not in INTERVALS:
        raise Refused(400, f"interval is not one of {', '.join(INTERVALS)}", "interval")
    return interval


def _parse(text: str, name: str, zone: tzinfo) -> int:
    """A bucket: where `from` begins or `to` ends."""
    wanted = f"{name} is neither a date nor a time such as 2026-01-31T12:00:00Z"
    try:
        if DATE.fullmatch(text):
            day = date.fromisoformat(text)
            _check_year(day.year, name)
            if name == "to":
                day += timedelta(1)
            return midnight(zone, day) // QUARTER
        found = TIME.fullmatch(text)
        if not found:
            raise Refused(400, wanted, name)
        days, clock, _, _, sign, hours, minutes = found.groups()
        leap = clock.endswith(":60")  # a leap second, which only ends a day of UTC
        moment = datetime.fromisoformat(
            f"{days}T{clock[:6]}59+00:00" if leap else f"{days}T{clock}+00:00"
        )
        _check_year(moment.year, name)
        seconds = int(moment.timestamp()) + leap
        if sign:
            if int(hours) > 23 or int(minutes) > 59:
                raise Refused(400, wanted, name)
            offset = int(hours) * HOUR + int(minutes) * 60
            seconds -= -offset if sign == "-" else offset
        if leap and seconds % DAY:
            raise Refused(400, wanted, name)
        if name == "to":  # a fraction of a second is a part of the quarter hour as well
            fraction = (found[3] or ".0").strip(".0") != ""
            return -(-(seconds + fraction) // QUARTER)
        return seconds // QUARTER
    except ValueError:
        raise Refused(400, wanted, name) from None


def _check_year(year: int, name: str) -> None:
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise Refused(400, f"{name} is not within {FIRST_YEAR} to {LAST_YEAR}", name)


def midnight(zone: tzinfo, day: date) -> int:
    """When a day begins, in seconds since the epoch."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def local(zone: tzinfo, bucket: int) -> datetime:
    """The beginning of a bucket as a clock of the zone shows it."""
    return datetime.fromtimestamp(bucket * QUARTER, zone)


def edges(zone: tzinfo, start: int, end: int, interval: str) -> list[int]:
    """The buckets at which hours, days or weeks (from Monday) begin, between `start` and `end`, and
    these two. The first and the last may be parts of one.

    Raises Refused (400) where there are more than MAX_INTERVALS.
    """
    found = [start]
    at, over = start * QUARTER, end * QUARTER
    while True:
        at = _next_hour(zone, at) if interval == HOURS else _next_day(zone, at, interval)
        if at >= over:
            break
        bucket = at // QUARTER
        if bucket > found[-1]:
            found.append(bucket)
        if len(found) > MAX_INTERVALS:
            raise Refused(400, f"these are more than {MAX_INTERVALS} intervals", "interval")
    found.append(end)
    return found


def _next_day(zone: tzinfo, at: int, interval: str) -> int:
    """When the next day or week begins, in seconds; a day that a zone left out, with the next."""
    day = datetime.fromtimestamp(at, zone).date()
    return midnight(zone, day + timedelta(7 - day.weekday() if interval == WEEKS else 1))


def _offset(zone: tzinfo, at: int) -> int:
    shift = datetime.fromtimestamp(at, zone).utcoffset()
    return 0 if shift is None else int(shift.total_seconds())


def _next_hour(zone: tzinfo, at: int) -> int:
    """When the next hour begins, in seconds: also where the clock is set within one."""
    offset = _offset(zone, at)
    after = at + HOUR - (at + offset) % HOUR
    if _offset(zone, after) == offset:
        return after
    low, high = at, after  # the clock changes behind low, at high at the latest
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high


def preset(name: str, zone: tzinfo, now: float, first: int | None) -> tuple[Period, str]:
    """A period up to now by its name, one of PRESETS, and the interval that suits it.

    `now` is in seconds since the epoch, `first` the first bucket of which there are figures. The
    last hour or day, which is not over, is whole.
    """
    at = int(now)
    tomorrow = datetime.fromtimestamp(at, zone).date() + timedelta(1)
    end = midnight(zone, tomorrow) // QUARTER
    if name == "24h":
        end = _next_hour(zone, at) // QUARTER
        return Period(end - 96, end, zone), HOURS
    if name in DAYS_OF:
        begin = tomorrow - timedelta(DAYS_OF[name])
        return Period(midnight(zone, begin) // QUARTER, end, zone), DAYS
    if name == "12m":
        leap = tomorrow.month == 2 and tomorrow.day == 29
        begin = tomorrow.replace(year=tomorrow.year - 1, day=28 if leap else tomorrow.day)
        return Period(midnight(zone, begin) // QUARTER, end, zone), WEEKS
    start = min(end - 96 if first is None else first, end - 96)
    start = max(start, end - (MAX_INTERVALS - 2) * 7 * 96)
    return Period(start, end, zone), DAYS if end - start <= 120 * 96 else WEEKS


def previous(period: Period) -> Period | None:
    """The period of equal length before: as many days where both ends are midnights."""
    start, end, zone = period
    if start is None or end is None:
        return None
    first, last = local(zone, start).date(), local(zone, end).date()
    whole = [midnight(zone, day) // QUARTER for day in (first, last)] == [start, end]
    if whole:
        return Period(midnight(zone, first - (last - first)) // QUARTER, start, zone)
    return Period(2 * start - end, start, zone)
