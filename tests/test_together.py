"""Where the parts of the store meet: all that can happen, in any order, with work left in between.

After every step a recount finds nothing, and figures are those of a naive account.
"""

import itertools
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from little_bell.errors import StoreError
from little_bell.store import batch as batch_module
from little_bell.store import edits as edits_module
from little_bell.store import erasure as erasure_module
from little_bell.store import purge as purge_module
from little_bell.store import wishes as wishes_module
from little_bell.store.batch import Batch, Plan, Row, Sweep
from little_bell.store.edits import BUSY, DONE, Edit, Edits, Finish
from little_bell.store.erasure import Erasure, Forget
from little_bell.store.job import Job, Together
from little_bell.store.key_change import KeyChange
from little_bell.store.purge import DAY, Purge
from little_bell.store.recount import Recount
from little_bell.store.switching import SwitchOff, SwitchOn
from little_bell.store.wishes import Marks, PolicyWish, RecipientWish, Wishes
from little_bell.store.writer import Writer
from little_bell.tracking.email import Change, NewEmail
from little_bell.tracking.hit import CLICK, GPC, OPEN, PREFETCH, Hit
from test_batches_store import Failing
from test_figures import HOME, MINUTE, NOON, OFFICE, SECOND
from truth import AGENTS, COLUMNS, Event, Mail, Truth, figures

ADA, BOB = "ada@example.com", "bob@example.com"
RECIPIENTS = (ADA, "Ada@Example.COM", BOB, BOB, "eve@example.com", None)
CAMPAIGNS = (None, "spring", "summer")
NAMING = f"https://x.example/?to={ADA}"
URLS = (*(f"https://{name}.example/" for name in "wxyz"), NAMING)
STEPS = 60
SEEN = (
    *(
        "batch",
        "block erased",
        "blocked",
        "erased",
        "erasure after a crash",
        "erasures",
        "failed",
        "left alone",
    ),
    *("marking", "marking after a crash", "purged", "tenant went", "tenant went amid an erasure"),
    "unfinished",
)


class World:
    """One tenant of a store, and what is so by the definitions."""

    def __init__(self, folder: Path, seed: int, seen: Counter[str]) -> None:
        self.folder = folder
        self.number = 0  # of the file
        self.chance = random.Random(seed)
        self.seen = seen  # what a test must not miss
        self.truth = Truth(2000)
        self.at = NOON
        self.events = 0
        self.out: set[str] = set()
        self.consent = 0  # of the tenant
        self.blocks: dict[int, tuple[int, str | None]] = {}
        self.batch: Batch | None = None
        self.planned: list[Mail] = []
        self.purge: Purge | None = None
        self.erasure: Erasure | None = None
        self.ended = False  # nothing new comes
        self.purged = False  # some events, at some time
        self.patched: set[int] = set()  # emails to others since an erasure was asked for
        self._open(folder / "0.db")
        self.create()

    def _open(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(str(path))
        self.writer.connection.pragma("synchronous", "off")  # no power is lost here

    @property
    def tenant(self) -> int:
        return self.writer.memory.tenants.by_name[b"acme"].id

    # Steps

    def step(self) -> None:
        chance = self.chance
        self.at += chance.choice((0, 500, 4 * SECOND, 20 * MINUTE, DAY, 3 * DAY))
        kinds = (
            "create",
            "hits",
            "hits",
            "hits",
            "opt",
            "policy",
            "change",
            "batch_begins",
            "block",
        )
        rare = (*("delete", "tenant_goes", "begin_purge", "erase", "restart", "unblock", "key"),)
        kind = chance.choice(rare if chance.random() < 0.25 else kinds)
        getattr(self, kind)()
        for _ in range(chance.choice((0, 1, 1, 3))):
            self.work()
        self.look()

    def create(self) -> None:
        new = self._new()
        [(_, email)] = self.writer.write(self.at, [new], []).emails
        self._exists(email, new)

    def _new(self) -> NewEmail:
        chance = self.chance
        subject, consent = chance.choice((None, f"For {ADA}")), chance.choice((0, 0, 0, 1, 2))
        recipient, campaign = chance.choice(RECIPIENTS), chance.choice(CAMPAIGNS)
        return NewEmail("acme", subject, recipient, campaign, None, None, consent)

    def _exists(self, email: int, new: NewEmail) -> None:
        mail = Mail(email, self.at, new.campaign, new.subject, new.recipient)
        mail.consent = new.consent
        self.truth.add(mail)

    def hits(self, job: Job | None = None) -> None:
        """Some of a tick, often all of one email."""
        chance = self.chance
        found: list[Hit] = []
        mails = list(self.truth.mails.values())[-8:] + self.planned[-1:]
        one = chance.choice(mails) if mails else None
        step = chance.choice((0, SECOND, 4 * SECOND))
        agent, address = chance.choice(AGENTS), chance.choice((HOME, OFFICE))
        for n in range(chance.choice((1, 2, 5, 12))):
            if one is None:
                break
            if chance.random() < 0.2:
                one, agent = chance.choice(mails), chance.choice(AGENTS)
            url = chance.choice((None, *URLS))
            at = self.at + n * step + chance.choice((0, 0, 0, -3_000))
            consent = max(self.consent, chance.choice((0, 0, 0, 0, 1)))
            flags = chance.choice((0, 0, 0, GPC, PREFETCH))
            blocked = self.writer.memory.tenants.by_id[self.tenant].blocked
            held = blocked is not None and blocked.holds(one.id, url)
            assert held == any(b in ((0, None), (one.id, None), (0, url)) for b in self._blocked())
            if held or consent == 2:  # as the door has it
                self.seen["blocked"] += held
                continue
            kind = OPEN if url is None else CLICK
            found.append(
                Hit(self.tenant, one.id, kind, at, flags, agent[0], address, url, consent=consent)
            )
            if self.truth.mails.get(one.id) is not one or one.gone:
                continue  # it is not there yet, or not any more
            if (one.recipient or "").lower() in self.out:
                self.seen["left alone"] += 1
                continue
            name, prefetch = ("open", "click")[kind], bool(flags & PREFETCH)
            self.events += 1
            event = Event(self.events, name, at, agent[0], address, url, False, prefetch)
            consent = max(consent, one.consent)
            if consent == 0:
                self.truth.hit(one.id, event)
            elif consent == 1:
                self.truth.total(one.id, event)
        self.at += 12 * step
        self._write(found, job)

    def _blocked(self) -> list[tuple[int, str | None]]:
        return list(self.blocks.values())

    def _write(self, hits: list[Hit], job: Job | None) -> bool:
        """Whether it was written; where not, the hits come again without the job."""
        if job is None or self.chance.random() > 0.05:
            self.writer.write(self.at, [], hits, job)
            return True
        with pytest.raises(StoreError) as told:
            self.writer.write(self.at, [], hits, Failing(job))
        self.seen["failed"] += 1
        job.failed(told.value)
        self.writer.write(self.at, [], hits)
        return False

    def opt(self) -> None:
        out, recipient = self.chance.random() < 0.6, self.chance.choice((ADA, BOB))
        salt = b"%016d" % self.number
        wishes = Wishes([RecipientWish("acme", recipient, out, salt)])
        # With the next part of whatever is to be done.
        job = self._next()
        both: Job = wishes if job is None else Together([wishes, job])
        self.writer.write(self.at, [], [], both)
        (self.out.add if out else self.out.discard)(recipient)
        self._settle()
        self.seen["marking"] += bool(self.writer.memory.marking)

    def policy(self) -> None:
        self.consent = self.chance.choice((0, 0, 0, 1, 2))
        self.writer.write(self.at, [], [], Wishes([PolicyWish("acme", {"consent": self.consent})]))

    def change(self) -> None:
        alive = self.truth.alive
        if not alive:
            return
        mail = self.chance.choice(alive[-8:])
        given: dict[str, Any] = self.chance.choice(
            (
                {"campaign": self.chance.choice(CAMPAIGNS)},
                {"recipient": self.chance.choice(RECIPIENTS)},
                {"consent": self.chance.choice((0, 1, 2))},
            )
        )
        if self._edit(Edit("acme", mail.id, Change(frozenset(given), **given))) == DONE:
            for name, value in given.items():
                setattr(mail, name, value)
            if "recipient" in given:
                self.patched.add(mail.id)
            self.truth.name(mail.campaign)

    def delete(self) -> None:
        alive = self.truth.alive
        if alive:
            mail = self.chance.choice(alive)
            if self._edit(Edit("acme", mail.id, None)) == DONE:
                mail.gone = True

    def _edit(self, edit: Edit) -> int:
        self.writer.write(self.at, [], [], Edits([edit]))
        self.seen["unfinished"] += any(key[1] for key in self.writer.memory.unfinished)
        self.at += 20 * SECOND  # bursts do not reach what an edit left: steps are short here
        if edit.outcome != DONE:
            assert edit.outcome == BUSY
        return edit.outcome

    def tenant_goes(self) -> None:
        if self.chance.random() < 0.3 and self._edit(Edit("acme", 0, None)) == DONE:
            self.truth = Truth(2000)
            self.out = set()
            self.seen["tenant went"] += 1
            self.seen["tenant went amid an erasure"] += self.erasure is not None

    def key(self) -> None:
        self.writer.write(self.at, [], [], KeyChange("acme", f"of {ADA}", 0, bytes(32)))

    def block(self) -> None:
        email, url = self.chance.choice(((1, None), (0, URLS[1]), (0, NAMING)))
        if self.chance.random() < 0.3:
            edit = SwitchOff("acme", email, url)
            if self._edit(edit) == DONE:
                self.blocks[edit.block] = (email, url)

    def unblock(self) -> None:
        for block in list(self.blocks):
            if self._edit(SwitchOn("acme", block)) == DONE:
                del self.blocks[block]

    def begin_purge(self) -> None:
        if self.purge is None:
            cut = self.at - self.chance.choice((1, 1, 2, 5)) * DAY
            self.purge = Purge(self.tenant, cut)

    def batch_begins(self) -> None:
        if self._next() not in (None, self.purge):
            return
        new = [self._new() for _ in range(self.chance.choice((3, 20, 40)))]
        names = sorted({one.campaign for one in new if one.campaign is not None})
        rows: list[Row] = [
            (
                one.subject,
                one.recipient,
                None,
                None if one.campaign is None else names.index(one.campaign),
                one.consent,
            )
            for one in new
        ]
        counts = [(name, sum(one.campaign == name for one in new)) for name in names]
        pieces = (rows[at : at + 9] for at in range(0, len(rows), 9))
        self.batch = Batch(Plan("acme", len(new), counts, None), pieces)
        first = self.writer.memory.tenants.by_id[self.tenant].last_email + 1
        self.planned = []
        for place, one in enumerate(new):
            mail = Mail(first + place, self.at, one.campaign, one.subject, one.recipient)
            mail.consent = one.consent
            self.planned.append(mail)
        self.writer.write(self.at, [], [], self.batch)

    def erase(self) -> None:
        if self.erasure is None:
            self.erasure = Erasure("acme", self.chance.choice((ADA, BOB)))
            self.patched = set()

    def restart(self) -> None:
        """The server is killed: the files are as they are at this moment."""
        self.number += 1
        path = self.folder / f"{self.number}.db"
        for end in ("", "-wal"):
            if Path(f"{self.path}{end}").exists():
                shutil.copy(f"{self.path}{end}", f"{path}{end}")
        self.writer.close()
        self._open(path)
        self.batch, self.planned, self.purge, self.erasure = None, [], None, None
        notes = self.writer.memory.erasures
        if notes:
            self.seen["erasure after a crash"] += 1
            self.erasure = Erasure("", "", notes[0])
        self.seen["marking after a crash"] += bool(self.writer.memory.marking)

    # What is left to be done

    def _next(self) -> Job | None:
        """In the order of `Bulk.job`; a purge comes last."""
        memory = self.writer.memory
        if self.batch is not None and not self.batch.over and self.batch.range is not None:
            return self.batch
        if memory.pending is not None:
            return Sweep(memory.pending)
        if memory.marking:
            return Marks()
        if memory.unfinished:
            return Finish(next(iter(memory.unfinished.values())))
        if self.erasure is not None and not self.erasure.over:
            return self.erasure
        if self.erasure is not None and self.erasure.note is not None:
            return Forget(self.erasure.note)
        return self.purge

    def work(self) -> bool:
        """The next part, perhaps beside hits; whether there was one."""
        job = self._next()
        if job is None:
            return False
        if not self.ended and self.chance.random() < 0.3:
            self.hits(job)
        else:
            self._write([], job)
        self._settle(job)
        return True

    def _settle(self, job: Job | None = None) -> None:
        batch, erasure = self.batch, self.erasure
        if batch is not None and batch.over:
            if batch.error is None:
                for mail in self.planned:
                    self.truth.add(mail)
                self.seen["batch"] += 1
            self.batch, self.planned = None, []
        if self.purge is not None:
            self.purged = self.purged or self.purge.events > 0
        if self.purge is not None and self.purge.over:
            self.seen["purged"] += self.purge.events
            self.purge = None
        if isinstance(job, Forget) and job.error is None:
            self.erasure = None
        elif erasure is not None:
            self._erased(erasure)

    def _erased(self, erasure: Erasure) -> None:
        """Emails to the recipient go one after the other, and no others."""
        rows = self.writer.connection.execute(
            "SELECT email FROM states WHERE tenant = ?", (self.tenant,)
        )
        there = {email for (email,) in rows}
        for mail in self.truth.alive:
            if mail.id not in there:
                assert (mail.recipient or "").lower() == erasure.recipient
                mail.gone = True
                self.seen["erased"] += 1
        if erasure.recipient == ADA:  # so do blocks of links that name her
            blocked = self.writer.memory.tenants.by_id[self.tenant].blocked
            for block in [block for block, (_, url) in self.blocks.items() if url == NAMING]:
                if blocked is None or not blocked.has(block):
                    del self.blocks[block]
                    self.seen["block erased"] += 1
        if erasure.error is not None:
            self.erasure = Erasure("acme", erasure.recipient, erasure.note)
        elif erasure.over:
            note = erasure.note
            assert note is not None
            # One that was over before a kill knows its recipient no more.
            if note.tenant == self.tenant and erasure.recipient:
                for mail in self.truth.alive:
                    to = (mail.recipient or "").lower()
                    newer = mail.id > note.last_email or mail.id in self.patched
                    assert to != erasure.recipient or newer
            self.seen["erasures"] += 1

    # Looking

    def look(self) -> None:
        for judge in (False, True):
            recount = Recount(self.writer.connection, judge=judge)
            assert (list(recount), recount.problems) == ([], [])
        columns = ", ".join(f"sum({column})" for column in COLUMNS)
        rows = self.writer.connection.execute(
            f"SELECT scope, id, {columns} FROM figures WHERE tenant = ? AND scope < 3 "
            "GROUP BY scope, id",
            (self.tenant,),
        )
        found = {(scope, id_): list(row) for scope, id_, *row in rows}
        for (scope, name), counted in self.truth.count().items():
            key = self._key(scope, name)
            moving = scope == "campaign" and self.writer.memory.unfinished
            if key is None or moving:
                continue
            # Purged events do not move to another campaign with their email.
            kept = range(8) if scope != "campaign" or not self.purged else (0, 3, 4, 7)
            pair = (found.get(key, [0] * 8), figures(counted))
            assert [pair[0][n] for n in kept] == [pair[1][n] for n in kept], (scope, name)

    def _key(self, scope: str, name: object) -> tuple[int, int] | None:
        if scope == "tenant":
            return 0, 0
        if scope == "client" or name == NAMING:  # an erasure makes it another
            return None
        sql = {
            "campaign": "SELECT 1, campaign FROM campaigns WHERE tenant = ? AND name = ?",
            "link": "SELECT 2, link FROM links WHERE tenant = ? AND url = ?",
        }[scope]
        row: Any = self.writer.connection.execute(sql, (self.tenant, name)).fetchone()
        return int(row[0]), int(row[1])

    def end(self) -> None:
        """Once all is done and everybody erased, nothing is left of either."""
        self.ended = True
        for recipient in (None, ADA, BOB):
            if recipient is not None:
                self.erasure = Erasure("acme", recipient)
            for _ in range(2000):
                if not self.work():
                    break
            else:
                raise AssertionError("it does not end")
            self.look()
        cursor = self.writer.connection
        names = [
            str(name)
            for (name,) in cursor.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        left = {name: cursor.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        for name in names:
            assert ADA not in str(left[name]).lower(), name
            columns = [row[1] for row in cursor.execute(f"PRAGMA table_info({name})")]
            if "tenant" in columns:
                at = columns.index("tenant")
                assert {row[at] for row in left[name]} <= {self.tenant}, name
        assert [name for name in ("unfinished", "pending", "erasures") if left[name]] == []
        self.writer.close()


def test_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soak: bool) -> None:
    for module in (batch_module, edits_module, erasure_module, purge_module, wishes_module):
        monkeypatch.setattr(module, "ROWS", 5)  # of a step
    for module in (edits_module, erasure_module):
        monkeypatch.setattr(module, "BURST_LOOK_BACK", 3)
    monkeypatch.setattr(erasure_module, "LOOK_AT", 4)
    monkeypatch.setattr(erasure_module, "EMAILS", 2)
    monkeypatch.setattr(purge_module, "FEWEST", 3)
    seen: Counter[str] = Counter()
    folders = itertools.count()

    @settings(max_examples=300 if soak else 60, deadline=None)
    @given(seed=st.integers(0, 1 << 32))
    def everything(seed: int) -> None:
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        world = World(folder, seed, seen)
        for _ in range(STEPS):
            world.step()
        world.end()

    for _ in range(5):  # chance decides what happens: once in a while something rare is missed
        everything()
        if all(seen[what] for what in SEEN):
            break
    for what in SEEN:
        assert seen[what], f"never: {what}"
