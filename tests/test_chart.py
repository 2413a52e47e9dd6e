"""Numbers become geometry: nothing leaves the plot, and what is written is where it belongs"""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from little_bell.pages.chart import HEIGHT, LABELS, Point, panel, step, ticks

COUNTS = st.integers(0, 10**12)


@given(st.lists(st.tuples(COUNTS, COUNTS), max_size=400))
def test_bars_stand_on_the_ground_and_stay_within(pairs: list[tuple[int, int]]) -> None:
    shown = panel([Point(str(i), *pair) for i, pair in enumerate(pairs)])
    assert len(shown.bars) == len(pairs)
    right = 0.0
    for bar, (people, machines) in zip(shown.bars, pairs, strict=True):
        low = float(bar.people_y) + float(bar.people_height)
        assert abs(low - HEIGHT) < 0.02
        top = float(bar.machines_y)
        assert -0.02 <= top <= HEIGHT
        assert abs(top + float(bar.machines_height) - float(bar.people_y)) < 0.02
        assert (people > 0) >= (float(bar.people_height) > 0)
        assert (machines > 0) >= (float(bar.machines_height) > 0)
        left, width = float(bar.x[:-1]), float(bar.width[:-1])
        assert left >= right - 0.02
        right = left + width
        assert right <= 100.02
    assert (shown.people, shown.machines) == tuple(map(sum, zip(*pairs, strict=True))) or not pairs


@given(COUNTS)
def test_grid_lines_are_few_and_round(highest: int) -> None:
    distance = step(max(highest, 1))
    assert str(distance).strip("0") in ("1", "2", "5")
    lines = panel([Point("", highest, 0)]).lines
    assert 1 <= len(lines) <= 4
    assert lines[-1].value >= highest
    assert [line.value % distance for line in lines] == [0] * len(lines)


def starts(n: int, apart: timedelta) -> list[datetime]:
    return [datetime(2026, 1, 1, tzinfo=UTC) + i * apart for i in range(n)]


def test_labels_name_hours_days_and_weeks() -> None:
    hours = ticks(starts(24, timedelta(hours=1)))
    assert [tick.text for tick in hours][:2] == ["00:00", "06:00"]
    days = ticks(starts(30, timedelta(days=1)))
    assert [tick.text for tick in days][:2] == ["1 Jan", "6 Jan"]
    assert ticks([]) == ()


@given(st.integers(1, 400), st.sampled_from([1, 24, 168]))
def test_labels_are_few_and_ascend(n: int, hours: int) -> None:
    found = ticks(starts(n, timedelta(hours=hours)))
    places = [float(tick.x[:-1]) for tick in found]
    assert len(found) <= LABELS
    assert places == sorted(set(places))
    assert all(0 <= place <= 94 for place in places)
