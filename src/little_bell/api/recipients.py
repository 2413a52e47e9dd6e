"""One person's data: who is asked for, and everything that is stored of them, in pieces."""

import json
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from little_bell.api.emails import MAX_TEXT, clean
from little_bell.api.exports import Readers
from little_bell.api.parameters import Parameters
from little_bell.errors import Refused
from little_bell.reports.records import Record, email_record, event_record, stamp
from little_bell.store import emails, events
from little_bell.store.emails import Email, Followed
from little_bell.store.reader import Reader
from little_bell.tracking.privacy import fingerprint
from little_bell.tracking.traces import ascii_lower
from little_bell.values import NO_TENANT, is_tenant

EMAILS = 50  # that a piece looks for
PIECE = 250  # events or links of a piece

NOTHING = "nothing is stored of this recipient"
REMAINS = (
    "No row of the database holds this recipient any more. The file is still to be cleaned of "
    "what these rows left behind: another program reads an old state of it. This is done as soon "
    "as that program lets go of it."
)


def read_recipient(segment: str) -> str:
    """The recipient of a path's segment: percent-encoded UTF-8, without spaces around it.

    Raises Refused (400, 404).
    """
    try:
        text = unquote_to_bytes(segment.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, "the recipient is not valid UTF-8", "recipient") from None
    text = clean(text, "recipient", MAX_TEXT["recipient"]).strip()
    if not text:
        raise Refused(404, NOTHING)
    return text


def parse_erasure(segments: list[bytes], query: bytes) -> tuple[str, str]:
    """The tenant and the recipient that is to be erased, where it is said twice. Raises Refused."""
    if not is_tenant(segments[1]):
        raise Refused(404, NO_TENANT)
    recipient = read_recipient(segments[3].decode("latin-1"))
    said = {
        ascii_lower(form.get("confirm", "").strip())
        # An address that holds a + is often written as it is.
        for form in (
            Parameters(text, ("confirm",)) for text in (query, query.replace(b"+", b"%2B"))
        )
    }
    if ascii_lower(recipient) not in said:
        detail = "this erases a recipient; name it again in the query, as ?confirm=..."
        raise Refused(400, detail, "confirm")
    return segments[1].decode("ascii"), recipient


def everything(reader: Readers, tenant: int, recipient: str) -> Iterator[bytes]:
    """A JSON object of everything that is stored of a recipient, newest emails first.

    Raises Refused (404) before the first piece.
    """
    search = emails.Search(recipient=recipient)
    with reader() as snapshot:
        out = opted_out(snapshot, tenant, recipient)
        page = emails.newest(snapshot, tenant, search, None, EMAILS)
    if not (page.emails or out or page.next):
        raise Refused(404, NOTHING)
    head = json.dumps({"recipient": recipient, "opted_out": out}, ensure_ascii=False)
    yield f'{head[:-1]}, "emails": ['.encode()
    between = "\n"
    while True:
        for email in page.emails:
            for piece in one_email(reader, tenant, email):
                yield between.encode() + piece
                between = ""
            between = ",\n"
        if page.next is None:
            break
        with reader() as snapshot:
            page = emails.newest(snapshot, tenant, search, page.next, EMAILS)
    yield b"\n]}\n"


def one_email(reader: Readers, tenant: int, email: Email) -> Iterator[bytes]:
    """An email as in lists, with `links` that were followed and all its `events`, newest first."""
    with reader() as snapshot:
        links = emails.followed(snapshot, tenant, email.email, 0, PIECE)
        line = events.timeline(snapshot, tenant, email.email, None, PIECE)
    head = json.dumps(email_record(email), ensure_ascii=False)
    text = f'{head[:-1]}, "links": [{joined(map(link_record, links))}'
    while len(links) == PIECE:
        yield text.encode("utf-8")
        with reader() as snapshot:
            links = emails.followed(snapshot, tenant, email.email, links[-1].link, PIECE)
        text = "".join(f", {joined([link_record(link)])}" for link in links)
    text += f'], "events": [{joined(map(event_record, line.events))}'
    first = not line.events
    while line.next is not None:
        yield text.encode("utf-8")
        with reader() as snapshot:
            line = events.timeline(snapshot, tenant, email.email, line.next, PIECE)
        text = joined(map(event_record, line.events))
        if text and not first:
            text = f", {text}"
        first = first and not text
    yield f"{text}]}}".encode()


def joined(records: Iterator[Record] | list[Record]) -> str:
    """Members of a JSON list."""
    return ", ".join(json.dumps(record, ensure_ascii=False) for record in records)


def link_record(link: Followed) -> Record:
    """A link of an email that was followed."""
    return {
        "link_id": link.link,
        "url": link.url,
        "label": link.label,
        "part": link.part,
        "clicks": link.clicks,
        "machine_clicks": link.machine_clicks,
        "first_click": None if link.first_click is None else stamp(link.first_click),
    }


def opted_out(reader: Reader, tenant: int, recipient: str) -> bool:
    """Whether a recipient is not tracked."""
    row = reader.row("salt", tenant)
    if row is None or row[0] is None:
        return False
    return reader.row("opted_out", tenant, fingerprint(row[0], recipient)) is not None
