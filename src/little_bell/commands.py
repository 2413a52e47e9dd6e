"""The commands of `little-bell`, as a table. Each imports what it needs once it runs."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from little_bell.config import Config
from little_bell.errors import LittleBellError

FAILED = 1  # an exit code


class Command(NamedTuple):
    """One line of the table. `run` takes settings and argument, and gives the exit code."""

    name: str
    argument: str  # what stands behind it, in brackets what may be missing; nothing where none does
    help: str
    run: Callable[[Config, dict[str, str], str], int]
    options: tuple[str, ...] = ()  # beside the settings: `--name VALUE   what`, or `--flag   what`


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def task(name: str) -> Callable[[int, int], None]:
    """Progress of a task, on a terminal alone."""
    if not sys.stderr.isatty():
        return lambda _done, _total: None

    def show(done: int, total: int) -> None:
        end = "\r\x1b[K" if done >= total else ""
        sys.stderr.write(f"\r{name} {100 * done // max(1, total):3} %{end}")
        sys.stderr.flush()

    return show


def serve(config: Config, values: dict[str, str], _argument: str) -> int:
    """Run the server until SIGTERM."""
    from little_bell.serve import serve as run

    run(config, values)
    return 0


def demo(config: Config, values: dict[str, str], _argument: str) -> int:
    """Show a server full of invented mail until Ctrl-C."""
    from little_bell.config import SETTINGS
    from little_bell.demo.run import Options
    from little_bell.demo.run import run as show

    # A setting of the server at home must not reach the demo; where it listens may be chosen.
    ours = {setting.name for setting in SETTINGS} | {"LISTEN_FDS", "LISTEN_PID"}
    rest = {k: v for k, v in values.items() if k not in ours and not k.startswith("--")}
    options = Options(
        values.get("--keep", ""),
        "--no-browser" not in values,
        "--no-live" not in values,
        values.get("HOST", ""),
        str(config.port),
    )
    return show(options, rest, say, task)


def status(config: Config, _values: dict[str, str], _argument: str) -> int:
    """Print what the running server says of itself; exit code 1 where it is not well."""
    from little_bell.wire.control import call

    code, body = call(config.database_url, "GET", "/status")
    sys.stdout.write(body.decode("utf-8"))
    return 0 if code == 200 and b'"healthy"' in body else FAILED


def check(config: Config, _values: dict[str, str], _argument: str) -> int:
    """Look whether the file is whole and figures are what the log says."""
    from little_bell.ops.check import check as run

    found = run(existing(config), task)
    for problem in found.problems:
        say(problem)
    verdict = "problems were found" if found.problems else "all is well"
    say(f"{found.emails:,} emails and {found.events:,} events counted: {verdict}")
    return FAILED if found.problems else 0


def rebuild(config: Config, _values: dict[str, str], _argument: str) -> int:
    """Bring what is stored to what the log says, through the running server if there is one."""
    from little_bell.ops.check import rebuild as run
    from little_bell.ops.corrector import corrector
    from little_bell.wire.control import call

    path = existing(config)
    with corrector(path, call) as correct:
        done = run(path, correct, task)
    for problem in done.problems:
        say(problem)
    times = "once" if done.rounds == 1 else f"{done.rounds} times"
    say(f"{done.corrected:,} rows corrected; counted {times}")
    return FAILED if done.problems else 0


def backup(config: Config, values: dict[str, str], target: str) -> int:
    """Write a consistent copy of the database, beside a running server or not.

    With `--keep` the target is a folder of dated ones, and older ones go once it is whole.
    """
    from little_bell.ops import rotation
    from little_bell.ops.backup import backup as run
    from little_bell.ops.backup import dated, leave_word, thin_out

    keep, folder = values.get("--keep"), target
    if keep is not None and not (keep.isdecimal() and len(keep) < 9 and int(keep)):
        raise LittleBellError("--keep is a number from 1 to 99,999,999")
    path = existing(config)
    if keep is not None:
        target = dated(folder)
    rotation.refuse_foreign(target)
    size = run(path, target, task)
    say(f"{target}: {size:,} bytes")
    keys = rotation.save(config, target)
    if keys:
        say(f"{keys}: the keys that sign links; keep it as safe as the server's own")
    leave_word(path, target)
    for older in thin_out(folder, target, int(keep)) if keep is not None else []:
        say(f"{older}: gone")
    return 0


def restore(config: Config, values: dict[str, str], source: str) -> int:
    """Put a backup in the place of the database."""
    from little_bell.ops import rotation
    from little_bell.ops.backup import restore as run

    skip = values.get("--skip-ids", "0")
    if not skip.isdecimal() or len(skip) > 9:
        raise LittleBellError("--skip-ids is a number below 1,000,000,000")
    kept, known = run(source, config.database_url, int(skip), task)
    say(f"{config.database_url} is {source} now")
    if kept:
        say(f"what was there before is {kept}")
    keys = rotation.bring_back(config, source)
    if keys:
        say(keys)
    if not known and not int(skip):
        say(
            "ids handed out since the backup are not known and may be handed out again: if mail "
            "was sent since, restore once more with --skip-ids"
        )
    return 0


def keys_create(config: Config, values: dict[str, str], tenant: str) -> int:
    """Print a new key of a tenant, alone on stdout and never again."""
    from little_bell.ops.keys import create
    from little_bell.wire.control import call

    name, role = values.get("--name", ""), values.get("--role", "write")
    key, number = create(existing(config), call, tenant, name, role)
    say(key)
    sys.stderr.write(f"This is key {number} of {tenant} ({role}); it is not shown again.\n")
    return 0


def keys_list(config: Config, _values: dict[str, str], tenant: str) -> int:
    """Print the keys of a tenant, or of all, by what is known of them."""
    from little_bell.ops.keys import lines

    for line in lines(existing(config), tenant):
        say(line)
    return 0


def keys_revoke(config: Config, _values: dict[str, str], arguments: str) -> int:
    """Let a key open nothing any more; sessions that it opened end at once."""
    from little_bell.ops.keys import revoke
    from little_bell.wire.control import call

    tenant, _, number = arguments.partition(" ")
    revoke(existing(config), call, tenant, number)
    say(f"key {number} of {tenant} is revoked")
    return 0


def doctor(config: Config, _values: dict[str, str], _argument: str) -> int:
    """Say what stands open or goes wrong soon; exit code 1 where something does."""
    from little_bell.ops.doctor import examine
    from little_bell.wire.control import call

    existing(config)
    found = examine(config, call)
    for number, finding in enumerate(found, 1):
        say(f"{number}. {finding.what}: {finding.hint}")
    if not found:
        say("all is well")
    return FAILED if found else 0


def secret(config: Config, _values: dict[str, str], action: str) -> int:
    """Replace the key that signs links, or forget those it replaced."""
    from little_bell.ops import rotation
    from little_bell.wire.control import call

    if action == "rotate":
        count = rotation.rotate(config, call)
        say(f"a new key signs; keys before it that still verify: {count - 1}")
    elif action == "drop":
        gone = rotation.drop(config, call)
        say(f"keys that are gone, and with them the mail they signed: {gone}")
    else:
        raise LittleBellError(f"unknown action {action!r}; known are rotate, drop")
    return 0


def purge(config: Config, values: dict[str, str], _argument: str) -> int:
    """Take old events out of the log; figures stay."""
    from little_bell.ops.purge import purge as run
    from little_bell.ops.purge import read_cut
    from little_bell.wire.control import call

    cut = read_cut(values.get("--days", ""), values.get("--before", ""))
    events = run(existing(config), cut, values.get("--tenant"), call, task)
    say(f"{events:,} events purged")
    return 0


def import_(config: Config, values: dict[str, str], path: str) -> int:
    """Bring in emails, opens and clicks of long ago."""
    from little_bell.imports.run import BadRowsError, import_history
    from little_bell.imports.summary import lines
    from little_bell.values import NO_TENANT, is_tenant
    from little_bell.wire.control import call

    tenant = values.get("--tenant")
    if tenant is not None and not is_tenant(tenant.encode("utf-8", "replace")):
        raise LittleBellError(NO_TENANT)
    flags = "--skip-bad" in values, "--again" in values
    try:
        done = import_history(config, path, tenant, *flags, call, task)
    except BadRowsError as error:
        for problem in error.shown:
            sys.stderr.write(f"{problem}\n")
        raise
    for line in lines(done):
        say(line)
    return 0


def relay(config: Config, values: dict[str, str], _argument: str) -> int:
    """Relay mail by SMTP until SIGTERM."""
    from little_bell.relay.service import run
    from little_bell.relay.settings import read_settings

    run(config, read_settings(values, f"http://127.0.0.1:{config.port}", config.max_message_bytes))
    return 0


def rewrite(config: Config, values: dict[str, str], _argument: str) -> int:
    """Track an email on its way from stdin to stdout."""
    from little_bell.rewrite import rewrite as run

    existing(config)
    words = {name[2:].replace("-", "_"): text for name, text in values.items() if name[:2] == "--"}
    return run(config, words, sys.stdin.buffer, sys.stdout.buffer)


def existing(config: Config) -> str:
    """The database file. Raises LittleBellError where there is none."""
    if not os.path.exists(config.database_url):
        raise LittleBellError(f"there is no database {config.database_url}: set DATABASE_URL")
    return config.database_url


COMMANDS = (
    Command("serve", "", "start the server (what happens without a command)", serve),
    Command(
        "relay",
        "",
        "take mail by SMTP, track it, send it on; a process of its own",
        relay,
        (
            "--upstream URL       smtp://user:password@host:587, or smtps://...; or RELAY_UPSTREAM",
            "--tls WHEN           towards the upstream: none, starttls, required",
            "--listen HOST:PORT   127.0.0.1:2525 if not said",
            "--bell URL           http://127.0.0.1:PORT if not said",
            "--per-recipient      one recipient a message, so that each has its own email",
            "--tls-cert FILE      what STARTTLS shows to clients",
            "--tls-key FILE       its key",
            "--max-size BYTES     of a message",
        ),
    ),
    Command(
        "demo",
        "",
        "show a server full of invented mail, until Ctrl-C",
        demo,
        (
            "--keep DIR     leave the database in this new folder",
            "--no-browser   print the addresses, open nothing",
            "--no-live      nothing goes on arriving",
        ),
    ),
    Command("status", "", "say how the server on this database is", status),
    Command("check", "", "is the file whole, do figures say what the log says", check),
    Command("rebuild", "", "bring figures to what the log says; opens go on", rebuild),
    Command(
        "keys create",
        "TENANT",
        "print a new key; from its first one on the tenant is closed",
        keys_create,
        ("--name NAME   what it is called", "--role ROLE   read, or write (if not said)"),
    ),
    Command("keys list", "[TENANT]", "print keys by their numbers and names", keys_list),
    Command("keys revoke", "TENANT NUMBER", "let a key open nothing any more", keys_revoke),
    Command("doctor", "", "say what stands open or goes wrong soon, and what mends it", doctor),
    Command(
        "secret",
        "ACTION",
        "rotate: a new key signs links, those before verify; drop: forget those",
        secret,
    ),
    Command(
        "purge",
        "",
        "take old events out of the log; figures stay, opens go on",
        purge,
        (
            "--days N        those older than N days",
            "--before DATE   or those from before a day (YYYY-MM-DD, UTC)",
            "--tenant NAME   of this one alone",
        ),
    ),
    Command(
        "import",
        "FILE",
        "bring in emails, opens and clicks: CSV, NDJSON, or the database of the Rust Little Bell",
        import_,
        (
            "--tenant NAME   whose rows they are where the file is silent; else of this one alone",
            "--skip-bad      leave bad rows out; without it nothing is imported where one is bad",
            "--again         even where the very same rows were imported before",
        ),
    ),
    Command(
        "rewrite",
        "",
        "track an email, or HTML, on its way from stdin to stdout",
        rewrite,
        (
            "--tenant NAME         whose email it is; to be said",
            "--campaign NAME       it belongs to",
            "--recipient ADDRESS   whom it goes to, if not who stands alone in To",
            "--consent CONSENT     full, aggregate or none",
            "--pixel PLACE         bottom, top or none",
            "--placeholder TEXT    which the pixel takes the place of",
            "--text-too            track the links of the text part",
            "--unsubscribe-too     track links that unsubscribe",
            "--skip-visible-urls   leave links alone whose text is an address",
            "--signed-too          change a message that has a DKIM signature",
            "--html                it is HTML, whatever it looks like",
            "--dry-run             create nothing",
            "--report FILE         write the report there, not to stderr",
        ),
    ),
    Command(
        "backup",
        "FILE",
        "write a consistent copy; opens go on",
        backup,
        ("--keep N   FILE is a folder: write a dated one there, then keep the newest N",),
    ),
    Command(
        "restore",
        "FILE",
        "put a backup in the database's place; no server may be running",
        restore,
        ("--skip-ids N   ids to leave out, where those handed out since are not known",),
    ),
)
