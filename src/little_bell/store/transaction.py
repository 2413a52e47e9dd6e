"""One tick's transaction: what its emails and hits change, gathered in memory and written once."""

import apsw

from little_bell.store import idempotency
from little_bell.store.aggregates import Aggregates
from little_bell.store.blocks import Blocked
from little_bell.store.clicks import Clicks
from little_bell.store.dictionary import HOUR, OTHER
from little_bell.store.memory import HOT, TENANT_GOING, Click, Memory, Unfinished
from little_bell.store.optouts import OptOuts
from little_bell.store.projection import (
    OPTED_OUT,
    EmailState,
    Figures,
    StateRow,
    fresh_row,
    project_click,
    project_open,
    project_sent,
)
from little_bell.store.statements import load
from little_bell.store.tenants import Numbers, Policy, Tenant
from little_bell.tracking.classify import BURST, INSTANT, classify_hit, is_instant
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CAPPED, OPEN, Hit
from little_bell.tracking.privacy import FULL, NONE
from little_bell.tracking.rules import MACHINE, VERSION

SQL = load("write.sql")

# What became of a hit, beside the classes of the rules.
GONE = -1  # its email was deleted
OVER_CAP = -2  # its email had too many hits this hour
WITHHELD = -3  # it may not be stored: by its email's or its tenant's consent,
LEFT_ALONE = -4  # or because its recipient opted out

AGGREGATED = 8  # added to the class of one that is stored without its email


class Transaction:
    """Reads what it needs, keeps what changes, writes it with `flush`; `undo` forgets it."""

    __slots__ = (
        "aggregates",
        "at",
        "balances",
        "blocked",
        "clicked",
        "clicks",
        "created",
        "cursor",
        "events",
        "figures",
        "grown",
        "memory",
        "optouts",
        "pending",
        "replaced",
        "settled",
        "snapshots",
        "states",
        "states_read",
        "unfinished",
    )

    def __init__(self, cursor: apsw.Cursor, memory: Memory, at: int) -> None:
        """`at` is now (ms UTC)."""
        self.at = at
        self.cursor = cursor
        self.memory = memory
        self.pending = memory.pending  # what it is once this is committed
        self.unfinished = memory.unfinished  # the same; another dict where it changes
        self.optouts = OptOuts(cursor, memory)
        self.settled: list[tuple[Tenant, Policy, bytes | None]] = []  # policy and salt, before
        self.blocked: dict[int, Blocked] = {}  # of tenants that switch something off or on
        self.snapshots: dict[int, Numbers] = {}  # of tenants, before
        self.replaced: list[tuple[Tenant, Tenant]] = []  # tenants that went: the old and the new
        self.created: list[Tenant] = []
        self.states: dict[tuple[int, int], EmailState] = {}  # those that change
        self.states_read: dict[tuple[int, int], StateRow] = {}  # those that hits will need
        self.clicked: set[tuple[int, int]] = set()  # of states: also by clicks
        self.events: list[tuple[object, ...]] = []
        self.figures = Figures()
        self.aggregates = Aggregates(cursor, memory, self.figures)
        self.balances = Figures()  # of what leaves the log
        self.clicks = Clicks(cursor, memory, self.figures, self.events)
        self.grown: dict[tuple[int, int], int] = {}  # (seq, tenant) of capped rows: hits more

    def undo(self) -> None:
        """It was rolled back: what is kept in memory is as it was before."""
        memory = self.memory
        for settled, policy, salt in reversed(self.settled):
            settled.policy, settled.salt = policy, salt
        self.aggregates.undo()
        for old, new in reversed(self.replaced):
            memory.tenants.discard(new)
            memory.tenants.add(old)
        for id_, numbers in self.snapshots.items():
            memory.tenants.by_id[id_].restore(numbers)
        for tenant in self.created:
            memory.tenants.discard(tenant)
        memory.rolled_back(self.states)

    def tenant(self, id_: int) -> Tenant:
        """A tenant whose numbers are about to grow."""
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
            self.cursor.execute(SQL["insert_tenant"], (known.id, known.name, at, VERSION))
            self.memory.tenants.add(known)
            self.created.append(known)
        return self.tenant(known.id)

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
        flags = OPTED_OUT if self.optouts.hold(tenant, email.recipient) else 0
        self.cursor.execute(
            SQL["insert_state"], (tenant.id, number, at, campaign, email.consent, flags)
        )
        project_sent(EmailState(tenant.id, number, fresh_row(at, campaign)), self.figures)
        if email.once is not None:
            idempotency.keep(self.cursor, tenant.id, email.once, number, 1, at)
        return tenant.id, number

    # Who is left alone

    def settle(self, tenant: Tenant) -> Tenant:
        """A tenant whose policy or salt is about to change."""
        self.settled.append((tenant, tenant.policy, tenant.salt))
        return tenant

    def mark(self, key: tuple[int, int], opted_out: bool) -> None:
        """Let an email know that its recipient is left alone, or is not any more."""
        name = "mark_opted_out" if opted_out else "unmark_opted_out"
        self.cursor.execute(SQL[name], key)
        self.states_read.pop(key, None)
        state = self.states.get(key)
        if state is None:
            self.memory.forget(key)
        else:  # what was hit in this very tick is still to be written
            state.flags = state.flags | OPTED_OUT if opted_out else state.flags & ~OPTED_OUT

    # Hits

    def read_states(self, hits: list[Hit]) -> None:
        """Read what the emails of a tick's hits need, all at once (1.1 x)."""
        keys = self.memory.unknown({(hit.tenant, hit.email) for hit in hits})
        if keys:
            for row in self.cursor.executemany(SQL["select_states"], sorted(keys)):
                self.states_read[row[18], row[19]] = row[:18]

    def state(self, tenant: int, email: int) -> EmailState | None:
        """What became of an email so far; None where it is gone."""
        key = (tenant, email)
        state = self.states.get(key)
        if state is None:
            state = self._look(key)
            if state is not None:
                self.states[key] = state
        return state

    def _look(self, key: tuple[int, int]) -> EmailState | None:
        """The state of an email that did not change yet, and perhaps will not."""
        state = self.memory.state(key)
        if state is None:
            row = self.states_read.get(key)
            if row is None:
                row = self.cursor.execute(SQL["select_state"], key).fetchone()
            if row is None:
                return None
            state = EmailState(*key, row)
        return state

    def hit(self, hit: Hit) -> int:
        """Add an open or a click; returns its class, and AGGREGATED with it where its email is not
        stored; or why nothing is."""
        pending = self.pending
        if pending and pending.holds(hit.tenant, hit.email):
            return GONE
        if hit.tenant not in self.memory.tenants.by_id:
            return GONE
        key = (hit.tenant, hit.email)
        state = self.states.get(key) or self._look(key)
        if state is None:
            return GONE
        if hit.consent or state.consent or state.flags & OPTED_OUT or self.optouts.marking:
            less = self._less(hit, state)
            if less is not None:
                return less
        tenant = self.tenant(hit.tenant)
        self.states[key] = state
        total = state.opens + state.machine_opens + state.clicks + state.machine_clicks
        if total >= self.memory.limits.hits_per_email_hour and self._over_cap(tenant, hit):
            return OVER_CAP
        verdict = self.memory.verdict(hit.user_agent)
        if hit.flags:
            verdict = classify_hit(verdict, hit.flags)
        class_, _, reasons, client = verdict
        agent = self.memory.agents.number(self.cursor, tenant, hit.user_agent, hit.at)
        if agent == OTHER:  # as the log will know it
            client = 0
        if hit.kind == OPEN:
            link = None
            prev = state.head_open
            project_open(state, client, hit.at, class_, self.figures)
            state.head_open = tenant.last_seq + 1
        else:
            link = self.memory.link(self.cursor, tenant, hit)
            if is_instant(state.created_at, hit.at, self.memory.limits.instant_ms):
                class_, reasons = MACHINE, reasons | INSTANT
            if self.clicks.burst(hit, state, link):
                class_, reasons = MACHINE, reasons | BURST
            self.clicked.add(key)
            prev = state.head_click
            pair = self.clicks.pair(hit.tenant, hit.email, link)
            ordered = state.flags
            before = (state.last_click, state.first_click, pair.first_click)
            project_click(state, pair, link, client, hit.at, class_, self.figures)
            state.head_click = tenant.last_seq + 1
            seen = (state.head_click, hit.at, link, hit.address, prev, class_, reasons, client)
            click = Click(*seen, *before)
            self.clicks.add(hit, click, state.flags != ordered)
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
                client,
            )
        )
        return class_

    def _less(self, hit: Hit, state: EmailState) -> int | None:
        """What became of a hit of which not all may be stored; None where it may."""
        if self.optouts.hold_that_of(state):
            return LEFT_ALONE
        consent = max(hit.consent, state.consent)
        if consent == FULL:
            return None
        if consent == NONE:
            return WITHHELD
        tenant = self.tenant(hit.tenant)
        self.aggregates.emails.add((hit.tenant, hit.email))
        if self._over_cap(tenant, hit, quiet=True):
            return OVER_CAP
        return self.aggregates.add(tenant, hit, state) | AGGREGATED

    def _over_cap(self, tenant: Tenant, hit: Hit, quiet: bool = False) -> bool:
        """Whether an email that had many hits already has had its share of this hour.

        Counted in memory, so a restart grants a new share. `quiet`: no row tells of it.
        """
        key = (hit.tenant, hit.email)
        now = hit.at // HOUR
        hour, count, capped = self.memory.hot.get(key, (now, 0, 0))
        if hour != now:
            hour, count, capped = now, 0, 0
        count += 1
        over = count > self.memory.limits.hits_per_email_hour
        if over and quiet:
            pass
        elif over and capped:
            self.grown[capped, hit.tenant] = self.grown.get((capped, hit.tenant), 0) + 1
        elif over:
            tenant.last_seq = capped = tenant.last_seq + 1
            row = (tenant.id, capped, hit.at, hit.email, CAPPED, 0)
            self.events.append((*row, None, None, None, None, None, 0, VERSION, 1, None))
        if len(self.memory.hot) >= HOT:
            self.memory.hot.clear()
        self.memory.hot[key] = (hour, count, capped)
        return over

    # Edits

    def replace_tenant(self, old: Tenant) -> None:
        """Let a tenant begin anew, under another number, with no id handed out twice. What is
        stored under the old number is found by nobody any more, and swept later."""
        new = Tenant(self.memory.tenants.last + 1, old.name, *old.numbers())
        new.policy, new.salt = old.policy, old.salt
        new.blocked = self.blocked.pop(old.id, old.blocked)
        if new.blocked is not None:  # at most MAX_BLOCKS rows
            self.cursor.execute(SQL["renumber_blocks"], (new.id, old.id))
        self.cursor.execute(SQL["renumber_tenant"], (new.id, old.id))
        self.cursor.execute(SQL["renumber_keys"], (new.id, old.id))  # its name stays closed
        # Emails of this very tick have ids too: `flush` knows the old number alone.
        self.cursor.execute(SQL["update_tenant"], (new.id, *new.numbers()))
        self.memory.tenants.discard(old)
        self.memory.tenants.add(new)
        self.replaced.append((old, new))
        self.unfinish(Unfinished(old.id, 0, TENANT_GOING, None, None, None))

    def unfinish(self, rest: Unfinished) -> None:
        """Keep what is left for later."""
        self.cursor.execute(SQL["upsert_unfinished"], rest)
        self.unfinished = {**self.unfinished, (rest.tenant, rest.email): rest}

    def finished(self, *keys: tuple[int, int]) -> None:
        """Nothing is left of these."""
        over = {key for key in keys if key in self.unfinished}
        if over:
            self.cursor.executemany(SQL["delete_unfinished"], sorted(over))
            self.unfinished = {k: rest for k, rest in self.unfinished.items() if k not in over}

    def forget(self, key: tuple[int, int]) -> None:
        """An email is gone."""
        self.states.pop(key, None)
        self.states_read.pop(key, None)
        self.clicked.discard(key)
        self.memory.forget(key)
        self.memory.hot.pop(key, None)

    def changes(self) -> int:
        """Rows that the last statement changed."""
        return self.cursor.connection.changes()

    # Rows

    def flush_figures(self) -> None:
        """Write what was added to figures so far."""
        rows = self.figures.rows()
        if rows:
            self.cursor.executemany(SQL["add_figures"], rows)
            self.cursor.executemany(SQL["add_days"], self.figures.day_rows())
        self.figures.changes.clear()

    def flush_states(self) -> None:
        """Write what became of emails so far."""
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
        if self.clicks.pairs:
            self.cursor.executemany(SQL["upsert_email_link"], self.clicks.rows())
            self.clicks.pairs.clear()

    def flush(self) -> None:
        """Write everything that was gathered."""
        self.clicks.flush_events()
        self.aggregates.flush()
        self.flush_states()
        for (seq, tenant), n in self.grown.items():
            self.cursor.execute(SQL["grow_cap"], (n, tenant, seq))
        self.flush_figures()
        if self.balances.changes:
            self.cursor.executemany(SQL["add_balances"], self.balances.rows())
        by_id = self.memory.tenants.by_id
        for id_ in self.snapshots:
            if id_ in by_id:
                self.cursor.execute(SQL["update_tenant"], (id_, *by_id[id_].numbers()))
