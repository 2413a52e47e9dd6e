"""How the server starts, refuses to start, says how it is, and stops"""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bell import Bell, Line, dump, events, raw_request, read_rows, wait_until
from little_bell.store.lock import Lock

INHERITED = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
COMMAND = [sys.executable, "-m", "little_bell"]


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The program, where it is expected to end by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**INHERITED, "PORT": "0", "HOST": "127.0.0.1", **settings},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def cannot_start(folder: Path, **settings: str) -> str:
    """The one line with which a start that cannot work ends."""
    try:
        ended = run(folder, "serve", **settings)
    except subprocess.TimeoutExpired:
        pytest.fail("it started")
    assert ended.returncode == 3, ended
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert "Traceback" not in line
    return line


def wal(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def control(bell: Bell) -> Path:
    return bell.database.with_name(bell.database.name + ".control")


# Starts that cannot work


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = cannot_start(tmp_path, PORT=str(port))
    assert str(port) in line
    assert "PORT" in line
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_a_little_bell_has(bell: Bell, tmp_path: Path) -> None:
    assert "PORT" in cannot_start(tmp_path, PORT=str(bell.port))
    assert bell.get("/health").status == 200


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in ("file/tracking.db", "file/deeper/tracking.db"):
        line = cannot_start(tmp_path, DATABASE_URL=f"sqlite:{path}")
        assert path in line
        assert "DATABASE_URL" in line
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "data" in cannot_start(tmp_path, DATABASE_URL="sqlite:data")


def test_a_folder_of_the_system_that_takes_no_files(tmp_path: Path) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    assert "/proc/bell" in cannot_start(tmp_path, DATABASE_URL="sqlite:/proc/bell/x.db")


def test_a_newer_database(tmp_path: Path, start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    bell.create()
    assert bell.stop() == 0
    with sqlite3.connect(bell.database) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = dump(bell.database)
    line = cannot_start(bell.folder)
    assert "999" in line
    assert "newer" in line
    assert dump(bell.database) == before
    assert list(read_rows(bell.database, "PRAGMA user_version")) == [(999,)]


@pytest.mark.parametrize("version", [0, 1])
def test_a_database_of_another_program(tmp_path: Path, version: int) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
        connection.execute("INSERT INTO notes VALUES ('precious')")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    line = cannot_start(tmp_path, DATABASE_URL=f"sqlite:{path}")
    assert "DATABASE_URL" in line
    assert list(read_rows(path, "SELECT note FROM notes")) == [("precious",)]
    assert path.read_bytes() == before, "it was refused, but changed"


@pytest.mark.parametrize("content", [b"just text\n" * 500, b"\0" * 4096])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.db"
    path.write_bytes(content)
    assert "text.db" in cannot_start(tmp_path, DATABASE_URL=f"sqlite:{path}")
    assert path.read_bytes() == content


def test_a_second_server_on_one_file(bell: Bell) -> None:
    line = cannot_start(bell.folder)
    assert str(bell.pid) in line
    assert "DATABASE_URL" in line
    assert bell.create() == 1
    assert run(bell.folder, "status").returncode == 0, "the control socket was taken away"


def test_a_second_server_by_another_name_of_the_file(bell: Bell) -> None:
    (bell.folder / "link").symlink_to("data", target_is_directory=True)
    cannot_start(bell.folder, DATABASE_URL="sqlite:link/tracking.db")
    assert bell.create() == 1


def test_a_second_server_by_a_link_to_the_file(bell: Bell) -> None:
    """Two writers, each with a lock of its own, would hand out the same ids."""
    (bell.folder / "link.db").symlink_to("data/tracking.db")
    cannot_start(bell.folder, DATABASE_URL="sqlite:link.db")
    assert bell.create() == 1


def test_it_starts_beside_commands_that_have_the_file_for_a_moment(bell: Bell) -> None:
    bell.stop()
    lock = Lock(str(bell.database))
    release = threading.Timer(1, lock.release)
    release.start()
    try:
        bell.start()
    finally:
        release.join()
    assert bell.create() > 0


def test_it_starts_again_after_a_kill(bell: Bell) -> None:
    bell.create()
    bell.kill()
    assert control(bell).exists()  # nobody tidied up
    bell.start()
    assert bell.create() == 2
    assert run(bell.folder, "status").returncode == 0


def test_readers_do_not_keep_it_from_starting(bell: Bell) -> None:
    """After a kill the first to open the file reads the log anew, and others have to wait."""
    bell.create()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            list(read_rows(bell.database, "SELECT * FROM tenants"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(15):
            bell.kill()
            bell.start()
            assert bell.create() == number + 2
    finally:
        over.set()
        for reader in readers:
            reader.join()


def test_it_starts_and_stops_many_times(bell: Bell) -> None:
    for n in range(1, 5):
        assert bell.create() == n
        assert bell.stop() == 0
        assert sorted(path.name for path in bell.database.parent.iterdir()) == [
            "tracking.db",
            "tracking.db.lock",
            "tracking.db.secret",
        ]
        bell.start()
    assert bell.error_file.read_text() == ""


# status


def test_status_beside_a_running_server(bell: Bell) -> None:
    shown = run(bell.folder, "status")
    assert (shown.returncode, shown.stderr) == (0, "")
    status = json.loads(shown.stdout)
    assert status["status"] == "healthy"
    assert status["pid"] == bell.pid
    assert status["url"] == f"http://localhost:{bell.port}"


def test_status_beside_a_server_that_is_not_well(bell: Bell) -> None:
    bell.create()
    other = sqlite3.connect(bell.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        bell.get("/acme/pixel/1.gif")
        shown = run(bell.folder, "status")
        assert shown.returncode == 1
        assert json.loads(shown.stdout)["status"] == "degraded"
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_status_without_a_server(bell: Bell, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bell.kill()
    for folder in (empty, bell.folder):
        shown = run(folder, "status")
        assert (shown.returncode, shown.stdout) == (1, "")
        assert len(shown.stderr.splitlines()) == 1
        assert "tracking.db" in shown.stderr
    assert list(empty.iterdir()) == []


def test_the_control_socket_is_the_owners_alone(bell: Bell) -> None:
    mode = control(bell).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    lock = bell.database.with_name(bell.database.name + ".lock")
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert bell.stop() == 0
    assert not control(bell).exists()


@pytest.mark.parametrize("target", ["/status", "/checkpoint"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_commands_are_not_for_the_network(bell: Bell, method: str, target: str) -> None:
    answer = bell.ask(method, target, b"")  # a tenant may have that name
    assert (answer.status, answer.headers.get("location")) == (
        (302, f"{target}/dashboard") if method == "GET" else (405, None)
    )


# Stopping


@pytest.fixture(params=["SIGTERM", "SIGINT"])
def ending(request: pytest.FixtureRequest) -> signal.Signals:
    return signal.Signals[request.param]


def finish(bell: Bell, number: int, seconds: float = 10) -> None:
    """Send a signal: it exits with 0 in time, and leaves a whole file without a WAL."""
    assert bell.process is not None
    bell.process.send_signal(number)
    has_finished(bell, seconds)


def has_finished(bell: Bell, seconds: float = 10) -> None:
    assert bell.process is not None
    assert bell.process.wait(seconds) == 0
    assert not wal(bell.database).exists() or wal(bell.database).stat().st_size == 0
    assert list(read_rows(bell.database, "PRAGMA integrity_check")) == [("ok",)]
    assert bell.error_file.read_text() == ""


def test_it_stops_at_once_when_nothing_is_under_way(bell: Bell, ending: signal.Signals) -> None:
    bell.create()
    with Line(bell.port) as idle:
        idle.send(raw_request("/acme/pixel/1.gif"))
        idle.answer()
        finish(bell, ending, 5)
        assert idle.closed
    assert events(bell, "acme") == [(1, "open")]
    assert bell.lines()[-1]["message"] == "Stopped"
    with pytest.raises(ConnectionRefusedError):
        Line(bell.port)


class Reader(threading.Thread):
    """Opens its share of the emails, eight in a pipeline, until the server is gone."""

    def __init__(self, port: int, emails: range) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.emails = emails
        self.answered: list[int] = []
        self.wrong: list[Any] = []

    def run(self) -> None:
        with Line(self.port) as line:
            for at in range(0, len(self.emails), 8):
                asked = self.emails[at : at + 8]
                try:
                    line.send(b"".join(raw_request(f"/acme/pixel/{n}.gif") for n in asked))
                    for email in asked:
                        answer = line.answer()
                        if answer.status == 200:
                            self.answered.append(email)
                        else:
                            self.wrong.append(answer)
                except (ConnectionError, AssertionError):
                    return  # closed, between two answers: Line says so where it was within one
                if answer.headers.get("connection") == "close":
                    return


def test_everything_answered_under_load_is_in_the_file(bell: Bell, ending: signal.Signals) -> None:
    count = 12_000
    with Line(bell.port) as line:
        for _ in range(count // 500):
            line.send(raw_request("/acme/emails", method="POST", body=b"{}") * 500)
            for _ in range(500):
                line.answer()
    share = count // 4
    readers = [Reader(bell.port, range(1 + n * share, 1 + (n + 1) * share)) for n in range(4)]
    for reader in readers:
        reader.start()
    wait_until(lambda: sum(len(reader.answered) for reader in readers) > 1000)
    finish(bell, ending)
    for reader in readers:
        reader.join(10)
        assert not reader.is_alive()
        assert reader.wrong == []
    answered = Counter(email for reader in readers for email in reader.answered)
    assert answered, "there was no load"
    assert sum(answered.values()) < count, "the load was over before the signal"
    written = Counter(email for email, _ in events(bell, "acme"))
    assert set(written.values()) == {1}
    assert answered <= written


def test_a_half_sent_request_is_finished(bell: Bell, ending: signal.Signals) -> None:
    bell.create()
    requests = {
        "open": raw_request("/acme/pixel/1.gif"),
        "create": raw_request("/acme/emails", method="POST", body=b'{"subject": "late"}'),
        "page": raw_request("/acme/dashboard"),
    }
    with Line(bell.port) as opening, Line(bell.port) as creating, Line(bell.port) as paging:
        lines = dict(zip(requests, (opening, creating, paging), strict=True))
        for name, line in lines.items():
            line.send(requests[name][:-5])
        time.sleep(0.1)
        assert bell.process is not None
        bell.process.send_signal(ending)
        time.sleep(0.6)
        for name, line in lines.items():
            line.send(requests[name][-5:])
        statuses = [line.answer().status for line in lines.values()]
    assert statuses == [200, 201, 200]
    has_finished(bell)
    assert events(bell, "acme") == [(1, "open")]
    assert bell.rows("SELECT subject FROM emails WHERE email = 2") == [("late",)]


def test_clients_that_never_finish_do_not_keep_it(bell: Bell) -> None:
    bell.create()
    with Line(bell.port) as half, Line(bell.port, receive_buffer=4096) as deaf:
        half.send(raw_request("/acme/pixel/1.gif")[:-2])
        deaf.send(raw_request("/metrics") * 300)  # and it reads nothing
        time.sleep(0.2)
        finish(bell, signal.SIGTERM, 10)


def test_a_page_whose_client_never_closes_does_not_keep_it(bell: Bell) -> None:
    enough = threading.Event()
    with Line(bell.port) as line:
        line.send(raw_request("/"))
        assert line.answer().status == 200

        def drip() -> None:
            while not enough.wait(0.3):
                try:
                    line.send(b"x")
                except OSError:
                    return  # it was cut off: that is what is wanted

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            finish(bell, signal.SIGTERM, 10)
        finally:
            enough.set()
            dripping.join()


def test_a_second_signal_changes_nothing(bell: Bell) -> None:
    bell.create()
    with Line(bell.port) as line:
        line.send(raw_request("/acme/pixel/1.gif")[:-2])
        time.sleep(0.05)
        assert bell.process is not None
        for _ in range(5):
            bell.process.send_signal(signal.SIGTERM)
            bell.process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        line.send(b"\r\n")
        assert line.answer().status == 200
    has_finished(bell)
    assert events(bell, "acme") == [(1, "open")]


def test_the_slow_lane_ends_with_it(bell: Bell) -> None:
    assert bell.get("/").status == 200
    listed = Path(f"/proc/{bell.pid}/task/{bell.pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list the children of a process")
    [pid] = listed.read_text().split()
    finish(bell, signal.SIGTERM)
    assert not Path(f"/proc/{pid}").exists()


def test_the_slow_lane_ends_when_the_server_is_killed(bell: Bell) -> None:
    assert bell.get("/").status == 200
    listed = Path(f"/proc/{bell.pid}/task/{bell.pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list the children of a process")
    [pid] = listed.read_text().split()
    status = Path(f"/proc/{pid}/status")
    bell.kill()
    wait_until(lambda: not status.exists() or "State:\tZ" in status.read_text())


# A log that nobody reads


class Piped(Bell):
    """A server whose stdout is a pipe, read when the test says so."""

    pipe = -1

    def start(self) -> "Bell":
        self.pipe, write = os.pipe()
        with self.error_file.open("ab") as err:
            self.process = subprocess.Popen(
                COMMAND,
                cwd=self.folder,
                env={**INHERITED, "PORT": "0", "HOST": "127.0.0.1"},
                stdout=write,
                stderr=err,
            )
        os.close(write)
        first = b""
        while not first.endswith(b"\n"):
            byte = os.read(self.pipe, 1)
            assert byte, self.error_file.read_text()
            first += byte
        self.port = json.loads(first)["fields"]["port"]
        return self


@pytest.fixture
def piped(tmp_path: Path) -> Iterator[Bell]:
    bell = Piped(tmp_path)
    try:
        yield bell.start()
    finally:
        bell.end()
        if bell.pipe >= 0:
            os.close(bell.pipe)


def open_many(bell: Bell, count: int) -> None:
    with Line(bell.port) as line:
        for _ in range(count // 500):
            line.send(raw_request("/acme/pixel/1.gif") * 500)
            for _ in range(500):
                assert line.answer().status == 200


def test_a_reader_of_the_log_that_stalls_does_not_stall_opens(piped: Piped) -> None:
    piped.create()
    count = 12_000
    open_many(piped, count)
    assert piped.rows("SELECT sum(opens + machine_opens) FROM states") == [(count,)]
    dropped = piped.metrics()["log_lines_dropped_total"]
    assert 0 < dropped < count
    # The reader comes back: it finds whole lines, and each is either there or counted.
    read: list[bytes] = []

    def drain() -> None:
        while data := os.read(piped.pipe, 65536):
            read.append(data)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()

    def opened() -> int:
        return b"".join(read).count(b'"message": "Email opened"')

    # The created email has a line as well, which came first.
    wait_until(lambda: opened() + piped.metrics()["log_lines_dropped_total"] >= count)
    assert opened() + piped.metrics()["log_lines_dropped_total"] == count
    piped.get("/acme/pixel/1.gif")
    assert piped.stop() == 0
    reader.join(10)
    lines = [json.loads(line) for line in b"".join(read).splitlines()]
    assert lines[-1]["message"] == "Stopped"
    assert piped.error_file.read_text() == ""


def test_a_reader_of_the_log_that_is_gone_does_no_harm(piped: Piped) -> None:
    os.close(piped.pipe)
    piped.pipe = -1
    piped.create()
    open_many(piped, 1000)
    assert piped.metrics()["log_lines_dropped_total"] >= 1000
    assert piped.get("/acme/dashboard").status == 200
    assert piped.stop() == 0
    assert piped.rows("SELECT count(*) FROM events") == [(1000,)]
    assert piped.error_file.read_text() == ""


def test_a_full_disk_under_the_log_does_no_harm(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    bell = Bell(tmp_path)
    with open("/dev/full", "wb") as full, bell.error_file.open("ab") as err:
        bell.process = subprocess.Popen(
            COMMAND,
            cwd=tmp_path,
            env={**INHERITED, "PORT": "0", "HOST": "127.0.0.1"},
            stdout=full,
            stderr=err,
        )
    try:
        wait_until(lambda: run(tmp_path, "status").returncode == 0)
        url = json.loads(run(tmp_path, "status").stdout)["url"]
        bell.port = int(url.rpartition(":")[2])
        bell.create()
        assert bell.get("/acme/pixel/1.gif").status == 200
        assert bell.metrics()["log_lines_dropped_total"] >= 1
        assert bell.stop() == 0
        assert bell.error_file.read_text() == ""
    finally:
        bell.end()


def test_modules_in_the_folder_of_the_start_are_not_loaded(tmp_path: Path) -> None:
    """As the command does not, whatever lies there: neither does the process behind the pages."""
    for name in ("jinja2", "apsw", "little_bell"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    bell = Bell(tmp_path, [sys.executable, "-P", "-m", "little_bell"])
    try:
        bell.start()
        bell.create()
        assert bell.get("/acme/dashboard").status == 200
        assert bell.error_file.read_text() == ""
    finally:
        bell.end()
