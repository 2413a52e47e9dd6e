"""The secret that signs links and sessions: from the settings, or made once beside the database."""

import contextlib
import os
from collections.abc import Sequence

from little_bell.config import Config
from little_bell.errors import StartError
from little_bell.tracking.signing import Keyring
from little_bell.values import secret_keys

PROOF = b"proof/1"  # purpose of a signature over nothing, by which two tell that they sign alike


def secret_path(config: Config) -> str:
    """The file of the keys, where SECRET_KEY does not hold them."""
    return config.secret_key_file or config.database_url + ".secret"


def read_secret(config: Config) -> tuple[str, ...]:
    """The keys, the one that signs first. Raises StartError; OSError where there is no file."""
    if config.secret_key:
        return config.secret_key
    path = secret_path(config)
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    try:
        keys = secret_keys(text)
    except ValueError as error:
        raise StartError(f"{path} does not hold {error}") from None
    if not keys:
        raise StartError(f"{path} holds no key")
    return keys


class Secret:
    """The ring of the keys, which follows their file: all who hold `ring` have the new ones."""

    __slots__ = ("config", "ring", "seen")

    def __init__(self, config: Config) -> None:
        """The keys are made where neither settings nor file hold any. Raises StartError."""
        self.config = config
        path = secret_path(config)
        try:
            try:
                keys = read_secret(config)
            except FileNotFoundError:
                keys = (new_key(),)
                write(path, keys)
        except OSError as error:
            raise StartError(
                f"cannot use {path} ({error.strerror}): make it readable, or set SECRET_KEY"
            ) from None
        self.ring = Keyring(as_bytes(keys))
        self.seen = state_of(path)

    def look(self) -> str | None:
        """Read the keys again where their file is another one now; a stat where it is not.

        Returns what is wrong with it, once: the keys stay as they were."""
        if self.config.secret_key:
            return None
        path = secret_path(self.config)
        state = state_of(path)
        if state == self.seen:
            return None
        self.seen = state
        try:
            self.ring.put(as_bytes(read_secret(self.config)))
        except OSError as error:
            return f"cannot use {path} ({error.strerror})"
        except StartError as error:
            return str(error)
        return None


def as_bytes(keys: Sequence[str]) -> list[bytes]:
    return [key.encode("utf-8") for key in keys]


def state_of(path: str) -> tuple[int, ...] | None:
    """What changes with a file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def new_key() -> str:
    """256 bits that nobody can guess, in hexadecimal."""
    return os.urandom(32).hex()


def write(path: str, keys: Sequence[str]) -> None:
    """Put keys into the file, one a line, mode 0600, whole or not at all. Raises OSError.

    Written by root it stays its owner's: a running server of another user has to read it at once.
    """
    made = f"{path}.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(made)  # of one that was killed, or a link to what is not ours
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        if os.geteuid() == 0:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                owner = os.lstat(path)
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.write(descriptor, "".join(f"{key}\n" for key in keys).encode("utf-8"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(made, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
