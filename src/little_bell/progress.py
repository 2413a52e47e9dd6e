"""How far long work is: a bar on stderr, where that is a terminal, and nothing elsewhere."""

import os
import sys
from collections.abc import Callable
from time import monotonic

PAUSE = 0.1  # seconds between two drawings
CERTAIN = 1.0  # seconds after which the time that remains can be said
WIDEST = 40  # columns of the bar itself
NARROWEST = 8


class Bar:
    """One task's bar. It is drawn over itself, in one write, and cleared at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun = monotonic()
        self.drawn = 0.0  # when it was last
        self.shown = ""

    def show(self, done: int, total: int) -> None:
        """So much of so much is done."""
        now = monotonic()
        if done >= total:
            self.clear()
        elif now - self.drawn >= PAUSE:
            self.drawn = now
            text = drawing(self.name, done / total, now - self.begun, width())
            if text != self.shown:
                self.shown = text
                write(f"\r{text}\x1b[K")

    def clear(self) -> None:
        """Leave an empty line."""
        if self.shown:
            self.shown = ""
            write("\r\x1b[K")


bar: Bar | None = None  # there is one at most


def task(name: str) -> Callable[[int, int], None]:
    """A task begins; what comes back is told how much of how much is done."""
    global bar
    clear()
    if not sys.stderr.isatty() or os.environ.get("TERM") in (None, "", "dumb"):
        return lambda _done, _total: None
    bar = Bar(name)
    return bar.show


def clear() -> None:
    """Take the bar away, before something else is said."""
    if bar is not None:
        bar.clear()


def write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass  # the terminal is gone; the work goes on


def width() -> int:
    """Columns of the terminal; its last one stays free, or some would begin a new line."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: nobody knows
        return max(1, columns - 1)
    except OSError:
        return 79


def drawing(name: str, share: float, seconds: float, columns: int) -> str:
    """`copying [=====>     ]  43 %, 0:12 left`, as wide as there is room."""
    percent = f" {int(100 * share):3} %"
    left = ""
    if seconds >= CERTAIN and share > 0:
        left = f", {clock(seconds * (1 - share) / share)} left"
    room = min(WIDEST, columns - len(name) - len(percent) - len(", 00:00:00 left") - len(" []"))
    if room < NARROWEST:
        return f"{name}{percent}{left}"[:columns]
    full = int(room * share)
    return f"{name} [{('=' * full + '>')[:room]:{room}}]{percent}{left}"


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
