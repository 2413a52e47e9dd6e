"""One email: what was sent, and what became of it."""

import json
from typing import NamedTuple

from little_bell.errors import Refused
from little_bell.pages import words
from little_bell.pages.address import Address, asked
from little_bell.pages.ledger import Ledger, cursor_of
from little_bell.pages.rows import event_row
from little_bell.reports import cursors
from little_bell.reports.cursors import OPTIONAL
from little_bell.store.emails import Email
from little_bell.tracking.addresses import Addresses

ROWS = 50
FRESH = 600_000  # ms in which an email's page may open it: a test email is new


class Sent(NamedTuple):
    """An email as its page shows it."""

    id: int
    created: int
    subject: str
    recipient: str
    campaign: str
    campaign_href: str
    metadata: tuple[tuple[str, str], ...]
    state: str
    opens: int
    machine_opens: int
    clicks: int
    machine_clicks: int
    first_open: int | None
    first_click: int | None


def values(
    ledger: Ledger,
    where: Address,
    item: str,
    query: bytes,
    base: str,
    now: float,
    addresses: Addresses,
) -> dict[str, object]:
    """The values of an email's page. Raises Refused where there is none of this id."""
    email = None
    if item.isascii() and item.isdigit() and len(item) < 19:
        email = ledger.email(int(item))
    if email is None:
        raise Refused(404, "there is no such email")
    heads = None
    cursor = cursor_of(asked(query, "next"), (OPTIONAL, OPTIONAL))
    if cursor is not None:
        heads = (_head(cursor[0]), _head(cursor[1]))
    found = ledger.timeline(email.email, heads, ROWS)
    number = ledger.campaign_number(email.campaign)
    more = "" if found.next is None else cursors.encode(found.next)
    fresh = now * 1000 - email.created_at < FRESH
    back = f"{base}/{where.tenant}/dashboard/emails/{email.email}"
    return {
        "title": email.subject or f"Email {email.email}",
        "email": sent(email, where.to("campaigns", number) if number else ""),
        "events": [event_row(event, email.created_at) for event in found.events],
        "purged": ledger.purged(email.email),
        "trying": fresh and bool(asked(query, "try")),
        "pixel": where.prefix + addresses.pixel(where.tenant, email.email),
        "click": where.prefix + addresses.click(where.tenant, email.email, back),
        "first_href": where.to("emails", email.email) if heads else "",
        "next_href": where.to("emails", email.email, next=more) if more else "",
    }


def sent(email: Email, href: str) -> Sent:
    try:
        metadata = json.loads(email.metadata or "{}")
    except ValueError:
        metadata = {}
    return Sent(
        email.email,
        email.created_at,
        email.subject or "",
        email.recipient or "",
        email.campaign or "",
        href,
        tuple((str(name), str(value)) for name, value in metadata.items()),
        state(email),
        email.opens,
        email.machine_opens,
        email.clicks,
        email.machine_clicks,
        email.first_open,
        email.first_click,
    )


def state(email: Email) -> str:
    """What is known of it, in a sentence."""
    machines = email.machine_opens + email.machine_clicks
    if email.opens and email.clicks:
        return f"Opened {times(email.opens)}, and its links were followed {times(email.clicks)}."
    if email.clicks:
        return (
            f"Its links were followed {times(email.clicks)}, so it was opened, "
            "though its pixel was not fetched."
        )
    if email.opens:
        return f"Opened {times(email.opens)}; no link was followed yet."
    if machines:
        return f"Not opened by a person as far as is known. Machines fetched {times(machines)}."
    return "Not opened yet."


def times(n: int) -> str:
    """`once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(n) or f"{words.thousands(n)} times"


def _head(value: int | str | None) -> int | None:
    return None if value is None else int(value)
