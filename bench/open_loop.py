"""The open loop: opens arrive when they are due, whether or not earlier ones were answered.

usage: open_loop.py PORT RATE SECONDS WARM_UP CONNECTIONS EMAILS NEWEST SHARE [PATHS]

Readers do not wait for each other, so arrivals are a Poisson process, drawn before the start.
Latency counts from the moment a request was DUE, not from when it was sent: a server that stalls
pays for every request that would have come meanwhile. At most one request is in flight on each
connection; those that are due and find none free wait, and the wait counts.

A process of its own, one thread, no imports beyond the standard library: it shares the machine
with the server that it measures. Prints one line of JSON; times are in seconds.
"""

import gc
import json
import random
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36"
)
OVERTIME = 15.0  # seconds after the last arrival until what is unanswered is given up
SHORTEST = 20e-6  # seconds that are worth sleeping


class Outcome(NamedTuple):
    """When each request was due, sent and answered, in seconds from the start; 0: never."""

    due: list[float]
    sent: list[float]
    answered: list[float]
    free_since: list[float]  # when its connection, or another, was free for it


def schedule(rate: float, seconds: float) -> list[float]:
    """Times of arrivals, in seconds from the start."""
    pick = random.Random(7)
    due: list[float] = []
    at = 0.0
    while True:
        at += pick.expovariate(rate)
        if at >= seconds:
            return due
        due.append(at)


def request(path: str) -> bytes:
    """One open."""
    return (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: {BROWSER}\r\n\r\n").encode(
        "ascii"
    )


def requests(n: int, paths: list[str], newest: int, share: float) -> list[bytes]:
    """What is asked, in order: a share among the newest emails, the rest over all."""
    pick = random.Random(8)
    return [
        request(paths[-1 - pick.randrange(newest)] if pick.random() < share else pick.choice(paths))
        for _ in range(n)
    ]


def pixels(emails: int, file: str) -> list[str]:
    """The path of each email's pixel: the plain ones, or the lines of a file."""
    if not file:
        return [f"/acme/pixel/{email}.gif" for email in range(1, emails + 1)]
    with open(file) as lines:
        return [line.strip() for line in lines]


def connect(port: int, connections: int, path: str) -> tuple[dict[int, socket.socket], int]:
    """Connections by descriptor, each used once, and the size of an answer in bytes."""
    clients = {}
    size = 0
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port), 10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(request(path))
        answer = client.recv(65_536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not an answer: {answer[:80]!r}")
        size = len(answer)
        client.setblocking(False)
        clients[client.fileno()] = client
    return clients, size


def drive(
    clients: dict[int, socket.socket], size: int, due: list[float], asked: list[bytes]
) -> Outcome:
    """Send each request when it is due, or as soon after as a connection is free."""
    total = len(due)
    sent, answered, free_since = [0.0] * total, [0.0] * total, [0.0] * total
    poller = select.epoll()
    for fd in clients:
        poller.register(fd, select.EPOLLIN)
    free = list(clients)
    current = dict.fromkeys(clients, 0)  # descriptor: the request in flight on it
    got = dict.fromkeys(clients, 0)  # descriptor: bytes of its answer
    clock, sleep_on = time.perf_counter, [poller.fileno()]
    following, done, freed = 0, 0, 0.0
    end = due[-1] + OVERTIME
    start = clock()
    while done < total:
        now = clock() - start
        if now > end:
            break
        while following < total and free and due[following] <= now:
            fd = free.pop()
            clients[fd].send(asked[following])
            current[fd], free_since[following] = following, freed
            sent[following] = now = clock() - start
            following += 1
        if following < total and free:
            wait = due[following] - now
        else:
            wait = 0.1
        # select() sleeps for microseconds; epoll's own timeout is in whole milliseconds.
        if wait > SHORTEST:
            select.select(sleep_on, (), (), wait)
        for fd, _ in poller.poll(0):
            got[fd] += len(clients[fd].recv(65_536))
            if got[fd] >= size:
                answered[current[fd]] = clock() - start
                got[fd] = 0
                done += 1
                if not free:
                    freed = answered[current[fd]]
                free.append(fd)
    return Outcome(due, sent, answered, free_since)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that a share of the others does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def summary(outcome: Outcome, warm_up: float, cpu: float) -> dict[str, float]:
    """Percentiles of what was due after the warm-up. `cpu` is seconds that the client used."""
    first = sum(at < warm_up for at in outcome.due)
    due, sent, answered, free_since = (values[first:] for values in outcome)
    last = OVERTIME + due[-1]
    # What was never answered took at least until the end.
    latency = sorted((b or last) - a for a, b in zip(due, answered, strict=True))
    # The client's own fault: a connection was free, and the request was late all the same.
    lag = sorted(s - max(d, f) for d, s, f in zip(due, sent, free_since, strict=True) if s)
    span = max(answered) - warm_up
    return {
        "requests": len(due),
        "unanswered": sum(not at for at in answered),
        "offered": len(due) / (due[-1] - warm_up),
        "achieved": sum(at > 0 for at in answered) / span,
        "p50": percentile(latency, 0.5),
        "p99": percentile(latency, 0.99),
        "p999": percentile(latency, 0.999),
        "max": latency[-1],
        "lag_p99": percentile(lag, 0.99),
        "lag_max": lag[-1],
        "cpu": cpu / max(outcome.answered),
    }


def main(arguments: list[str]) -> None:
    port, connections, emails, newest = (int(arguments[i]) for i in (0, 4, 5, 6))
    rate, seconds, warm_up, share = (float(arguments[i]) for i in (1, 2, 3, 7))
    due = schedule(rate, warm_up + seconds)
    paths = pixels(emails, "".join(arguments[8:]))
    asked = requests(len(due), paths, newest, share)
    clients, size = connect(port, connections, paths[0])
    gc.collect()
    gc.disable()
    before = time.process_time()
    outcome = drive(clients, size, due, asked)
    print(json.dumps(summary(outcome, warm_up, time.process_time() - before)))


if __name__ == "__main__":
    main(sys.argv[1:])
