"""What an attack on reads, exports and edits found."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from bell import Bell, Line, exchange, fresh_tenant, raw_request, serving
from little_bell.api import exports
from little_bell.store import events
from little_bell.store.edits import DONE, LATER, Edit, Edits, Finish
from little_bell.store.job import ROWS
from little_bell.store.reader import Reader
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit
from test_edits_time import MANY
from test_figures import BROWSER, HOME, NOON

HOUR = 3_600_000


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("attack"), INSTANT_SECONDS="0") as bell:
        yield bell


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(str(tmp_path / "t.db"), MANY)
    yield writer
    writer.close()


def opened(writer: Writer, emails: int, opens: int) -> None:
    """Emails of `acme`, each opened that often."""
    writer.write(NOON, [NewEmail("acme", None, None, None, None)] * emails, [])
    for email in range(1, emails + 1):
        hits = [Hit(1, email, OPEN, NOON + HOUR * i, 0, BROWSER, HOME, None) for i in range(opens)]
        writer.write(NOON, [], hits)


@pytest.mark.parametrize("move", [True, False])
def test_edits_of_a_tick_are_bounded_together(writer: Writer, move: bool) -> None:
    """Sixteen moves of emails with 130 clicks at different times took 30 to 50 ms in one tick."""
    emails, clicks = 16, 130
    writer.write(NOON, [NewEmail("acme", None, None, "spring", None)] * emails, [])
    for email in range(1, emails + 1):
        hits = [
            Hit(1, email, CLICK, NOON + HOUR * i, 0, BROWSER, HOME, f"https://{i}.example/")
            for i in range(clicks)
        ]
        writer.write(NOON, [], hits)
    change = Change(frozenset({"campaign"}), campaign="summer") if move else None
    edits = [Edit("acme", email, change) for email in range(1, emails + 1)]
    writer.write(NOON, [], [], Edits(edits))
    done = [edit.outcome for edit in edits].count(DONE)
    assert 0 < done * clicks < 2 * ROWS
    assert [edit.outcome for edit in edits] == [DONE] * done + [LATER] * (emails - done)
    for edit in edits[done:]:  # nothing was done of the rest, which can be tried again
        assert edit.texts == (None,) * 4
        writer.write(NOON, [], [], Edits([edit]))
        assert edit.outcome == DONE


def test_edits_without_events_go_all_at_once(writer: Writer) -> None:
    opened(writer, 16, 0)
    edits = [Edit("acme", email, None) for email in range(1, 17)]
    writer.write(NOON, [], [], Edits(edits))
    assert {edit.outcome for edit in edits} == {DONE}


def test_a_tenant_goes_in_steps_with_whatever_was_unfinished(writer: Writer) -> None:
    """The last step took quadratic time: 125 ms for 2,000 emails whose events were left."""
    emails = ROWS + 100
    opened(writer, emails, 140)
    for email in range(1, emails + 1, 4):  # in a tick of four, each has 128 events
        writer.write(NOON, [], [], Edits([Edit("acme", email + i, None) for i in range(4)]))
    assert len(writer.memory.unfinished) == emails
    writer.write(NOON, [], [], Edits([Edit("acme", 0, None)]))
    left = [len(writer.memory.unfinished)]
    while writer.memory.unfinished:
        rest = writer.memory.unfinished.get((1, 0)) or next(iter(writer.memory.unfinished.values()))
        writer.write(NOON, [], [], Finish(rest))
        left.append(len(writer.memory.unfinished))
    assert max(a - b for a, b in pairwise(left)) <= ROWS


def test_a_rare_event_is_searched_in_many_pieces(tmp_path: Path) -> None:
    """Two exports of a class that never occurs held both threads for the whole log."""
    writer = Writer(str(tmp_path / "t.db"), MANY)
    opened(writer, 10, events.LOOK_AT // 4)
    writer.close()
    reader = Reader(str(tmp_path / "t.db"))
    rare = events.Search(kind=CLICK)
    pieces = list(exports.events_ndjson(lambda: reader, 1, rare, 0))
    reader.close()
    assert pieces == [b"", b"", b""]


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("coding", ["gzip", "identity"])
def test_an_export_of_nothing_is_whole(bell: Bell, suffix: str, version: str, coding: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    bell.get(f"/{tenant}/pixel/1.gif")
    answer = bell.get(f"/{tenant}/events.{suffix}?kind=click", Accept_Encoding=coding)
    assert answer.status == 200
    if coding == "identity":
        assert answer.body.count(b"\n") == (suffix == "csv")


@pytest.mark.parametrize("text", ["\n=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20A1"])
def test_other_formulas_are_texts_in_csv(text: str) -> None:
    """OWASP lists the line feed and full-width signs, which Excel in East Asia reads alike."""
    assert exports.cell(text) == f"'{text}"


def test_a_flood_of_changes_lets_batches_through(start_bell: Callable[..., Bell]) -> None:
    """Changes that never pause, of emails that do not exist, held up batches, sweeps and whatever
    an edit left for as long as they came."""
    bell = start_bell()
    bell.create("acme")
    bell.get("/acme/dashboard")
    change = raw_request("/acme/emails/999", method="PATCH", body=b'{"subject": "x"}')
    lines = [Line(bell.port) for _ in range(4)]
    over = threading.Event()

    def send(line: Line) -> None:
        try:
            while not over.is_set():
                line.send(change * 100)
        except OSError:
            pass

    def read(line: Line) -> None:
        try:
            while line.socket.recv(1 << 18):
                pass
        except OSError:
            pass

    threads = [threading.Thread(target=do, args=(one,)) for one in lines for do in (send, read)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.3)
        began = time.monotonic()
        ndjson = {"Content-Type": "application/x-ndjson"}
        assert bell.ask("POST", "/acme/emails", b"{}\n" * 20_000, ndjson).status == 201
        assert time.monotonic() - began < 8  # 0.2 s without them
    finally:
        over.set()
        for line in lines:
            line.reset()
        for thread in threads:
            thread.join(20)


def test_a_tenant_with_the_name_of_the_prefix_has_pages(
    start_bell: Callable[..., Bell],
) -> None:
    """Behind a proxy that strips the prefix its pages led to a 404 of the API."""
    bell = start_bell(BASE_URL="https://example.com/bell")
    bell.create("bell")
    assert bell.get("/bell/dashboard").status == 200
    assert bell.get("/bell/dashboard/emails").status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("http://bell.evil.example", 403),
        ("http://bell", 303),
        ("null", 403),
    ],
)
def test_a_form_of_another_site_creates_nothing_over_plain_http(
    bell: Bell, origin: str, status: int
) -> None:
    """Over http to another host than localhost there is an Origin alone, which our own pages
    send, since they say `same-origin`."""
    tenant = fresh_tenant()
    data = raw_request(f"/{tenant}/dashboard/try", f"Origin: {origin}", method="POST", body=b"")
    assert exchange(bell, data).status == status
