"""Everything of a kind as CSV or NDJSON, in pieces: each is a short read of its own, since a client
may take hours, and made by whatever thread asks for it."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator

from little_bell.reports.records import Record, email_record, event_record
from little_bell.store import emails, events
from little_bell.store.reader import Reader

PIECE = 1_000  # rows; fewer where few of those looked at are asked for

# A spreadsheet would take a text that begins with one of these for a formula
# (https://owasp.org/www-community/attacks/CSV_Injection); the last four are wide =, +, - and @.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

EVENT_COLUMNS = (
    "id",
    "email_id",
    "kind",
    "at",
    "class",
    "agent",
    "reasons",
    "client",
    "device",
    "ip_address",
    "user_agent",
    "url",
    "label",
)
EMAIL_COLUMNS = (
    "email_id",
    "created_at",
    "subject",
    "recipient",
    "campaign",
    "metadata",
    "consent",
    "opened",
    "clicked",
    "opens",
    "machine_opens",
    "clicks",
    "machine_clicks",
    *("first_open", "last_open", "first_machine_open", "last_machine_open"),
    *("first_click", "last_click", "first_machine_click", "last_machine_click"),
    "seconds_to_first_open",
)

Readers = Callable[[], Reader]  # gives the connection of the thread that calls it


def events_csv(reader: Readers, tenant: int, search: events.Search, after: int) -> Iterator[bytes]:
    """Events newer than `after`, oldest first, as CSV (RFC 4180) with a header."""
    yield csv_rows([EVENT_COLUMNS])
    for piece in event_pieces(reader, tenant, search, after):
        yield csv_rows(map(cells, piece))


def events_ndjson(
    reader: Readers, tenant: int, search: events.Search, after: int
) -> Iterator[bytes]:
    """The same as NDJSON: objects as in the list of events."""
    for piece in event_pieces(reader, tenant, search, after):
        yield ndjson_rows(piece)


def emails_csv(reader: Readers, tenant: int) -> Iterator[bytes]:
    """Emails and what became of them, newest first, as CSV with a header."""
    yield csv_rows([EMAIL_COLUMNS])
    for piece in email_pieces(reader, tenant):
        yield csv_rows(map(cells, piece))


def emails_ndjson(reader: Readers, tenant: int) -> Iterator[bytes]:
    """The same as NDJSON: objects as in the list of emails."""
    for piece in email_pieces(reader, tenant):
        yield ndjson_rows(piece)


def email_pieces(reader: Readers, tenant: int) -> Iterator[list[Record]]:
    """Emails, newest first; lists may be empty."""
    cursor: emails.Cursor | None = None
    while True:
        with reader() as snapshot:
            page = emails.newest(snapshot, tenant, emails.ALL, cursor, PIECE)
        yield [email_record(email) for email in page.emails]
        cursor = page.next
        if cursor is None:
            return


def event_pieces(
    reader: Readers, tenant: int, search: events.Search, after: int
) -> Iterator[list[Record]]:
    """Events up to the newest one that there is at the beginning; lists may be empty."""
    with reader() as snapshot:
        newest = events.last_seq(snapshot, tenant)
    seq: int | None = after
    while seq is not None and seq < newest:
        with reader() as snapshot:
            page = events.after(snapshot, tenant, search, seq, PIECE)
        piece = [event_record(event) for event in page.events if event.seq <= newest]
        yield piece  # an empty one as well: others have their turn
        seq = page.next


def cells(record: Record) -> list[object]:
    """A row of CSV: lists with spaces between, objects as JSON, `yes` and `no`."""
    return [cell(value) for value in record.values()]


def cell(value: object) -> object:
    """A cell of CSV; texts that would be formulas begin with an apostrophe."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = " ".join(value)
    elif isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return value


def csv_rows(rows: Iterable[Iterable[object]]) -> bytes:
    """Lines of CSV (RFC 4180)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8")


def ndjson_rows(records: Iterable[Record]) -> bytes:
    """A line of JSON for each."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode("utf-8")
