"""A conversation with the upstream, command by command: nothing is promised on its behalf."""

import asyncio
import ssl
from typing import NamedTuple

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPHeloError,
    SMTPServerDisconnected,
)

from little_bell.errors import LittleBellError
from little_bell.relay.dots import dotted
from little_bell.relay.reply import NO_SENSE, Reply, heard, reply
from little_bell.relay.settings import NONE, REQUIRED, Limits, Upstream

START_INPUT = 354  # "send the message"
QUIT_SECONDS = 5.0

UNREACHABLE = reply(451, "4.4.1 the upstream cannot be reached; try again later")
LOST = reply(451, "4.4.2 the connection to the upstream was lost; try again later")
NO_TLS = reply(451, "4.7.4 there is no safe connection to the upstream; try again later")
NOT_ADMITTED = reply(451, "4.3.5 the upstream does not take the relay's own password")

Offers = dict[str, str]  # what a server's EHLO names, in lower case, with its parameters


class NotNow(LittleBellError):  # noqa: N818 - a verdict: the client is to try again
    """The upstream cannot be asked, or gave no answer: what to tell the client, and a reason for
    the log that names nobody."""

    def __init__(self, answer: Reply, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer
        self.reason = reason


class Secure(NamedTuple):
    """Contexts of TLS: made once, since that reads the system's certificates."""

    verified: ssl.SSLContext
    unverified: ssl.SSLContext  # RFC 7435: better than nothing, where nothing is asked for

    @classmethod
    def make(cls) -> "Secure":
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        return cls(ssl.create_default_context(), unverified)


class Conversation:
    """One connection. After NotNow it is over."""

    def __init__(self, upstream: Upstream, secure: Secure, name: str, limits: Limits) -> None:
        """`name` is ours, as EHLO says it."""
        self.upstream = upstream
        self.secure = secure
        self.limits = limits
        self.in_doubt = False  # a message went out, and nobody said what became of it (RFC 1047)
        self.client = SMTP(
            hostname=upstream.host,
            port=upstream.port,
            use_tls=upstream.implicit_tls,
            start_tls=False,
            tls_context=secure.verified,
            local_hostname=name,
            timeout=limits.command,
        )

    @property
    def offers(self) -> Offers:
        return self.client.esmtp_extensions

    @property
    def usable(self) -> bool:
        return self.client.is_connected

    async def open(self, seconds: float) -> None:
        """Connect, with TLS and AUTH as wanted. Raises NotNow."""
        try:
            async with asyncio.timeout(seconds):
                await self._open()
        except SMTPAuthenticationError as error:
            raise self._over(NOT_ADMITTED, f"AUTH was refused: {error.code}") from error
        except ssl.SSLError as error:
            raise self._over(NO_TLS, f"TLS failed: {error.reason}") from error
        except (SMTPException, OSError, ValueError, TimeoutError) as error:
            secret = isinstance(error.__cause__, ssl.SSLError)
            reason = f"TLS failed: {error.__cause__}" if secret else type(error).__name__
            raise self._over(NO_TLS if secret else UNREACHABLE, reason) from error

    async def _open(self) -> None:
        client, upstream = self.client, self.upstream
        await client.connect()
        await self._greet()
        if not upstream.implicit_tls and upstream.tls != NONE:
            if client.supports_extension("starttls"):
                verified = upstream.tls == REQUIRED
                context = self.secure.verified if verified else self.secure.unverified
                await client.starttls(tls_context=context)
                await self._greet()
            elif upstream.tls == REQUIRED:
                raise self._over(NO_TLS, "the upstream does not offer STARTTLS")
        if upstream.user:
            await client.login(upstream.user, upstream.password)

    async def _greet(self) -> None:
        try:
            await self.client.ehlo()
        except SMTPHeloError as error:
            if not self.client.is_connected or not 500 <= error.code < 600:
                raise
            await self.client.helo()

    async def ask(self, command: bytes, seconds: float, expected: int = 0) -> Reply:
        """The upstream's answer to a command without its line end. Raises NotNow."""
        self._in_step()
        try:
            answer = heard(await self.client.execute_command(command, timeout=seconds), expected)
        except (SMTPException, OSError, ValueError) as error:
            raise self._over(LOST, type(error).__name__) from error
        return self._sensible(answer)

    def _in_step(self) -> None:
        """An answer to nothing, which came with the last one, is none to what is asked next."""
        protocol = self.client.protocol
        if protocol is not None and protocol._buffer:  # there is no other sign
            raise self._over(NO_SENSE, "the upstream gave two answers to one command")

    def _sensible(self, answer: Reply) -> Reply:
        if answer is NO_SENSE:
            raise self._over(NO_SENSE, "the upstream's answer makes no sense")
        return answer

    async def send(self, message: bytes) -> Reply:
        """The upstream's answer to a message, whose lines all end with CRLF. Raises NotNow; if
        `in_doubt` is true then, the message may have been taken all the same."""
        answer = await self.ask(b"DATA", self.limits.data, START_INPUT)
        if answer.code != START_INPUT:
            # Good is none of them: nothing was sent, and the client would believe it.
            return self._sensible(NO_SENSE if answer.good else answer)
        self._in_step()
        protocol = self.client.protocol
        try:
            if protocol is None:
                raise SMTPServerDisconnected("gone")
            self.in_doubt = True
            protocol.write(dotted(message))
            answer = heard(await protocol.read_response(timeout=self.limits.answer))
        except (SMTPException, OSError) as error:
            raise self._over(LOST, type(error).__name__) from error
        answer = self._sensible(answer)
        self.in_doubt = False
        transport = self.client.transport
        if isinstance(transport, asyncio.Transport) and transport.get_write_buffer_size():
            self.abort()  # it did not hear the message to its end
        return answer

    def _over(self, answer: Reply, reason: str) -> NotNow:
        self.abort()
        return NotNow(answer, reason)

    def abort(self) -> None:
        """Hang up. What was not sent is not sent any more: half a message is none."""
        transport = self.client.transport
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()
        self.client.close()

    async def quit(self) -> None:
        """Say goodbye, as far as that goes."""
        try:
            await self.client.quit(timeout=QUIT_SECONDS)
        except (SMTPException, OSError):
            pass
        finally:
            self.abort()
