"""MAIL and RCPT (RFC 5321 4.1.2): read to be checked, and passed on as they came."""

import re
from typing import NamedTuple

LONGEST_RECIPIENT = 320  # characters that the bell takes

_COMMAND = re.compile(
    rb"(?P<verb>FROM|TO):[ \t]*"
    rb'(?P<path><(?:[^<>"\x00-\x20\x7f]|"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*")*>)'
    rb"(?P<parameters>(?:[ \t]+[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\x00-\x20\x7f]+)?)*)[ \t]*",
    re.IGNORECASE,
)
_ROUTE = re.compile(rb"@[^:]*:")  # of old: <@relay:user@host>


class Path(NamedTuple):
    """What stands behind MAIL or RCPT."""

    path: bytes  # with its brackets
    parameters: tuple[bytes, ...]  # as they came

    def value(self, name: str) -> bytes | None:
        """The value of a parameter, nothing where it has none; None where it is not there."""
        for parameter in self.parameters:
            said, _, value = parameter.partition(b"=")
            if said.decode("ascii").upper() == name:
                return value
        return None

    def without(self, name: str) -> "Path":
        kept = [
            one for one in self.parameters if one.partition(b"=")[0].decode("ascii").upper() != name
        ]
        return Path(self.path, tuple(kept))

    def command(self, verb: bytes) -> bytes:
        """`MAIL FROM:<...> ...`, as it goes to the upstream."""
        return b" ".join((verb + self.path, *self.parameters))

    @property
    def recipient(self) -> str:
        """The address alone; nothing where it is none that the bell would take."""
        address = _ROUTE.sub(b"", self.path[1:-1], count=1)
        text = address.decode("utf-8", "replace")
        return text if len(text) <= LONGEST_RECIPIENT and "\ufffd" not in text else ""


def read_path(argument: str | None, verb: bytes) -> Path | None:
    """What stands behind MAIL (`verb` FROM) or RCPT (TO); None where that is not its syntax."""
    data = (argument or "").encode("utf-8", "surrogateescape")
    match = _COMMAND.fullmatch(data)
    if match is None or match["verb"].upper() != verb or (verb == b"TO" and match["path"] == b"<>"):
        return None
    names = [one.partition(b"=")[0].upper() for one in match["parameters"].split()]
    if len(set(names)) < len(names):
        return None
    return Path(match["path"], tuple(match["parameters"].split()))
