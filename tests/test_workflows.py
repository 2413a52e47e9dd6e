"""What GitHub runs: linted, pinned, allowed little, and calling what is there."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(path.name for path in FOLDER.glob("*"))
BIN = Path(sys.executable).parent
WRITES = {  # nothing else may write anything
    ("release.yml", "image", "packages"),
    ("release.yml", "index", "packages"),
    ("release.yml", "attest", "id-token"),
    ("release.yml", "attest", "attestations"),
    ("release.yml", "pypi", "id-token"),
    ("release.yml", "github", "contents"),
    ("release.yml", "latest", "packages"),
}


def read(name: str) -> dict[Any, Any]:
    """A workflow; YAML takes its `on` for True."""
    found: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(workflow, job's id, job)."""
    for name in WORKFLOWS:
        for key, job in read(name)["jobs"].items():
            yield name, key, job


def lint(*command: str) -> str:
    """What a linter of .venv says; it fails where it finds anything."""
    ran = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_there_are_these() -> None:
    assert WORKFLOWS == ["audit.yml", "build.yml", "ci.yml", "release.yml"]


def test_zizmor_finds_nothing() -> None:
    lint("zizmor", "--offline", "--strict-collection", "--persona", "auditor", ".github")


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    """The linter works, and offline."""
    broken = re.sub(r"@[0-9a-f]{40} # ", "@", (FOLDER / "ci.yml").read_text())
    (tmp_path / "ci.yml").write_text(broken)
    with pytest.raises(AssertionError, match="unpinned-uses"):
        lint("zizmor", "--offline", str(tmp_path / "ci.yml"))


def test_the_schemas_hold() -> None:
    paths = [str(FOLDER / name) for name in WORKFLOWS]
    lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *paths)
    lint("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


def test_actions_are_pinned_by_commit() -> None:
    """A tag can be moved to other code; a commit cannot. One action, one commit, everywhere."""
    pins: dict[str, set[str]] = {}
    for name in WORKFLOWS:
        for line in (FOLDER / name).read_text().splitlines():
            if "uses:" not in line or "uses: ./" in line:
                continue
            pin = re.search(r"uses: ([\w./-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+$", line)
            assert pin, f"{name}: {line.strip()}"
            pins.setdefault(pin[1], set()).add(line.split("uses: ")[1])
    assert "actions/checkout" in pins
    assert {action: len(lines) for action, lines in pins.items()} == dict.fromkeys(pins, 1)


def test_nobody_may_more_than_needed() -> None:
    found = set()
    for name, key, job in jobs():
        assert read(name)["permissions"] == {}
        assert "secrets" not in job
        for what, how in job["permissions"].items():
            assert how in ("read", "write")
            if how == "write":
                found.add((name, key, what))
    assert found == WRITES


def test_whoever_may_write_runs_nothing_of_a_pull_request() -> None:
    """The rights to write are the release's, which only a tag starts."""
    assert {name for name, _, _ in WRITES} == {"release.yml"}
    assert read("release.yml")[True] == {"push": {"tags": ["v*"]}}
    for name in WORKFLOWS:
        assert "pull_request_target" not in (FOLDER / name).read_text()


def test_a_pipe_of_the_release_fails_where_a_part_of_it_does() -> None:
    """GitHub starts bash with pipefail where a shell is named, and without where none is."""
    scripts = [
        step["run"]
        for job in read("release.yml")["jobs"].values()
        for step in job.get("steps", [])
        if "run" in step
    ]
    assert any(" | " in script for script in scripts)
    assert read("release.yml")["defaults"] == {"run": {"shell": "bash"}}


def test_each_job_ends() -> None:
    for name, key, job in jobs():
        assert "uses" in job or job["timeout-minutes"] <= 60, (name, key)


def test_each_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set()
    for _, _, job in jobs():
        for step in job.get("steps", []):
            called |= set(re.findall(r"\bmake ([a-z-]+)", step.get("run", "")))
    assert called == {"lint", "test", "audit", "build", "pyz"}
    assert called <= targets


def test_the_pythons_are_those_that_are_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    form = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    promised = [found[1] for line in project["classifiers"] if (found := form.fullmatch(line))]
    assert promised == [f"3.{minor}" for minor in range(11, 11 + len(promised))]
    assert project["requires-python"] == f">={promised[0]}"
    assert read("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert read("build.yml")["jobs"]["archive"]["strategy"]["matrix"]["python"] == promised
    steps = read("ci.yml")["jobs"]["lint"]["steps"]
    assert [
        step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})
    ] == promised[:1]


def test_nothing_is_offered_before_all_is_checked_and_signed() -> None:
    needs = {}
    for key, job in read("release.yml")["jobs"].items():
        wanted = job.get("needs", [])
        needs[key] = {wanted} if isinstance(wanted, str) else set(wanted)

    def before(key: str) -> set[str]:
        return needs[key].union(*map(before, needs[key]))

    assert read("release.yml")["jobs"]["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert before("image") == {"version", "ci"}
    for key in ("pypi", "github", "latest"):
        assert before(key) >= {"version", "ci", "image", "index", "attest"}
    assert read("release.yml")["jobs"]["pypi"]["environment"] == "pypi"


def test_no_expression_becomes_a_part_of_a_script() -> None:
    """`${{ }}` in a script is pasted in before the shell reads it: values come by `env`."""
    for name, key, job in jobs():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", ""), (name, key)
