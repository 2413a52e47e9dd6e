"""Pieces of an import on their way from the command to the server, as JSON."""

from little_bell.api.emails import read_json
from little_bell.errors import Refused
from little_bell.store.history import Past, PastEmail, PastEvent, Piece


def pack(piece: Piece) -> bytes:
    """A piece as the body of a request."""
    import json

    rows = [[place, *packed(row)] for place, row in piece.rows]
    members = {**piece._asdict(), "name": piece.name.hex(), "rows": rows}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def packed(row: Past) -> tuple[object, ...]:
    if isinstance(row, PastEmail):
        return (0, *row)
    address = None if row.address is None else row.address.hex()
    return (1, *row._replace(address=None)[:6], address, *row[7:])


def unpack(body: bytes) -> Piece:
    """The piece of a body. Raises Refused where it is none."""
    value = read_json(body, "the body")
    try:
        if not isinstance(value, dict):
            raise TypeError
        rows = [(int(place), _row(email, values)) for place, email, *values in value["rows"]]
        name, tops = bytes.fromhex(value["name"]), dict(value["tops"])
        owner = str(value["owner"])
        return Piece(
            owner, name, int(value["total"]), int(value["start"]), int(value["end"]), tops, rows
        )
    except (TypeError, ValueError, KeyError):
        raise Refused(400, "the body is no piece of an import") from None


def _row(event: int, values: list[object]) -> Past:
    if not event:
        return PastEmail._make(values)
    row = PastEvent._make(values)
    address: object = row.address
    return row._replace(address=bytes.fromhex(address)) if isinstance(address, str) else row
