"""What an import says at its end."""

from collections.abc import Iterator

from little_bell.imports.run import Imported
from little_bell.store.history import CLICKS, COUNTED, EMAILS, OPENS

WRITTEN = (EMAILS, OPENS, CLICKS)


def lines(done: Imported) -> Iterator[str]:
    """Lines for people: what was imported, and what was not and why."""
    if done.total and done.before == done.total:
        yield f"these {done.total:,} rows were imported before; nothing was changed"
        return
    if done.before:
        yield f"{done.before:,} of {done.total:,} rows were imported before, and not again"
    yield "imported: " + ", ".join(f"{done.counts.get(what, 0):,} {what}" for what in WRITTEN)
    if COUNTED in done.counts:
        yield f"{done.counts[COUNTED]:,} {COUNTED}"
    others = dict(done.left_out)
    for why, count in done.counts.items():
        if why not in (*WRITTEN, COUNTED):
            others[why] = others.get(why, 0) + count
    for why, count in sorted(others.items()):
        yield f"not imported: {count:,} {why}"
    if done.bad:
        yield f"not imported: {done.bad:,} bad rows"
    if done.unused:
        yield f"columns that mean nothing here: {', '.join(done.unused)}"
