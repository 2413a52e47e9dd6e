"""Periods in time zones: dates, days, hours, presets, from calendars and not from our own code"""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_bell.errors import Refused
from little_bell.reports import cursors
from little_bell.reports.period import (
    FIRST_YEAR,
    PRESETS,
    Period,
    edges,
    local,
    parse,
    parse_interval,
    preset,
    previous,
    zone_named,
)

ZONES = (
    "UTC",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Pyongyang",
    "Pacific/Apia",
)


def bucket(text: str) -> int:
    """The bucket at which a time of UTC begins one."""
    seconds = datetime.fromisoformat(text + "+00:00").timestamp()
    assert seconds % 900 == 0
    return int(seconds) // 900


@pytest.mark.parametrize(
    ("values", "start", "end"),
    [
        ({}, None, None),
        ({"from": "2026-01-05"}, "2026-01-05T00:00", None),
        ({"from": "2026-01-05", "to": "2026-01-05"}, "2026-01-05T00:00", "2026-01-06T00:00"),
        ({"from": "2026-01-05", "tz": "Asia/Kolkata"}, "2026-01-04T18:30", None),
        ({"from": "2026-01-05", "tz": "Asia/Kathmandu"}, "2026-01-04T18:15", None),
        ({"to": "2026-03-29", "tz": "Europe/Berlin"}, None, "2026-03-29T22:00"),
        ({"from": "2026-01-05T12:07:00Z"}, "2026-01-05T12:00", None),
        ({"to": "2026-01-05T12:07:00Z"}, None, "2026-01-05T12:15"),
        ({"to": "2026-01-05T12:15:00Z"}, None, "2026-01-05T12:15"),
        ({"to": "2026-01-05T12:15:00.001z"}, None, "2026-01-05T12:30"),
        ({"to": "2026-01-05T12:15:00.0000000000001z"}, None, "2026-01-05T12:30"),
        # Leap seconds are the first of the next day here.
        ({"from": "2016-12-31T23:59:60Z"}, "2017-01-01T00:00", None),
        ({"to": "2017-01-01T05:29:60.5+05:30"}, None, "2017-01-01T00:15"),
        ({"from": "2026-01-05T12:00:00+05:45"}, "2026-01-05T06:15", None),
        ({"from": "2026-01-05T12:00:00 05:45"}, "2026-01-05T06:15", None),
        ({"from": "2026-01-05T12:00:00-03:30"}, "2026-01-05T15:30", None),
        # The clock went from 00:00 to 01:00 there.
        ({"from": "2018-11-04", "tz": "America/Sao_Paulo"}, "2018-11-04T03:00", None),
        # 00:00 came twice there: the day begins with the first.
        ({"from": "2026-11-01", "tz": "America/Havana"}, "2026-11-01T04:00", None),
    ],
)
def test_from_and_to(values: dict[str, str], start: str | None, end: str | None) -> None:
    found = parse(values)
    assert found.start == (None if start is None else bucket(start))
    assert found.end == (None if end is None else bucket(end))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "2026-1-5"}, "from"),
        ({"from": "\u0662\u0660\u0662\u0666-01-05"}, "from"),
        ({"to": "2026-01-05T12:00:00"}, "to"),
        ({"to": "2026-01-05T25:00:00Z"}, "to"),
        ({"to": "2026-01-05T12:00:00+24:00"}, "to"),
        ({"from": "1972-12-31"}, "from"),
        ({"from": "2016-12-31T23:58:60Z"}, "from"),
        ({"from": "2016-12-31T23:59:60+01:00"}, "from"),
        ({"from": "2016-12-31T23:59:61Z"}, "from"),
        ({"to": "2101-01-01"}, "to"),
        ({"to": "0000-01-01"}, "to"),
        ({"from": "2026-01-06", "to": "2026-01-05"}, "to"),
        ({"from": "2026-01-06T12:00:00Z", "to": "2026-01-06T12:00:00Z"}, "to"),
        ({"tz": "Europe/Atlantis"}, "tz"),
        ({"tz": "Europe"}, "tz"),
        ({"tz": "../../etc/passwd"}, "tz"),
        ({"tz": "/etc/localtime"}, "tz"),
        ({"tz": "right/Europe/Berlin"}, "tz"),
        ({"tz": "a" * 65}, "tz"),
    ],
)
def test_what_is_no_period_is_refused(values: dict[str, str], field: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(values)
    assert (caught.value.status, caught.value.field) == (400, field)


def test_local_times_are_rfc_3339() -> None:
    """Which knows no seconds in an offset; some zones had them until 1972."""
    first = parse({"from": f"{FIRST_YEAR}-01-01"}).start
    assert first is not None
    for name in available_timezones() - {"localtime"}:
        for at in (first - 96, first, bucket("2026-01-01T00:00")):
            assert len(local(zone_named(name), at).isoformat()) == len("2026-01-01T00:00:00+00:00")


def test_an_interval_is_hour_day_or_week() -> None:
    assert parse_interval({}) is None
    assert parse_interval({"interval": "week"}) == "week"
    with pytest.raises(Refused) as caught:
        parse_interval({"interval": "month"})
    assert caught.value.field == "interval"


def hours_of_days(zone: str, first: str, last: str) -> list[float]:
    found = parse({"from": first, "to": last, "tz": zone})
    assert found.start is not None
    assert found.end is not None
    return [(b - a) / 4 for a, b in pairwise(edges(found.zone, found.start, found.end, "day"))]


@pytest.mark.parametrize(
    ("zone", "first", "last", "hours"),
    [
        ("Europe/Berlin", "2026-03-28", "2026-03-30", [24, 23, 24]),
        ("Europe/Berlin", "2026-10-24", "2026-10-26", [24, 25, 24]),
        ("America/St_Johns", "2026-03-07", "2026-03-09", [24, 23, 24]),
        ("Australia/Lord_Howe", "2026-04-04", "2026-04-06", [24, 24.5, 24]),
        ("Australia/Lord_Howe", "2026-10-03", "2026-10-05", [24, 23.5, 24]),
        ("Asia/Kathmandu", "2026-03-28", "2026-03-30", [24, 24, 24]),
        ("America/Sao_Paulo", "2018-11-03", "2018-11-05", [24, 23, 24]),
        ("Pacific/Apia", "2011-12-29", "2011-12-31", [24, 24]),  # the 30th never was
    ],
)
def test_days_have_the_hours_they_have(
    zone: str, first: str, last: str, hours: list[float]
) -> None:
    assert hours_of_days(zone, first, last) == hours


def test_weeks_begin_on_monday() -> None:
    start, end = bucket("2026-01-01T00:00"), bucket("2026-01-20T00:00")
    assert edges(UTC, start, end, "week") == [
        bucket(f"2026-01-{day}T00:00") for day in ("01", "05", "12", "19", "20")
    ]


@pytest.mark.parametrize(
    ("zone", "start", "end", "clocks"),
    [
        ("Europe/Berlin", "2026-10-24T23:00", "2026-10-25T03:00", ["01", "02", "02", "03"]),
        ("Europe/Berlin", "2026-03-28T23:00", "2026-03-29T03:00", ["00", "01", "03", "04"]),
        (
            "Australia/Lord_Howe",  # from 02:00 to 01:30
            "2026-04-04T13:00",
            "2026-04-04T17:30",
            ["00:00", "01:00", "01:30", "02:00", "03:00"],
        ),
        (
            "Australia/Lord_Howe",  # from 02:00 to 02:30
            "2026-10-03T14:30",
            "2026-10-03T17:00",
            ["01:00", "02:30", "03:00"],
        ),
        ("Asia/Kathmandu", "2026-01-01T00:00", "2026-01-01T02:15", ["05:45", "06", "07"]),
        # From 23:30 to 00:00.
        ("Asia/Pyongyang", "2018-05-04T14:30", "2018-05-04T17:00", ["23", "00", "01"]),
    ],
)
def test_hours_begin_when_the_clock_says_so(
    zone: str, start: str, end: str, clocks: list[str]
) -> None:
    found = edges(ZoneInfo(zone), bucket(start), bucket(end), "hour")
    shown = [datetime.fromtimestamp(at * 900, ZoneInfo(zone)).strftime("%H:%M") for at in found]
    assert shown[:-1] == [clock if ":" in clock else f"{clock}:00" for clock in clocks]


@given(
    zone=st.sampled_from(ZONES),
    # Newfoundland changed its clocks at 00:01 until 2011: not at a quarter hour.
    start=st.integers(bucket("2011-11-28T00:00"), bucket("2036-01-01T00:00")),
    length=st.integers(1, 300 * 96),
    interval=st.sampled_from(("hour", "day", "week")),
)
def test_edges_are_where_a_walk_in_quarter_hours_finds_them(
    zone: str, start: int, length: int, interval: str
) -> None:
    length = min(length, 40 * 96) if interval == "hour" else length
    here = ZoneInfo(zone)

    def mark(at: int) -> tuple[object, ...]:
        """What stays the same within an interval."""
        clock = datetime.fromtimestamp(at * 900, here)
        if interval == "hour":
            return (clock.date(), clock.hour, clock.utcoffset())
        monday = clock.date() - timedelta(clock.weekday())
        return (monday if interval == "week" else clock.date(),)

    inside = [at for at in range(start + 1, start + length) if mark(at) != mark(at - 1)]
    expected = [start, *inside, start + length]
    assert edges(here, start, start + length, interval) == expected


def test_there_are_a_thousand_intervals_at_most() -> None:
    start = bucket("2026-01-01T00:00")
    assert len(edges(UTC, start, start + 4000, "hour")) == 1001
    with pytest.raises(Refused) as caught:
        edges(UTC, start, start + 4001, "hour")
    assert caught.value.field == "interval"


@pytest.mark.parametrize(
    ("name", "start", "end", "interval"),
    [
        ("24h", "2026-03-28T18:00", "2026-03-29T18:00", "hour"),
        ("7d", "2026-03-22T23:00", "2026-03-29T22:00", "day"),
        ("30d", "2026-02-27T23:00", "2026-03-29T22:00", "day"),
        ("90d", "2025-12-29T23:00", "2026-03-29T22:00", "day"),
        ("12m", "2025-03-29T23:00", "2026-03-29T22:00", "week"),
        ("all", "2026-03-01T00:00", "2026-03-29T22:00", "day"),
    ],
)
def test_presets_end_with_the_day_or_hour_that_is_now(
    name: str, start: str, end: str, interval: str
) -> None:
    zone = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 3, 29, 17, 42, tzinfo=UTC).timestamp()  # the clock changed that morning
    found, by = preset(name, zone, now, bucket("2026-03-01T00:00"))
    assert found == Period(bucket(start), bucket(end), zone)
    assert by == interval


@given(
    name=st.sampled_from(PRESETS),
    zone=st.sampled_from(ZONES),
    now=st.integers(31_536_000, 4_102_444_799),
    first=st.none() | st.integers(0, 5_000_000),
)
def test_presets_have_a_series_and_a_period_before(
    name: str, zone: str, now: int, first: int | None
) -> None:
    here = ZoneInfo(zone)
    found, interval = preset(name, here, now, first)
    assert found.start is not None
    assert found.end is not None
    assert found.start < found.end
    assert found.end > now // 900
    assert len(edges(here, found.start, found.end, interval)) <= 1001
    before = previous(found)
    assert before is not None
    assert before.end == found.start
    assert before.start is not None
    assert before.start < before.end


def test_the_period_before_has_as_many_days() -> None:
    berlin = zone_named("Europe/Berlin")
    found = parse({"from": "2026-03-29", "to": "2026-03-30", "tz": "Europe/Berlin"})
    assert previous(found) == parse({"from": "2026-03-27", "to": "2026-03-28", "tz": str(berlin)})
    assert previous(Period(100, 110, berlin)) == Period(90, 100, berlin)
    assert previous(Period(None, 110, berlin)) is None
    assert date(2026, 3, 29).weekday() == 6


@given(values=st.lists(st.none() | st.integers(0, (1 << 63) - 1) | st.text(), max_size=3))
def test_cursors_come_back_as_they_were(values: list[int | str | None]) -> None:
    good = [v for v in values if not isinstance(v, str) or "\0" not in v]
    form = tuple("text" if isinstance(v, str) else "int or null" for v in good)
    assert list(cursors.decode(cursors.encode(good), form)) == good


@pytest.mark.parametrize(
    "text",
    ["", "x", "bnVsbA", "WzFd\u00e4", "WzEsMl0", "Wy0xXQ", "W3RydWVd", "W1siYSJdXQ", "W" * 5000],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        cursors.decode(text, ("int",))
    assert caught.value.field == "cursor"
