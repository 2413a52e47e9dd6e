"""The doctor, and secrets in files"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from access import ADMIN_KEY, TOKEN, command, create_key
from bell import Bell
from little_bell import __version__
from little_bell.config import Config
from little_bell.errors import StartError
from little_bell.ops.doctor import examine, kind_of


def findings(bell: Bell, **settings: str) -> list[str]:
    ran = command(bell, "doctor", **settings)
    lines = ran.stdout.splitlines()
    assert ran.stderr == ""
    if ran.returncode == 0:
        assert lines == ["all is well"]
        return []
    assert ran.returncode == 1
    assert [line.partition(". ")[0] for line in lines] == [str(n + 1) for n in range(len(lines))]
    return [line.partition(". ")[2] for line in lines]


def test_the_doctor_says_what_stands_open(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    bell.create()
    good = {"BASE_URL": "https://track.example", "METRICS_TOKEN": TOKEN}
    with_links = findings(bell, **good)
    # What concerns links is another setting's affair.
    assert [line for line in with_links if "LINK_POLICY" not in line] == [
        "anybody may read and change acme: little-bell keys create acme, or AUTH=keys for all"
    ]
    create_key(bell, "acme")
    good["LINK_POLICY"] = "signed"

    def found(**settings: str) -> list[str]:
        lines = findings(bell, **{**good, **settings})
        return [line for line in lines if "LINK_POLICY" not in line]

    assert found() == []
    assert findings(bell, **good) == [
        "anybody can create a tenant, whose links LINK_POLICY=signed lets through: "
        "set AUTH=keys and ADMIN_KEY"
    ]
    assert findings(bell, **good, AUTH="keys", ADMIN_KEY=ADMIN_KEY) == []
    assert found(METRICS_TOKEN="") == ["anybody may read /metrics: set METRICS_TOKEN"]
    for local in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:3000/b", ""):
        assert found(BASE_URL=local) == [], local
    [line] = found(BASE_URL="http://track.example")
    assert "BASE_URL=https" in line
    [line] = found(AUTH="keys")
    assert "ADMIN_KEY" in line
    assert found(AUTH="keys", ADMIN_KEY=ADMIN_KEY) == []
    secret = bell.database.with_name("tracking.db.secret")
    for mode, count in ((0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)):
        secret.chmod(mode)
        assert len(found()) == count, oct(mode)
    assert "chmod 600" in found()[0]
    assert found(SECRET_KEY="a-secret-of-the-settings") == []
    for n in range(4):
        bell.create(f"t{n}")
    assert "4 tenants" in found(SECRET_KEY="a-secret-of-the-settings")[0]
    before = bell.rows("SELECT * FROM tenants")
    assert findings(bell)
    assert bell.rows("SELECT * FROM tenants") == before
    assert bell.stop() == 0
    assert len(found(SECRET_KEY="a-secret-of-the-settings")) == 1, "without a server as well"


def test_the_doctor_says_what_goes_wrong_soon(
    start_bell: Callable[..., Bell], monkeypatch: pytest.MonkeyPatch
) -> None:
    bell = start_bell(AUTH="keys", ADMIN_KEY=ADMIN_KEY, LINK_POLICY="signed")
    good = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY, "LINK_POLICY": "signed", "METRICS_TOKEN": TOKEN}
    assert findings(bell, **good) == []
    # Whatever the mask of who starts it, others read neither the file nor its log.
    for file in bell.database.parent.iterdir():
        assert file.stat().st_mode & 0o007 == 0, file
    bell.database.chmod(0o644)
    assert findings(bell, **good) == [
        f"others than its owner may use {bell.database}: chmod o= {bell.database}"
    ]
    bell.database.chmod(0o640)
    assert findings(bell, **good) == []

    config = Config({**good, "DATABASE_URL": f"sqlite://{bell.database}"})

    def found(status: dict[str, str]) -> list[str]:
        answer = {"status": "healthy", "version": __version__, **status}
        return [what for what, _ in examine(config, lambda *_: (200, json.dumps(answer).encode()))]

    assert found({}) == []
    assert found({"version": "0.0.9"}) == [
        f"the server that runs is 0.0.9, this command {__version__}"
    ]
    assert found({"status": "degraded", "reason": "disk full"}) == [
        "the server is degraded: disk full"
    ]
    disk = os.statvfs(bell.database.parent)
    small = os.statvfs_result((*disk[:4], (255 << 20) // disk.f_frsize, *disk[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: small)
    [what] = found({})
    assert "too little for a copy" in what


def test_the_doctor_knows_a_networks_file_system(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/data /srv/a\\040b nfs4 rw 0 0\n"
        "/dev/sdb1 /srv/a\\040b/local xfs rw 0 0\n"
        "server:/x /srv/a nfs rw 0 0\n"
    )
    assert [
        kind_of(folder, str(table))
        for folder in ("/", "/srv", "/srv/a b", "/srv/a b/c", "/srv/a b/local/c", "/srv/ab")
    ] == ["ext4", "ext4", "nfs4", "nfs4", "xfs", "ext4"]
    assert kind_of("/", str(tmp_path / "none")) == ""


def test_keys_can_come_from_files(start_bell: Callable[..., Bell], tmp_path: Path) -> None:
    """As containers and systemd hand secrets over."""
    admin, metrics = tmp_path / "admin", tmp_path / "metrics"
    admin.write_text(ADMIN_KEY + "\n")
    metrics.write_text(TOKEN)
    files = {"ADMIN_KEY_FILE": str(admin), "METRICS_TOKEN_FILE": str(metrics)}
    bell = start_bell(AUTH="keys", **files)
    assert bell.ask("POST", "/acme/emails", {}).status == 401
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert bell.ask("POST", "/acme/emails", {}, headers).status == 201
    assert bell.get("/acme/dashboard", **headers).status == 200, "the slow lane knows it too"
    assert bell.get("/metrics").status == 401
    assert bell.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
    assert findings(bell, AUTH="keys", LINK_POLICY="signed", **files) == []
    for wrong in ("", "short", "two words that are long", "schl\xfcssel-schl\xfcssel"):
        admin.write_bytes(wrong.encode("latin-1"))
        with pytest.raises(StartError, match="ADMIN_KEY_FILE") as error:
            Config({"ADMIN_KEY_FILE": str(admin)})
        assert not wrong or wrong not in str(error.value)
    with pytest.raises(StartError, match="both set"):
        Config({"ADMIN_KEY_FILE": str(admin), "ADMIN_KEY": ADMIN_KEY})
