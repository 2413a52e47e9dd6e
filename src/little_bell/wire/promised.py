"""Promised answers of the register: each is made once the tick's commit says what became of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from little_bell.wire.connection import Later
from little_bell.wire.http import Request

if TYPE_CHECKING:
    from little_bell.store.corrections import Corrections
    from little_bell.store.edits import Edit
    from little_bell.store.key_change import KeyChange


class Creation(Later):
    """The answer to a new email."""

    __slots__ = ("address", "request", "route", "tenant")

    def __init__(self, request: Request, route: str, tenant: str, address: str) -> None:
        super().__init__()
        self.request = request
        self.route = route
        self.tenant = tenant
        self.address = address


class Arriving(Later):
    """In place of the answer to a new email that the slow lane read, and answers: by this number it
    is told what became of it."""

    __slots__ = ("address", "number", "tenant", "told")

    def __init__(self, number: int, tenant: str, address: str) -> None:
        super().__init__()
        self.number = number
        self.tenant = tenant
        self.address = address
        self.told = False


class Editing(Later):
    """The answer to a change of an email, or to its end or a tenant's."""

    __slots__ = ("address", "done", "edit", "request", "route")

    def __init__(
        self,
        request: Request,
        route: str,
        edit: "Edit",
        address: str,
        done: "Callable[[Editing], bytes] | None",
    ) -> None:
        """`done` makes the answer where it is carried out; None: as those of emails are."""
        super().__init__()
        self.done = done
        self.request = request
        self.route = route
        self.edit = edit
        self.address = address


class Correcting(Later):
    """The answer to corrections that this tick makes, or to a change of keys."""

    __slots__ = ("job", "request")

    def __init__(self, request: Request, job: "Corrections | KeyChange") -> None:
        super().__init__()
        self.request = request
        self.job = job
