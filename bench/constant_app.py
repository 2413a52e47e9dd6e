"""The least that uvicorn can do: an ASGI app that answers every request with the same GIF."""

from collections.abc import Awaitable, Callable
from typing import Any

from little_bell.tracking.pixel import GIF, HEADERS

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        *((name.lower().encode("ascii"), value.encode("ascii")) for name, value in HEADERS),
        (b"content-length", str(len(GIF)).encode("ascii")),
    ],
}
BODY = {"type": "http.response.body", "body": GIF}


async def app(
    _scope: dict[str, Any], _receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """One GIF, whatever was asked."""
    await send(START)
    await send(BODY)
