"""JSON log lines on stdout, which never block: a reader that stalls loses lines, not opens."""

import os
import select
import socket
import stat
from time import gmtime, strftime, time

from little_bell.values import LEVELS

DEBUG, INFO, WARN, ERROR = (LEVELS[name] for name in ("debug", "info", "warn", "error"))

HELD = 1 << 20  # bytes that wait for a reader of stdout
PIPE_BUF = 4096  # bytes a pipe takes whole once poll says it is writable (POSIX: at least 512)


class Output:
    """Writes to a file descriptor without blocking, and without touching the flags that it
    shares with other programs: O_NONBLOCK on a terminal would reach the shell as well."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.own = False  # the descriptor is
        self.socket: socket.socket | None = None
        self.poll: select.poll | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):  # systemd's journal
            self.socket = socket.socket(fileno=os.dup(fd))
        elif not stat.S_ISREG(mode):
            try:  # an open file description of our own, where the system has these paths
                self.fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
                self.own = True
            except OSError:
                self.poll = select.poll()
                self.poll.register(fd, select.POLLOUT)

    def close(self) -> None:
        """Close what was opened here; the descriptor that was given stays as it is."""
        if self.socket is not None:
            self.socket.close()
        elif self.own:
            os.close(self.fd)

    def write(self, data: bytes) -> int:
        """How many bytes were taken, perhaps none. Raises OSError where nobody will read."""
        try:
            if self.socket is not None:
                return self.socket.send(data, socket.MSG_DONTWAIT)
            if self.poll is not None:
                return os.write(self.fd, data[:PIPE_BUF]) if self.poll.poll(0) else 0
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0


class Log:
    """Lines at or above a level; they are kept until `flush`, once a tick."""

    def __init__(self, level: int, fd: int = 1) -> None:
        self.level = level
        self.output = Output(fd)
        self.lines: list[str] = []
        self.held = b""
        self.dropped = 0
        self.faults = 0
        self._second = -1  # none yet
        self._stamp = ""

    def stamp(self, now: float) -> str:
        """RFC 3339 in UTC, whole seconds."""
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(self._second))
        return self._stamp

    def write(self, level: int, message: str, **fields: object) -> None:
        """One line with any fields."""
        if level < self.level:
            return
        import json

        name = {DEBUG: "DEBUG", INFO: "INFO", WARN: "WARN", ERROR: "ERROR"}[level]
        line = {
            "timestamp": self.stamp(time()),
            "level": name,
            "message": message,
            "fields": fields,
        }
        self.lines.append(json.dumps(line, ensure_ascii=False) + "\n")

    def fault(self, message: str, error: Exception) -> None:
        """A fault of ours, with its trace."""
        self.faults += 1
        try:
            import traceback

            trace = "".join(traceback.format_exception(error))
        except OSError:  # no descriptor is left to read the module
            trace = ""
        self.write(ERROR, message, error=repr(error), trace=trace)

    def event(self, stamp: str, message: str, tenant: str, email: int, address: str) -> None:
        """The line of an open, a click or a created email. Nothing in it needs quoting."""
        self.lines.append(
            f'{{"timestamp": "{stamp}", "level": "INFO", "message": "{message}", '
            f'"fields": {{"tenant_id": "{tenant}", "email_id": {email}, '
            f'"ip_address": "{address}"}}}}\n'
        )

    def aggregate(self, stamp: str, message: str, tenant: str) -> None:
        """The line of an open or a click that is stored without its email."""
        self.lines.append(
            f'{{"timestamp": "{stamp}", "level": "INFO", "message": "{message}", '
            f'"fields": {{"tenant_id": "{tenant}"}}}}\n'
        )

    def flush(self) -> None:
        """Hand over what can be handed over now; drop whole lines past HELD."""
        if self.lines:
            data = "".join(self.lines).encode("utf-8", "replace")
            if len(self.held) + len(data) > HELD:
                self.dropped += len(self.lines)
            else:
                self.held = self.held + data if self.held else data
            self.lines.clear()
        try:
            while self.held:
                taken = self.output.write(self.held)
                if not taken:
                    return
                self.held = self.held[taken:]
        except OSError:  # the reader is gone, or the disk under it is full
            self.dropped += self.held.count(b"\n")
            self.held = b""
