"""`little-bell demo`: fill, serve, show, and take it all away again."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from little_bell.demo.cast import SENDERS
from little_bell.demo.fill import Filled, fill
from little_bell.demo.live import Live
from little_bell.demo.traffic import Traffic
from little_bell.errors import LittleBellError, StartError
from little_bell.store.copy import Progress
from little_bell.values import UNIX

HOST = "127.0.0.1"  # anybody may read and change its tenants: nobody else's machine
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - told apart, not listened on
WAIT = 20.0  # seconds until the server listens
FILE, LOG = "tracking.db", "server.log"

# A demo that is killed takes its server along, where the system can do that (Linux: prctl(2),
# PR_SET_PDEATHSIG).
SERVE = """
import os, signal, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    from little_bell.cli import main
    sys.exit(main(["serve"]))
"""

Say = Callable[[str], None]
Task = Callable[[str], Progress]


class Options:
    """What was asked for. `keep` is a folder, or nothing; `host` and `port` where given.

    Raises StartError.
    """

    def __init__(self, keep: str, browser: bool, live: bool, host: str, port: str) -> None:
        self.keep = keep
        self.browser = browser
        self.live = live
        self.host = host or HOST
        self.port = port
        if self.host.startswith(UNIX):
            raise StartError("the demo has addresses for a browser: --host takes no unix socket")
        self.near = HOST if self.host in EVERYWHERE else self.host  # where it is reached from here
        v6 = f"[{self.near}]" if ":" in self.near else self.near
        self.name = "localhost" if self.near in (HOST, "::1", "localhost") else v6


def run(options: Options, environment: Mapping[str, str], say: Say, task: Task) -> int:
    """Until SIGINT, SIGTERM or SIGHUP; gives the exit code. Raises StartError, LittleBellError.

    `environment` is what the server is started with, without settings.
    """
    with ended_by_signals(), folder(options.keep) as place:
        now = int(time.time() * 1000)
        traffic = Traffic(now, time.localtime(now // 1000).tm_gmtoff * 1000)
        filled = fill(os.path.join(place, FILE), traffic, task("filling"))
        process, port = start(place, options, environment)
        try:
            tell(options, port, filled, say)
            if options.browser and can_show():
                show(f"http://{options.name}:{port}/{SENDERS[0].tenant}/dashboard")
            live = Live(options.near, port, traffic, last_ids(traffic)) if options.live else None
            del traffic
            code = watch(process, live)
        except KeyboardInterrupt:
            code = 0
        finally:
            stop(process)
        why = last_words(place) if code else ""  # while the log is there
    if options.keep:
        say(f"it is kept: little-bell serve --database-url sqlite:{os.path.join(place, FILE)}")
    if code:
        raise LittleBellError(f"the server ended with exit code {code}: {why}")
    return 0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does, so that nothing is left behind."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def folder(keep: str) -> Iterator[str]:
    """Where the database is: a new folder that goes at the end, or the one that is to be kept."""
    if keep:
        try:
            os.makedirs(keep, exist_ok=True)
            if os.listdir(keep):
                raise StartError(f"{keep} is not empty: name a new folder")
        except OSError as error:
            raise StartError(f"cannot make the folder {keep} ({error.strerror})") from None
        try:
            yield keep
        except BaseException:  # what is half there is nobody's, and would be in the way next time
            shutil.rmtree(keep, ignore_errors=True)
            raise
        return
    place = tempfile.mkdtemp(prefix="little-bell-demo-")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def start(
    place: str, options: Options, environment: Mapping[str, str]
) -> tuple["subprocess.Popen[bytes]", int]:
    """A server on what was filled, on the port that was asked for or else on a free one."""
    for port in (options.port, "0"):
        settings = {
            "DATABASE_URL": f"sqlite:{os.path.abspath(os.path.join(place, FILE))}",
            "HOST": options.host or HOST,
            "PORT": port,
        }
        with open(os.path.join(place, LOG), "wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-c", SERVE, str(os.getpid())],  # -P: see wire.handover
                env={**environment, **settings},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            listening = wait(process, place)
        except BaseException:
            stop(process)
            raise
        if listening:
            return process, listening
    raise StartError(last_words(place) or "the server did not start")


def last_words(place: str) -> str:
    """The last line of what the server said."""
    with open(os.path.join(place, LOG), encoding="utf-8", errors="replace") as lines:
        last = lines.read().strip().rpartition("\n")[2]
    return last.removeprefix("little-bell: ").removeprefix("cannot start: ")


def wait(process: "subprocess.Popen[bytes]", place: str) -> int:
    """The port it listens on; 0 where it ended instead."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        with open(os.path.join(place, LOG), "rb") as lines:
            for line in lines:
                if b'"Little Bell is listening"' in line and line.endswith(b"\n"):
                    return int(json.loads(line)["fields"]["port"])
        if process.poll() is not None:
            return 0
        time.sleep(0.02)
    raise StartError(f"the server did not listen within {WAIT:.0f} seconds")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Let it end in order; twice Ctrl-C does not wait."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def watch(process: "subprocess.Popen[bytes]", live: Live | None) -> int:
    """Until the server ends, which it does not by itself; its exit code."""
    while True:
        try:
            return process.wait(live.pause() if live else None)
        except subprocess.TimeoutExpired:
            pass
        if live:
            try:
                live.step()
            except (OSError, http.client.HTTPException):
                pass  # it is ending, or busy: the next one comes soon


def last_ids(traffic: Traffic) -> dict[str, int]:
    """How many emails each tenant has: ids are handed out from 1."""
    found: dict[str, int] = {}
    for mail in traffic.mails:
        found[mail.email.tenant] = found.get(mail.email.tenant, 0) + 1
    return found


def tell(options: Options, port: int, filled: Filled, say: Say) -> None:
    """Say where everything is."""
    say(f"{filled.emails:,} emails and {filled.events:,} events of three invented senders:\n")
    for sender in SENDERS:
        address = f"http://{options.name}:{port}/{sender.tenant}/dashboard"
        say(f"  {address:<40}  {sender.about}")
    moves = "Opens and clicks go on arriving, a few a minute. " if options.live else ""
    end = "it is kept" if options.keep else "all of it is gone then"
    say(f"\n{moves}Ctrl-C ends it; {end}.")
    sys.stdout.flush()


def can_show() -> bool:
    """Whether a browser with windows can be expected: one in text mode would take the terminal."""
    if not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def show(address: str) -> None:
    import webbrowser

    webbrowser.open(address)
