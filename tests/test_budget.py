"""The budget of a source: so much at once, then so much a minute, in bounded memory"""

from hypothesis import given
from hypothesis import strategies as st

from little_bell.wire.budget import SOURCES, Budget, source_of

A, B = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"


def test_it_works() -> None:
    budget = Budget(10, 10)
    assert [budget.spend(A, 0.0) for _ in range(10)] == [0.0] * 10
    assert budget.spend(A, 0.0) == 6.0
    assert budget.spend(A, 5.0) == 1.0
    assert budget.wait(A, 6.0) == 0.0
    assert budget.spend(A, 6.0) == 0.0
    assert budget.spend(A, 6.0) == 6.0
    assert budget.spend(B, 6.0) == 0.0, "another source"


def test_who_waited_long_has_all_of_it_again_and_no_more() -> None:
    budget = Budget(10, 10)
    for _ in range(10):
        budget.spend(A, 0.0)
    assert [budget.spend(A, 3600.0) > 0 for _ in range(11)] == [False] * 10 + [True]


def test_to_look_costs_nothing() -> None:
    budget = Budget(60, 1)
    assert [budget.wait(A, 0.0) for _ in range(5)] == [0.0] * 5
    assert budget.spend(A, 0.0) == 0.0
    assert [budget.wait(A, 0.0) for _ in range(5)] == [1.0] * 5


@given(
    st.floats(0.1, 600),
    st.integers(1, 20),
    st.lists(st.floats(0, 30), min_size=1, max_size=80),
)
def test_no_stretch_of_time_has_more_than_its_share(
    per_minute: float, burst: int, pauses: list[float]
) -> None:
    """A definition without a bucket: n spent within t seconds are at most burst + t x rate."""
    budget = Budget(per_minute, burst)
    now = 1000.0
    spent = []
    for pause in pauses:
        now += pause
        wait = budget.spend(A, now)
        if not wait:
            spent.append(now)
        else:
            assert budget.wait(A, now + wait + 1e-6) == 0.0, "it says how long"
    for first in range(len(spent)):
        for last in range(first, len(spent)):
            share = burst + (spent[last] - spent[first]) * per_minute / 60
            assert last - first + 1 <= share + 1e-6


def test_its_memory_is_bounded_and_the_oldest_go_first() -> None:
    budget = Budget(1, 1)
    for n in range(SOURCES):
        assert budget.spend(n.to_bytes(4, "big"), 0.0) == 0.0
    assert budget.spend((0).to_bytes(4, "big"), 0.0) > 0
    for n in range(SOURCES, 3 * SOURCES):
        budget.spend(n.to_bytes(4, "big"), 0.0)
        assert len(budget._free_at) == SOURCES
    assert budget.spend((0).to_bytes(4, "big"), 0.0) == 0.0, "it was forgotten"
    assert budget.spend((3 * SOURCES - 1).to_bytes(4, "big"), 0.0) > 0


def test_a_household_is_one_source() -> None:
    one = bytes.fromhex("20010db8000100020003000400050006")
    other = bytes.fromhex("20010db800010002ffffffffffffffff")
    neighbour = bytes.fromhex("20010db8000100030003000400050006")
    assert source_of(one) == source_of(other) != source_of(neighbour)
    assert source_of(A) != source_of(B)


def test_none_is_no_limit() -> None:
    budget = Budget(0, 1)
    assert all(budget.spend(A, 0.0) == 0.0 for _ in range(10_000))
    assert not budget._free_at
