"""One tick's transaction: what its emails and hits change, gathered in memory and written once."""

import apsw

from little_bell.store import idempotency
from little_bell.store.dictionary import HOUR, OTHER
from little_bell.store.memory import CLICKED, HOT, UNKNOWN, Click, Memory
from little_bell.store.projection import (
    DISORDERED,
    EmailLink,
    EmailState,
    Figures,
    StateRow,
    fresh_row,
    project_click,
    project_open,
    project_sent,
    settle_clicks,
    withdraw_click,
)
from little_bell.store.statements import load
from little_bell.store.tenants import Numbers, Tenant
from little_bell.tracking.classify import (
    BURST,
    BURST_LINKS,
    BURST_LOOK_BACK,
    BURST_WINDOW,
    INSTANT,
    classify_hit,
    is_instant,
)
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CAPPED, OPEN, Hit
from little_bell.tracking.rules import MACHINE, VERSION

SQL = load("write.sql")

# What became of a hit, beside the classes of the rules.
GONE = -1  # its email was deleted
OVER_CAP = -2  # its email had too many hits this hour


class Transaction:
    """Reads what it needs, keeps what changes, writes it with `flush`; `undo` forgets it."""

    __slots__ = (
        "at",
        "clicked",
        "created",
        "cursor",
        "events",
        "figures",
        "grown",
        "memory",
        "pairs",
        "pending",
        "snapshots",
        "states",
        "states_read",
    )

    def __init__(self, cursor: apsw.Cursor, memory: Memory, at: int) -> None:
        """`at` is now (ms UTC)."""
        self.at = at
        self.cursor = cursor
        self.memory = memory
        self.pending = memory.pending  # what it is once this is committed
        self.snapshots: dict[int, Numbers] = {}  # of tenants, before
        self.created: list[Tenant] = []
        self.states: dict[tuple[int, int], EmailState] = {}  # those that change
        self.states_read: dict[tuple[int, int], StateRow] = {}  # those that hits will need
        self.clicked: set[tuple[int, int]] = set()  # of states: also by clicks
        self.pairs: dict[tuple[int, int, int], EmailLink] = {}
        self.events: list[tuple[object, ...]] = []
        self.figures = Figures()
        self.grown: dict[tuple[int, int], int] = {}  # (seq, tenant) of capped rows: hits more

    def undo(self) -> None:
        """It was rolled back: what is kept in memory is as it was before."""
        memory = self.memory
        for id_, numbers in self.snapshots.items():
            memory.tenants.by_id[id_].restore(numbers)
        for tenant in self.created:
            memory.tenants.discard(tenant)
        memory.rolled_back(self.states)

    def _tenant(self, id_: int) -> Tenant:
        tenant = self.memory.tenants.by_id[id_]
        if id_ not in self.snapshots:
            self.snapshots[id_] = tenant.numbers()
        return tenant

    # Emails

    def tenant_named(self, name: str, at: int) -> Tenant:
        """A tenant whose numbers are about to grow; a new one where none has the name."""
        known = self.memory.tenants.by_name.get(name.encode("ascii"))
        if known is None:
            known = Tenant(self.memory.tenants.last + 1, name)
            self.cursor.execute(SQL["insert_tenant"], (known.id, known.name, at))
            self.memory.tenants.add(known)
            self.created.append(known)
        return self._tenant(known.id)

    def create(self, at: int, email: NewEmail) -> tuple[int, int]:
        """Add an email (and its tenant); returns the tenant's number and the email's id."""
        tenant = self.tenant_named(email.tenant, at)
        tenant.last_email = number = tenant.last_email + 1
        campaign = None
        if email.campaign is not None:
            campaign = self.memory.campaigns.number(self.cursor, tenant, email.campaign, at)
        self.cursor.execute(
            SQL["insert_email"],
            (tenant.id, number, email.subject, email.recipient, email.metadata),
        )
        self.cursor.execute(SQL["insert_state"], (tenant.id, number, at, campaign))
        project_sent(EmailState(tenant.id, number, fresh_row(at, campaign)), self.figures)
        if email.once is not None:
            idempotency.keep(self.cursor, tenant.id, email.once, number, 1, at)
        return tenant.id, number

    # Hits

    def read_states(self, hits: list[Hit]) -> None:
        """Read what the emails of a tick's hits need, all at once (1.1 x)."""
        keys = self.memory.unknown({(hit.tenant, hit.email) for hit in hits})
        if keys:
            for row in self.cursor.executemany(SQL["select_states"], sorted(keys)):
                self.states_read[row[17], row[18]] = row[:17]

    def _state(self, tenant: int, email: int) -> EmailState | None:
        """What became of an email so far; None where it is gone."""
        key = (tenant, email)
        state = self.states.get(key)
        if state is None:
            state = self.memory.state(key)
            if state is None:
                row = self.states_read.pop(key, None)
                if row is None:
                    row = self.cursor.execute(SQL["select_state"], key).fetchone()
                if row is None:
                    return None
                state = EmailState(tenant, email, row)
            self.states[key] = state
        return state

    def hit(self, hit: Hit) -> int:
        """Add an open or a click; returns its class, GONE or OVER_CAP."""
        pending = self.pending
        if pending and hit.tenant == pending.tenant and pending.first <= hit.email <= pending.last:
            return GONE
        state = self._state(hit.tenant, hit.email)
        if state is None:
            return GONE
        tenant = self._tenant(hit.tenant)
        total = state.opens + state.machine_opens + state.clicks + state.machine_clicks
        if total >= self.memory.limits.hits_per_email_hour and self._over_cap(tenant, hit):
            return OVER_CAP
        verdict = self.memory.verdict(hit.user_agent)
        if hit.flags:
            verdict = classify_hit(verdict, hit.flags)
        class_, _, reasons = verdict
        agent = self.memory.agents.number(self.cursor, tenant, hit.user_agent, hit.at)
        if hit.kind == OPEN:
            link = None
            prev = state.head_open
            project_open(state, hit.at, class_, self.figures)
            state.head_open = tenant.last_seq + 1
        else:
            link = self.memory.links.number(self.cursor, tenant, hit.url or "", hit.at)
            if is_instant(state.created_at, hit.at, self.memory.limits.instant_ms):
                class_, reasons = MACHINE, reasons | INSTANT
            if self._burst(hit, state, link):
                class_, reasons = MACHINE, reasons | BURST
            self.clicked.add((hit.tenant, hit.email))
            prev = state.head_click
            pair = self._pair(hit.tenant, hit.email, link)
            ordered, before = state.flags, state.last_click
            project_click(state, pair, link, hit.at, class_, self.figures)
            state.head_click = tenant.last_seq + 1
            click = Click(
                state.head_click, hit.at, link, hit.address, prev, class_, reasons, before
            )
            self._clicked(hit, click, state.flags != ordered)
        tenant.last_seq = seq = tenant.last_seq + 1
        self.events.append(
            (
                hit.tenant,
                seq,
                hit.at,
                hit.email,
                hit.kind,
                hit.flags,
                agent,
                link,
                hit.address,
                prev,
                class_,
                reasons,
                VERSION,
                None,
            )
        )
        return class_

    def _over_cap(self, tenant: Tenant, hit: Hit) -> bool:
        """Whether an email that had many hits already has had its share of this hour.

        Counted in memory, so a restart grants a new share.
        """
        key = (hit.tenant, hit.email)
        now = hit.at // HOUR
        hour, count, capped = self.memory.hot.get(key, (now, 0, 0))
        if hour != now:
            hour, count, capped = now, 0, 0
        count += 1
        over = count > self.memory.limits.hits_per_email_hour
        if over and capped:
            self.grown[capped, hit.tenant] = self.grown.get((capped, hit.tenant), 0) + 1
        elif over:
            tenant.last_seq = capped = tenant.last_seq + 1
            row = (tenant.id, capped, hit.at, hit.email, CAPPED, 0)
            self.events.append((*row, None, None, None, None, None, 0, VERSION, 1))
        if len(self.memory.hot) >= HOT:
            self.memory.hot.clear()
        self.memory.hot[key] = (hour, count, capped)
        return over

    # Clicks

    def _pair(self, tenant: int, email: int, link: int) -> EmailLink:
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
        self._flush_events()  # some may be of this very transaction
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

    def _burst(self, hit: Hit, state: EmailState, link: int) -> bool:
        """Whether this click completes a burst; judges the earlier ones of it again."""
        if state.clicks + state.machine_clicks < BURST_LINKS - 1:
            return False
        ordered = not state.flags & DISORDERED
        newest = max(state.last_click or 0, state.last_machine_click or 0)
        if ordered and newest < hit.at - BURST_WINDOW:
            return False
        same = [
            click
            for click in self._last_clicks(hit, state)
            if abs(hit.at - click.at) <= BURST_WINDOW and click.address == hit.address
        ]
        if len({link, *(click.link for click in same)}) < BURST_LINKS:
            return False
        again = [click for click in same if not click.reasons & BURST]
        if again:
            self._judge_again(state, again)
        return True

    def _clicked(self, hit: Hit, click: Click, disordered: bool) -> None:
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
        self._flush_events()
        withdrawn: list[tuple[int, int]] = []
        pairs: dict[int, EmailLink] = {}
        known = self.memory.clicks[state.tenant, state.email]
        for click in clicks:
            if click.class_ != MACHINE:
                pair = pairs[click.link] = self._pair(state.tenant, state.email, click.link)
                withdraw_click(state, pair, click.link, click.at, self.figures)
                withdrawn.append((click.at, click.link))
            judged = click._replace(class_=MACHINE, reasons=click.reasons | BURST)
            known[known.index(click)] = judged
            self.cursor.execute(
                SQL["revise_event"],
                (MACHINE, judged.reasons, VERSION, state.tenant, click.seq),
            )
        if not withdrawn:
            return
        remaining = self._remaining(state, known, min(withdrawn)[0])
        gone = {at for at, _ in withdrawn}
        known[:] = [one._replace(before=UNKNOWN) if one.before in gone else one for one in known]
        settle_clicks(state, pairs, withdrawn, remaining, self.figures)

    def _remaining(
        self, state: EmailState, known: list[Click], oldest: int
    ) -> list[tuple[int, int]]:
        """(at, link) of clicks by people that are left: at least the newest, and all that are not
        older than `oldest`, the time of the oldest that was withdrawn."""
        if state.clicks == 0:
            return []
        if state.flags & DISORDERED:
            return self._walk(state, state.head_click, None)
        left = [(one.at, one.link) for one in known if one.class_ != MACHINE and one.at >= oldest]
        left += self._walk(state, known[0].prev, oldest) if known[0].at >= oldest else []
        if left:
            return left
        last = next(one.before for one in known if one.at >= oldest)
        if last is not None and last != UNKNOWN:  # an older one: its link does not matter
            return [(last, OTHER)]
        return self._walk(state, state.head_click, oldest)

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

    # Rows

    def _flush_events(self) -> None:
        if self.events:
            self.cursor.executemany(SQL["insert_event"], self.events)
            self.events.clear()

    def flush_figures(self) -> None:
        """Write what was added to figures so far."""
        rows = self.figures.rows()
        if rows:
            self.cursor.executemany(SQL["add_figures"], rows)
        self.figures.changes.clear()

    def flush(self) -> None:
        """Write everything that was gathered."""
        self._flush_events()
        if self.states:
            self.cursor.executemany(
                SQL["update_opens"],
                [
                    state.opens_row()
                    for key, state in self.states.items()
                    if key not in self.clicked
                ],
            )
        if self.clicked:
            self.cursor.executemany(
                SQL["update_state"],
                [self.states[key].row() for key in self.clicked],
            )
        if self.pairs:
            self.cursor.executemany(
                SQL["upsert_email_link"],
                [
                    (*key, pair.clicks, pair.machine_clicks, pair.first_click)
                    for key, pair in self.pairs.items()
                ],
            )
        for (seq, tenant), n in self.grown.items():
            self.cursor.execute(SQL["grow_cap"], (n, tenant, seq))
        self.flush_figures()
        for id_ in self.snapshots:
            numbers = self.memory.tenants.by_id[id_].numbers()
            self.cursor.execute(SQL["update_tenant"], (id_, *numbers))
