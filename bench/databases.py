"""Database files to measure on: written by Little Bell's own store, without a server."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bench.plan import Plan
from bench.programs import BROWSER, TENANT
from little_bell.store.database import migrate, open_writer
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit

BATCH = 500  # emails or hits of one transaction
CAMPAIGN = 5_000  # emails of one campaign
CAMPAIGNS = 200  # where many events are compared with few
WAL_PAGES = 20_000  # of the write-ahead log, before it is moved into the file
SPAN = 30 * 86_400_000  # milliseconds over which events are spread, up to now
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"
AGENTS = (  # the first ones are the most frequent
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0",
    BROWSER,
    MAC,
    f"{PHONE} (KHTML, like Gecko) Mobile/15E148",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.14228; Pro)",
    f"{WINDOWS} Chrome/124.0.0.0 Safari/537.36 Edg/124.0.0.0",
    "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
    "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.8.1",
    "curl/8.5.0",
    "Something/1.0",
    f"{WINDOWS} HeadlessChrome/124.0.0.0 Safari/537.36",
)
SOURCE = b"\x7f\x00\x00"  # 127.0.0.0/24


def create(path: Path) -> Writer:
    """A new, empty database, open to write."""
    connection = open_writer(str(path))
    migrate(connection)
    connection.close()
    return Writer(str(path))


def begun() -> int:
    """When the oldest email was created, in ms since the epoch."""
    return int(time.time() * 1000) - SPAN


def announcement(n: int, campaign: int) -> NewEmail:
    """The n-th email, from 0, of campaigns of so many emails."""
    return NewEmail(
        TENANT,
        f"News of the month, number {n}",
        f"reader{n}@example.com",
        f"campaign-{n // campaign}",
        None,
    )


def seed(writer: Writer, emails: int, campaign: int = CAMPAIGN) -> None:
    """Create emails 1 to `emails` of the one tenant, in campaigns of so many."""
    at = begun()
    for first in range(0, emails, BATCH):
        last = min(first + BATCH, emails)
        writer.write(at, [announcement(n, campaign) for n in range(first, last)], [])
        if writer.wal_pages > WAL_PAGES:
            writer.checkpoint("truncate")
    writer.checkpoint("truncate")


def grow(writer: Writer, chosen: Iterator[int], events: int) -> None:
    """Open emails in this order, at times spread evenly from their creation to now."""
    at = begun()
    step = SPAN / events
    for first in range(0, events, BATCH):
        batch = islice(chosen, min(BATCH, events - first))
        hits = [
            Hit(1, email, OPEN, at + int(n * step), 0, BROWSER, SOURCE, None)
            for n, email in enumerate(batch, first)
        ]
        writer.write(at, [], hits)
        if writer.wal_pages > WAL_PAGES:
            writer.checkpoint("truncate")
    writer.checkpoint("truncate")


def ring(writer: Writer, emails: int, events: int) -> None:
    """Open emails and follow their links, by people and machines, as `grow` does in time."""
    at = begun()
    step = SPAN / events
    pick = random.Random(2)
    batch: list[Hit] = []
    for n in range(events):
        email = int(pick.random() * emails) + 1
        agent = AGENTS[int(pick.random() ** 2 * len(AGENTS))]
        source = bytes((10, int(pick.random() * 256), int(pick.random() * 256)))
        url = None
        if pick.random() < 0.2:
            campaign = (email - 1) * CAMPAIGNS // emails
            url = f"https://example.com/campaign-{campaign}/{int(pick.random() * 8)}"
        moment = at + int(n * step)
        batch.append(Hit(1, email, CLICK if url else OPEN, moment, 0, agent, source, url))
        if len(batch) == BATCH or n == events - 1:
            writer.write(moment, [], batch)
            batch = []
            if writer.wal_pages > WAL_PAGES:
                writer.checkpoint("truncate")
    writer.checkpoint("truncate")


def at_random(emails: int) -> Iterator[int]:
    """Emails, uniformly at random and without end, the same in every run."""
    pick = random.Random(1)
    while True:
        yield int(pick.random() * emails) + 1


def count_events(path: Path) -> int:
    """Rows of the log, by a connection that recovers what a kill left behind."""
    connection = open_writer(str(path))
    try:
        return int(connection.execute("SELECT count(*) FROM events").get)
    finally:
        connection.close()


def warm(path: Path) -> None:
    """Read a file once, so that it is in the system's memory."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


class Databases:
    """Files that sections share; each is made when it is first asked for."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.copies = 0

    def seeded(self, emails: int) -> Path:
        """Emails and not one event. Not to be written: copy it."""
        path = self.folder / f"seeded-{emails}.db"
        if not path.exists():
            writer = create(path)
            seed(writer, emails)
            writer.close()
        return path

    def grown(self) -> Path:
        """The plan's many events over its many emails, uniformly at random."""
        path = self.folder / "grown.db"
        if not path.exists():
            shutil.copyfile(self.seeded(self.plan.grown_emails), path)
            writer = Writer(str(path))
            grow(writer, at_random(self.plan.grown_emails), self.plan.grown_events)
            writer.close()
        return path

    def traffic(self, emails: int, events: int) -> Path:
        """Opens and clicks of all kinds."""
        path = self.folder / f"traffic-{emails}-{events}.db"
        if not path.exists():
            made = path.with_suffix(".part")
            writer = create(made)
            seed(writer, emails, emails // CAMPAIGNS)
            ring(writer, emails, events)
            writer.close()
            made.rename(path)
        return path

    def copy(self, path: Path) -> Path:
        """A copy that may be written, flushed to the disk, in a folder of its own."""
        self.copies += 1
        folder = self.folder / f"copy{self.copies}"
        folder.mkdir()
        target = folder / "tracking.db"
        shutil.copyfile(path, target)
        os.sync()  # all of the disk: what is written back later would stall the syncs measured
        return target

    def discard(self, copy: Path) -> None:
        """Remove a copy."""
        shutil.rmtree(copy.parent, ignore_errors=True)
