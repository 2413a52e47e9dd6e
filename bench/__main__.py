"""`python -m bench`: measure, print, write RESULTS.md."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import (
    bulk,
    disk,
    growth,
    latency,
    memory,
    pressure,
    reads,
    rewriting,
    startup,
    throughput,
)
from bench.errors import NotMeasuredError
from bench.machine import describe
from bench.plan import DEFAULT, FULL, QUICK, Plan
from bench.programs import BENCH
from bench.results import Section, announce, markdown, write_section
from bench.run import Run

SECTIONS: dict[str, Callable[[Run], Section]] = {
    "disk": disk.measure_syncs,
    "throughput": throughput.measure,
    "latency": latency.measure,
    "bulk": bulk.measure,
    "pressure": pressure.measure,
    "memory": memory.measure,
    "startup": startup.measure,
    "growth": growth.measure,
    "reads": reads.measure,
    "rewriting": rewriting.measure,
    "bytes": disk.measure_bytes,
}


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a smoke test, less than a minute")
    size.add_argument("--full", action="store_true", help="10 M events over 1 M emails; an hour")
    parser.add_argument("--rounds", type=int, help="times that each figure is measured [3]")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="one section; repeatable")
    parser.add_argument(
        "--output",
        type=Path,
        help="where the results go [bench/RESULTS.md; with --quick or --only: nowhere]",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(os.environ.get("TMPDIR") or "/var/tmp"),
        help="where databases are written; its disk is what is measured [$TMPDIR or /var/tmp]",
    )
    return parser.parse_args()


def choose_plan(arguments: argparse.Namespace) -> Plan:
    """The sizes that were asked for."""
    plan = QUICK if arguments.quick else FULL if arguments.full else DEFAULT
    return plan._replace(rounds=max(1, arguments.rounds)) if arguments.rounds else plan


def measure(run: Run, name: str) -> Section:
    """One section, printed; a remark in its place where something is missing."""
    run.say(f"--- {name}")
    try:
        section = SECTIONS[name](run)
    except NotMeasuredError as error:
        section = Section(f"Not measured: {name}", [str(error)], [])
    announce("\n" + "\n".join(write_section(section)))
    return section


def interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    arguments = read_arguments()
    plan = choose_plan(arguments)
    output = arguments.output
    if output is None and not arguments.quick and not arguments.only:
        output = BENCH / "RESULTS.md"
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="bell-", dir=arguments.folder.resolve()) as folder:
        run = Run(plan, Path(folder))
        machine = describe(run.folder)
        announce("\n".join(f"{name}: {value}" for name, value in machine))
        try:
            sections = [
                measure(run, name) for name in SECTIONS if name in (arguments.only or SECTIONS)
            ]
        except KeyboardInterrupt:
            announce("interrupted; nothing was written")
            return 130
    if output is not None:
        output.write_text(markdown(plan, machine, sections))
        announce(f"written: {output.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
