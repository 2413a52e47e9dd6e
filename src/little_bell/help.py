"""What `little-bell help` says, and what it takes a mistyped word for."""

from collections.abc import Iterable

from little_bell.commands import COMMANDS, GROUPS, OF_JSON, Command
from little_bell.config import SETTINGS

OVERVIEW = """\
little-bell: a small, durable, honest email tracking server

usage: little-bell [COMMAND] [ARGUMENT] [--option VALUE ...]

{groups}help COMMAND, or COMMAND --help: more, with examples. help settings: settings.
{exits}"""
EXITS = """\
Exit codes: 0 done; 1 failed, or a problem was found; 2 wrong usage;
3 cannot start, or open the database; 130 interrupted.
"""
SETTINGS_HEAD = """\
Settings come from the environment, or as options of any command: PORT=8080 is --port 8080.

"""
HERE = (
    ("help [COMMAND]", "say this, or more of a command"),
    ("version", "print the version"),
)
COLUMN = 27


def overview() -> str:
    """All commands, on one screen."""
    groups = ""
    for group, title in GROUPS:
        lines = [(usage(one), one.help) for one in COMMANDS if one.group == group]
        if group == "look":
            lines += HERE
        groups += f"{title}\n" + "".join(f"  {left:{COLUMN}}{what}\n" for left, what in lines)
        groups += "\n"
    return OVERVIEW.format(groups=groups, exits=EXITS)


def usage(command: Command) -> str:
    return f"{command.name} {command.argument}".rstrip()


def of_command(command: Command) -> str:
    """One command: usage, options, what it does beside a server, examples, exit codes."""
    options = [*command.options, *([OF_JSON] if command.json else [])]
    parts = [
        f"little-bell {command.name}: {command.help}\n",
        f"usage: little-bell {usage(command)} [--option VALUE ...]\n",
        f"{command.about}\n",
    ]
    if options:
        parts.append("options:\n" + "".join(f"  {line}\n" for line in aligned(options)))
    parts.append("examples:\n" + "".join(f"  {line}\n" for line in command.examples))
    parts.append(EXITS + "Settings are options too: see little-bell help settings.\n")
    return "\n".join(parts)


def aligned(options: Iterable[str]) -> list[str]:
    """Options with what they mean in one column."""
    pairs = [option.split("   ", 1) for option in options]
    widest = max(len(left) for left, _ in pairs)
    return [f"{left:{widest}}   {what.strip()}" for left, what in pairs]


def settings() -> str:
    """A paragraph for each setting."""
    lines = []
    for setting in SETTINGS:
        default = f" [{setting.default}]" if setting.default else ""
        lines.append(f"  {setting.name}{default}\n      {setting.help}\n")
    return SETTINGS_HEAD + "".join(lines)


def topic(words: list[str]) -> str | None:
    """What there is to say of a command, of several that begin with a word, or of `settings`."""
    wanted = " ".join(words)
    if not wanted:
        return overview()
    if wanted == "settings":
        return settings()
    for command in COMMANDS:
        if command.name == wanted:
            return of_command(command)
    some = [one for one in COMMANDS if one.name.split()[0] == wanted]
    return "\n".join(of_command(one) for one in some) or None


def unknown_command(name: str) -> str:
    """Why a command is refused, with what may have been meant."""
    some = [one.name for one in COMMANDS if one.name.split()[0] == name]
    if some:
        rest = ", ".join(one.split()[1] for one in some)
        return f"{name} is followed by one of: {rest}; see little-bell help {name}"
    known = {one.name.split()[0] for one in COMMANDS} | {"help", "version"}
    return f"unknown command {name!r}{nearest(name, known)}; see little-bell help"


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, where something is like it."""
    import difflib

    found = difflib.get_close_matches(word, sorted(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""
