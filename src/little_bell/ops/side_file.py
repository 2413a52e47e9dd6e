"""Files that a command makes beside others and does not leave behind."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

PREFIX = ".little-bell-"


@contextlib.contextmanager
def side_file(folder: str) -> Iterator[str]:
    """A new, empty file in a folder, mode 0600; it is gone afterwards, unless it was renamed.

    Those of commands that were killed are removed with the next one. Raises OSError.
    """
    folder = folder or "."
    remove_stale(folder)
    descriptor, name = tempfile.mkstemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder)
    os.close(descriptor)
    try:
        yield name
    finally:
        for suffix in ("", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name + suffix)


def remove_stale(folder: str) -> None:
    """Remove side files of processes that are gone."""
    for entry in os.listdir(folder):
        pid = entry.removeprefix(PREFIX).partition("-")[0]
        if entry.startswith(PREFIX) and pid.isdecimal() and not is_alive(int(pid)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, entry))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return True
