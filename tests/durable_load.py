"""Clients that open, click and create, and remember what they asked for and what was answered."""

import itertools
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote

from bell import BROWSER

TENANT = "acme"
OPENED, CLICKED = 0, 1  # kinds, as they are stored
URLS = tuple(f"https://example.com/page/{n}" for n in range(5))
STATUS = {OPENED: 200, CLICKED: 302}
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Hit(NamedTuple):
    """One open (url is empty) or click."""

    kind: int
    email: int
    url: str

    @property
    def request(self) -> bytes:
        if self.kind == OPENED:
            target = f"/{TENANT}/pixel/{self.email}.gif"
        else:
            target = f"/{TENANT}/click/{self.email}?url={quote(self.url, safe='')}"
        return f"GET {target} HTTP/1.1\r\nHost: bell\r\nUser-Agent: {BROWSER}\r\n\r\n".encode()


class Ledger:
    """What was asked for, and what of it was answered, over the life of one database."""

    def __init__(self, emails: int) -> None:
        """`emails` ids were issued before, from 1."""
        self.sent: Counter[Hit] = Counter()
        self.answered: Counter[Hit] = Counter()
        self.issued = list(range(1, emails + 1))
        self.refused = 0  # creations answered 503

    def last_issued(self) -> int:
        return max(self.issued)


class Client(threading.Thread):
    """One keep-alive connection. It ends when it is told to, or when the server is gone."""

    def __init__(self, port: int, pause: float) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.pause = pause
        self.enough = threading.Event()
        self.wrong: list[bytes] = []  # answers of a status that nobody may get
        self.buffer = b""

    def run(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not self.enough.is_set() and self.turn(connection):
                    if self.pause:
                        time.sleep(self.pause)
        except ConnectionError:
            pass  # that is what a kill looks like from here
        finally:
            self.finish()

    def turn(self, connection: socket.socket) -> bool:
        """Ask and read; False when there is nothing more to ask."""
        raise NotImplementedError

    def finish(self) -> None:
        """The connection is over; nothing more will be answered."""

    def answer(self, connection: socket.socket) -> tuple[int, bytes]:
        """The next whole answer: status and body. Half an answer is none."""
        while True:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if end:
                length = LENGTH.search(head)
                assert length is not None, head
                size = int(length[1])
                if len(rest) >= size:
                    self.buffer = rest[size:]
                    return int(head[9:12]), rest[:size]
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError
            self.buffer += data


class Reader(Client):
    """Opens and clicks, each email once, in pipelined handfuls."""

    def __init__(
        self, port: int, ledger: Ledger, emails: "Emails", pipeline: int, pause: float
    ) -> None:
        super().__init__(port, pause)
        self.ledger = ledger
        self.emails = emails
        self.pipeline = pipeline
        self.sent: list[Hit] = []
        self.answered: list[Hit] = []
        self.random = random.Random()

    def turn(self, connection: socket.socket) -> bool:
        hits: list[Hit] = []
        for _ in range(self.random.randint(1, self.pipeline)):
            email = self.emails.take()
            if email is None:
                return False
            hits += self.hits_of(email)
        self.sent += hits
        connection.sendall(b"".join([hit.request for hit in hits]))
        for hit in hits:
            status, body = self.answer(connection)
            if status == STATUS[hit.kind]:
                self.answered.append(hit)
            else:
                self.wrong.append(b"%d %s" % (status, body))
        return True

    def hits_of(self, email: int) -> list[Hit]:
        """Mostly an open; a click; both; or a burst of clicks, which revises earlier events."""
        draw = self.random.random()
        opened = Hit(OPENED, email, "")
        if draw < 0.5:
            return [opened]
        if draw < 0.7:
            return [Hit(CLICKED, email, self.random.choice(URLS))]
        if draw < 0.9:
            return [opened, Hit(CLICKED, email, self.random.choice(URLS))]
        return [Hit(CLICKED, email, url) for url in self.random.sample(URLS, 3)]

    def finish(self) -> None:
        self.ledger.sent.update(self.sent)
        self.ledger.answered.update(self.answered)


class Sender(Client):
    """Creates emails, one after the other."""

    def __init__(self, port: int, ledger: Ledger, pause: float) -> None:
        super().__init__(port, pause)
        self.ledger = ledger

    def turn(self, connection: socket.socket) -> bool:
        body = b'{"subject": "Hello"}'
        head = (
            f"POST /{TENANT}/emails HTTP/1.1\r\nHost: bell\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        status, answer = self.answer(connection)
        if status == 201:
            self.ledger.issued.append(json.loads(answer)["email_id"])
        elif status == 503:
            self.ledger.refused += 1
        else:
            self.wrong.append(b"%d %s" % (status, answer))
        return True


class Emails:
    """Ids that were issued, each handed to one client only."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.next = itertools.count(1)

    def take(self) -> int | None:
        """The next id, or None when all were used."""
        email = next(self.next)
        return email if email <= self.count else None


class Load:
    """Several clients at once, while the `with` block lasts."""

    def __init__(
        self, port: int, ledger: Ledger, emails: Emails, pause: float = 0.0, readers: int = 4
    ) -> None:
        """`pause` is what each client waits between two handfuls, in seconds."""
        self.clients: list[Client] = [Sender(port, ledger, max(pause, 0.002))]
        for n in range(readers):
            self.clients.append(Reader(port, ledger, emails, 1 if n % 2 else 6, pause))

    def __enter__(self) -> "Load":
        for client in self.clients:
            client.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self.clients:
            client.enough.set()
        self.wait()

    def wait(self, timeout: float = 60) -> None:
        """Until every client is done, whether told to or because the server is gone."""
        deadline = time.monotonic() + timeout
        for client in self.clients:
            client.join(max(0.0, deadline - time.monotonic()))
            assert not client.is_alive(), "a client still waits for its answer"
            assert client.wrong == []
