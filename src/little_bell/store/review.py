"""Judging again: events that older rules judged, by those of today.

What is known of the circumstances stays as it was judged (`instant`, which depends on a setting of
that day); what follows from the user agent, the flags of the request and the clicks around is found
anew. An event whose user agent was not kept, `(other)`, keeps its class.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from little_bell.store.dictionary import OTHER
from little_bell.tracking.classify import (
    BURST,
    BURST_LINKS,
    BURST_LOOK_BACK,
    BURST_WINDOW,
    INSTANT,
    Verdict,
    classify_agent,
    classify_hit,
)
from little_bell.tracking.client import same_source
from little_bell.tracking.hit import CLICK
from little_bell.tracking.rules import MACHINE, VERSION


class Line(NamedTuple):
    """One event of an email, as `unscoped_events` gives it."""

    seq: int
    at: int
    kind: int
    link: int
    class_: int
    prev: int | None
    client: int | None
    reasons: int
    rules: int
    flags: int
    agent: int
    address: bytes | None

    def judgement(self) -> list[Any]:
        """What the rules said, in the order of `judge_event`."""
        return [self.class_, self.reasons, self.rules, self.client]


class Review:
    """Judges emails, one after the other."""

    def __init__(self, user_agent: Callable[[int, int], str | None]) -> None:
        """`user_agent` gives the text behind a tenant's number of it."""
        self.user_agent = user_agent
        self.verdicts: dict[tuple[int, int], Verdict | None] = {}

    def judge(self, tenant: int, lines: list[Line], purged: int | None = None) -> list[Line]:
        """An email's events in the order of the log; those that are judged anew are other ones.

        `purged` is the time of the newest click that was purged: a burst that reached back to it
        cannot be found again, and stays.
        """
        if all(line.rules >= VERSION for line in lines):
            return lines
        judged = [line if line.rules >= VERSION else self._judge(tenant, line) for line in lines]
        bursts = find_bursts([line for line in judged if line.kind == CLICK])
        if purged is not None:
            reach = purged + BURST_WINDOW
            bursts |= {one.seq for one in lines if one.reasons & BURST and one.at <= reach}
        return [
            line._replace(class_=MACHINE, reasons=line.reasons | BURST)
            if line.seq in bursts and line.rules >= VERSION and not line.reasons & BURST
            else line
            for line in judged
        ]

    def _judge(self, tenant: int, line: Line) -> Line:
        """One event by itself."""
        verdict = self._verdict(tenant, line.agent)
        if verdict is None:
            return line._replace(rules=VERSION, client=0)
        class_, _, reasons, client = classify_hit(verdict, line.flags)
        if line.reasons & INSTANT:
            class_, reasons = MACHINE, reasons | INSTANT
        return line._replace(class_=class_, reasons=reasons, rules=VERSION, client=client)

    def _verdict(self, tenant: int, agent: int) -> Verdict | None:
        key = (tenant, agent)
        if key not in self.verdicts:
            text = None if agent == OTHER else self.user_agent(tenant, agent)
            self.verdicts[key] = None if text is None else classify_agent(text)
        return self.verdicts[key]


def find_bursts(clicks: list[Line]) -> set[int]:
    """The numbers of clicks of one email, in the order of the log, that are part of a burst."""
    found: set[int] = set()
    for position, click in enumerate(clicks):
        same = [
            one
            for one in clicks[max(0, position - BURST_LOOK_BACK) : position]
            if abs(click.at - one.at) <= BURST_WINDOW and same_source(one.address, click.address)
        ]
        if len({click.link, *(one.link for one in same)}) >= BURST_LINKS:
            found.update((click.seq, *(one.seq for one in same)))
    return found
