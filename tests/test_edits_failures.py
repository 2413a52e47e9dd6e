"""Edits when a transaction fails, when the disk does, when all is killed: nothing is half done."""

import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batches import check_file
from bell import dump, wait_until
from durable_vfs import PowerVFS
from little_bell.errors import DataError, StoreError
from little_bell.store.batch import Sweep
from little_bell.store.blocks import NO_BLOCKS
from little_bell.store.edits import BUSY, DONE, NOT_FOUND, Edit, Edits, Finish
from little_bell.store.job import ROWS
from little_bell.store.recorder import Recorder
from little_bell.store.recount import Recount
from little_bell.store.switching import SwitchOff, SwitchOn
from little_bell.store.transaction import GONE
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit
from test_batches_store import Failing, batch_of
from test_disk_doubt import FailingDisk
from test_figures import BROWSER, HOME, MINUTE, NOON

MANY = ROWS + 300  # events of an email that no edit sees to at once
LATER = NOON + MINUTE

CAMPAIGN = frozenset({"campaign"})
EDITS: dict[str, Callable[[], Edit]] = {
    "texts": lambda: Edit("acme", 1, Change(frozenset({"subject"}), "new")),
    "campaign": lambda: Edit("acme", 1, Change(CAMPAIGN, campaign="summer")),
    "new campaign": lambda: Edit("acme", 1, Change(CAMPAIGN, campaign="winter")),
    "email": lambda: Edit("acme", 1, None),
    "tenant": lambda: Edit("acme", 0, None),
    "block": lambda: SwitchOff("acme", 1, None),
    "block of a link": lambda: SwitchOff("acme", 0, "https://1.example/"),
    "block of a tenant": lambda: SwitchOff("acme", 0, None),
    "end of a block": lambda: SwitchOn("acme", 1),
}


def some_hit(tenant: int, email: int, kind: int = OPEN, n: int = 0) -> Hit:
    url = f"https://{n % 5}.example/" if kind == CLICK else None
    return Hit(tenant, email, kind, LATER + 11_000 * n, 0, BROWSER, HOME, url)


def fill(writer: Writer, many: int = MANY) -> None:
    """Two tenants; email 1 of the first has many events."""
    emails = [NewEmail("acme", "old", None, name, None) for name in ("spring", "summer", None)]
    writer.write(NOON, [*emails, NewEmail("beta", None, None, "spring", None)], [])
    writer.write(NOON, [], [some_hit(1, 1, (OPEN, CLICK)[n % 2], n) for n in range(many)])
    writer.write(NOON, [], [some_hit(1, 2), some_hit(2, 1), some_hit(2, 1, CLICK)])
    writer.write(NOON, [], [], Edits([SwitchOff("acme", 2, None)]))


def remembered(writer: Writer) -> dict[str, Any]:
    """All that memory holds of what stands in the file."""
    memory = writer.memory
    return {
        "by id": {id_: (one.name, one.numbers()) for id_, one in memory.tenants.by_id.items()},
        "by name": {name: one.id for name, one in memory.tenants.by_name.items()},
        "last": memory.tenants.last,
        "blocked": {
            id_: (one.blocked or NO_BLOCKS)._replace(last=0)
            for id_, one in memory.tenants.by_id.items()
        },
        "pending": memory.pending,
        "unfinished": memory.unfinished,
    }


def check_memory(writer: Writer) -> None:
    """Memory says what a program that starts now would read."""
    other = Writer(writer.path)
    try:
        assert remembered(writer) == remembered(other)
    finally:
        other.close()
    states = {**writer.memory.states_before, **writer.memory.states}
    for (tenant, email), state in states.items():
        if tenant in writer.memory.tenants.by_id:
            rows: list[Any] = writer.connection.execute(
                "SELECT flags, opens, machine_opens, clicks, machine_clicks, first_open, last_open,"
                " first_machine_open, last_machine_open, first_click, last_click,"
                " first_machine_click, last_machine_click, head_open, head_click, tenant, email,"
                " campaign FROM states WHERE tenant = ? AND email = ?",
                (tenant, email),
            ).fetchall()
            assert rows == [(*state.row(), state.campaign)]


def check(writer: Writer) -> None:
    check_memory(writer)
    recount = Recount(writer.connection)
    assert (list(recount), recount.problems) == ([], [])


def finish(writer: Writer) -> int:
    """See to all that is left; returns how many steps that took."""
    steps = 0
    while writer.memory.unfinished:
        steps += 1
        writer.write(NOON, [], [], Finish(next(iter(writer.memory.unfinished.values()))))
        check(writer)
    return steps


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(str(tmp_path / "t.db"))
    fill(writer)
    yield writer
    writer.close()


class Refused(Failing):
    """What fails for what it is, not for the disk's sake."""

    def step(self, transaction: Any) -> None:
        self.inner.step(transaction)
        raise ValueError("a value that does not fit")


# A transaction that fails


@pytest.mark.parametrize("how", [Failing, Refused])
@pytest.mark.parametrize("what", EDITS)
def test_an_edit_whose_transaction_fails_never_was(
    writer: Writer, what: str, how: type[Failing]
) -> None:
    before, told = dump(Path(writer.path)), remembered(writer)
    job = how(Edits([EDITS[what](), EDITS[what]()]))
    emails = [NewEmail(name, None, None, "autumn", None) for name in ("acme", "gamma")]
    with pytest.raises(StoreError):
        writer.write(NOON, emails, [some_hit(1, 1), some_hit(1, 2, CLICK)], job)
    assert dump(Path(writer.path)) == before
    assert remembered(writer) == told
    check(writer)
    assert writer.write(NOON, [], [some_hit(1, 1), some_hit(1, 1, CLICK)]).classes == [0, 0]
    again = Edits([EDITS[what]()])
    writer.write(NOON, [], [some_hit(1, 1)], again)
    assert again.edits[0].outcome == DONE
    check(writer)
    finish(writer)
    check_file(Path(writer.path))


def test_a_text_that_the_database_refuses_changes_nothing_of_the_others(writer: Writer) -> None:
    edits = Edits(
        [
            Edit("acme", 0, None),
            Edit("beta", 1, Change(frozenset({"subject", "campaign"}), "\ud800", None, "winter")),
        ]
    )
    before = dump(Path(writer.path))
    with pytest.raises(DataError):
        writer.write(NOON, [], [some_hit(1, 1)], edits)
    assert dump(Path(writer.path)) == before
    check(writer)


def test_the_recorder_keeps_what_came_with_an_edit_that_is_refused(writer: Writer) -> None:
    recorder = Recorder(writer, 1 << 20)
    edits = Edits([EDITS["tenant"](), Edit("beta", 1, Change(frozenset({"subject"}), "\ud800"))])
    done = recorder.record(NOON, [], [some_hit(1, 2), some_hit(2, 1)], 0.0, edits)
    assert done.durable
    assert done.written.classes == [0, 0]
    assert isinstance(edits.error, DataError)
    check(writer)


@pytest.mark.parametrize("what", ["campaign", "email", "tenant"])
def test_a_step_that_fails_is_done_later(writer: Writer, what: str) -> None:
    writer.write(NOON, [], [], Edits([EDITS[what]()]))
    [rest] = writer.memory.unfinished.values()
    before = dump(Path(writer.path))
    step = Failing(Finish(rest))
    with pytest.raises(StoreError) as caught:
        writer.write(NOON, [], [], step)
    step.failed(caught.value)
    assert step.inner.over
    assert dump(Path(writer.path)) == before
    assert writer.memory.unfinished == {(rest.tenant, rest.email): rest}
    check(writer)
    assert finish(writer)
    check_file(Path(writer.path))


# A tenant that goes in the tick in which it sent emails


def test_ids_of_a_tick_in_which_the_tenant_goes_are_not_used_again(writer: Writer) -> None:
    new = NewEmail("acme", None, None, None, None)
    written = writer.write(NOON, [new], [], Edits([EDITS["tenant"]()]))
    assert written.emails == [(1, 4)]
    check_memory(writer)
    other = Writer(writer.path)
    try:
        assert other.write(NOON, [new], []).emails == [(3, 5)]
    finally:
        other.close()


def test_a_tenant_that_goes_in_the_tick_in_which_it_came(writer: Writer) -> None:
    new = NewEmail("gamma", None, None, "spring", None)
    edits = Edits([Edit("gamma", 0, None)])
    assert writer.write(NOON, [new], [], edits).emails == [(3, 1)]
    assert edits.edits[0].outcome == DONE
    check(writer)
    assert writer.write(NOON, [new], [some_hit(3, 1)]).classes == [GONE]
    finish(writer)
    check_file(Path(writer.path))


# A disk that fails


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    disk = FailingDisk(tmp_path)
    vfs = PowerVFS(disk)
    try:
        yield disk
    finally:
        disk.failing_syncs = 0
        vfs.unregister()


@pytest.mark.parametrize("failing", range(1, 7))
@pytest.mark.parametrize("what", EDITS)
def test_whatever_syncs_fail_memory_is_as_the_file(
    tmp_path: Path, disk: FailingDisk, what: str, failing: int
) -> None:
    writer = Writer(str(tmp_path / "t.db"))
    fill(writer)
    recorder, clock = Recorder(writer, 1 << 20), 0.0
    hits = [some_hit(1, 1), some_hit(1, 2), some_hit(2, 1)]
    edits = Edits([EDITS[what]()])
    disk.failing_syncs = failing
    recorder.record(NOON, [NewEmail("acme", None, None, None, None)], hits, clock, edits)
    for _ in range(failing + 5):
        clock += 10.0
        recorder.record(NOON, [], [some_hit(1, 1)], clock, None)
        recorder.retry(clock)
    assert recorder.reason is None
    assert edits.error is not None, "nobody can know that it was done"
    check(writer)
    gone = what == "tenant" and 1 not in writer.memory.tenants.by_id
    classes = writer.write(NOON, [], [some_hit(1, 1), some_hit(1, 2), some_hit(2, 1)]).classes
    assert (classes[1], classes[2]) == (GONE if gone else 0, 0)
    for tenant, email in ((1, 2), (2, 1)):
        query = "SELECT count(*) FROM events WHERE tenant = ? AND email = ?"
        rows = writer.connection.execute(query, (tenant, email)).fetchall()
        expected = 3 if email == 2 else 4
        assert rows == [(expected - gone if email == 2 else expected,)], "lost or doubled"
    check(writer)
    finish(writer)
    emails = writer.connection.execute(
        "SELECT count(*) FROM emails JOIN tenants USING (tenant) WHERE name = 'acme'"
    ).fetchall()
    if failing == 1:  # it was settled within the tick, and the email has an answer
        assert emails == [({"email": 3, "tenant": 0}.get(what, 4),)]
    writer.close()
    check_file(tmp_path / "t.db")


@pytest.mark.parametrize("what", ["campaign", "email", "tenant"])
def test_steps_go_on_after_a_disk_that_failed(tmp_path: Path, disk: FailingDisk, what: str) -> None:
    writer = Writer(str(tmp_path / "t.db"))
    fill(writer)
    recorder, clock = Recorder(writer, 1 << 20), 0.0
    recorder.record(NOON, [], [], clock, Edits([EDITS[what]()]))
    assert writer.memory.unfinished
    for n in range(60):
        clock += 10.0
        rest = next(iter(writer.memory.unfinished.values()), None)
        disk.failing_syncs = n % 4 if rest is not None else 0
        recorder.record(NOON, [], [some_hit(2, 1)], clock, rest and Finish(rest))
        disk.failing_syncs = 0
        recorder.retry(clock + 1)
        recorder.retry(clock + 2)
        assert recorder.reason is None
        check(writer)
    assert not writer.memory.unfinished
    writer.close()
    check_file(tmp_path / "t.db")


def finish_for_ever(path: str, steps: Any) -> None:
    """Delete and create all the time; `steps` counts them."""
    writer = Writer(path)
    while True:
        rest = next(iter(writer.memory.unfinished.values()), None)
        if rest is not None:
            writer.write(NOON, [], [], Finish(rest))
        else:
            [email] = writer.write(NOON, [NewEmail("acme", None, None, "a", None)], []).emails
            writer.write(NOON, [], [some_hit(*email, n % 2, n) for n in range(4000)])
            names = ("email", "campaign", "tenant")
            edit = EDITS[names[email[1] % 3]]()
            edit.email = edit.email and email[1]
            writer.write(NOON, [], [], Edits([edit]))
        steps.value += 1


def has_done(steps: Any, least: int) -> bool:
    return bool(steps.value > least)


def test_a_kill_half_way_leaves_nothing_that_does_not_go_on(tmp_path: Path, soak: bool) -> None:
    path = tmp_path / "t.db"
    writer = Writer(str(path))
    fill(writer)
    writer.close()
    spawn = multiprocessing.get_context("spawn")
    half_way = 0
    for n in range(60):
        if half_way and n >= 6 and not soak:
            break
        steps = spawn.Value("i", 0)
        child = spawn.Process(target=finish_for_ever, args=(str(path), steps))
        child.start()
        wait_until(partial(has_done, steps, 3 + 5 * n % 11))
        child.kill()
        child.join()
        writer = Writer(str(path))
        half_way += bool(writer.memory.unfinished)
        check(writer)
        if n % 2:
            finish(writer)
        writer.close()
    assert half_way, "none was killed half way"
    writer = Writer(str(path))
    finish(writer)
    writer.close()
    check_file(path)


# Hits that wait, batches under way


def test_an_edit_while_hits_wait_for_the_disk_is_refused(tmp_path: Path, disk: FailingDisk) -> None:
    writer = Writer(str(tmp_path / "t.db"))
    fill(writer)
    recorder = Recorder(writer, 1 << 20)
    disk.full = "t.db-wal"
    assert not recorder.record(NOON, [], [some_hit(1, 2)], 0.0).durable
    disk.full = None
    edits = Edits([EDITS["tenant"]()])
    recorder.record(NOON, [], [], 0.1, edits)
    assert edits.over
    assert edits.error is not None
    assert [class_ for _, class_ in recorder.retry(10.0)] == [0]
    check(writer)
    writer.close()


def test_hits_that_waited_for_a_tenant_that_went_count_for_nothing(
    tmp_path: Path, disk: FailingDisk
) -> None:
    """The commit with the edit is in doubt, and settled when those hits come to be written."""
    writer = Writer(str(tmp_path / "t.db"))
    fill(writer)
    recorder = Recorder(writer, 1 << 20)
    disk.failing_syncs = 2
    recorder.record(NOON, [], [some_hit(2, 1)], 0.0, Edits([EDITS["tenant"]()]))
    recorder.record(NOON, [], [some_hit(1, 1), some_hit(1, 2), some_hit(2, 1)], 0.1)
    written = recorder.retry(10.0) + recorder.retry(20.0)
    assert recorder.reason is None
    assert 1 not in writer.memory.tenants.by_id, "it was committed, and did not go"
    classes = [class_ for hit, class_ in written if hit.tenant == 1]
    assert classes == [GONE, GONE]
    assert [class_ for hit, class_ in written if hit.tenant == 2] == [0, 0]
    check(writer)
    finish(writer)
    assert writer.write(NOON, [], [some_hit(1, 1)]).classes == [GONE]
    writer.close()
    check_file(tmp_path / "t.db")


def test_a_tenant_with_a_batch_under_way_is_busy(writer: Writer) -> None:
    batch = batch_of("acme", [("x", "spring")] * 4, 2)
    writer.write(NOON, [], [], batch)
    writer.write(NOON, [], [], batch)
    edits = Edits(
        [
            Edit("acme", 0, None),
            Edit("acme", 4, None),
            Edit("acme", 5, Change(CAMPAIGN, campaign=None)),
            Edit("acme", 7, Change(frozenset({"subject"}), "not yet")),
            Edit("acme", 2, Change(CAMPAIGN, campaign="winter")),
            Edit("beta", 0, None),
        ]
    )
    writer.write(NOON, [], [some_hit(1, 4)], edits)
    outcomes = [edit.outcome for edit in edits.edits]
    assert outcomes == [BUSY, NOT_FOUND, NOT_FOUND, NOT_FOUND, DONE, DONE]
    check(writer)
    while not batch.over:
        writer.write(NOON, [], [], batch)
    assert batch.first == 4
    gone = Edits([Edit("acme", 4, None), Edit("acme", 0, None)])
    writer.write(NOON, [], [some_hit(1, 4)], gone)
    assert [edit.outcome for edit in gone.edits] == [DONE, DONE]
    check(writer)
    finish(writer)
    check_file(Path(writer.path))


def test_a_tenant_is_busy_until_what_its_batch_left_is_swept(writer: Writer) -> None:
    writer.write(NOON, [], [], batch_of("acme", [("x", "autumn")] * 4, 2))
    used = Edits([Edit("acme", 2, Change(CAMPAIGN, campaign="autumn"))])
    writer.write(NOON, [], [], used)
    busy = Edits([EDITS["tenant"]()])
    writer.write(NOON, [], [], busy)
    assert busy.edits[0].outcome == BUSY
    while writer.memory.pending is not None:
        writer.write(NOON, [], [], Sweep(writer.memory.pending))
    check_file(Path(writer.path))  # the campaign that an email was put into is there
    writer.write(NOON, [], [], busy)
    assert busy.edits[0].outcome == DONE


def test_a_batch_that_began_before_its_tenant_went_makes_it_anew(writer: Writer) -> None:
    batch = batch_of("acme", [("x", "spring")] * 4, 2)
    writer.write(NOON, [], [], Edits([EDITS["tenant"]()]))
    while not batch.over:
        writer.write(NOON, [], [some_hit(1, 1)], batch)
        check(writer)
    assert batch.first == 4
    finish(writer)
    check_file(Path(writer.path))
