"""Routes that only tests need; Python imports this at its start where PYTHONPATH names the folder.

Their query says what to answer. What becomes of a generator is noted in the file NOTES.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator

from little_bell.errors import Refused
from little_bell.page import Page
from little_bell.tracking.links import query_value
from little_bell.wire import routes

routes.ROUTES += (
    routes.Route("stream", "GET", "/{tenant}/stream", routes.SLOW),
    routes.Route("whole", "GET", "/{tenant}/whole", routes.SLOW),
    routes.Route("create_whole", "POST", "/{tenant}/whole", routes.SLOW),
)


def piece(number: int, size: int) -> bytes:
    """Some bytes that say which piece they are."""
    return (b"%08d\n" % number * (size // 9 + 1))[:size]


def note(text: str) -> None:
    with open(os.environ["NOTES"], "a") as file:
        file.write(text + "\n")


def pieces(query: bytes) -> Iterator[bytes]:
    """`pieces` of `size` bytes, each after `pause` seconds; `fail` or `refuse` before one."""
    name = query_value(query, "name") or ""
    note(f"{name} begun")
    try:
        for number in range(int(query_value(query, "pieces") or 0)):
            time.sleep(float(query_value(query, "pause") or 0))
            if query_value(query, "fail") == str(number):
                raise RuntimeError("on purpose")
            if query_value(query, "refuse") == str(number):
                raise Refused(409, "on purpose")
            note(f"{name} {number} {threading.get_ident()}")
            yield piece(number, int(query_value(query, "size") or 0))
    finally:
        note(f"{name} closed")


def headers(query: bytes) -> tuple[tuple[str, str], ...]:
    return (
        ("Content-Type", query_value(query, "type") or "application/octet-stream"),
        ("Cache-Control", "private, no-cache"),
        ("Content-Language", "en"),
        ("Vary", "Accept"),
    )


def stream(_self: object, _segments: list[str], query: bytes, _headers: dict[bytes, bytes]) -> Page:
    return Page(200, headers(query), pieces(query))


def whole(_self: object, _segments: list[str], query: bytes, headers_: dict[bytes, bytes]) -> Page:
    if query_value(query, "headers"):  # those that came with the request
        return Page(200, headers(query), b"\n".join(sorted(headers_)))
    if query_value(query, "refuse"):
        raise Refused(409, "on purpose")
    status = int(query_value(query, "status") or 200)
    return Page(status, headers(query), piece(7, int(query_value(query, "size") or 0)))


if "little_bell.wire.slow_lane" in sys.orig_argv:
    from little_bell.api.reads import Reads

    for name, handler in (("stream", stream), ("whole", whole), ("create_whole", whole)):
        setattr(Reads, name, handler)
