"""Who puts rows right: the running server, over its control socket; or else we, as its writer."""

import contextlib
import json
from collections.abc import Callable, Iterator
from time import sleep, time

from little_bell.errors import LittleBellError
from little_bell.ops.beside import Call, is_running, own_writer
from little_bell.store.corrections import Corrections
from little_bell.store.recount import Correction
from little_bell.store.writer import Writer

TRIES = 50  # of one piece, while the server is busy
PAUSE = 0.1  # seconds between them


@contextlib.contextmanager
def corrector(path: str, call: Call) -> Iterator[Callable[[list[Correction]], int]]:
    """A function that puts rows right and returns how many had moved on.

    Raises StartError, StoreError, LittleBellError.
    """
    if is_running(path, call):
        yield lambda corrections: ask(path, call, corrections)
    else:
        with own_writer(path) as writer:
            yield lambda corrections: write(writer, corrections)


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
