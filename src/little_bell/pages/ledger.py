"""What the pages read of one tenant, on one snapshot."""

from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

from little_bell.errors import Refused
from little_bell.reports import cursors
from little_bell.reports.period import Period, edges
from little_bell.store import emails as mail_of
from little_bell.store import events as log_of
from little_bell.store import names, sums
from little_bell.store.projection import CAMPAIGN, CLIENT, LINK, TENANT
from little_bell.store.reader import Reader
from little_bell.store.sums import NOTHING, Figures
from little_bell.tracking.clients import CLIENTS, DEVICE_SPAN, DEVICES

CLIENT_LIMIT = len(CLIENTS) * DEVICE_SPAN
SEARCHED = 1_000  # campaigns or links of a period that a search looks at

TITLES = tuple(title for _, title in CLIENTS)


class Named(NamedTuple):
    """A campaign, a link, a client or a device with its figures."""

    id: int
    name: str
    label: str
    figures: Figures


def add(figures: Iterable[Figures]) -> Figures:
    """The sum of figures."""
    return Figures(*(sum(column) for column in zip(NOTHING, *figures, strict=True)))


def cursor_of(text: str, *forms: tuple[str, ...]) -> tuple[int | str | None, ...] | None:
    """A cursor out of an address; None where it is none of these forms."""
    try:
        return cursors.decode(text, *forms) if text else None
    except Refused:
        return None


class Ledger:
    """Reads for pages. `with ledger:` is one snapshot, so that figures and events agree."""

    def __init__(self, reader: Reader, name: str) -> None:
        self.reader = reader
        self.name = name
        self.tenant: int | None = None  # None: it created no email yet
        self.has_keys = False  # and never had one

    def __enter__(self) -> "Ledger":
        self.reader.__enter__()
        self.tenant = names.tenant_id(self.reader, self.name)
        self.has_keys = self.tenant is not None and names.has_keys(self.reader, self.tenant)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reader.__exit__(kind, error, trace)

    @property
    def number(self) -> int:
        """The tenant's, 0 for one that is not there: nothing is found then."""
        return self.tenant or 0

    def figures(self, period: Period, scope: int = TENANT, id_: int = 0) -> Figures:
        return sums.figures(self.reader, self.number, scope, id_, period.start, period.end)

    def series(
        self, period: Period, interval: str, scope: int = TENANT, id_: int = 0
    ) -> list[tuple[int, Figures]]:
        """Figures of each interval of a bounded period, by the bucket where it begins."""
        if period.start is None or period.end is None:
            return []
        found = edges(period.zone, period.start, period.end, interval)
        figures = sums.series(self.reader, self.number, scope, id_, found)
        return list(zip(found[:-1], figures, strict=True))

    def first_bucket(self) -> int | None:
        """The first bucket of the first day of which there are figures."""
        return sums.first_bucket(self.reader, self.number)

    def campaigns(self, period: Period, limit: int) -> list[Named]:
        """Campaigns of a period, most sent first."""
        return self._campaigns(self._top(period, CAMPAIGN, "sent", limit))

    def links(self, period: Period, limit: int) -> list[Named]:
        """Links of a period, most followed first."""
        return self._links(self._top(period, LINK, "clicks", limit))

    def newest_campaigns(self, period: Period, before: int | None, limit: int) -> list[Named]:
        found = names.campaigns(self.reader, self.number, before, limit)
        figures = self._of_many(period, CAMPAIGN, [one.id for one in found])
        return [Named(one.id, one.name, "", of) for one, of in zip(found, figures, strict=True)]

    def newest_links(self, period: Period, before: int | None, limit: int) -> list[Named]:
        found = names.links(self.reader, self.number, before, limit)
        figures = self._of_many(period, LINK, [one.id for one in found])
        return [_link(one, of) for one, of in zip(found, figures, strict=True)]

    def clients(self, period: Period) -> tuple[list[Named], list[Named]]:
        """Clients and devices of a period, most active first."""
        found = self._top(period, CLIENT, sums.EVENTS, CLIENT_LIMIT)
        clients: dict[int, list[Figures]] = {}
        devices: dict[int, list[Figures]] = {}
        for one in found:
            client, device = divmod(one.id, DEVICE_SPAN)
            clients.setdefault(client, []).append(one.figures)
            devices.setdefault(device, []).append(one.figures)
        return (
            _ranked([Named(id_, title(id_), "", add(of)) for id_, of in clients.items()]),
            _ranked([Named(id_, device_title(id_), "", add(of)) for id_, of in devices.items()]),
        )

    def events(self, search: log_of.Search, before: int | None, limit: int) -> log_of.EventPage:
        """Events, newest first."""
        return log_of.before(self.reader, self.number, search, before, limit)

    def emails(
        self, search: mail_of.Search, cursor: mail_of.Cursor | None, limit: int
    ) -> mail_of.EmailPage:
        """Emails, newest first."""
        return mail_of.newest(self.reader, self.number, search, cursor, limit)

    def email(self, number: int) -> mail_of.Email | None:
        return mail_of.email(self.reader, self.number, number)

    def timeline(self, email: int, heads: log_of.Heads | None, limit: int) -> log_of.Timeline:
        """Events of an email, newest first."""
        return log_of.timeline(self.reader, self.number, email, heads, limit)

    def purged(self, email: int) -> int:
        """How many events of an email were purged."""
        return log_of.purged(self.reader, self.number, email)

    def campaign_number(self, name: str | None) -> int | None:
        return None if name is None else names.campaign_id(self.reader, self.number, name)

    def campaign_name(self, number: int) -> str | None:
        found = names.campaigns_of(self.reader, self.number, [number]).get(number)
        return None if found is None else found.name

    def _top(self, period: Period, scope: int, by: str, limit: int) -> list[sums.Ranked]:
        return sums.top(self.reader, self.number, scope, period.start, period.end, by, limit)

    def _of_many(self, period: Period, scope: int, ids: list[int]) -> list[Figures]:
        return sums.of_many(self.reader, self.number, scope, ids, period.start, period.end)

    def _campaigns(self, found: list[sums.Ranked]) -> list[Named]:
        by_id = names.campaigns_of(self.reader, self.number, [one.id for one in found])
        return [
            Named(one.id, by_id[one.id].name, "", one.figures) for one in found if one.id in by_id
        ]

    def _links(self, found: list[sums.Ranked]) -> list[Named]:
        by_id = names.links_of(self.reader, self.number, [one.id for one in found])
        return [_link(by_id[one.id], one.figures) for one in found]


def _link(link: names.Link, figures: Figures) -> Named:
    label = ", ".join(text for text in (link.label, link.part) if text)
    return Named(link.id, link.url, label, figures)


def most(rows: list[Named]) -> int:
    """The most events of one row: how long a bar is, is said against it."""
    return max((row.figures.value(sums.EVENTS) for row in rows), default=0)


def _ranked(rows: list[Named]) -> list[Named]:
    return sorted(rows, key=lambda row: (-row.figures.value(sums.EVENTS), row.name))


def title(client: int) -> str:
    """A client's name for people."""
    return TITLES[client] if client < len(TITLES) else TITLES[0]


def device_title(device: int) -> str:
    """A device's name for people."""
    return (DEVICES[device] if device < len(DEVICES) else DEVICES[0]).capitalize()
