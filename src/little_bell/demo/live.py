"""What goes on arriving while the demo runs: a few emails, opens and clicks a minute, over HTTP."""

import http.client
import json
import random
from typing import NamedTuple
from urllib.parse import quote

from little_bell.demo.cast import SENDERS, Kind, Link, Sender
from little_bell.demo.traffic import Person, Traffic

FIRST = 1.0  # seconds until the first step
LEAST, MEAN, LONGEST = 3.0, 9.0, 25.0  # until the next
RECENT = 300  # mails that were sent before, and may still be opened


class Waiting(NamedTuple):
    """An email that was sent, and who has it."""

    tenant: str
    email: int
    kind: Kind
    person: Person


class Live:
    """One step after another; each is one request."""

    def __init__(self, host: str, port: int, traffic: Traffic, numbers: dict[str, int]) -> None:
        """`numbers`: the last id of each tenant's emails."""
        self.host = host
        self.port = port
        self.chance = random.Random(traffic.now)  # noqa: S311 - traffic, no secret
        self.waiting: list[Waiting] = []
        self.steps = 0
        left = dict(numbers)
        for mail in reversed(traffic.mails):
            tenant = mail.email.tenant
            if len(self.waiting) < RECENT:
                self.waiting.append(Waiting(tenant, left[tenant], mail.kind, mail.person))
            left[tenant] -= 1

    def pause(self) -> float:
        """Seconds until the next step."""
        if not self.steps:
            return FIRST
        return min(LONGEST, LEAST + self.chance.expovariate(1 / (MEAN - LEAST)))

    def step(self) -> None:
        """Send, open or follow something. Raises OSError, HTTPException where nobody answers."""
        choices = ((self.send, 2), (self.open, 5), (self.click, 2))
        what = self.chance.choices(choices, [weight for _, weight in choices])[0][0]
        self.steps += 1
        if self.steps == 1:  # something is seen to happen soon
            what = self.open
        what()

    def send(self) -> None:
        """A new email of what a sender sends each day."""
        sender: Sender = self.chance.choice(SENDERS)
        kind = self.chance.choice(sender.daily)
        some = [one for one in self.waiting if one.tenant == sender.tenant]
        person = self.chance.choice(some or self.waiting).person
        body = {
            "subject": self.chance.choice(kind.subjects),
            "recipient": person.address,
            "campaign": kind.campaign,
        }
        answer = self._ask("POST", f"/{sender.tenant}/emails", person, json.dumps(body))
        email = int(json.loads(answer)["email_id"])
        self.waiting.insert(0, Waiting(sender.tenant, email, kind, person))
        del self.waiting[RECENT:]

    def open(self) -> None:
        one = self._one()
        self._ask(
            "GET", f"/{one.tenant}/pixel/{one.email}.gif", one.person, agent=one.person.client
        )

    def click(self) -> None:
        one = self._one()
        links = one.kind.links
        link: Link = self.chance.choices(links, [link.weight for link in links])[0]
        path = f"/{one.tenant}/click/{one.email}?url={quote(link.url, safe='')}"
        self._ask("GET", path, one.person)

    def _one(self) -> Waiting:
        """One of the mails, the newest most of all."""
        place = min(len(self.waiting) - 1, int(self.chance.expovariate(1 / 40)) + 1)
        return self.waiting[place]

    def _ask(
        self, method: str, path: str, person: Person, body: str | None = None, agent: str = ""
    ) -> bytes:
        """One request as it comes through a proxy, from where the person is."""
        network = person.network
        if len(network) == 3:
            source = ".".join(str(part) for part in (*network, self.chance.randint(1, 254)))
        else:
            source = f"{network[:2].hex()}:{network[2:4].hex()}:{network[4:].hex()}::1"
        headers = {"User-Agent": agent or person.browser, "X-Forwarded-For": source}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse().read()
        finally:
            connection.close()
