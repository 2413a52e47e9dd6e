"""The slow lane: the process that makes what may take 10 ms or more.

Started by the fast lane with a channel as descriptor 3. Each message is a whole request and its
client's socket; each is answered by a thread, with `Connection: close`. It reads the database over
a connection of its own that cannot write.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.ops.logs import ERROR, Log
from little_bell.pages.views import Page, Views
from little_bell.wire.answers import problem
from little_bell.wire.handover import MAX_MESSAGE, PACKET
from little_bell.wire.http import MAX_HEAD, MAX_HEADERS, Answers, Reader, Request
from little_bell.wire.routes import ROUTES, SLOW, Router

CHANNEL = 3
THREADS = 8
SEND_SECONDS = 30.0  # a client that takes no byte for so long is given up
DRAIN_SECONDS = 1.0  # in all, for what a client still sends behind its request

Handler = Callable[[list[str], bytes, dict[bytes, bytes]], Page]


class SlowLane:
    """Answers handed-over requests."""

    def __init__(self, config: Config, channel: socket.socket) -> None:
        self.config = config
        self.channel = channel
        self.log = Log(config.log_level)
        self.router = Router(tuple(r for r in ROUTES if r.lane is SLOW), config.prefix)
        self.local = threading.local()
        self.logging = threading.Lock()

    def run(self) -> None:
        """Serve until the fast lane closes the channel or is gone."""
        parent = os.getppid()
        self.channel.settimeout(2.0)
        with ThreadPoolExecutor(THREADS) as pool:
            while True:
                try:
                    message, descriptors, _, _ = socket.recv_fds(self.channel, MAX_MESSAGE, 1)
                except TimeoutError:
                    if os.getppid() != parent:
                        return
                    continue
                except OSError:
                    return
                if not message:
                    return
                for descriptor in descriptors:
                    pool.submit(self.answer, socket.socket(fileno=descriptor), message)

    def answer(self, client: socket.socket, message: bytes) -> None:
        """Answer one request and close its connection."""
        route, status = "none", 500
        with client:
            try:
                route, status, answer = self.decide(message)
                client.settimeout(SEND_SECONDS)
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                self.drain(client)
            except OSError:
                pass  # the client is gone
            finally:
                self.report(route, status)

    def drain(self, client: socket.socket) -> None:
        """Read what the client sent behind its request: unread, close() would reset the connection
        and could lose the answer."""
        drained = monotonic() + DRAIN_SECONDS
        client.setblocking(False)
        try:
            while monotonic() < drained and client.recv(65_536):
                pass
        except BlockingIOError:
            pass  # nothing more came so far

    def report(self, route: str, status: int) -> None:
        try:
            self.channel.send(f"{route} {status}".encode("ascii"))
        except OSError:
            pass  # the fast lane is gone

    def decide(self, message: bytes) -> tuple[str, int, bytes]:
        """Route, status and answer for the bytes of one whole request."""
        # Handing over adds to a head that was within its limits.
        reader = Reader(MAX_MESSAGE, 2 * MAX_HEAD, 2 * MAX_HEADERS)
        reader.feed(message)
        request = reader.next() or Request()
        reader.close()
        answers = Answers()
        methods, segments, query = self.router.find(request.target)
        route = (methods or {}).get(request.method)
        name = route.name if route else "none"
        try:
            if route is None:
                raise Refused(404, "there is nothing here")
            page = self.view(name)(
                [segment.decode("latin-1") for segment in segments], query, request.headers
            )
        except Refused as refused:
            status, headers, body = problem(refused, route.page if route else True)
            return name, status, answers.write(request, status, headers, body)
        except Exception as error:
            with self.logging:
                self.log.write(ERROR, "A page failed", route=name, error=repr(error))
                self.log.flush()
            failed = Refused(500, "this page could not be made; the log says why")
            status, headers, body = problem(failed, route.page if route else True)
            return name, status, answers.write(request, status, headers, body)
        return name, page.status, answers.write(request, page.status, page.headers, page.body)

    def view(self, name: str) -> Handler:
        """The handler of a route; each thread has views, and so a connection, of its own."""
        views = getattr(self.local, "views", None)
        if views is None:
            views = self.local.views = Views(self.config)
        handler: Handler = getattr(views, name)
        return handler


def main() -> None:
    """Run on the channel that the fast lane left as descriptor 3."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the fast lane says when it is over
    channel = socket.socket(socket.AF_UNIX, PACKET, fileno=CHANNEL)
    os.set_inheritable(CHANNEL, False)
    SlowLane(Config(os.environ), channel).run()


if __name__ == "__main__":
    main()
