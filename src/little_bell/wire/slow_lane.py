"""The slow lane: the process that makes what may take 10 ms or more.

Started by the fast lane with a channel as descriptor 3. Each message is a request and its client's
socket; each is answered with `Connection: close`. One loop owns all sockets, so that a client that
is slow to send or to read holds no thread; answers are made by threads (see `workshop`), which read
the database over connections that cannot write.
"""

import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from time import monotonic

from little_bell.config import SIGNED, Config
from little_bell.errors import Refused
from little_bell.ops.logs import DEBUG
from little_bell.ops.secret import Secret
from little_bell.tracking.addresses import Addresses
from little_bell.wire.answers import problem
from little_bell.wire.exchange import FOREVER, Exchange
from little_bell.wire.handover import EXPORTS, MAX_MESSAGE, PACKET
from little_bell.wire.http import BadRequest
from little_bell.wire.intake import NOBODY_KNOWS, Intake
from little_bell.wire.routes import EITHER, FAST, ROUTES, Router
from little_bell.wire.stream import Stream
from little_bell.wire.workshop import CUT, LONG, WHOLE, Made, Workshop

CHANNEL = 3
SEND_SECONDS = 30.0  # a client has for its answer or a piece, and a second more for each 16 KiB
OWED = 64 << 20  # bytes of answers that clients did not take yet
READERS = 256  # such clients
LONG_ANSWERS = 64  # under way; one more takes the place of one that is stalled, or is refused
STALLED = 5.0  # seconds for which a client did not take the piece it has
ALONE = 5.0  # seconds that long answers have to end once the fast lane is gone
LINGER = 2.0  # seconds a client has to stop sending
NICE = 10  # where processors are short, opens come first
GONE = 499  # in place of a status, as nginx counts clients that went away before their answer
HEARD = 32  # messages of the fast lane in a turn
TURN = 16  # reads of one body before the others have their turn


class SlowLane:
    """Answers handed-over requests."""

    def __init__(self, config: Config, channel: socket.socket) -> None:
        self.config = config
        self.channel = channel  # to speak, with patience
        self.ear = channel.dup()
        self.router = Router(tuple(r for r in ROUTES if r.lane is not FAST), config.prefix)
        secret = Secret(config)
        addresses = Addresses(secret.ring, config.link_policy == SIGNED)
        self.intake = Intake(config, addresses, self._offer)
        self.workshop = Workshop(config, self.intake, secret)
        self.open = True  # the fast lane is there
        self.end = FOREVER  # monotonic, when long answers are cut
        self.exchanges: set[Exchange] = set()
        self.exports: set[Exchange] = set()  # long answers: more is to come, or to be given up
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until the fast lane closes the channel or is gone, and finish what was begun."""
        parent = os.getppid()
        self.channel.settimeout(2.0)
        wakened, made = self.workshop.wakened, self.workshop.made
        self.ear.settimeout(0)
        self.selector.register(self.ear, selectors.EVENT_READ, None)
        self.selector.register(wakened, selectors.EVENT_READ, None)
        swept = monotonic()
        with self.workshop:
            while self.open or self.exchanges or self.exports:
                for key, _ in self.selector.select(1.0):
                    if key.data is not None:
                        self._guard(key.data, self._go_on)
                    elif key.fileobj is self.ear:
                        self._hear()
                    else:
                        wakened.recv(4096)
                for _ in range(len(made)):  # not those that come meanwhile: sockets have a turn
                    one = made.popleft()
                    self._guard(one.exchange, self._take, one)
                if monotonic() - swept >= 1.0:
                    swept = monotonic()
                    self._sweep(swept)
                    if os.getppid() != parent:
                        self._alone()

    # The channel

    def _hear(self) -> None:
        """Take requests, and what became of batches: several in a turn, so that the channel has
        room for more while threads have the processor."""
        for _ in range(HEARD):
            try:
                message, descriptors, _, _ = socket.recv_fds(self.ear, MAX_MESSAGE, 1)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it went without reading all: what it sent comes next
                continue
            except OSError:
                message, descriptors = b"", []
            if not message:
                self._alone()
                return
            self._take_in(message, descriptors)

    def _take_in(self, message: bytes, descriptors: list[int]) -> None:
        """One of them."""
        if descriptors:
            client = socket.socket(fileno=descriptors[0])
            try:
                exchange = Exchange(client, message, monotonic(), self.config.request_seconds)
            except OSError:
                client.close()
                self._report("none", GONE)
                return
            self.exchanges.add(exchange)
            self._guard(exchange, self._go_on)
        elif b"\n" in message:  # a request; there was no descriptor left for its socket
            self._report("none", GONE)
        else:
            number, status, first = message.decode("ascii").split()
            self._batch_is_over(int(number), int(status), int(first))

    def _alone(self) -> None:
        """The fast lane is gone: what was begun is finished, if it does without it."""
        if self.open:
            self.open = False
            self.end = monotonic() + ALONE
            self.selector.unregister(self.ear)
            for number in list(self.intake.offered):
                self._batch_is_over(number, 503, NOBODY_KNOWS)
        for exchange in [one for one in self.exchanges if not (one.whole or one.answered)]:
            self._refuse(exchange, Refused(503, "the server stops", retry_after=5))

    def _offer(self, text: bytes, descriptor: int | None) -> None:
        if descriptor is None:
            self.channel.sendall(text)
        else:
            socket.send_fds(self.channel, [text], [descriptor])

    # Clients

    def _guard(self, exchange: Exchange, step: Callable[..., None], *made: Made) -> None:
        """A fault of ours costs one request, not the slow lane its life."""
        try:
            step(exchange, *made)
        except Exception as error:
            self.workshop.log_fault(exchange, error)
            self._close(exchange)

    def _go_on(self, exchange: Exchange) -> None:
        """A client sent something, or has room for more."""
        if exchange.lingering:
            try:
                over = exchange.drain()
            except OSError:
                over = True
            if over:
                self._close(exchange)
        elif exchange.out:
            self._send(exchange)
        elif not exchange.answered:  # it may be since this turn began
            self._receive(exchange)

    def _receive(self, exchange: Exchange) -> None:
        """Read until the request is whole, or nothing more is there for now."""
        reader = exchange.reader
        reads = 0
        try:
            if exchange.body is not None:
                self.intake.bound(self.exchanges)
            while True:
                request = reader.next()
                if request is None:
                    self.intake.look(exchange)
                    if reads == TURN:  # all that was read is parsed: no more may come
                        break
                    reads += 1
                    if not exchange.receive(monotonic()):
                        self._close(exchange)
                        return
                    continue
                exchange.request = request
                if reader.diverted:
                    self._route(exchange)
                    slowest = self.intake.admit(self.exchanges)
                    if slowest is not None:
                        self._refuse(slowest, Refused(408, "others were faster; try again"))
                    exchange.spool_body(self.intake.folder, self.intake.most(exchange))
                else:
                    exchange.whole = True
                    self._route(exchange)
                    self.intake.look(exchange)
                    self._work(exchange)
                    return
        except BlockingIOError:
            pass  # the rest is still to come
        except BadRequest as bad:
            self._refuse(exchange, Refused(bad.status, bad.detail))
            return
        except Refused as refused:
            self._refuse(exchange, refused)
            return
        except OSError as error:
            if reader.spool is None or isinstance(error, ConnectionError):
                self._close(exchange)
            else:
                full = f"the body cannot be kept ({error.strerror})"
                self._refuse(exchange, Refused(503, full, retry_after=5))
            return
        self._wait_for(exchange, selectors.EVENT_READ)

    def _route(self, exchange: Exchange) -> None:
        """Find the route of a request. Raises Refused."""
        methods, exchange.segments, exchange.query = self.router.find(exchange.request.target)
        route = (methods or {}).get(exchange.request.method)
        if route is None:
            raise Refused(404, "there is nothing here")
        exchange.route, exchange.page, exchange.batch = (
            route.name,
            route.page,
            route.lane is EITHER,
        )

    def _send(self, exchange: Exchange) -> None:
        try:
            if not exchange.send():
                self._wait_for(exchange, selectors.EVENT_WRITE)
                return
            stream = exchange.stream
            if stream is not None:
                if not stream.over:
                    self._make_piece(exchange, stream)
                    return
                self._forget(exchange, stream)
            if exchange.linger(monotonic(), LINGER):
                self._wait_for(exchange, selectors.EVENT_READ)
            else:
                self._close(exchange)
        except OSError:
            self._close(exchange)  # the client is gone

    def _wait_for(self, exchange: Exchange, mask: int) -> None:
        """Go on with a client once it is ready; 0: not before its answer is made."""
        if mask != exchange.mask:
            if not exchange.mask:
                self.selector.register(exchange.client, mask, exchange)
            elif mask:
                self.selector.modify(exchange.client, mask, exchange)
            else:
                self.selector.unregister(exchange.client)
            exchange.mask = mask

    def _close(self, exchange: Exchange) -> None:
        if exchange not in self.exchanges:
            return
        self._wait_for(exchange, 0)
        self.exchanges.discard(exchange)
        exchange.close()
        if not exchange.answered:
            self._report(exchange.route, GONE)
        if exchange.stream is not None and not exchange.stream.making:
            self._forget(exchange, exchange.stream)

    def _sweep(self, now: float) -> None:
        """Give up clients whose time is over."""
        for exchange in [one for one in self.exchanges if one.deadline < now]:
            if exchange.whole or exchange.answered:
                self._close(exchange)
            else:
                self._refuse(exchange, Refused(408, "the request took too long to arrive"))
        if now >= self.end:
            for exchange in list(self.exports):
                self._close(exchange)

    # Answers

    def _work(self, exchange: Exchange) -> None:
        """Have the answer made by a thread."""
        self._wait_for(exchange, 0)
        exchange.deadline = FOREVER
        self.workshop.make(exchange)

    def _batch_is_over(self, number: int, status: int, first: int) -> None:
        """What the fast lane said of a batch becomes the answer to its request."""
        offered = self.intake.over(number)
        if offered is not None:
            self.workshop.make_batch_answer(offered, status, first)

    def _refuse(self, exchange: Exchange, refused: Refused) -> None:
        self._wait_for(exchange, 0)
        exchange.answered = True
        exchange.spooled = 0  # one that is refused for its size makes room for the others
        self.workshop.tell(exchange, *problem(refused, exchange.page))

    def _take(self, exchange: Exchange, made: Made) -> None:
        """Go on with what a thread made."""
        if made.kind == LONG:
            self._begin(exchange)
            return
        stream = exchange.stream
        if made.kind == WHOLE:
            self._report(exchange.route, made.status, exchange.whole_at)
            if stream is not None:  # it failed before its first piece
                self._forget(exchange, stream)
        elif stream is not None:
            stream.making = False
            if exchange not in self.exchanges:  # given up meanwhile
                self._forget(exchange, stream)
            elif made.kind == CUT:
                self._close(exchange)
            elif not exchange.answered:
                self._report(exchange.route, stream.status, exchange.whole_at)
        if exchange in self.exchanges:
            exchange.answer(made.data, monotonic(), SEND_SECONDS)
            self._send(exchange)
            self._bound()

    def _bound(self) -> None:
        """Give up the clients that wait for longest, where too much waits to be taken; the last one
        stays, however much it is."""
        waiting = sorted((one for one in self.exchanges if one.out), key=lambda one: one.since)
        owed = sum(len(one.out) for one in waiting)
        while (owed > OWED and len(waiting) > 1) or len(waiting) > READERS:
            owed -= len(waiting[0].out)
            self._close(waiting.pop(0))

    # Long answers

    def _begin(self, exchange: Exchange) -> None:
        """Have the first piece made: it goes with the head, so that what fails in it is told."""
        stream = exchange.stream
        if stream is None or exchange not in self.exchanges:
            return
        if len(self.exports) >= LONG_ANSWERS:
            longest = monotonic() - STALLED
            stalled = [one for one in self.exports if one.out and one.since < longest]
            if not stalled:
                self._forget(exchange, stream)
                self._refuse(exchange, Refused(503, "too many exports run now", retry_after=5))
                return
            self._close(min(stalled, key=lambda one: one.since))
        self.exports.add(exchange)
        self._say_exports()
        self._make_piece(exchange, stream)

    def _make_piece(self, exchange: Exchange, stream: Stream) -> None:
        """The client took what it had."""
        self._wait_for(exchange, 0)
        exchange.deadline = FOREVER
        self.workshop.make_piece(exchange, stream)

    def _forget(self, exchange: Exchange, stream: Stream) -> None:
        """Nothing more is made of a long answer: it is all there, or failed, or nobody wants it."""
        exchange.stream = None
        self.exports.discard(exchange)
        self._say_exports()
        if not stream.over:
            self.workshop.give_up(exchange, stream)

    # The fast lane, which counts what is here

    def _say_exports(self) -> None:
        """So that this process is not let go amid them."""
        self._say(f"{EXPORTS} {len(self.exports)}")

    def _report(self, route: str, status: int, begun: float = 0.0) -> None:
        """A request is answered: once for each. `begun` (monotonic): it was whole then."""
        micros = max(1, int((monotonic() - begun) * 1e6)) if begun else 0
        self._say(f"{route} {status} {micros}")

    def _say(self, message: str) -> None:
        if self.open:
            try:
                self.channel.send(message.encode("ascii"))
            except OSError:
                pass  # the fast lane is gone


def main() -> None:
    """Run on the channel that the fast lane left as descriptor 3."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the fast lane says when it is over
    channel = socket.socket(socket.AF_UNIX, PACKET, fileno=CHANNEL)
    os.set_inheritable(CHANNEL, False)
    os.nice(NICE)
    sys.setswitchinterval(0.001)  # a thread that parses a batch lets pages through
    config, kind = Config(os.environ), SlowLane
    if config.log_level <= DEBUG:
        from little_bell.wire import slow_steps

        kind = slow_steps.TellingSlowLane
    kind(config, channel).run()


if __name__ == "__main__":
    main()
