"""One client's connection: each of its commands becomes one of the upstream's, or is refused."""

import asyncio
import binascii
from base64 import b64decode
from collections import defaultdict
from time import monotonic
from typing import TYPE_CHECKING, Any, AnyStr

from aiosmtpd.smtp import MISSING, SMTP, TLSSetupException

from little_bell.relay.credentials import Login
from little_bell.relay.dots import read_pieces, whole
from little_bell.relay.envelope import read_path
from little_bell.relay.reply import Reply, reply
from little_bell.relay.settings import is_local
from little_bell.relay.transaction import Transaction
from little_bell.relay.upstream import Conversation, NotNow

if TYPE_CHECKING:
    from little_bell.relay.service import Service

LONGEST_COMMAND = 4096  # octets
LONGEST_READ = 1 << 16  # octets of a line, as long as it may be, that are kept
CLOSE_SECONDS = 5.0  # in which a client has to take the last answer
CODES = {214: "2.0.0", 220: "2.0.0", 221: "2.0.0", 250: "2.0.0", 454: "4.7.0", 500: "5.5.2"}
CODES |= {501: "5.5.4", 502: "5.5.1", 503: "5.5.1"}
UNKNOWN = "500 5.5.2 Error: command not recognized"

STOPPING = reply(421, "4.3.2 the relay is stopping; try again later")
IDLE = reply(421, "4.4.2 nothing came for too long")
NO_AUTH = reply(530, "5.7.0 Authentication required")
NO_MAIL = reply(503, "5.5.1 Error: need MAIL command")
NO_RCPT = reply(503, "5.5.1 Error: need RCPT command")
TOO_LARGE = reply(552, "5.3.4 the message is larger than is taken here")
NO_MEMORY = reply(452, "4.3.1 too many messages are under way; try again later")
ONE_ONLY = reply(452, "4.5.3 one recipient at a time; send to this one again")
FAULT = reply(451, "4.3.0 a fault of the relay; try again later")


class Session(SMTP):
    """From aiosmtpd: the loop over commands, STARTTLS, the challenges of AUTH. Commands that carry
    mail are ours, since it takes neither parameters of DSN nor lines beyond 1,000 octets, and
    reads addresses where we pass them on."""

    line_length_limit = LONGEST_READ
    command_size_limit = LONGEST_COMMAND  # after HELO

    def __init__(self, service: "Service") -> None:
        self.service = service
        self.limits = service.settings.limits
        super().__init__(
            None,
            data_size_limit=service.settings.max_size,
            enable_SMTPUTF8=True,
            hostname=service.name,
            ident="Little Bell",
            tls_context=service.tls,
            auth_required=True,
            timeout=self.limits.log_in,
            loop=asyncio.get_running_loop(),
        )
        self.command_size_limits = defaultdict(lambda: LONGEST_COMMAND)
        self.login: Login | None = None
        self.local = False
        self.source = b""
        self.mail: Transaction | None = None
        self.spare: Conversation | None = None  # whose transaction is over, for the next one
        self.receiving = False  # a message
        self.asking = False  # someone else, whose time is bounded there
        self.heard_at = monotonic()

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Twice, where STARTTLS came: what was said in the clear is forgotten (RFC 3207 4.2)."""
        self.login = None
        self._leave(None)
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        self.local = is_local(address)
        self.source = self.service.source(address)
        self.service.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.service.sessions.discard(self)
        super().connection_lost(error)
        self._leave(None)
        if self.spare is not None:
            self.service.part(self.spare)

    def data_received(self, data: bytes) -> None:
        self.heard_at = monotonic()
        super().data_received(data)

    def _reset_timeout(self, duration: float | None = None) -> None:
        if duration is None and self.login is None and self._timeout_handle is not None:
            return  # the time to log in passes, whatever else is said
        super()._reset_timeout(duration)

    def _timeout_cb(self) -> None:
        quiet = monotonic() - self.heard_at
        limit = self.limits.block if self.receiving else self.limits.command
        if self.asking:
            self._reset_timeout(min(self.limits.log_in, self.limits.command))
        elif self.login is not None and quiet < limit:
            self._reset_timeout(limit - quiet)
        else:
            self.end(IDLE)

    def end(self, last: Reply) -> None:
        """Say this and close, whether the client takes it or not."""
        transport = self.transport
        if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
            transport.write(last.raw + b"\r\n")
            transport.close()
            self.loop.call_later(CLOSE_SECONDS, transport.abort)

    def stop(self) -> None:
        """The relay stops: only a message that is under way goes on."""
        if not self.receiving:
            self.end(STOPPING)

    async def answer(self, said: Reply) -> None:
        """Tell the client; after 421 the connection ends (RFC 5321 3.8)."""
        if said.closing:
            self.end(said)
        else:
            await self.push(said.raw)

    async def push(self, status: AnyStr) -> None:
        """aiosmtpd's own texts get enhanced codes, which were announced (RFC 2034)."""
        if not isinstance(status, str):
            await self._push(status)
            return
        if status.startswith("500 Error: command "):  # repeats what came, whatever bytes it has
            status = UNKNOWN
        code, _, text = status.partition(" ")
        known = CODES.get(int(code) if code.isdigit() else 0)
        if known and text[1:2] != "." and not text.startswith(self.hostname):
            text = f"{known} {text}"
        await self._push(f"{code} {text}")

    async def _push(self, status: AnyStr) -> None:
        try:
            await super().push(status)
        except OSError:  # the client is away, which is no fault
            raise asyncio.CancelledError from None

    async def handle_exception(self, error: Exception) -> str:
        if isinstance(error, TLSSetupException):
            return ""  # whoever came spoke no TLS of ours, and aiosmtpd hangs up
        self.service.log.fault("A fault in a session", error)
        self.service.log.flush()
        self._leave(FAULT)
        return FAULT.raw.decode()

    # Commands before mail.

    async def smtp_HELO(self, hostname: str | None) -> None:
        await self._greet(hostname, False)

    async def smtp_EHLO(self, hostname: str | None) -> None:
        await self._greet(hostname, True)

    async def _greet(self, name: str | None, extended: bool) -> None:
        if not name:
            await self.push("501 Syntax: EHLO hostname")
            return
        self._leave(None)
        assert self.session is not None  # noqa: S101
        self.session.host_name = name
        self.session.extended_smtp = extended
        lines = [self.hostname]
        if extended:
            self.asking = True
            offers = await self.service.offers()
            self.asking = False
            lines += ["PIPELINING", f"SIZE {self.service.most(offers)}"]
            passed = ("8bitmime", "smtputf8", "dsn", "enhancedstatuscodes")
            lines += [offer.upper() for offer in passed if offer in offers]
            if self.tls_context and not self._tls_protocol:
                lines.append("STARTTLS")
            if self._may_log_in():
                lines.append("AUTH PLAIN LOGIN")
        await self.answer(Reply(250, tuple(line.encode("ascii") for line in lines)))

    def _may_log_in(self) -> bool:
        return self._tls_protocol is not None or self.local

    async def smtp_AUTH(self, arg: str | None) -> None:
        """PLAIN (RFC 4616) and LOGIN, the user being the tenant and the password a key."""
        words = (arg or "").split()
        if await self.check_helo_needed("EHLO"):
            return
        if not self._may_log_in():
            await self.push("538 5.7.11 Encryption required: use STARTTLS")
        elif self.login is not None or self.mail is not None:
            await self.push("503 5.5.1 Error: not now")
        elif not 1 <= len(words) <= 2:
            await self.push("501 Syntax: AUTH mechanism [initial-response]")
        elif words[0].upper() not in ("PLAIN", "LOGIN"):
            await self.push("504 5.5.4 Unrecognized authentication type")
        else:
            try:
                given = await self._credentials(words[0].upper(), words[1:])
            except ValueError:  # longer than is read at once
                await self.push("500 5.5.6 Authentication exchange line is too long")
                return
            if given is not None:
                await self._log_in(given)

    async def _credentials(self, mechanism: str, initial: list[str]) -> Login | None:
        """What the client says it is; None where it was answered already."""
        first: Any
        if initial:
            try:
                first = b"" if initial[0] == "=" else b64decode(initial[0], validate=True)
            except (binascii.Error, ValueError):
                await self.push("501 5.5.2 Can't decode base64")
                return None
        else:
            first = await self.challenge_auth("" if mechanism == "PLAIN" else "User Name\0")
        if first is MISSING:
            return None
        if mechanism == "PLAIN":
            fields = first.split(b"\0")
            if len(fields) != 3 or fields[0] not in (b"", fields[1]):
                await self.push("535 5.7.8 Authentication credentials invalid")
                return None
            user, key = fields[1], fields[2]
        else:
            user, key = first, await self.challenge_auth("Password\0")
            if key is MISSING:
                return None
        text = [one.decode("utf-8", "surrogateescape") for one in (user, key)]
        return Login(text[0], text[1], self.local)

    async def _log_in(self, given: Login) -> None:
        # One program of this machine with a wrong key does not shut the others out.
        source = self.source + (given.tenant.encode("utf-8", "replace") if self.local else b"")
        async with self.service.one_try:  # many at once are no way around the count
            slowed = self.service.slowed(source)
            admitted = False if slowed else await self.service.admits(given)
            if admitted is False and not slowed:
                self.service.failed(source)
        if slowed:
            await self.push("454 4.7.0 too many wrong keys came from this address; try again later")
        elif admitted is None:
            await self.push("454 4.7.0 Temporary authentication failure")
        elif admitted:
            self.login = given
            self._timeout_duration = self.limits.command
            self._reset_timeout()
            await self.push("235 2.7.0 Authentication successful")
        else:
            await self.push("535 5.7.8 Authentication credentials invalid")

    async def smtp_VRFY(self, _arg: str | None) -> None:
        await self.push("252 2.1.5 Cannot VRFY user, but will accept message and try delivery")

    async def smtp_RSET(self, arg: str | None) -> None:
        if arg:
            await self.push("501 Syntax: RSET")
            return
        self._leave(None)
        await self.push("250 OK")

    async def smtp_QUIT(self, arg: str | None) -> None:
        if not arg:
            self._leave(None)
        await super().smtp_QUIT(arg)

    # Mail.

    async def smtp_MAIL(self, arg: str | None) -> None:
        if await self.check_helo_needed():
            return
        if self.login is None:
            await self.answer(NO_AUTH)
            return
        if self.mail is not None:
            await self.push("503 5.5.1 Error: nested MAIL command")
            return
        path = read_path(arg, b"FROM")
        size = (path.value("SIZE") or b"0") if path else b""
        if path is None or not size.isdigit() or len(size) > 20:
            await self.push("501 5.5.4 Syntax: MAIL FROM:<address> [parameters]")
            return
        if int(size) > self.service.settings.max_size:
            await self.answer(TOO_LARGE)
            return
        admitted = await self.service.admits(self.login)
        if not admitted:
            if admitted is None:
                await self.push("454 4.7.0 Temporary authentication failure")
            else:
                self.login = None
                await self.answer(NO_AUTH)
            return
        spare, self.spare = self.spare, None
        self.mail = Transaction(self.service, self.login, spare)
        # AUTH= (RFC 4954 5) says who a server behind us vouches for; to the upstream that is us.
        said = await self._asked(self.mail.begin(path.without("AUTH")))
        if not said.good:
            self._leave(said)
        await self.answer(said)

    async def smtp_RCPT(self, arg: str | None) -> None:
        mail = self.mail
        if mail is None:
            await self.answer(NO_MAIL)
            return
        path = read_path(arg, b"TO")
        if path is None:
            await self.push("501 5.5.4 Syntax: RCPT TO:<address> [parameters]")
        elif mail.accepted and self.service.settings.per_recipient:
            await self.answer(ONE_ONLY)
        else:
            said = await self._asked(mail.add(path))
            if said.closing:
                self._leave(said)
            await self.answer(said)

    async def smtp_DATA(self, arg: str | None) -> None:
        mail = self.mail
        if mail is None:
            await self.answer(NO_MAIL)
        elif arg:
            await self.push("501 Syntax: DATA")
        elif not mail.accepted:
            await self.answer(mail.lost or NO_RCPT)
        elif mail.lost:
            await self.answer(mail.lost)
        else:
            await self._data(mail)

    async def _data(self, mail: Transaction) -> None:
        self.receiving = True
        taken = 0
        try:
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            message = bytearray()
            trouble: Reply | None = None
            async for piece in read_pieces(self._reader):
                if trouble is None and taken + len(piece) > self.service.settings.max_size:
                    trouble = TOO_LARGE
                if trouble is None and not self.service.hold(len(piece)):
                    trouble = NO_MEMORY
                if trouble is None:
                    taken += len(piece)
                    message += piece
                elif message:
                    message = bytearray()
                    self.service.let_go(taken)
                    taken = 0
            said = trouble or await self._asked(mail.finish(whole(message)))
        finally:
            self.receiving = False
            self.service.let_go(taken)
        self._leave(said)
        await self.answer(said)
        if self.service.stopping:
            self.end(STOPPING)

    async def _asked(self, step: Any) -> Reply:
        """What a step of the transaction says, while its time is bounded there."""
        self.asking = True
        try:
            said: Reply = await step
            return said
        except NotNow as trouble:
            return trouble.answer
        finally:
            self.asking = False
            self.heard_at = monotonic()  # it was not the client that was silent

    def _leave(self, said: Reply | None) -> None:
        """The transaction is over, with this as its last answer; None: the client went on."""
        mail, self.mail = self.mail, None
        if mail is not None:
            self.spare = mail.close(said)
