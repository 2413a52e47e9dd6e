"""Listeners beside TCP: a unix socket, and sockets that systemd opened"""

import http.client
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bell import BROWSER, Bell, wait_until

RUN = [sys.executable, "-m", "little_bell"]
# As systemd does: sockets from descriptor 3 on, and the process they are meant for.
ACTIVATED = ["/bin/sh", "-c", f"LISTEN_PID=$$ exec {sys.executable} -m little_bell"]


class Unix(http.client.HTTPConnection):
    """A client of a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("bell", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def ask(path: Path, method: str, target: str, **headers: str) -> tuple[int, bytes]:
    client = Unix(path)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request(method, target, headers={"User-Agent": BROWSER, **named})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A short one: the address of a socket has 107 bytes at most."""
    folder = Path("/tmp") / f"bell-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    yield folder / "bell.sock"
    shutil.rmtree(folder)


def test_a_unix_socket_works(start_bell: Callable[..., Bell], path: Path) -> None:
    bell = start_bell(HOST=f"unix:{path}", PORT="3000")
    assert ask(path, "POST", "/acme/emails")[0] == 201
    assert ask(path, "GET", "/acme/pixel/1.gif", X_Forwarded_For="203.0.113.7")[0] == 200
    assert ask(path, "GET", "/acme/dashboard")[0] == 200
    assert bell.rows("SELECT address FROM events") == [(bytes([203, 0, 113]),)]
    assert bell.lines()[0]["fields"]["listening"] == [f"unix:{path}"]
    assert bell.stop() == 0
    assert not path.exists()


def test_everybody_may_use_it_who_may_enter_its_folder(
    start_bell: Callable[..., Bell], path: Path
) -> None:
    start_bell(HOST=f"unix:{path}")
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666


def test_the_socket_of_a_server_that_was_killed_is_replaced(
    start_bell: Callable[..., Bell], path: Path
) -> None:
    bell = start_bell(HOST=f"unix:{path}")
    bell.kill()
    assert path.exists()
    bell.start()
    assert ask(path, "GET", "/health")[0] == 200


def refusal(folder: Path, host: str) -> tuple[int, str]:
    """Exit code and message of a server that cannot start."""
    ran = subprocess.run(
        RUN,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOST": host},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return ran.returncode, ran.stderr


def test_a_socket_in_use_is_left_alone(
    start_bell: Callable[..., Bell], path: Path, tmp_path: Path
) -> None:
    start_bell(HOST=f"unix:{path}")
    code, message = refusal(tmp_path, f"unix:{path}")
    assert code == 3
    assert message == (
        f"little-bell: cannot start: another program listens on {path}: stop it, or set HOST\n"
    )
    assert ask(path, "GET", "/health")[0] == 200


def test_a_file_that_is_no_socket_is_left_alone(path: Path, tmp_path: Path) -> None:
    path.write_text("mine")
    code, message = refusal(tmp_path, f"unix:{path}")
    assert (code, message.count("\n")) == (3, 1)
    assert f"{path} is no socket" in message
    assert path.read_text() == "mine"


@pytest.mark.parametrize("text", ["unix:", "unix:/tmp/", "unix:/" + "x" * 107])
def test_paths_that_no_socket_can_have(tmp_path: Path, text: str) -> None:
    code, message = refusal(tmp_path, text)
    assert (code, message.count("\n")) == (3, 1)
    assert "HOST=" in message


def listening(*sockets: socket.socket) -> Callable[[], None]:
    """Makes the sockets descriptors 3, 4, ... of a child."""
    found = [one.fileno() for one in sockets]

    def move() -> None:
        spare = [os.dup(fd) for fd in found]  # above all targets
        for target, fd in enumerate(spare, 3):
            os.dup2(fd, target, inheritable=True)

    return move


def activated(
    bell: Bell, sockets: list[socket.socket], pid: str = "", **environment: str
) -> subprocess.Popen[bytes]:
    """A server that was started with sockets, as by systemd; `pid` says for whom they are."""
    (bell.folder / "data").mkdir(parents=True, exist_ok=True)
    with bell.log_file.open("ab") as out, bell.error_file.open("ab") as err:
        bell.process = subprocess.Popen(
            RUN if pid else ACTIVATED,
            cwd=bell.folder,
            env={
                "PATH": os.environ["PATH"],
                "LISTEN_FDS": str(len(sockets)),
                "HOST": "127.0.0.1",
                "PORT": "0",
                **({"LISTEN_PID": pid} if pid else {}),
                **environment,
            },
            stdout=out,
            stderr=err,
            preexec_fn=listening(*sockets),
            close_fds=False,
        )
    return bell.process


@pytest.fixture
def bell_apart(tmp_path: Path) -> Iterator[Bell]:
    """A server that the test starts itself."""
    bell = Bell(tmp_path)
    yield bell
    bell.end()


def tcp() -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    found.listen()
    return found


def test_inherited_sockets_take_the_place_of_host_and_port(bell_apart: Bell, path: Path) -> None:
    bell = bell_apart
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen()
    with tcp() as first, tcp() as second, unix:
        ports = [one.getsockname()[1] for one in (first, second)]
        activated(bell, [first, unix, second])
        # Clients that come before it runs wait in the sockets: nothing is refused.
        for port in ports:
            bell.port = port
            assert bell.ask("GET", "/health").status == 200
        assert ask(path, "GET", "/health")[0] == 200
        answer = bell.ask("POST", "/acme/emails", {})
        assert f"localhost:{ports[0]}/" in answer.json["tracking_pixel_url"]
        assert bell.get("/acme/dashboard").status == 200  # the slow lane starts beside them
        assert bell.lines()[0]["fields"]["listening"] == [
            f"127.0.0.1:{ports[0]}",
            f"unix:{path}",
            f"127.0.0.1:{ports[1]}",
        ]
        assert bell.stop() == 0
        assert path.exists()  # it is not ours to remove
        activated(bell, [first, unix, second])  # and again, on the same sockets
        assert bell.ask("GET", "/health").status == 200


def test_the_slow_lane_does_not_hold_inherited_sockets(bell_apart: Bell) -> None:
    bell = bell_apart
    with tcp() as first:
        bell.port = first.getsockname()[1]
        activated(bell, [first], SLOW_LANE_IDLE_SECONDS="600")
        assert bell.get("/acme/dashboard").status == 200
        bell.kill()
    wait_until(lambda: not answers(bell.port))


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_sockets_for_another_process_are_not_touched(bell_apart: Bell) -> None:
    with tcp() as first:
        activated(bell_apart, [first], pid="1")
        wait_until(lambda: bell_apart.log_file.read_text().count("\n"))
        assert bell_apart.lines()[0]["fields"]["port"] != first.getsockname()[1]


@pytest.mark.parametrize("count", ["x", "-1", "2"])
def test_wrong_sockets_end_the_start(bell_apart: Bell, count: str) -> None:
    with tcp() as first:
        process = activated(bell_apart, [first], LISTEN_FDS=count)
        assert process.wait(20) == 3
    message = bell_apart.error_file.read_text()
    assert message.startswith("little-bell: cannot start: ")
    assert message.count("\n") == 1


def test_a_datagram_socket_ends_the_start(bell_apart: Bell) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as found:
        assert activated(bell_apart, [found]).wait(20) == 3
    assert "no stream socket" in bell_apart.error_file.read_text()
