"""Figures of periods: sums, series and rankings equal a naive count of the log"""

import itertools
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from little_bell.store import sums
from little_bell.store.projection import BUCKET
from little_bell.store.reader import Reader
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, Hit
from test_figures import AGENTS, HOME, MINUTE, NOON, URLS, Store, recount

FILES = itertools.count()
NOON_BUCKET = NOON // BUCKET
DAYS = 4

# Quarter hours from noon, many of them at or beside midnight.
near = st.builds(lambda day, n: day * 96 + 48 + n, st.integers(-DAYS, DAYS - 1), st.integers(-1, 1))
quarters = near | st.integers(-DAYS * 96, DAYS * 96)
moments = quarters.map(lambda n: n * 15)  # minutes
hits = st.tuples(
    st.integers(1, 4),  # email
    st.integers(0, 1),
    moments,
    st.sampled_from(AGENTS),
    st.sampled_from(URLS),
)
edge = quarters.map(lambda n: NOON_BUCKET + n)


def filled(path: Path, rows: list[tuple[Any, ...]]) -> Store:
    """Four emails of two campaigns, created on different days, and their hits."""
    store = Store(path)
    for n, campaign in enumerate(("spring", "summer", None, "spring")):
        at = NOON + (n - 2) * 20 * 60 * MINUTE
        store.writer.write(at, [NewEmail("acme", None, None, campaign, None)], [])
    for email, kind, minute, agent, url in rows:
        moment = NOON + minute * MINUTE
        target = url if kind == CLICK else None
        hit = Hit(1, email, kind, moment, 0, agent, HOME, target)
        store.writer.write(moment, [], [hit])
    return store


def naive(
    counted: dict[tuple[int, int, int], list[int]],
    scope: int,
    id_: int,
    start: int | None,
    end: int | None,
) -> tuple[int, ...]:
    found = [0] * 8
    for (of, number, bucket), row in counted.items():
        after = start is None or bucket >= start
        if (of, number) == (scope, id_) and after and (end is None or bucket < end):
            found = [a + b for a, b in zip(found, row, strict=True)]
    return tuple(found)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(hits, max_size=25),
    start=st.none() | edge,
    end=st.none() | edge,
    edges=st.lists(edge, min_size=2, max_size=12, unique=True).map(sorted),
)
def test_sums_series_and_rankings_equal_a_naive_count(
    tmp_path: Path, rows: list[tuple[Any, ...]], start: int | None, end: int | None, edges: Any
) -> None:
    store = filled(tmp_path / f"{next(FILES)}.db", rows)
    reader = Reader(store.path)
    try:
        counted = recount(store)
        of_scope: dict[int, set[int]] = {}
        for scope, id_, _ in counted:
            of_scope.setdefault(scope, set()).add(id_)
        for scope, ids in of_scope.items():
            for id_ in ids:
                expected = naive(counted, scope, id_, start, end)
                assert sums.figures(reader, 1, scope, id_, start, end) == expected
                assert sums.series(reader, 1, scope, id_, edges) == [
                    naive(counted, scope, id_, a, b) for a, b in itertools.pairwise(edges)
                ]
            for column, by in enumerate(sums.Figures._fields):
                figures = {id_: naive(counted, scope, id_, start, end) for id_ in ids}
                ranked = sorted(
                    (id_ for id_ in ids if figures[id_][column] > 0),
                    key=lambda id_: (-figures[id_][column], -id_),
                )
                found = sums.top(reader, 1, scope, start, end, by, 3)
                assert found == [(id_, figures[id_]) for id_ in ranked[:3]]
            found = sums.top(reader, 1, scope, start, end, sums.EVENTS, 9)
            events = {
                id_: sum(naive(counted, scope, id_, start, end)[column] for column in (1, 2, 5, 6))
                for id_ in ids
            }
            assert {one.id for one in found} == {id_ for id_ in ids if events[id_]}
            values = [events[one.id] for one in found]
            assert values == sorted(values, reverse=True)
        first = min((bucket for scope, _, bucket in counted if scope == 0), default=None)
        assert sums.first_bucket(reader, 1) == (None if first is None else first // 96 * 96)
    finally:
        reader.close()
        store.writer.close()


def test_nothing_of_another_tenant_is_counted(tmp_path: Path) -> None:
    store = filled(tmp_path / "t.db", [(1, 0, 5, AGENTS[0], URLS[0])])
    store.create(3, tenant="other", campaign="spring")
    reader = Reader(store.path)
    assert sums.figures(reader, 1).sent == 4
    assert sums.figures(reader, 2).sent == 3
    assert sums.figures(reader, 3) == sums.NOTHING
    assert [one.figures.sent for one in sums.top(reader, 2, 1, None, None, "sent", 9)] == [3]
    reader.close()
    store.writer.close()
