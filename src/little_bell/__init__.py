"""Little Bell: a small, durable, honest email tracking server, and the library that talks to it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from little_bell.client import Client as Client
    from little_bell.errors import BellError as BellError
    from little_bell.errors import Unreachable as Unreachable

__version__ = "0.1.0"

_PLACES = {
    "Client": "little_bell.client",
    "BellError": "little_bell.errors",
    "Unreachable": "little_bell.errors",
}


def __getattr__(name: str) -> object:
    """The library's names, at their first use: the server pays nothing for them."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
