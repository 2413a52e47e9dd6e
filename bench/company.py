"""What a server does beside opens: people look at pages and export, programs read and create
emails, one or many."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType

from bench.bulk import ndjson, post
from bench.programs import BROWSER, TENANT
from bench.running import Running

PAGES = (  # fetched in turn
    f"/{TENANT}/dashboard",
    f"/{TENANT}/dashboard/live",
    f"/{TENANT}/stats?interval=day&tz=Europe/Berlin",
    f"/{TENANT}/emails?order=activity",
)
EXPORT = f"/{TENANT}/events.csv"
EXPORTS_RATE = 0.2
PAGES_RATE = 4.0  # a second
EMAILS_RATE = 50.0
BATCH = 10_000  # emails in one request
BATCHES_RATE = 0.5


class Company:
    """Fetches pages and creates emails on a schedule while the `with` lasts."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.ended = threading.Event()
        self.pages: list[float] = []  # seconds that each took, from when it was due
        self.emails: list[float] = []
        self.batches: list[float] = []
        self.exports: list[float] = []
        self.body = ndjson(BATCH)
        self.refused = 0  # answers other than 200 and 201
        self.poster = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        self.threads = [
            threading.Thread(target=self._repeat, args=(PAGES_RATE, self._page, self.pages)),
            threading.Thread(target=self._repeat, args=(EMAILS_RATE, self._email, self.emails)),
            threading.Thread(target=self._repeat, args=(BATCHES_RATE, self._batch, self.batches)),
            threading.Thread(target=self._repeat, args=(EXPORTS_RATE, self._export, self.exports)),
        ]

    def __enter__(self) -> "Company":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        self.poster.close()

    def _repeat(self, rate: float, work: Callable[[int], int], took: list[float]) -> None:
        start = time.perf_counter()
        n = 0
        while not self.ended.wait(max(0.0, start + n / rate - time.perf_counter())):
            try:
                status = work(n)
            except (OSError, http.client.HTTPException):
                self.poster.close()
                status = 0
            self.refused += status not in (200, 201)
            took.append(time.perf_counter() - start - n / rate)
            n += 1

    def _batch(self, _n: int) -> int:
        return post(self.server, self.body)

    def _page(self, n: int) -> int:
        return self.server.ask("GET", PAGES[n % len(PAGES)], accept="text/html")[0]

    def _export(self, _n: int) -> int:
        return self.server.ask("GET", EXPORT, accept="*/*")[0]

    def _email(self, n: int) -> int:
        body = json.dumps(
            {
                "subject": f"Receipt {n}",
                "recipient": f"buyer{n}@example.com",
                "campaign": "receipts",
            }
        )
        headers = self.server.headers | {"User-Agent": BROWSER, "Content-Type": "application/json"}
        self.poster.request("POST", f"/{TENANT}/emails", body, headers)
        answer = self.poster.getresponse()
        answer.read()
        return answer.status
