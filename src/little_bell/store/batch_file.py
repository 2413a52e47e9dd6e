"""The file in which the slow lane leaves a batch for the fast one: JSON lines, a piece of rows in
each, and the plan as the last. Both ends are processes of one server; the file has no name."""

import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from little_bell.store.batch import Plan, Row
from little_bell.store.job import BYTES, ROWS
from little_bell.tracking.email import NewEmail, Once


def write_line(file: BinaryIO, value: object) -> None:
    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n")


def write_batch(file: BinaryIO, emails: Iterable[NewEmail]) -> tuple[int, dict[str, int]]:
    """Write the rows; returns their number, and how many belong to each campaign."""
    campaigns: dict[str, int] = {}  # in the order of their positions
    positions: dict[str, int] = {}
    piece: list[Row] = []
    count = size = 0
    for email in emails:
        position = None
        if email.campaign is not None:
            position = positions.setdefault(email.campaign, len(positions))
            campaigns[email.campaign] = campaigns.get(email.campaign, 0) + 1
        row = (email.subject, email.recipient, email.metadata, position, email.consent)
        length = sum(len(text.encode("utf-8")) for text in row[:3] if isinstance(text, str))
        if piece and (len(piece) == ROWS or size + length > BYTES):
            write_line(file, piece)
            piece, size = [], 0
        piece.append(row)
        size += length
        count += 1
    if piece:
        write_line(file, piece)
    return count, campaigns


def write_plan(file: BinaryIO, plan: Plan, address: str) -> int:
    """Write the plan behind the rows; returns its offset. `address` is the sender's, as shown."""
    offset = file.tell()
    once = None if plan.once is None else [plan.once.key.hex(), plan.once.digest.hex()]
    write_line(file, [plan.tenant, plan.emails, plan.campaigns, once, address])
    file.flush()
    return offset


def read_plan(file: BinaryIO, offset: int) -> tuple[Plan, str]:
    """The plan and the sender's address; the file then stands at its first piece."""
    file.seek(offset)
    tenant, count, campaigns, once, address = json.loads(file.readline())
    file.seek(0)
    plan = Plan(
        tenant,
        count,
        [(name, n) for name, n in campaigns],
        None if once is None else Once(bytes.fromhex(once[0]), bytes.fromhex(once[1])),
    )
    return plan, address


def read_pieces(file: BinaryIO) -> Iterator[list[Row]]:
    """The rows, piece by piece."""
    for line in file:
        yield [(row[0], row[1], row[2], row[3], row[4]) for row in json.loads(line)]


def read_single(plan: Plan, file: BinaryIO) -> NewEmail:
    """The email of a plan that has no other. Raises ValueError where there is none."""
    for subject, recipient, metadata, position, consent in next(read_pieces(file), []):
        campaign = None if position is None else plan.campaigns[position][0]
        return NewEmail(plan.tenant, subject, recipient, campaign, metadata, plan.once, consent)
    raise ValueError("the batch is empty")
