"""Long answers of the slow lane: made piece by piece, at the pace of the client"""

import contextlib
import http.client
import os
import signal
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from batches import alive, descriptors, slow_lane
from bell import Line, raw_request, wait_until
from streams import Streaming, body_of, resident

MB = 1 << 20
ENDLESS = "pieces=1000000&size=65536"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streaming]:
    bell = Streaming(tmp_path_factory.mktemp("streams"))
    try:
        bell.start()
        yield bell
    finally:
        bell.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Streaming]]:
    started: list[Streaming] = []

    def start(**settings: str) -> Streaming:
        started.append(Streaming(tmp_path, **settings))
        started[-1].start()
        return started[-1]

    yield start
    for bell in started:
        bell.end()


def closed(bell: Streaming, name: str) -> bool:
    return bell.notes(name)[-1:] == ["closed"]


def wait_made(bell: Streaming, *names: str, seconds: float = 20) -> None:
    """Wait until the first piece of each is made."""
    wait_until(lambda: all(bell.made(name) for name in names), seconds)


def wait_closed(bell: Streaming, *names: str) -> None:
    wait_until(lambda: all(closed(bell, name) for name in names))


def drain(line: Line) -> None:
    """Read to the end. Raises ConnectionResetError where that is a reset."""
    while line.socket.recv(1 << 20):
        pass


def counted(bell: Streaming, status: int, route: str = "stream") -> int:
    """Requests of a route that the slow lane reported with a status."""
    text = bell.get("/metrics").body.decode()
    rows = [row for row in text.splitlines() if f'route="{route}"' in row]
    return sum(int(float(row.split()[-1])) for row in rows if f'status="{status}"' in row)


def dechunk(data: bytes) -> tuple[bytes, bool]:
    """A chunked body, and whether its last chunk came."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return body, data == b"\r\n"
        body += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return body, False


def test_it_works(bell: Streaming) -> None:
    with bell.asking("/acme/stream?name=works&pieces=800&size=65536") as answer:
        assert answer.status == 200
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in answer.headers
        assert answer.read() == body_of(800, 65536)
    wait_closed(bell, "works")


def test_http_1_0_reads_until_the_end(bell: Streaming) -> None:
    with bell.begin("/acme/stream?name=old&pieces=100&size=50000", version="1.0") as line:
        head, _, body = line.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"content-length" not in head.lower()
    assert body == body_of(100, 50000)


@pytest.mark.parametrize(("pieces", "size"), [(0, 0), (3, 0), (1, 1), (1, 1000), (500, 7)])
def test_small_ones(bell: Streaming, pieces: int, size: int) -> None:
    target = f"/acme/stream?name=small&pieces={pieces}&size={size}"
    with bell.begin(target) as line:
        _, _, body = line.rest().partition(b"\r\n\r\n")
    assert dechunk(body) == (body_of(pieces, size), True)


def test_head_makes_nothing(bell: Streaming) -> None:
    answer = bell.ask("HEAD", "/acme/stream?name=head&pieces=3&size=10")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert bell.notes("head") == []


def test_a_client_that_reads_slowly_holds_little_memory(bell: Streaming) -> None:
    with bell.asking("/acme/stream?name=warm&pieces=200&size=65536") as answer:
        answer.read()
    pid = slow_lane(bell)
    before = resident(pid)
    with ExitStack() as clients:
        names = [f"slow{n}" for n in range(20)]
        for name in names:
            clients.enter_context(bell.begin(f"/acme/stream?name={name}&{ENDLESS}"))
        wait_made(bell, *names)
        time.sleep(1)
        made = [bell.made(name) for name in names]
        time.sleep(1)
        assert [bell.made(name) for name in names] == made, "pieces nobody asked for"
        assert max(made) * 65536 < 8 * MB, "more than the kernel holds for a client"
        assert resident(pid) - before < 20 * 3 * 65536 + 4 * MB
    wait_closed(bell, *names)


def test_a_long_one_at_a_steady_pace_holds_little_memory(bell: Streaming) -> None:
    with bell.asking("/acme/stream?name=first&pieces=200&size=65536") as answer:
        answer.read()
    pid = slow_lane(bell)
    before = resident(pid)
    with bell.asking("/acme/stream?name=steady&pieces=3000&size=65536") as answer:
        most = size = 0
        while data := answer.read(1 << 20):
            size += len(data)
            most = max(most, resident(pid))
    assert size == 3000 * 65536
    assert most - before < 4 * MB


def test_the_maker_is_closed_when_its_client_goes(bell: Streaming) -> None:
    line = bell.begin(f"/acme/stream?name=reset&{ENDLESS}")
    wait_made(bell, "reset")
    line.reset()
    wait_closed(bell, "reset")
    with bell.begin(f"/acme/stream?name=ended&{ENDLESS}"):
        wait_made(bell, "ended")
    wait_closed(bell, "ended")


def test_each_is_counted_once_and_nothing_leaks(start: Callable[..., Streaming]) -> None:
    bell = start()
    with bell.asking("/acme/stream?name=warm&pieces=20&size=65536") as answer:
        answer.read()
    held = descriptors(slow_lane(bell))
    for n in range(30):
        line = bell.begin(f"/acme/stream?name=leak{n}&{ENDLESS}")
        wait_made(bell, f"leak{n}")
        line.reset()
    # This one goes before its head could be sent.
    line = bell.begin("/acme/stream?name=early&pieces=3&size=9&pause=0.3")
    wait_until(lambda: bell.notes("early"))
    line.reset()
    wait_closed(bell, "early", *(f"leak{n}" for n in range(30)))
    wait_until(lambda: counted(bell, 200) == 32)
    assert counted(bell, 499) == 0
    assert descriptors(slow_lane(bell)) <= held
    assert bell.failures() == []


def test_an_error_in_the_middle_is_seen(bell: Streaming) -> None:
    with bell.asking("/acme/stream?name=fails&pieces=9&size=1000&fail=5") as answer:
        assert answer.status == 200
        with pytest.raises(http.client.IncompleteRead) as found:
            answer.read()
    assert found.value.partial == body_of(5, 1000)
    assert "RuntimeError('on purpose')" in bell.failures()
    assert closed(bell, "fails")


def test_an_error_in_the_middle_resets_http_1_0(bell: Streaming) -> None:
    target = "/acme/stream?name=cut&pieces=9&size=1000&fail=5&pause=0.05"
    with bell.begin(target, version="1.0") as line, pytest.raises(ConnectionResetError):
        drain(line)


@pytest.mark.parametrize(("what", "status"), [("fail", 500), ("refuse", 409)])
def test_what_fails_before_the_first_piece_is_an_answer(
    bell: Streaming, what: str, status: int
) -> None:
    answer = bell.get(f"/acme/stream?name=none&pieces=9&size=1000&{what}=0")
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status


@pytest.mark.alone
def test_pages_are_answered_while_exports_run(bell: Streaming) -> None:
    with ExitStack() as clients:
        names = [f"busy{n}" for n in range(10)]
        for name in names:
            target = f"/acme/stream?name={name}&pieces=100&size=100&pause=0.8"
            clients.enter_context(bell.begin(target))
        wait_until(lambda: any(bell.made(name) for name in names))
        for _ in range(10):
            begun = time.monotonic()
            assert bell.get("/acme/dashboard").status == 200
            assert time.monotonic() - begun < 0.5
        wait_made(bell, *names, seconds=10)  # each has its turn
        threads = [bell.threads(name) for name in names]
        assert len(set().union(*threads)) == 2
    wait_closed(bell, *names)


def test_of_too_many_the_newest_is_refused_or_the_stalled_one_gives_way(
    start: Callable[..., Streaming],
) -> None:
    bell = start()
    with ExitStack() as clients:
        names = [f"many{n}" for n in range(64)]
        for name in names:
            clients.enter_context(bell.begin(f"/acme/stream?name={name}&{ENDLESS}"))
        wait_made(bell, *names)
        answer = bell.get("/acme/stream?name=more&pieces=1&size=1")
        assert answer.status == 503
        assert "retry-after" in answer.headers
        assert bell.notes("more") == []
        assert bell.get("/").status == 200
        time.sleep(6)  # nobody took anything for more than five seconds
        assert bell.get("/acme/stream?name=late&pieces=1&size=1").status == 200
        wait_until(lambda: any(closed(bell, name) for name in names))
        assert sum(closed(bell, name) for name in names) == 1


def test_the_slow_lane_stays_while_one_is_under_way(start: Callable[..., Streaming]) -> None:
    bell = start(SLOW_LANE_IDLE_SECONDS="0.5")
    with bell.asking("/acme/stream?name=stay&pieces=40&size=100&pause=0.1") as answer:
        body = answer.read(3000)
        assert bell.get("/").status == 200
        assert bell.metrics()["slow_lane_starts_total"] == 1
        assert body + answer.read() == body_of(40, 100)
    wait_until(lambda: not alive(bell))
    assert bell.metrics()["slow_lane_starts_total"] == 1


def test_a_stop_does_not_wait_for_a_client_that_reads_nothing(
    start: Callable[..., Streaming],
) -> None:
    bell = start()
    with bell.begin(f"/acme/stream?name=stop&{ENDLESS}", version="1.0") as line:
        wait_made(bell, "stop")
        begun = time.monotonic()
        assert bell.stop() == 0
        assert time.monotonic() - begun < 9
        assert closed(bell, "stop"), "it was killed"
        with pytest.raises(ConnectionResetError):
            drain(line)


def test_one_that_ends_soon_is_finished_at_a_stop(start: Callable[..., Streaming]) -> None:
    bell = start()
    with bell.asking("/acme/stream?name=soon&pieces=10&size=100&pause=0.2") as answer:
        assert bell.process is not None
        bell.process.send_signal(signal.SIGTERM)
        assert answer.read() == body_of(10, 100)
    assert bell.process.wait(10) == 0


def test_gzip_comes_piece_by_piece(bell: Streaming) -> None:
    target = "/acme/stream?name=gzip&pieces=3&size=5000&pause=0.3&type=text/csv%3B+charset%3Dutf-8"
    with bell.asking(target, Accept_Encoding="gzip") as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        unpack = zlib.decompressobj(31)
        first = unpack.decompress(answer.read1(65536))
        assert first == body_of(1, 5000), "a piece is whole where it ends"
        assert not closed(bell, "gzip")
        rest = unpack.decompress(answer.read()) + unpack.flush()
        assert unpack.eof
    assert first + rest == body_of(3, 5000)
    with bell.asking(target) as answer:
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert answer.read() == body_of(3, 5000)


def test_a_client_that_half_closed_gets_all(bell: Streaming) -> None:
    with Line(bell.port) as line:
        line.send(raw_request("/acme/stream?name=half&pieces=50&size=10000"))
        line.no_more()
        _, _, body = line.rest().partition(b"\r\n\r\n")
    assert dechunk(body) == (body_of(50, 10000), True)


def test_what_a_client_sends_meanwhile_is_thrown_away(bell: Streaming) -> None:
    with Line(bell.port) as line:
        line.send(raw_request("/acme/stream?name=talks&pieces=50&size=10000&pause=0.01"))
        for _ in range(20):
            line.send(b"x" * 1000)
            time.sleep(0.01)
        line.socket.shutdown(socket.SHUT_WR)
        _, _, body = line.rest().partition(b"\r\n\r\n")
    assert dechunk(body) == (body_of(50, 10000), True)


def test_opens_go_on_when_the_slow_lane_dies_amid_one(start: Callable[..., Streaming]) -> None:
    bell = start()
    with bell.asking(f"/acme/stream?name=dies&{ENDLESS}") as answer:
        answer.read(100_000)
        os.kill(slow_lane(bell), signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            answer.read()
    # What reaches the dead one's channel before the fast lane has heard of its end gets no answer.
    with contextlib.suppress(http.client.RemoteDisconnected, ConnectionResetError):
        bell.get("/acme/stream?name=lost&pieces=1&size=1")
    assert bell.get("/acme/stream?name=again&pieces=2&size=10").body == body_of(2, 10)
