"""Keys: made, listed and revoked by commands, beside a running server or without one."""

import json
import os
from base64 import urlsafe_b64encode
from time import gmtime, sleep, strftime, time

from little_bell.errors import LittleBellError
from little_bell.ops.beside import Call, is_running, own_writer
from little_bell.ops.key_order import MAX_NAME, is_name, parse_order, told
from little_bell.store import names
from little_bell.store.keys import ROLES
from little_bell.store.reader import Reader
from little_bell.tracking.signing import digest
from little_bell.values import NO_TENANT, is_tenant

PREFIX = "lb_"  # of every key, by which one is known where it should not be
SIZE = 32  # random bytes
TRIES = 50  # while the server is busy
PAUSE = 0.1  # seconds between them


def new_key() -> str:
    """256 bits that nobody can guess."""
    return PREFIX + urlsafe_b64encode(os.urandom(SIZE)).decode("ascii").rstrip("=")


def create(path: str, call: Call, tenant: str, name: str, role: str) -> tuple[str, int]:
    """A new key of a tenant, which is created where there is none, and the key's number.

    Raises LittleBellError."""
    check(tenant)
    if not is_name(name):
        raise LittleBellError(f"--name is a text of at most {MAX_NAME} characters")
    if role not in ROLES:
        raise LittleBellError(f"--role is {' or '.join(ROLES)}")
    key = new_key()
    hash_ = digest(key.encode("ascii")).hex()
    order = {"tenant": tenant, "name": name, "role": ROLES.index(role), "hash": hash_}
    return key, send(path, call, order)


def revoke(path: str, call: Call, tenant: str, number: str) -> None:
    """Let a key open nothing any more. Raises LittleBellError."""
    check(tenant)
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise LittleBellError("a key is named by its number: see little-bell keys list")
    send(path, call, {"tenant": tenant, "revoke": int(number)})


def listed(path: str, tenant: str) -> list[names.KeyLine]:
    """What is known of keys, of one tenant or of all. Raises LittleBellError."""
    if tenant:
        check(tenant)
    reader = Reader(path)
    try:
        reader.check_schema()
        return names.keys(reader, tenant or None)
    finally:
        reader.close()


def as_line(key: names.KeyLine) -> str:
    """A key for people; the key itself is not in it, nor known."""
    return (
        f"{key.tenant} {key.number} {ROLES[key.role]} created {moment(key.created_at)}"
        + (f" revoked {moment(key.revoked_at)}" if key.revoked_at is not None else "")
        + (f" {key.name}" if key.name else "")
    )


def as_dict(key: names.KeyLine) -> dict[str, object]:
    """The same for programs."""
    revoked = None if key.revoked_at is None else moment(key.revoked_at)
    return {
        "tenant": key.tenant,
        "number": key.number,
        "role": ROLES[key.role],
        "name": key.name,
        "created_at": moment(key.created_at),
        "revoked_at": revoked,
    }


def moment(ms: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(ms // 1000))


def check(tenant: str) -> None:
    if not is_tenant(tenant.encode("utf-8", "replace")):
        raise LittleBellError(NO_TENANT)


def send(path: str, call: Call, order: dict[str, object]) -> int:
    """Have the running server carry an order out, or do it ourselves; the key's number.

    Raises StartError, StoreError, LittleBellError."""
    body = json.dumps(order).encode("utf-8")
    if not is_running(path, call):
        return write(path, body)
    for _ in range(TRIES):
        status, answer = call(path, "POST", "/keys", body)
        if status == 200:
            return int(json.loads(answer)["key"])
        if status != 409:
            break
        sleep(PAUSE)
    raise LittleBellError(json.loads(answer)["detail"])


def write(path: str, body: bytes) -> int:
    change = parse_order(body)
    with own_writer(path) as writer:
        writer.write(int(time() * 1000), [], [], change)
    return told(change)["key"]
