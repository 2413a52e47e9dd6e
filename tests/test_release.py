"""A tag becomes a release where it agrees with the package and the changelog, and not elsewhere."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHANGELOG = """# Changes

## 1.2.4 (unreleased)

* Not yet.

## 1.2.3 (2026-11-27)

* A thing.
* Another.

## 1.2.2 (2026-11-01)

* An older one.
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy with what the tool reads: version 1.2.3."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "release.py", tmp_path / "tools")
    (tmp_path / "src" / "little_bell").mkdir(parents=True)
    told(tmp_path, "1.2.3")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def told(house: Path, version: str) -> None:
    """The package is of this version."""
    (house / "src" / "little_bell" / "__init__.py").write_text(f'__version__ = "{version}"\n')


def run(house: Path, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the tool."""
    ran = subprocess.run(
        [sys.executable, "tools/release.py", *arguments],
        cwd=house,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_it_works(house: Path) -> None:
    assert run(house, "check", "v1.2.3") == (0, "", "")
    assert run(house, "notes", "v1.2.3") == (0, "* A thing.\n* Another.\n", "")


@pytest.mark.parametrize(
    ("version", "tag", "why"),
    [
        ("1.2.3", "1.2.3", "1.2.3 is not of the form vX.Y.Z"),
        ("1.2.3", "v1.2.3rc1", "v1.2.3rc1 is not of the form vX.Y.Z"),
        ("1.2.3", "v1.2.2", "the tag is v1.2.2, the version 1.2.3"),
        ("1.2.4", "v1.2.4", "CHANGELOG.md has no date for 1.2.4: (1.2.4 (unreleased))"),
        ("1.2.5", "v1.2.5", "CHANGELOG.md has no section for 1.2.5"),
    ],
)
def test_it_refuses(house: Path, version: str, tag: str, why: str) -> None:
    told(house, version)
    for what in ("check", "notes"):
        assert run(house, what, tag) == (1, "", f"No release: {why}\n")


def test_it_refuses_a_release_of_which_nothing_is_said(house: Path) -> None:
    (house / "CHANGELOG.md").write_text(
        "# Changes\n\n## 1.2.3 (2026-11-27)\n\n## 1.2.2 (2026-11-01)\n"
    )
    assert run(house, "check", "v1.2.3") == (
        1,
        "",
        "No release: CHANGELOG.md says nothing of 1.2.3\n",
    )


def test_it_reads_this_house(tmp_path: Path) -> None:
    """The real files are of the form that the tool reads."""
    code, _, error = run(ROOT, "check", "v0.0.0")
    assert code == 1
    assert error.startswith("No release: the tag is v0.0.0, the version ")
    assert "None" not in error


def test_how_it_is_called(house: Path) -> None:
    for arguments in ((), ("check",), ("publish", "v1.2.3"), ("check", "v1.2.3", "now")):
        assert run(house, *arguments)[0] == 2
