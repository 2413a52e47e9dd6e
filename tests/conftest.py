"""Fixtures: each test has a server, or starts as many as it likes. `alone`: none runs beside it."""

import fcntl
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bell import Bell

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SOAK = bool(os.environ.get("LITTLE_BELL_SOAK"))
# A job in the background ignores Ctrl-C, and so would whatever it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Locked by tests, in whichever process they run. Files that are there anyway.
TURN = Path(__file__)
ROOM = Path(__file__).parent / "bell.py"


@contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    """The lock of a file, held for as long as the `with` block lasts."""
    with path.open() as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:  # a test may have forked: closing is not enough
            fcntl.flock(file, fcntl.LOCK_UN)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test marked `alone` has the room for itself; others share it. Before any timeout counts.

    Who waits for the room keeps the turn: else others could go on sharing the room for ever.
    """
    alone = item.get_closest_marker("alone") is not None
    with ExitStack() as room:
        with locked(TURN, fcntl.LOCK_EX):
            room.enter_context(locked(ROOM, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        return (yield)


@pytest.fixture
def start_bell(tmp_path: Path) -> Iterator[Callable[..., Bell]]:
    """A function that starts a server with settings; all are gone when the test is over."""
    started: list[Bell] = []

    def start(**settings: str) -> Bell:
        folder = tmp_path / f"bell{len(started)}"
        folder.mkdir()
        bell = Bell(folder, None, **settings)
        started.append(bell)
        return bell.start()

    yield start
    for bell in started:
        bell.end()


@pytest.fixture
def bell(start_bell: Callable[..., Bell]) -> Bell:
    """A server with settings as they come."""
    return start_bell()


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether the long form of a test is wanted (`make soak`)."""
    return SOAK


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A real Chromium; a test that uses it is marked `needs_chromium`."""
    from playwright.sync_api import sync_playwright

    from browser import launch

    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()
