"""The relay as a process: sessions, what they share, and an ordered stop."""

import asyncio
import logging
import os
import signal
import socket
import ssl
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from little_bell import __version__
from little_bell.config import Config
from little_bell.errors import LittleBellError, StartError
from little_bell.ops.logs import ERROR, INFO, WARN, Log
from little_bell.relay.credentials import Credentials, Login
from little_bell.relay.reply import reply
from little_bell.relay.session import Session
from little_bell.relay.settings import Settings, is_local
from little_bell.relay.tracker import Tracker
from little_bell.relay.upstream import Conversation, NotNow, Offers, Secure
from little_bell.tracking.client import pack
from little_bell.wire.budget import Budget, source_of
from little_bell.wire.gate import FAILURES_AT_ONCE, FAILURES_PER_MINUTE
from little_bell.wire.room import most_connections

BACKLOG = 512
HELD = 128 << 20  # bytes of messages under way, or one of the greatest
OFFERS_SECONDS = 300.0  # after which the upstream's offers are asked for again
AGAIN_SECONDS = 5.0  # or where it could not be asked

BUSY = reply(421, "4.3.2 too many sessions; try again later")


class Busy(asyncio.Protocol):
    """What a client beyond the last place hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        transport.write(BUSY.raw + b"\r\n")
        transport.close()


class Service:
    """What sessions share: one event loop, threads that wait for the bell, one for the file."""

    def __init__(self, config: Config, settings: Settings, log: Log) -> None:
        """Raises StartError."""
        self.settings = settings
        self.log = log
        self.credentials = Credentials(config)
        self.failures = Budget(FAILURES_PER_MINUTE, FAILURES_AT_ONCE)
        self.tracker = Tracker(settings.bell, settings.limits.track, settings.limits.track_large)
        self.file = ThreadPoolExecutor(1, "keys")
        self.name = socket.getfqdn()
        self.tls = server_context(settings)
        self.secure = Secure.make()
        self.sessions: set[Session] = set()
        self.most_sessions = most_connections(settings.max_sessions * 2)[0] // 2
        self.stopping = False
        self.held = 0
        self._offers: Offers = {}
        self._offers_until = 0.0  # monotonic seconds
        self._probe = asyncio.Lock()
        self.one_try = asyncio.Lock()  # of a login; the file has but one thread
        self._partings: set[asyncio.Task[None]] = set()

    def session(self) -> asyncio.Protocol:
        """For a new connection."""
        return Busy() if len(self.sessions) >= self.most_sessions else Session(self)

    # The upstream.

    def conversation(self) -> Conversation:
        """A new one, not open yet."""
        settings = self.settings
        return Conversation(settings.upstream, self.secure, self.name, settings.limits)

    def know(self, offers: Offers) -> None:
        """What the upstream offered just now."""
        self._offers = dict(offers)
        self._offers_until = monotonic() + OFFERS_SECONDS

    async def offers(self) -> Offers:
        """What the upstream offers, as far as it is known; it is asked where that is old."""
        if monotonic() >= self._offers_until:
            async with self._probe:
                if monotonic() >= self._offers_until:
                    await self._ask_for_offers()
        return self._offers

    async def _ask_for_offers(self) -> None:
        conversation = self.conversation()
        try:
            await conversation.open(self.settings.limits.probe)
            self.know(conversation.offers)
            self.part(conversation)
        except NotNow:
            self._offers_until = monotonic() + AGAIN_SECONDS

    def most(self, offers: Offers) -> int:
        """Bytes of a message that both of us take."""
        size = offers.get("size", "")
        limit = int(size) if size.isdecimal() and len(size) < 19 else 0
        return min(limit or self.settings.max_size, self.settings.max_size)

    def part(self, conversation: Conversation) -> None:
        """Say goodbye to the upstream, while nobody waits for that."""
        self._later(conversation.quit())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._partings.add(task)
        task.add_done_callback(self._partings.discard)

    # Who may.

    def source(self, address: str) -> bytes:
        """Whose failures count together."""
        return source_of(pack(address) or b"")

    def slowed(self, source: bytes) -> bool:
        return bool(self.failures.wait(source, monotonic()))

    def failed(self, source: bytes) -> None:
        self.failures.spend(source, monotonic())

    async def admits(self, login: Login) -> bool | None:
        """Whether keys let this one send; None where they cannot be read."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.file, self.credentials.admit, login)
        except LittleBellError as error:
            self.log.write(ERROR, "Keys cannot be read", reason=str(error))
            self.log.flush()
            return None

    # Memory.

    def hold(self, size: int) -> bool:
        """Whether there is room for so many bytes more of messages; then it is taken."""
        if self.held + size > max(HELD, self.settings.max_size):
            return False
        self.held += size
        return True

    def let_go(self, size: int) -> None:
        self.held -= size

    # The process.

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop`, and then until messages under way have their answer, within limits."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                self.session, settings.host, settings.port, backlog=BACKLOG
            )
        except OSError as error:
            raise StartError(
                f"--listen={settings.host}:{settings.port}: {error.strerror or error}"
            ) from None
        self._say_hello([one.getsockname() for one in server.sockets])
        await stop.wait()
        self.stopping = True
        server.close()
        for session in list(self.sessions):
            session.stop()
        deadline = monotonic() + settings.limits.stop
        while (self.sessions or self._partings) and monotonic() < deadline:
            await asyncio.sleep(0.05)
        cut = len(self.sessions)
        for session in list(self.sessions):
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()
        await asyncio.sleep(0)
        self.tracker.close()
        self.file.shutdown(wait=False)
        self.log.write(WARN if cut else INFO, "The relay stopped", cut_off=cut)
        self.log.flush()

    def _say_hello(self, names: list[tuple[Any, ...]]) -> None:
        settings, upstream = self.settings, self.settings.upstream
        if not self.tls and not all(is_local(str(name[0])) for name in names):
            self.log.write(
                WARN, "Nobody but this machine can log in: there is no --tls-cert and --tls-key"
            )
        if not os.path.exists(self.credentials.path):
            self.log.write(
                WARN, "There is no database: all tenants are open", database=self.credentials.path
            )
        self.log.write(
            INFO,
            "The relay is listening",
            listening=[f"{name[0]}:{name[1]}" for name in names],
            port=names[0][1],
            upstream=f"{upstream.host}:{upstream.port}",
            tls="smtps" if upstream.implicit_tls else upstream.tls,
            bell=settings.bell,
            database=self.credentials.path,
            version=__version__,
            pid=os.getpid(),
        )
        self.log.flush()


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """What STARTTLS gives to clients. Raises StartError."""
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ValueError) as error:
        what = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise StartError(f"--tls-cert and --tls-key cannot be used: {what}") from None
    return context


def run(config: Config, settings: Settings) -> None:
    """Relay until SIGTERM. Raises StartError."""
    logging.getLogger("mail.log").disabled = True  # aiosmtpd's shows addresses
    logging.getLogger("little_bell").disabled = True  # the library's; our own log has it

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await Service(config, settings, Log(config.log_level)).serve(stop)

    asyncio.run(work())
