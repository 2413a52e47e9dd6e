"""Fuzzing guided by coverage (https://github.com/google/atheris); a program for the tests.

usage: fuzz_harness.py requests|reader|tokens|fault FOLDER SECONDS [SEED]

It works in FOLDER, which is empty. Exit code 0 where nothing escaped; else the input and what it
did are printed, and the input is in FOLDER. `fault` finds what is there to be found.
"""

import os
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from time import monotonic

import atheris

with atheris.instrument_imports(include=["little_bell"]):
    import little_bell.api.batches
    import little_bell.api.blocks
    import little_bell.api.emails
    import little_bell.api.recipients
    import little_bell.store.edits
    import little_bell.store.switching
    from little_bell.api.reads import Reads
    from little_bell.config import Config
    from little_bell.errors import Refused
    from little_bell.ops.logs import Log
    from little_bell.ops.secret import Secret
    from little_bell.pages.views import Views
    from little_bell.store.checkpoint import Checkpointer
    from little_bell.store.reader import Reader as StoreReader
    from little_bell.store.recorder import Recorder
    from little_bell.store.writer import Writer
    from little_bell.tracking.addresses import CLICK, VERSION, Addresses, encode
    from little_bell.tracking.client import client_address, parse_networks, truncate
    from little_bell.tracking.hit import parse_id
    from little_bell.tracking.links import MAX_URL, canonical, query_value
    from little_bell.tracking.signing import MAC, Keyring
    from little_bell.wire.answers import problem
    from little_bell.wire.connection import Later
    from little_bell.wire.fast_lane import FastLane
    from little_bell.wire.http import BadRequest, Reader, Request
    from little_bell.wire.representation import represent, represent_long
    from little_bell.wire.routes import ROUTES

SEEDS = Path(__file__).with_name("fuzz")
PEER = b"\x7f\x00\x00\x01"
KEYS = ("a-key-of-the-fuzzers", "and-an-older-one")
RING = Keyring([key.encode("ascii") for key in KEYS])
LONGEST = 2000  # bytes of an input
PIECES = 40  # of a long answer that are read
INPUTS = 1000  # for which a database is used

Harness = Callable[[bytes], None]


def seeds(name: str) -> list[bytes]:
    """The seeds of a harness; lines of the reader's end as those of HTTP do."""
    text = (SEEDS / f"{name}.txt").read_bytes()
    found = text.removesuffix(b"\n").split(b"\n%%\n")
    return [one.replace(b"\n", b"\r\n") for one in found] if name == "reader" else found


def told(bad: BadRequest | Refused) -> None:
    """Fails where a refusal is none of what came."""
    assert 400 <= bad.status < 500 or bad.status == 505, bad


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# A whole bell, without its sockets


class Bell:
    """Both lanes on a scratch database."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "t.db")
        settings = {"DATABASE_URL": f"sqlite:{path}", "CORS_ORIGINS": "https://app.example"}
        settings |= {"SECRET_KEY": " ".join(KEYS)}
        settings |= {"TRUSTED_PROXIES": "private,loopback", "MAX_REQUESTS_PER_MINUTE": "0"}
        self.config = Config(settings)
        self.writer = Writer(path)
        self.writer.connection.pragma("synchronous", "off")
        recorder = Recorder(self.writer, 1 << 20)
        checkpointer = Checkpointer(self.writer, 1 << 24)
        log = Log(100)
        secret = Secret(self.config)
        self.lane = FastLane(self.config, recorder, checkpointer, log, lambda *_: None, secret)
        self.reader = StoreReader(path)
        self.handlers = (
            Views(self.config, self._reader, self.lane.tracker.addresses),
            Reads(self.config, self._reader),
        )

    def _reader(self) -> StoreReader:
        return self.reader

    def ask(self, request: Request) -> int:
        """Decide a request as both lanes would; the status. Raises whatever a lane would log."""
        lane = self.lane
        lane.begin_tick()
        outcome = lane.handle(request, PEER)
        lane.commit()
        answer = outcome.answer if isinstance(outcome, Later) else outcome
        self.finish()
        return self.slowly(request) if answer is None else status_of(answer)

    def finish(self) -> None:
        """Let what was begun come to its end."""
        lane = self.lane
        for _ in range(100):
            if lane.bulk.job(monotonic()) is None:
                return
            lane.begin_tick()
            lane.commit()
        raise AssertionError("a job has no end")

    def slowly(self, request: Request) -> int:
        """What the slow lane makes of a request."""
        methods, parts, query = self.lane.router.find(request.target)
        route = (methods or {})[request.method]
        if route.name == "erase_recipient":
            try:
                little_bell.api.recipients.parse_erasure(parts, query)
            except Refused as refused:
                return problem(refused, route.page)[0]
            return 202
        if route.lane == "either":
            tenant = parts[1].decode("latin-1")
            try:
                list(little_bell.api.batches.emails_of_list(tenant, BytesIO(request.body)))
            except Refused as refused:
                return problem(refused, route.page)[0]
            return 201
        segments = [part.decode("latin-1") for part in parts]
        handler = getattr(self.handlers[0 if route.page else 1], route.name)
        try:
            page = handler(segments, query, request.headers)
            if isinstance(page.body, bytes):
                return represent(request, page.status, page.headers, page.body)[0]
            represent_long(request, page.headers)
            for _, piece in zip(range(PIECES), page.body, strict=False):
                assert isinstance(piece, bytes)
            page.body.close()
        except Refused as refused:
            return problem(refused, route.page)[0]
        return int(page.status)

    def fill(self) -> None:
        """Something to be found."""
        email = b'{"subject": "Hello", "recipient": "ada@example.com", "campaign": "spring"}'
        click = (
            b"GET /acme/click/1?url=https%3A%2F%2Fexample.com%2F\nUser-Agent: Mozilla/5.0 (X11) "
        )
        for seed, status in (
            (b"POST /acme/emails\n\n" + email, 201),
            (b"POST /acme/emails\n\n" + email, 201),
            (b"GET /acme/pixel/1.gif\n\n", 200),
            (click + b"Firefox/130.0\n\n", 302),
            (b'POST /acme/blocks\n\n{"url": "https://evil.example/"}', 201),
        ):
            request = read_one(as_bytes(seed))
            assert request is not None
            assert self.ask(request) == status, seed

    def close(self) -> None:
        self.reader.close()
        self.lane.checkpointer.close()
        self.writer.close()
        self.lane.checkpointer.release()


def as_bytes(data: bytes) -> bytes:
    """A request of the form of requests.txt as bytes of HTTP."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((first + b" HTTP/1.1", b"Host: bell", *lines, b"", body))


def read_one(data: bytes) -> Request | None:
    """The first request of some bytes, None where it is not whole or none."""
    reader = Reader(65_536)
    reader.feed(data)
    try:
        return reader.next()
    except BadRequest as bad:
        told(bad)
        return None
    finally:
        reader.close()


def requests(folder: Path) -> Harness:
    """Any request: of the form of requests.txt. The database is a new one now and then."""
    bells: list[Bell] = []
    count = 0

    def harness(data: bytes) -> None:
        nonlocal count
        if count % INPUTS == 0:
            while bells:
                bells.pop().close()
            for path in folder.glob("t.db*"):
                path.unlink()
            bells.append(Bell(folder))
            bells[0].fill()
        count += 1
        request = read_one(as_bytes(data) + b"\r\n\r\n" * (b"\n\n" not in data))
        if request is not None:
            status = bells[0].ask(request)
            assert 100 <= status < 500, (status, request.target, request.headers, request.body)

    return harness


# The reader of requests


def reader(_folder: Path) -> Harness:
    """Any bytes, in any pieces: the first byte says how they are cut."""

    def harness(data: bytes) -> None:
        if not data:
            return
        whole, parts = read_all(data[1:], len(data)), read_all(data[1:], 1 + data[0] % 64)
        # What is right behind a chunked body is served where it came later, else closed upon.
        shorter = min(len(whole), len(parts))
        assert whole[:shorter] == parts[:shorter], "pieces make a difference"
        chunked = b"chunked" in data.lower()
        assert chunked or len(whole) == len(parts), "pieces make a difference"

    return harness


def read_all(data: bytes, size: int) -> list[tuple[object, ...]]:
    """What a reader says of bytes that come in pieces of a size."""
    requests: list[tuple[object, ...]] = []
    found = Reader(1000, max_head=500, max_headers=20)
    try:
        for at in range(0, len(data), size):
            found.feed(data[at : at + size])
            while (request := found.next()) is not None:
                assert request.body is not None
                assert len(request.body) <= 1000
                requests.append((request.method, request.target, request.body))
                assert read_one(request.dump()) is not None, "the other lane cannot read it"
                if not request.keep_alive:
                    return requests
    except BadRequest as bad:
        told(bad)
    finally:
        found.close()
    return requests


# Tokens, targets, addresses


def tokens(_folder: Path) -> Harness:
    """Any text in place of a token, a target, an id or an address."""
    networks = parse_networks("private,loopback")
    readers = list(link_readers())

    def harness(data: bytes) -> None:
        target(data.decode("utf-8", "surrogateescape"))
        target(data.decode("latin-1"))
        try:
            value = query_value(b"url=" + data, "url")
            target(value)
            query_value(data, "url")
        except Refused as refused:
            told(refused)
        assert 0 <= parse_id(data) < 10**18
        address = client_address(PEER, {b"x-forwarded-for": data}, networks)
        assert len(address) in (4, 16)
        assert len(truncate(address)) in (3, 6)
        signature(data)
        for read in readers:
            read(data)

    return harness


def target(text: str | None) -> None:
    """A target is refused, or canonical: what a browser reads it as, and it stays so."""
    try:
        url = canonical(text)
    except Refused as refused:
        told(refused)
        return
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert "\\" not in url.partition("?")[0].partition("#")[0]
    assert len(url) <= MAX_URL
    assert url.startswith(("http://", "https://"))
    host = url.partition("://")[2].partition("/")[0]
    assert host
    assert "@" not in host
    assert canonical(url) == url


def signature(data: bytes) -> None:
    """Nobody without a key signs; fields cannot be shifted."""
    cut = data[0] % (len(data) + 1) if data else 0
    fields = (data[:cut], data[cut:])
    mac = RING.sign(b"x", *fields)
    assert len(mac) == MAC
    assert RING.verify(mac, b"x", *fields)
    assert not RING.verify(mac, b"y", *fields)
    assert not RING.verify(mac, b"x", data)
    assert not RING.verify(mac, b"x", data, b"") or cut == len(data)
    assert not RING.verify(data, b"x", *fields)


def link_readers() -> Iterator[Callable[[bytes], None]]:
    """What reads a link's token."""
    read = Addresses(RING, False).read_link

    def strangers(data: bytes) -> None:
        assert read(b"acme", b"1", data) is None
        assert read(data, data, data) is None

    def signed(data: bytes) -> None:
        """By somebody who has the key: what it holds is anything."""
        cut = data[0] % (len(data) + 1) if data else 0
        label, part, url = data[:cut][:255], data[cut:][:3], data[cut:][3:]
        mac = RING.sign(CLICK, b"acme", b"1", label, part, url)
        sizes = (bytes([len(label)]), bytes([len(part)]))
        token = bytes([VERSION]) + mac + sizes[0] + label + sizes[1] + part + url
        read(b"acme", b"1", encode(token).encode("ascii"))

    yield strangers
    yield signed


def fault(_folder: Path) -> Harness:
    """Fails, so that the tests see that a failure is seen."""

    def harness(data: bytes) -> None:
        if data[:4] == b"HEAD":
            raise RuntimeError("found")

    return harness


HARNESSES: dict[str, Callable[[Path], Harness]] = {
    "requests": requests,
    "reader": reader,
    "tokens": tokens,
    "fault": fault,
}


def main() -> None:
    name, folder, seconds, seed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    given, kept = folder / "seeds", folder / "corpus"
    for one in (given, kept):
        one.mkdir()
    for n, text in enumerate(seeds("requests" if name == "fault" else name)):
        (given / f"{n}").write_bytes(b"\x05" + text if name == "reader" else text)
    words = {segment for route in ROUTES for segment in route.pattern.split("/") if segment}
    words |= {"acme", "url=", "cursor=", "limit=", "GET ", "POST ", "HTTP/1.1", "https://", "%FF"}
    (folder / "words").write_text("".join(f'"{word}"\n' for word in sorted(words)))
    harness = HARNESSES[name](folder)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={folder}/",
        f"-dict={folder}/words",
        f"-seed={seed[0] if seed else 0}",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(kept), str(given)], harness)
    os.chdir(folder)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
