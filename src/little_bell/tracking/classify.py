"""Who opened it? Class, agent and reasons of a hit, by the rules."""

from typing import NamedTuple

from little_bell.tracking import hit as hits
from little_bell.tracking.clients import client_by
from little_bell.tracking.rules import BIT, MACHINE, REASONS, rule_for

BURST_LINKS = 3  # different links of one email ...
BURST_WINDOW = 10_000  # ... within this many milliseconds, from one source
BURST_LOOK_BACK = 64  # clicks of the email that are looked at, at most

INSTANT = BIT["instant"]
BURST = BIT["burst"]


class Verdict(NamedTuple):
    """What the rules say of a user agent or of a hit."""

    verdict: int  # HUMAN, PROXY, MACHINE or UNKNOWN
    agent: str
    reasons: int  # bits of REASONS
    client: int  # and device: see `tracking.clients`


def classify_agent(user_agent: str) -> Verdict:
    """What a user agent alone says."""
    rule = rule_for(user_agent)
    client = client_by(rule, user_agent)
    return Verdict(rule.verdict, rule.agent, BIT[rule.reason], client)


def classify_hit(agent: Verdict, flags: int) -> Verdict:
    """What the user agent and the request's flags say together."""
    if not flags:
        return agent
    verdict, name, reasons, client = agent
    if flags & hits.PREFETCH:
        verdict, name, reasons = MACHINE, "generic", reasons | BIT["prefetch"]
    if flags & hits.RELAY:
        reasons |= BIT["relay"]
    if flags & hits.SCANNER:
        reasons |= BIT["scanner-range"]
    if flags & hits.OWN:  # a person, but none of those the figures are about
        verdict, reasons = MACHINE, reasons | BIT["own"]
    return Verdict(verdict, name, reasons, client)


def is_instant(created_at: int, at: int, instant_ms: int) -> bool:
    """Whether a click came too soon after creation. A clock that ran back proves nothing."""
    return 0 <= at - created_at < instant_ms


def reason_codes(reasons: int) -> tuple[str, ...]:
    """The stable codes of stored reason bits, in the order of the table."""
    return tuple(code for position, (code, _) in enumerate(REASONS) if reasons >> position & 1)
