"""Plain words: numbers, differences, moments and lengths of time"""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from little_bell.pages.words import DEEDS, MINUS, change, elapsed, moment, points, span
from little_bell.tracking.rules import CLASSES


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        (12, None, None),
        (0, 0, ("same", "±0", "none before either")),
        (7, 7, ("same", "±0", "as before: 7")),
        (40, 0, ("up", "+40", "none before")),
        (1250, 1000, ("up", "+25.0 %", "more than 1,000 before")),
        (0, 8, ("down", f"{MINUS}100.0 %", "fewer than 8 before")),
        (10_001, 10_000, ("up", "+1", "more than 10,000 before")),
        (9_999, 10_000, ("down", f"{MINUS}1", "fewer than 10,000 before")),
    ],
)
def test_a_difference_has_a_sign_and_words(
    now: int, before: int | None, said: tuple[str, str, str] | None
) -> None:
    assert change(now, before) == said


def test_rates_differ_by_points() -> None:
    assert points(0.421, 0.409) == ("up", "+1.2", "points, 40.9 % before")
    assert points(0.4, 0.5) == ("down", f"{MINUS}10.0", "points, 50.0 % before")
    assert points(0.4, 0.4) == ("same", "±0.0", "points, 40.0 % before")
    assert points(None, 0.4) is None
    assert points(0.4, None) is None


def test_moments_and_spans_are_those_of_the_zone() -> None:
    at = 1_793_318_399_000  # 2026-10-29 23:59:59 UTC
    assert moment(at, UTC) == "29 Oct 2026, 23:59:59"
    assert moment(at, ZoneInfo("Asia/Kathmandu")) == "30 Oct 2026, 05:44:59"
    midnight, day = at + 1000, 86_400_000
    assert span(midnight, midnight + day, UTC) == "30 Oct 2026"
    assert span(midnight - 3 * day, midnight, UTC) == "27 Oct to 29 Oct 2026"
    assert span(midnight - 365 * day, midnight, UTC) == "30 Oct 2025 to 29 Oct 2026"
    assert span(midnight - 3_600_000, midnight - 60_000, UTC) == "29 Oct 2026, 23:00 to 23:59"


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (3_600_000, "1 h"),
        (7_500_000, "2 h 5 min"),
        (86_400_000, "1 day"),
        (345_600_000, "4 days"),
        (-1, "before"),
    ],
)
def test_lengths_of_time(ms: int, said: str) -> None:
    assert elapsed(ms) == said


def test_every_class_has_words() -> None:
    assert set(DEEDS) == {(kind, class_) for kind in ("open", "click") for class_ in CLASSES}
