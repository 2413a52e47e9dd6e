"""What the sections of one run share."""

import time
from pathlib import Path

from bench.databases import Databases
from bench.install import install
from bench.plan import Plan
from bench.results import announce


class Run:
    """The plan, a folder for everything that is written, and what sections learnt so far."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.databases = Databases(folder, plan)
        self.peak = 0.0  # opens/s, once the closed loop was measured
        self.begun = time.monotonic()
        self._installed: Path | None = None
        self._folders = 0

    def installed(self) -> Path:
        """The `bin` folder of an environment that holds the built wheel and nothing else."""
        if self._installed is None:
            self.say("building the wheel and installing it in an environment of its own")
            self._installed = install(self.folder / "wheel")
        return self._installed

    def fresh_folder(self) -> Path:
        """A new, empty folder."""
        self._folders += 1
        folder = self.folder / f"run{self._folders}"
        folder.mkdir()
        return folder

    def say(self, text: str) -> None:
        """What is going on, with the seconds since the start."""
        announce(f"{time.monotonic() - self.begun:6.0f} s  {text}")
