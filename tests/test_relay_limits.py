"""Time, memory and sessions of the relay are bounded; with short times, in this process"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bell import wait_until
from little_bell.config import Config
from little_bell.ops.logs import Log
from little_bell.relay import service as services
from little_bell.relay.service import Service
from little_bell.relay.settings import Limits, Settings, read_upstream
from relays import ScriptedUpstream, Wire

MESSAGE = b"X-Little-Bell: track=none\r\nSubject: hello\r\n\r\nHello\r\n"  # waits for no bell
SHORT = Limits(
    log_in=0.6, command=0.6, block=0.6, probe=0.4, open=0.6, data=0.6, answer=0.6, stop=0.6
)


class Local:
    """A relay in a thread of its own."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream, **changed: object) -> None:
        url = read_upstream(upstream.url, "none")
        settings = Settings(
            "127.0.0.1", 0, url, "http://127.0.0.1:1", False, "", "", 1 << 20, 100, SHORT
        )
        self.settings = settings._replace(**changed)  # type: ignore[arg-type]
        self.config = Config({"DATABASE_URL": f"sqlite:{folder}/none.db"})
        self.log_file = folder / "log"
        self.loop = asyncio.new_event_loop()
        self.stop = asyncio.Event()
        self.service: Service | None = None
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.work(),))
        self.thread.start()
        wait_until(lambda: b'"port"' in self.log_file.read_bytes())
        text = self.log_file.read_text()
        self.port = int(text.partition('"port": ')[2].partition(",")[0])

    async def work(self) -> None:
        fd = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        log = Log(20, fd)
        try:
            self.service = Service(self.config, self.settings, log)
            await self.service.serve(self.stop)
        finally:
            log.output.close()
            os.close(fd)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.loop.close()


def send(wire: Wire) -> tuple[int, list[str]]:
    assert wire.ask("DATA")[0] == 354
    wire.send(MESSAGE + b".\r\n")
    return wire.read()


@contextmanager
def local(folder: Path, upstream: ScriptedUpstream, **changed: object) -> Iterator[Local]:
    (folder / "log").touch()
    relay = Local(folder, upstream, **changed)
    try:
        yield relay
    finally:
        relay.end()


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as one:
        yield one


@pytest.fixture(autouse=True)
def friendly(upstream: ScriptedUpstream) -> None:
    upstream.taken.clear()
    upstream.script = lambda *_: None


@pytest.fixture
def relay(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Local]:
    with local(tmp_path, upstream) as one:
        yield one


def test_silence_before_and_after_the_login(relay: Local) -> None:
    with Wire(relay.port) as silent, Wire(relay.port) as idle:
        idle.log_in()
        for wire in (silent, idle):
            code, [text] = wire.read()
            assert (code, text[:5]) == (421, "4.4.2")
            assert wire.closed


@pytest.mark.parametrize("greeting", ["HELO", "EHLO"])
def test_commands_have_room_however_they_were_greeted(relay: Local, greeting: str) -> None:
    with Wire(relay.port) as wire:
        assert wire.ask(f"{greeting} client.example")[0] == 250
        assert wire.ask("NOOP " + "x" * 4000)[0] == 250
        assert wire.ask("NOOP " + "x" * 4100)[0] == 500


def test_talking_is_no_login(relay: Local) -> None:
    with Wire(relay.port) as wire:
        codes = []
        while 421 not in codes:
            codes.append(wire.ask("NOOP")[0])
            time.sleep(0.05)
        assert codes[0] == 250


def test_a_message_that_stops_coming(relay: Local, upstream: ScriptedUpstream) -> None:
    with Wire(relay.port) as wire:
        wire.log_in()
        wire.begin()
        assert wire.ask("DATA")[0] == 354
        for _ in range(6):  # slowly, and longer than all limits
            time.sleep(0.15)
            wire.send(b"slow\r\n")
        assert wire.read()[0] == 421
        assert wire.closed
    assert upstream.taken == []


def test_a_slow_message_arrives(relay: Local, upstream: ScriptedUpstream) -> None:
    with Wire(relay.port) as wire:
        wire.log_in()
        wire.begin()
        assert wire.ask("DATA")[0] == 354
        wire.send(b"X-Little-Bell: track=none\r\n")
        for _ in range(6):
            time.sleep(0.15)
            wire.send(b"slow\r\n")
        wire.send(b".\r\n")
        assert wire.read()[0] == 250
    assert upstream.taken[-1].data == b"slow\r\n" * 6


def test_time_at_the_upstream_is_not_the_clients(relay: Local, upstream: ScriptedUpstream) -> None:
    def slow(verb: str, *_: object) -> None:
        if verb == "RCPT":
            time.sleep(0.5)  # in the upstream's own thread

    upstream.script = slow
    with Wire(relay.port) as wire:
        wire.log_in()
        wire.begin()
        time.sleep(0.4)
        assert send(wire)[0] == 250


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
def test_an_upstream_that_hangs(relay: Local, upstream: ScriptedUpstream, verb: str) -> None:
    upstream.script = lambda said, *_: "hang" if said == verb else None
    with Wire(relay.port) as wire:
        wire.log_in()
        said = wire.ask("MAIL FROM:<a@example.com>")
        if said[0] == 250:
            said = wire.ask("RCPT TO:<b@example.com>")
        if said[0] == 250:
            assert wire.ask("DATA")[0] == 354
            wire.send(MESSAGE + b".\r\n")
            said = wire.read()
        assert said[0] == 451
        assert said[1][0][:5] in ("4.4.1", "4.4.2")
    assert ('"in_doubt": true' in relay.log_file.read_text()) == (verb == "DOT")


def test_sessions_are_counted(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with (
        local(tmp_path, upstream, max_sessions=2, limits=Limits()) as relay,
        Wire(relay.port) as first,
        Wire(relay.port),
    ):
        with Wire(relay.port, greet=False) as third:
            assert third.read()[0] == 421
            assert third.closed
        first.ask("QUIT")
        assert first.closed
        wait_until(lambda: relay.service is None or len(relay.service.sessions) == 1)
        with Wire(relay.port) as fourth:
            fourth.log_in()


def test_bytes_are_counted(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "HELD", 0)
    with (
        local(tmp_path, upstream, max_size=100_000, limits=Limits()) as relay,
        Wire(relay.port) as first,
        Wire(relay.port) as second,
    ):
        service = relay.service
        assert service is not None
        for wire in (first, second):
            wire.log_in()
            wire.begin()
            assert wire.ask("DATA")[0] == 354
        piece = b"x" * 998 + b"\r\n"
        first.send(piece * 60)
        wait_until(lambda: service.held == 59_998)  # the last CRLF may belong to the end
        second.send(piece * 60 + b".\r\n")
        code, [text] = second.read()
        assert (code, text[:5]) == (452, "4.3.1")
        first.send(b".\r\n")
        assert first.read()[0] == 250
        assert service.held == 0
        assert second.ask("MAIL FROM:<a@example.com>")[0] == 250
        assert second.ask("RCPT TO:<b@example.com>")[0] == 250
        assert second.ask("DATA")[0] == 354
        second.send(piece * 60 + b".\r\n")
        assert second.read()[0] == 250
        assert service.held == 0


def test_the_stop_waits_no_longer(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    limits = SHORT._replace(block=60, command=60)
    with local(tmp_path, upstream, limits=limits) as relay, Wire(relay.port) as wire:
        wire.log_in()
        wire.begin()
        assert wire.ask("DATA")[0] == 354
        relay.loop.call_soon_threadsafe(relay.stop.set)
        assert wire.closed
        relay.thread.join(20)
    assert '"cut_off": 1' in relay.log_file.read_text()


def test_a_stop_under_load_is_no_fault(
    tmp_path: Path, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> None:
        with suppress(AssertionError, OSError), Wire(busy.port) as wire:
            wire.log_in()
            while True:
                wire.begin()
                send(wire)

    with local(tmp_path, upstream, limits=Limits()) as busy:
        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(upstream.taken) > 100)
    for thread in threads:
        thread.join(10)
    gc.collect()
    assert '"ERROR"' not in busy.log_file.read_text()
    assert [one for one in caplog.records if one.name == "asyncio"] == []
