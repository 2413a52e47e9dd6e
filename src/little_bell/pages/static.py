"""Files beside the pages: style sheet, script, icon; their addresses carry a version."""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from little_bell.errors import Refused

TYPES = {
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "style.css": "text/css; charset=utf-8",
}


class File(NamedTuple):
    """A file and what its content is called by."""

    type: str
    body: bytes
    version: str


@cache
def file(name: str) -> File:
    """A file by its exact name. Raises Refused."""
    if name not in TYPES:
        raise Refused(404, "there is nothing here")
    body = files("little_bell.pages").joinpath("static", name).read_bytes()
    return File(TYPES[name], body, sha256(body).hexdigest()[:12])


def path(name: str) -> str:
    """Where a file is, behind the prefix. What is there never changes, since its version would."""
    return f"/-/{name}?v={file(name).version}"


def headers(name: str, version: str | None) -> tuple[tuple[str, str], ...]:
    """For a file that was asked for in a version; for an hour where it is another one."""
    known = version == file(name).version
    return (
        ("Content-Type", file(name).type),
        ("Cache-Control", f"max-age={'31536000, immutable' if known else '3600'}"),
        ("Content-Security-Policy", "default-src 'none'"),
        ("X-Content-Type-Options", "nosniff"),
    )
