"""Where a page is, and what of its query its links keep: the period, the dates, the zone."""

from typing import NamedTuple

from little_bell.errors import Refused
from little_bell.tracking.links import query_value

KEPT = ("period", "from", "to", "tz")
LONGEST = 400  # characters of a value that is looked at


def asked(query: bytes, name: str) -> str:
    """A value of the query, without what surrounds it; nothing where it cannot be read."""
    try:
        return (query_value(query, name) or "").strip()[:LONGEST]
    except Refused:
        return ""


class Address(NamedTuple):
    """A tenant's pages, as links see them."""

    prefix: str
    tenant: str
    kept: tuple[tuple[str, str], ...] = ()

    def to(self, page: str = "", item: object = None, /, **more: object) -> str:
        """The address of a page, or of one thing on it, with what is kept and `more`."""
        return self.with_only(self.kept, page, item, **more)

    def with_only(
        self,
        kept: tuple[tuple[str, str], ...],
        page: str = "",
        item: object = None,
        /,
        **more: object,
    ) -> str:
        """As `to`, with other values kept."""
        from urllib.parse import quote, urlencode

        path = f"{self.prefix}/{self.tenant}/dashboard"
        if page:
            path += f"/{page}"
        if item is not None:
            path += f"/{quote(str(item), safe='')}"
        query = urlencode([*kept, *((k, str(v)) for k, v in more.items() if v not in (None, ""))])
        return f"{path}?{query}" if query else path

    def csv(self, what: str, chosen: tuple[tuple[str, str], ...] = ()) -> str:
        """The address of a table of all events or emails; `chosen` are its own parameters."""
        from urllib.parse import urlencode

        query = urlencode(chosen)
        return f"{self.prefix}/{self.tenant}/{what}.csv" + (f"?{query}" if query else "")

    @property
    def zone(self) -> tuple[tuple[str, str], ...]:
        """What is kept where another period is chosen."""
        return tuple(pair for pair in self.kept if pair[0] == "tz")


def address(prefix: str, tenant: str, query: bytes) -> Address:
    kept = [(name, asked(query, name)) for name in KEPT]
    return Address(prefix, tenant, tuple((name, value) for name, value in kept if value))
