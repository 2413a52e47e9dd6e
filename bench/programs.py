"""The three servers as programs that can be started: nginx, uvicorn and Little Bell."""

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from bench.errors import NotMeasuredError

BENCH = Path(__file__).parent
TENANT = "acme"
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36"
)
LITTLE_BELL = (sys.executable, "-m", "little_bell")

NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log {folder}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        location / {{ empty_gif; }}
    }}
}}
"""


class Program(NamedTuple):
    """A command that will listen on a port of 127.0.0.1."""

    name: str
    command: list[str]
    folder: Path
    port: int
    environment: dict[str, str]


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(name: str) -> str:
    """The path of a system program. Raises NotMeasuredError."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotMeasuredError(f"{name} is not installed (make bench installs it on Debian)")
    return found


def nginx(folder: Path) -> Program:
    """One worker that answers a GIF and writes a buffered access log."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = folder / "nginx.conf"
    settings.write_text(NGINX.format(folder=folder, port=port))
    command = [find_program("nginx"), "-p", str(folder), "-e", str(folder / "error.log")]
    return Program("nginx", [*command, "-c", str(settings)], folder, port, {})


def uvicorn(folder: Path) -> Program:
    """One process that answers a constant, with the fastest loop and parser it has."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(BENCH.parent),
        "bench.constant_app:app",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--lifespan", "off", "--log-level", "warning"]
    return Program("uvicorn", [*command, "--no-access-log"], folder, port, {})


def bell(
    folder: Path, database: Path | None = None, command: tuple[str, ...] = LITTLE_BELL
) -> Program:
    """Little Bell with the settings it comes with, but for where it listens.

    Without `database` it keeps its file in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {"HOST": "127.0.0.1", "PORT": str(port)}
    if database is not None:
        environment["DATABASE_URL"] = f"sqlite:{database}"
    return Program("Little Bell", list(command), folder, port, environment)


def slow_bell(folder: Path, database: Path, delay: int) -> Program:
    """The same on a disk whose syncs take `delay` milliseconds more."""
    command = (sys.executable, "-P", str(BENCH / "slow_disk.py"), str(delay), "serve")
    return bell(folder, database, command)
