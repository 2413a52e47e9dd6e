"""Judging again, in the background: a process that runs `rebuild` where older rules judged.

It reads a copy, and hands what is to be changed to the control socket in small pieces: opens go on.
"""

import os
import signal
import sys
from collections.abc import Mapping

from little_bell.errors import StoreError
from little_bell.ops.logs import INFO, WARN, Log
from little_bell.store.writer import Writer
from little_bell.tracking.rules import VERSION

BEGIN = 2.0  # seconds after the start: first things first
AGAIN = 3600.0  # seconds until it is tried again where it failed, for want of room perhaps
PROGRAM = """\
import os, sys
os.nice(15)
sys.argv[1:] = ["rebuild"]
from little_bell.cli import main
sys.exit(main())
"""


class Reviewer:
    """Owns that process's life."""

    def __init__(
        self, environment: Mapping[str, str], writer: Writer, log: Log, now: float
    ) -> None:
        """`environment` holds the settings; `now` is monotonic seconds. Raises StoreError."""
        self.environment = dict(environment)
        self.writer = writer
        self.log = log
        self.pid = 0
        self.needed = writer.judged_by() < VERSION
        self.at = now + BEGIN

    def sweep(self, now: float) -> None:
        """Begin where that is needed, and see whether it is done; once a second or so."""
        if not self.needed:
            return
        if not self.pid:
            if now >= self.at:
                self._begin(now)
            return
        try:
            ended, _ = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            ended = self.pid
        if ended:
            self.pid = 0
            self._ended(now)

    def _begin(self, now: float) -> None:
        null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
        program = [sys.executable, "-P", "-c", PROGRAM]  # -P: see handover
        try:
            self.pid = os.posix_spawn(sys.executable, program, self.environment, file_actions=null)
        except OSError as error:
            self._failed(now, error.strerror or "")
            return
        self.log.write(INFO, "Events of older rules are judged again", rules=VERSION)

    def _ended(self, now: float) -> None:
        try:
            self.needed = self.writer.judged_by() < VERSION
        except StoreError as error:
            self._failed(now, str(error))
            return
        if self.needed:
            self._failed(now, "little-bell rebuild says why")
        else:
            self.log.write(INFO, "All events are judged by the rules of today", rules=VERSION)

    def _failed(self, now: float, reason: str) -> None:
        self.at = now + AGAIN
        self.log.write(WARN, "Events could not be judged again", reason=reason)

    def stop(self) -> None:
        """End it; what it did stays, and the next start goes on."""
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self.pid = 0
