"""What goes to the bell and what comes back, typed. Times are RFC 3339 in UTC (docs/USAGE.md)."""

from collections.abc import Mapping
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

from little_bell.errors import BellError

M = TypeVar("M")


class Texts(TypedDict, total=False):
    """What may be said of an email."""

    subject: str | None
    recipient: str | None
    campaign: str | None
    metadata: Mapping[str, str] | None
    consent: Literal["full", "aggregate", "none"] | None


class Options(TypedDict, total=False):
    """How an email is rewritten."""

    unsubscribe_too: bool
    skip_visible_urls: bool
    text_too: bool
    pixel: Literal["bottom", "top", "none"]
    placeholder: str
    signed_too: bool


class TextsAndOptions(Texts, Options, total=False):
    """Both."""


class Choices(Options, total=False):
    """What may be said of a whole message, which has its own subject."""

    recipient: str | None
    campaign: str | None
    consent: Literal["full", "aggregate", "none"] | None


class Created(NamedTuple):
    """A new email."""

    email_id: int
    tracking_pixel_url: str


class TrackedLink(TypedDict):
    url: str
    tracked_url: str
    label: str
    part: str


class SkippedLink(TypedDict):
    url: str
    reason: str
    part: str


class Report(TypedDict):
    """What became of each link, and what went wrong, as sentences."""

    tracked: list[TrackedLink]
    skipped: list[SkippedLink]
    problems: list[str]


class Rewritten(NamedTuple):
    """An email that leads through the bell. Without `email_id`: nothing was created."""

    email_id: int | None
    tracking_pixel_url: str | None
    html: str | None
    text: str | None
    report: Report


class Tracked(NamedTuple, Generic[M]):
    """A message to be sent, whatever happened.

    `email_id` is None where it goes out untracked: `error` says why where something failed, and
    else `report` does (the message opted out, nothing was trackable).
    """

    message: M
    email_id: int | None = None
    report: Report | None = None
    error: BellError | None = None


class Email(TypedDict):
    """An email and what became of it."""

    email_id: int
    created_at: str
    subject: str | None
    recipient: str | None
    campaign: str | None
    metadata: dict[str, str] | None
    consent: str
    opened: bool
    clicked: bool
    opens: int
    machine_opens: int
    clicks: int
    machine_clicks: int
    first_open: str | None
    last_open: str | None
    first_machine_open: str | None
    last_machine_open: str | None
    first_click: str | None
    last_click: str | None
    first_machine_click: str | None
    last_machine_click: str | None
    seconds_to_first_open: float | None


Event = TypedDict(
    "Event",
    {
        "id": int,
        "email_id": int | None,
        "kind": str,
        "at": str,
        "class": str,
        "agent": str | None,
        "reasons": list[str],
        "client": str | None,
        "device": str | None,
        "ip_address": str | None,
        "user_agent": str | None,
        "url": str | None,
        "label": str | None,
    },
)


class EmailWithEvents(Email):
    """The newest events with it; `Client.events(email=...)` has them all."""

    events: list[Event]
    events_purged: int
    next: str | None


class Figures(TypedDict):
    """What is counted, and rates of it: None where there is nothing to divide by."""

    sent: int
    opens: int
    machine_opens: int
    unique_opens: int
    inferred_opens: int
    clicks: int
    machine_clicks: int
    unique_clicks: int
    open_rate: float | None
    click_rate: float | None
    click_to_open: float | None


class Interval(Figures):
    """An hour, a day or a week."""

    start: str
    end: str
    local_start: str


class CampaignFigures(Figures):
    campaign: str


class LinkFigures(TypedDict):
    link_id: int
    url: str
    label: str
    part: str
    clicks: int
    machine_clicks: int
    unique_clicks: int


class ClientFigures(TypedDict):
    """A mail client on a kind of device."""

    client: str
    device: str
    opens: int
    machine_opens: int
    clicks: int
    machine_clicks: int


Stats = TypedDict(
    "Stats",
    {
        "from": str | None,
        "to": str | None,
        "tz": str,
        "campaign": str | None,
        "interval": str | None,
        "figures": Figures,
        "series": list[Interval] | None,
    },
)


def read_created(members: Mapping[str, object]) -> Created:
    """Raises BellError."""
    email, pixel = read_id(members), text(members, "tracking_pixel_url")
    if email is None or pixel is None:
        raise BellError("the answer names no email")
    return Created(email, pixel)


def read_id(members: Mapping[str, object]) -> int | None:
    """Raises BellError."""
    email = members.get("email_id")
    if email is not None and (not isinstance(email, int) or isinstance(email, bool) or email < 1):
        raise BellError("the answer's email_id is no number")
    return email


def text(members: Mapping[str, object], name: str) -> str | None:
    """Raises BellError."""
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise BellError(f"the answer's {name} is no text")
    return value


def read_report(members: Mapping[str, Any]) -> Report:
    """Raises BellError."""
    report = members.get("report")
    if not isinstance(report, dict) or not all(
        isinstance(report.get(name), list) for name in Report.__annotations__
    ):
        raise BellError("the answer has no report")
    return Report(tracked=report["tracked"], skipped=report["skipped"], problems=report["problems"])
