"""Many emails as NDJSON, in batches of bounded size."""

import json
from collections.abc import Iterable, Iterator, Mapping

MOST_EMAILS = 1_000
MOST_BYTES = 1 << 20  # or a single larger one, which the bell judges
MOST_CAMPAIGNS = 500  # the bell's own bound


def batches(emails: Iterable[Mapping[str, object]], most: int) -> Iterator[list[bytes]]:
    """Lines of NDJSON, as many as a batch may have; the next email is asked for when it is needed.

    Which emails share a batch follows from them alone. Raises TypeError or ValueError that names
    the email at fault, from 0.
    """
    if not 1 <= most <= 100_000:
        raise ValueError("a batch has 1 to 100,000 emails")
    lines: list[bytes] = []
    campaigns: set[object] = set()
    size = 0
    for index, email in enumerate(emails):
        line, campaign = _line(index, email), email.get("campaign")
        full = len(lines) == most or size + len(line) > MOST_BYTES
        if lines and (full or len(campaigns | {campaign}) > MOST_CAMPAIGNS):
            yield lines
            lines, campaigns, size = [], set(), 0
        lines.append(line)
        campaigns.add(campaign)
        size += len(line)
    if lines:
        yield lines


def _line(index: int, email: Mapping[str, object]) -> bytes:
    if not isinstance(email, Mapping):
        raise TypeError(f"item {index} is no mapping")
    campaign = email.get("campaign")
    if campaign is not None and not isinstance(campaign, str):
        raise TypeError(f"item {index}: campaign is no text")
    try:
        return json.dumps(dict(email), allow_nan=False).encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"item {index}: {error}") from None
