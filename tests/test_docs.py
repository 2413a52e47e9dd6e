"""The documents: all examples run, all that there is stands in them, all that stands in them is."""

import ast
import itertools
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import NEW_SERVER, RUNNABLE, Run, blocks, examples, read_json, running
from little_bell.actions import FAILED
from little_bell.cli import CANNOT_START, WRONG_USAGE
from little_bell.commands import COMMANDS
from little_bell.config import SETTINGS
from little_bell.ops.health import Health
from little_bell.ops.logs import Log
from little_bell.ops.metrics import Counters
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.recorder import Recorder
from little_bell.store.writer import Writer
from little_bell.wire.routes import ROUTES

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "little_bell"
PATHS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
DOCS = {str(path.relative_to(ROOT)): path.read_text() for path in PATHS}
USAGE = DOCS["docs/USAGE.md"]
NAMES = pytest.mark.parametrize("name", DOCS)

# Documents whose examples are run, and how many there are at least. Any other may have some.
AT_LEAST = {"README.md": 5, "docs/USAGE.md": 80, "docs/PYTHON.md": 9}
ELSEWHERE = ("docs/PYTHON.md",)  # run by tests/test_python_docs.py, beside a mail server
WITH_EXAMPLES = [
    name
    for name, text in DOCS.items()
    if name not in ELSEWHERE and any(block.language in RUNNABLE for block in blocks(text))
]

# Variables of the environment that are not the server's settings.
OTHERS = {
    "LISTEN_FDS": "systemd's, for sockets",
    "SCM_RIGHTS": "of sockets",
    "DAC_OVERRIDE": "of Linux, a capability",
    "SSL_CERT_FILE": "OpenSSL's",
    "DATABASE": "of `deploy/litestream.yml`",
    "REPLICA_URL": "of the same",
    "BASE": "of the Dockerfile: the image it begins with",
    "TERM": "the terminal's",
    "XDG_CACHE_HOME": "the desktop's",
    "GH_TOKEN": "GitHub's",
    "LITTLE_BELL_CACHE": "of `little-bell.pyz`: where it unpacks itself",
    "SITE": "of `deploy/`: the host name of a proxy",
    "RELAY_UPSTREAM": "of `little-bell relay`",
    "LITTLE_BELL_SOAK": "of the tests",
    "TESTS": "of `make test`",
    "PYTHON": "of `make`",
    "WORKERS": "of `make test`",
}


def code(text: str) -> tuple[list[str], list[str]]:
    """What stands in a document as code: in blocks, and in sentences."""
    return [block.code for block in blocks(text)], re.findall(r"`([^`]+)`", prose(text))


def prose(text: str) -> str:
    """A document without its blocks."""
    return re.sub(r"^( *)(`{3,})\w*\n.*?^\1\2$", "", text, flags=re.M | re.S)


def section(text: str, title: str) -> str:
    """A section of a document, without its title."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


# Examples


@pytest.fixture(scope="module")
def usage(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The examples of USAGE.md, once they ran."""
    with running(tmp_path_factory.mktemp("usage")) as run:
        run.document(USAGE)
    return run


@pytest.mark.parametrize("name", [name for name in WITH_EXAMPLES if name != "docs/USAGE.md"])
def test_each_example_answers_as_printed(name: str, tmp_path: Path) -> None:
    with running(tmp_path) as run:
        run.document(DOCS[name])
    assert run.ran >= AT_LEAST.get(name, 1)


def test_each_example_of_usage_answers_as_printed(usage: Run) -> None:
    assert usage.ran >= AT_LEAST["docs/USAGE.md"]


def test_usage_has_an_example_of_each_route(usage: Run) -> None:
    answered = {route for route, status in usage.answered if status < "400"}
    assert [route.name for route in ROUTES if route.name not in answered] == []


def test_documents_that_have_examples_have_them() -> None:
    for name, least in AT_LEAST.items():
        found = [block for block in blocks(DOCS[name]) if block.language in RUNNABLE]
        count = sum(len(examples(block.code)) or 1 for block in found)
        assert count >= least, name


def test_no_command_stands_where_none_is_run() -> None:
    """A `$ ` outside of a console block looks like an example, and nobody would run it."""
    for name, text in DOCS.items():
        for block in blocks(text):
            if block.language not in ("console", NEW_SERVER):
                assert not re.search(r"^\$ ", block.code, re.M), f"{name}:{block.line}"
            if block.language == "console":
                assert block.code.startswith("$ "), f"{name}:{block.line}"


@NAMES
def test_json_is_json(name: str) -> None:
    for block in blocks(DOCS[name]):
        if block.language == "json":
            assert read_json(block.code), f"{name}:{block.line}"


@NAMES
def test_what_is_not_run_can_be_read(name: str) -> None:
    """By bash, or as TOML; it says nothing of what it does."""
    for block in blocks(DOCS[name]):
        if block.language in ("sh", "bash"):
            read = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
            assert (read.returncode, read.stderr) == (0, ""), f"{name}:{block.line}"
        if block.language == "toml":
            tomllib.loads(block.code)


# What there is stands in the documents


def test_usage_names_each_setting_route_and_command() -> None:
    for setting in SETTINGS:
        assert f"| `{setting.name}` |" in USAGE
        if setting.default:
            assert f"| `{setting.name}` | `{setting.default}` |" in USAGE
    for route in ROUTES:
        assert f"| `{route.method} {route.pattern}` |" in USAGE
    for command in COMMANDS:
        form = f"little-bell {command.name} {command.argument}".rstrip()
        assert f"| `{form}` |" in USAGE
        for option in command.options:
            assert f"`{option.split('   ')[0]}`" in USAGE


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The kind of each metric, by its name without `little_bell_`."""
    recorder = Recorder(Writer(str(tmp_path_factory.mktemp("metrics") / "t.db")), 0)
    health = Health(Counters(), recorder, Checkpointer(recorder.writer, 1 << 22), Log(100))
    found = {metric.name: metric.kind for metric in health.metrics()}
    recorder.writer.close()
    return found


def test_usage_names_each_metric(metrics: dict[str, str]) -> None:
    named = section(USAGE, "Metrics")
    assert [name for name in metrics if f"`{name}`" not in named] == []


def messages(path: Path) -> Iterator[str]:
    """What a module logs: texts and names of texts in `log.write(...)` and its like."""
    tree = ast.parse(path.read_text())
    named: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for name in node.targets:
                named.setdefault(ast.unparse(name), []).append(node.value)

    def texts(expression: ast.expr, depth: int = 2) -> Iterator[str]:
        for part in ast.walk(expression):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value.split("%")[0].rstrip()
            elif isinstance(part, ast.Name) and depth:
                for value in named.get(part.id, []):
                    yield from texts(value, depth - 1)

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.search(r"\blog\.|\._log$", ast.unparse(node.func)):
            for argument in node.args:
                yield from texts(argument)


def test_each_message_of_the_log_is_named() -> None:
    everything = "\n".join(re.sub(r"\s+", " ", text) for text in DOCS.values())
    found = {message for path in SOURCE.rglob("*.py") for message in messages(path)}
    found = {one for one in found if re.match("[A-Z]", one) and not one.endswith("?")}
    assert {"Email opened", "Little Bell is listening", "A message was relayed"} < found
    assert sorted(one for one in found if not re.search(f'[`"]{re.escape(one)}', everything)) == []


def test_usage_names_each_parameter_and_member() -> None:
    """Of `openapi.json`: what stands in queries, requests and answers of the API."""
    document = json.loads((SOURCE / "api" / "openapi.json").read_text())
    named: set[str] = set()

    def look(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("properties"), dict):
                named.update(part["properties"])
            if part.get("in") == "query":
                named.add(part["name"])
            part = list(part.values())
        if isinstance(part, list):
            for one in part:
                look(one)

    look(document)
    assert {"recipient", "recipient_prefix", "series", "unique_opens"} < named
    shown = re.compile(r"[`\"?&](\w+)(?=[`\"=])")
    assert sorted(named - set(shown.findall(USAGE))) == []


def test_usage_names_each_exit_code() -> None:
    codes = [str(code) for code in (0, FAILED, WRONG_USAGE, CANNOT_START)]
    parts = [part for part in USAGE.split("\n\n") if re.search("exit code", part, re.I)]
    assert any(set(codes) <= set(re.findall(r"\b\d\b", part)) for part in parts)


# What stands in the documents is there


def test_no_row_of_usage_is_of_something_that_is_gone(metrics: dict[str, str]) -> None:
    def first(title: str) -> list[str]:
        rows = re.findall(r"^\| (.*?) \|", section(USAGE, title), re.M)
        return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]

    assert set(first("Settings")) == {setting.name for setting in SETTINGS}
    assert set(first("Metrics")) == set(metrics)
    forms = {f"little-bell {one.name} {one.argument}".rstrip() for one in COMMANDS}
    named = {name for name in first("Commands") if name.startswith("little-bell")}
    assert {name.split()[1] for name in named - forms} == {"help", "version"}
    assert forms <= named
    routes = {f"{route.method} {route.pattern}" for route in ROUTES}
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \|", section(USAGE, "Endpoints"), re.M)
    assert set(rows) == routes


@NAMES
def test_metrics_that_are_named_are_there(name: str, metrics: dict[str, str]) -> None:
    parts = {f"{one}_{part}" for one, kind in metrics.items() if kind == "histogram"
             for part in ("bucket", "sum", "count")}  # fmt: skip
    named = re.findall(r"\blittle_bell_(\w+)\b(?!\*)", DOCS[name])
    assert [one for one in named if one not in metrics and one not in parts] == []


@NAMES
def test_variables_that_are_named_are_settings(name: str) -> None:
    """`NAME=value` in commands, and whatever has capitals and an underscore in a sentence."""
    known = {setting.name for setting in SETTINGS} | set(OTHERS)
    known |= set(re.findall(r"\$\{?([A-Z][A-Z0-9_]*)", DOCS[name]))  # an example's own
    in_blocks, spans = code(DOCS[name])
    for text in in_blocks + spans:
        named = set(re.findall(r"(?<![\w/$.{-])([A-Z][A-Z0-9_]+)=[^=A-Z\s$]", text))
        if text in spans:
            named |= set(re.findall(r"(?<![\w/$.-])([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])\b", text))
        assert sorted(named - known) == [], text


@NAMES
def test_commands_that_are_named_are_there(name: str) -> None:
    words = {command.name.split()[0] for command in COMMANDS} | {"version", "help"}
    options = {f"--{setting.name.lower().replace('_', '-')}" for setting in SETTINGS}
    options |= {option.split()[0] for command in COMMANDS for option in command.options}
    options |= {"--help", "--version"}
    for text in itertools.chain(*code(DOCS[name])):
        for line in text.replace("\\\n", " ").splitlines():
            call: str
            for call in re.findall(r"(?:^|[ /])little-bell( [^|;&#()]*)", line):
                first = call.lstrip().split(" ")[0]
                if re.fullmatch("[a-z]+", first):
                    assert first in words, line
                    used = re.findall(r"(?<!\S)(--[a-z-]+)", call)
                    assert [option for option in used if option not in options] == [], line


@NAMES
def test_targets_of_make_that_are_named_are_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for text in itertools.chain(*code(DOCS[name])):
        named = re.findall(r"(?:^|&& |; )make ([a-z-]+)", text, re.M)
        assert sorted(set(named) - targets) == [], text


def anchors(text: str) -> set[str]:
    """The anchors of a document's titles, as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.*?)#*$", prose(text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 1
        while slug in found and f"{slug}-{number}" in found:
            number += 1
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found


@NAMES
def test_links_lead_somewhere(name: str) -> None:
    text = prose(DOCS[name])
    text = re.sub(r"`[^`]*`(?!\])", "", text)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@NAMES
def test_files_that_are_named_are_there(name: str) -> None:
    """Of this repository: what has a folder of it in front, or an ending of a source."""
    folders = "bench|deploy|docs|src|tests|tools"
    for span in re.findall(r"`([^`\s]+)`", DOCS[name]):
        if re.fullmatch(rf"(?:{folders})/[\w./*-]+|[\w-]+/[\w./*-]+\.(?:py|sql|tsv|md)", span):
            places = (ROOT, SOURCE, (ROOT / name).parent)
            assert any(list(place.glob(span)) for place in places), span


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/DESIGN.md"])
def test_modules_that_are_named_are_there(name: str) -> None:
    """`wire.routes`, or something in it."""
    folders = "|".join(path.parent.name for path in SOURCE.glob("*/__init__.py"))
    for span in re.findall(rf"`((?:{folders})\.[a-z_]+)", DOCS[name]):
        if not span.endswith((".py", ".md")):
            assert (SOURCE / (span.replace(".", "/") + ".py")).exists(), span


@pytest.mark.parametrize("name", [name for name in DOCS if not name.startswith("bench/")])
def test_lines_are_not_long(name: str) -> None:
    """Who reads the source of a document reads it in a terminal."""
    text = prose(DOCS[name])
    long = [line for line in text.splitlines() if len(line) > 120 and line[:1] not in "|!"]
    assert long == []
