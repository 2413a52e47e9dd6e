"""The documents: all examples run, all that there is stands in them, all that stands in them is."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import NEW_SERVER, RUNNABLE, Run, blocks, examples, read_json, running, same
from little_bell.cli import CANNOT_START, WRONG_USAGE
from little_bell.commands import COMMANDS, FAILED
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
    "SSL_CERT_FILE": "OpenSSL's",
    "RELAY_UPSTREAM": "of `little-bell relay`",
    "LITTLE_BELL_SOAK": "of the tests",
    "TESTS": "of `make test`",
    "PYTHON": "of `make`",
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


# How examples are compared: what is wrong has to be seen


@pytest.mark.parametrize(
    ("printed", "got"),
    [
        ("204\n", "204"),
        ('{"a": 1,\n "b": null}', '{"a": 1, "b": null}\n'),
        ('{"at": "2026-01-05T12:00:00.250Z"}', '{"at": "2031-11-30T01:02:03.004Z"}'),
        ('{"uptime_seconds": 1, "b": 2}', '{"uptime_seconds": 17, "b": 2}'),
        (
            '{"url": "http://x/acme/l/1/...", "b": 2}',
            '{"url": "http://x/acme/l/1/ASmpNxgrOWb_dtwR", "b": 2}',
        ),
        ("a ... c", "a b c"),
        ("curl/... x\nb", "curl/7.88.1 x\nb\n"),
        ("lb_...", "lb_" + "k" * 43),
        ('{"a": 1}\n{"a": 2}', '{"a": 1}\n{"a": 2}\n'),
    ],
)
def test_what_is_the_same(printed: str, got: str) -> None:
    assert same(printed, got)


@pytest.mark.parametrize(
    ("printed", "got"),
    [
        ("204", "200"),
        ("", "200"),
        ("200", ""),
        ("200 image/gif 42", "200 image/gif 43"),
        ('{"a": 1, "b": 2}', '{"a": 1}'),
        ('{"a": 1}', '{"a": 1, "b": 2}'),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
        ('{"a": 1}', '{"a": 2}'),
        ('{"a": 1}', '{"a": 1.0}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": null}', '{"a": ""}'),
        ('{"a": "x"}', '{"a": "y"}'),
        ('{"a": [1]}', '{"a": [1, 2]}'),
        ('{"a": 1}', '{"a": 1}\n{"a": 2}'),
        ('{"a": 1}', "curl: (7) Failed to connect"),
        ('{"at": "2026-01-05T12:00:00.250Z"}', '{"at": "2026-01-05T12:00:00Z"}'),
        ('{"at": "2026-01-05T12:00:00Z"}', '{"at": null}'),
        ('{"seconds_to_first_open": 1.5}', '{"seconds_to_first_open": null}'),
        ('{"url": "http://x/acme/l/1/..."}', '{"url": "http://x/acme/l/2/ASmpNxgrOWb_dtwR"}'),
        ('{"url": "http://x/acme/l/1/..."}', '{"url": "http://x/acme/l/1/"}'),
        ('{"url": "http://x/acme/l/1/..."}', '{"url": "http://x/acme/l/1/ASmp"}'),
        ("a ... c", "a b d"),
        ("a\nb", "a"),
        ("lb_...", "lb_short"),
    ],
)
def test_what_is_another(printed: str, got: str) -> None:
    assert not same(printed, got)


@pytest.mark.parametrize(
    "wrong",
    [
        "```console\n$ curl -s localhost:3000/acme/emails -d '{}'\n"
        '{"email_id": 2, "tracking_pixel_url": "http://localhost:3000/acme/pixel/2.gif"}\n```\n',
        "```console\n$ curl -s -f localhost:3000/nothing/there\n```\n",
        "```console\n$ exit 3\n```\n",
        "```python\nprint(1 + 1)  # 3\n```\n",
        "```python\nraise ValueError\n```\n",
    ],
)
def test_an_example_that_is_wrong_is_found(wrong: str, tmp_path: Path) -> None:
    with running(tmp_path) as run, pytest.raises((AssertionError, ValueError)):
        run.document(wrong)


def test_a_new_server_knows_nothing_and_has_its_settings(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        run.document(
            "```console\n$ A=1; curl -s localhost:3000/acme/emails -d '{}' -o made\n```\n"
            "<!-- a new server: AUTH=keys -->\n"
            "```console\n$ echo $A $AUTH; ls\nkeys\ndata\nstderr.log\nstdout.log\n"
            "$ false\n$ echo $?\n1\n```\n"
        )
    assert run.ran == 4


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
    own = {f"little-bell {name}" for name in ("version", "help")}
    forms = {f"little-bell {one.name} {one.argument}".rstrip() for one in COMMANDS}
    assert {name for name in first("Commands") if name.startswith("little-bell")} == forms | own
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
