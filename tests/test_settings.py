"""Settings: one table feeds environment, command line and help; a wrong value is named"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bell import Bell, wait_until
from little_bell.config import SETTINGS, Config
from little_bell.errors import StartError

NAMES = [setting.name for setting in SETTINGS]

# Values that each setting cannot have.
WRONG = {
    "PORT": ["x", "-1", "65536", "80.5", "", "0x50", "9" * 5000],
    "HOST": ["192.0.2.1", "a..b", "." * 300],
    "DATABASE_URL": [
        "",
        "postgres://localhost/bell",
        "sqlite:",
        "sqlite://",
        "sqlite::memory:",
        "sqlite:data/",
        "sqlite:data/x.db?mode=ro",
        "data/x.db",
    ],
    "BASE_URL": [
        "track.example.com",
        "ftp://track.example.com",
        "https://",
        "https:///bell",
        "https://track.example.com/?x=1",
        "https://track.example.com/#x",
        'https://track.example.com/"',
        "https://track.example.com/\r\nX: y",
        "https://träck.example.com",
        "javascript:alert(1)",
    ],
    "LOG_LEVEL": ["loud", "10", "info,debug"],
    "RUST_LOG": ["little_bell=loud"],
    "TRUSTED_PROXIES": ["example.com", "10.0.0.0/33", "10.0.0", "::1/129", "10.0.0.0/x", "any"],
    "OWN_ADDRESSES": [
        "example.com",
        "10.0.0.0/33",
        "private",
        "none",
        "192.0.2.1, acme=",
        "acme=192.0.2",
        "=192.0.2.1",
        "_acme=192.0.2.1",
        "a/b=192.0.2.1",
        "träger=192.0.2.1",
        "acme=b=192.0.2.1",
        "192.0.2.1=acme",
        "192.0.2.1 192.0.2.2",
    ],
    "SECRET_KEY": ["short", "long-enough-to-be-one short", " ".join(["k" * 16] * 17)],
    "SECRET_KEY_FILE": ["keys/", "ke\nys"],
    "AUTH": ["yes", "", "OPEN", "key"],
    "ADMIN_KEY": ["short", "long enough but with spaces", "schlüssel-schlüssel"],
    "ADMIN_KEY_FILE": ["keys/", "ke\nys", "/nowhere/key"],
    "METRICS_TOKEN": ["short", "long enough but with spaces", "\x7f" * 20],
    "METRICS_TOKEN_FILE": ["keys/", "ke\nys", "/nowhere/key"],
    "LINK_POLICY": ["", "none", "SIGNED", "any,signed"],
    "CORS_ORIGINS": ["app.example.com", "https://a.example\r\nX: y", "ftp://a.example", "null"],
    "CONSENT": ["all", "0", "Full", "", "full,none"],
    "ADDRESSES": ["all", "1", "Truncate", "", "/24"],
    "GPC": ["full", "1", "yes", ""],
    "RETENTION_DAYS": ["x", "-1", "36501", "1.5", "30d", ""],
    "INSTANT_SECONDS": ["x", "-1", "nan", "inf", "1e9", ""],
    "MAX_HITS_PER_EMAIL_HOUR": ["x", "0", "-1", "1.5", ""],
    "MAX_NEW_AGENTS_PER_HOUR": ["x", "0", "-1"],
    "MAX_NEW_LINKS_PER_HOUR": ["x", "0", "-1"],
    "MAX_REQUESTS_PER_MINUTE": ["x", "-1", "1.5", ""],
    "MAX_MISSES_PER_MINUTE": ["x", "-1", "1.5", ""],
    "MAX_BODY_BYTES": ["x", "0", "-1", "64k"],
    "MAX_BULK_BYTES": ["x", "0", "-1", "64M"],
    "MAX_MESSAGE_BYTES": ["x", "0", "-1", "32M", "134217729"],
    "MAX_CONNECTIONS": ["x", "0", "-1"],
    "IDLE_SECONDS": ["x", "-1", "nan"],
    "REQUEST_SECONDS": ["x", "-1", "nan"],
    "MAX_WAITING_BYTES": ["x", "-1", "8M"],
    "CHECKPOINTS": ["none", "", "OWN", "own litestream"],
    "MAX_WAL_BYTES": ["x", "0", "-1"],
    "SLOW_LANE_IDLE_SECONDS": ["x", "-1", "nan"],
}


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The program, where it is expected to end by itself."""
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-m", "little_bell", *arguments],
        cwd=folder,
        env={**inherited, "PORT": "0", "HOST": "127.0.0.1", **settings},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def level_of(bell: Bell) -> set[str]:
    """The levels of the log lines of one open and one unknown path."""
    bell.create()
    bell.get("/acme/pixel/1.gif")
    bell.get("/nothing")
    bell.stop()
    return {line["level"] for line in bell.lines()}


def test_it_works_without_any(bell: Bell) -> None:
    assert bell.get("/health").status == 200
    assert bell.database.exists()
    assert level_of(bell) == {"INFO"}


def test_each_setting_has_wrong_values() -> None:
    assert set(WRONG) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_ends_the_start_and_is_named(tmp_path: Path, name: str) -> None:
    processes = WRONG[name] if name == "HOST" else WRONG[name][:1]  # that one is tried out
    for value in WRONG[name][len(processes) :]:
        with pytest.raises(StartError, match=name) as wrong:
            Config({name: value})
        assert len(str(wrong.value).splitlines()) == 1, repr(value)
    for value in processes:
        ended = run(tmp_path, "serve", **{name: value})
        shown = f"{name}={value[:50]!r}: {ended.stderr}"
        assert ended.returncode == 3, shown
        assert ended.stdout == "", shown
        assert len(ended.stderr.splitlines()) == 1, shown
        assert name in ended.stderr, shown
    assert list(tmp_path.iterdir()) == [], "a start that cannot work left something behind"


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_option_is_named_as_well(tmp_path: Path, name: str) -> None:
    option = "--" + name.lower().replace("_", "-")
    ended = run(tmp_path, "serve", f"{option}={WRONG[name][0]}", **{name: ""})
    assert (ended.returncode, ended.stdout) == (3, "")
    assert name in ended.stderr


@pytest.mark.parametrize("name", ["DATABASE_URL", "BASE_URL"])
def test_a_password_in_a_wrong_address_is_not_told(tmp_path: Path, name: str) -> None:
    ended = run(tmp_path, "serve", **{name: "scheme://me:hidden@localhost/mine"})
    assert ended.returncode == 3
    assert f"{name}='scheme://...' is not " in ended.stderr
    assert "hidden" not in ended.stderr


def test_the_help_lists_each_setting(tmp_path: Path) -> None:
    shown = run(tmp_path, "help", "settings")
    assert (shown.returncode, shown.stderr) == (0, "")
    for setting in SETTINGS:
        lines = shown.stdout.splitlines()
        [at] = [n for n, line in enumerate(lines) if line.split()[:1] == [setting.name]]
        assert setting.default in lines[at]
        assert setting.help in lines[at + 1]


def test_the_help_needs_no_good_settings(tmp_path: Path) -> None:
    assert run(tmp_path, "--help", PORT="x").returncode == 0
    assert run(tmp_path, "version", PORT="x").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--nonsense", "1"],
        ["serve", "--port"],
        ["--prot=1"],
        ["serve", "1"],
        ["nonsense"],
        ["serve", "-p", "1"],
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    ended = run(tmp_path, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:data/x.db", "data/x.db"),
        ("sqlite://data/x.db", "data/x.db"),
        ("sqlite:data/x.db?mode=rwc", "data/x.db"),
        ("sqlite://data/x.db?mode=rwc", "data/x.db"),
        ("sqlite:///{folder}/abs/x.db", "abs/x.db"),
        ("sqlite:///{folder}/abs/x.db?mode=rwc", "abs/x.db"),
        ("sqlite:{slash}{folder}/abs/x.db", "abs/x.db"),
        ("sqlite:x.db", "x.db"),
        ("sqlite:./a/b/c/x.db", "a/b/c/x.db"),
        ("sqlite:data/with space é.db", "data/with space é.db"),
        (f"sqlite:{'d' * 100}/{'f' * 100}.db", f"{'d' * 100}/{'f' * 100}.db"),
    ],
)
def test_forms_of_database_url(tmp_path: Path, url: str, file: str) -> None:
    url = url.format(folder=str(tmp_path).lstrip("/"), slash="/")
    bell = Bell(tmp_path, DATABASE_URL=url)
    bell.database = tmp_path / file
    try:
        bell.start()
        assert bell.create() == 1
        assert bell.rows("SELECT email FROM emails") == [(1,)]
        # Pages and commands find the same file.
        assert bell.get("/acme/dashboard").status == 200
        status = run(tmp_path, "status", DATABASE_URL=url)
        assert (status.returncode, json.loads(status.stdout)["status"]) == (0, "healthy")
        assert bell.stop() == 0
    finally:
        bell.end()


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        ({"LOG_LEVEL": "info"}, {"INFO"}),
        ({"LOG_LEVEL": "INFO"}, {"INFO"}),
        ({"LOG_LEVEL": "debug"}, {"INFO", "DEBUG"}),
        ({"RUST_LOG": "little_bell=debug"}, {"INFO", "DEBUG"}),
        ({"RUST_LOG": "little_bell=info"}, {"INFO"}),
        ({"RUST_LOG": "debug"}, {"INFO", "DEBUG"}),
        ({"RUST_LOG": "warn,little_bell=debug"}, {"INFO", "DEBUG"}),
        ({"RUST_LOG": "hyper=debug,sqlx=nonsense"}, {"INFO"}),
        ({"RUST_LOG": ""}, {"INFO"}),
        ({"RUST_LOG": "little_bell=debug", "LOG_LEVEL": "info"}, {"INFO"}),
    ],
)
def test_levels_of_the_log(
    start_bell: Callable[..., Bell], settings: dict[str, str], levels: set[str]
) -> None:
    assert level_of(start_bell(**settings)) == levels


@pytest.mark.parametrize(
    "settings",
    [{"LOG_LEVEL": "warn"}, {"LOG_LEVEL": "off"}, {"RUST_LOG": "little_bell=error"}],
)
def test_quiet_levels(tmp_path: Path, settings: dict[str, str]) -> None:
    bell = Bell(tmp_path, None, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bell, "start", start_quietly)
        try:
            bell.start()
            bell.create()
            bell.get("/acme/pixel/1.gif")
            assert bell.stop() == 0
            assert bell.lines() == []
        finally:
            bell.end()


def start_quietly(bell: Bell) -> Bell:
    """Start where no log line will tell the port: `status` does."""
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    with bell.log_file.open("ab") as out, bell.error_file.open("ab") as err:
        bell.process = subprocess.Popen(
            bell.program,
            cwd=bell.folder,
            env={**inherited, "PORT": "0", "HOST": "127.0.0.1", **bell.settings},
            stdout=out,
            stderr=err,
        )
    said: list[dict[str, Any]] = []

    def ready() -> bool:
        status = run(bell.folder, "status")
        said.extend([json.loads(status.stdout)] if status.returncode == 0 else [])
        return bool(said)

    wait_until(ready)
    bell.port = int(said[0]["url"].rpartition(":")[2])
    return bell


def test_options_count_more_than_the_environment(tmp_path: Path) -> None:
    bell = Bell(
        tmp_path,
        [
            *(sys.executable, "-m", "little_bell", "serve"),
            *("--base-url", "https://option.example/x", "--database-url=sqlite:o.db"),
            "--log-level=debug",
        ],
        BASE_URL="https://environment.example",
        LOG_LEVEL="info",
        DATABASE_URL="sqlite:e.db",
    )
    bell.database = tmp_path / "o.db"
    try:
        bell.start()
        answer = bell.ask("POST", "/acme/emails", {})
        url = "https://option.example/x/acme/pixel/1.gif"
        assert answer.json["tracking_pixel_url"] == url
        # The second process has them as well.
        assert b"https://option.example/x/acme/emails" in bell.get("/acme/dashboard").body
        assert level_of(bell) == {"INFO", "DEBUG"}
        assert bell.database.exists()
        assert not (tmp_path / "e.db").exists()
    finally:
        bell.end()


def test_serve_is_what_happens_without_a_command(tmp_path: Path) -> None:
    bell = Bell(tmp_path, [sys.executable, "-m", "little_bell", "--idle-seconds", "5"])
    try:
        assert bell.start().get("/health").status == 200
        assert bell.stop() == 0
    finally:
        bell.end()


@pytest.mark.parametrize(
    ("value", "prefix"),
    [("", ""), ("https://t.example", ""), ("http://t.example:8080/a/b/", "/a/b")],
)
def test_forms_of_base_url(start_bell: Callable[..., Bell], value: str, prefix: str) -> None:
    bell = start_bell(BASE_URL=value)
    made = bell.ask("POST", f"{prefix}/acme/emails", {}).json["tracking_pixel_url"]
    base = value.rstrip("/") or f"http://localhost:{bell.port}"
    assert made == f"{base}/acme/pixel/1.gif"
    assert bell.get(f"{prefix}/acme/dashboard").status == 200


def test_limits_of_one_email(start_bell: Callable[..., Bell]) -> None:
    """Past its share of an hour a single row grows instead."""
    bell = start_bell(MAX_HITS_PER_EMAIL_HOUR="5")
    bell.create()
    for _ in range(20):
        assert bell.get("/acme/pixel/1.gif").status == 200
    kinds = bell.rows("SELECT kind, count(*), sum(n) FROM events GROUP BY kind ORDER BY kind")
    assert sum(count for _, count, _ in kinds) <= 11
    opened = kinds[0][1]
    capped = sum(n for _, _, n in kinds[1:])
    assert opened + capped == 20
    assert [count for _, count, _ in kinds[1:]] == [1]


def test_limits_of_the_dictionaries(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_NEW_AGENTS_PER_HOUR="3", MAX_NEW_LINKS_PER_HOUR="2")
    bell.create()
    for n in range(10):
        bell.ask("GET", "/acme/pixel/1.gif", headers={"User-Agent": f"agent {n}"})
        answer = bell.get(f"/acme/click/1?url=https://example.com/{n}", User_Agent="agent 0")
        assert answer.headers["location"] == f"https://example.com/{n}"
    assert bell.rows("SELECT count(*) FROM agents") == [(3,)]
    assert bell.rows("SELECT count(*) FROM links") == [(2,)]
    assert bell.rows("SELECT count(*) FROM events") == [(20,)]
