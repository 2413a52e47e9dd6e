"""Fixtures: each test has a server, or starts as many as it likes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bell import Bell

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SOAK = bool(os.environ.get("LITTLE_BELL_SOAK"))


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
