"""Keys that come and go: rotation, and backups of their file."""

import json
import os
from collections.abc import Callable

from little_bell.config import Config
from little_bell.errors import LittleBellError
from little_bell.ops.beside import Call, is_running
from little_bell.ops.secret import new_key, read_secret, secret_path, write
from little_bell.tracking.signing import MOST_KEYS
from little_bell.values import secret_keys

IN_SETTINGS = (
    "the keys are in SECRET_KEY: put a new one in front of them there, with a space behind it, "
    "and start the server again; take the last one away once no mail signed by it matters"
)


def rotate(config: Config, call: Call) -> int:
    """Let a new key sign; those before go on verifying. Returns how many keys there are.

    A running server verifies by the new key before anything is signed by it. Raises
    LittleBellError, OSError.
    """
    tell = listener(config, call)
    keys = present(config)
    if len(keys) == MOST_KEYS:
        raise LittleBellError(f"there are {MOST_KEYS} keys already: secret drop leaves the first")
    new = new_key()
    for order in ((*keys, new), (new, *keys)):
        write(secret_path(config), order)
        tell()
    return len(keys) + 1


def drop(config: Config, call: Call) -> int:
    """Leave only the key that signs: what others signed is not signed any more. Returns how many
    went. Raises LittleBellError, OSError."""
    tell = listener(config, call)
    keys = present(config)
    if len(keys) > 1:
        write(secret_path(config), keys[:1])
        tell()
    return len(keys) - 1


def present(config: Config) -> tuple[str, ...]:
    """The keys of the file. Raises LittleBellError where there are none."""
    try:
        return read_secret(config)
    except FileNotFoundError:
        raise LittleBellError(
            f"there is no {secret_path(config)}: the server makes it when it starts"
        ) from None


def listener(config: Config, call: Call) -> Callable[[], None]:
    """Who has the running server read the keys again, if there is one.

    Raises LittleBellError where the keys, ours or the server's, are not in the file.
    """
    if config.secret_key:
        raise LittleBellError(IN_SETTINGS)
    if not is_running(config.database_url, call):
        return lambda: None

    def tell() -> None:
        status, body = call(config.database_url, "POST", "/secret", None)
        answer = json.loads(body)
        if status != 200:
            raise LittleBellError(f"the server refused: {answer['detail']}")
        if answer["file"] is None:
            raise LittleBellError(IN_SETTINGS)
        if answer["file"] != secret_path(config):
            raise LittleBellError(
                f"the server's keys are in {answer['file']}: set SECRET_KEY_FILE to it"
            )

    tell()
    return tell


# Backups


def beside(backup: str) -> str:
    """The file of keys that belongs to a backup."""
    return backup + ".secret"


def refuse_foreign(backup: str) -> None:
    """Raise LittleBellError where keys would overwrite what holds none."""
    path = beside(backup)
    if os.path.lexists(path) and not keys_in(path):
        raise LittleBellError(f"{path} is another program's: name another file")


def save(config: Config, backup: str) -> str | None:
    """Put the keys beside a backup, where they are in a file; returns where. Raises OSError,
    StartError."""
    if config.secret_key:
        return None
    try:
        keys = read_secret(config)
    except FileNotFoundError:
        return None
    write(beside(backup), keys)
    return beside(backup)


def bring_back(config: Config, backup: str) -> str | None:
    """Add the keys of a backup behind those that are there: mail signed before and since goes on
    verifying. Returns what there is to say of it. Raises OSError, StartError."""
    path = beside(backup)
    if not os.path.exists(path):
        return None
    saved = keys_in(path)
    if not saved:
        return f"{path} holds no keys"
    try:
        there = read_secret(config)
    except FileNotFoundError:
        there = ()
    missing = tuple(key for key in saved if key not in there)
    if not missing:
        return None
    if config.secret_key:
        return f"{path} holds keys that SECRET_KEY does not: mail they signed needs them there"
    room = MOST_KEYS - len(there)
    write(secret_path(config), (*there, *missing[:room]))
    left = f"; no room for {len(missing) - room} more" if len(missing) > room else ""
    return f"keys of {path} that are back: {len(missing[:room])}{left}"


def keys_in(path: str) -> tuple[str, ...]:
    """The keys of a file; none where it holds something else. Raises OSError."""
    if not os.path.isfile(path):
        return ()
    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            return secret_keys(file.read(1 << 16))
        except ValueError:
            return ()
