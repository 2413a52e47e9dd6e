"""The console command `little-bell`."""

import os
import sys
from collections.abc import Mapping

from little_bell import __version__
from little_bell.config import SETTINGS, Config
from little_bell.errors import LittleBellError, StartError

CANNOT_START = 3  # exit code

USAGE = """\
little-bell: a small, durable, honest email tracking server

usage: little-bell [COMMAND] [--setting value ...]

commands:
  serve     start the server (what happens without a command)
  status    say how the server on this database is
  version   print the version
  help      print this

examples:
  little-bell
  little-bell serve --port 8080 --base-url https://track.example.com
  DATABASE_URL=sqlite:/var/lib/bell/tracking.db little-bell
  little-bell status

exit codes: 0 done; 1 failed; 2 wrong usage; 3 the server cannot start.

settings, from the environment or as options (PORT=8080 is --port 8080):
"""


def usage() -> str:
    """The help text, with one paragraph for each setting."""
    lines = []
    for setting in SETTINGS:
        default = f" [{setting.default}]" if setting.default else ""
        lines.append(f"  {setting.name}{default}\n      {setting.help}")
    return USAGE + "\n".join(lines) + "\n"


def read_options(arguments: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with `--setting value` put over it. Raises LittleBellError."""
    values = dict(environment)
    names = {"--" + setting.name.lower().replace("_", "-"): setting.name for setting in SETTINGS}
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option not in names:
            raise LittleBellError(f"unknown option {option!r}; see little-bell help")
        if not equals:
            if not rest:
                raise LittleBellError(f"{option} needs a value")
            value = rest.pop(0)
        values[names[option]] = value
    return values


def serve(values: dict[str, str]) -> int:
    """Run the server until SIGTERM."""
    from little_bell.serve import serve as run

    run(Config(values), values)
    return 0


def status(values: dict[str, str]) -> int:
    """Print what the running server says of itself; exit code 1 where it is not well."""
    from little_bell.wire.control import call

    code, body = call(Config(values).database_url, "GET", "/status")
    sys.stdout.write(body.decode("utf-8"))
    return 0 if code == 200 and b'"healthy"' in body else 1


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    rest = list(sys.argv[1:] if arguments is None else arguments)
    command = rest.pop(0) if rest and not rest[0].startswith("--") else "serve"
    if command in ("help", "-h") or "--help" in rest:
        sys.stdout.write(usage())
        return 0
    if command in ("version", "-V") or "--version" in rest:
        sys.stdout.write(f"little-bell {__version__}\n")
        return 0
    commands = {"serve": serve, "status": status}
    if command not in commands:
        sys.stderr.write(f"little-bell: unknown command {command!r}; see little-bell help\n")
        return 2
    try:
        return commands[command](read_options(rest, os.environ))
    except StartError as error:
        sys.stderr.write(f"little-bell: cannot start: {error}\n")
        return CANNOT_START
    except LittleBellError as error:
        sys.stderr.write(f"little-bell: {error}\n")
        return 2 if command == "serve" else 1
