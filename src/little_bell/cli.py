"""The command line: what was asked for becomes a command and its settings."""

import os
import sys
from collections.abc import Mapping

from little_bell import __version__
from little_bell.commands import COMMANDS, FAILED, Command, rewrite, say
from little_bell.config import SETTINGS, Config
from little_bell.errors import LittleBellError, StartError

WRONG_USAGE = 2  # exit codes beside 0 and FAILED
CANNOT_START = 3

USAGE = """\
little-bell: a small, durable, honest email tracking server

usage: little-bell [COMMAND] [--setting value ...]

commands:
{commands}examples:
  little-bell
  little-bell serve --port 8080 --base-url https://track.example.com
  DATABASE_URL=sqlite:/var/lib/bell/tracking.db little-bell
  little-bell backup /var/backups/bell-monday.db

exit codes: 0 done; 1 failed, or a problem was found; 2 wrong usage; 3 the server cannot start.

settings, from the environment or as options (PORT=8080 is --port 8080):
"""


def usage() -> str:
    """The help text, with a line for each command and a paragraph for each setting."""
    commands = ""
    for command in COMMANDS:
        name = f"{command.name} {command.argument}".rstrip()
        commands += f"  {name:<26} {command.help}\n"
        for option in command.options:
            commands += f"  {'':<26}   {option}\n"
    commands += f"  {'version':<26} print the version\n  {'help':<26} print this\n\n"
    lines = []
    for setting in SETTINGS:
        default = f" [{setting.default}]" if setting.default else ""
        lines.append(f"  {setting.name}{default}\n      {setting.help}")
    return USAGE.format(commands=commands) + "\n".join(lines) + "\n"


def read_options(
    arguments: list[str], environment: Mapping[str, str], command: Command
) -> tuple[dict[str, str], str]:
    """The environment with `--setting value` put over it, and the command's arguments, by spaces.

    Options of a command's own stand in it under their names. Raises LittleBellError.
    """
    values = dict(environment)
    names = {"--" + setting.name.lower().replace("_", "-"): setting.name for setting in SETTINGS}
    own = [option.split()[:2] for option in command.options]
    names.update({name: name for name, _ in own})
    flags = {name for name, word in own if not word.isupper()}
    rest = list(arguments)
    wanted = command.argument.split()
    given: list[str] = []
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if not option.startswith("--") and len(given) < len(wanted):
            given.append(option + equals + value)
            continue
        if option not in names:
            what = "option" if option.startswith("-") else "argument"
            raise LittleBellError(f"unknown {what} {option!r}; see little-bell help")
        if option in flags:
            value = value or "1"
        elif not equals:
            if not rest:
                raise LittleBellError(f"{option} needs a value")
            value = rest.pop(0)
        values[names[option]] = value
    if len(given) < len([word for word in wanted if not word.startswith("[")]) or "" in given:
        raise LittleBellError(f"{command.name} needs {command.argument}; see little-bell help")
    return values, " ".join(given)


def let_through(command: Command) -> None:
    """Of a command that did not begin: what mail came in goes out, so that none is lost."""
    if command.run is rewrite:
        from little_bell.rewrite import pass_on

        pass_on(sys.stdin.buffer, sys.stdout.buffer)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    os.umask(os.umask(0o077) | 0o007)  # what is written holds people's addresses: not for others
    rest = list(sys.argv[1:] if arguments is None else arguments)
    name = rest.pop(0) if rest and not rest[0].startswith("--") else "serve"
    if name in ("help", "-h") or "--help" in rest:
        sys.stdout.write(usage())
        return 0
    if name in ("version", "-V") or "--version" in rest:
        say(f"little-bell {__version__}")
        return 0
    if rest and any(one.name == f"{name} {rest[0]}" for one in COMMANDS):
        name = f"{name} {rest.pop(0)}"
    command = next((one for one in COMMANDS if one.name == name), None)
    if command is None:
        sys.stderr.write(f"little-bell: unknown command {name!r}; see little-bell help\n")
        return WRONG_USAGE
    try:
        values, argument = read_options(rest, os.environ, command)
    except LittleBellError as error:
        sys.stderr.write(f"little-bell: {error}\n")
        let_through(command)
        return WRONG_USAGE
    try:
        return command.run(Config(values), values, argument)
    except StartError as error:
        what = "cannot start: " if command.name in ("serve", "relay") else ""
        sys.stderr.write(f"little-bell: {what}{error}\n")
        let_through(command)
        return CANNOT_START
    except LittleBellError as error:
        sys.stderr.write(f"little-bell: {error}\n")
        let_through(command)
        return FAILED
    except OSError as error:
        sys.stderr.write(f"little-bell: {error.strerror}: {error.filename or ''}\n")
        return FAILED
