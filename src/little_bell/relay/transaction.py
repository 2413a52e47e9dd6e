"""One message's way: MAIL, its RCPTs and DATA, each answered by the upstream."""

from time import monotonic
from typing import TYPE_CHECKING

from little_bell.ops.logs import INFO, WARN
from little_bell.relay.credentials import Login
from little_bell.relay.envelope import Path
from little_bell.relay.reply import Reply, reply
from little_bell.relay.tracker import untracked, whole_lines
from little_bell.relay.upstream import LOST, Conversation, NotNow

if TYPE_CHECKING:
    from little_bell.relay.service import Service

STRAY = reply(554, "5.6.0 the message holds a CR or LF that ends no line")
BODY = reply(501, "5.5.4 BODY is 7BIT or 8BITMIME")
NO_8BIT = reply(554, "5.6.3 the upstream takes no 8-bit messages, and this one is not changed")
NO_UTF8 = reply(553, "5.6.7 the upstream takes no SMTPUTF8")


class Transaction:
    """Its steps give the answer for the client, or raise NotNow."""

    def __init__(self, service: "Service", login: Login, spare: Conversation | None) -> None:
        self.service = service
        self.login = login
        self.conversation = spare
        self.begun = monotonic()
        self.accepted = 0  # recipients
        self.recipient = ""  # the first of them
        self.email_id: int | None = None
        self.answered = False  # the upstream said what became of the message
        self.lost: Reply | None = None  # the conversation is
        self.reasons: list[str] = []  # of what did not go as it should
        self.note: str | None = None  # what else is worth a word

    async def begin(self, path: Path) -> Reply:
        """MAIL, in the conversation kept from before if it is still there, else in a new one."""
        if self.conversation is not None:
            try:
                said = await self._mail(self.conversation, path)
                if not said.closing:
                    return said
            except NotNow:
                pass  # it was closed while nothing was said
            self.conversation.abort()
        self.conversation = self.service.conversation()
        try:
            await self.conversation.open(self.service.settings.limits.open)
            self.service.know(self.conversation.offers)
            return await self._mail(self.conversation, path)
        except NotNow as trouble:
            self._note(trouble)
            raise

    async def _mail(self, conversation: Conversation, path: Path) -> Reply:
        offers = conversation.offers
        body = (path.value("BODY") or b"").upper()
        if body not in (b"", b"7BIT", b"8BITMIME"):
            return BODY
        if "8bitmime" not in offers:
            if body == b"8BITMIME":
                return NO_8BIT
            path = path.without("BODY")
        if "smtputf8" not in offers and path.value("SMTPUTF8") is not None:
            return NO_UTF8
        if "size" not in offers:  # ours is announced
            path = path.without("SIZE")
        return await conversation.ask(
            path.command(b"MAIL FROM:"), self.service.settings.limits.command
        )

    async def add(self, path: Path) -> Reply:
        """RCPT."""
        if self.lost is not None or self.conversation is None:
            return self.lost or LOST
        try:
            said = await self.conversation.ask(
                path.command(b"RCPT TO:"), self.service.settings.limits.command
            )
        except NotNow as trouble:
            self._note(trouble)
            raise
        if said.good:
            self.accepted += 1
            self.recipient = self.recipient or path.recipient
        return said

    async def finish(self, message: bytes) -> Reply:
        """The message, tracked if that can be."""
        conversation = self.conversation
        if conversation is None:
            return LOST
        if not whole_lines(message):
            return STRAY
        if "8bitmime" not in conversation.offers and not message.isascii():
            return NO_8BIT
        alone = self.recipient if self.accepted == 1 else ""
        outcome = await self.service.tracker.track(message, self.login, alone)
        most = conversation.offers.get("size", "")
        if most.isdecimal() and len(message) <= int(most) < len(outcome.message):
            outcome = untracked(message, "the upstream takes no message of the tracked one's size")
        if outcome.problem is not None:
            self.reasons.append(outcome.problem)
        self.email_id, self.note = outcome.email_id, outcome.note
        try:
            said = await conversation.send(outcome.message)
        except NotNow as trouble:
            self._note(trouble)
            raise
        self.answered = True
        return said

    def _note(self, trouble: NotNow) -> None:
        self.lost = trouble.answer
        self.reasons.append(trouble.reason)

    def close(self, said: Reply | None) -> Conversation | None:
        """It is over: `said` was the last answer; None: the client went on, or away. Gives the
        conversation back where another transaction may follow in it."""
        conversation, spare = self.conversation, None
        doubt = conversation is not None and conversation.in_doubt
        if conversation is not None:
            if self.answered and conversation.usable:
                spare = conversation
            elif doubt or said is None:
                conversation.abort()
            else:
                self.service.part(conversation)
        fields: dict[str, object] = {
            "tenant_id": self.login.tenant,
            "email_id": self.email_id,
            "recipients": self.accepted,
            "answer": said.short if said is not None else None,
            "milliseconds": round((monotonic() - self.begun) * 1000),
        }
        if self.reasons:
            fields["reason"] = "; ".join(self.reasons)
        if self.note:
            fields["note"] = self.note
        if doubt:
            fields["in_doubt"] = True  # RFC 1047: the upstream may have taken it
        done = self.answered and said is not None and said.good
        log = self.service.log
        log.write(
            WARN if self.reasons or doubt else INFO,
            "A message was relayed" if done else "A message was not relayed",
            **fields,
        )
        log.flush()
        return spare
