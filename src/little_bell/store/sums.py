"""Figures of a period: sums of days, and of quarter hours where it begins or ends within a day."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from little_bell.store.projection import DAY
from little_bell.store.reader import Reader

ALWAYS = 1 << 62  # a bucket later than any
LOOK_AT = 10_000  # rows of days that a ranking looks at
LOOK_UP = 20_000  # rows that the exact figures of its candidates take, roughly
CANDIDATES = 1_000

EVENTS = "events"


class Figures(NamedTuple):
    """The figures of definitions: people's opens and clicks, machines' beside them."""

    sent: int
    opens: int
    machine_opens: int
    unique_opens: int
    inferred_opens: int
    clicks: int
    machine_clicks: int
    unique_clicks: int

    def value(self, name: str) -> int:
        """A figure by its name; EVENTS are all opens and clicks, those of machines too."""
        if name == EVENTS:
            return self.opens + self.machine_opens + self.clicks + self.machine_clicks
        return int(getattr(self, name))

    @property
    def open_rate(self) -> float | None:
        """Unique opens of those sent; no value where nothing was sent."""
        return self.unique_opens / self.sent if self.sent else None

    @property
    def click_rate(self) -> float | None:
        """Unique clicks of those sent; no value where nothing was sent."""
        return self.unique_clicks / self.sent if self.sent else None

    @property
    def click_to_open(self) -> float | None:
        """Unique clicks of unique opens; no value where nothing was opened."""
        return self.unique_clicks / self.unique_opens if self.unique_opens else None


NOTHING = Figures(0, 0, 0, 0, 0, 0, 0, 0)


class Ranked(NamedTuple):
    """One of a ranking: a campaign, a link or a client."""

    id: int
    figures: Figures


def figures(
    reader: Reader,
    tenant: int,
    scope: int = 0,
    id_: int = 0,
    start: int | None = None,
    end: int | None = None,
) -> Figures:
    """Sums over the buckets from `start` up to, not including, `end`; None: without a bound."""
    return of_many(reader, tenant, scope, [id_], start, end)[0]


def series(
    reader: Reader, tenant: int, scope: int, id_: int, edges: Sequence[int]
) -> list[Figures]:
    """Figures of the intervals between each two of `edges`, which are buckets and ascend."""
    return _sums(reader, [(tenant, scope, id_, start, end) for start, end in pairwise(edges)])


def of_many(
    reader: Reader,
    tenant: int,
    scope: int,
    ids: Sequence[int],
    start: int | None = None,
    end: int | None = None,
) -> list[Figures]:
    """Figures of many campaigns, links or clients in one period, in the order of `ids`."""
    low, high = start or 0, ALWAYS if end is None else end
    return _sums(reader, [(tenant, scope, id_, low, high) for id_ in ids])


def first_bucket(reader: Reader, tenant: int) -> int | None:
    """The beginning of the first day of which a tenant has figures."""
    days = reader.rows("first_and_last_day", tenant)
    return int(days[0][0]) * DAY if days else None


def top(
    reader: Reader,
    tenant: int,
    scope: int,
    start: int | None,
    end: int | None,
    by: str,
    limit: int,
) -> list[Ranked]:
    """Those with the most of a figure in a period; none that have nothing. `by` is a name of
    Figures, or EVENTS for all opens and clicks, those of machines too.

    Figures are exact. The ranking is by the exact figure too, among candidates: those with the
    most in all days that the period touches, of which the newest LOOK_AT rows (a row is one day of
    one campaign, link or client) are looked at. So it is exact where the period begins and ends
    with a day of UTC and has no more rows; else one may be missing that had nearly all of its
    figure in a short or in an old part of it.
    """
    column = len(Figures._fields) if by == EVENTS else Figures._fields.index(by)
    low, high = start or 0, ALWAYS if end is None else end
    if low >= high:
        return []
    first, last = low // DAY, -(-high // DAY)
    pool = max(limit, min(CANDIDATES, LOOK_UP // _rows_of_one(reader, tenant, low, high)))
    found = reader.rows("top_days", tenant, scope, first, last, column, LOOK_AT, pool)
    ids = [int(row[0]) for row in found]
    exact = zip(ids, of_many(reader, tenant, scope, ids, start, end), strict=True)
    ranked = [(figures.value(by), Ranked(id_, figures)) for id_, figures in exact]
    ranked.sort(key=lambda one: (-one[0], -one[1].id))
    return [one for value, one in ranked[:limit] if value > 0]


def _rows_of_one(reader: Reader, tenant: int, start: int, end: int) -> int:
    """Rows that the figures of one campaign, link or client take at most, roughly."""
    days = [int(day) for (day,) in reader.rows("first_and_last_day", tenant)]
    if not days:
        return 1
    start, end = max(start, days[0] * DAY), min(end, (days[-1] + 1) * DAY)
    return 8 + max(end - start, 0) // DAY + start % DAY + end % DAY


def _sums(reader: Reader, spans: list[tuple[int, int, int, int, int]]) -> list[Figures]:
    """Figures of spans (tenant, scope, id, start, end), in their order."""
    found: list[Figures] = [NOTHING] * len(spans)
    short: list[int] = []
    long: list[int] = []
    for place, (_, _, _, start, end) in enumerate(spans):
        (long if -(-start // DAY) < end // DAY else short).append(place)
    rows = reader.each("sum_quarters", [spans[place] for place in short])
    rows += reader.each("sum_days", [_with_days(spans[place]) for place in long])
    for place, row in zip(short + long, rows, strict=True):
        found[place] = Figures(*row)
    return found


def _with_days(span: tuple[int, int, int, int, int]) -> tuple[int, ...]:
    tenant, scope, id_, start, end = span
    return tenant, scope, id_, start, -(-start // DAY), end // DAY, end
