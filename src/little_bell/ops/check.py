"""Checks beside a running server: is the file whole, and do figures say what the log says?

Both work on a copy without a name, so that long reads hold up nobody.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from little_bell.errors import LittleBellError
from little_bell.ops.side_file import side_file
from little_bell.store.copy import Progress, copied, damage, silent
from little_bell.store.database import migrate
from little_bell.store.recount import FIGURE, MARK, Correction, Recount
from little_bell.tracking.rules import VERSION

ROUNDS = 5  # recounts of a rebuild, while emails that are wrong are being opened
AT_ONCE = 100  # corrections

NAMES = {
    "state": "emails whose state is not what the log says",
    "email_link": "links of emails whose clicks are not what the log says",
    "event": "events that older rules judged",
    "figure": "buckets of figures that are not what the log says",
    "day": "days of figures that are not the sum of their buckets",
}

Say = Callable[[str], Progress]  # a task that begins; what it returns is told how far it is


def quiet(_task: str) -> Progress:
    """Nobody wants to see progress."""
    return silent


class Checked(NamedTuple):
    """What a check found; `problems` is empty where all is well."""

    emails: int
    events: int
    problems: list[str]


@contextlib.contextmanager
def recount_of(path: str, say: Say, judge: bool = False) -> Iterator[tuple[list[str], Recount]]:
    """What is wrong with the file itself, and a recount of a copy of it (see `Recount`)."""
    with side_file(os.path.dirname(path)) as name, copied(path, name, say("copying")) as copy:
        problems = damage(copy)
        if not problems:
            migrate(copy)
        os.unlink(name)  # it is gone with this process, whatever ends it
        yield problems, Recount(copy, say("counting"), judge)


def check(path: str, say: Say = quiet) -> Checked:
    """Look at everything; change nothing. Raises StoreError, StartError."""
    with recount_of(path, say) as (problems, recount):
        if not problems:
            wrong = Counter(correction.table for correction in recount)
            problems = [f"{n} {NAMES[table]}" for table, n in wrong.items()] + recount.problems
        return Checked(recount.emails, recount.events, problems)


class Rebuilt(NamedTuple):
    """What a rebuild did; `problems` are beyond it."""

    corrected: int
    rounds: int
    problems: list[str]


def rebuild(path: str, correct: Callable[[list[Correction]], int], say: Say = quiet) -> Rebuilt:
    """Judge again what older rules judged, and bring what is stored to what the log says, until a
    recount finds nothing.

    `correct` puts rows right, durably, and returns how many had moved on meanwhile; those are
    left to the next recount. Raises StoreError, StartError.
    """
    corrected = 0
    for number in range(1, ROUNDS + 1):
        with recount_of(path, say, judge=True) as (problems, recount):
            if problems:
                raise LittleBellError(
                    f"the file is damaged ({problems[0]}): restore a backup; see little-bell help"
                )
            found = moved = 0
            corrections = iter(recount)
            while piece := list(islice(corrections, AT_ONCE)):
                found += len(piece)
                if moved:
                    # An email that was wrong has been opened since: what the figures lack is not
                    # what was counted. They come last, and are left to the next round.
                    piece = [one for one in piece if one.table != FIGURE]
                moved += correct(piece) if piece else 0
            corrected += found - moved
        if not found:
            correct([Correction(MARK, [], None, [VERSION])])
            return Rebuilt(corrected, number, recount.problems)
    changing = ["some rows changed in every round"] if moved else []
    return Rebuilt(corrected, ROUNDS, [*recount.problems, *changing])
