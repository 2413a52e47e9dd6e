"""Events, emails and figures as members of JSON objects, for API, exports and pages."""

import json
from datetime import UTC, datetime
from functools import lru_cache

from little_bell.reports.period import QUARTER
from little_bell.store.emails import Email
from little_bell.store.events import Event
from little_bell.store.sums import Figures
from little_bell.tracking.classify import classify_agent, classify_hit
from little_bell.tracking.clients import client_names
from little_bell.tracking.privacy import CONSENTS

Record = dict[str, object]

MOMENTS = (
    "first_open",
    "last_open",
    "first_machine_open",
    "last_machine_open",
    "first_click",
    "last_click",
    "first_machine_click",
    "last_machine_click",
)


def stamp(at: int) -> str:
    """A time in ms since the epoch as RFC 3339, UTC, with milliseconds."""
    seconds, ms = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def bucket_stamp(bucket: int | None) -> str | None:
    """The beginning of a quarter hour as RFC 3339, UTC."""
    if bucket is None:
        return None
    return f"{datetime.fromtimestamp(bucket * QUARTER, UTC):%Y-%m-%dT%H:%M:%SZ}"


@lru_cache(4096)
def agent_of(user_agent: str, flags: int) -> str:
    """The agent that the rules see in a user agent and a hit's flags."""
    return classify_hit(classify_agent(user_agent), flags).agent


def event_record(event: Event) -> Record:
    """An open or a click."""
    client, device = (None, None) if event.client is None else client_names(event.client)
    return {
        "id": event.seq,
        "email_id": event.email,
        "kind": event.kind,
        "at": stamp(event.at),
        "class": event.class_,
        "agent": None if event.user_agent is None else agent_of(event.user_agent, event.flags),
        "reasons": list(event.reasons),
        "client": client,
        "device": device,
        "ip_address": event.address,
        "user_agent": event.user_agent,
        "url": event.url,
        "label": event.label,
    }


def email_record(email: Email) -> Record:
    """An email and what became of it."""
    moments = {name: getattr(email, name) for name in MOMENTS}
    return {
        "email_id": email.email,
        "created_at": stamp(email.created_at),
        "subject": email.subject,
        "recipient": email.recipient,
        "campaign": email.campaign,
        "metadata": None if email.metadata is None else json.loads(email.metadata),
        "consent": CONSENTS[email.consent],
        "opened": email.opened,
        "clicked": email.clicks > 0,
        "opens": email.opens,
        "machine_opens": email.machine_opens,
        "clicks": email.clicks,
        "machine_clicks": email.machine_clicks,
        **{name: None if at is None else stamp(at) for name, at in moments.items()},
        "seconds_to_first_open": email.seconds_to_first_open,
    }


def figures_record(figures: Figures) -> Record:
    """All figures of a tenant or a campaign, and their rates."""
    return {
        **figures._asdict(),
        "open_rate": figures.open_rate,
        "click_rate": figures.click_rate,
        "click_to_open": figures.click_to_open,
    }


def some(figures: Figures, *names: str) -> Record:
    """Those figures that a link or a client has."""
    return {name: getattr(figures, name) for name in names}
