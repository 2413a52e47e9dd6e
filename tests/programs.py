"""Programs that tests run, the command line among them, and ports for them."""

import os
import random
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "little_bell"]


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`little-bell ...`, in the folder in which the server was started."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )


def find(program: str) -> str | None:
    """Where a program is; those of the system's own folder count, too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def only_where(there: bool, reason: str) -> pytest.MarkDecorator:
    """A developer's machine may lack it; where Linux's CI runs, the tests run or fail."""
    checked = os.environ.get("CI") and sys.platform == "linux"
    return pytest.mark.skipif(not there and not checked, reason=reason)


def needs(*programs: str) -> pytest.MarkDecorator:
    """Programs that stand beside the bell."""
    missing = [program for program in programs if not find(program)]
    return only_where(not missing, f"there is no {', '.join(missing)}")


def free_ports(count: int, *addresses: str) -> list[int]:
    """Ports on which nobody listens now, at any of these addresses of loopback's."""
    found: list[int] = []
    while len(found) < count:
        # Below those that the kernel gives to clients, of which one may be another test's.
        port = random.randrange(20_000, 32_000)
        with suppress(OSError):
            for address in addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                socket.create_server((address, port), family=family).close()
            found.append(port)
    return found


def free_port() -> int:
    """One, for a server that is to come back where it was."""
    [port] = free_ports(1, "127.0.0.1")
    return port
