"""The writer: the one connection that writes, a transaction a tick."""

import contextlib
from time import monotonic, sleep
from typing import Any, NamedTuple

import apsw

from little_bell.errors import DataError, StartError, StoreError
from little_bell.store.blocks import gather
from little_bell.store.database import MIGRATIONS, Upgrading, migrate, open_writer, store_error
from little_bell.store.idempotency import Created, find
from little_bell.store.job import Job
from little_bell.store.memory import Limits, Marking, Memory, Note, Pending, Unfinished
from little_bell.store.statements import load
from little_bell.store.tenants import NO_POLICY, Numbers, Policy, Tenant, read_hosts
from little_bell.store.transaction import Transaction
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import Hit
from little_bell.tracking.privacy import fingerprint, normal
from little_bell.tracking.rules import VERSION

SQL = load("write.sql")
ERASURE = load("erasure.sql")

# Errors of the driver, and of Python where a value does not fit it.
DRIVER_ERRORS = (apsw.Error, TypeError, ValueError, OverflowError)

WAL_PIECE = 1 << 16  # bytes
# Milliseconds at a start: after a crash the first to open reads the WAL anew, and others wait.
PATIENCE = 5000
AGAIN = 0.001  # seconds between two looks whether another program lets go

MODES = {
    "passive": apsw.SQLITE_CHECKPOINT_PASSIVE,
    "restart": apsw.SQLITE_CHECKPOINT_RESTART,
    "truncate": apsw.SQLITE_CHECKPOINT_TRUNCATE,
}


class Written(NamedTuple):
    """What one transaction made of its input, in the same order."""

    emails: list[tuple[int, int]]  # (tenant, email)
    classes: list[int]  # of hits: a class of the rules, GONE or OVER_CAP


class Attempt(NamedTuple):
    """A transaction whose fate is unknown because the disk failed while it was committed."""

    tenant: int
    numbers: Numbers  # of that tenant, had it been committed
    written: Written


class Writer:
    """Not safe for threads: it belongs to the fast lane."""

    def __init__(
        self,
        path: str,
        limits: Limits | None = None,
        vfs: str | None = None,
        upgrading: Upgrading | None = None,
    ) -> None:
        """Open the database; make it or bring its schema up to date where need be, of which
        `upgrading` is told before.

        Raises StoreError, or StartError where the file is not ours to write.
        """
        self.path = path
        self.vfs = vfs
        self.memory = Memory(limits or Limits())
        self.wal_pages = 0
        self.wal_begun = 0  # times it began anew by itself, once all of it had been moved
        self.attempt: Attempt | None = None
        self.patience = 0.0  # seconds that another program's transaction is waited for
        self.in_vain = False  # the last time
        try:
            self._connect(PATIENCE)
            migrate(self.connection, upgrading)
            self._read_tenants()
            self.connection.set_busy_timeout(0)
        except apsw.Error as error:
            raise store_error(error) from error

    def _connect(self, patience: int = 0) -> None:
        self.connection = open_writer(self.path, self.vfs, patience=patience)
        self.connection.set_wal_hook(self._on_commit)
        self.cursor = self.connection.cursor()

    def _on_commit(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        if pages < self.wal_pages:
            self.wal_begun += 1
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def _read_tenants(self) -> None:
        tenants = self.memory.tenants
        self.memory.pending = None
        for row in self.cursor.execute(SQL["unscoped_pending"]):
            self.memory.pending = Pending(*row)
        rows = [Unfinished(*row) for row in self.cursor.execute(SQL["unscoped_unfinished"])]
        self.memory.unfinished = {(one.tenant, one.email): one for one in rows}
        notes = self.cursor.execute(ERASURE["unscoped_erasures"])
        self.memory.erasures = [Note(*row) for row in notes]
        found: list[Any] = self.cursor.execute(SQL["unscoped_tenants"]).fetchall()
        blocks = gather(self.cursor.execute(SQL["unscoped_blocks"]))
        # A tenant that went in a transaction of which nobody knew whether it was committed.
        for gone in tenants.by_id.keys() - {id_ for id_, *_ in found}:
            tenants.discard(tenants.by_id[gone])
        for id_, name, salt, consent, addresses, gpc, retention, hosts, *numbers in found:
            known = tenants.by_id.get(id_)
            if known is None:
                known = Tenant(id_, name, *numbers)
                tenants.add(known)
            else:
                known.restore((numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]))
            policy = Policy(consent, addresses, gpc, retention, read_hosts(hosts))
            known.policy = NO_POLICY if policy == NO_POLICY else policy
            known.salt = salt
            known.blocked = blocks.get(id_)
        keys: list[Any] = self.cursor.execute(SQL["unscoped_keys"]).fetchall()
        self.memory.keys.load(keys)
        marking = [Marking(*row) for row in self.cursor.execute(SQL["unscoped_marking"])]
        self.memory.marking = {(one.tenant, normal(one.address)): one for one in marking}

    def write(
        self, at: int, emails: list[NewEmail], hits: list[Hit], job: Job | None = None
    ) -> Written:
        """Append and project all of it, durably, or nothing. `at` is the time of creation (ms).

        `job` adds its next step. Raises StoreError, or DataError where a value was refused.
        """
        self.attempt = None
        transaction = Transaction(self.cursor, self.memory, at)
        try:
            self._begin()
            transaction.read_states(hits)
            written = Written(
                [transaction.create(at, email) for email in emails],
                [transaction.hit(hit) for hit in hits],
            )
            if job is not None:
                job.step(transaction)
            transaction.flush()
            self.attempt = self._attempt(transaction, written)
            self.cursor.execute(SQL["commit"])
        except DRIVER_ERRORS as error:
            self._roll_back(transaction)
            raise store_error(error) from error
        except BaseException as error:
            self._roll_back(transaction)
            if job is not None and isinstance(error, Exception):  # the hits' turn comes without it
                raise DataError(f"a job failed: {error!r}") from error
            raise
        self.attempt = None
        self.memory.committed(transaction.states)
        self.memory.pending = transaction.pending
        self.memory.unfinished = transaction.unfinished
        self.memory.marking = transaction.optouts.marking
        for id_, blocked in transaction.blocked.items():
            self.memory.tenants.by_id[id_].blocked = blocked
        if job is not None:
            job.committed()
        return written

    def _begin(self) -> None:
        """Begin to write. Not by SQLite's own patience: checkpoints would wait for readers too.

        Who did not let go once is not waited for again before it does.
        """
        until = 0.0
        while True:
            try:
                self.cursor.execute(SQL["begin"])
                self.in_vain = False
                return
            except apsw.BusyError:
                until = until or monotonic() + self.patience
                if self.in_vain or monotonic() >= until:
                    self.in_vain = True
                    raise
            sleep(AGAIN)

    def judged_by(self) -> int:
        """The version of the rules that made the oldest judgement. Raises StoreError."""
        try:
            rows: list[Any] = self.cursor.execute(SQL["unscoped_judged_by"]).fetchall()
        except apsw.Error as error:
            raise store_error(error) from error
        return VERSION if rows[0][0] is None else int(rows[0][0])

    def created_before(self, tenant: str, key: bytes, now: int) -> Created | None:
        """What a request with this Idempotency-Key created (see `idempotency.find`).

        Raises StoreError.
        """
        known = self.memory.tenants.by_name.get(tenant.encode("ascii"))
        if known is None:
            return None
        try:
            return find(self.cursor, known.id, key, now)
        except apsw.Error as error:
            raise store_error(error) from error

    def opted_out(self, tenant: Tenant, recipient: str) -> int | None:
        """When a recipient opted out (ms); None where it did not. Raises StoreError."""
        if tenant.salt is None:
            return None
        key = (tenant.id, fingerprint(tenant.salt, recipient))
        try:
            row = self.cursor.execute(SQL["select_optout"], key).fetchone()
        except apsw.Error as error:
            raise store_error(error) from error
        return None if row is None else int(row[0])

    def _attempt(self, transaction: Transaction, written: Written) -> Attempt | None:
        """By what the transaction would be known; None where it only made a cap's row grow."""
        if transaction.replaced:
            new = transaction.replaced[-1][1]
            return Attempt(new.id, new.numbers(), written)
        for id_, before in transaction.snapshots.items():
            tenant = self.memory.tenants.by_id.get(id_)
            if tenant is not None and tenant.numbers() != before:
                return Attempt(id_, tenant.numbers(), written)
        return None

    def accepts(self, at: int, emails: list[NewEmail], hits: list[Hit]) -> bool:
        """Whether the database takes these values; nothing is kept. Raises StoreError."""
        transaction = Transaction(self.cursor, self.memory, at)
        try:
            self._begin()
            for email in emails:
                transaction.create(at, email)
            for hit in hits:
                transaction.hit(hit)
            transaction.flush()
        except DRIVER_ERRORS as error:
            failure = store_error(error)
            if not isinstance(failure, DataError):
                raise failure from error
            return False
        finally:
            self._roll_back(transaction)
        return True

    def _roll_back(self, transaction: Transaction | None) -> None:
        with contextlib.suppress(apsw.Error):  # most errors of the disk have rolled back already
            if self.connection.in_transaction:
                self.cursor.execute(SQL["rollback"])
        if transaction is not None:
            transaction.undo()

    # When the disk fails

    def probe(self) -> None:
        """Write something that changes nothing. Raises StoreError."""
        self.attempt = None
        try:
            self._begin()
            self.connection.pragma("user_version", len(MIGRATIONS))
            self.cursor.execute(SQL["commit"])
        except apsw.Error as error:
            self._roll_back(None)
            raise store_error(error) from error

    def reopen(self) -> Written | None:
        """A new connection after an I/O error; what was in doubt is settled.

        Returns what the attempt in doubt had written where it turns out committed.
        Raises StoreError; then the doubt remains.
        """
        try:
            with contextlib.suppress(apsw.Error):
                self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                self.connection.close()
            self._sync_all_again()
            self._connect()
            self._read_tenants()
        except apsw.Error as error:
            raise store_error(error) from error
        except StartError as error:  # the file is another one now
            raise StoreError(str(error), reopen=True) from error
        self.wal_pages = 0
        attempt, self.attempt = self.attempt, None
        if attempt is None:
            return None
        tenant = self.memory.tenants.by_id.get(attempt.tenant)
        if tenant is None or tenant.numbers() != attempt.numbers:
            return None
        return attempt.written

    def _sync_all_again(self) -> None:
        """Bring everything to the disk, whatever was synced before.

        A page whose sync failed may be marked clean by the kernel, and never reach the disk. That
        goes for the WAL, which is written again as it is, since the database must not get ahead of
        it; and for pages of the database that earlier checkpoints wrote, which SQLite syncs only
        with the last one: an exclusive connection has a WAL index of its own and moves all of them
        again. It needs to be alone.
        """
        connection = open_writer(self.path, self.vfs, alone=True)
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._write_wal_again()
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()

    def _write_wal_again(self) -> None:
        """Make the pages of the WAL dirty, and sync them."""
        flags = [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0]
        wal = apsw.VFSFile(self.vfs or "", self.path + "-wal", flags)
        try:
            size = wal.xFileSize()
            for offset in range(0, size, WAL_PIECE):
                wal.xWrite(wal.xRead(min(WAL_PIECE, size - offset), offset), offset)
            wal.xSync(apsw.SQLITE_SYNC_FULL)
        finally:
            wal.xClose()

    # Checkpoints

    def checkpoint(self, mode: str) -> bool:
        """Move the WAL into the database; `mode` is passive, restart or truncate.

        False where a reader is in the way. Raises apsw.Error.
        """
        try:
            pages, moved = self.connection.wal_checkpoint(mode=MODES[mode])
        except apsw.BusyError:
            return False
        if pages == moved:
            self.wal_pages = 0
        return pages == moved

    def close(self) -> None:
        """Close. The last connection to close removes the WAL. Raises StoreError."""
        try:
            self.connection.close()
        except apsw.Error as error:
            raise store_error(error) from error
