"""The doctor: what of a bell stands open or goes wrong soon, and what mends it. Changes nothing."""

import json
import os
import re
from typing import NamedTuple

from little_bell import __version__
from little_bell.config import Config
from little_bell.errors import LittleBellError
from little_bell.ops.beside import Call
from little_bell.ops.secret import secret_path
from little_bell.store import names
from little_bell.store.reader import Reader
from little_bell.store.tenants import some

LOCAL = ("localhost", "127.0.0.1", "[::1]")
NETWORKS = ("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs")
ROOM = 256 << 20  # bytes that should be free, whatever the size of the database


class Finding(NamedTuple):
    """What was found, and what to do about it."""

    what: str
    hint: str


def examine(config: Config, call: Call) -> list[Finding]:
    """All findings, those that concern most first. Raises StoreError."""
    return [
        finding
        for finding in (
            server(config.database_url, call),
            open_tenants(config),
            admin_key(config),
            link_policy(config),
            base_url(config),
            metrics(config),
            secret(config),
            database(config),
            room(config),
            file_system(config),
        )
        if finding is not None
    ]


def open_tenants(config: Config) -> Finding | None:
    if config.auth == "keys":
        return None
    reader = Reader(config.database_url)
    try:
        reader.check_schema()
        found = names.unscoped_open_tenants(reader)
    finally:
        reader.close()
    if not found:
        return None
    name = found[0] if len(found) == 1 else "TENANT"
    return Finding(
        f"anybody may read and change {some(found)}",
        f"little-bell keys create {name}, or AUTH=keys for all",
    )


def admin_key(config: Config) -> Finding | None:
    if config.auth != "keys" or config.admin_key:
        return None
    return Finding(
        "AUTH=keys without ADMIN_KEY: tenants can be created by little-bell keys create alone",
        "set ADMIN_KEY, if requests are to create tenants",
    )


def link_policy(config: Config) -> Finding | None:
    if config.link_policy == "signed" and config.auth == "keys":
        return None
    if config.link_policy == "signed":
        return Finding(
            "anybody can create a tenant, whose links LINK_POLICY=signed lets through",
            "set AUTH=keys and ADMIN_KEY",
        )
    return Finding(
        "anybody can make a link of this server lead anywhere",
        "LINK_POLICY=signed, once your mail has signed links",
    )


def base_url(config: Config) -> Finding | None:
    scheme, _, rest = config.base_url.partition("://")
    host = rest.partition("/")[0]
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if scheme == "https" or name in LOCAL:
        return None
    return Finding(
        f"BASE_URL is {config.base_url}: keys and addresses travel in the clear",
        "put a proxy with TLS in front, and BASE_URL=https://...",
    )


def metrics(config: Config) -> Finding | None:
    if config.metrics_token:
        return None
    return Finding("anybody may read /metrics", "set METRICS_TOKEN")


def server(path: str, call: Call) -> Finding | None:
    """Whether the server, where one is running, is well and the one that is installed."""
    try:
        status = json.loads(call(path, "GET", "/status", None)[1])
    except LittleBellError:
        return None
    if status["status"] != "healthy":
        return Finding(
            f"the server is {status['status']}: {status.get('reason', 'no reason is given')}",
            "look at its log and at the disk; answers may not be durable meanwhile",
        )
    if status["version"] != __version__:
        return Finding(
            f"the server that runs is {status['version']}, this command {__version__}",
            "restart the server",
        )
    return None


def secret(config: Config) -> Finding | None:
    return None if config.secret_key else exposed(secret_path(config), 0o077, "600")


def database(config: Config) -> Finding | None:
    return exposed(config.database_url, 0o007, "o=")


def exposed(path: str, others: int, mode: str) -> Finding | None:
    """Whether somebody may use a file who should not: bits of its mode."""
    try:
        if not os.stat(path).st_mode & others:
            return None
    except FileNotFoundError:
        return None  # the next start makes it
    return Finding(f"others than its owner may use {path}", f"chmod {mode} {path}")


def room(config: Config) -> Finding | None:
    """Whether the disk has room for a copy, as backup, check and rebuild make one."""
    path = config.database_url
    disk = os.statvfs(os.path.dirname(path))
    free = disk.f_bavail * disk.f_frsize
    wanted = max(ROOM, os.stat(path).st_size)
    if free >= wanted:
        return None
    return Finding(
        f"{free >> 20} MiB are free beside {path}: too little for a copy of it, as backup, check "
        "and rebuild make one",
        f"have {wanted >> 20} MiB free; little-bell purge and RETENTION_DAYS keep the log short",
    )


def file_system(config: Config) -> Finding | None:
    """Whether the database is on another machine (https://sqlite.org/howtocorrupt.html, 2.1)."""
    kind = kind_of(os.path.dirname(config.database_url), "/proc/self/mounts")
    if kind not in NETWORKS:
        return None
    return Finding(
        f"{config.database_url} is on {kind}, whose locks and write-ahead log cannot be relied on",
        "keep the database on a disk of this machine",
    )


def kind_of(folder: str, mounts: str) -> str:
    """The type of the file system that a folder is on, by a table like /proc/mounts, or nothing."""
    found, longest = "", -1
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _, place, kind, *_ = line.split(" ")
                place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place).rstrip(
                    "/"
                )
                if (folder + "/").startswith(place + "/") and len(place) >= longest:
                    found, longest = kind, len(place)
    except (OSError, ValueError):
        pass  # not Linux
    return found
