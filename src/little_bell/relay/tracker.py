"""One message is tracked by the bell, within a bounded time; else it goes out as it came."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from little_bell.client import Client
from little_bell.mail.steering import read_steering, without_steering
from little_bell.relay.credentials import Login

LARGE = 1 << 20  # bytes from which a message has a lane of its own: others do not wait behind it
THREADS = 16  # that wait for the bell
LARGE_THREADS = 2  # each takes some ten times its message in memory
CLIENTS = 256  # whose connections are kept, each of one tenant with one key
LEFT = "the bell left it as it is: its report has problems"
GRACE = 0.5  # seconds that the library may take beyond its own bound


class Outcome(NamedTuple):
    """What is sent on. `problem` says why it is not tracked, where it should be; `note` that the
    bell had a reason to leave it alone (no consent, an opt-out, a message it cannot read)."""

    message: bytes
    email_id: int | None
    problem: str | None = None
    note: str | None = None


class Tracker:
    """Asks the bell at one URL."""

    def __init__(self, bell: str, seconds: float, large_seconds: float) -> None:
        self.small = Lane(bell, seconds, THREADS)
        self.large = Lane(bell, large_seconds, LARGE_THREADS)

    async def track(self, message: bytes, login: Login, recipient: str) -> Outcome:
        """The tracked message; the original without X-Little-Bell where there is none in time.
        `recipient` is nothing where nobody could say who of several opened. Never raises."""
        if read_steering(message).get("track", "").lower() == "none":
            return Outcome(without_steering(message), None)
        lane = self.small if len(message) < LARGE else self.large
        asked = asyncio.get_running_loop().run_in_executor(
            lane.pool, track, lane.client(login), message, recipient
        )
        try:
            async with asyncio.timeout(lane.seconds + GRACE):
                outcome = await asked
        except TimeoutError:
            return untracked(message, f"the bell did not answer within {lane.seconds:g} s")
        if outcome.problem is not None:
            return untracked(message, outcome.problem)
        if outcome.message.isascii() < message.isascii() or not whole_lines(outcome.message):
            return untracked(message, "the bell's message cannot go where the original can")
        return outcome

    def close(self) -> None:
        for lane in (self.small, self.large):
            lane.pool.shutdown(wait=False, cancel_futures=True)


class Lane:
    """Threads, and clients that learn from each other's failures: after one that took its time
    the library rests for a while, and asks nothing."""

    def __init__(self, bell: str, seconds: float, threads: int) -> None:
        self.bell = bell
        self.seconds = seconds
        self.pool = ThreadPoolExecutor(threads, "bell")
        self.clients: dict[Login, Client] = {}

    def client(self, login: Login) -> Client:
        client = self.clients.pop(login, None)
        if client is None:
            if len(self.clients) >= CLIENTS:
                self.clients.pop(next(iter(self.clients))).close()
            key = login.key if login.key.isascii() and login.key.isprintable() else ""
            usable = key if key and " " not in key else None
            client = Client(self.bell, login.tenant, usable, timeout=self.seconds)
        self.clients[login] = client  # the last one used is the last one
        return client


def track(client: Client, message: bytes, recipient: str) -> Outcome:
    """The one call. Blocks."""
    tracked = client.track_bytes(message, recipient=recipient)
    if tracked.error is not None:
        status = tracked.error.status
        said = f"answered {status}" if status else f"cannot be used: {tracked.error}"
        return untracked(message, f"the bell {said}")
    alone = tracked.message == without_steering(message)
    note = LEFT if alone and tracked.report and tracked.report["problems"] else None
    sent = without_steering(tracked.message)  # whatever it was that answered
    if sent and not sent.endswith(b"\r\n"):  # the pixel may be last; SMTP ends lines
        sent += b"\r\n"
    return Outcome(sent, tracked.email_id, note=note)


def untracked(message: bytes, problem: str) -> Outcome:
    """It goes out as it came."""
    return Outcome(without_steering(message), None, problem)


def whole_lines(message: bytes) -> bool:
    """Whether each CR and each LF is part of a CRLF. Nothing else is safe to send on: servers
    differ in what ends a message (CVE-2023-51764, -51765, -51766)."""
    ends = message.count(b"\r\n")
    return message.count(b"\n") == message.count(b"\r") == ends
