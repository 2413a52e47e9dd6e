"""Wheel, source archive and little-bell.pyz: what is in them, and that they run without src/"""

import ast
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from bell import Bell, linux
from conftest import locked
from little_bell import __version__
from programs import only_where

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / "tools"
BASE = str(getattr(sys, "_base_executable", sys.executable))  # outside of any venv
BARE = [BASE, "-I", "-S"]  # no site packages, no environment, no folder of the start
VERSION = f"little-bell {__version__}\n"
ELSEWHERE = {"PATH": os.environ["PATH"]}
ROOT_ONLY = only_where(os.geteuid() == 0, "gives a file to another user, as root")

Built = tuple[Path, Path, Path]


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        env={**ELSEWHERE, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )


def done(*command: object, **environment: str) -> str:
    """What a command says that has to succeed."""
    ran = run(*command, **environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel, made of the source archive, that one, and the executable archive.

    Made once, by whichever process of the tests comes first.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "dist"
    folder.mkdir(exist_ok=True)
    pyz = folder / "little-bell.pyz"
    home = os.environ.get("HOME", "/")  # pip keeps there what it fetched
    (folder / "lock").touch()
    with locked(folder / "lock", fcntl.LOCK_EX):
        if not pyz.exists():
            build = [sys.executable, "-m", "build", "--no-isolation"]
            done(*build, "--outdir", folder, ROOT, HOME=home)
            [wheel] = folder.glob("*.whl")
            done(sys.executable, TOOLS / "build_pyz.py", wheel, pyz, HOME=home)
    [wheel] = folder.glob("*.whl")
    [source] = folder.glob("*.tar.gz")
    return wheel, source, pyz


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    package = {name for name in names if not name.startswith("little_bell-")}
    assert package == {name.removeprefix("src/") for name in files(ROOT / "src" / "little_bell")}
    assert "little_bell/py.typed" in package
    others = {name.partition(".dist-info/")[2] for name in names - package}
    assert others == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_source_archive_holds_what_is_worked_on(built: Built) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    parts = ("src", "tests", "docs", "bench", "tools", "deploy")
    wanted = set().union(*(files(ROOT / part) for part in parts))
    assert {name for name in names if name.partition("/")[0] in parts} == wanted
    others = {name for name in names if "/" not in name}
    assert {"Makefile", "Dockerfile", "constraints.txt", "pyproject.toml", "LICENSE"} <= others
    assert not {name for name in others if name not in os.listdir(ROOT)} - {"PKG-INFO"}


def test_the_tree_makes_the_same_wheel_as_the_source_archive(built: Built, tmp_path: Path) -> None:
    done(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT)
    assert (tmp_path / built[0].name).read_bytes() == built[0].read_bytes()


# What builds the wheel, of a version that nobody looked at.
NEWER = """
def anything(*arguments):
    open(MARK, "w").close()
    raise SystemExit("this ran")
get_requires_for_build_editable = build_editable = anything
get_requires_for_build_wheel = build_wheel = anything
"""


def test_what_builds_is_pinned_like_the_rest(tmp_path: Path) -> None:
    """A newer hatchling on the index is not run, though pip fetches it for itself alone."""
    tree, index, mark = tmp_path / "tree", tmp_path / "index", tmp_path / "it-ran"
    tree.mkdir()
    index.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    with zipfile.ZipFile(index / "hatchling-999-py3-none-any.whl", "w") as wheel:
        wheel.writestr("hatchling/build.py", NEWER.replace("MARK", repr(str(mark))))
        info = "hatchling-999.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: hatchling\nVersion: 999\n")
        wheel.writestr(
            info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(info + "RECORD", "")
    ran = subprocess.run(
        ["make", ".venv/serve", f"PYTHON={BASE}"],
        cwd=tree,
        env={**ELSEWHERE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode != 0  # the one that is pinned is not there
    assert "hatchling" in ran.stderr
    assert not mark.exists()
    # In the image nothing is fetched behind constraints.txt either.
    for line in re.findall(
        r"pip (?:wheel|install) .*(?:\\\n.*)?", (ROOT / "Dockerfile").read_text()
    ):
        assert "--constraint constraints.txt" in line or "--no-build-isolation" in line, line


def walk(bell: Bell) -> None:
    """An email, its open, a click, and a page with all that it loads: both lanes are used."""
    email = bell.create(subject="Hello", recipient="ada@example.com")
    assert bell.get(f"/acme/pixel/{email}.gif").headers["content-type"] == "image/gif"
    assert bell.get(f"/acme/click/{email}?url=https://example.com/").status == 302
    page = bell.get("/acme/dashboard")
    assert page.status == 200
    assert b"Hello" in page.body
    for name in ("style.css", "app.js", "icon.svg"):
        assert bell.get(f"/-/{name}").status == 200
    assert bell.get("/openapi.json").json["openapi"].startswith("3.1")
    assert bell.get("/acme/stats").json
    tracked = bell.ask("POST", "/acme/emails", {"html": '<a href="https://example.com/">x</a>'})
    assert "/acme/l/" in tracked.json["html"]
    assert bell.warnings() == []
    assert bell.stop() == 0
    assert bell.error_file.read_text() == ""


def test_the_wheel_runs_in_an_environment_of_its_own(built: Built, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    pip += ["--no-compile"]
    home = os.environ.get("HOME", "/")
    done(*pip, "--constraint", ROOT / "constraints.txt", built[0], HOME=home)
    bell = Bell(tmp_path, [str(place / "bin" / "little-bell")])
    try:
        walk(bell.start())
    finally:
        bell.end()
    program = "import little_bell; from little_bell import Client; print(little_bell.__file__)"
    assert done(python, "-c", program).startswith(str(place))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where nothing is unpacked yet."""
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which it is unpacked, by four first starts at the same time."""
    folder = tmp_path_factory.mktemp("unpacked") / "cache"
    starts = [
        subprocess.Popen(
            [*BARE, str(built[2]), "version"],
            env={**ELSEWHERE, "LITTLE_BELL_CACHE": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert [start.communicate(timeout=60)[0] for start in starts] == [VERSION] * 4
    return folder


def test_first_starts_at_the_same_time_leave_one_folder(unpacked: Path) -> None:
    [folder] = unpacked.iterdir()
    assert folder.name.startswith(f"{sys.implementation.cache_tag}-")
    assert unpacked.stat().st_mode & 0o777 == 0o700


def test_what_a_killed_start_left_goes_with_the_next(built: Built, cache: Path) -> None:
    """A service that is killed at each start must not fill the disk."""
    left = cache / "unpacking-x" / "site" / "little_bell"
    left.mkdir(parents=True)
    (left / "cli.py").touch()
    cache.chmod(0o700)
    assert done(*BARE, built[2], "version", LITTLE_BELL_CACHE=str(cache)) == VERSION
    [unpacked] = cache.iterdir()
    assert unpacked.name.startswith("cpython-")


def test_the_archive_runs_on_a_bare_interpreter(
    built: Built, tmp_path: Path, unpacked: Path
) -> None:
    before = {path: path.stat().st_ino for path in unpacked.iterdir()}
    bell = Bell(tmp_path, [*BARE, str(built[2])], LITTLE_BELL_CACHE=str(unpacked))
    try:
        walk(bell.start())
    finally:
        bell.end()
    assert {path: path.stat().st_ino for path in unpacked.iterdir()} == before


@linux
def test_what_unpacked_does_not_stay_in_memory(built: Built, tmp_path: Path, cache: Path) -> None:
    bell = Bell(tmp_path, [*BARE, str(built[2])], LITTLE_BELL_CACHE=str(cache))
    kilobytes = []
    try:
        for _ in range(2):
            bell.start()
            status = Path(f"/proc/{bell.pid}/status").read_text()
            kilobytes.append(int(status.partition("VmRSS:")[2].split()[0]))
            assert bell.stop() == 0
    finally:
        bell.end()
    first, second = kilobytes
    assert first < second + 3000


def test_the_archive_is_a_program(built: Built) -> None:
    minor = sys.version_info[1]
    assert built[2].read_bytes().startswith(b"#!/usr/bin/env python3.%d\n" % minor)
    assert os.access(built[2], os.X_OK)


def test_the_relay_runs_from_the_archive(built: Built, tmp_path: Path, unpacked: Path) -> None:
    program = [*BARE, str(built[2]), "relay", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*program, "--upstream", "smtp://127.0.0.1:1"],
        cwd=tmp_path,
        env={**ELSEWHERE, "LITTLE_BELL_CACHE": str(unpacked)},
        stdout=subprocess.PIPE,
    ) as relay:
        try:
            assert relay.stdout is not None
            assert b"There is no database" in relay.stdout.readline()
            assert b"The relay is listening" in relay.stdout.readline()
            relay.terminate()
            assert relay.wait(20) == 0
        finally:
            relay.kill()


def refusal(pyz: Path, **environment: str) -> str:
    """The one line of an archive that does not start."""
    ran = run(*BARE, pyz, "version", **environment)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (3, "", 1), ran.stderr
    assert ran.stderr.startswith("little-bell: cannot start: ")
    return ran.stderr


def test_folders_are_looked_for_in_order(built: Built, tmp_path: Path) -> None:
    """LITTLE_BELL_CACHE, then what systemd sets, then what desktops set, then the home."""
    names = ("LITTLE_BELL_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME")
    nowhere = {name: f"/proc/{name}" for name in names}  # where nobody makes a folder
    for name in names:
        assert f"cannot unpack to /proc/{name}" in refusal(built[2], **nowhere)
        del nowhere[name]


def test_a_cache_that_others_may_write_to_is_not_used(built: Built, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for cache in (open_to_all, open_to_all / "below"):
        said = refusal(built[2], LITTLE_BELL_CACHE=str(cache))
        assert f"others may write to {open_to_all}: set LITTLE_BELL_CACHE" in said
    assert not [path for path in open_to_all.rglob("*") if path.is_file()]


@ROOT_ONLY
def test_a_cache_of_another_user_is_not_used(built: Built, unpacked: Path) -> None:
    environment = {"LITTLE_BELL_CACHE": str(unpacked)}
    [folder] = unpacked.iterdir()
    for path in (folder, unpacked):
        os.chown(path, 65534, 65534)
        assert f"others may write to {path}" in refusal(built[2], **environment)
        os.chown(path, 0, 0)
    assert done(*BARE, built[2], "version", **environment) == VERSION


def other(pyz: Path, folder: Path, name: str, value: object) -> Path:
    """The archive with another value of what it says it is for."""
    changed = folder / "little-bell.pyz"
    with zipfile.ZipFile(pyz) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename == "little_bell_build.py":
                data += f"{name} = {value!r}\n".encode()
            target.writestr(entry, data)
    return changed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PYTHON", "cpython-399", "for cpython-399 and this is cpython-3"),
        ("PLATFORM", "linux-s390x", "for linux-s390x and this is "),
        ("GLIBC", (9, 9), "needs glibc 9.9, and here is "),
    ],
)
def test_what_an_archive_is_not_for(
    built: Built, tmp_path: Path, cache: Path, name: str, value: object, words: str
) -> None:
    changed = other(built[2], tmp_path, name, value)
    assert words in refusal(changed, LITTLE_BELL_CACHE=str(cache))


def test_older_pythons_understand_the_refusal() -> None:
    text = (TOOLS / "pyz_main.py").read_text()
    ast.parse(text, feature_version=(3, 6))
