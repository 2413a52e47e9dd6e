"""The erasure of a recipient: of all rows of a tenant that are about one person, or name one.

A job in many small steps. A note of it (`erasures`) is kept from its first commit on, so that it is
taken up again after a crash; it holds the recipient until no other row does. The emails go the way
of all emails that are deleted: what they counted for stays. Then the file has to be cleaned of what
rows left behind: see `store.wipe`.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from little_bell.errors import StoreError
from little_bell.store.edits import remove_email
from little_bell.store.job import BYTES, ROWS, Job
from little_bell.store.memory import Note
from little_bell.store.statements import load
from little_bell.store.switching import blocks_of
from little_bell.store.transaction import Transaction
from little_bell.tracking.classify import BURST_LOOK_BACK
from little_bell.tracking.traces import Traces, ascii_lower

SQL = load("erasure.sql")
WRITE = load("write.sql")

READ = BYTES // 4  # of texts that a step looks at, roughly
LOOK_AT = 250  # rows that a step looks at: 3 ms where much of it is percent-encoded
BESIDE = 100  # the same where opens and clicks wait for the same commit
EMAILS = 32  # that a step deletes
EMAILS_BESIDE = 8
ROWS_OF_EMAIL = 8  # that its deletion changes, beside its events and links
NAMES = 100  # that are tried in place of one that is taken

TEXTS, KEYS, OWN, AGENTS, LINKS, CAMPAIGNS, BLOCKS, CLOSE = range(8)  # stages


class Words(NamedTuple):
    """A dictionary: how it is read and how a text in it is replaced."""

    select: str
    rename: str
    memory: str  # of `Memory`
    last: str  # of `Note`


DICTIONARIES = {
    AGENTS: Words("agents", "rename_agent", "agents", "last_agent"),
    LINKS: Words("links", "rename_link", "links", "last_link"),
    CAMPAIGNS: Words("campaigns", "rename_campaign", "campaigns", "last_campaign"),
}


class Erasure(Job):
    """Once it is over, `found` says how many rows were about the recipient or named it, and `note`
    is left without it; or `error` is set; or there is no such tenant (`note` is None)."""

    def __init__(self, tenant: str, recipient: str, note: Note | None = None) -> None:
        """`note` is of one that was begun before; then the other two are not needed."""
        self.tenant = tenant
        self.note = note
        if note is not None and note.recipient is not None:
            recipient = note.recipient
        self.recipient = ascii_lower(recipient)
        self.traces = Traces(self.recipient) if self.recipient else None
        self.stage = TEXTS
        self.position = 0
        self.found = 0
        self.emails = 0
        self.error: StoreError | None = None
        # What the step that is not committed yet comes to.
        self.after = (self.note, self.stage, self.position, self.found, self.emails, False)
        self.over = note is not None and note.recipient is None
        self.stages: dict[int, Callable[[Transaction, Note], None]] = {
            TEXTS: self._texts,
            KEYS: self._keys,
            OWN: self._own,
            AGENTS: self._names,
            LINKS: self._names,
            CAMPAIGNS: self._names,
            BLOCKS: self._blocks,
            CLOSE: self._close,
        }

    def step(self, transaction: Transaction) -> None:
        self.after = (self.note, self.stage, self.position, self.found, self.emails, False)
        if self.note is None:
            self._begin(transaction)
        elif self.note.tenant not in transaction.memory.tenants.by_id:
            self._close(transaction, self.note)  # it was deleted, and its rows are gone before this
        else:
            self.stages[self.stage](transaction, self.note)

    def committed(self) -> None:
        self.note, self.stage, self.position, self.found, self.emails, self.over = self.after

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True

    def _goes_on(
        self, stage: int, position: int, rows: int = 0, emails: int = 0, note: Note | None = None
    ) -> None:
        """Where the job stands after this step, and how many rows it changed."""
        found, emails = self.found + rows, self.emails + emails
        self.after = (note or self.note, stage, position, found, emails, False)

    # Stages

    def _begin(self, transaction: Transaction) -> None:
        known = transaction.memory.tenants.by_name.get(self.tenant.encode("ascii"))
        if known is None:
            self.after = (None, self.stage, 0, 0, 0, True)
            return
        cursor = transaction.cursor
        cursor.execute(SQL["delete_same"], (known.id, self.recipient))
        last = (known.last_email, known.last_agent, known.last_link, known.last_campaign)
        cursor.execute(SQL["insert_erasure"], (known.id, self.recipient, *last))
        number = cursor.connection.last_insert_rowid()
        self._goes_on(TEXTS, 0, note=Note(number, known.id, self.recipient, *last))

    def _texts(self, transaction: Transaction, note: Note) -> None:
        """Emails of others that name the recipient; and those that are to it but for spaces."""
        changed = []
        at, whole = self.position, True
        size = 0
        values = (note.tenant, self.position, note.last_email, self._share(transaction))
        looked = 0
        for email, *texts in transaction.cursor.execute(SQL["texts"], values):
            if size > READ:
                whole = False
                break
            at, looked = email, looked + 1
            size += sum(len(text) for text in texts if text is not None)
            right = self._right(*texts)
            if right is not None:
                changed.append((*right, note.tenant, email))
                size += READ // 16  # to write takes longer than to look
        if changed:
            transaction.cursor.executemany(SQL["update_texts"], changed)
        if whole and looked < values[-1]:
            self._goes_on(KEYS, 0, len(changed))
        else:
            self._goes_on(TEXTS, at, len(changed))

    def _right(
        self, subject: str | None, recipient: str | None, metadata: str | None
    ) -> tuple[str | None, str | None, str | None] | None:
        """What texts should be; None where they are."""
        before = (subject, recipient, metadata)
        if recipient is not None and ascii_lower(recipient.strip()) == self.recipient:
            recipient = recipient.strip()
        else:
            subject, recipient = self._erased(subject), self._erased(recipient)
            if metadata is not None:
                metadata = self._erased_metadata(metadata)
        right = (subject, recipient, metadata)
        return None if right == before else right

    def _erased(self, text: str | None) -> str | None:
        return text if text is None or self.traces is None else self.traces.erase(text)

    def _erased_metadata(self, text: str) -> str:
        """Metadata without the recipient, in names and values. Of JSON, since a text in it may be
        escaped; what is not changed stays as it is, byte by byte."""
        members = json.loads(text)
        right: dict[str, Any] = {}
        for name, value in members.items():
            new = self._erased(name) or ""
            while new in right:
                new += "'"
            right[new] = self._erased(value)
        if right == members:
            return text
        return json.dumps(right, ensure_ascii=False, separators=(",", ":"))

    def _keys(self, transaction: Transaction, note: Note) -> None:
        """Hashes of keys and bodies of the requests that created the emails, before these go."""
        share = self._share(transaction)
        values = (note.tenant, self.recipient, self.position, share, note.last_email)
        rows: list[Any] = transaction.cursor.execute(SQL["created_together"], values).fetchall()
        found = [(number, count) for number, count, hit in rows if hit]
        for number, count in found:
            name = "delete_created" if count == 1 else "forget_digest"
            transaction.cursor.execute(SQL[name], (note.tenant, number))
        if len(rows) < share:
            self._goes_on(OWN, 0)
        else:
            self._goes_on(KEYS, rows[-1][0])

    def _own(self, transaction: Transaction, note: Note) -> None:
        """The emails to the recipient, with their events."""
        transaction.clicks.flush_events()  # chains are read from the file
        most = EMAILS_BESIDE if transaction.events else EMAILS
        values = (note.tenant, self.recipient, note.last_email, most)
        rows: list[Any] = transaction.cursor.execute(SQL["emails_to"], values).fetchall()
        if rows:
            transaction.flush_states()  # and the links that were followed in this very tick
        left, gone = ROWS, 0
        for (email,) in rows:
            key: tuple[int, int] = (note.tenant, email)
            if left <= 0:
                break
            if key in transaction.unfinished:
                continue  # it moves to another campaign: the next step finds it still
            state = transaction.state(*key)
            if state is None:  # texts without a state: `check` tells of them
                transaction.cursor.execute(WRITE["delete_email"], key)
            else:
                left -= remove_email(transaction, state, max(left, 2 * BURST_LOOK_BACK))
            left -= ROWS_OF_EMAIL
            gone += 1
        if rows:
            self._goes_on(OWN, self.position, gone, gone)
        else:
            self._goes_on(CLOSE if self.position else AGENTS, 0)

    def _names(self, transaction: Transaction, note: Note) -> None:
        """Texts of a dictionary that name the recipient. Their numbers stay, with what counts for
        them."""
        words = DICTIONARIES[self.stage]
        cursor, tenant = transaction.cursor, note.tenant
        share = self._share(transaction)
        values = (tenant, self.position, getattr(note, words.last), share)
        found: dict[int, list[str]] = {}
        at, size, looked, whole = self.position, 0, 0, True
        for number, *texts in cursor.execute(SQL[words.select], values):
            if size > READ:
                whole = False
                break
            at, looked = number, looked + 1
            size += sum(len(text) for text in texts)
            erased = [self._erased(text) or "" for text in texts]
            if erased != texts:
                found[number] = erased[1:]
                size += READ // 16
        for number, others in found.items():
            for i in range(NAMES):
                name = f"(erased {number})" if not i else f"(erased {number}.{i})"
                cursor.execute(SQL[words.rename], (name, *others, tenant, number))
                if transaction.changes():
                    break
        if found:
            getattr(transaction.memory, words.memory).erase(tenant, found)
            transaction.memory.verdicts.clear()
        if not whole or looked == share:
            self._goes_on(self.stage, at, len(found))
        else:
            self._goes_on(self.stage + 1, 0, len(found))

    def _blocks(self, transaction: Transaction, note: Note) -> None:
        """Blocks of links that name the recipient go, last of all the names of keys that do."""
        cursor, tenant = transaction.cursor, note.tenant
        share = self._share(transaction)
        at, size, looked, whole = self.position, 0, 0, True
        gone: list[int] = []
        for block, url in cursor.execute(SQL["blocked_links"], (tenant, at, share)):
            if size > READ:
                whole = False
                break
            at, looked = block, looked + 1
            size += len(url)
            if self._erased(url) != url:
                gone.append(block)
        for block in gone:
            cursor.execute(WRITE["delete_block"], (tenant, block))
            known = blocks_of(transaction, transaction.memory.tenants.by_id[tenant])
            transaction.blocked[tenant] = known.without(block)
        if not whole or looked == share:
            self._goes_on(BLOCKS, at, len(gone))
            return
        keys: list[Any] = cursor.execute(SQL["key_names"], (tenant,)).fetchall()
        named = [(self._erased(name), tenant, key) for key, name in keys]
        named = [row for row, (_, name) in zip(named, keys, strict=True) if row[0] != name]
        if named:
            cursor.executemany(SQL["rename_key"], named)
        # Another email may have become the recipient's meanwhile: 1, to end with that.
        self._goes_on(OWN, 1, len(gone) + len(named))

    def _close(self, transaction: Transaction, note: Note) -> None:
        """Take the recipient out of the note, once the last events are gone, and no opt-out holds
        an address while it is being marked."""
        rest = (*transaction.unfinished, *transaction.optouts.marking)
        if any(tenant == note.tenant for tenant, _ in rest):
            return
        transaction.cursor.execute(SQL["unscoped_forget_recipient"], (note.number,))
        note = note._replace(recipient=None)
        self.after = (note, CLOSE, 0, self.found, self.emails, True)

    def _share(self, transaction: Transaction) -> int:
        """How many rows this step looks at."""
        return BESIDE if transaction.events else LOOK_AT


class Forget(Job):
    """Takes the note of an erasure away, once the file is clean."""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.error: StoreError | None = None

    def step(self, transaction: Transaction) -> None:
        transaction.cursor.execute(SQL["unscoped_delete_erasure"], (self.note.number,))

    def committed(self) -> None:
        self.over = True

    def failed(self, error: StoreError) -> None:
        self.error = error
        self.over = True
