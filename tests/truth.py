"""A naive count by the definitions alone: what was sent, what came of it, and every figure of it.

It shares no line with the server. Verdicts of user agents are written down here, as they are known
of the clients; what depends on circumstances (own, prefetch, instant, burst) is found anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bell import BROWSER

COLUMNS = (
    "sent",
    "opens",
    "machine_opens",
    "unique_opens",
    "inferred_opens",
    "clicks",
    "machine_clicks",
    "unique_clicks",
)

# User agents, their class, mail client and device.
AGENTS = (
    (BROWSER, "human", "chrome", "desktop"),
    (BROWSER, "human", "chrome", "desktop"),
    ("Mozilla/5.0", "machine", "apple-privacy", "unknown"),
    ("Mozilla/5.0 (via ggpht.com GoogleImageProxy)", "proxy", "gmail", "unknown"),
    ("YahooMailProxy; https://help.yahoo.com/", "proxy", "yahoo-mail", "unknown"),
    ("Mozilla/4.0 (compatible; Microsoft Outlook 16.0.5071)", "human", "outlook", "desktop"),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
        *("human", "apple-mail", "desktop"),
    ),
    ("curl/8.5.0", "machine", "http-library", "server"),
    ("Mozilla/5.0 (compatible; SomeBot/1.0; +http://bot.example)", "machine", "crawler", "server"),
    ("", "machine", "unknown", "unknown"),
    ("Something/1.0", "unknown", "unknown", "unknown"),
)
VERDICTS = {agent: verdict for agent, *verdict in AGENTS}

WINDOW = 10_000  # ms of a burst
HOUR = 3_600_000  # ms
LOOK_BACK = 64  # clicks of its email that it looks back at (docs/DESIGN.md)

Scope = tuple[str, object]  # tenant, campaign, link or client, and which
WHOLE: Scope = ("tenant", None)
Counted = dict[Scope, list[tuple[int, str]]]  # when, and one more of which figure


@dataclass
class Event:
    """An open or a click. `source` is the network that an address is in."""

    id: int
    kind: str
    at: int
    agent: str
    source: object
    url: str | None = None
    own: bool = False
    prefetch: bool = False


@dataclass
class Mail:
    """An email; `gone` is one that was deleted: it counts for what it counted then."""

    id: int
    created_at: int
    campaign: str | None = None
    subject: str | None = None
    recipient: str | None = None
    gone: bool = False
    consent: int = 0  # full, aggregate, none: its own
    events: list[Event] = field(default_factory=list)

    def bursts(self) -> set[int]:
        """Ids of clicks of a burst, as it was known when its last one came."""
        found: set[int] = set()
        clicks = [event for event in self.events if event.kind == "click"]
        for place, last in enumerate(clicks):
            near = [
                click
                for click in clicks[max(0, place - LOOK_BACK) : place + 1]
                if click.source == last.source and abs(click.at - last.at) <= WINDOW
            ]
            if len({click.url for click in near}) >= 3:
                found.update(click.id for click in near)
        return found

    def judged(self, instant: int) -> list[tuple[Event, str, set[str]]]:
        """Events, their class, and the reasons that follow from the circumstances."""
        bursts = self.bursts()
        found = []
        for event in self.events:
            age = event.at - self.created_at
            reasons = {
                *(["own"] if event.own else []),
                *(["prefetch"] if event.prefetch else []),
                *(["instant"] if event.kind == "click" and 0 <= age < instant else []),
                *(["burst"] if event.id in bursts else []),
            }
            found.append((event, "machine" if reasons else VERDICTS[event.agent][0], reasons))
        return found


@dataclass
class Total:
    """An open or a click of an email that may only be counted, and its campaign at that time."""

    event: Event
    campaign: str | None
    age: int  # of the email, ms

    def reasons(self, instant: int) -> set[str]:
        """Those that follow from the circumstances: a burst does not."""
        return {
            *(["own"] if self.event.own else []),
            *(["prefetch"] if self.event.prefetch else []),
            *(["instant"] if self.event.kind == "click" and 0 <= self.age < instant else []),
        }

    def class_(self, instant: int) -> str:
        return "machine" if self.reasons(instant) else str(VERDICTS[self.event.agent][0])


@dataclass
class Truth:
    """All emails of a tenant."""

    instant: int  # ms
    mails: dict[int, Mail] = field(default_factory=dict)
    campaigns: list[str] = field(default_factory=list)  # as they came
    links: list[str] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)  # what names no email

    def add(self, mail: Mail) -> None:
        self.mails[mail.id] = mail
        self.name(mail.campaign)

    def name(self, campaign: str | None) -> None:
        if campaign is not None and campaign not in self.campaigns:
            self.campaigns.append(campaign)

    def hit(self, email: int, event: Event) -> None:
        self.mails[email].events.append(event)
        if event.url is not None and event.url not in self.links:
            self.links.append(event.url)

    def total(self, email: int, event: Event) -> None:
        """A hit that may only be counted: of its time the hour is kept."""
        mail = self.mails[email]
        age = event.at - mail.created_at
        event.at = event.at // HOUR * HOUR
        self.totals.append(Total(event, mail.campaign, age))
        if event.url is not None and event.url not in self.links:
            self.links.append(event.url)

    @property
    def alive(self) -> list[Mail]:
        return [mail for mail in self.mails.values() if not mail.gone]

    def log(self) -> list[tuple[Mail | None, Event, str, set[str]]]:
        """What the log holds, oldest first; with no email where it names none."""
        found: list[tuple[Mail | None, Event, str, set[str]]] = [
            (mail, *one) for mail in self.alive for one in mail.judged(self.instant)
        ]
        found += [
            (None, one.event, one.class_(self.instant), one.reasons(self.instant))
            for one in self.totals
        ]
        return sorted(found, key=lambda one: one[1].id)

    def count(self) -> Counted:
        """Every contribution to every figure."""
        counted: Counted = {}

        def add(scopes: Iterable[Scope], at: int, column: str) -> None:
            for scope in scopes:
                counted.setdefault(scope, []).append((at, column))

        for one in self.totals:
            event = one.event
            machine = "machine_" if one.class_(self.instant) == "machine" else ""
            scopes = [WHOLE, ("client", tuple(VERDICTS[event.agent][1:]))]
            scopes += [("campaign", one.campaign)] if one.campaign else []
            scopes += [("link", event.url)] if event.kind == "click" else []
            add(scopes, event.at, f"{machine}{event.kind}s")
        for mail in self.mails.values():
            mine = [WHOLE] + ([("campaign", mail.campaign)] if mail.campaign else [])
            add(mine, mail.created_at, "sent")
            people: dict[str, list[Event]] = {"open": [], "click": []}
            for event, class_, _ in mail.judged(self.instant):
                scopes = [*mine, ("client", tuple(VERDICTS[event.agent][1:]))]
                scopes += [("link", event.url)] if event.kind == "click" else []
                if class_ == "machine":
                    add(scopes, event.at, f"machine_{event.kind}s")
                else:
                    add(scopes, event.at, f"{event.kind}s")
                    people[event.kind].append(event)
            opened = [event.at for event in people["open"]]
            clicked = [event.at for event in people["click"]]
            if opened or clicked:
                add(mine, min(opened + clicked), "unique_opens")
                if not opened:
                    add(mine, min(clicked), "inferred_opens")
            if clicked:
                add(mine, min(clicked), "unique_clicks")
            for url in {event.url for event in people["click"]}:
                first = min(event.at for event in people["click"] if event.url == url)
                add([("link", url)], first, "unique_clicks")
        return counted


def figures(counted: Iterable[tuple[int, str]], start: int = 0, end: int = 1 << 62) -> list[int]:
    """The eight figures of a span of time (ms)."""
    columns = [column for at, column in counted if start <= at < end]
    return [columns.count(column) for column in COLUMNS]


def rates(found: list[int]) -> list[float | None]:
    """Open rate, click rate, click-to-open: no value with nothing below the line."""
    sent, _, _, opened, _, _, _, clicked = found
    return [
        opened / sent if sent else None,
        clicked / sent if sent else None,
        clicked / opened if opened else None,
    ]
