"""What SECURITY.md promises of the code and of every answer: SQL with parameters, escaped pages,
headers"""

import ast
import contextlib
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from jinja2 import nodes

import little_bell
from access import command as run_command
from bell import Bell, serving
from every_answer import SETTINGS, Exchange, every_route_was_asked, exchanges, fill
from little_bell import __version__
from little_bell.config import Config
from little_bell.ops import backup, secret
from little_bell.pages.views import Views
from little_bell.store.statements import load
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.signing import Keyring

ROOT = Path(little_bell.__file__).parent
SQL_FILES = sorted((ROOT / "store" / "sql").glob("*.sql"))


@cache
def modules() -> list[tuple[str, ast.Module]]:
    return [
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(), str(path)))
        for path in sorted(ROOT.rglob("*.py"))
    ]


# SECURITY.md

ROOT_OF_TESTS = Path(__file__).parent
SECURITY = (ROOT_OF_TESTS.parent / "SECURITY.md").read_text()


def test_each_promise_names_tests_that_are_there() -> None:
    promises = SECURITY.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    missing = set()
    for row in rows:
        named = re.findall(r"`tests/test_(\w+)\.py`", row)
        assert named, row
        missing |= {one for one in named if not (ROOT_OF_TESTS / f"test_{one}.py").is_file()}
    assert missing == set()


def test_security_md_points_at_what_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", SECURITY):
        assert (ROOT_OF_TESTS.parent / target).is_file(), target
    assert "(SECURITY.md)" in (ROOT_OF_TESTS.parent / "README.md").read_text()


# A folder of the service's, in which root's commands write


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A file that the service may not write, though root may."""
    path = tmp_path / "roots"
    path.write_text("keep this")
    path.chmod(0o600)
    return path


def is_kept(path: Path) -> bool:
    return path.read_text() == "keep this" and path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", [["keys", "create", "acme"], ["rebuild"], ["purge"]])
def test_a_link_in_the_lock_s_place_is_not_followed(
    bell: Bell, roots: Path, command: list[str]
) -> None:
    bell.create()
    assert bell.stop() == 0
    lock = bell.database.with_name("tracking.db.lock")
    lock.unlink()
    lock.symlink_to(roots)
    days = ["--days", "1"] if command == ["purge"] else []
    ran = run_command(bell, *command, *days)
    assert ran.returncode == 1
    assert "tracking.db.lock" in ran.stderr
    assert is_kept(roots)


def test_a_link_in_the_place_of_new_keys_is_not_followed(tmp_path: Path, roots: Path) -> None:
    keys = tmp_path / "tracking.db.secret"
    Path(f"{keys}.{os.getpid()}.new").symlink_to(roots)
    secret.write(str(keys), ["a-key-of-16-characters"])
    assert keys.read_text() == "a-key-of-16-characters\n"
    assert not keys.is_symlink()
    assert is_kept(roots)


def test_a_link_in_the_place_of_the_word_of_a_backup_is_not_followed(
    tmp_path: Path, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put there after the file was made and before it is written."""

    @contextlib.contextmanager
    def exchanged(folder: str) -> Iterator[str]:
        link = Path(folder) / "side"
        link.symlink_to(roots)
        yield str(link)

    with monkeypatch.context() as patch:
        patch.setattr(backup, "side_file", exchanged)
        backup.leave_word(str(tmp_path / "tracking.db"), "monday.db")
    assert is_kept(roots)
    backup.leave_word(str(tmp_path / "tracking.db"), "monday.db")
    word = tmp_path / "tracking.db.backed-up"
    assert word.read_text().endswith("/monday.db\n")
    assert word.stat().st_mode & 0o777 == 0o644


# SQL

RUNS = ("execute", "executemany", "executescript", "_execute", "prepare")
READS = ("rows", "row", "each", "some")  # of store.reader.Reader: by name

# What runs a statement that was chosen elsewhere, where it is looked at too.
HANDED_ON = {
    "store/reader.py: self.connection.execute(sql, values)",  # _execute
    "store/dictionary.py: cursor.execute(self.source.select, key)",  # Source(...)
    "store/dictionary.py: cursor.execute(self.source.insert, (tenant.id, number, text, *more))",
}


def loaded(tree: ast.Module) -> set[str]:
    """Names of a module that hold statements of the .sql files, and nothing else."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            parts = [node.value]
            while parts and isinstance(parts[-1], ast.BinOp):
                last = parts.pop()
                assert isinstance(last, ast.BinOp)
                parts += [last.left, last.right]
            if all(
                isinstance(part, ast.Call)
                and isinstance(part.func, ast.Name)
                and part.func.id == "load"
                and isinstance(part.args[0], ast.Constant)
                for part in parts
            ):
                found.add(node.targets[0].id)
    return found


def imported(tree: ast.Module) -> set[str]:
    """Names under which the statements of another module are known."""
    return {
        name.asname or name.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("little_bell.store")
        for name in node.names
        if name.name == "SQL"
    }


def is_fixed(node: ast.expr, known: set[str]) -> bool:
    """Whether a statement is written in the source: a text, one of a file, or a whole file."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and node.value.id in known
    if isinstance(node, ast.IfExp):
        return is_fixed(node.body, known) and is_fixed(node.orelse, known)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "read_text"
    )


def wrong_statements(name: str, tree: ast.Module) -> list[str]:
    """Calls that run what is not fixed."""
    known = loaded(tree) | imported(tree)
    wrong = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        given = node.args[:1] if called in RUNS else []
        if isinstance(node.func, ast.Name) and node.func.id == "Source":  # of a dictionary
            given = node.args[1:3]
        if called == "pragma" and not isinstance(node.args[0], ast.Constant):
            wrong.append(f"{name}: {ast.unparse(node)}")
        if called in RUNS and not node.args:
            wrong.append(f"{name}: {ast.unparse(node)}")
        for statement in given:
            line = f"{name}: {ast.unparse(node)}"
            if not is_fixed(statement, known) and line not in HANDED_ON:
                wrong.append(line)
    return wrong


def runs_sql(name: str) -> bool:
    return name.startswith("store/")  # test_layers.py: nobody else has the driver


def test_no_statement_is_built() -> None:
    wrong, seen = [], 0
    for name, tree in modules():
        if runs_sql(name):
            wrong += wrong_statements(name, tree)
            seen += sum(
                isinstance(node, ast.Attribute) and node.attr in RUNS for node in ast.walk(tree)
            )
    assert wrong == []
    assert seen > 60


@pytest.mark.parametrize(
    "line",
    [
        'cursor.execute(f"DELETE FROM {table}")',
        'cursor.execute("SELECT %s" % text)',
        'cursor.execute("SELECT " + text)',
        'cursor.execute("SELECT {}".format(text))',
        "cursor.execute(text)",
        "cursor.execute(OTHER[name])",
        'cursor.execute(SQL["x"] + text)',
        'cursor.execute(SQL["x"].replace("a", text))',
        "reader._execute(text, ())",
        'Source("last", text, SQL["x"], 1)',
        "connection.pragma(text, 1)",
    ],
)
def test_one_that_is_built_would_be_seen(line: str) -> None:
    tree = ast.parse(f'SQL = load("write.sql")\nOTHER = {{}}\n{line}\n')
    assert len(wrong_statements("store/x.py", tree)) == 1
    good = ast.parse('SQL = load("write.sql")\ncursor.execute(SQL["x"], (1,))\n')
    assert wrong_statements("store/x.py", good) == []


def test_what_is_handed_on_is_there() -> None:
    """So that the list does not outlive the lines."""
    lines = {
        f"{name}: {ast.unparse(node)}"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    assert lines >= HANDED_ON


def test_names_of_statements_are_written_in_the_source() -> None:
    """A reader's statement is known by its name: a text, or chosen among those of a table."""
    names = {name for path in SQL_FILES for name in load(path.name)}
    chosen = 0
    for module, tree in modules():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in READS and node.args and isinstance(node.args[0], ast.Constant):
                assert node.args[0].value in names, f"{module}: {ast.unparse(node)}"
                chosen += 1
            for argument in node.args[:1] if node.func.attr in READS else []:
                assert not isinstance(argument, ast.JoinedStr | ast.BinOp), module
    assert chosen > 20


SCOPED = re.compile(r"\btenant\s*=\s*[?:\w]|INSERT\s+(OR\s+\w+\s+)?INTO\s+\w+\s*\(\s*tenant\b")
OF_NO_TENANT = {
    "begin": "no rows",
    "commit": "no rows",
    "rollback": "no rows",
    "begin_read": "no rows",
    "read": "of copy.sql: makes the driver begin to read",
    "tenant": "finds the tenant, by its name",
    "raise_last_numbers": "restore: a tenant by its name",
    "insert_tenant": "a tenant itself",
}


def test_every_statement_is_of_one_tenant_or_says_that_it_is_not() -> None:
    count = 0
    for path in SQL_FILES:
        for name, text in load(path.name).items():
            bare = re.sub(r"'[^']*'|--[^\n]*", "", text)
            if not name.startswith("unscoped_") and name not in OF_NO_TENANT:
                assert SCOPED.search(bare), f"{path.name}: {name}"
                count += 1
    assert count > 80


def test_every_statement_has_a_purpose_and_parameters_alone() -> None:
    for path in SQL_FILES:
        for name, text in load(path.name).items():
            assert not re.search(r"%[sd(]|\{\w*\}|\$\w", text), f"{path.name}: {name}"
            block = path.read_text().split(f"-- name: {name}\n")[1]
            assert block.startswith("-- "), f"{path.name}: {name} has no purpose"


# Pages


def test_every_template_is_escaped(tmp_path: Path) -> None:
    config = Config({"DATABASE_URL": f"sqlite:{tmp_path / 't.db'}"})
    addresses = Addresses(Keyring([b"k"]), False)
    environment = Views(config, lambda: pytest.fail("no page is made"), addresses).templates
    assert environment.autoescape is True
    names = environment.list_templates()
    assert {Path(name).name for name in names} == {
        path.name for path in (ROOT / "pages" / "templates").iterdir()
    }
    for name in names:
        assert environment.loader is not None
        source = environment.loader.get_source(environment, name)[0]
        tree = environment.parse(source)
        filters = {node.name for node in tree.find_all(nodes.Filter)}
        assert not filters & {"safe", "forceescape", "xmlattr", "urlize"}, name
        assert not list(tree.find_all(nodes.EvalContextModifier)), name
        assert not list(tree.find_all(nodes.ScopedEvalContextModifier)), name
        for tag in re.findall(r"<script\b[^>]*>|<style\b[^>]*>|\son\w+\s*=|javascript:", source):
            assert tag.startswith("<script src=") or 'type="application/json"' in tag, (name, tag)


def test_no_code_marks_text_as_safe() -> None:
    for name, tree in modules():
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        imports = {
            one.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for one in node.names
        }
        banned = {"Markup", "from_string", "eval", "exec", "pickle"}
        if name.startswith("mail/"):
            banned.remove("Markup")  # one of its own: what it writes are emails, not pages
        assert not (used | imports) & banned, name


def test_scripts_of_pages_write_no_markup() -> None:
    text = (ROOT / "pages" / "static" / "app.js").read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert word not in text, word


# Answers


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Exchange]]:
    with serving(tmp_path_factory.mktemp("headers"), **SETTINGS) as bell:
        fill(bell)
        yield list(exchanges(bell))


def test_every_route_was_asked(found: list[Exchange]) -> None:
    assert every_route_was_asked(found)
    assert len(found) > 300


def test_no_answer_says_what_serves_it(found: list[Exchange]) -> None:
    for one in found:
        assert not {"server", "x-powered-by", "via"} & set(one.headers), one
        for name, value in one.fields:
            assert __version__ not in value, (str(one), name)
            assert not re.search(r"python|little|uvicorn|apsw|jinja", value, re.IGNORECASE), value
        head = one.answer.partition(b"\r\n\r\n")[0]
        for leak in (b"Traceback", b'File "', b".py"):
            assert leak not in head + one.body, one


def test_only_the_end_of_a_session_sets_a_cookie_where_there_are_no_keys(
    found: list[Exchange],
) -> None:
    setting = [one for one in found if "set-cookie" in one.headers]
    assert {one.target for one in setting} <= {"/acme/dashboard/logout"}
    assert all("Max-Age=0" in one.headers["set-cookie"] for one in setting)


def kind(one: Exchange) -> str:
    return one.headers.get("content-type", "").partition(";")[0]


def test_every_answer_with_a_body_says_what_it_is(found: list[Exchange]) -> None:
    for one in found:
        if one.status not in (204, 304) and one.headers.get("content-length") != "0":
            assert kind(one), one
            assert one.headers.get("x-content-type-options") == "nosniff", one
        text = kind(one).startswith("text/") and kind(one) != "text/csv"
        if text:
            assert "charset=utf-8" in one.headers["content-type"], one


def directives(one: Exchange) -> dict[str, str]:
    policy = one.headers["content-security-policy"]
    return {name: rest for name, _, rest in (x.strip().partition(" ") for x in policy.split(";"))}


def test_every_page_is_closed_to_strangers(found: list[Exchange]) -> None:
    pages = [one for one in found if kind(one) == "text/html"]
    assert {one.status for one in pages} >= {200, 302, 400, 403, 404, 405, 410}
    for one in pages:
        policy = directives(one)
        assert policy["default-src"] == "'none'", one
        assert policy["base-uri"] == "'none'", one
        assert policy["frame-ancestors"] == "'none'", one
        assert policy["form-action"] in ("'none'", "'self'"), one
        assert policy.get("script-src", "'none'") in ("'none'", "'self'"), one
        assert policy.get("connect-src", "'none'") in ("'none'", "'self'"), one
        assert not re.search(r"unsafe|\*|http:|https:", " ".join(policy.values())), one
        assert one.headers["referrer-policy"] in ("no-referrer", "same-origin"), one
        assert "no-store" in one.headers["cache-control"], one
        assert "noindex" in one.headers["x-robots-tag"], one


def test_every_answer_for_programs_is_kept_by_nobody(found: list[Exchange]) -> None:
    kinds = ("application/json", "application/problem+json", "application/x-ndjson", "text/csv")
    answers = [one for one in found if kind(one) in (*kinds, "text/plain")]
    assert {kind(one) for one in answers} >= set(kinds)
    for one in answers:
        assert one.headers["cache-control"] == "no-store", one
        assert one.headers["x-content-type-options"] == "nosniff", one
        if (
            kind(one).endswith(("/json", "+json"))
            and one.body
            and "content-encoding" not in one.headers
        ):
            json.loads(one.body)


def test_every_redirect_tells_the_target_nothing(found: list[Exchange]) -> None:
    redirects = [one for one in found if one.status in (302, 303)]
    assert {one.route.name for one in redirects if one.route} >= {"click", "tenant", "try_it"}
    for one in redirects:
        to = one.headers["location"]
        ours = to.startswith("/") and not to.startswith("//")
        assert ours or (one.route is not None and one.route.name == "click"), one
        if not ours:
            assert one.headers["referrer-policy"] == "no-referrer", one
        assert one.body == b"", one


def test_others_pages_read_nothing_that_was_not_allowed(found: list[Exchange]) -> None:
    """CORS is for the origin that was named, and never with credentials."""
    for one in found:
        allowed = one.headers.get("access-control-allow-origin")
        assert allowed in (None, SETTINGS["CORS_ORIGINS"]), one
        assert "access-control-allow-credentials" not in one.headers, one
        if allowed is not None:
            assert b"Origin: " in one.request, one


def test_no_process_that_is_started_loads_modules_from_the_folder_of_the_start() -> None:
    """`python -m` and `-c` look there first, but for -P."""
    started = [
        (name, [ast.unparse(one) for one in node.elts[:2]])
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.List)
        and node.elts
        and "sys.executable" in ast.unparse(node.elts[0])
    ]
    assert len(started) >= 3
    assert {tuple(words) for _, words in started} == {("sys.executable", "'-P'")}
