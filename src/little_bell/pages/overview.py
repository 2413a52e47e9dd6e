"""What the overview of a tenant, or of one of its campaigns, shows of a period."""

from collections.abc import Sequence
from datetime import timedelta, tzinfo
from typing import NamedTuple

from little_bell.errors import Refused
from little_bell.pages import chart, picker, words
from little_bell.pages.address import Address
from little_bell.pages.ledger import Ledger, most
from little_bell.pages.picker import Choice
from little_bell.pages.rows import email_row, event_row, figure_rows
from little_bell.store.emails import Search as EmailSearch
from little_bell.store.events import Search as EventSearch
from little_bell.store.projection import CAMPAIGN, TENANT
from little_bell.store.sums import Figures

RECENT = 10  # events on the first page, emails on a campaign's
TOP = 8  # campaigns, links and clients on the first page
EACH = {
    "hour": "Each hour",
    "day": "Each day",
    "week": "Each week",
}


class Headline(NamedTuple):
    """A figure that stands large, with the one before."""

    term: str
    value: int
    notes: tuple[str, ...]
    change: words.Change | None


class Chart(NamedTuple):
    """Opens and clicks over time, and the values as rows."""

    each: str
    opens: chart.Panel
    clicks: chart.Panel
    ticks: tuple[chart.Tick, ...]
    rows: tuple[tuple[str, Figures], ...]


def headlines(now: Figures, before: Figures | None) -> tuple[Headline, ...]:
    """The five figures of a period, each beside that of the period before, if there is one."""

    def change(name: str) -> words.Change | None:
        return words.change(getattr(now, name), None if before is None else getattr(before, name))

    def rate(name: str, of: str) -> str:
        share: float | None = getattr(now, name)
        text = f"{words.percent(share)} of {of}"
        points = None if before is None else words.points(share, getattr(before, name))
        return f"{text}, {points.sign} points" if points else text

    inferred = now.inferred_opens
    return (
        Headline("Sent", now.sent, (), change("sent")),
        Headline(
            "Unique opens",
            now.unique_opens,
            (
                rate("open_rate", "sent"),
                *((f"{inferred:,} inferred from clicks",) * bool(inferred)),
            ),
            change("unique_opens"),
        ),
        Headline(
            "Unique clicks",
            now.unique_clicks,
            (rate("click_rate", "sent"), rate("click_to_open", "opened")),
            change("unique_clicks"),
        ),
        Headline(
            "Opens", now.opens, (f"by people; machines {now.machine_opens:,}",), change("opens")
        ),
        Headline(
            "Clicks", now.clicks, (f"by people; machines {now.machine_clicks:,}",), change("clicks")
        ),
    )


def over_time(series: Sequence[tuple[int, Figures]], interval: str, zone: tzinfo) -> Chart:
    """Series of a period, by interval, as two charts and a table."""
    starts = [bucket * picker.QUARTER_MS for bucket, _ in series]
    labels = [interval_label(start, interval, zone) for start in starts]
    pairs = list(zip(labels, (figures for _, figures in series), strict=True))
    return Chart(
        EACH.get(interval, f"Each {interval}"),
        chart.panel([chart.Point(label, one.opens, one.machine_opens) for label, one in pairs]),
        chart.panel([chart.Point(label, one.clicks, one.machine_clicks) for label, one in pairs]),
        chart.ticks([words.local(start, zone) for start in starts]),
        tuple(reversed(pairs)),
    )


def interval_label(start: int, interval: str, zone: tzinfo) -> str:
    """An interval in words, in its zone."""
    then = words.local(start, zone)
    if interval == "hour":
        return f"{words.day(start, zone)}, {then:%H:%M}"
    if interval == "week":
        last = then + timedelta(days=6)
        return f"{then.day} {words.MONTHS[then.month - 1]} to {last.day} " + (
            f"{words.MONTHS[last.month - 1]} {last.year}"
        )
    return words.day(start, zone)


def values(ledger: Ledger, where: Address, choice: Choice) -> dict[str, object]:
    """The values of a tenant's first page."""
    shown = picker.options(choice, where)
    if ledger.tenant is None:
        return {"headline": None, **shown}
    clients, _ = ledger.clients(choice.period)
    links = ledger.links(choice.period, TOP)
    return {
        **shown,
        **_figures(ledger, choice, TENANT, 0),
        "heading": picker.heading(choice),
        "most_clicks": most(links),
        "most_events": most(clients),
        "campaigns": figure_rows(ledger.campaigns(choice.period, TOP), where, "campaigns"),
        "links": figure_rows(links, where),
        "clients": figure_rows(clients[:TOP], where),
        "events": [
            event_row(event)
            for event in ledger.events(EventSearch(capped=True), None, RECENT).events
        ],
    }


def campaign_values(ledger: Ledger, where: Address, choice: Choice, item: str) -> dict[str, object]:
    """The values of a campaign's page. Raises Refused where there is none of this number."""
    name = None
    if item.isascii() and item.isdigit() and len(item) < 19:
        name = ledger.campaign_name(int(item))
    if name is None:
        raise Refused(404, "there is no such campaign")
    number = int(item)
    newest = ledger.emails(EmailSearch(campaign=name), None, RECENT)
    return {
        **picker.options(choice, where, "campaigns", number),
        **_figures(ledger, choice, CAMPAIGN, number),
        "title": name,
        "here": where.to("campaigns", number, part=1),
        "rows": [email_row(email, "") for email in newest.emails],
    }


def _figures(ledger: Ledger, choice: Choice, scope: int, id_: int) -> dict[str, object]:
    before = choice.before
    series = ledger.series(choice.period, choice.interval, scope, id_)
    return {
        "headline": headlines(
            ledger.figures(choice.period, scope, id_),
            None if before is None else ledger.figures(before, scope, id_),
        ),
        "chart": over_time(series, choice.interval, choice.zone.zone),
    }
