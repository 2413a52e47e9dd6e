"""`little-bell demo`: it fills, serves, moves, and leaves nothing behind"""

import http.client
import ipaddress
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bell import Bell, dump, read_rows, wait_until
from little_bell.demo.cast import SENDERS
from little_bell.demo.traffic import DAY as A_DAY
from little_bell.demo.traffic import DAYS, MINUTE, Traffic
from little_bell.tracking.rules import CLASSES
from programs import COMMAND

ADDRESS = re.compile(r"http://localhost:(\d+)/([a-z]+)/dashboard")
TENANTS = {sender.tenant for sender in SENDERS}
NOW = 1_790_000_000_000  # some moment: a Monday's
FIGURES = ("sent", "opens", "machine_opens", "unique_opens", "clicks", "machine_clicks")
RESERVED = ("198.18.0.0/15", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")


class Demo:
    """One demo, in a folder that holds its temporary files too."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(self.temporary), **settings}
        self.process = subprocess.Popen(
            [COMMAND[0], "-P", *COMMAND[1:], "demo", "--port", "0", *options],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        found = ADDRESS.findall(self.said)
        self.port = int(found[0][0]) if found else 0
        self.tenants = {tenant for _, tenant in found}

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    @property
    def database(self) -> Path:
        [path] = self.temporary.glob("little-bell-demo-*/tracking.db")
        return path

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Exit code, and what it said at the end."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One for the tests that only look."""
    running = Demo(tmp_path_factory.mktemp("demo"), "--no-browser")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic(NOW)


def test_each_sender_has_a_page_that_says_something(demo: Demo) -> None:
    assert demo.tenants == TENANTS
    for tenant in TENANTS:
        status, page = demo.get(f"/{tenant}/dashboard")
        assert status == 200
        assert f"/{tenant}/dashboard/campaigns" in page
    # What became of an email stands on its page.
    [email] = demo.json("/shop/emails?opened=yes&limit=1")["emails"]
    status, page = demo.get(f"/shop/dashboard/emails/{email['email_id']}")
    assert status == 200
    assert email["recipient"] in page


@pytest.mark.parametrize("tenant", sorted(TENANTS))
def test_no_figure_is_nothing(demo: Demo, tenant: str) -> None:
    """Of the last 30 days, and of those before, which they are compared with."""
    today = int(time.time()) // 86_400
    for first, last in ((today - 29, today), (today - 59, today - 30)):
        days = [time.strftime("%Y-%m-%d", time.gmtime(day * 86_400)) for day in (first, last)]
        figures = demo.json(f"/{tenant}/stats?from={days[0]}&to={days[1]}")["figures"]
        assert [name for name in FIGURES if not figures[name]] == []
        assert figures["unique_opens"] < figures["sent"]
    assert len(demo.json(f"/{tenant}/campaigns")["campaigns"]) >= 3
    assert len(demo.json(f"/{tenant}/links")["links"]) >= 3
    assert len(demo.json(f"/{tenant}/clients")["clients"]) >= 8
    for name in CLASSES:
        assert demo.json(f"/{tenant}/events?class={name}&limit=1")["events"], name


def test_all_is_well_with_it(demo: Demo) -> None:
    ran = subprocess.run(
        [*COMMAND, "check", "--database-url", f"sqlite:{demo.database}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "all is well" in ran.stdout


def test_somebody_opted_out(demo: Demo) -> None:
    [(tenant, at)] = read_rows(demo.database, "SELECT tenant, at FROM optouts")
    assert tenant == 1
    assert at < time.time() * 1000 - A_DAY


def test_it_moves(demo: Demo) -> None:
    """Something arrives over HTTP: the log grows beyond what it held when it was filled."""
    filled = int(re.findall(r"and ([\d,]+) events", demo.said)[0].replace(",", ""))
    wait_until(
        lambda: next(read_rows(demo.database, "SELECT count(*) FROM events"))[0] > filled, 60
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_its_end_leaves_nothing(tmp_path: Path, number: int) -> None:
    (tmp_path / "apsw.py").write_text("raise SystemExit('of the folder it is started in')")
    ours = Demo(tmp_path, "--no-browser", DATABASE_URL="sqlite:mine.db", CONSENT="none")
    assert ours.get("/shop/dashboard")[0] == 200
    assert "mine.db" not in os.listdir(tmp_path)
    assert ours.end(number) == (0, "")
    assert list(ours.temporary.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        ours.get("/")


def test_no_setting_of_another_server_is_in_the_way(tmp_path: Path) -> None:
    ours = Demo(
        tmp_path,
        "--no-browser",
        DATABASE_URL="postgres://me:secret@localhost/mine",
        ADMIN_KEY_FILE="/nowhere",
        LOG_LEVEL="loud",
    )
    assert ours.get("/shop/dashboard")[0] == 200
    assert ours.end() == (0, "")


def test_a_socket_of_another_server_is_not_taken(tmp_path: Path) -> None:
    ours = Demo(tmp_path, "--no-browser", HOST=f"unix:{tmp_path / 'bell.sock'}")
    code, said = ours.end()
    assert (code, said) == (
        3,
        "little-bell: the demo has addresses for a browser: --host takes no unix socket\n",
    )
    assert not (tmp_path / "bell.sock").exists()


def server_of(ours: Demo) -> int:
    """The process of its server."""
    [line] = [one for one in log_of(ours).splitlines() if "is listening" in one]
    return int(json.loads(line)["fields"]["pid"])


def log_of(ours: Demo) -> str:
    return ours.database.with_name("server.log").read_text()


def test_a_server_that_ends_has_last_words(tmp_path: Path) -> None:
    ours = Demo(tmp_path, "--no-browser", "--no-live")
    last = log_of(ours).splitlines()[-1]
    os.kill(server_of(ours), signal.SIGKILL)
    out, err = ours.process.communicate(timeout=30)
    assert (ours.process.returncode, out) == (1, "")
    assert err == f"little-bell: the server ended with exit code -9: {last}\n"
    assert list(ours.temporary.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_demo_that_is_killed_takes_its_server_along(tmp_path: Path) -> None:
    ours = Demo(tmp_path, "--no-browser")
    assert ours.get("/shop/dashboard")[0] == 200
    ours.process.kill()
    ours.process.communicate(timeout=10)
    wait_until(lambda: '"Stopped"' in log_of(ours))


def test_what_is_kept_can_be_served(tmp_path: Path) -> None:
    ours = Demo(tmp_path, "--no-browser", "--no-live", "--keep", "kept")
    assert "go on arriving" not in ours.said
    code, said = ours.end()
    assert code == 0
    assert said.rstrip().endswith("little-bell serve --database-url sqlite:kept/tracking.db")
    before = dump(tmp_path / "kept" / "tracking.db")
    (tmp_path / "data").mkdir()
    os.rename(tmp_path / "kept" / "tracking.db", tmp_path / "data" / "tracking.db")
    bell = Bell(tmp_path).start()
    try:
        assert bell.get("/studio/dashboard").status == 200
        assert dump(bell.database) == before
    finally:
        bell.end()
    # What is there is not written over.
    again = subprocess.run(
        [*COMMAND, "demo", "--keep", "kept"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert again.returncode == 3
    assert "kept is not empty" in again.stderr


def test_a_port_that_is_taken_is_no_reason_to_stop(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ours = Demo(tmp_path, "--no-browser", "--port", str(taken))
        try:
            assert ours.port not in (0, taken)
            assert ours.get("/app/dashboard")[0] == 200
        finally:
            assert ours.end()[0] == 0


def test_it_opens_a_browser_from_a_terminal(tmp_path: Path) -> None:
    """And Ctrl-C typed there ends it, with all that it started."""
    opened = tmp_path / "opened"
    program = tmp_path / "browse"
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}.new && mv {opened}.new {opened}\n')
    program.chmod(0o755)
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(BROWSER=f"{program} %s", DISPLAY=":0", TMPDIR=str(tmp_path))
        os.execv(sys.executable, [*COMMAND, "demo", "--port", "0"])
    try:
        wait_until(opened.exists, 30)
        assert ADDRESS.fullmatch(opened.read_text().strip())
        os.write(terminal, b"\x03")
        said = b""
        while select.select([terminal], [], [], 20)[0]:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            said += piece
    finally:
        _, status = os.waitpid(child, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert list(tmp_path.glob("little-bell-demo-*")) == []


def test_ctrl_c_while_it_fills(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from little_bell import cli\n"
        "from little_bell.demo import fill\n"
        "fill.Fill.committed = lambda job: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(cli.main())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "demo"],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 130
    assert ran.stderr.startswith("little-bell: interrupted: nothing is left")
    assert list(tmp_path.iterdir()) == []


def test_what_was_to_be_kept_goes_where_it_is_not_whole(tmp_path: Path) -> None:
    ours = Demo(tmp_path, "--no-browser", "--keep", "kept", "--host", "192.0.2.1")
    code, said = ours.end()
    assert code == 3
    assert said.startswith("little-bell: cannot listen on 192.0.2.1:0 (")
    assert said.count("\n") == 1
    assert not (tmp_path / "kept").exists()


# What it is made of


def test_the_same_moment_has_the_same_traffic(traffic: Traffic) -> None:
    again = Traffic(NOW)
    assert again.mails == traffic.mails
    assert again.sights == traffic.sights
    assert Traffic(NOW, seed=8).sights != traffic.sights


@pytest.mark.parametrize("day", range(7))
def test_it_ends_now_whatever_day_it_is(day: int) -> None:
    now = NOW + day * A_DAY
    some = Traffic(now, offset=-5 * 60 * MINUTE)
    for tenant in TENANTS:
        times = [mail.at for mail in some.mails if mail.email.tenant == tenant]
        assert max(times) < now
        assert now - max(times) < 3 * A_DAY  # nobody at the studio works at weekends
        assert now - min(times) > (DAYS - 4) * A_DAY
    assert some.sights[-1].at < now
    assert now - some.sights[-1].at < 2 * 60 * MINUTE


def test_nobody_in_it_exists(traffic: Traffic) -> None:
    networks = [ipaddress.ip_network(one) for one in RESERVED]
    for packed in {sight.hit.address for sight in traffic.sights}:
        assert packed is not None
        whole = packed.ljust(4 if len(packed) == 3 else 16, b"\0")
        assert any(ipaddress.ip_address(whole) in one for one in networks), packed
    recipients = {mail.email.recipient or "" for mail in traffic.mails}
    assert all(re.fullmatch(r"(reader|user|desk)\d+@example\.(com|org|net)", r) for r in recipients)
    hosts = {(sight.hit.url or "//x.example.com/").split("/")[2] for sight in traffic.sights}
    assert all(re.fullmatch(r"[a-z]+\.example\.(com|org|net)", host) for host in hosts)
