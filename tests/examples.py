"""The examples of a document: found, run as a reader would, and compared with what is printed.

What a document has to keep to:

* A block fenced as `console` is run: its `$ ` lines one after the other by one bash, in a folder
  with a server that is new for each document. `localhost:3000` is that server; `little-bell` and
  `python3` are there. A command goes on behind a backslash and within quotes, and has to succeed
  unless `$ echo $?` comes next. Below it stands what it prints.
* A block fenced as `python` is run likewise; behind `print(...)  # ` stands what it prints.
* `<!-- a new server -->` or `<!-- a new server: NAME=value ... -->`, a line of its own, starts
  another one.
* JSON may be printed in more lines than it comes in. Times, signatures, keys and what is in
  `VARYING` may differ, as long as their form is the same; `...` stands for some characters of a
  line, or of a text in JSON.
* What cannot be run is fenced as something else (`sh`, `text`).
"""

import contextlib
import io
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

from bell import Bell
from little_bell import Client

RUNNABLE = ("console", "python")
NEW_SERVER = "a new server"
FENCE = re.compile(
    r"^( *)(`{3,})(\w*)\n(.*?)^\1\2`*$|^<!-- a new server(?:: ([^\n]*))? -->$", re.M | re.S
)

# Numbers of JSON that depend on when it is asked.
VARYING = ("uptime_seconds", "seconds_to_first_open")
FORMS: tuple[tuple[str, str], ...] = (
    (r"(?<=[&?]sig=)(?:[\w-]{16}(?![\w-])|\.\.\.)", "<signature>"),
    (r"(/[lo]/\d+/)(?:[\w-]{16,}|\.\.\.)", r"\1<signature>"),
    (r"\blb_(?:[\w-]{43}(?![\w-])|\.\.\.)", "<key>"),
    (r'("uptime_seconds": )\d+', r"\g<1>0"),
    (r"\b[\d,]+(?= bytes)", "0"),
)
TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?")


class Block(NamedTuple):
    """What stands between two fences, or the settings of a new server."""

    language: str
    code: str
    line: int


class Example(NamedTuple):
    """A command and what it prints."""

    command: str
    printed: str


def blocks(text: str) -> list[Block]:
    """All blocks of a Markdown document, and where a new server is asked for, in their order."""
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match[2]:
            found.append(Block(match[3], re.sub(f"^{match[1]}", "", match[4], flags=re.M), line))
        else:
            found.append(Block(NEW_SERVER, match[5] or "", line))
    return found


def examples(console: str) -> list[Example]:
    """The commands of a block, each with what is printed below it."""
    found = []
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        while printed and goes_on(command):
            line, _, printed = printed.partition("\n")
            command += "\n" + line
        found.append(Example(command, printed))
    return found


def goes_on(command: str) -> bool:
    """Whether the next line belongs to a command: behind a backslash, or within quotes."""
    if command.endswith("\\"):
        return True
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


def expected(code: str) -> list[str]:
    """What the `print(...)  # so` lines of Python print."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)


def form(text: str) -> str:
    """A text whose times, signatures and keys are as any other's of the same form."""
    for pattern, instead in FORMS:
        text = re.sub(pattern, instead, text)
    return TIME.sub(lambda time: re.sub(r"\d", "0", time[0]), text)


def same_text(printed: str, got: str) -> bool:
    """Whether a text is as printed, where `...` may stand for some characters of a line."""
    parts = [re.escape(part) for part in form(printed).split("...")]
    return re.fullmatch(".+?".join(parts), form(got)) is not None


def read_json(text: str) -> list[Any]:
    """Objects and lists one after the other; none where it is anything else."""
    found = []
    rest = text.strip()
    while rest:
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            return []
        if not isinstance(value, dict | list):
            return []
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def same_json(printed: object, got: object, name: str = "") -> bool:
    """Whether a value of JSON is as printed: types, members and their order, numbers, texts."""
    if type(printed) is not type(got):
        return False
    if isinstance(printed, dict) and isinstance(got, dict):
        return list(printed) == list(got) and all(
            same_json(value, got[key], key) for key, value in printed.items()
        )
    if isinstance(printed, list) and isinstance(got, list):
        return len(printed) == len(got) and all(map(same_json, printed, got))
    if isinstance(printed, str) and isinstance(got, str):
        return same_text(printed, got)
    return name in VARYING or printed == got


def same(printed: str, got: str) -> bool:
    """Whether a program answered as a document says."""
    ours, theirs = read_json(printed), read_json(got)
    if ours and theirs:
        return same_json(ours, theirs)
    ours, theirs = printed.strip("\n").splitlines(), got.strip("\n").splitlines()
    return len(ours) == len(theirs) and all(map(same_text, ours, theirs))


class Shell:
    """One bash, so that variables stay from one example to the next."""

    END = "that-was-it"

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {
            "PATH": programs,
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[str, int]:
        """What a command printed, on both outputs, and its exit code, which is `$?` of the next."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        script = (
            f"{{ {command}\n}} </dev/null\ncode=$?; echo; echo {self.END} $code; (exit $code)\n"
        )
        late = threading.Timer(60, self.kill)
        late.start()
        try:
            process.stdin.write(script.encode())
            process.stdin.flush()
            printed = b""
            while not (last := process.stdout.readline()).startswith(self.END.encode()):
                assert last, f"bash ended: {command}\n{printed.decode()}"
                printed += last
        finally:
            late.cancel()
        return printed.decode().replace("\r\n", "\n").removesuffix("\n"), int(last.split()[1])

    def kill(self) -> None:
        """It ends, and so does all that it started and did not end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        self.process.communicate()


class Run:
    """The examples of one document."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran = 0
        self.answered: set[tuple[str, str]] = set()  # (route, status)
        self.bell: Bell | None = None
        self.shell: Shell | None = None
        self.names: dict[str, object] = {"__name__": "example"}

    def start(self, **settings: str) -> Bell:
        """A new server, whose folder has nothing yet, and a bash there."""
        self.close()
        folder = self.folder / f"server{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        port = str(self.bell.port) if self.bell else "0"  # so that a Python client goes on with it
        self.bell = Bell(folder, None, PORT=port, **settings)
        for left in range(20, -1, -1):
            try:
                self.bell.start()
                break
            except AssertionError:  # somebody's connection has that port just now
                if port == "0" or not left:
                    raise
                sleep(0.1)
        self.shell = Shell(folder, {"PORT": str(self.bell.port), **settings})
        return self.bell

    def close(self) -> None:
        """End the server, and keep which of its routes were asked."""
        if self.bell is not None:
            if self.bell.process is not None and self.bell.process.poll() is None:
                self.answered |= self.routes(self.bell)
            self.bell.end()
        if self.shell is not None:
            self.shell.close()
        for value in self.names.values():
            if isinstance(value, Client):
                value.close()

    def routes(self, bell: Bell) -> set[tuple[str, str]]:
        """What was asked of a server. The slow lane tells a moment later what it answered."""
        token = bell.settings.get("METRICS_TOKEN", "")
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        before = -1
        found: list[dict[str, str]] = []
        while before != len(found):
            before = len(found)
            sleep(0.05)
            found = bell.ask("GET", "/metrics", headers=headers).json["requests_total"]
        return {(count["route"], count["status"]) for count in found}

    def here(self, code: str) -> str:
        """An example with the address of its server."""
        bell = self.bell or self.start()
        return code.replace("localhost:3000", f"localhost:{bell.port}")

    def there(self, printed: str) -> str:
        """What was printed, with the address that the document has."""
        assert self.bell is not None
        return printed.replace(f"localhost:{self.bell.port}", "localhost:3000")

    def console(self, code: str) -> Iterator[tuple[Example, str]]:
        """Run commands; each with what it printed."""
        found = examples(code)
        for example, following in itertools.zip_longest(found, found[1:]):
            command = self.here(example.command)
            assert self.shell is not None
            got, status = self.shell.run(command)
            may_fail = following is not None and following.command == "echo $?"
            assert status == 0 or may_fail, f"{example.command}\nexit code {status}: {got}"
            yield example, self.there(got)
            self.ran += 1

    def python(self, code: str) -> list[str]:
        """Run Python; the lines that it printed."""
        printed = io.StringIO()
        bell = self.bell or self.start()
        with contextlib.redirect_stdout(printed), contextlib.chdir(bell.folder):
            exec(compile(self.here(code), "example", "exec"), self.names)
        self.ran += 1
        return self.there(printed.getvalue()).splitlines()

    def document(self, text: str) -> None:
        """Run all of it. AssertionError: something does not do what stands there."""
        for block in blocks(text):
            if block.language == NEW_SERVER:
                self.start(**dict(word.split("=", 1) for word in block.code.split()))
            elif block.language == "console":
                for example, got in self.console(block.code):
                    assert same(example.printed, got), (
                        f"line {block.line}: {example.command}\n"
                        f"--- as printed:\n{example.printed}\n--- as it is:\n{got}"
                    )
            elif block.language == "python":
                lines = iter(self.python(block.code))
                for line in expected(block.code):  # in this order, perhaps with others between
                    assert any(same_text(line, got) for got in lines), (
                        f"line {block.line}: {line} was not printed"
                    )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Run]:
    """A run whose server and bash end with the `with` block."""
    run = Run(folder)
    try:
        yield run
    finally:
        run.close()
