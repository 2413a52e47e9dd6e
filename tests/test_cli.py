"""The command line as people and programs meet it: help, examples, JSON, bars, Ctrl-C, exports"""

import http.client
import json
import os
import pty
import re
import shlex
import signal
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bell import Bell, dump
from little_bell.cli import read_options
from little_bell.commands import COMMANDS, Command
from little_bell.demo.fill import fill
from little_bell.demo.traffic import Traffic
from little_bell.help import topic
from little_bell.progress import clock, drawing
from programs import COMMAND, run

USAGE = (Path(__file__).parent.parent / "docs" / "USAGE.md").read_text()
BY_NAME = {command.name: command for command in COMMANDS}
EXAMPLES = [(command.name, line) for command in COMMANDS for line in command.examples]
# Those that run here; serve, relay and demo have tests of their own, restore wants no server.
RUNNING = (
    "status",
    "doctor",
    "check",
    "backup",
    "export",
    "rebuild",
    "purge",
    "keys create",
    "keys list",
    "secret",
)
MEMBERS = {
    "doctor": {"ok", "findings"},
    "check": {"ok", "emails", "events", "problems"},
    "rebuild": {"ok", "corrected", "rounds", "problems"},
    "backup copy.db": {"file", "bytes", "keys", "gone"},
    "purge --days 3000": {"events"},
    "keys create app --name one": {"tenant", "number", "role", "name", "key"},
    "keys list": {"keys"},
    "keys revoke app 1": {"tenant", "number", "revoked"},
    "secret rotate": {"action", "verify"},
    "secret drop": {"action", "dropped"},
    "version": {"name", "version"},
}


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """A server with the demo's mail."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "data").mkdir()
    traffic = Traffic(int(time.time() * 1000))
    fill(str(folder / "data" / "tracking.db"), traffic, lambda _done, _of: None)
    running = Bell(folder)
    try:
        running.start()
        running.create("acme")
        assert run(folder, "keys", "create", "acme").returncode == 0
        yield running
    finally:
        running.end()


# Help


@pytest.mark.parametrize("arguments", [["--help"], ["help"], ["-h"]])
def test_the_help_fits_on_one_screen(tmp_path: Path, arguments: list[str]) -> None:
    shown = run(tmp_path, *arguments)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert len(lines) <= 40
    assert [line for line in lines if len(line) > 80] == []
    for command in COMMANDS:
        [line] = [one for one in lines if re.match(rf"  {command.name} ", one)]
        assert command.help in line


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_each_command_says_what_it_does(command: Command) -> None:
    shown = topic(command.name.split())
    assert shown is not None
    assert f"usage: little-bell {command.name}" in shown
    assert command.about
    assert command.about in shown
    assert "Exit codes: 0 " in shown
    assert ("  --json " in shown) == command.json
    for option in command.options:
        assert option.split()[0] in shown
    assert [line for line in shown.splitlines() if len(line) > 100] == []
    assert command.examples
    for example in command.examples:
        assert f"  {example}\n" in shown


@pytest.mark.parametrize("words", [["serve"], ["keys", "list"], ["backup", "x.db"]])
def test_help_of_a_command_is_asked_for_in_two_ways(tmp_path: Path, words: list[str]) -> None:
    one, other = run(tmp_path, "help", *words), run(tmp_path, *words, "--help")
    assert (one.returncode, one.stderr) == (other.returncode, other.stderr) == (0, "")
    assert one.stdout == other.stdout
    assert one.stdout.startswith(f"little-bell {words[0]}")


def test_a_word_that_begins_several_commands(tmp_path: Path) -> None:
    shown = run(tmp_path, "help", "keys")
    assert shown.returncode == 0
    assert shown.stdout.count("usage: little-bell keys ") == 3
    refused = run(tmp_path, "keys")
    assert refused.returncode == 2
    assert "create, list, revoke" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["bakup", "x.db"], "backup"),
        (["chekc"], "check"),
        (["key", "list"], "keys"),
        (["check", "--databse-url", "x"], "--database-url"),
        (["purge", "--day=3"], "--days"),
        (["help", "restor"], "restore"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(
    tmp_path: Path, arguments: list[str], meant: str
) -> None:
    refused = run(tmp_path, *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"(did you mean {meant}?)" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_word_that_is_like_none_gets_no_suggestion(tmp_path: Path) -> None:
    refused = run(tmp_path, "qqqq")
    assert refused.returncode == 2
    assert "did you mean" not in refused.stderr


# Examples


def calls(line: str) -> list[list[str]]:
    """Words behind each `little-bell` of a line of shell, up to a pipe or a redirection."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found: list[list[str]] = []
    inside = False
    for word in words:
        if word == "little-bell":
            found.append([])
            inside = True
        elif set(word) <= set("<>|&;"):
            inside = False
        elif inside:
            found[-1].append(word)
    return found


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_each_example_is_understood(name: str, line: str) -> None:
    assert subprocess.run(["bash", "-n", "-c", line], timeout=10).returncode == 0
    [words] = calls(line)
    rest = words[len(name.split()) :] if words else []
    assert " ".join(words[: len(name.split())]) == name or not words
    read_options(rest, {}, BY_NAME[name])


RUN_HERE = [(name, line) for name, line in EXAMPLES if name in RUNNING]


@pytest.mark.parametrize(("name", "line"), RUN_HERE, ids=[line for _, line in RUN_HERE])
def test_examples_run(bell: Bell, tmp_path: Path, name: str, line: str) -> None:
    program = tmp_path / "little-bell"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "backups").mkdir()
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "DATABASE_URL": f"sqlite:{bell.database}",
    }
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("/var/backups/little-bell", "backups")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == (1 if name == "doctor" else 0), ran.stderr
    assert ran.stdout or ">" in line
    for target in re.findall(r"(?:--output|>) (\S+)", line):
        assert (tmp_path / target).stat().st_size > 0


# JSON


@pytest.mark.parametrize("words", MEMBERS, ids=MEMBERS)
def test_json_is_one_object_on_stdout(bell: Bell, words: str) -> None:
    if words.startswith("keys revoke"):
        assert run(bell.folder, "keys", "create", "app").returncode == 0
    ran = run(bell.folder, *words.split(), "--json")
    assert ran.stderr == ""
    assert ran.stdout.count("\n") == 1
    told = json.loads(ran.stdout)
    assert set(told) == MEMBERS[words]
    assert ran.returncode == (0 if told.get("ok", True) else 1)


def test_json_says_what_people_are_told(bell: Bell) -> None:
    told = json.loads(run(bell.folder, "check", "--json").stdout)
    assert (
        f"{told['emails']:,} emails and {told['events']:,} events"
        in run(bell.folder, "check").stdout
    )
    status = json.loads(run(bell.folder, "status", "--json").stdout)
    assert status["status"] == "healthy"
    findings = json.loads(run(bell.folder, "doctor", "--json").stdout)["findings"]
    assert all(set(one) >= {"what", "hint"} for one in findings)
    assert run(bell.folder, "doctor").stdout.count("\n") == len(findings) > 0


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.json], ids=lambda one: one.name)
def test_json_errors(tmp_path: Path, command: Command) -> None:
    """The same exit code as without, and nothing on stderr."""
    words = [
        *command.name.split(),
        *("1" if word == "NUMBER" else "x" for word in command.argument.split()),
    ]
    plain = run(tmp_path, *words)
    ran = run(tmp_path, *words, "--json")
    assert ran.returncode == plain.returncode != 0
    assert ran.stderr == ""
    assert plain.stderr == f"little-bell: {json.loads(ran.stdout)['error']}\n"


def test_json_errors_of_usage_and_settings(tmp_path: Path) -> None:
    wrong = run(tmp_path, "check", "--nonsense", "--json")
    assert (wrong.returncode, wrong.stderr) == (2, "")
    assert "--nonsense" in json.loads(wrong.stdout)["error"]
    unset = run(tmp_path, "check", "--json", PORT="x")
    assert (unset.returncode, unset.stderr) == (3, "")
    assert "PORT" in json.loads(unset.stdout)["error"]


@pytest.mark.parametrize("words", MEMBERS, ids=MEMBERS)
def test_the_docs_name_each_member(words: str) -> None:
    name = next((one for one in BY_NAME if words.startswith(one)), words)
    scripts = USAGE[USAGE.index("### For scripts") :]
    [row] = re.findall(rf"^\| `{name}` \| (.*) \|$", scripts, re.MULTILINE)[:1]
    assert {member for member in MEMBERS[words] if f"`{member}`" not in row} == set()


# Pipes and terminals


@pytest.mark.parametrize(
    "words", ["keys list", "keys list --json", "help", "version", "export app"]
)
@pytest.mark.parametrize(("to", "why"), [("/dev/full", "No space left"), ("&-", "Bad file desc")])
def test_a_stdout_that_takes_nothing(bell: Bell, words: str, to: str, why: str) -> None:
    command = f"exec {shlex.join(COMMAND)} {words} >{to}"
    ran = subprocess.run(
        ["sh", "-c", command], cwd=bell.folder, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert ran.returncode == 1
    assert why in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_closed_streams_are_no_files_of_its_own(bell: Bell) -> None:
    command = f"exec {shlex.join(COMMAND)} backup closed.db <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=bell.folder, timeout=60).returncode == 1
    assert b"closed.db" not in (bell.folder / "closed.db").read_bytes()
    assert run(bell.folder, "check", DATABASE_URL="sqlite:closed.db").returncode == 0


def test_a_path_that_is_no_utf8(bell: Bell) -> None:
    target = os.fsencode(bell.folder) + b"/\xff.db"
    said = subprocess.check_output([*COMMAND, "backup", target], cwd=bell.folder, timeout=60)
    assert said.startswith(target + b": ")
    noted = bell.folder / "data" / "tracking.db.backed-up"
    assert noted.read_bytes() == target + b"\n"
    told = subprocess.check_output(
        [*COMMAND, "backup", target, "--json"], cwd=bell.folder, timeout=60
    )
    assert os.fsencode(json.loads(told.decode())["file"]) == target


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_utf8_wherever_it_is_said(bell: Bell, encoding: str) -> None:
    assert run(bell.folder, "keys", "create", "umlauts", "--name", "Zo\u00eb").returncode == 0
    for words in (["--json"], []):
        said = subprocess.run(
            [*COMMAND, "keys", "list", "umlauts", *words],
            cwd=bell.folder,
            env={"PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=60,
        )
        assert (said.returncode, said.stderr) == (0, b"")
        if words:
            assert json.loads(said.stdout.decode("ascii"))["keys"][0]["name"] == "Zo\u00eb"


@pytest.mark.parametrize("words", ["keys list", "export shop", "help", "check --json"])
def test_a_reader_that_goes_away_is_no_news(bell: Bell, words: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, *words.split()],
        cwd=bell.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    # Nothing was said where nothing is to be listed.
    assert process.wait(60) in ((0, 1) if words == "keys list" else (1,))


class Terminal:
    """A command whose stdin and stderr are a terminal; stdout is a file."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        slow: float = 0.0,
        term: str = "xterm",
        columns: int = 80,
    ) -> None:
        """`slow`: seconds that each sign of progress takes, so that there is something to see; it
        begins with a BEL."""
        code = (
            "import sys, time\n"
            "from little_bell import cli, progress\n"
            "show = progress.Bar.show\n"
            "def slowly(bar, done, total):\n"
            "    show(bar, done, total)\n"
            "    sys.stderr.write('\\a')\n"
            "    sys.stderr.flush()\n"
            f"    time.sleep({slow})\n"
            "progress.Bar.show = slowly\n"
            "sys.exit(cli.main())\n"
        )
        self.out = folder / "terminal.out"
        environment = {"PATH": os.environ["PATH"], "TERM": term}
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            termios.tcsetwinsize(2, (24, columns))
            os.dup2(os.open(self.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.execve(sys.executable, [sys.executable, "-c", code, *arguments], environment)
        self.seen = b""

    def read(self, until: bytes | None = None) -> bytes:
        """What it shows, up to some bytes or to its end."""
        while until is None or until not in self.seen:
            try:
                piece = os.read(self.end, 4096)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            self.seen += piece
        return self.seen

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.end)
        return os.waitstatus_to_exitcode(status)


def screen(shown: bytes) -> list[str]:
    """Lines as they stand on a terminal after all of this: \\r goes to the start, ESC [K clears."""
    lines = []
    for line in shown.decode().replace("\a", "").split("\n"):
        cells = ""
        for part in re.split(r"(\r|\x1b\[K)", line):
            if part == "\r":
                at = 0
            elif part == "\x1b[K":
                cells = cells[:at]
            else:
                at = len(part)
                cells = part + cells[at:]
        lines.append(cells)
    return lines


def test_a_bar_shows_how_far_it_is_and_goes(bell: Bell) -> None:
    terminal = Terminal(bell.folder, "export", "shop", "--output", "e.csv", slow=0.2)
    shown = terminal.read()
    assert terminal.wait() == 0
    drawn = re.findall(rb"exporting events \[=*> *\] +(\d+) %", shown)
    assert len(drawn) >= 3
    assert drawn == sorted(drawn, key=int)
    assert re.search(rb"\d:\d\d left", shown)
    assert max(map(len, re.split(rb"[\r\n]|\x1b\[K", shown))) < 80
    assert "".join(screen(shown)) == ""  # nothing of it remains
    assert terminal.out.read_text().startswith("e.csv: ")


def test_a_bar_of_a_narrow_terminal_stays_on_its_line(bell: Bell) -> None:
    terminal = Terminal(bell.folder, "export", "shop", "--output", "e.csv", slow=0.2, columns=12)
    shown = terminal.read()
    assert terminal.wait() == 0
    lines = re.split(rb"[\r\n\a]|\x1b\[K", shown)
    assert b"exporting e" in lines
    assert max(map(len, lines)) == 11


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_has_no_bar(bell: Bell, term: str) -> None:
    terminal = Terminal(bell.folder, "export", "shop", "--output", "e.csv", term=term)
    assert terminal.read().strip(b"\a") == b""
    assert terminal.wait() == 0


@pytest.mark.parametrize("how", ["typed", "sent"])
def test_ctrl_c_says_what_stands(bell: Bell, how: str) -> None:
    (bell.folder / "kept.csv").write_text("as it was")
    before = {path.name for path in bell.folder.iterdir()} | {"terminal.out"}
    terminal = Terminal(bell.folder, "export", "shop", "--output", "kept.csv", slow=0.3)
    terminal.read(b" %")
    if how == "typed":
        os.write(terminal.end, b"\x03")
    else:
        os.kill(terminal.pid, signal.SIGINT)
    shown = screen(terminal.read().replace(b"^C", b""))
    assert terminal.wait() == 130
    assert [line for line in shown if line] == ["little-bell: interrupted: the file is as it was"]
    assert (bell.folder / "kept.csv").read_text() == "as it was"
    assert {path.name for path in bell.folder.iterdir()} == before


@pytest.mark.parametrize("words", ["check", "backup new.db", "rebuild"])
def test_ctrl_c_of_each_leaves_nothing(bell: Bell, words: str) -> None:
    rows = dump(bell.database)
    before = {path.name for path in bell.folder.rglob("*")} | {"terminal.out"}
    terminal = Terminal(bell.folder, *words.split(), slow=1.5)
    terminal.read(b"\a")  # no bar: so small a file is copied at once, but for the pause behind it
    os.write(terminal.end, b"\x03")
    terminal.read()
    assert terminal.wait() == 130
    stands = BY_NAME[words.split()[0]].stands
    assert f"interrupted: {stands}".encode() in terminal.seen
    assert {path.name for path in bell.folder.rglob("*")} == before
    assert dump(bell.database) == rows


def test_the_bar_is_as_wide_as_there_is_room() -> None:
    for columns in (20, 40, 60, 79, 200):
        for share in (0.0, 0.07, 0.5, 0.999):
            for seconds in (0.0, 5.0, 7000.0):
                assert len(drawing("copying", share, seconds, columns)) <= columns
    assert drawing("copying", 0.5, 0.0, 79).endswith("]  50 %")
    assert drawing("copying", 0.25, 10.0, 79).endswith("]  25 %, 0:30 left")
    assert drawing("copying", 0.5, 10.0, 30) == "copying  50 %, 0:10 left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


# Export


def download(bell: Bell, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", bell.port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ([], "events.csv"),
        (["--format", "ndjson"], "events.ndjson"),
        (["--what", "emails"], "emails.csv"),
    ],
)
def test_an_export_is_that_by_http(bell: Bell, options: list[str], path: str) -> None:
    ran = subprocess.run(
        [*COMMAND, "export", "studio", *options], cwd=bell.folder, capture_output=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout == download(bell, f"/studio/{path}")
    assert ran.stdout.count(b"\n") > 900


def test_emails_as_ndjson(bell: Bell) -> None:
    told = run(
        bell.folder, "export", "studio", "--what", "emails", "--format", "ndjson", "--output", "e"
    )
    assert told.stdout == f"e: {(bell.folder / 'e').stat().st_size:,} bytes\n"
    assert stat.S_IMODE((bell.folder / "e").stat().st_mode) == 0o600
    rows: list[Any] = [json.loads(line) for line in (bell.folder / "e").read_text().splitlines()]
    listed = json.loads(download(bell, "/studio/emails?limit=2"))["emails"]
    assert rows[:2] == listed
    assert len(rows) == bell.rows("SELECT count(*) FROM states WHERE tenant = 3")[0][0]
    assert len({row["email_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nobody"], "no tenant nobody"),
        (["shop", "--what", "links"], "--what is events or emails"),
        (["shop", "--format", "xml"], "--format is csv or ndjson"),
        (["shop", "--output", "data"], "data is no file"),
        (["shop", "--output", "nowhere/x.csv"], "nowhere"),
        (["a b"], "tenant"),
    ],
)
def test_exports_that_cannot_be(bell: Bell, options: list[str], said: str) -> None:
    ran = run(bell.folder, "export", *options)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("end", ["", "-wal", ".secret"])
def test_an_export_takes_the_place_of_no_database(bell: Bell, end: str) -> None:
    name = f"data/tracking.db{end}"
    before = (bell.folder / name).stat().st_ino
    ran = run(bell.folder, "export", "shop", "--output", name)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"{name} is a file of the database itself" in ran.stderr
    assert (bell.folder / name).stat().st_ino == before
    assert run(bell.folder, "backup", "elsewhere.db").returncode == 0
    assert "is a database" in run(bell.folder, "export", "shop", "--output", "elsewhere.db").stderr
