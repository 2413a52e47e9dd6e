"""What becomes of the cast's mail: emails and hits of two months up to now, by a seed."""

import json
import random
from collections.abc import Iterator
from time import gmtime
from typing import NamedTuple

from little_bell.demo.cast import (
    APPLE_PRIVACY,
    CRAWLER,
    FETCHER,
    GMAIL,
    GMAIL_AHEAD,
    NOTES,
    PREVIEW,
    SCANNER,
    SENDERS,
    STUDIO,
    Audience,
    Kind,
    Link,
    Sender,
)
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, GPC, OPEN, OWN, RELAY, Hit
from little_bell.tracking.hit import SCANNER as FROM_SCANNER
from little_bell.tracking.privacy import AGGREGATE, FULL

SEED = 7
DAYS = 62  # so that each of the last 30 days has one to be compared with
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
SATURDAY = 5

# /24s as they are stored: RFC 2544's, and of the documentation (RFC 5737) for machines.
GATEWAY = bytes((192, 0, 2))
APPLE = bytes((203, 0, 113))
OFFICE = bytes((198, 51, 100))  # the studio's own


class Person(NamedTuple):
    """One reader, who keeps to a mail client, a place and habits."""

    address: str
    client: str
    browser: str
    network: bytes  # a /24, or a /48
    care: float  # how much more than others it opens
    guarded: bool
    private: bool  # its browser says Sec-GPC: 1


class Mail(NamedTuple):
    """An email that goes out."""

    at: int  # ms UTC
    email: NewEmail
    sender: Sender
    kind: Kind
    person: Person


class Sight(NamedTuple):
    """A hit on one of the mails, whose tenant and id are not known yet."""

    at: int  # ms UTC
    mail: int  # which, by the order in time
    hit: Hit


class Traffic:
    """All that happened up to now. The same seed and the same moment give the same."""

    def __init__(self, now: int, offset: int = 0, seed: int = SEED) -> None:
        """`now` in ms UTC; `offset` is that of the clock on the wall, in ms."""
        self.now = now
        self.offset = offset
        self.chance = random.Random(seed)  # noqa: S311 - traffic, no secret
        self.today = (now + offset) // DAY * DAY - offset  # midnight
        self.people: dict[str, Person] = {}
        self.mails = self._mails()
        sights = (sight for n, mail in enumerate(self.mails) for sight in self._sights(n, mail))
        self.sights = sorted((one for one in sights if one.at < now), key=lambda one: one.at)

    # What is sent

    def _mails(self) -> list[Mail]:
        found = [
            mail
            for sender in SENDERS
            for mails in (self._letters(sender), self._daily(sender))
            for mail in mails
        ]
        return sorted((mail for mail in found if mail.at < self.now), key=lambda mail: mail.at)

    def _letters(self, sender: Sender) -> Iterator[Mail]:
        for letter in sender.letters:
            day = self.today - letter.days * DAY
            while self._weekend(day):
                day -= DAY
            for n in range(letter.people):
                at = day + int(letter.hour * HOUR) + n * 350 + self.chance.randrange(300)
                yield self._mail(at, sender, letter.kind, n + 1)

    def _daily(self, sender: Sender) -> Iterator[Mail]:
        for ago in range(DAYS, -1, -1):
            day = self.today - ago * DAY
            much = sender.weekend if self._weekend(day) else 1.0
            much *= 1.08 - 0.22 * ago / DAYS  # it grows
            for kind in sender.daily:
                for _ in range(round(self.chance.gauss(kind.a_day * much, kind.a_day * much / 6))):
                    hour = self.chance.choices(range(24), sender.audience.hours)[0]
                    at = day + hour * HOUR + self.chance.randrange(HOUR)
                    yield self._mail(at, sender, kind, self.chance.randint(1, sender.people))

    def _mail(self, at: int, sender: Sender, kind: Kind, number: int) -> Mail:
        person = self._person(sender.audience, number)
        note = json.dumps({kind.key: self.chance.choice(NOTES[kind.key])})
        subject = self.chance.choice(kind.subjects)
        email = NewEmail(sender.tenant, subject, person.address, kind.campaign, note)
        return Mail(at, email, sender, kind, person)

    def _person(self, audience: Audience, number: int) -> Person:
        address = audience.address.format(number)
        known = self.people.get(address)
        if known is None:
            chance = self.chance
            readers = audience.readers
            reader = chance.choices(readers, [one.weight for one in readers])[0]
            network = bytes((198, chance.choice((18, 19)), chance.randrange(256)))
            if chance.random() < 0.2:
                network = bytes(
                    (0x20, 0x01, 0x0D, 0xB8, chance.randrange(256), chance.randrange(256))
                )
            known = self.people[address] = Person(
                address,
                reader.client,
                reader.browser,
                network,
                chance.choice((0.4, 0.8, 1.0, 1.2, 1.6)),
                chance.random() < audience.guarded,
                chance.random() < 0.03,
            )
        return known

    # What becomes of it

    def _sights(self, number: int, mail: Mail) -> Iterator[Sight]:
        yield from self._machines(number, mail)
        chance, kind, person = self.chance, mail.kind, mail.person
        opens = chance.random() < min(0.97, kind.opened * (0.4 + 0.6 * person.care))
        at = mail.at
        if opens:
            at = self._looks(mail)
            if person.client != APPLE_PRIVACY:  # which fetched it ahead, read or not
                again = at
                for _ in range(chance.choices((1, 2, 3, 5), (70, 19, 8, 3))[0]):
                    yield self._sight(number, OPEN, again, person.client, person.network)
                    again += 20 * SECOND + int(chance.expovariate(1 / (16 * HOUR)))
                    again = self._awake(again, mail.sender.audience)
        if chance.random() < (kind.followed / kind.opened if opens else 0.02):
            at = (at if opens else self._looks(mail)) + chance.randint(4, 240) * SECOND
            for _ in range(chance.choices((1, 2), (84, 16))[0]):
                link = chance.choices(kind.links, [one.weight for one in kind.links])[0]
                yield self._click(number, at, person, link)
                at += chance.randint(25, 400) * SECOND

    def _machines(self, number: int, mail: Mail) -> Iterator[Sight]:
        chance, kind, person = self.chance, mail.kind, mail.person
        if person.client == APPLE_PRIVACY:
            at = mail.at + chance.randint(15, 4000) * SECOND
            yield self._sight(number, OPEN, at, APPLE_PRIVACY, APPLE, flags=RELAY)
        if person.client == GMAIL and chance.random() < 0.04:
            yield self._sight(number, OPEN, mail.at + 900, GMAIL_AHEAD, bytes((192, 0, 2)))
        if person.guarded:  # its scanner follows all links, and leaves pictures alone
            many = len(kind.links) > 2  # a burst gives it away, or else that it comes at once
            at = mail.at + (chance.randint(2000, 9000) if many else chance.randint(400, 1500))
            for link in kind.links:
                at += chance.randint(80, 300)
                yield self._sight(number, CLICK, at, SCANNER, GATEWAY, link, FROM_SCANNER)
        if chance.random() < 0.006:
            agent = chance.choice((FETCHER, PREVIEW, CRAWLER))
            at = mail.at + chance.randint(1, 30) * HOUR
            yield self._sight(number, CLICK, at, agent, GATEWAY, kind.links[0])
        if mail.sender is STUDIO and chance.random() < 0.05:  # the team looks at its own mail
            at = mail.at + chance.randint(1, 50) * MINUTE
            yield self._sight(number, OPEN, at, person.client, OFFICE, flags=OWN)

    def _click(self, number: int, at: int, person: Person, link: Link) -> Sight:
        flags = GPC if person.private else 0
        return self._sight(number, CLICK, at, person.browser, person.network, link, flags)

    def _sight(
        self,
        number: int,
        kind: int,
        at: int,
        agent: str,
        network: bytes,
        link: Link | None = None,
        flags: int = 0,
    ) -> Sight:
        consent = AGGREGATE if flags & GPC else FULL  # as the setting GPC has it, if nobody sets it
        url, label, part = (link.url, link.label, "html") if link else (None, "", "")
        return Sight(
            at, number, Hit(0, 0, kind, at, flags, agent, network, url, label, part, consent)
        )

    def _looks(self, mail: Mail) -> int:
        """When somebody looks: at once where it is waited for, else within hours, while awake."""
        chance = self.chance
        if mail.kind.at_once:
            return mail.at + 9 * SECOND + int(chance.expovariate(1 / (2 * MINUTE)))
        mean = 100 * MINUTE if chance.random() < 0.6 else 20 * HOUR
        at = mail.at + 40 * SECOND + int(chance.expovariate(1 / mean))
        return self._awake(at, mail.sender.audience)

    def _awake(self, at: int, audience: Audience) -> int:
        """This moment, or a later one at which a reader is likelier to look."""
        while True:
            likely = audience.hours[(at + self.offset) // HOUR % 24] / 100
            if self._weekend(at):
                likely *= audience.weekend
            if self.chance.random() < likely + 0.02:
                return at
            at += int(self.chance.expovariate(1 / HOUR))

    def _weekend(self, at: int) -> bool:
        return gmtime((at + self.offset) // 1000).tm_wday >= SATURDAY
