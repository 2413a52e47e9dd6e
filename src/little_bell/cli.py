"""The command line: what was asked for becomes a command and its settings."""

import io
import os
import sys
from collections.abc import Mapping

from little_bell import __version__, progress
from little_bell.actions import FAILED, Outcome, rewrite, say
from little_bell.commands import COMMANDS, Command
from little_bell.config import SETTINGS, Config
from little_bell.errors import LittleBellError, StartError

WRONG_USAGE = 2  # exit codes beside 0 and FAILED
CANNOT_START = 3
INTERRUPTED = 130  # as shells have it: 128 and SIGINT

JSON = "--json"


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
    if command.json:
        names[JSON] = JSON
        flags.add(JSON)
    see = f"see little-bell help {command.name}"
    rest = list(arguments)
    wanted = command.argument.split()
    given: list[str] = []
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if not option.startswith("--") and len(given) < len(wanted):
            given.append(option + equals + value)
            continue
        if option not in names:
            raise LittleBellError(f"{unknown(option, names)}; {see}")
        if option in flags:
            value = value or "1"
        elif not equals:
            if not rest:
                raise LittleBellError(f"{option} needs a value")
            value = rest.pop(0)
        values[names[option]] = value
    if len(given) < len([word for word in wanted if not word.startswith("[")]) or "" in given:
        raise LittleBellError(f"{command.name} needs {command.argument}; {see}")
    return values, " ".join(given)


def unknown(option: str, names: Mapping[str, str]) -> str:
    """Why an option or an argument is refused."""
    from little_bell.help import nearest

    if option.startswith("-"):
        return f"unknown option {option!r}{nearest(option, names)}"
    return f"unknown argument {option!r}"


def let_through(command: Command) -> None:
    """Of a command that did not begin: what mail came in goes out, so that none is lost."""
    if command.run is rewrite:
        from little_bell.rewrite import pass_on

        pass_on(sys.stdin.buffer, sys.stdout.buffer)


def tell(outcome: Outcome, json: bool) -> int:
    """Say what came of a command; returns its exit code."""
    progress.clear()
    if json:
        say_json(outcome.data)
        return outcome.code
    for line in outcome.lines:
        say(line)
    if outcome.note:
        sys.stderr.write(outcome.note + "\n")
    return outcome.code


def say_json(data: Mapping[str, object]) -> None:
    """One object; in ASCII where stdout takes no UTF-8, or a path in it is none."""
    import json

    text = json.dumps(data, ensure_ascii=False)
    try:
        plain = "utf" in (sys.stdout.encoding or "").lower() and bool(text.encode())
    except UnicodeEncodeError:  # a path that is no UTF-8
        plain = False
    say(text if plain else json.dumps(data))


def fail(message: str, code: int, json: bool) -> int:
    """Say why not; returns the exit code."""
    progress.clear()
    if json:
        say_json({"error": message})
    else:
        sys.stderr.write(f"little-bell: {message}\n")
    return code


def open_streams() -> None:
    """Give the process all three streams, and let stdout take any text.

    A descriptor that was closed would be had by the next file that is opened, and what is printed
    would go into that. stdout then refuses what is written, so that no key is lost in silence.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as it runs
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Bytes of paths as they came, where that can be said; else as the terminal can show it.
        utf = "utf" in sys.stdout.encoding.lower()
        sys.stdout.reconfigure(errors="surrogateescape" if utf else "backslashreplace")


def give_up_stdout() -> None:
    """What stdout did not take is tried no more, neither at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    os.umask(os.umask(0o077) | 0o007)  # what is written holds people's addresses: not for others
    open_streams()
    try:
        code = run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        give_up_stdout()  # who read what we say has gone away (`| head -1`): nobody is told
        return FAILED
    except OSError as error:
        give_up_stdout()
        return fail(f"stdout takes nothing: {said(error)}", FAILED, False)
    except KeyboardInterrupt:  # before a command has begun
        return INTERRUPTED


def said(error: OSError) -> str:
    """What the system says, and of which file."""
    what = error.strerror or str(error)
    return f"{what}: {error.filename}" if error.filename else what


def run(rest: list[str]) -> int:
    """The same; BrokenPipeError where nobody reads stdout."""
    json = JSON in rest
    first = rest.pop(0) if rest and not rest[0].startswith("--") else ""
    name = first or "serve"
    if name in ("help", "-h") or "--help" in rest or "-h" in rest[:1]:
        return show_help([first, *rest])
    if name in ("version", "-V") or "--version" in rest:
        data = {"name": "little-bell", "version": __version__}
        return tell(Outcome(data, (f"little-bell {__version__}",)), json)
    if rest and any(one.name == f"{name} {rest[0]}" for one in COMMANDS):
        name = f"{name} {rest.pop(0)}"
    command = next((one for one in COMMANDS if one.name == name), None)
    if command is None:
        from little_bell.help import unknown_command

        return fail(unknown_command(name), WRONG_USAGE, json)
    try:
        values, argument = read_options(rest, os.environ, command)
    except LittleBellError as error:
        let_through(command)
        return fail(str(error), WRONG_USAGE, json and command.json)
    return carry_out(command, values, argument, JSON in values)


def carry_out(command: Command, values: dict[str, str], argument: str, json: bool) -> int:
    """Run a command whose options are read; returns its exit code."""
    try:
        heeded = values if command.settings is None else command.settings
        config = Config({name: values[name] for name in heeded if name in values})
        outcome = command.run(config, values, argument)
    except StartError as error:
        what = "cannot start: " if command.name in ("serve", "relay") else ""
        let_through(command)
        return fail(f"{what}{error}", CANNOT_START, json)
    except LittleBellError as error:
        let_through(command)
        return fail(str(error), FAILED, json)
    except BrokenPipeError:
        if command.run is rewrite:
            return fail("nobody takes the email", FAILED, json)
        raise
    except OSError as error:
        return fail(said(error), FAILED, json)
    except KeyboardInterrupt:
        stands = f": {command.stands}" if command.stands else ""
        return fail(f"interrupted{stands}", INTERRUPTED, json)
    return tell(outcome, json) if isinstance(outcome, Outcome) else outcome


def show_help(rest: list[str]) -> int:
    """`help`, `help COMMAND`, `COMMAND --help`."""
    from little_bell.help import topic, unknown_command

    words = [word for word in rest if word and not word.startswith("-")]
    if words[:1] == ["help"]:
        del words[0]
    text = topic(words[:2]) or topic(words[:1])
    if text is None:
        return fail(unknown_command(words[0]), WRONG_USAGE, False)
    sys.stdout.write(text)
    return 0
