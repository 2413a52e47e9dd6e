"""Pages of emails and events: each filter, each order, and everything exactly once"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_bell.store import emails, events, names
from little_bell.store.edits import Edit, Edits
from little_bell.store.emails import Search, successor
from little_bell.store.reader import Reader
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN
from test_figures import APPLE, BROWSER, MINUTE, NOON, Store


class Shelf(Store):
    """A store, a reader beside it, and short ways to fill the one and to ask the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reader = Reader(str(path))

    def send(self, *texts: tuple[str | None, str | None, str | None], tenant: str = "acme") -> None:
        """Create emails of (subject, recipient, campaign)."""
        self.writer.write(NOON, [NewEmail(tenant, *text, None) for text in texts], [])

    def open(self, email: int, agent: str = BROWSER, minute: int = 10) -> None:
        self.write(self.hit(email, OPEN, minute * MINUTE, agent))

    def click(self, email: int, url: str = "https://a.example/", minute: int = 10) -> None:
        self.write(self.hit(email, CLICK, minute * MINUTE, url=url))

    def all(self, search: Search = emails.ALL, limit: int = 2, activity: bool = False) -> list[int]:
        """Ids of all pages."""
        found: list[int] = []
        cursor = None
        while True:
            ask = emails.by_activity if activity else emails.newest
            with self.reader:
                page = ask(self.reader, 1, search, cursor, limit)
            assert len(page.emails) <= limit
            found += [email.email for email in page.emails]
            if page.next is None:
                return found
            assert page.next != cursor
            cursor = page.next


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "t.db")
    yield shelf
    shelf.reader.close()
    shelf.writer.close()


def fill(shelf: Shelf) -> None:
    shelf.send(
        ("Hello Ada", "ada@example.com", "spring"),
        ("Grüße", "Bob@example.com", "spring"),
        (None, None, None),
        ("hello again", "ADA@example.com", "summer"),
        ("STRASSE", "adam@example.com", None),
        ("x", "bob@example.org", "summer"),
        ("y", "ada@example.com", "spring"),
    )
    shelf.open(1)
    shelf.open(2, APPLE)
    shelf.click(4)
    shelf.open(7, APPLE)
    shelf.open(7, minute=20)


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("search", "found"),
    [
        (Search(), [7, 6, 5, 4, 3, 2, 1]),
        (Search(campaign="spring"), [7, 2, 1]),
        (Search(campaign="winter"), []),
        (Search(recipient="ada@EXAMPLE.com"), [7, 4, 1]),
        (Search(recipient="ada@example.co"), []),
        (Search(recipient="ADA", prefix=True), [7, 4, 1, 5]),
        (Search(recipient="b", prefix=True), [2, 6]),
        (Search(recipient="", prefix=True), [7, 4, 1, 5, 2, 6]),
        (Search(recipient="ada%", prefix=True), []),
        (Search(subject="HELLO"), [4, 1]),
        (Search(subject="grÜSSE"), [2]),
        (Search(subject="straße"), [5]),
        (Search(opened=True), [7, 4, 1]),
        (Search(opened=False), [6, 5, 3, 2]),
        (Search(clicked=True), [4]),
        (Search(clicked=False), [7, 6, 5, 3, 2, 1]),
        (Search(campaign="spring", opened=True), [7, 1]),
        (Search(campaign="spring", recipient="ada", prefix=True), [7, 1]),
        (Search(campaign="summer", recipient="ada@example.com", clicked=True), [4]),
        (Search(recipient="ada", prefix=True, subject="a", opened=False), [5]),
    ],
)
def test_each_filter(shelf: Shelf, search: Search, found: list[int], limit: int) -> None:
    fill(shelf)
    assert shelf.all(search, limit) == found
    active = [email for email in (7, 4, 2, 1) if email in found]
    assert shelf.all(search, limit, activity=True) == active


def test_a_page_looks_at_so_many_and_goes_on(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emails, "LOOK_AT", 2)
    monkeypatch.setattr(emails, "LOOK_UP", 2)
    fill(shelf)
    page = emails.newest(shelf.reader, 1, Search(subject="hello"), None, 50)
    assert (page.emails, page.next) == ([], (6,))
    assert shelf.all(Search(subject="hello")) == [4, 1]
    assert shelf.all(Search(campaign="spring", opened=True)) == [7, 1]
    assert shelf.all(Search(recipient="ada", prefix=True, opened=True)) == [7, 4, 1]
    assert shelf.all(Search(recipient="", prefix=True, opened=False), 50) == [5, 2, 6]
    assert shelf.all(Search(), activity=True) == [7, 4, 2, 1]


def test_each_email_once_while_others_are_created_and_opened(shelf: Shelf) -> None:
    shelf.send(*[(f"{n}", f"r{n}@example.com", "spring") for n in range(30)])
    for n in range(1, 31):
        shelf.open(n)
    for search, ask in itertools.product(
        (
            Search(),
            Search(campaign="spring"),
            Search(opened=True),
            Search(recipient="r", prefix=True),
        ),
        (emails.newest, emails.by_activity),
    ):
        seen: list[int] = []
        cursor: Any = None
        while True:
            page = ask(shelf.reader, 1, search, cursor, 4)
            seen += [email.email for email in page.emails]
            cursor = page.next
            if cursor is None:
                break
            shelf.send(("new", "a@example.com", "spring"))
            shelf.open(seen[0])  # one that was shown already
        assert sorted(number for number in seen if number <= 30) == list(range(1, 31))


def test_emails_of_a_batch_under_way_do_not_exist(shelf: Shelf) -> None:
    fill(shelf)
    sql = "INSERT INTO pending (tenant, first, last, last_campaign) VALUES (1, 4, 6, 1)"
    shelf.writer.connection.execute(sql)
    assert shelf.all() == [7, 3, 2, 1]
    assert shelf.all(Search(campaign="spring")) == [7, 2, 1]
    assert shelf.all(Search(recipient="ada@example.com")) == [7, 1]
    assert shelf.all(Search(recipient="", prefix=True), 1) == [7, 1, 2]
    assert emails.email(shelf.reader, 1, 5) is None
    assert events.timeline(shelf.reader, 1, 4).events == []
    assert names.campaigns(shelf.reader, 1)[0].name == "summer"  # others use it
    shelf.writer.connection.execute("DELETE FROM days WHERE scope = 1 AND id = 2")
    assert [one.name for one in names.campaigns(shelf.reader, 1)] == ["spring"]


def test_a_batch_under_way_hides_no_emails_older_than_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails, "LOOK_AT", 2)
    shelf.send(*[(None, None, "spring")] * 14)
    shelf.open(2)
    shelf.open(9)
    sql = "INSERT INTO pending (tenant, first, last, last_campaign) VALUES (1, 5, 8, 1)"
    shelf.writer.connection.execute(sql)
    for search in (Search(opened=False), Search(campaign="spring", opened=False)):
        assert shelf.all(search) == [14, 13, 12, 11, 10, 4, 3, 1]
    assert shelf.all(Search(opened=True)) == [9, 2]


def test_campaigns_and_links_newest_first(shelf: Shelf) -> None:
    fill(shelf)
    shelf.click(1, "https://b.example/")
    found = names.campaigns(shelf.reader, 1, None, 1)
    assert [one.name for one in found] == ["summer"]
    assert [one.name for one in names.campaigns(shelf.reader, 1, found[0].id, 9)] == ["spring"]
    urls = [link.url for link in names.links(shelf.reader, 1)]
    assert urls == ["https://b.example/", "https://a.example/"]
    assert names.links(shelf.reader, 2) == []
    assert names.links_of(shelf.reader, 1, [0, 1])[0].url == "(other)"


texts = st.text(st.sampled_from("aAzZ@[`é߿￿\U0010ffff\U0001f600_%"), max_size=4)


def folded(text: str) -> bytes:
    """A text in SQLite's order NOCASE (https://sqlite.org/datatype3.html#collation)."""
    return text.encode("utf-8").lower()


@given(prefix=texts.filter(bool), text=texts)
def test_the_successor_ends_what_begins_with_a_text(prefix: str, text: str) -> None:
    inside = folded(prefix) <= folded(text) < folded(successor(prefix))
    assert inside == folded(text).startswith(folded(prefix))


# Events


def pages(shelf: Shelf, search: events.Search, limit: int, newest: bool) -> list[int]:
    """Seqs of all pages."""
    found: list[int] = []
    cursor: int | None = None if newest else 0
    while True:
        if newest:
            page = events.before(shelf.reader, 1, search, cursor, limit)
        else:
            page = events.after(shelf.reader, 1, search, cursor or 0, limit)
        found += [event.seq for event in page.events]
        if page.next is None:
            return found
        assert page.next != cursor
        cursor = page.next


@pytest.mark.parametrize("limit", [1, 3, 50])
@pytest.mark.parametrize("look_at", [2, 10_000])
def test_events_by_kind_class_and_email(
    shelf: Shelf, limit: int, look_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LOOK_AT", look_at)
    monkeypatch.setattr(events, "STEPS", look_at)
    shelf.send(*[("s", "r@example.com", None)] * 3)
    shelf.open(1)
    shelf.open(2, APPLE)
    shelf.click(2)
    shelf.click(3, minute=12)
    shelf.open(2)
    for search, found in (
        (events.Search(), [5, 4, 3, 2, 1]),
        (events.Search(kind=CLICK), [4, 3]),
        (events.Search(class_=2), [2]),
        (events.Search(email=2), [5, 3, 2]),
        (events.Search(email=2, kind=OPEN), [5, 2]),
        (events.Search(email=2, class_=0), [5, 3]),
        (events.Search(email=9), []),
    ):
        assert pages(shelf, search, limit, newest=True) == found
        assert pages(shelf, search, limit, newest=False) == found[::-1]
        if search.email is not None:
            walked: list[int] = []
            heads = None
            while True:
                part = events.timeline(shelf.reader, 1, search.email, heads, limit, search)
                walked += [event.seq for event in part.events]
                heads = part.next
                if heads is None:
                    break
            assert walked == found


def test_one_emails_events_of_a_class_come_in_order_from_both_chains(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STEPS", 2)
    shelf.send((None, None, None))
    for minute in range(10, 20, 2):
        shelf.click(1, minute=minute)
    for minute in range(20, 26):
        shelf.open(1, minute=minute)
    search = events.Search(class_=0)
    page = events.timeline(shelf.reader, 1, 1, None, 50, search)
    seqs = [event.seq for event in page.events]
    while page.next is not None:
        page = events.timeline(shelf.reader, 1, 1, page.next, 50, search)
        seqs += [event.seq for event in page.events]
    assert seqs == list(range(11, 0, -1))
    of_email = events.Search(email=1)
    assert pages(shelf, of_email, 3, newest=False) == list(range(1, 12))
    assert pages(shelf, of_email, 50, newest=False) == list(range(1, 12))


def test_an_event_says_all_there_is(shelf: Shelf) -> None:
    shelf.send(("Hello", "ada@example.com", None))
    shelf.click(1, "https://a.example/x")
    [event] = events.timeline(shelf.reader, 1, 1).events
    assert event[:10] == (
        1,
        NOON + 10 * MINUTE,
        1,
        "click",
        "human",
        ("browser",),
        "192.168.1.0",
        BROWSER,
        "https://a.example/x",
        "",
    )
    assert (event.subject, event.recipient, event.n) == ("Hello", "ada@example.com", None)


def test_a_cursor_of_another_email_shows_nothing(shelf: Shelf) -> None:
    fill(shelf)
    assert events.timeline(shelf.reader, 1, 1, (2, 3)).events == []
    assert events.timeline(shelf.reader, 2, 1, (1, None)).events == []


def test_events_of_a_deleted_email_are_gone_at_once(shelf: Shelf) -> None:
    fill(shelf)
    shelf.writer.write(NOON, [], [], Edits([Edit("acme", 7, None)]))
    assert pages(shelf, events.Search(), 50, newest=True) == [3, 2, 1]
    assert shelf.all(activity=True) == [4, 2, 1]
    assert 7 not in shelf.all()


def test_a_snapshot_stays_as_it_is(shelf: Shelf) -> None:
    fill(shelf)
    with shelf.reader:
        before = emails.newest(shelf.reader, 1, emails.ALL, None, 50)
        shelf.send(("z", None, None))
        assert emails.newest(shelf.reader, 1, emails.ALL, None, 50) == before
    assert len(emails.newest(shelf.reader, 1, emails.ALL, None, 50).emails) == 8
