"""The keys that sign: where they come from, rotation beside a running server, backups"""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

import signatures
from bell import Answer, Bell, events, wait_until

TARGET = "https://example.com/"
PATH = f"/acme/click-url/1?url={quote(TARGET, safe='')}"
OLD, NEW = "an-old-key-of-ours", "the-new-key-of-ours"


def run(bell: Bell, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command in the server's folder; it has none of the server's settings."""
    return subprocess.run(
        [sys.executable, "-m", "little_bell", *arguments],
        cwd=bell.folder,
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def keys(path: Path) -> list[str]:
    """The keys of a file, which is its owner's alone."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text().split()


def secret(bell: Bell) -> Path:
    return bell.database.with_name("tracking.db.secret")


def made(bell: Bell) -> str:
    """A signed link of email 1, as its path."""
    answer = bell.get(PATH)
    found: str = "/" + answer.json["signed_url"].split("/", 3)[3]
    return found


def signed_by(key: str) -> str:
    return f"/acme/l/1/{signatures.token(key.encode(), 'acme', 1, TARGET)}"


def leads_there(answer: Answer) -> bool:
    return (answer.status, answer.headers.get("location")) == (302, TARGET)


def works(bell: Bell, path: str) -> bool:
    return leads_there(bell.get(path))


def test_a_key_is_made_once(bell: Bell) -> None:
    bell.create()
    [key] = keys(secret(bell))
    assert len(key) == 64
    link = made(bell)
    assert link == signed_by(key)
    bell.kill()
    bell.start()
    assert keys(secret(bell)) == [key]
    assert made(bell) == link
    assert works(bell, link)


def test_keys_of_the_settings(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(SECRET_KEY=f"{NEW} {OLD}")
    bell.create()
    assert not secret(bell).exists()
    assert made(bell) == signed_by(NEW)
    assert works(bell, signed_by(OLD))
    assert bell.get(signed_by("a-key-of-somebody-else")).status == 404


# Rotation


def test_rotation_beside_a_server(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(LINK_POLICY="signed")
    bell.create()
    [first] = keys(secret(bell))
    old = made(bell)
    page = bell.get("/acme/dashboard/emails/1").body.decode()  # the slow lane runs
    assert signatures.pixel(first.encode(), "acme", 1) in page

    ran = run(bell, "secret", "rotate")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "a new key signs; keys before it that still verify: 1\n"
    new, *before = keys(secret(bell))
    assert before == [first]
    assert new != first
    # At once, in both lanes, and for mail that is out.
    assert made(bell) == signed_by(new)
    assert works(bell, old)
    assert works(bell, signed_by(new))
    pixel = signatures.pixel(new.encode(), "acme", 1)
    assert pixel in bell.get("/acme/dashboard/emails/1").body.decode()
    assert bell.get(f"/acme/o/1/{pixel}").status == 200
    assert [kind for _, kind in events(bell, "acme")] == ["click", "click", "open"]
    lines = bell.ask("POST", "/acme/emails", b"[{}]").json
    assert lines[0]["tracking_pixel_url"].endswith(signatures.pixel(new.encode(), "acme", 2))

    # And after a restart.
    bell.kill()
    bell.start()
    assert works(bell, old)
    assert made(bell) == signed_by(new)

    ran = run(bell, "secret", "drop")
    assert (ran.returncode, ran.stdout) == (
        0,
        "keys that are gone, and with them the mail they signed: 1\n",
    )
    assert keys(secret(bell)) == [new]
    assert bell.get(old).status == 404
    assert works(bell, signed_by(new))
    assert run(bell, "secret", "drop").returncode == 0
    assert keys(secret(bell)) == [new]


def test_rotation_without_a_server(bell: Bell) -> None:
    bell.create()
    old = made(bell)
    bell.stop()
    assert run(bell, "secret", "rotate").returncode == 0
    assert run(bell, "secret", "rotate").returncode == 0
    newest, *before = keys(secret(bell))
    assert len(before) == 2
    bell.start()
    assert made(bell) == signed_by(newest)
    for path in (old, *map(signed_by, before)):
        assert works(bell, path)


def test_the_keys_are_at_most_sixteen(bell: Bell) -> None:
    bell.stop()
    secret(bell).write_text("".join(f"key-number-{n:06}\n" for n in range(16)))
    before = secret(bell).read_text()
    ran = run(bell, "secret", "rotate")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "16 keys already" in ran.stderr
    assert secret(bell).read_text() == before
    assert run(bell, "secret", "drop").returncode == 0
    assert keys(secret(bell)) == ["key-number-000000"]


def test_a_file_that_is_changed_by_hand_is_followed(bell: Bell) -> None:
    bell.create()
    old = made(bell)
    fresh = secret(bell).with_name("fresh")
    fresh.write_text(f"{NEW}\n")
    fresh.replace(secret(bell))
    wait_until(lambda: made(bell) == signed_by(NEW), 5)
    assert bell.get(old).status == 404


@pytest.mark.parametrize("text", [None, "", "short", "\xff" * 40 + "\n" + "x"])
def test_a_file_that_is_ruined_changes_nothing(bell: Bell, text: str | None) -> None:
    bell.create()
    link = made(bell)
    if text is None:
        secret(bell).unlink()
    else:
        secret(bell).write_text(text)

    def told() -> list[str]:
        lines = [one for one in bell.lines() if one["message"] == "The keys stay as they were"]
        return [one["fields"]["reason"] for one in lines]

    wait_until(told, 5)
    assert works(bell, link)
    assert made(bell) == link
    ran = run(bell, "secret", "rotate")
    assert ran.returncode in (1, 3), ran
    assert ran.stderr.count("\n") == 1
    assert str(secret(bell)) in ran.stderr
    assert len(told()) == 1, "once is enough"
    assert works(bell, link)


def test_keys_of_the_settings_are_rotated_there(start_bell: Callable[..., Bell]) -> None:
    """Whether the command knows of them, or the server alone."""
    bell = start_bell(SECRET_KEY=OLD)
    for settings in ({"SECRET_KEY": OLD}, {}):
        for action in ("rotate", "drop"):
            ran = run(bell, "secret", action, **settings)
            assert (ran.returncode, ran.stdout) == (1, "")
            assert "SECRET_KEY: put a new one in front" in ran.stderr
    assert not secret(bell).exists()


def test_the_file_is_the_servers(start_bell: Callable[..., Bell], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    bell = start_bell(SECRET_KEY_FILE=str(file))
    bell.create()
    [first] = keys(file)
    ran = run(bell, "secret", "rotate")
    assert ran.returncode == 1
    assert f"the server's keys are in {file}: set SECRET_KEY_FILE" in ran.stderr
    assert keys(file) == [first]
    assert not secret(bell).exists()
    assert run(bell, "secret", "rotate", SECRET_KEY_FILE=str(file)).returncode == 0
    assert keys(file)[1:] == [first]
    assert made(bell) == signed_by(keys(file)[0])


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["secret"], 2), (["secret", "show"], 1), (["secret", "rotate", "x"], 2)],
)
def test_wrong_usage(bell: Bell, arguments: list[str], status: int) -> None:
    ran = run(bell, *arguments)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr.count("\n") == 1
    assert len(keys(secret(bell))) == 1


def test_no_keys_yet(tmp_path: Path) -> None:
    bell = Bell(tmp_path)
    ran = run(bell, "secret", "rotate")
    assert ran.returncode == 1
    assert "the server makes it when it starts" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_told_to_nobody(bell: Bell) -> None:
    bell.create()
    said = run(bell, "secret", "rotate").stdout + run(bell, "status").stdout
    bell.get("/acme/dashboard")
    bell.get("/metrics")
    said += bell.log_file.read_text() + bell.error_file.read_text()
    for key in keys(secret(bell)):
        assert key not in said


# Backups


def test_a_backup_takes_the_keys_along(bell: Bell, start_bell: Callable[..., Bell]) -> None:
    bell.create()
    old = made(bell)
    assert run(bell, "secret", "rotate").returncode == 0
    link = made(bell)
    ran = run(bell, "backup", "copy.db")
    assert ran.returncode == 0
    assert "copy.db.secret" in ran.stdout
    saved = keys(bell.folder / "copy.db.secret")
    assert saved == keys(secret(bell))

    other = Bell(bell.folder.with_name("elsewhere"))
    other.folder.mkdir()
    source = str(bell.folder / "copy.db")
    ran = run(other, "restore", source)
    assert ran.returncode == 0, ran.stderr
    assert "that are back: 2" in ran.stdout
    assert keys(secret(other)) == saved
    try:
        other.start()
        assert works(other, old)
        assert made(other) == link
    finally:
        other.end()


def test_restored_keys_come_behind_those_that_are_there(bell: Bell) -> None:
    bell.create()
    old = made(bell)
    assert run(bell, "backup", "copy.db").returncode == 0
    [first] = keys(bell.folder / "copy.db.secret")
    bell.stop()
    secret(bell).write_text(f"{NEW}\n")
    secret(bell).chmod(0o600)
    ran = run(bell, "restore", "copy.db")
    assert ran.returncode == 0
    assert "that are back: 1" in ran.stdout
    assert keys(secret(bell)) == [NEW, first]
    assert "that are back" not in run(bell, "restore", "copy.db").stdout
    assert keys(secret(bell)) == [NEW, first]
    bell.start()
    assert made(bell) == signed_by(NEW)
    assert works(bell, old)


def test_restored_keys_have_room_or_are_told(bell: Bell) -> None:
    assert run(bell, "backup", "copy.db").returncode == 0
    bell.stop()
    there = [f"key-number-{n:06}" for n in range(16)]
    secret(bell).write_text("\n".join(there))
    secret(bell).chmod(0o600)
    ran = run(bell, "restore", "copy.db")
    assert ran.returncode == 0
    assert "no room for 1 more" in ran.stdout
    assert keys(secret(bell)) == there


def test_a_restore_beside_keys_of_the_settings(bell: Bell) -> None:
    assert run(bell, "backup", "copy.db").returncode == 0
    bell.stop()
    before = secret(bell).read_text()
    ran = run(bell, "restore", "copy.db", SECRET_KEY=NEW)
    assert ran.returncode == 0
    assert "holds keys that SECRET_KEY does not" in ran.stdout
    assert secret(bell).read_text() == before


def test_a_backup_without_keys_in_a_file(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(SECRET_KEY=OLD)
    bell.create()
    assert run(bell, "backup", "copy.db", SECRET_KEY=OLD).returncode == 0
    assert not (bell.folder / "copy.db.secret").exists()
    bell.stop()
    assert run(bell, "restore", "copy.db", SECRET_KEY=OLD).returncode == 0
    assert not secret(bell).exists()


def test_a_backup_takes_the_place_of_keys_alone(bell: Bell) -> None:
    other = bell.folder / "copy.db.secret"
    other.write_text("dear diary")
    ran = run(bell, "backup", "copy.db")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "another program's" in ran.stderr
    assert other.read_text() == "dear diary"
    assert not (bell.folder / "copy.db").exists()
    other.write_text(f"{OLD}\n")
    assert run(bell, "backup", "copy.db").returncode == 0
    assert keys(other) == keys(secret(bell))
