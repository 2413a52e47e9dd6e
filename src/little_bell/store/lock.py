"""One writer: an flock on `FILE.lock`, held as long as the server lives."""

import fcntl
import os
from time import monotonic, sleep

from little_bell.errors import StartError

PAUSE = 0.01  # seconds between two tries


class Lock:
    """Held from construction to `release`; the kernel lets go of it when the process dies."""

    __slots__ = ("fd",)

    def __init__(self, path: str, patience: float = 0.0) -> None:
        """Take the lock of the database at `path`, once others let go of it, within so many
        seconds. Raises StartError where another holds it, OSError.

        Its file is never a link: root's commands write it in a folder that is the service's.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(path + ".lock", flags, 0o600)
        deadline = monotonic() + patience
        while not self._taken():
            if monotonic() < deadline:
                sleep(PAUSE)
                continue
            pid = os.read(self.fd, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self.fd)
            raise StartError(
                f"another Little Bell (process {pid}) is using {path}: stop it, or set "
                "DATABASE_URL to another file"
            )
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Let go. The file stays: removing it would let two servers hold two locks."""
        os.close(self.fd)
