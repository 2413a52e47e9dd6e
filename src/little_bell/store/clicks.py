"""Clicks of a tick: what is remembered of each email's chain, and bursts, which judge again."""

from collections.abc import Iterable

import apsw

from little_bell.store.memory import UNKNOWN, Click, Memory
from little_bell.store.projection import (
    DISORDERED,
    EmailLink,
    EmailState,
    Figures,
    settle_clicks,
    withdraw_click,
)
from little_bell.store.statements import load
from little_bell.tracking.classify import BURST, BURST_LINKS, BURST_LOOK_BACK, BURST_WINDOW
from little_bell.tracking.client import same_source
from little_bell.tracking.hit import Hit
from little_bell.tracking.rules import MACHINE

SQL = load("write.sql")

CLICKED = 256  # emails whose last clicks are kept, at most BURST_LOOK_BACK of each


class Clicks:
    """Part of a transaction: links of emails, and the clicks that a burst reaches back to."""

    __slots__ = ("cursor", "events", "figures", "memory", "pairs")

    def __init__(
        self,
        cursor: apsw.Cursor,
        memory: Memory,
        figures: Figures,
        events: list[tuple[object, ...]],
    ) -> None:
        """`events` are those of the transaction that are not written yet."""
        self.cursor = cursor
        self.memory = memory
        self.figures = figures
        self.events = events
        self.pairs: dict[tuple[int, int, int], EmailLink] = {}

    def flush_events(self) -> None:
        """Write the events so far, so that they can be read."""
        if self.events:
            self.cursor.executemany(SQL["insert_event"], self.events)
            self.events.clear()

    def rows(self) -> list[tuple[int | None, ...]]:
        """Values for `upsert_email_link`."""
        return [
            (*key, pair.clicks, pair.machine_clicks, pair.first_click)
            for key, pair in self.pairs.items()
        ]

    def pair(self, tenant: int, email: int, link: int) -> EmailLink:
        """How a link of an email was followed so far; what is changed in it is written."""
        key = (tenant, email, link)
        pair = self.pairs.get(key)
        if pair is None:
            row = self.cursor.execute(SQL["select_email_link"], key).fetchone()
            pair = self.pairs[key] = EmailLink() if row is None else EmailLink(*row)
        return pair

    def _click(self, tenant: int, seq: int | None) -> Click | None:
        if seq is None:
            return None
        row = self.cursor.execute(SQL["select_click"], (tenant, seq)).fetchone()
        return None if row is None else Click(seq, *row)

    def _last_clicks(self, hit: Hit, state: EmailState) -> list[Click]:
        """The last clicks of an email, oldest first: those a burst may reach back to."""
        key = (hit.tenant, hit.email)
        known = self.memory.clicks.get(key)
        if known is not None:
            return known
        if len(self.memory.clicks) >= CLICKED:
            self.memory.clicks.clear()
        self.flush_events()  # some may be of this very transaction
        ordered = not state.flags & DISORDERED
        found: list[Click] = []
        click = self._click(hit.tenant, state.head_click)
        while click is not None and len(found) < BURST_LOOK_BACK:
            if ordered and click.at < hit.at - BURST_WINDOW:
                break
            found.append(click)
            click = self._click(hit.tenant, click.prev)
        found.reverse()
        self.memory.clicks[key] = found
        return found

    def burst(self, hit: Hit, state: EmailState, link: int) -> bool:
        """Whether this click completes a burst; judges the earlier ones of it again."""
        if state.clicks + state.machine_clicks < BURST_LINKS - 1:
            return False
        ordered = not state.flags & DISORDERED
        newest = max(state.last_click or 0, state.last_machine_click or 0)
        if ordered and newest < hit.at - BURST_WINDOW:
            return False
        if ordered and hit.at < newest:  # what is known reaches back from a later one
            self.memory.clicks.pop((hit.tenant, hit.email), None)
        same = [
            click
            for click in self._last_clicks(hit, state)
            if abs(hit.at - click.at) <= BURST_WINDOW and same_source(click.address, hit.address)
        ]
        if len({link, *(click.link for click in same)}) < BURST_LINKS:
            return False
        again = [click for click in same if not click.reasons & BURST]
        if again:
            self._judge_again(state, again)
        return True

    def add(self, hit: Hit, click: Click, disordered: bool) -> None:
        """Remember a click among the last of its email, where these are known."""
        key = (hit.tenant, hit.email)
        known = self.memory.clicks.get(key)
        if known is not None:
            if disordered:  # from now on more of the chain counts than was read
                del self.memory.clicks[key]
                return
            known.append(click)
            if len(known) > BURST_LOOK_BACK:
                del known[0]

    def _judge_again(self, state: EmailState, clicks: list[Click]) -> None:
        """Mark earlier clicks of a burst and move what they had counted for."""
        self.flush_events()
        withdrawn: list[tuple[int, int]] = []
        pairs: dict[int, EmailLink] = {}
        known = self.memory.clicks[state.tenant, state.email]
        for click in clicks:
            if click.class_ != MACHINE:
                pair = pairs[click.link] = self.pair(state.tenant, state.email, click.link)
                withdraw_click(state, pair, click.link, click.client, click.at, self.figures)
                withdrawn.append((click.at, click.link))
            judged = click._replace(class_=MACHINE, reasons=click.reasons | BURST)
            known[known.index(click)] = judged
            self.cursor.execute(
                SQL["revise_event"],
                (MACHINE, judged.reasons, state.tenant, click.seq),
            )
        if not withdrawn:
            return
        again = {click.seq for click in clicks if click.class_ != MACHINE}
        remaining = self._remaining(state, known, min(withdrawn)[0], again)
        if state.clicks:
            remaining += self._purged(state, pairs)
        gone = {at for at, _ in withdrawn}
        known[:] = [forgetful(one, gone) for one in known]
        settle_clicks(state, pairs, withdrawn, remaining, self.figures)

    def _remaining(
        self, state: EmailState, known: list[Click], oldest: int, again: set[int]
    ) -> list[tuple[int, int]]:
        """(at, link) of clicks by people that are left in the log: at least the newest, and all
        that are not older than `oldest`, the time of the oldest that was withdrawn. `again` are
        those that were."""
        if state.clicks == 0:
            return []
        if state.flags & DISORDERED:
            left = self._since(known, again)
            return self._walk(state, state.head_click, None) if left is None else left
        left = [(one.at, one.link) for one in known if one.class_ != MACHINE and one.at >= oldest]
        left += self._walk(state, known[0].prev, oldest) if known[0].at >= oldest else []
        if left:
            return left
        last = next(one.before for one in known if one.at >= oldest)
        if last is not None and last != UNKNOWN:  # an older one: its link does not matter
            return [(last, UNKNOWN)]
        return self._walk(state, state.head_click, oldest)

    def _since(self, known: list[Click], again: set[int]) -> list[tuple[int, int]] | None:
        """The same in any order of time: what was first and last when the first of those came that
        were withdrawn, and what came since; None where the former is not known. A chain may be
        long."""
        left: list[tuple[int | None, int]] = []
        links: set[int] = set()
        for click in known:
            if click.seq in again:
                if not links:
                    left += [(click.before, UNKNOWN), (click.first, UNKNOWN)]
                if click.link not in links:
                    left.append((click.first_of_link, click.link))
                    links.add(click.link)
            elif links and click.class_ != MACHINE:
                left.append((click.at, click.link))
        if any(at == UNKNOWN for at, _ in left):
            return None
        return [(at, link) for at, link in left if at is not None]

    def _purged(self, state: EmailState, links: Iterable[int]) -> list[tuple[int, int]]:
        """(at, link) of clicks by people that left the log: the first and the last, whatever their
        links were, and the first of each of some links."""
        key = (state.tenant, state.email)
        row = self.cursor.execute(SQL["closed_clicks"], key).fetchone()
        found = [(at, UNKNOWN) for at in row or () if at is not None]
        for link in links if found else ():
            row = self.cursor.execute(SQL["closed_link"], (*key, link)).fetchone()
            if row is not None and row[2] is not None:
                found.append((row[2], link))
        return found

    def _walk(
        self, state: EmailState, seq: int | None, oldest: int | None
    ) -> list[tuple[int, int]]:
        """Clicks by people from one of the chain on: all, or those of `oldest` and younger and in
        any case one."""
        found: list[tuple[int, int]] = []
        click = self._click(state.tenant, seq)
        while click is not None and len(found) < state.clicks:
            if oldest is not None and click.at < oldest and (found or seq != state.head_click):
                break
            if click.class_ != MACHINE:
                found.append((click.at, click.link))
            click = self._click(state.tenant, click.prev)
        return found


def forgetful(click: Click, gone: set[int]) -> Click:
    """A click that does not know of others any more whose times are these."""
    times = (click.before, click.first, click.first_of_link)
    if gone.isdisjoint(times):
        return click
    before, first, first_of_link = (UNKNOWN if at in gone else at for at in times)
    return click._replace(before=before, first=first, first_of_link=first_of_link)
