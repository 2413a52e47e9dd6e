"""The one exception root.

LittleBellError
  StartError        the server cannot start: exit code 3 and one line that says what to do
  Refused           a request is refused: status, plain detail, the field at fault
  StoreError        the disk or the database failed
    DataError       one row was refused by the database; the disk is fine
  BellError         the Python library: a bell refused a call, or gave no usable answer
    Unreachable     no whole answer came
"""


class LittleBellError(Exception):
    """Root of everything that this package raises on purpose."""


class StartError(LittleBellError):
    """The server cannot start. The message is one line that says what to do."""


class Refused(LittleBellError):  # noqa: N818 - a verdict on a request, not an error of ours
    """A request is refused.

    `status` is an HTTP status from 400 to 503. `detail` is a sentence for people and holds no
    text of the sender unless it went through `repr`; `field` names the JSON member or query
    parameter at fault; `retry_after` is in seconds; `place` says which of many was at fault, as
    ("line", 7) or ("index", 0).
    """

    def __init__(
        self,
        status: int,
        detail: str,
        field: str | None = None,
        retry_after: int | None = None,
        place: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.place = place


class StoreError(LittleBellError):
    """The disk or the database failed; unless `reopen` is true nothing of the transaction was kept.

    If it is, the connection cannot be trusted any more (an I/O error, a failed sync), and whether
    the transaction was kept shows when the file is opened again.
    """

    def __init__(self, reason: str, reopen: bool = False) -> None:
        super().__init__(reason)
        self.reopen = reopen


class DataError(StoreError):
    """The database refused a value. One bad event must not poison the batch it came in."""


class BellError(LittleBellError):
    """A bell refused a call of the Python library, or answered with what nobody can use.

    `detail` is a sentence. The others are None where nobody said so: `status` (HTTP), `type` and
    `title` (RFC 9457), `field` (the member or parameter at fault), `index` (of many emails the one
    at fault, from 0), `retry_after` (seconds). No key is in any of them.
    """

    def __init__(
        self,
        detail: str,
        status: int | None = None,
        title: str | None = None,
        type: str | None = None,  # noqa: A002 - as RFC 9457 calls it
        field: str | None = None,
        index: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.title = title
        self.type = type
        self.field = field
        self.index = index
        self.retry_after = retry_after

    def __str__(self) -> str:
        place = "" if self.index is None else f"item {self.index}: "
        status = "" if self.status is None else f" ({self.status})"
        return f"{place}{self.detail}{status}"


class Unreachable(BellError):  # noqa: N818 - a state of the network
    """No whole answer came from the bell. `sent`: it may have got the request, and done it."""

    def __init__(self, detail: str, sent: bool = False) -> None:
        super().__init__(detail)
        self.sent = sent
