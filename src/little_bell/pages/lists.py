"""The lists: emails, campaigns, links, clients and events, page by page."""

from little_bell.pages import picker
from little_bell.pages.address import Address, asked
from little_bell.pages.ledger import SEARCHED, Ledger, Named, cursor_of, most
from little_bell.pages.picker import Choice, Option
from little_bell.pages.rows import email_row, event_row, figure_rows
from little_bell.reports import cursors
from little_bell.reports.cursors import INT, TEXT
from little_bell.store.emails import EmailPage
from little_bell.store.emails import Search as EmailSearch
from little_bell.store.events import Search as EventSearch
from little_bell.tracking.hit import CLICK, OPEN
from little_bell.tracking.rules import MACHINE

ROWS = 50
FILTERS = {"": None, "opened": True, "unopened": False}
KINDS: tuple[tuple[str, str, EventSearch, tuple[tuple[str, str], ...]], ...] = (
    ("", "All", EventSearch(capped=True), ()),
    ("open", "Opens", EventSearch(kind=OPEN), (("kind", "open"),)),
    ("click", "Clicks", EventSearch(kind=CLICK), (("kind", "click"),)),
    ("machine", "By machines", EventSearch(class_=MACHINE), (("class", "machine"),)),
)

Values = dict[str, object]


def emails(ledger: Ledger, where: Address, _choice: Choice, query: bytes) -> Values:
    """Emails, newest first; those to a recipient, or with a word in their subject."""
    q = asked(query, "q")
    chosen = asked(query, "only") if asked(query, "only") in FILTERS else ""
    found = _find_emails(ledger, q, FILTERS[chosen], asked(query, "next"))
    hrefs: dict[str | None, str] = {None: ""}
    for email in found.emails:
        if email.campaign not in hrefs:
            number = ledger.campaign_number(email.campaign)
            hrefs[email.campaign] = where.to("campaigns", number) if number else ""
    more = cursors.encode(found.next) if found.next else ""
    return {
        "q": q,
        "hint": "Address, or words of the subject",
        "only": chosen,
        "csv_href": where.csv("emails"),
        "filters": [
            Option(where.to("emails", q=q, only=name), text, text, name == chosen)
            for name, text in (("", "All"), ("opened", "Opened"), ("unopened", "Not opened"))
        ],
        "rows": [email_row(email, hrefs[email.campaign]) for email in found.emails],
        "first_href": where.to("emails", q=q, only=chosen) if asked(query, "next") else "",
        "next_href": where.to("emails", q=q, only=chosen, next=more) if more else "",
    }


def _find_emails(ledger: Ledger, q: str, opened: bool | None, next_: str) -> EmailPage:
    """Emails to recipients that begin with a text; if there are none, with it in their subject."""
    searches = [EmailSearch(subject=q or None, opened=opened)]
    if q and " " not in q:
        searches.insert(0, EmailSearch(recipient=q, prefix=True, opened=opened))
    if "@" in q:
        del searches[1:]
    for search in searches:
        cursor = cursor_of(next_, (TEXT, INT) if search.prefix else (INT,))
        found = ledger.emails(search, tuple(one or 0 for one in cursor) if cursor else None, ROWS)
        if found.emails or cursor or search is searches[-1]:
            break
    return found


def campaigns(ledger: Ledger, where: Address, choice: Choice, query: bytes) -> Values:
    """Campaigns: those of the period by what was sent, or all of them, newest first."""
    return _named(ledger, where, choice, query, "campaigns", "Words of the name")


def links(ledger: Ledger, where: Address, choice: Choice, query: bytes) -> Values:
    """Links: those of the period by clicks, or all of them, newest first."""
    return _named(ledger, where, choice, query, "links", "A part of the address")


def _named(
    ledger: Ledger, where: Address, choice: Choice, query: bytes, page: str, hint: str
) -> Values:
    q, order = asked(query, "q"), asked(query, "order")
    newest = order == "newest" and not q
    next_href = ""
    if newest:
        before = _number(query)
        read = ledger.newest_campaigns if page == "campaigns" else ledger.newest_links
        found = read(choice.period, before, ROWS + 1)
        if len(found) > ROWS:
            found = found[:ROWS]
            next_href = where.to(page, order="newest", next=cursors.encode((found[-1].id,)))
    else:
        rank = ledger.campaigns if page == "campaigns" else ledger.links
        found = rank(choice.period, SEARCHED if q else 2 * ROWS)
        if q:
            found = [one for one in found if _matches(one, q)][: 2 * ROWS]
    rows = figure_rows(found, where, page if page == "campaigns" else "")
    return {
        "q": q,
        "hint": hint,
        "searchable": True,
        "most": most(found),
        "rows": rows,
        "orders": [
            Option(where.to(page), "Most", "Most", not newest),
            Option(where.to(page, order="newest"), "Newest", "Newest", newest),
        ],
        "first_href": where.to(page, order="newest") if newest and asked(query, "next") else "",
        "next_href": next_href,
        **picker.options(choice, where, page),
    }


def _matches(one: Named, q: str) -> bool:
    return q.casefold() in f"{one.name} {one.label}".casefold()


def clients(ledger: Ledger, where: Address, choice: Choice, _query: bytes) -> Values:
    """Clients and devices of a period."""
    found, devices = ledger.clients(choice.period)
    return {
        "q": "",
        "hint": "",
        "searchable": False,
        "most": most(found),
        "most_devices": most(devices),
        "rows": figure_rows(found, where),
        "devices": figure_rows(devices, where),
        "orders": [],
        "first_href": "",
        "next_href": "",
        **picker.options(choice, where, "clients"),
    }


def events(ledger: Ledger, where: Address, _choice: Choice, query: bytes) -> Values:
    """Opens and clicks, newest first."""
    chosen = asked(query, "kind")
    kind, _, search, exported = next((one for one in KINDS if one[0] == chosen), KINDS[0])
    before = _number(query)
    found = ledger.events(search, before, ROWS)
    more = "" if found.next is None else cursors.encode((found.next,))
    return {
        "kinds": [
            Option(where.to("events", kind=name), text, text, name == kind)
            for name, text, _, _ in KINDS
        ],
        "kind": kind,
        "csv_href": where.csv("events", exported),
        "events": [event_row(event) for event in found.events],
        "first_href": where.to("events", kind=kind) if before is not None else "",
        "next_href": where.to("events", kind=kind, next=more) if more else "",
    }


def _number(query: bytes) -> int | None:
    """The number before which a list goes on."""
    cursor = cursor_of(asked(query, "next"), (INT,))
    return int(cursor[0] or 0) if cursor else None
