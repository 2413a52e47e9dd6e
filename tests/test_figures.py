"""What a figure means: the golden examples, and a property that ties figures to the log."""

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bell import read_rows
from little_bell.store import sums
from little_bell.store.memory import Limits
from little_bell.store.projection import BUCKET
from little_bell.store.reader import Reader
from little_bell.store.recount import Recount
from little_bell.store.transaction import Transaction
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN, PREFETCH, Hit

NOON = 1_767_614_400_000  # 2026-01-05 12:00:00 UTC
SECOND, MINUTE = 1000, 60_000

BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36"
)
APPLE = "Mozilla/5.0"
GOOGLE = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"

HOME, OFFICE = b"\xc0\xa8\x01", b"\x0a\x00\x00"  # truncated addresses


class Store:
    """A database with one writer, driven by times of the test's choosing."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = str(path)
        self.writer = Writer(self.path, limits)

    def create(self, n: int = 1, tenant: str = "acme", campaign: str | None = None) -> None:
        emails = [NewEmail(tenant, None, None, campaign, None)] * n
        self.writer.write(NOON, emails, [])

    def hit(
        self,
        email: int,
        kind: int,
        at: int,
        agent: str = BROWSER,
        url: str | None = None,
        flags: int = 0,
        address: bytes = HOME,
    ) -> Hit:
        return Hit(1, email, kind, NOON + at, flags, agent, address, url)

    def write(self, *hits: Hit) -> None:
        self.writer.write(NOON, [], list(hits))

    def figures(self) -> sums.Figures:
        reader = Reader(self.path)
        try:
            return sums.figures(reader, 1)
        finally:
            reader.close()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows as another program reads them."""
        return list(read_rows(Path(self.path), sql, *values))

    def buckets(self, column: str) -> dict[int, int]:
        """A figure of the tenant by the minute of the day at which its bucket starts."""
        rows = self.rows(
            f"SELECT bucket, {column} FROM figures WHERE scope = 0 AND {column} <> 0 AND tenant = 1"
        )
        return {bucket * BUCKET // MINUTE % 1440: n for bucket, n in rows}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "t.db")
    yield store
    store.writer.close()


class Golden(NamedTuple):
    """A row of the table of golden examples."""

    opens: int
    machine_opens: int
    unique_opens: int
    inferred: int
    clicks: int
    machine_clicks: int
    unique_clicks: int


def golden(store: Store) -> Golden:
    found = store.figures()
    return Golden(
        found.opens,
        found.machine_opens,
        found.unique_opens,
        found.inferred_opens,
        found.clicks,
        found.machine_clicks,
        found.unique_clicks,
    )


def at(hour: int, minute: int) -> int:
    return hour * 60 + minute


def test_apple_opens_are_a_machines_and_a_browsers_count_once_as_unique(store: Store) -> None:
    store.create()
    store.write(store.hit(1, OPEN, 1 * MINUTE, APPLE))
    assert golden(store) == Golden(0, 1, 0, 0, 0, 0, 0)
    store.write(store.hit(1, OPEN, 20 * MINUTE))
    store.write(store.hit(1, OPEN, 40 * MINUTE))
    assert golden(store) == Golden(2, 1, 1, 0, 0, 0, 0)
    assert store.buckets("unique_opens") == {at(12, 15): 1}
    assert store.buckets("opens") == {at(12, 15): 1, at(12, 30): 1}


def test_a_click_without_an_open_infers_one_until_an_earlier_open_comes(store: Store) -> None:
    store.create()
    store.write(store.hit(1, CLICK, 5 * MINUTE, url="https://x.example/"))
    assert golden(store) == Golden(0, 0, 1, 1, 1, 0, 1)
    assert store.buckets("unique_opens") == store.buckets("unique_clicks") == {at(12, 0): 1}
    store.write(store.hit(1, OPEN, 3 * MINUTE, GOOGLE))
    assert golden(store) == Golden(1, 0, 1, 0, 1, 0, 1)
    assert store.buckets("unique_opens") == {at(12, 0): 1}
    assert store.buckets("inferred_opens") == {}


def test_an_instant_click_is_a_machines(store: Store) -> None:
    store.create()
    store.write(store.hit(1, CLICK, 1 * SECOND, url="https://x.example/"))
    assert golden(store) == Golden(0, 0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("together", [False, True], ids=["three ticks", "one tick"])
def test_three_links_within_seconds_are_a_burst_and_change_what_was_counted(
    store: Store, together: bool
) -> None:
    store.create()
    clicks = [
        store.hit(1, CLICK, 10 * MINUTE + i * SECOND, url=f"https://{name}.example/")
        for i, name in enumerate("xyz")
    ]
    if together:
        store.write(*clicks)
    else:
        store.write(clicks[0])
        store.write(clicks[1])
        assert golden(store) == Golden(0, 0, 1, 1, 2, 0, 1)
        store.write(clicks[2])
    assert golden(store) == Golden(0, 0, 0, 0, 0, 3, 0)
    reasons = store.rows("SELECT class, reasons FROM events")
    assert all(class_ == 2 and bits & (1 << 16) for class_, bits in reasons)


def test_uniques_belong_to_the_bucket_of_the_first_open_of_each_email(store: Store) -> None:
    store.create(2)
    store.write(store.hit(1, OPEN, 50 * MINUTE), store.hit(2, OPEN, 50 * MINUTE))
    store.write(store.hit(1, OPEN, 70 * MINUTE))
    assert golden(store) == Golden(3, 0, 2, 0, 0, 0, 0)
    assert store.buckets("unique_opens") == {at(12, 45): 2}


def test_a_prefetch_is_a_machines_open(store: Store) -> None:
    store.create()
    store.write(store.hit(1, OPEN, 5 * MINUTE, flags=PREFETCH))
    assert golden(store) == Golden(0, 1, 0, 0, 0, 0, 0)


def test_two_links_or_two_sources_are_no_burst(store: Store) -> None:
    store.create()
    x, y, z = (f"https://{name}.example/" for name in "xyz")
    store.write(store.hit(1, CLICK, 10 * MINUTE, url=x), store.hit(1, CLICK, 10 * MINUTE, url=y))
    store.write(store.hit(1, CLICK, 10 * MINUTE, url=x), store.hit(1, CLICK, 10 * MINUTE, url=y))
    store.write(store.hit(1, CLICK, 10 * MINUTE, url=z, address=OFFICE))
    assert golden(store).clicks == 5
    store.write(store.hit(1, CLICK, 10 * MINUTE + 10 * SECOND + 1, url=z))
    assert golden(store).clicks == 6


def test_a_burst_moves_the_first_click_to_the_one_that_remains(store: Store) -> None:
    store.create()
    x, y, z = (f"https://{name}.example/" for name in "xyz")
    minute = 29 * MINUTE + 55 * SECOND
    store.write(store.hit(1, CLICK, minute, url=x))
    store.write(store.hit(1, CLICK, minute + 6 * SECOND, url=x, address=OFFICE))
    store.write(store.hit(1, CLICK, minute + 7 * SECOND, url=y))
    assert store.buckets("unique_clicks") == {at(12, 15): 1}
    store.write(store.hit(1, CLICK, minute + 8 * SECOND, url=z))
    assert golden(store) == Golden(0, 0, 1, 1, 1, 3, 1)
    assert store.buckets("unique_clicks") == {at(12, 30): 1}
    rows = store.rows(
        "SELECT sum(unique_clicks) FROM figures WHERE scope = 2 GROUP BY id ORDER BY id"
    )
    assert [n for (n,) in rows] == [1, 0, 0]


def test_a_burst_that_a_clock_that_ran_back_completes(store: Store) -> None:
    """It reaches back further than the clicks that the one before it looked at."""
    store.create()
    x, y, z = (f"https://{name}.example/" for name in "xyz")
    store.write(store.hit(1, CLICK, 10 * MINUTE, url=x))
    store.write(store.hit(1, CLICK, 10 * MINUTE + 15 * SECOND, url=x, address=OFFICE))
    store.write(store.hit(1, CLICK, 10 * MINUTE + 15 * SECOND, url=y))
    assert golden(store) == Golden(0, 0, 1, 1, 3, 0, 1)
    store.write(store.hit(1, CLICK, 10 * MINUTE + 10 * SECOND, url=z))
    assert golden(store) == Golden(0, 0, 1, 1, 1, 3, 1)
    check_states(store)


def test_past_the_cap_one_row_grows_and_no_figure_does(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", Limits(hits_per_email_hour=10))
    store.create()
    for _ in range(5):
        store.write(*[store.hit(1, OPEN, 5 * MINUTE) for _ in range(9)])
    [(n,)] = store.rows("SELECT n FROM events WHERE kind = 2")
    assert store.figures().opens + n == 45
    assert store.figures().opens == 20  # ten in all, then ten of this hour
    store.write(store.hit(1, OPEN, 65 * MINUTE))
    assert store.figures().opens == 21  # another hour
    store.writer.close()


def test_dictionaries_are_bounded_and_then_say_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", Limits(agents_per_hour=3, links_per_hour=2))
    store.create()
    for i in range(6):
        store.write(
            store.hit(1, CLICK, (5 + i) * MINUTE, f"{BROWSER} {i}", f"https://{i}.example/")
        )
    rows = store.rows("SELECT agent, link FROM events ORDER BY seq")
    assert rows == [(1, 1), (2, 2), (3, 0), (0, 0), (0, 0), (0, 0)]
    assert store.figures().clicks == 6
    store.write(store.hit(1, CLICK, 70 * MINUTE, f"{BROWSER} 9", "https://9.example/"))
    [row] = store.rows("SELECT agent, link FROM events ORDER BY seq DESC LIMIT 1")
    assert row == (4, 3)
    store.writer.close()


def test_a_transaction_that_fails_uses_up_no_share_of_the_dictionaries(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", Limits(agents_per_hour=3, links_per_hour=3))
    store.create()
    click = store.hit(1, CLICK, 5 * MINUTE, f"{BROWSER} new", "https://new.example/")
    for _ in range(10):
        assert store.writer.accepts(NOON, [], [click])  # written and rolled back
    store.write(click)
    assert store.rows("SELECT agent, link FROM events") == [(1, 1)]
    store.writer.close()


def test_a_burst_behind_many_clicks_of_machines_leaves_the_last_click_of_people(
    store: Store,
) -> None:
    store.create()
    urls = [f"https://{name}.example/" for name in "xyz"]
    store.write(store.hit(1, CLICK, 5 * MINUTE, url=urls[0]))
    for i in range(20):
        at = 6 * MINUTE + i * SECOND
        store.write(*[store.hit(1, CLICK, at, "curl/8.0", urls[0], address=OFFICE)] * 10)
    for source in (b"\x01\x01\x01", b"\x02\x02\x02"):
        store.write(*[store.hit(1, CLICK, 20 * MINUTE, url=url, address=source) for url in urls])
        assert golden(store) == Golden(0, 0, 1, 1, 1, store.figures().machine_clicks, 1)
        [(last,)] = store.rows("SELECT last_click FROM states")
        assert last == NOON + 5 * MINUTE
    check_states(store)


def test_a_burst_costs_the_same_however_many_clicks_came_before_out_of_order(store: Store) -> None:
    """As where history comes in behind a click of today: the chain is not walked for each."""
    store.create()
    executed = 0

    def more() -> bool:
        nonlocal executed
        executed += 50
        return False

    store.writer.connection.set_progress_handler(more, 50)
    day = 1440 * MINUTE
    store.write(*(store.hit(1, CLICK, day, url=f"https://a.example/{n}") for n in (0, 1)))
    costs = []
    for part in range(8):
        begun = executed
        for n in range(part * 50, part * 50 + 50):
            start = (n + 1) * MINUTE
            links = (0, 2, 3) if n % 2 else (0, 1, 0)
            store.write(
                *(
                    store.hit(1, CLICK, start + i, url=f"https://a.example/{link}")
                    for i, link in enumerate(links)
                )
            )
        costs.append(executed - begun)
    assert costs[-1] < 2 * costs[1], costs
    people = 25 * 8 * 3  # every other minute
    found = golden(store)
    assert (found.clicks, found.machine_clicks) == (people + 2, people)
    first, last = store.rows("SELECT first_click, last_click FROM states")[0]
    assert (first, last) == (NOON + MINUTE, NOON + day)
    firsts = store.rows("SELECT first_click FROM email_links ORDER BY link")
    assert firsts == [(NOON + MINUTE,), (NOON + MINUTE + 1,), (None,), (None,)]


def test_a_transaction_is_gone_with_its_tick(store: Store) -> None:
    """Nothing refers to it in a circle: it would wait for the collector, with all its states."""
    store.create()
    gc.collect()
    gc.disable()
    try:
        store.write(store.hit(1, OPEN, MINUTE), store.hit(1, CLICK, MINUTE, url=URLS[0]))
        assert [one for one in gc.get_objects() if type(one) is Transaction] == []
    finally:
        gc.enable()


# The property: what is added up as hits come equals what a naive recount of the log finds.

AGENTS = (BROWSER, APPLE, GOOGLE, "curl/8.0", "", "Something/1.0")
URLS = tuple(f"https://{name}.example/" for name in "wxyz")

moments = st.one_of(
    st.integers(-30 * MINUTE, 50 * MINUTE),
    st.integers(10 * MINUTE, 10 * MINUTE + 15 * SECOND),
)
hits = st.tuples(
    st.integers(1, 4),  # email
    st.sampled_from((OPEN, CLICK, CLICK)),
    moments,
    st.sampled_from(AGENTS),
    st.sampled_from(URLS),
    st.sampled_from((0, PREFETCH, 0, 0)),
    st.sampled_from((HOME, OFFICE)),
)
ticks = st.lists(st.lists(hits, min_size=1, max_size=8), max_size=14)

COLUMNS = (
    "sent, opens, machine_opens, unique_opens, inferred_opens, "
    "clicks, machine_clicks, unique_clicks"
)

FILES = itertools.count()

Key = tuple[int, int, int]  # scope, id, bucket


def recount(store: Store, tenant: int = 1) -> dict[Key, list[int]]:
    """Figures by the definitions alone: plain loops over all rows, nothing of the store's own."""
    totals: dict[Key, list[int]] = {}

    def add(scope: int, id_: int, moment: int, column: int) -> None:
        totals.setdefault((scope, id_, moment // 900_000), [0] * 8)[column] += 1

    query = "SELECT email, kind, at, link, class, client FROM events WHERE tenant = ?"
    events = store.rows(query, tenant)
    for _, kind, moment, _, class_, client in events:
        add(3, client, moment, (1 if kind == 0 else 5) + int(class_ == 2))
    emails = "SELECT email, created_at, campaign FROM states WHERE tenant = ?"
    for email, created_at, campaign in store.rows(emails, tenant):
        scopes = [(0, 0)] + ([(1, campaign)] if campaign else [])
        mine = [event[1:5] for event in events if event[0] == email]
        opened = [moment for kind, moment, _, class_ in mine if kind == 0 and class_ != 2]
        clicked = [
            (moment, link) for kind, moment, link, class_ in mine if kind == 1 and class_ != 2
        ]
        for scope, id_ in scopes:
            add(scope, id_, created_at, 0)
            for kind, moment, _, class_ in mine:
                machine = int(class_ == 2)
                add(scope, id_, moment, (1 if kind == 0 else 5) + machine)
            evidence = opened + [moment for moment, _ in clicked]
            if evidence:
                add(scope, id_, min(evidence), 3)
                if not opened:
                    add(scope, id_, min(evidence), 4)
            if clicked:
                add(scope, id_, min(clicked)[0], 7)
        for kind, moment, link, class_ in mine:
            if kind == 1:
                add(2, link, moment, 6 if class_ == 2 else 5)
        for link in {link for _, link in clicked}:
            add(2, link, min(moment for moment, of in clicked if of == link), 7)
    return totals


def days_apart(store: Store) -> list[tuple[Any, ...]]:
    """Days that are not the sum of their buckets."""
    sums = ", ".join(f"sum({column}) AS {column}" for column in COLUMNS.split(", "))
    by_day = f"SELECT scope, id, bucket / 96 AS day, {sums} FROM figures GROUP BY 1, 2, 3"
    days = f"SELECT scope, id, day, {COLUMNS} FROM days"
    return store.rows(f"{by_day} EXCEPT {days}") + store.rows(f"{days} EXCEPT {by_day}")


def bursts(store: Store) -> set[int]:
    """Seqs of clicks that belong to a burst, by the definition alone, as it was known in time."""
    found: set[int] = set()
    clicks = store.rows(
        "SELECT seq, email, at, link, address FROM events WHERE kind = 1 ORDER BY seq"
    )
    for i, (_, email, moment, _, address) in enumerate(clicks):
        near = [
            click
            for click in clicks[: i + 1]
            if click[1] == email and click[4] == address and abs(click[2] - moment) <= 10_000
        ]
        if len({click[3] for click in near}) >= 3:
            found |= {click[0] for click in near}
    return found


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ticks=ticks)
def test_figures_and_two_recounts_agree(tmp_path: Path, ticks: list[list[tuple[Any, ...]]]) -> None:
    store = Store(tmp_path / f"{next(FILES)}.db")
    try:
        store.create(2, campaign="spring")
        store.create(2)
        for tick in ticks:
            store.write(
                *[
                    store.hit(
                        email, kind, moment, agent, url if kind == CLICK else None, flags, source
                    )
                    for email, kind, moment, agent, url, flags, source in tick
                ]
            )
        stored = {
            (scope, id_, bucket): list(row)
            for scope, id_, bucket, *row in store.rows(
                f"SELECT scope, id, bucket, {COLUMNS} FROM figures"
            )
            if any(row)
        }
        assert stored == recount(store)
        assert days_apart(store) == []
        counted = Recount(store.writer.connection)
        assert (list(counted), counted.problems) == ([], [])
        summed = [row for (scope, _, _), row in stored.items() if scope == 0]
        assert store.figures() == tuple(map(sum, zip(*summed, strict=True)))
        marked = store.rows("SELECT seq FROM events WHERE reasons & ?", 1 << 16)
        assert {seq for (seq,) in marked} == bursts(store)
        check_states(store)
    finally:
        store.writer.close()


def check_states(store: Store) -> None:
    """Each email's state equals what its events say."""
    for kind, name in ((0, "open"), (1, "click")):
        for machine, prefix in ((0, ""), (1, "machine_")):
            query = (
                f"SELECT s.email FROM states AS s LEFT JOIN (SELECT email, count(*) AS n, "
                f"min(at) AS first, max(at) AS last FROM events WHERE kind = {kind} AND "
                f"(class = 2) = {machine} GROUP BY email) AS e ON e.email = s.email WHERE "
                f"s.{prefix}{name}s <> coalesce(e.n, 0) OR s.first_{prefix}{name} IS NOT e.first "
                f"OR s.last_{prefix}{name} IS NOT e.last"
            )
            assert store.rows(query) == [], (name, prefix)


def test_rates_have_no_value_where_nothing_is_below_the_line() -> None:
    nothing = sums.Figures(0, 0, 0, 0, 0, 0, 0, 0)
    assert (nothing.open_rate, nothing.click_rate, nothing.click_to_open) == (None, None, None)
    some = sums.Figures(4, 9, 0, 2, 1, 3, 0, 1)
    assert (some.open_rate, some.click_rate, some.click_to_open) == (0.5, 0.25, 0.5)
