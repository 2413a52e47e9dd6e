"""A plain text with tracked links, and every other character as it was."""

import re

from little_bell.errors import Refused
from little_bell.mail.report import (
    MOST_LINKS,
    OPTED_OUT,
    REFUSED,
    UNSURE,
    Addresses,
    Options,
    Report,
    Skipped,
    TooManyError,
    Tracked,
)
from little_bell.mail.targets import MAX_SHOWN, Targets

# Not within another address, as of another scheme.
URL = re.compile(r"(?<![A-Za-z0-9_=/&?%@+~#-])https?://[^\s<>\"`]+", re.IGNORECASE)
TRAILING = frozenset(
    ".,;:!?'\""
    "\u2026\u2019\u201d\u00bb\u203a"  # ellipsis, closing quotes
    "\u3001\u3002\u300d\u300f\u3011\uff01\uff09\uff0c\uff1a\uff1b\uff1f"  # of Chinese and Japanese
)
BRACKETS = {")": "(", "]": "["}
GOES_ON = re.compile(r"(?:\r?\n|\r)[>\t ]*(?![^\s<>]*://)[^\s<>]+>")  # up to the >
SOFT_BREAK = re.compile(r" (?:\r?\n|\r)[^\r\n]")


def rewrite_text(
    text: str,
    addresses: Addresses,
    options: Options,
    opted_out: set[str],
    flowed: bool = False,
    delsp: bool | None = None,
) -> tuple[str, Report]:
    """The text with its links tracked, where the options ask for it, and what became of each.

    `opted_out` are canonical URLs that may not be tracked. `flowed` is format=flowed (RFC 3676),
    `delsp` its parameter of that name: with it an address may go on in the next line; None where
    nobody knows. Labels are empty: what a reader sees is the address. Never raises: where anything
    fails, and where there is nothing to change, it is `text` itself.
    """
    report = Report()
    if not options.text_too:
        return text, report
    try:
        broken = flowed and delsp is not False
        return _rewritten(text, addresses, Targets(addresses, options), opted_out, broken, report)
    except Exception as error:
        return text, Report.of_failure("the text", error)


def _rewritten(
    text: str,
    addresses: Addresses,
    targets: Targets,
    opted_out: set[str],
    broken: bool,
    report: Report,
) -> tuple[str, Report]:
    made: dict[str, str] = {}
    pieces: list[str] = []
    done = 0
    for match in URL.finditer(text):
        start = match.start()
        end = start + _length(match[0])
        value = text[start:end]
        url, reason = targets.judge(value)
        if reason is None and url in opted_out:
            reason = OPTED_OUT
        if reason is None and _unsure(text, start, match.end(), value, broken):
            url, reason = value[:MAX_SHOWN], UNSURE
        if reason is None and url not in made:
            try:
                made[url] = addresses.link(url, "", "text")
            except Refused as refused:
                report.problems.append(f"{refused.detail}: {url}")
                reason = REFUSED
        if len(report.tracked) + len(report.skipped) == MOST_LINKS:
            raise TooManyError
        if reason is not None:
            report.skipped.append(Skipped(url, reason, "text"))
            continue
        report.tracked.append(Tracked(url, made[url], "", "text"))
        pieces += (text[done:start], made[url])
        done = end
    if not pieces:
        return text, report
    pieces.append(text[done:])
    return "".join(pieces), report


def _length(run: str) -> int:
    """How much of a run without spaces is the address: not the sentence's end, nor a bracket that
    was opened before it."""
    over = {
        closing: run.count(closing) - run.count(opening) for closing, opening in BRACKETS.items()
    }
    end = len(run)
    while end:
        last = run[end - 1]
        if over.get(last, 0) > 0:
            over[last] -= 1
        elif last not in TRAILING:
            break
        end -= 1
    return end


def _unsure(text: str, start: int, end: int, value: str, broken: bool) -> bool:
    """Whether nobody can tell where the address ends: it may go on in the next line, or a
    language without spaces may follow."""
    if not value.isascii():
        return True
    if start and text[start - 1] == "<" and GOES_ON.match(text, end):
        return True
    return broken and SOFT_BREAK.match(text, end) is not None
