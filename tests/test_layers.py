"""The house: imports run one way, and only some rooms have a door to the outside"""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import little_bell

ROOT = Path(little_bell.__file__).parent

# From the top down: a module may import what stands below it, or beside it in its own folder.
ORDER = (
    ("__main__",),
    ("cli",),
    ("help",),
    ("commands",),
    ("actions",),
    ("serve", "relay", "rewrite", "demo", "imports", "export"),
    ("wire",),
    ("api", "pages", "mail", "ops"),
    ("config", "page", "progress"),
    ("values",),
    ("reports",),
    ("store",),
    ("__init__", "django"),  # of the library, as is client
    ("tracking", "client"),
    ("errors",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
LIBRARY = ("__init__", "client", "django")  # runs in other programs, and has nothing of the server
NO_CONFIG = ("reports", "store", "tracking")  # plain arguments go inwards

# Modules of the standard library that read a clock, the environment or the outside world.
IMPURE = {
    "asyncio",
    "datetime",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
PURE_OF_SOCKET = {"AF_INET", "AF_INET6", "inet_ntop", "inet_pton", "inet_aton", "inet_ntoa"}


class Import(NamedTuple):
    module: str  # dotted, the one that imports, without the package's name
    target: str  # dotted, absolute
    names: tuple[str, ...]  # `from target import names`; nothing where the module is imported
    line: int

    @property
    def room(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def imports() -> list[Import]:
    """Every import of the package, late ones too."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                found += [Import(module, name.name, (), node.lineno) for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module}:{node.lineno}: a relative import"
                assert node.module
                names = tuple(name.name for name in node.names)
                found.append(Import(module, node.module, names, node.lineno))
    return found


IMPORTS = imports()


def inside() -> list[tuple[Import, str]]:
    """Imports of one room by another: with the room's name."""
    found = []
    for one in IMPORTS:
        if one.target == "little_bell":
            found += [(one, name) for name in one.names if name != "__version__"]
        elif one.target.startswith("little_bell."):
            found.append((one, one.target.split(".")[1]))
    return [(one, room) for one, room in found if room != one.room]


def test_the_walk_sees_the_house() -> None:
    rooms = {one.room for one in IMPORTS}
    assert {"cli", "serve", "wire", "api", "pages", "ops", "store", "tracking", "config"} <= rooms
    assert len(inside()) > 50


def test_every_room_has_its_place() -> None:
    rooms = {path.stem for path in ROOT.glob("*.py")} | {
        path.parent.name for path in ROOT.glob("*/*.py")
    }
    assert rooms - {"__init__"} <= set(LEVEL)


def test_no_arrow_runs_up() -> None:
    assert [str(one) for one, room in inside() if LEVEL[room] <= LEVEL[one.room]] == []


@pytest.mark.parametrize("room", NO_CONFIG)
def test_settings_are_passed_in(room: str) -> None:
    wrong = [str(one) for one, target in inside() if one.room == room and target == "config"]
    assert wrong == []


def test_tracking_is_pure() -> None:
    wrong = []
    for one in IMPORTS:
        if one.room != "tracking" or one.target.partition(".")[0] not in IMPURE:
            continue
        if one.target != "socket" or not one.names or not PURE_OF_SOCKET.issuperset(one.names):
            wrong.append(str(one))
    assert wrong == []


def test_tracking_opens_and_prints_nothing() -> None:
    for path in (ROOT / "tracking").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("open", "print", "input", "exec", "eval"), path


def test_only_store_knows_the_driver() -> None:
    drivers = [one for one in IMPORTS if one.target.partition(".")[0] in ("apsw", "sqlite3")]
    assert {one.room for one in drivers} == {"store"}


def test_only_store_knows_sql() -> None:
    words = ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM", "PRAGMA ")
    for path in ROOT.rglob("*.py"):
        if path.is_relative_to(ROOT / "store"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(words), f"{path.name}:{node.lineno}"
    assert [path for path in ROOT.rglob("*.sql") if not path.is_relative_to(ROOT / "store")] == []


def test_the_library_has_nothing_of_the_server() -> None:
    wrong = [
        str(one)
        for one, target in inside()
        if (one.room in LIBRARY and target not in ("client", "errors"))
        or (one.room not in (*LIBRARY, "relay") and target in LIBRARY)
    ]
    assert wrong == []


def test_the_library_loads_nothing_of_the_server() -> None:
    code = (
        "import sys; import little_bell; before = set(sys.modules)\n"
        "assert not {'little_bell.client', 'little_bell.errors', 'http.client'} & before\n"
        "from little_bell import BellError, Client, Unreachable\n"
        "Client('https://bell.example', 'acme', 'lb_key')\n"
        "print(*(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    loaded = ran.stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("little_bell.")}
    assert ours == {"client", "errors"}
    others = {name.partition(".")[0] for name in loaded} - {"little_bell"}
    assert others - set(sys.stdlib_module_names) == set()


def test_the_server_loads_nothing_of_the_library() -> None:
    code = "import sys, little_bell.serve, little_bell.wire.server; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "little_bell.wire.server" in ran.stdout.split(), ran.stderr
    assert not {"little_bell.client", "http.client", "ssl"} & set(ran.stdout.split())


def test_only_wire_knows_sockets() -> None:
    wrong = [
        str(one)
        for one in IMPORTS
        if one.target in ("socket", "socketserver", "selectors", "asyncio", "http.server")
        and one.room not in ("wire", "relay")  # the relay is a process of its own
        and one.module != "ops.logs"  # stdout may be a socket: systemd's journal
        and not (one.names and PURE_OF_SOCKET.issuperset(one.names))
    ]
    assert wrong == []


def test_the_log_makes_a_socket_of_stdout_alone() -> None:
    tree = ast.parse((ROOT / "ops" / "logs.py").read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "socket"
    ]
    for call in calls:
        assert [keyword.arg for keyword in call.keywords] == ["fileno"], ast.unparse(call)
