"""What a reader must know of the machine. No names, no addresses, no paths."""

import os
import platform
import re
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import apsw

from bench.errors import NotMeasuredError
from bench.programs import find_program
from little_bell import __version__


def cpu_model() -> str:
    """As the processor names itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory() -> str:
    """RAM of the machine."""
    pages: int = os.sysconf("SC_PHYS_PAGES")
    page: int = os.sysconf("SC_PAGE_SIZE")
    return f"{pages * page / 2**30:.1f} GiB"


def filesystem(folder: Path) -> str:
    """The type of the file system that holds a folder."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    return kind


def said(program: str, option: str) -> str:
    """The version that a program tells of itself."""
    try:
        done = subprocess.run([find_program(program), option], capture_output=True, text=True)
    except NotMeasuredError:
        return "not installed"
    match = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return match.group() if match else "unknown"


def cpu_times() -> tuple[int, int]:
    """Busy and all time of all cores so far, in ticks."""
    _, *words = Path("/proc/stat").read_text().partition("\n")[0].split()
    times = [int(word) for word in words[:8]]
    return sum(times) - times[3] - times[4], sum(times)  # neither idle nor waiting for the disk


def busy_share(seconds: float = 0.5) -> float:
    """How busy the machine is with other things, in percent of all cores. Takes its time."""
    busy, whole = cpu_times()
    time.sleep(seconds)
    busy_then, whole_then = cpu_times()
    return 100 * (busy_then - busy) / max(1, whole_then - whole)


def describe(folder: Path) -> list[tuple[str, str]]:
    """Names and values for the results; `folder` is where databases are written."""
    kernel = re.match(r"[\d.]+\d", platform.release())
    return [
        ("date (UTC)", datetime.now(UTC).strftime("%Y-%m-%d %H:%M")),
        ("Little Bell", __version__),
        ("processor", f"{cpu_model()}, {os.cpu_count()} cores"),
        ("memory", memory()),
        ("kernel", f"{platform.system()} {kernel.group() if kernel else ''}".strip()),
        ("file system", filesystem(folder)),
        ("Python", platform.python_version()),
        ("SQLite (in apsw)", apsw.sqlite_lib_version()),
        ("nginx", said("nginx", "-v")),
        ("uvicorn, uvloop", f"{version('uvicorn')}, {version('uvloop')}"),
        ("wrk", said("wrk", "-v")),
    ]
