"""The workshop of the slow lane: threads that make answers, whole or in pieces, for its loop."""

import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic
from typing import NamedTuple

from little_bell.api.reads import Reads
from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.ops.logs import ERROR, Log
from little_bell.ops.secret import Secret
from little_bell.page import Page
from little_bell.pages.views import Views
from little_bell.store.reader import Reader
from little_bell.wire.answers import cors, problem
from little_bell.wire.exchange import Exchange
from little_bell.wire.http import Answers, Headers
from little_bell.wire.intake import ERASURE, MAIL, MESSAGE, OBJECT, Intake, Offered
from little_bell.wire.mailroom import Mailroom
from little_bell.wire.representation import one_vary, represent, represent_long
from little_bell.wire.stream import Stream

THREADS = 8  # that make pages
MAILERS = 2  # that read and rewrite emails
LARGE = 1 << 20  # bytes of an email that go one at a time
EXPORTERS = 2  # that make pieces of long answers: pages have the others
EXPORT_NICE = 19

WHOLE, LONG, PIECE, CUT = range(4)  # what was made: an answer, a stream, a piece; it failed

Handler = Callable[[list[str], bytes, dict[bytes, bytes]], Page]


class Made(NamedTuple):
    """Something for the loop."""

    exchange: Exchange
    kind: int
    data: bytes = b""
    status: int = 0  # of a whole answer


def give_way() -> None:
    """Let this thread run where nobody else wants the processor; on Linux, where threads have a
    niceness of their own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), EXPORT_NICE)


class Workshop:
    """Owns the threads. What they made is in `made`; then `wakened` can be read."""

    def __init__(self, config: Config, intake: Intake, secret: Secret) -> None:
        self.config = config
        self.intake = intake
        self.secret = secret
        self.mailroom = Mailroom(config, secret.ring, self._reader)
        self.log = Log(config.log_level)
        self.logging = threading.Lock()
        self.local = threading.local()
        self.made: deque[Made] = deque()
        self.waker, self.wakened = socket.socketpair()
        for end in (self.waker, self.wakened):
            end.setblocking(False)
        self.pages = ThreadPoolExecutor(THREADS)
        self.batches = ThreadPoolExecutor(1)  # pages have the rest of the processor
        self.mails = ThreadPoolExecutor(MAILERS)
        self.exports = ThreadPoolExecutor(EXPORTERS, initializer=give_way)
        self.threads = ExitStack()

    def __enter__(self) -> "Workshop":
        for executor in (self.pages, self.batches, self.mails, self.exports):
            self.threads.enter_context(executor)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until all that was begun is done."""
        self.threads.close()

    # For the loop: none of these waits

    def make(self, exchange: Exchange) -> None:
        """Have the answer to a whole request made."""
        exchange.whole_at = monotonic()
        self.secret.look()  # the fast lane says where that is not possible
        self._threads(exchange).submit(self._make, exchange)

    def make_batch_answer(self, offered: Offered, status: int, first: int) -> None:
        """Have it said what became of a batch."""
        self.secret.look()
        exchange = offered.exchange
        mail = exchange.form in (MAIL, MESSAGE)
        threads = self._threads(exchange) if mail else self.pages
        threads.submit(self._make_batch_answer, offered, status, first)

    def _threads(self, exchange: Exchange) -> ThreadPoolExecutor:
        """Those that make an answer. Large bodies go one after the other, since one may take twenty
        times its size in memory."""
        if not exchange.batch:
            return self.pages
        single = exchange.form in (OBJECT, MAIL, MESSAGE)
        return self.mails if single and exchange.spooled <= LARGE else self.batches

    def make_piece(self, exchange: Exchange, stream: Stream) -> None:
        """Have the next piece of a long answer made."""
        stream.making = True
        self.exports.submit(self._make_piece, exchange, stream)

    def give_up(self, exchange: Exchange, stream: Stream) -> None:
        """Have the maker of pieces that nobody wants closed."""
        self.exports.submit(self._close, exchange, stream)

    # From any thread

    def tell(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """Have a whole answer sent by the loop."""
        answer = Answers().write(exchange.request, status, self._shared(exchange, headers), body)
        self._hand(Made(exchange, WHOLE, answer, status))

    def log_fault(self, exchange: Exchange, error: Exception) -> None:
        with self.logging:
            self.log.write(ERROR, "A page failed", route=exchange.route, error=repr(error))
            self.log.flush()

    def _hand(self, made: Made) -> None:
        self.made.append(made)
        try:
            self.waker.send(b"!")
        except BlockingIOError:
            pass  # the loop has yet to hear of many others

    def _shared(self, exchange: Exchange, headers: Headers) -> Headers:
        """The headers of an answer with those that let pages of other origins read the API's."""
        if not exchange.page:
            headers += cors(exchange.request.headers, self.config.cors_origins)
        return one_vary(headers)

    # In threads

    def _make(self, exchange: Exchange) -> None:
        """One answer, the begin of a long one, or a batch for the fast lane."""
        try:
            if exchange.batch:
                if not self.intake.prepare(exchange):
                    self.tell(exchange, *self.intake.answer_single(exchange, 0, self.mailroom))
                return
            if exchange.route == ERASURE:
                self.intake.prepare_erasure(exchange)
                return
            segments = [segment.decode("latin-1") for segment in exchange.segments]
            request = exchange.request
            page = self._view(exchange)(segments, exchange.query, request.headers)
            if isinstance(page.body, bytes):
                self.tell(exchange, *represent(request, page.status, page.headers, page.body))
            else:
                self._begin(exchange, page.status, page.headers, page.body)
        except Exception as error:
            self._tell_failure(exchange, error)

    def _make_batch_answer(self, offered: Offered, status: int, first: int) -> None:
        """What became of a batch; what of an email, with that email rewritten."""
        exchange = offered.exchange
        try:
            if status == 201 and exchange.form in (MAIL, MESSAGE):
                answer = self.intake.answer_single(exchange, first, self.mailroom)
            else:
                answer = self.intake.answer(offered, status, first)
            self.tell(exchange, *answer)
        except Exception as error:
            self._tell_failure(exchange, error)

    def _view(self, exchange: Exchange) -> Handler:
        """The handler of a route; each thread has handlers, and a connection, of its own."""
        handlers = getattr(self.local, "handlers", None)
        if handlers is None:
            handlers = self.local.handlers = (
                Views(self.config, self._reader, self.intake.addresses),
                Reads(self.config, self._reader),
            )
        pages, reads = handlers
        handler: Handler = getattr(pages if exchange.page else reads, exchange.route)
        return handler

    def _reader(self) -> Reader:
        """The connection of the thread that asks."""
        reader: Reader | None = getattr(self.local, "reader", None)
        if reader is None:
            reader = self.local.reader = Reader(self.config.database_url)
        return reader

    def _tell_failure(self, exchange: Exchange, error: Exception) -> None:
        """Answer with why there is no page."""
        if isinstance(error, Refused):
            refused = error
        else:
            self.log_fault(exchange, error)
            refused = Refused(500, "this failed; the log says why")
        self.tell(exchange, *problem(refused, exchange.page))

    def _begin(
        self, exchange: Exchange, status: int, headers: Headers, pieces: Iterator[bytes]
    ) -> None:
        """Begin a long answer, or to HEAD end it."""
        request = exchange.request
        headers, gzip = represent_long(request, headers)
        head = Answers().begin(request, status, self._shared(exchange, headers))
        stream = Stream(pieces, status, head, not request.old, gzip)
        if request.head_only:
            stream.close()
            self._hand(Made(exchange, WHOLE, head, status))
        else:
            exchange.stream = stream
            self._hand(Made(exchange, LONG))

    def _make_piece(self, exchange: Exchange, stream: Stream) -> None:
        try:
            self._hand(Made(exchange, PIECE, stream.next()))
        except Exception as error:
            if exchange.answered:
                self.log_fault(exchange, error)
                self._hand(Made(exchange, CUT))
            else:
                self._tell_failure(exchange, error)

    def _close(self, exchange: Exchange, stream: Stream) -> None:
        try:
            stream.close()
        except Exception as error:
            self.log_fault(exchange, error)
