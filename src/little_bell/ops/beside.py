"""Commands beside a running server, over its control socket, or as the writer where none runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from little_bell.errors import LittleBellError
from little_bell.store.lock import Lock
from little_bell.store.memory import Limits
from little_bell.store.writer import Writer

Call = Callable[[str, str, str, bytes | None], tuple[int, bytes]]  # see `wire.control.call`


def is_running(path: str, call: Call) -> bool:
    """Whether a server is there that has the database at `path`."""
    try:
        call(path, "GET", "/status", None)
    except LittleBellError:
        return False
    return True


@contextmanager
def own_writer(path: str, limits: Limits | None = None) -> Iterator[Writer]:
    """The writer of a database, which nobody else is meanwhile. Raises StartError, StoreError."""
    lock = Lock(path)
    try:
        with closing(Writer(path, limits)) as writer:
            yield writer
    finally:
        lock.release()


def detail(answer: bytes) -> str:
    """Why a server refused a request."""
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.decode("utf-8", "replace").strip()
