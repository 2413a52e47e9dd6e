"""Each step of a request in the log, at DEBUG: the fast lane and its loop with more to say.

They stand beside the others and not in them, so that nobody else pays for it: `serve` takes these
where the level is DEBUG. A request is `CONNECTION.NUMBER` in all its lines, also those of the slow
lane. Credentials, cookies and bodies are in none, keys in targets neither; addresses are as
ADDRESSES lets them be stored.
"""

import re
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any
from urllib.parse import quote

from little_bell.errors import Refused
from little_bell.ops.health import UNCOUNTED
from little_bell.ops.logs import DEBUG
from little_bell.ops.metrics import WITHHELD
from little_bell.page import REQUEST
from little_bell.store.keys import WRITE, Key
from little_bell.store.transaction import AGGREGATED
from little_bell.tracking.classify import classify_agent, classify_hit, reason_codes
from little_bell.tracking.client import client_address, show, truncate
from little_bell.tracking.hit import KINDS, Hit
from little_bell.tracking.privacy import UNKNOWN, WHOLE
from little_bell.tracking.rules import CLASSES, MACHINE
from little_bell.wire.connection import Connection
from little_bell.wire.fast_lane import REASONS, FastLane, Outcome
from little_bell.wire.gate import EVERY, Gate
from little_bell.wire.http import CONTINUE, BadRequest, Request
from little_bell.wire.replies import Replies
from little_bell.wire.routes import PUBLIC, Route
from little_bell.wire.server import Server

MOST = 10_000  # hits whose request is known, while they wait for the disk

# Which counter says why a hit is no event, and in words.
WHY_NOT = {
    "unknown_ids": "no such email was handed out",
    "bad_signatures": "its signature is not good",
    "heads": "it is a HEAD",
    "blocked": "it is switched off",
    "consent": "no consent",
    "gpc": "Sec-GPC: 1",
}


KEY = re.compile(r"lb_[A-Za-z0-9_-]{16,}")  # of a tenant (ops.keys)
USER_INFO = re.compile(r"^(https?://)[^/?]*@", re.IGNORECASE)  # name and password of a target
BEFORE_KEYS = ("login", "sign_in", "sign_out")  # what their queries say is nobody's business


def milliseconds(since: float) -> float:
    """Those since a moment of perf_counter."""
    return round((perf_counter() - since) * 1000, 3)


class TellingReplies(Replies):
    """Remembers why the last request was refused."""

    why = ""

    def refuse(self, request: Request, name: str, refused: Refused, route: Route | None) -> bytes:
        self.why = str(refused)
        return super().refuse(request, name, refused, route)


class TellingGate(Gate):
    """Says by what a request was let in, or that it was not."""

    by = ""
    say: Callable[..., None]

    def admit(
        self, request: Request, route: Route, segments: list[bytes], peer: bytes, now: float
    ) -> bytes | None:
        self.by = "nothing"
        public = route.access is PUBLIC
        closed = len(segments) > 1 and not public and not self.is_open(segments[1])
        if closed and self.sessions.find(request.headers, segments[1], now) is not None:
            self.by = "a cookie"
        try:
            answer = super().admit(request, route, segments, peer, now)
        except Refused:
            self.say("Not let in", by=self.by)
            raise
        if answer is None:
            self.say("Let in", by="public" if public else self.by if closed else "it is open")
        else:
            self.say("Not let in", by=self.by)
        return answer

    def try_key(self, given: bytes, request: Request, peer: bytes) -> Key | None:
        self.by = "a key that opens nothing"
        key = super().try_key(given, request, peer)
        if key is not None:
            name = "ADMIN_KEY" if key.tenant == EVERY else f"key {key.number}"
            self.by = f"{name}, {'write' if key.role == WRITE else 'read'}"
        return key


class Told:
    """One request under way."""

    __slots__ = ("number", "route", "since", "why")

    def __init__(self, number: str, route: str) -> None:
        self.number = number
        self.route = route
        self.since = perf_counter()
        self.why = ""


class TellingLane(FastLane):
    """Says of each request what was found, who may, what was decided, and what the commit took."""

    gate_type = TellingGate
    replies_type = TellingReplies
    gate: TellingGate
    replies: TellingReplies

    def __init__(self, *parts: Any) -> None:
        """`parts` are FastLane's."""
        super().__init__(*parts)
        self.connection = 0  # the number of the one that is read
        self.count = 0  # of its requests
        self.under_way: list[Told] = []  # of its requests in this tick
        self.by_hit: dict[int, str] = {}  # the request's number, by the identity of its hit
        self.judged: list[tuple[Hit, int]] = []
        self.gate.say = self.say

    def say(self, message: str, **fields: object) -> None:
        """A line about the request that is being decided."""
        self.log.write(DEBUG, message, request=self.under_way[-1].number, **fields)

    def handle(
        self, request: Request, peer: bytes, control: bool = False, diverted: bool = False
    ) -> Outcome:
        self.count += 1
        router = self.control_router if control else self.router
        methods, segments, _ = router.find(request.target)
        route = (methods or {}).get(request.method)
        told = Told(f"{self.connection}.{self.count}", route.name if route else "none")
        self.under_way.append(told)
        target = self.without_keys(request.target.decode("latin-1"))
        self.say(
            "Request read",
            method=request.method.decode("latin-1"),
            target=target.partition("?")[0] if told.route in BEFORE_KEYS else target,
            client="the control socket" if control else self.client(request, peer, segments),
            body_bytes=len(request.body),
        )
        if route is None:
            self.say("No route found")
        else:
            self.say("Route found", route=route.name, lane=route.lane, access=route.access)
        before, hits, emails = self.counts(), len(self.hits), len(self.emails)
        self.replies.why = ""
        outcome = super().handle(request, peer, control, diverted)
        told.why = self.replies.why
        why = [WHY_NOT[name] for name, n in self.counts().items() if n != before[name]]
        if len(self.hits) > hits:
            if len(self.by_hit) >= MOST:
                self.by_hit.clear()
            self.by_hit[id(self.hits[-1])] = told.number
            self.say("Noted", what=KINDS[self.hits[-1].kind])
        elif why:
            self.say("Not counted", why=why)
        if len(self.emails) > emails:
            self.say("Noted", what="email")
        if outcome is None:
            request.headers[REQUEST] = told.number.encode("ascii")
        return outcome

    def client(self, request: Request, peer: bytes, segments: list[bytes]) -> str:
        """Its address as the tenant's ADDRESSES, or else the server's, lets it be stored."""
        tenant = self.tenants.by_name.get(segments[1]) if len(segments) > 1 else None
        policies = self.tracker.policies
        rules = policies.usual if tenant is None else policies.rules(tenant.policy)
        if rules.addresses == UNKNOWN:
            return ""
        address = client_address(peer, request.headers, self.config.trusted_proxies)
        return show(address if rules.addresses == WHOLE else truncate(address))

    def without_keys(self, target: str) -> str:
        """A target without the keys that somebody put into it, where none is looked for."""
        target = USER_INFO.sub(r"\1...@", KEY.sub("lb_...", target))
        for secret in (self.config.admin_key, self.config.metrics_token):
            if secret:
                target = target.replace(secret, "...").replace(quote(secret, safe=""), "...")
        return target

    def counts(self) -> dict[str, int]:
        """The counters that say why a hit is no event, by the names in WHY_NOT."""
        counters = self.counters
        return {
            name: counters.withheld[name] if name in WITHHELD else getattr(counters, name)
            for name in WHY_NOT
        }

    def commit(self) -> None:
        hits, emails, since = len(self.hits), len(self.emails), perf_counter()
        self.judged = []
        super().commit()
        if hits or emails:
            self.log.write(
                DEBUG,
                "Committed" if self.recorder.reason is None else "Not committed",
                hits=hits,
                emails=emails,
                milliseconds=milliseconds(since),
            )
        for hit, became in self.judged:
            self.tell_of(hit, became)

    def tell_of(self, hit: Hit, became: int) -> None:
        """What a hit is in the log."""
        number = self.by_hit.pop(id(hit), "")
        if became in REASONS:
            why = {"consent": "no consent", "optout": "its recipient opted out"}[REASONS[became]]
            self.log.write(DEBUG, "Not counted", request=number, why=[why])
            return
        class_ = became - AGGREGATED if became >= AGGREGATED else became
        verdict = classify_hit(classify_agent(hit.user_agent), hit.flags)
        reasons = list(reason_codes(verdict.reasons))
        if class_ == MACHINE != verdict.verdict:
            reasons.append("instant or burst")
        self.log.write(
            DEBUG,
            "Counted",
            request=number,
            what=KINDS[hit.kind],
            reasons=reasons,
            stored="aggregate" if became >= AGGREGATED else "event",
            **{"class": UNCOUNTED.get(class_) or CLASSES[class_]},
        )

    def _recorded(self, judged: Iterable[tuple[Hit, int]]) -> None:
        found = list(judged)
        self.judged += found
        super()._recorded(found)


class TellingServer(Server):
    """Says what came in that is no request, and what went out."""

    lane: TellingLane

    def __init__(self, *parts: Any) -> None:
        """`parts` are Server's, with a TellingLane."""
        super().__init__(*parts)
        self.counts: dict[int, int] = {}  # of requests, by the numbers of open connections
        self.told: dict[int, list[Told]] = {}  # of them, that have no answer yet

    def _take(self, connection: Connection) -> None:
        lane, number = self.lane, connection.number
        lane.connection = number
        lane.count = self.counts.get(number, 0)
        lane.under_way = self.told.setdefault(number, [])
        super()._take(connection)
        self.counts[number] = lane.count

    def _refuse(self, connection: Connection, bad: BadRequest) -> None:
        reads = self.lane.connection == connection.number
        count = self.lane.count if reads else self.counts.get(connection.number, 0)
        number = f"{connection.number}.{count + 1}"
        self.lane.log.write(
            DEBUG, "Refused as it came", request=number, status=bad.status, why=bad.detail
        )
        super()._refuse(connection, bad)

    def _answer(self, connection: Connection) -> None:
        told = self.told.get(connection.number, [])
        answers = [one if isinstance(one, bytes) else one.answer for one in connection.out]
        answers = [one for one in answers if one is not CONTINUE]
        # One more than there are requests: what came behind them was refused as it came.
        for one, answer in zip(told, answers, strict=False):
            self.lane.log.write(
                DEBUG,
                "Answered",
                request=one.number,
                route=one.route,
                status=int(answer[9:12]),
                bytes=len(answer),
                milliseconds=milliseconds(one.since),
                **({"why": one.why} if one.why else {}),
            )
        del told[: len(answers)]
        super()._answer(connection)

    def _give_away(self, connection: Connection) -> None:
        told = self.told.get(connection.number, [])
        super()._give_away(connection)
        if told and connection not in self.connections:
            one = told[-1]
            self.lane.log.write(
                DEBUG, "Handed over", request=one.number, milliseconds=milliseconds(one.since)
            )

    def _drop(self, connection: Connection) -> None:
        super()._drop(connection)
        self.counts.pop(connection.number, None)
        self.told.pop(connection.number, None)
