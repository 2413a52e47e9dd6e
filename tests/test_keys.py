"""Keys: made, listed and revoked by the command, durable once they are printed"""

import json
import re
import sqlite3
import stat
from base64 import urlsafe_b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from access import bearer, command, create_key, log_in, revoke
from bell import Bell, dump, wait_until
from little_bell.store.key_change import FULL, MOST_KEYS, NOT_FOUND, KeyChange
from little_bell.store.writer import Writer
from little_bell.tracking.signing import sha256
from little_bell.wire.control import call


def opens(bell: Bell, tenant: str, key: str) -> bool:
    """Whether a key opens a tenant; False for any way to be refused."""
    status = bell.ask("POST", f"/{tenant}/emails", {}, bearer(key)).status
    assert status in (201, 401, 403, 404)
    return status == 201


def is_closed(bell: Bell, tenant: str) -> bool:
    return bell.ask("GET", f"/{tenant}/stats").status == 401


def listed(bell: Bell, *tenant: str) -> list[str]:
    ran = command(bell, "keys", "list", *tenant)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [
        re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", line) for line in ran.stdout.splitlines()
    ]


@pytest.mark.parametrize("beside", [True, False])
def test_it_works(bell: Bell, beside: bool) -> None:
    bell.create()
    if not beside:
        assert bell.stop() == 0
    ran = command(bell, "keys", "create", "acme", "--name", "ci")
    assert ran.returncode == 0
    assert re.fullmatch(r"lb_[A-Za-z0-9_-]{43}\n", ran.stdout), "the key, alone"
    assert "lb_" not in ran.stderr
    key = ran.stdout.strip()
    assert len(urlsafe_b64decode(key[3:] + "=")) == 32
    assert command(bell, "keys", "create", "acme").stdout != ran.stdout
    if not beside:
        bell.start()
    assert is_closed(bell, "acme")
    assert opens(bell, "acme", key)
    assert bell.rows("SELECT hash FROM keys WHERE key = 1") == [(sha256(key.encode()).digest(),)]


@pytest.mark.parametrize("beside", [True, False])
def test_a_role_a_list_and_an_end(bell: Bell, beside: bool) -> None:
    bell.create()
    if not beside:
        assert bell.stop() == 0
    create_key(bell, "beta")
    create_key(bell, "acme", "--name", "über all")
    reader = create_key(bell, "acme", "--role=read")
    revoke(bell, "acme", 1)
    assert listed(bell, "acme") == [
        "acme 1 write created TIME revoked TIME über all",
        "acme 2 read created TIME",
    ]
    assert listed(bell) == [*listed(bell, "acme"), "beta 1 write created TIME"]
    assert listed(bell, "nobody") == []
    if not beside:
        bell.start()
    assert bell.get("/acme/stats", **bearer(reader)).status == 200
    assert bell.ask("POST", "/acme/emails", {}, bearer(reader)).status == 403


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["keys"], 2),
        (["keys", "make", "acme"], 2),
        (["keys", "create"], 2),
        (["keys", "create", ""], 2),
        (["keys", "create", "acme", "beta"], 2),
        (["keys", "create", "a/b"], 1),
        (["keys", "create", "ac me"], 1),
        (["keys", "create", "_acme"], 1),
        (["keys", "create", "acme", "--role", "admin"], 1),
        (["keys", "create", "acme", "--role"], 2),
        (["keys", "create", "acme", "--name", "x" * 65], 1),
        (["keys", "create", "acme", "--name", "a\nb"], 1),
        (["keys", "create", "acme", "--key", "lb_mine"], 2),
        (["keys", "list", "a/b"], 1),
        (["keys", "list", "acme", "beta"], 2),
        (["keys", "revoke", "acme"], 2),
        (["keys", "revoke", "acme", "1"], 1),
        (["keys", "revoke", "acme", "0"], 1),
        (["keys", "revoke", "acme", "x"], 1),
        (["keys", "revoke", "acme", "1" * 30], 1),
        (["keys", "revoke", "nobody", "1"], 1),
    ],
)
def test_what_cannot_be_is_said_in_a_line(shared: Bell, arguments: list[str], code: int) -> None:
    before = dump(shared.database)
    ran = command(shared, *arguments)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert len(ran.stderr.splitlines()) == 1
    assert dump(shared.database) == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    bell = Bell(tmp_path_factory.mktemp("keys"))
    bell.start().create()
    yield bell
    bell.end()


def test_the_log_says_what_was_done_and_no_key(bell: Bell) -> None:
    key = create_key(bell, "acme")
    revoke(bell, "acme", 1)
    wait_until(lambda: len(bell.lines()) == 3)
    assert [(line["message"], line["fields"]) for line in bell.lines()[1:]] == [
        ("Key created", {"tenant_id": "acme", "key": 1}),
        ("Key revoked", {"tenant_id": "acme", "key": 1}),
    ]
    assert key not in bell.log_file.read_text()


def test_an_older_database_is_not_looked_at(tmp_path: Path) -> None:
    bell = Bell(tmp_path)
    bell.database.parent.mkdir()
    connection = sqlite3.connect(bell.database)
    connection.executescript("PRAGMA application_id = 0x4C42656C; PRAGMA user_version = 3;")
    connection.close()
    for arguments in (("keys", "list"), ("doctor",)):
        ran = command(bell, *arguments)
        assert (ran.returncode, ran.stdout) == (3, "")
        assert "start the server once" in ran.stderr


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    ran = command(Bell(tmp_path), "keys", "create", "acme")
    assert ran.returncode == 1
    assert "DATABASE_URL" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_tenant_that_is_not_there_yet_is_created(bell: Bell) -> None:
    key = create_key(bell, "fresh")
    assert bell.rows("SELECT name, last_email FROM tenants") == [("fresh", 0)]
    assert is_closed(bell, "fresh")
    assert opens(bell, "fresh", key)
    assert bell.ask("GET", "/fresh/emails", None, bearer(key)).json["emails"][0]["email_id"] == 1


def test_a_key_is_durable_once_it_is_printed(bell: Bell) -> None:
    """However soon the server is killed behind it."""
    for n in range(3):
        tenant = f"tenant{n}"
        key = create_key(bell, tenant)
        bell.kill()
        bell.start()
        assert is_closed(bell, tenant)
        assert opens(bell, tenant, key)
        revoke(bell, tenant, 1)
        bell.kill()
        bell.start()
        assert is_closed(bell, tenant)
        assert not opens(bell, tenant, key)


def test_a_tenant_stays_closed_without_a_key_that_opens_it(bell: Bell) -> None:
    bell.create()
    key = create_key(bell, "acme")
    revoke(bell, "acme", 1)
    assert is_closed(bell, "acme")
    assert not opens(bell, "acme", key)
    again = create_key(bell, "acme")
    assert opens(bell, "acme", again)
    assert listed(bell, "acme")[1].startswith("acme 2 ")


def test_a_tenant_that_goes_keeps_its_keys(bell: Bell) -> None:
    bell.create("other")
    key = create_key(bell, "acme")
    session = log_in(bell, "acme", key)
    assert opens(bell, "acme", key)
    answer = bell.ask("DELETE", "/acme?confirm=acme", None, bearer(key))
    assert answer.status == 204
    for _ in range(2):
        assert is_closed(bell, "acme")
        assert bell.ask("GET", "/acme/stats", None, bearer(key)).status == 200
        headers = {"Cookie": f"lb_session={session}"}
        assert bell.ask("GET", "/acme/dashboard", None, headers).status == 200
        wait_until(lambda: bell.rows("SELECT count(*) FROM unfinished") == [(0,)])
        bell.kill()
        bell.start()
    assert listed(bell, "acme") == ["acme 1 write created TIME"]
    revoke(bell, "acme", 1)
    assert not opens(bell, "acme", key)


def test_check_rebuild_backup_and_restore_leave_them(bell: Bell) -> None:
    bell.create()
    bell.get("/acme/pixel/1.gif")
    key = create_key(bell, "acme")
    keys = bell.rows("SELECT * FROM keys")
    assert command(bell, "check").returncode == 0
    assert command(bell, "rebuild").returncode == 0
    assert command(bell, "backup", "copy.db").returncode == 0
    late = create_key(bell, "acme")
    assert bell.stop() == 0
    assert command(bell, "restore", "copy.db").returncode == 0
    bell.start()
    assert bell.rows("SELECT * FROM keys") == keys
    assert opens(bell, "acme", key)
    assert not opens(bell, "acme", late)


def test_many_commands_at_once(bell: Bell) -> None:
    """Each has its turn, beside edits that take turns of their own."""
    bell.create("other")
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(create_key, bell, "acme") for _ in range(8)]
        edits = [
            pool.submit(bell.ask, "PATCH", "/other/emails/1", {"subject": str(n)})
            for n in range(40)
        ]
        keys = {one.result() for one in made}
        assert {one.result().status for one in edits} <= {200, 409, 503}
    assert len(keys) == 8
    assert [number for (number,) in bell.rows("SELECT key FROM keys")] == list(range(1, 9))
    assert all(opens(bell, "acme", key) for key in keys)


@pytest.mark.parametrize(
    "order",
    [
        [],
        None,
        {"tenant": "acme"},
        {"tenant": "a/b", "revoke": 1},
        {"tenant": "acme", "revoke": True},
        {"tenant": "acme", "revoke": 0},
        {"tenant": "acme", "revoke": 1 << 70},
        {"tenant": "acme", "name": "", "role": 2, "hash": "00" * 32},
        {"tenant": "acme", "name": "", "role": True, "hash": "00" * 32},
        {"tenant": "acme", "name": 1, "role": 1, "hash": "00" * 32},
        {"tenant": "acme", "name": "", "role": 1, "hash": "00" * 31},
        {"tenant": "acme", "name": "", "role": 1, "hash": "x"},
        {"tenant": "acme", "name": "", "role": 1, "hash": None},
    ],
)
def test_a_wrong_order_changes_nothing(shared: Bell, order: object) -> None:
    before = dump(shared.database)
    status, answer = call(str(shared.database), "POST", "/keys", json.dumps(order).encode())
    assert status == 400, answer
    assert dump(shared.database) == before


def test_keys_are_not_made_over_the_network(shared: Bell) -> None:
    order = {"tenant": "acme", "name": "", "role": 1, "hash": "00" * 32}
    assert shared.ask("POST", "/keys", order).status == 405  # a tenant could be called so
    mode = stat.S_IMODE(shared.database.with_name("tracking.db.control").stat().st_mode)
    assert mode == 0o600


def test_while_the_disk_fails_no_key_is_made(start_bell: Callable[..., Bell]) -> None:
    """The command says so; a bell whose disk is back goes on."""
    bell = start_bell()
    bell.create()
    from little_bell.store import database  # the writer's own lock stands for a failing disk

    holder = database.open_writer(str(bell.database))
    try:
        holder.execute("BEGIN IMMEDIATE")
        ran = command(bell, "keys", "create", "acme")
        assert (ran.returncode, ran.stdout) == (1, "")
        assert len(ran.stderr.splitlines()) == 1
    finally:
        holder.close()
    wait_until(lambda: bell.get("/health").status == 200)
    assert not is_closed(bell, "acme")
    key = create_key(bell, "acme")
    assert opens(bell, "acme", key)


# The store


def change(writer: Writer, **how: Any) -> KeyChange:
    job = KeyChange("acme", **how)
    writer.write(1, [], [], job)
    return job


def test_a_tenant_has_so_many_and_the_oldest_revoked_makes_room(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "t.db"))
    try:
        for n in range(MOST_KEYS):
            assert change(writer, hash_=sha256(b"%d" % n).digest()).number == n + 1
        assert change(writer, hash_=b"x" * 32).outcome == FULL
        assert len(writer.memory.keys.by_hash) == MOST_KEYS
        for number in (7, 3):
            change(writer, revoke=number)
        assert change(writer, revoke=3).outcome == NOT_FOUND
        made = change(writer, hash_=b"x" * 32)
        assert (made.outcome, made.number) == (0, MOST_KEYS + 1)
        rows = list(writer.connection.execute("SELECT key FROM keys WHERE key IN (3, 7)"))
        assert rows == [(7,)]
        known = dict(writer.memory.keys.by_hash)
        writer.reopen()
        assert writer.memory.keys.by_hash == known
        assert writer.memory.keys.closed == {b"acme"}
    finally:
        writer.close()


def test_what_was_rolled_back_closes_nobody(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "t.db"))

    class Failing(KeyChange):
        def step(self, transaction: Any) -> None:
            super().step(transaction)
            raise RuntimeError("on purpose")

    try:
        job = Failing("acme", hash_=b"x" * 32)
        with pytest.raises(Exception, match="on purpose"):
            writer.write(1, [], [], job)
        assert writer.memory.keys.closed == set()
        assert writer.memory.keys.by_hash == {}
        assert writer.memory.tenants.by_name == {}
        assert change(writer, hash_=b"x" * 32).number == 1
    finally:
        writer.close()
