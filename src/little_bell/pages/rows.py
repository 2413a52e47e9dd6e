"""Rows of tables: what is read, made ready to be shown."""

from typing import NamedTuple

from little_bell.pages import words
from little_bell.pages.address import Address
from little_bell.pages.ledger import Named, title
from little_bell.store.emails import Email
from little_bell.store.events import Event
from little_bell.store.sums import Figures
from little_bell.tracking.clients import DEVICE_SPAN, DEVICES


class FigureRow(NamedTuple):
    """A campaign, link, client or device."""

    name: str
    label: str
    href: str
    figures: Figures


class EventRow(NamedTuple):
    """An event."""

    seq: int
    at: int
    after: str  # how long after the email was registered
    email: int | None
    kind: str
    class_: str | None
    reasons: tuple[str, ...]
    note: str
    url: str
    subject: str
    recipient: str
    client: str
    device: str
    address: str
    user_agent: str
    n: int | None


class EmailRow(NamedTuple):
    """An email in a list."""

    id: int
    created: int
    subject: str
    recipient: str
    campaign: str
    campaign_href: str
    opens: int
    clicks: int
    machines: int


def figure_rows(found: list[Named], where: Address, page: str = "") -> list[FigureRow]:
    """With links to the page of each, if there is one."""
    return [
        FigureRow(one.name, one.label, where.to(page, one.id) if page else "", one.figures)
        for one in found
    ]


def event_row(event: Event, created: int | None = None) -> EventRow:
    """An event; `created`: when its email was registered."""
    client, device = divmod(event.client or 0, DEVICE_SPAN)
    known = event.client is not None and event.kind in ("open", "click")
    label = f" ({event.label})" if event.label else ""
    return EventRow(
        event.seq,
        event.at,
        "" if created is None else f"{words.elapsed(event.at - created)} after",
        event.email,
        event.kind,
        event.class_,
        event.reasons,
        words.CLASS_NOTES.get(event.class_ or "", ""),
        f"{event.url}{label}" if event.url else "",
        event.subject or "",
        event.recipient or "",
        title(client) if known else "",
        DEVICES[device] if known and 0 < device < len(DEVICES) else "",
        event.address or "",
        event.user_agent or "",
        event.n,
    )


def email_row(email: Email, href: str) -> EmailRow:
    """An email; `href` leads to its campaign."""
    return EmailRow(
        email.email,
        email.created_at,
        email.subject or "",
        email.recipient or "",
        email.campaign or "",
        href,
        email.opens,
        email.clicks,
        email.machine_opens + email.machine_clicks,
    )
