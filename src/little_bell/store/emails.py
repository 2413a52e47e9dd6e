"""Emails and what became of them: one, and pages of many."""

from typing import NamedTuple

from little_bell.store.names import NEWEST, campaign_id
from little_bell.store.reader import Reader
from little_bell.tracking.privacy import FULL

LOOK_AT = 10_000  # emails that a page looks at, where it looks for some
LOOK_UP = 2_000  # the same where they lie apart: by recipient, by activity
LAST_CHARACTER = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)


class Email(NamedTuple):
    """An email and what became of it. Times are ms since the epoch, UTC."""

    email: int
    created_at: int
    subject: str | None
    recipient: str | None
    campaign: str | None
    metadata: str | None  # a JSON object of strings, as text
    opens: int
    machine_opens: int
    clicks: int
    machine_clicks: int
    first_open: int | None
    last_open: int | None
    first_machine_open: int | None
    last_machine_open: int | None
    first_click: int | None
    last_click: int | None
    first_machine_click: int | None
    last_machine_click: int | None
    consent: int = FULL  # of `tracking.privacy`: its own

    @property
    def opened(self) -> bool:
        """Whether it counts as a unique open: opened, or else clicked, by people."""
        return self.opens + self.clicks > 0

    @property
    def seconds_to_first_open(self) -> float | None:
        """From its creation until a person first opened it; no value where nobody did."""
        return None if self.first_open is None else (self.first_open - self.created_at) / 1000


class Followed(NamedTuple):
    """A link of an email that was followed."""

    link: int
    url: str
    label: str
    part: str
    clicks: int
    machine_clicks: int
    first_click: int | None  # by people


class Search(NamedTuple):
    """Which emails are asked for; None: whatever it is."""

    campaign: str | None = None  # its name
    recipient: str | None = None  # without regard to the case of ASCII letters
    prefix: bool = False  # `recipient` is the beginning of it
    subject: str | None = None  # a part of it, without regard to case
    opened: bool | None = None  # or else clicked, by people
    clicked: bool | None = None  # by people


ALL = Search()

Cursor = tuple[int | str, ...]


class EmailPage(NamedTuple):
    """Some emails, and from where to go on."""

    emails: list[Email]
    next: Cursor | None


NONE = EmailPage([], None)

# Statements of walks down the ids: for the emails, and for the last one that is looked at.
ANY = ("emails", "emails_below")
IN_CAMPAIGN = ("emails_in_campaign", "emails_in_campaign_below")
TO = ("emails_to", "emails_to_below")


def email(reader: Reader, tenant: int, number: int) -> Email | None:
    """An email, or None where there is none with this id."""
    found = emails_of(reader, tenant, [number])
    return found[0] if found else None


def newest(
    reader: Reader, tenant: int, search: Search, cursor: Cursor | None, limit: int
) -> EmailPage:
    """Emails, newest first; where a beginning of recipients is asked for, by recipient, then
    newest. `cursor` is the `next` of the page before.

    A page looks at LOOK_AT emails (of the campaign or recipient asked for; LOOK_UP by recipient):
    one of what is rare may be short, or empty, and have a next one all the same.
    """
    campaign = _campaign(reader, tenant, search)
    if campaign == 0:
        return NONE
    if search.recipient is None:
        if campaign is None:
            return _newest(reader, tenant, search, None, ANY, (), _number(cursor), limit)
        key: tuple[int | str, ...] = (campaign,)
        return _newest(reader, tenant, search, campaign, IN_CAMPAIGN, key, _number(cursor), limit)
    if not search.prefix:
        key = (search.recipient,)
        return _newest(reader, tenant, search, campaign, TO, key, _number(cursor), limit)
    return _by_recipient(reader, tenant, search, campaign, cursor, limit)


def by_activity(
    reader: Reader, tenant: int, search: Search, cursor: Cursor | None, limit: int
) -> EmailPage:
    """Emails that were opened or clicked, by whomever, the latest first. Each appears at its newest
    event: one that comes to life meanwhile is at the top, and on no later page.

    LOOK_UP events are looked at; see `newest`.
    """
    campaign = _campaign(reader, tenant, search)
    if campaign == 0:
        return NONE
    high = _number(cursor)
    row = reader.row("log_below", tenant, high, LOOK_UP - 1)
    low = 0 if row is None else int(row[0])
    bounds: tuple[str | None, str | None] = (None, None)
    if search.recipient is not None:
        end = successor(search.recipient) if search.prefix else search.recipient + "\x01"
        bounds = (search.recipient, end)
    values = (tenant, low, high, limit + 1, *_filters(search), campaign, *bounds)
    rows = reader.rows("emails_by_activity", *values)
    last = rows[limit - 1][0] if len(rows) > limit else low
    found = emails_of(reader, tenant, [row[1] for row in rows[:limit]])
    return EmailPage(found, (last,) if last else None)


def emails_of(reader: Reader, tenant: int, numbers: list[int]) -> list[Email]:
    """Emails by id, in this order; those that do not exist are left out."""
    return [Email(*row) for row in reader.some("emails_of", tenant, numbers)]


def followed(reader: Reader, tenant: int, email: int, after: int, limit: int) -> list[Followed]:
    """Links of an email that were followed, by number, from those behind `after`."""
    return [Followed(*row) for row in reader.rows("followed", tenant, email, after, limit)]


def successor(prefix: str) -> str:
    """The first text behind all that begin with `prefix`, in SQLite's NOCASE order: that of UTF-8
    with ASCII's capital letters as small ones."""
    kept = prefix.rstrip(chr(LAST_CHARACTER))
    if not kept:
        return chr(LAST_CHARACTER) * 400  # longer than any recipient
    last = ord(kept[-1].lower() if kept[-1].isascii() else kept[-1]) + 1
    if chr(last) == "A":
        last = ord("Z") + 1
    elif last in SURROGATES:
        last = SURROGATES.stop
    return kept[:-1] + chr(last)


def _newest(
    reader: Reader,
    tenant: int,
    search: Search,
    campaign: int | None,
    names: tuple[str, str],
    key: tuple[int | str, ...],
    before: int,
    limit: int,
) -> EmailPage:
    """A page of a walk down the ids by statements `names`, of which the second needs `key`."""
    numbers: list[int] = []
    filters = (*_filters(search), campaign, *(key if names is TO else ()))
    last = 0
    for low, high in _spans(reader, tenant, before):
        if _looks(search, campaign, names):
            row = reader.row(names[1], tenant, low, high, LOOK_AT - 1, *key)
            last = 0 if row is None else int(row[0])
        wanted = limit + 1 - len(numbers)
        rows = reader.rows(names[0], tenant, max(low, last), high, wanted, *filters)
        numbers += [row[0] for row in rows]
        if len(numbers) > limit:
            last = numbers[limit - 1]
            break
        if last:
            break
    return EmailPage(emails_of(reader, tenant, numbers[:limit]), (last,) if last else None)


def _by_recipient(
    reader: Reader,
    tenant: int,
    search: Search,
    campaign: int | None,
    cursor: Cursor | None,
    limit: int,
) -> EmailPage:
    """A page of a walk through the recipients that begin with a text."""
    begin = search.recipient or ""
    recipient, before = begin, NEWEST
    if cursor is not None:
        recipient, before = str(cursor[0]), int(cursor[-1])
        if not recipient.encode("utf-8").lower().startswith(begin.encode("utf-8").lower()):
            return NONE
    # What is left of this recipient; then those that come behind it.
    same = search._replace(recipient=recipient, prefix=False)
    first = _newest(reader, tenant, same, campaign, TO, (recipient,), before, limit)
    if first.next is not None:
        return first._replace(next=(recipient, *first.next))
    left = limit - len(first.emails)
    look_at = max(LOOK_UP, left + 1) if _looks(search, campaign, TO) else left + 1
    end = successor(begin)
    filters = (*_filters(search), campaign, look_at)
    rows = reader.rows("emails_by_recipient", tenant, recipient, end, left + 1, *filters)
    more: Cursor | None = None
    if len(rows) > left:
        more = (rows[left - 1][0], rows[left - 1][1]) if left else (recipient, 0)
    else:
        row = reader.row("recipients_above", tenant, recipient, end, look_at - 1)
        more = None if row is None else (row[0], row[1])
    found = emails_of(reader, tenant, [number for _, number in rows[:left]])
    return EmailPage(first.emails + found, more)


def _campaign(reader: Reader, tenant: int, search: Search) -> int | None:
    """The number of the campaign that is asked for; 0 where there is none of its name."""
    if search.campaign is None:
        return None
    return campaign_id(reader, tenant, search.campaign) or 0


def _filters(search: Search) -> tuple[str | bool | None, ...]:
    subject = None if search.subject is None else search.subject.casefold()
    return subject, search.opened, search.clicked


def _looks(search: Search, campaign: int | None, names: tuple[str, str]) -> bool:
    """Whether emails that are found have to be looked at, since not all are asked for."""
    among = campaign is not None and names is not IN_CAMPAIGN
    return among or (search.subject, search.opened, search.clicked) != (None, None, None)


def _spans(reader: Reader, tenant: int, before: int) -> list[tuple[int, int]]:
    """Emails older than `before` as spans from, and up to: without those that do not exist yet."""
    row = reader.row("pending", tenant)
    if row is None:
        return [(0, before)]
    first, last = row
    spans = [(last + 1, before), (0, min(first, before))]
    return [(low, high) for low, high in spans if low < high]


def _number(cursor: Cursor | None) -> int:
    return NEWEST if cursor is None else int(cursor[0])
