"""Purging on command: by the running server, over its control socket; or else as its writer."""

import json
import re
from datetime import UTC, datetime
from time import sleep, time

from little_bell.errors import LittleBellError
from little_bell.ops.beside import Call, detail, is_running, own_writer
from little_bell.ops.check import Say, quiet
from little_bell.store.edits import Finish
from little_bell.store.purge import DAY, Purge
from little_bell.store.writer import Writer

PAUSE = 0.1  # seconds between two looks how far it is
YOUNG = "events of the last day stay: take an older time"
NO_TENANT = "there is no such tenant"


def read_cut(days: str, before: str) -> int:
    """The time before which events go (ms UTC), by a number of days or by a date, midnight UTC.

    Raises LittleBellError.
    """
    if bool(days) == bool(before):
        raise LittleBellError("purge needs --days N or --before YYYY-MM-DD")
    now = int(time() * 1000)
    if days:
        if not (days.isascii() and days.isdigit()) or not 1 <= int(days[:9]) <= 36_500:
            raise LittleBellError("--days is a number from 1 to 36500")
        return now - int(days) * DAY
    try:
        if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", before):
            raise ValueError(before)
        cut = int(datetime.fromisoformat(before).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise LittleBellError("--before is a date such as 2026-01-31") from None
    if cut > now - DAY:
        raise LittleBellError(YOUNG)
    return cut


def purge(path: str, cut: int, tenant: str | None, call: Call, say: Say = quiet) -> int:
    """Take events from before `cut` (ms UTC) out of the log, of one tenant or of all; returns how
    many went. Raises LittleBellError, StoreError, StartError."""
    if is_running(path, call):
        return ask(path, cut, tenant, call, say)
    return purge_file(path, cut, tenant, say)


def ask(path: str, cut: int, tenant: str | None, call: Call, say: Say) -> int:
    """Have the running server do it."""
    body = json.dumps({"before": cut, "tenant": tenant}).encode("utf-8")
    status, answer = call(path, "POST", "/purge", body)
    if status != 200:
        raise LittleBellError(f"the server refused: {detail(answer)}")
    progress = say("purging")
    while True:
        _, answer = call(path, "GET", "/purge", None)
        told = json.loads(answer)
        if told["done"]:
            break
        progress(told["seen"], told["of"] + 1)
        sleep(PAUSE)
    progress(1, 1)
    if told["error"] is not None:
        raise LittleBellError(f"{told['events']:,} events purged, then: {told['error']}")
    return int(told["events"])


def purge_file(path: str, cut: int, tenant: str | None, say: Say) -> int:
    """Do it where no server runs."""
    with own_writer(path) as writer:
        tenants = writer.memory.tenants.by_id.values()
        chosen = [one for one in tenants if tenant is None or one.name == tenant]
        if tenant is not None and not chosen:
            raise LittleBellError(NO_TENANT)
        finish(writer)
        total = sum(one.last_seq for one in chosen)
        progress = say("purging")
        events = seen = 0
        for one in chosen:
            job = Purge(one.id, cut)
            while not job.over:
                writer.write(int(time() * 1000), [], [], job)
                progress(seen + job.position, total + 1)
            events += job.events
            seen += one.last_seq
        progress(1, 1)
        return events


def finish(writer: Writer) -> None:
    """Finish what edits left: their rest walks the chains."""
    while writer.memory.unfinished:
        rest = next(iter(writer.memory.unfinished.values()))
        writer.write(int(time() * 1000), [], [], Finish(rest))
