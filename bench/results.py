"""The figures, as a table on the terminal and as RESULTS.md."""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from bench.budgets import Budget
from bench.plan import Plan

DIGITS = {"/s": 0, "": 0, "ms": 2, "s": 2, "x": 2, "MiB": 1, "MB": 1, "bytes": 1, "%": 0}
HEADINGS = ("what", "median", "min .. max", "runs", "must", "aim", "met")

HEAD = """\
# Results

Written by `make bench` (`.venv/bin/python -m bench`, `--help` for more). Everything runs on one
machine over loopback, the servers in turn, each figure once a round; a ratio is taken within a
round. Timings are printed, never asserted: compare ratios, and runs on the same machine.
"""


class Row(NamedTuple):
    """One figure, measured once or more. Values are in `unit`."""

    what: str
    unit: str
    values: list[float]
    budget: Budget | None = None

    def show(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:,.{DIGITS[self.unit]}f} {self.unit}".rstrip()

    def cells(self) -> tuple[str, ...]:
        """The row as HEADINGS say."""
        middle = median(self.values)
        low, high = min(self.values), max(self.values)
        digits = DIGITS[self.unit]
        spread = f"{low:,.{digits}f} .. {high:,.{digits}f}" if len(self.values) > 1 else ""
        bounds = ("", "", "")
        if self.budget is not None:
            budget = self.budget
            bounds = (self.show(budget.must), self.show(budget.aim), budget.met(middle))
        return (self.what, self.show(middle), spread, str(len(self.values)), *bounds)


class Section(NamedTuple):
    """Rows of one subject, and what must be known to read them."""

    title: str
    notes: list[str]
    rows: list[Row]


def ratio(what: str, ours: list[float], theirs: list[float], budget: Budget | None = None) -> Row:
    """A row of ratios, taken round by round."""
    return Row(what, "x", [a / b for a, b in zip(ours, theirs, strict=True)], budget)


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows of a table as lines, columns padded to the same width."""
    table = list(rows)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]


def table(section: Section) -> list[str]:
    """The rows of a section in Markdown."""
    head, *rest = aligned([HEADINGS, *(row.cells() for row in section.rows)])
    rule = "".join("|" if character == "|" else "-" for character in head)
    return [head, rule, *rest]


def announce(text: str) -> None:
    """A line on the terminal, at once."""
    print(text, flush=True)


def write_section(section: Section) -> list[str]:
    """A section in Markdown."""
    lines = [f"## {section.title}", ""]
    if section.rows:
        lines += [*table(section), ""]
    lines += [f"* {note}" for note in section.notes]
    return [*lines, ""] if section.notes else lines


def markdown(plan: Plan, machine: list[tuple[str, str]], sections: list[Section]) -> str:
    """The whole of RESULTS.md."""
    lines = [HEAD, f"This run: {plan.description}.", "", "## Machine", ""]
    head, *rest = aligned([("what", "which"), *machine])
    lines += [head, "".join("|" if c == "|" else "-" for c in head), *rest, ""]
    for section in sections:
        lines += write_section(section)
    return "\n".join(lines).rstrip("\n") + "\n"
