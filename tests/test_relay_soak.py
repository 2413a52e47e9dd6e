"""Two hundred sessions, a bell that is killed and an upstream that fails: nothing is lost"""

import random
import re
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from access import create_key
from bell import Bell
from programs import free_port
from relays import Relay, ScriptedUpstream, Wire, relaying

SESSIONS = 200
TRIES = 100  # of one message, as a mail server would try
LINK = re.compile(rb"http://localhost:\d+/acme/l/\d+/[\w-]+")
PIXEL = re.compile(rb'<img src="http://localhost:\d+/acme/o/[^>]*>')
NUMBER = re.compile(rb"^Message-ID: <(\d+)@", re.MULTILINE)


class Sent(NamedTuple):
    """A message and what its client knows of it."""

    number: int
    original: bytes  # as the upstream gets it, but for tracking
    accepted: bool  # 250
    left: bool  # the client went away behind the dot, and does not know


def message(number: int, chance: random.Random) -> tuple[bytes, bytes]:
    """One of mixed kinds: as it is sent, and as the upstream gets it untracked."""
    target = f"https://example.com/{number}"
    headers = f"Message-ID: <{number}@example.com>\r\nSubject: number {number}\r\n"
    dots = "".join(f"{'.' * chance.randrange(4)}line\r\n" for _ in range(20))
    html = f'<html><body><a href="{target}">x</a>\r\n{dots}</body></html>\r\n'
    kind = chance.randrange(5)
    steering = ""
    if kind == 0:
        body = f"Content-Type: text/plain\r\n\r\n{dots}{target}\r\n"
    elif kind == 1:
        steering = "X-Little-Bell: track=none\r\n"
        body = f"Content-Type: text/html\r\n\r\n{html}"
    elif kind == 2:
        steering = "X-Little-Bell: campaign=soak\r\n"
        body = f"Content-Type: text/html; charset=utf-8\r\n\r\n<!-- ü -->{html}"
    elif kind == 3:
        attached = f"{chance.randbytes(24).hex()}\r\n" * chance.randrange(2000)
        body = (
            'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
            f"--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n"
            f"--b\r\nContent-Type: application/octet-stream\r\n\r\n{attached}\r\n--b--\r\n"
        )
    else:
        body = f"Content-Type: text/html\r\n\r\n{html}"
    return (steering + headers + body).encode(), (headers + body).encode()


def trouble(seed: int) -> ScriptedUpstream:
    """An upstream that fails at random, as upstreams do."""
    chance = random.Random(seed)
    odds = {
        "CONNECT": [(0.02, "drop"), (0.02, "421 4.3.2 busy")],
        "MAIL": [(0.03, "drop"), (0.05, "451 4.3.0 later"), (0.02, "421 4.3.2 busy")],
        "RCPT": [(0.02, "drop"), (0.05, "450 4.2.1 greylisted"), (0.01, "550 5.1.1 nobody")],
        "DATA": [(0.02, "drop"), (0.02, "451 4.3.0 later")],
        "DOT": [
            (0.03, "drop"),
            (0.03, "take+drop"),
            (0.08, "451 4.3.0 later"),
            (0.02, "554 5.7.1 no"),
            (0.01, "421 4.3.2 busy"),
        ],
    }

    def script(verb: str, _argument: str, _count: int) -> str | None:
        drawn = chance.random()
        for share, answer in odds.get(verb, []):
            drawn -= share
            if drawn < 0:
                return answer
        return None

    return ScriptedUpstream(script)


class Client:
    """Sends as a mail server does: what was put off is tried again."""

    def __init__(self, relay: Relay, key: str, numbers: range) -> None:
        self.relay = relay
        self.key = key
        self.numbers = numbers
        self.chance = random.Random(numbers.start)
        self.smtp: smtplib.SMTP | None = None

    def run(self) -> list[Sent]:
        found = [self.send(number) for number in self.numbers]
        if self.smtp is not None:
            self.smtp.close()
        return found

    def send(self, number: int) -> Sent:
        raw, original = message(number, self.chance)
        whim = self.chance.random()
        if whim < 0.03:
            self.leave(raw, whim < 0.015)
            return Sent(number, original, False, whim < 0.015)
        recipients = [f"r{n}@example.com" for n in range(self.chance.choice((1, 1, 1, 3)))]
        for _ in range(TRIES):
            code = self.attempt(raw, recipients)
            if code == 250:
                return Sent(number, original, True, False)
            if 500 <= code < 600:
                return Sent(number, original, False, False)
            time.sleep(0.01)
        raise AssertionError("put off again and again")

    def attempt(self, raw: bytes, recipients: list[str]) -> int:
        """The last code of one try; 0 where the connection ended."""
        try:
            if self.smtp is None:
                self.smtp = self.relay.client("acme", self.key)
            code, _ = self.smtp.mail("ada@example.com")
            codes = [self.smtp.rcpt(one)[0] for one in recipients] if code == 250 else [code]
            if 250 not in codes:
                code = codes[-1]
            elif set(codes) == {250}:
                code, _ = self.smtp.data(raw)
                return code
            else:
                code = 451  # all or nothing, which is easier to account for
            self.smtp.rset()
            return code
        except smtplib.SMTPDataError as error:  # instead of 354
            return error.smtp_code
        except (smtplib.SMTPException, OSError):
            if self.smtp is not None:
                self.smtp.close()
            self.smtp = None
            return 0

    def leave(self, raw: bytes, whole: bool) -> None:
        """Go away behind the dot, or before it, and never come back."""
        with Wire(self.relay.port) as wire:
            wire.log_in("acme", self.key)
            for line in ("MAIL FROM:<ada@example.com>", "RCPT TO:<r@example.com>", "DATA"):
                if wire.ask(line)[0] not in (250, 354):
                    return
            dotted = re.sub(rb"(?m)^\.", b"..", raw)
            wire.send(dotted + b".\r\n" if whole else dotted)


@contextmanager
def killed_again_and_again(bell: Bell) -> Iterator[list[int]]:
    """The bell is killed and started anew, at its port; gives the list of kills."""
    over = threading.Event()
    kills: list[int] = []

    def work() -> None:
        while not over.wait(0.7):
            kills.append(bell.pid)
            bell.kill()
            over.wait(0.3)
            bell.start()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield kills
    finally:
        over.set()
        thread.join(30)


def untracked(data: bytes, number: int) -> bytes:
    target = f"https://example.com/{number}".encode()
    return LINK.sub(target, PIXEL.sub(b"", data))


def test_nothing_is_lost(tmp_path: Path, soak: bool) -> None:
    each = 40 if soak else 2
    port = free_port()
    bell = Bell(tmp_path, None, PORT=str(port))
    bell.start()
    key = create_key(bell, "acme")
    try:
        with (
            trouble(each) as upstream,
            relaying(tmp_path, upstream.url, f"--bell=http://127.0.0.1:{port}") as relay,
            killed_again_and_again(bell) as kills,
            ThreadPoolExecutor(SESSIONS) as pool,
        ):
            clients = [
                Client(relay, key, range(first * each, (first + 1) * each))
                for first in range(SESSIONS)
            ]
            sent = [one for found in pool.map(Client.run, clients) for one in found]
            assert relay.stop() == 0
            assert relay.error_file.read_text() == ""
    finally:
        bell.end()

    def numbers(mails: list[bytes]) -> list[int]:
        found = [NUMBER.search(mail) for mail in mails]
        return [int(match[1]) for match in found if match]

    assert len(sent) == SESSIONS * each
    assert kills
    taken = Counter(numbers([mail.data for mail in upstream.taken]))
    doubtful = Counter(numbers([mail.data for mail in upstream.doubtful]))
    assert sum(taken.values()) == len(upstream.taken)
    for one in sent:
        answered = taken[one.number] - doubtful[one.number]  # those with a 250 of the upstream
        if one.left:
            assert 0 <= answered <= 1, one.number
        else:
            assert answered == one.accepted, one.number  # RFC 1047 has the others
    # Every byte of those that came.
    originals = {one.number: one.original for one in sent}
    for mail in upstream.taken:
        [number] = numbers([mail.data])
        assert untracked(mail.data, number) == originals[number]
    # Some were tracked and some were not; and the log knows each.
    lines = relay.transactions()
    tracked = [line for line in lines if line["fields"]["email_id"] is not None]
    without = [line for line in lines if "bell" in line["fields"].get("reason", "")]
    assert tracked
    assert without
    relayed = [line for line in lines if line["message"] == "A message was relayed"]
    unheard = len(upstream.taken) - len(upstream.doubtful) - len(relayed)
    assert 0 <= unheard <= sum(one.left for one in sent)
    doubts = [line for line in lines if line["fields"].get("in_doubt")]
    assert len(doubts) >= len(upstream.doubtful)


@pytest.mark.soak
def test_many_rounds(tmp_path: Path, soak: bool) -> None:
    """Memory does not grow with what went through."""
    if not soak:
        pytest.skip("the long form: make soak")
    with ScriptedUpstream() as upstream, relaying(tmp_path, upstream.url) as relay:

        def resident() -> int:
            text = Path(f"/proc/{relay.process.pid}/status").read_text()
            return int(text.partition("VmRSS:")[2].split()[0])

        def rounds(count: int) -> None:
            for number in range(count):
                upstream.taken.clear()
                with relay.client() as client:
                    raw = b"Subject: x\r\n\r\n" + b"y" * 76 * number + b"\r\n"
                    client.sendmail("a@example.com", ["b@example.com"], raw)

        rounds(1000)
        before = resident()
        rounds(3000)
        assert resident() < before + 10_000
