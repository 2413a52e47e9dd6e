"""`POST /{tenant}/emails` with many emails: NDJSON, an object a line, or a JSON list."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from little_bell.api.emails import (
    NO_EMAILS,
    REWRITTEN,
    created,
    read_email,
    read_json,
    refuse_constant,
)
from little_bell.errors import Refused
from little_bell.store.batch import Plan
from little_bell.store.batch_file import write_batch, write_plan
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.email import NewEmail, Once

SPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder(parse_constant=refuse_constant)

NOT_ALONE = "is for one email at a time: send it as a JSON object of its own"
MAX_LINES = 100_000
MAX_LINE = 1 << 20  # bytes
MAX_LIST = 1_000
MAX_LIST_BYTES = 8 << 20
MAX_CAMPAIGNS = 500  # different ones in a batch: their figures are written in one tick


def in_place(place: tuple[str, int], tenant: str, value: object, campaigns: set[str]) -> NewEmail:
    """An email that is one of many; `campaigns` are those of the batch so far.

    Raises Refused (400) that says which one is at fault.
    """
    name, number = place
    try:
        if not isinstance(value, dict):
            raise Refused(400, "not a JSON object")
        email = read_email(tenant, value)
        if email.campaign is not None:
            campaigns.add(email.campaign)
            if len(campaigns) > MAX_CAMPAIGNS:
                detail = f"more than {MAX_CAMPAIGNS} different campaigns in a batch"
                raise Refused(400, detail, "campaign")
        return email
    except Refused as refused:
        detail = f"{name} {number}: {refused.detail}"
        if refused.field in REWRITTEN:
            detail = f"{name} {number}: {refused.field} {NOT_ALONE}"
        raise Refused(400, detail, refused.field, place=place) from None


def emails_of_lines(tenant: str, body: BinaryIO) -> Iterator[NewEmail]:
    """The emails of NDJSON; lines with nothing in them are passed over. Raises Refused."""
    campaigns: set[str] = set()
    number = count = empty = 0
    while line := body.readline(MAX_LINE + 1):
        number += 1
        place = ("line", number)
        if len(line) > MAX_LINE:
            raise Refused(400, f"line {number} is longer than {MAX_LINE} bytes", place=place)
        if line.isspace():
            empty += 1
            if empty > MAX_LINES:  # 64 million of them would take a third of a minute
                raise Refused(413, f"more than {MAX_LINES} lines are empty", place=place)
            continue
        count += 1
        if count > MAX_LINES:
            raise Refused(413, f"a batch has at most {MAX_LINES} emails", place=place)
        try:
            value = read_json(line, f"line {number}")
        except Refused as refused:
            raise Refused(400, refused.detail, place=place) from None
        yield in_place(place, tenant, value, campaigns)


def emails_of_list(tenant: str, body: BinaryIO) -> Iterator[NewEmail]:
    """The emails of a JSON list. Raises Refused."""
    campaigns: set[str] = set()
    for number, item in enumerate(items_of_list(body.read())):
        if number == MAX_LIST:
            raise Refused(413, f"a list has at most {MAX_LIST} emails; NDJSON may have {MAX_LINES}")
        yield in_place(("index", number), tenant, item, campaigns)


def items_of_list(body: bytes) -> Iterator[object]:
    """The items of a JSON list, one after the other: millions of small ones would take 30 times
    their size in memory. Raises Refused (400)."""
    try:
        text = body.decode("utf-8")
        at = skip_space(text, skip_space(text, 0) + 1)  # behind the bracket
        more = text[at : at + 1] != "]"
        while more:
            item, at = DECODER.raw_decode(text, at)
            yield item
            more, at = behind_comma(text, at)
        if text[at : at + 1] != "]" or skip_space(text, at + 1) != len(text):
            raise ValueError(f"expecting the end of the list, or a comma: char {at}")
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None


def behind_comma(text: str, at: int) -> tuple[bool, int]:
    """Whether a comma follows from `at` on, and where what comes next begins."""
    at = skip_space(text, at)
    more = text[at : at + 1] == ","
    return more, skip_space(text, at + 1) if more else at


def skip_space(text: str, at: int) -> int:
    """Where JSON's white space from `at` on ends."""
    found = SPACE.match(text, at)
    return found.end() if found else at


def prepare(
    file: BinaryIO, tenant: str, emails: Iterable[NewEmail], once: Once | None, address: str
) -> tuple[int, int]:
    """Write a batch file; returns the offset of its plan, and the number of emails.

    Raises Refused; OSError where the disk fails.
    """
    count, campaigns = write_batch(file, emails)
    if not count:
        raise Refused(400, NO_EMAILS)
    return write_plan(file, Plan(tenant, count, list(campaigns.items()), once), address), count


def answer_lines(base: str, addresses: Addresses, tenant: str, first: int, count: int) -> bytes:
    """NDJSON, a line for each email in the order of the request."""
    # Written out, since there may be 100,000: nothing in it needs quoting.
    url = f'"tracking_pixel_url": "{base}'
    numbers = range(first, first + count)
    return "".join(
        [f'{{"email_id": {n}, {url}{addresses.pixel(tenant, n)}"}}\n' for n in numbers]
    ).encode("ascii")


def answer_list(
    base: str, addresses: Addresses, tenant: str, first: int, count: int
) -> list[dict[str, object]]:
    """The same as a list."""
    return [created(base, addresses, tenant, n) for n in range(first, first + count)]
