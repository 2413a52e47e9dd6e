"""Makes and unmakes something many times in one process; a program of its own for the tests.

usage: leak_loops.py server|store TIMES FILE

It works in the current folder. Each time adds a JSON line to FILE: how many descriptors, threads
and children the process has then, and its resident bytes.
"""

import gc
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from little_bell.config import Config
from little_bell.errors import LittleBellError, StartError
from little_bell.ops.metrics import resident_bytes
from little_bell.serve import open_store, serve
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.lock import Lock
from little_bell.store.recorder import Recorder
from little_bell.tracking.email import NewEmail
from little_bell.tracking.hit import CLICK, OPEN, Hit
from little_bell.wire.control import call

SETTINGS = {"PORT": "0", "HOST": "127.0.0.1", "PATH": os.environ.get("PATH", "")}
PATIENCE = 20.0  # seconds


def with_a_server(turn: int) -> None:
    """Serve from start to SIGTERM, with a client that uses a bit of everything."""
    config = Config(SETTINGS)
    client = threading.Thread(target=use, args=(config.database_url, turn % 10 == 0))
    client.start()
    serve(config, SETTINGS)
    client.join()


def use(database: str, page: bool) -> None:
    """Ask the server that comes up, then end it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            status = json.loads(call(database, "GET", "/status")[1])
            break
        except LittleBellError:
            if time.monotonic() > deadline:
                os._exit(1)
            time.sleep(0.005)
    try:
        connection = http.client.HTTPConnection(urlsplit(status["url"]).netloc, timeout=PATIENCE)
        targets = [
            "/acme/pixel/1.gif",
            "/acme/click/1?url=https%3A%2F%2Fexample.com%2F",
            "/metrics",
        ]
        connection.request("POST", "/acme/emails", "{}")
        connection.getresponse().read()
        for target in targets + ["/acme/dashboard"] * page:
            connection.request("GET", target)
            connection.getresponse().read()
        connection.close()
        call(database, "POST", "/checkpoint")
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def with_a_store(turn: int) -> None:
    """Open the store, write, checkpoint, open the file again, close."""
    config = Config(SETTINGS)
    lock, writer = open_store(config)
    try:
        Lock(config.database_url)
    except StartError:
        pass  # it is ours already
    recorder = Recorder(writer, config.max_waiting_bytes)
    checkpointer = Checkpointer(writer, config.max_wal_bytes)
    emails = [NewEmail("acme", "Hello", None, "spring", None)] * 100
    hits = [
        Hit(1, n, kind, turn, 0, f"Agent/{turn}", b"abc", "https://example.com/" if kind else None)
        for n in range(1, 100)
        for kind in (OPEN, CLICK)
    ]
    assert recorder.record(turn, emails, [], 0.0).durable
    assert recorder.record(turn, [], hits, 0.0).durable
    checkpointer.ask()
    checkpointer.step(1.0)
    checkpointer.wait()
    checkpointer.step(2.0)
    assert checkpointer.count == 1
    writer.reopen()
    assert recorder.record(turn, [], hits, 0.0).durable
    assert recorder.close() == 0
    checkpointer.close()
    writer.close()
    checkpointer.release()
    lock.release()


LOOPS: dict[str, Callable[[int], None]] = {"server": with_a_server, "store": with_a_store}


def settled() -> dict[str, int]:
    """What the process has, once its threads had time to end."""
    gc.unfreeze()  # what a server had frozen when it started
    gc.collect()
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        "bytes": resident_bytes(),
    }


def main() -> int:
    loop, times, path = LOOPS[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
    with open(path, "a", buffering=1) as file:
        for turn in range(times):
            loop(turn)
            file.write(json.dumps(settled()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
