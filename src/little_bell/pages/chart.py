"""Series as the geometry of an SVG: numbers in, positions out. Knows no request and no database.

Along x everything is in percent, so that a chart fills any width while its text keeps its size;
along y in pixels. A bar has people below and machines on top.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

HEIGHT = 120.0  # of the plot, in pixels
LABELS = 7  # along x, at most
EDGE = 94.0  # percent; a label that begins later would be cut off,
PHONE_EDGE = 84.0  # and on a phone, where minor ones are not shown, one later than this


class Point(NamedTuple):
    """What happened in one interval."""

    label: str  # the interval in words
    people: int
    machines: int


class Bar(NamedTuple):
    """One interval: percent along x, pixels along y."""

    x: str
    width: str
    slot: str  # x of the whole interval
    slot_width: str
    people_y: str
    people_height: str
    machines_y: str
    machines_height: str
    point: Point


class Line(NamedTuple):
    """A line of the grid, with its value."""

    y: str
    value: int


class Panel(NamedTuple):
    """One chart."""

    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    people: int
    machines: int
    busiest: Point | None


class Tick(NamedTuple):
    """A label along x. `minor` ones give way where there is little room."""

    x: str
    text: str
    minor: bool


def number(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def step(highest: int) -> int:
    """The distance of grid lines: 1, 2 or 5 times a power of ten, for at most four of them."""
    size = 1
    while True:
        for factor in (1, 2, 5):
            if highest <= 4 * factor * size:
                return factor * size
        size *= 10


def panel(points: Sequence[Point]) -> Panel:
    """The geometry of one chart, its highest bar near the top."""
    highest = max((point.people + point.machines for point in points), default=0)
    distance = step(max(highest, 1))
    top = max(-(-highest // distance), 1) * distance
    scale = HEIGHT / top
    slot = 100 / max(len(points), 1)
    gap = 0.0 if len(points) > 150 else slot * 0.22
    bars = []
    for i, point in enumerate(points):
        people, machines = point.people * scale, point.machines * scale
        bars.append(
            Bar(
                f"{number(i * slot + gap / 2)}%",
                f"{number(slot - gap)}%",
                f"{number(i * slot)}%",
                f"{number(slot)}%",
                number(HEIGHT - people),
                number(people),
                number(HEIGHT - people - machines),
                number(machines),
                point,
            )
        )
    lines = [Line(number(HEIGHT - v * scale), v) for v in range(distance, top + 1, distance)]
    return Panel(
        tuple(bars),
        tuple(lines),
        sum(point.people for point in points),
        sum(point.machines for point in points),
        max(points, key=lambda point: point.people + point.machines) if highest else None,
    )


def ticks(starts: Sequence[datetime]) -> tuple[Tick, ...]:
    """Labels for intervals that begin at these local times, where a day, month or year begins."""
    if not starts:
        return ()
    length = (starts[1] - starts[0]).total_seconds() if len(starts) > 1 else 86_400.0
    if length < 43_200 and len(starts) * length <= 50 * 3600:
        chosen = _every(starts, lambda at: at.hour % 3 == 0 and at.minute == 0)
        texts = [(i, f"{starts[i]:%H:%M}") for i in chosen]
    elif length < 26 * 86_400:
        chosen = _every(starts, lambda at: at.hour == 0 and at.minute == 0)
        texts = [(i, f"{starts[i].day} {starts[i]:%b}") for i in chosen]
    else:
        chosen = _every(starts, lambda _: True)
        texts = [(i, f"{starts[i]:%b %Y}") for i in chosen]
    found = []
    for place, (i, text) in enumerate(texts):
        x = i * 100 / len(starts)
        if x <= EDGE:
            found.append(Tick(f"{number(x)}%", text, place % 2 == 1 or x > PHONE_EDGE))
    return tuple(found)


def _every(starts: Sequence[datetime], begins: Callable[[datetime], bool]) -> list[int]:
    """At most LABELS places where something begins, evenly apart."""
    places = [i for i, at in enumerate(starts) if begins(at)] or list(range(len(starts)))
    apart = -(-len(places) // LABELS)
    return places[::apart]
