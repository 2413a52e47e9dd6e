"""What of the rows that were read is in the database already, or does not go with it."""

import hashlib
from typing import NamedTuple

from little_bell.imports.rows import shown
from little_bell.store.copy import Progress
from little_bell.store.history import THERE, PastEmail
from little_bell.store.ledger import Ledger
from little_bell.store.spool import Spool

SHOWN = 10  # problems that are told one by one
EVER = 1 << 62

KNOWN = "events that are there already"
PURGED = "events not younger than others of their email that were purged"
OTHER = "events of emails that are other ones here"
LOST = "events without their email"
ANOTHER = "emails that are other ones here"
BAD = (LOST, ANOTHER)  # these are problems, too, and counted as such


class Problems:
    """What is wrong with rows: how many there are, and the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, where: str, what: str, rows: int = 1) -> None:
        self.count += rows
        if len(self.shown) < SHOWN:
            more = f" (and {rows - 1:,} more)" if rows > 1 else ""
            self.shown.append(shown(f"{where}: {what}{more}"))


class Words(NamedTuple):
    """How rows are called in messages."""

    email: str  # before the number of an email's line
    event: str


def compare(
    spool: Spool, ledger: Ledger, problems: Problems, words: Words, progress: Progress
) -> bytes:
    """Leave out what is there; what does not go with it is a problem: returns a hash of the latter,
    or nothing where there is none. Raises StoreError.

    Events are the same where email, kind and millisecond are: of several in one millisecond, as
    many are new as the file has more of them."""
    bad = hashlib.sha256()
    before = problems.count
    others: set[tuple[str, int]] = set()
    there: set[str] = {name for name in spool.tenants if ledger.tenant(name) is not None}
    total = spool.emails + spool.events + 1
    done = 0
    for line, email in spool.mails():
        done += 1
        if done % 1000 == 0:
            progress(done, total)
        known = ledger.email(email.tenant, email.email) if email.tenant in there else None
        if known == email:
            spool.leave_email(email.tenant, email.email, THERE)
        elif known is not None:
            what = f"email {email.email} of {email.tenant} is there already, with "
            problems.add(f"{words.email} {line}", what + difference(email, known))
            spool.leave_email(email.tenant, email.email, ANOTHER)
            others.add((email.tenant, email.email))
            bad.update(repr((email.tenant, email.email)).encode("ascii"))
    for tenant, number, kind, line, count in spool.emails_hit():
        done += count
        progress(done, total)
        if (tenant, number) in others:
            spool.leave_older(tenant, number, kind, EVER, OTHER)
            continue
        found = ledger.events(tenant, number, kind) if tenant in there else None
        if found is None:
            if not spool.has_email(tenant, number):
                what = f"there is no email {number} of {tenant}: import emails first"
                problems.add(f"{words.event} {line}", what, count)
                spool.leave_older(tenant, number, kind, EVER, LOST)
                bad.update(repr((tenant, number, kind)).encode("ascii"))
            continue
        if found.purged:
            spool.leave_older(tenant, number, kind, found.purged, PURGED)
        for at, copies in found.moments:
            spool.leave_events(tenant, number, kind, at, copies, KNOWN)
    return bad.digest() if problems.count > before else b""


def difference(one: PastEmail, other: PastEmail) -> str:
    """What is not the same in two emails."""
    names = [name for name in one._fields if getattr(one, name) != getattr(other, name)]
    return f"another {' and '.join(names)}"
