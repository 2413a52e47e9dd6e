"""The doctor: what of a bell stands open, and what closes it. Reads, and changes nothing."""

import os
from typing import NamedTuple

from little_bell.config import Config
from little_bell.ops.secret import secret_path
from little_bell.store import names
from little_bell.store.reader import Reader
from little_bell.store.tenants import some

LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Finding(NamedTuple):
    """What was found, and what to do about it."""

    what: str
    hint: str


def examine(config: Config) -> list[Finding]:
    """All findings, those that concern most first. Raises StoreError."""
    return [
        finding
        for finding in (
            open_tenants(config),
            admin_key(config),
            link_policy(config),
            base_url(config),
            metrics(config),
            secret(config),
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


def secret(config: Config) -> Finding | None:
    if config.secret_key:
        return None
    path = secret_path(config)
    try:
        others = os.stat(path).st_mode & 0o077
    except FileNotFoundError:
        return None  # the next start makes it
    if not others:
        return None
    return Finding(f"others than its owner may use {path}", f"chmod 600 {path}")
