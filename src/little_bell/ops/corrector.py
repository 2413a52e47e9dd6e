"""Who puts rows right: the running server, over its control socket; or else we, as its writer."""

import contextlib
import json
from collections.abc import Callable, Iterator
from time import sleep, time

from little_bell.errors import LittleBellError
from little_bell.store.corrections import Corrections
from little_bell.store.lock import Lock
from little_bell.store.recount import Correction
from little_bell.store.writer import Writer

TRIES = 50  # of one piece, while the server is busy
PAUSE = 0.1  # seconds between them

Call = Callable[[str, str, str, bytes | None], tuple[int, bytes]]  # see `wire.control.call`


@contextlib.contextmanager
def corrector(path: str, call: Call) -> Iterator[Callable[[list[Correction]], int]]:
    """A function that puts rows right and returns how many had moved on.

    Raises StartError, StoreError, LittleBellError.
    """
    try:
        call(path, "GET", "/status", None)
    except LittleBellError:
        lock = Lock(path)
        try:
            writer = Writer(path)
            try:
                yield lambda corrections: write(writer, corrections)
            finally:
                writer.close()
        finally:
            lock.release()
    else:
        yield lambda corrections: ask(path, call, corrections)


def write(writer: Writer, corrections: list[Correction]) -> int:
    job = Corrections(corrections)
    writer.write(int(time() * 1000), [], [], job)
    return job.moved


def ask(path: str, call: Call, corrections: list[Correction]) -> int:
    body = json.dumps(corrections).encode("utf-8")
    for _ in range(TRIES):
        status, answer = call(path, "POST", "/corrections", body)
        if status == 200:
            return int(json.loads(answer)["moved"])
        if status == 503:  # perhaps it was written all the same: the next recount will see
            sleep(PAUSE)
            return len(corrections)
        if status != 409:
            break
        sleep(PAUSE)
    raise LittleBellError(f"the server refused corrections: {answer.decode('utf-8').strip()}")
