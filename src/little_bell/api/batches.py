"""`POST /{tenant}/emails` with many emails: NDJSON, an object a line, or a JSON list."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from little_bell.api.emails import NO_EMAILS, created, read_email, read_json
from little_bell.errors import Refused
from little_bell.store.batch import Plan
from little_bell.store.batch_file import write_batch, write_plan
from little_bell.tracking.email import NewEmail, Once

MAX_LINES = 100_000
MAX_LINE = 1 << 20  # bytes
MAX_LIST = 1_000
MAX_LIST_BYTES = 8 << 20
MAX_CAMPAIGNS = 500  # different ones in a batch: their figures are written in one tick


def in_place(place: tuple[str, int], tenant: str, value: object) -> NewEmail:
    """An email that is one of many. Raises Refused (400) that says which one is at fault."""
    name, number = place
    try:
        if not isinstance(value, dict):
            raise Refused(400, "not a JSON object")
        return read_email(tenant, value)
    except Refused as refused:
        detail = f"{name} {number}: {refused.detail}"
        raise Refused(400, detail, refused.field, place=place) from None


def emails_of_lines(tenant: str, body: BinaryIO) -> Iterator[NewEmail]:
    """The emails of NDJSON; lines with nothing in them are passed over. Raises Refused."""
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
        yield in_place(place, tenant, value)


def emails_of_list(tenant: str, body: BinaryIO) -> Iterator[NewEmail]:
    """The emails of a JSON list. Raises Refused."""
    value = read_json(body.read(), "the body")
    if not isinstance(value, list):  # it began like one
        raise Refused(400, "the body is not a JSON list")
    if len(value) > MAX_LIST:
        raise Refused(413, f"a list has at most {MAX_LIST} emails; NDJSON may have {MAX_LINES}")
    for number, item in enumerate(value):
        yield in_place(("index", number), tenant, item)


def bounded(emails: Iterable[NewEmail]) -> Iterator[NewEmail]:
    """The same emails. Raises Refused (400) where too many campaigns are among them."""
    campaigns = set()
    for email in emails:
        if email.campaign is not None and email.campaign not in campaigns:
            campaigns.add(email.campaign)
            if len(campaigns) > MAX_CAMPAIGNS:
                detail = f"a batch has emails of at most {MAX_CAMPAIGNS} different campaigns"
                raise Refused(400, detail, "campaign")
        yield email


def prepare(
    file: BinaryIO, tenant: str, emails: Iterable[NewEmail], once: Once | None, address: str
) -> tuple[int, int]:
    """Write a batch file; returns the offset of its plan, and the number of emails.

    Raises Refused; OSError where the disk fails.
    """
    count, campaigns = write_batch(file, bounded(emails))
    if not count:
        raise Refused(400, NO_EMAILS)
    return write_plan(file, Plan(tenant, count, list(campaigns.items()), once), address), count


def answer_lines(base: str, tenant: str, first: int, count: int) -> bytes:
    """NDJSON, a line for each email in the order of the request."""
    # Written out, since there may be 100,000: nothing in it needs quoting.
    url = f'"tracking_pixel_url": "{base}/{tenant}/pixel/'
    return "".join(
        [f'{{"email_id": {n}, {url}{n}.gif"}}\n' for n in range(first, first + count)]
    ).encode("ascii")


def answer_list(base: str, tenant: str, first: int, count: int) -> list[dict[str, object]]:
    """The same as a list."""
    return [created(base, tenant, n) for n in range(first, first + count)]
