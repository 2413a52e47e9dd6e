"""What commands do. Each imports what it needs once it runs, and says it all in an `Outcome`."""

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from little_bell.config import SETTINGS, Config
from little_bell.errors import LittleBellError
from little_bell.progress import clear, task

FAILED = 1  # an exit code


class Outcome(NamedTuple):
    """What came of a command: `lines` for people, `data` for programs, which ask with --json."""

    data: Mapping[str, object]
    lines: tuple[str, ...] = ()
    code: int = 0
    note: str = ""  # for people, beside what is on stdout


def say(text: str) -> None:
    clear()
    sys.stdout.write(text + "\n")


def serve(config: Config, values: dict[str, str], _argument: str) -> int:
    """Run the server until SIGTERM."""
    from little_bell.serve import serve as run

    run(config, values)
    return 0


def demo(config: Config, values: dict[str, str], _argument: str) -> int:
    """Show a server full of invented mail until Ctrl-C."""
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


def status(config: Config, _values: dict[str, str], _argument: str) -> Outcome:
    """What the running server says of itself; exit code 1 where it is not well."""
    import json

    from little_bell.wire.control import call

    code, body = call(config.database_url, "GET", "/status")
    text = body.decode("utf-8")
    well = code == 200 and '"healthy"' in text
    return Outcome(json.loads(text), (text.rstrip("\n"),), 0 if well else FAILED)


def check(config: Config, _values: dict[str, str], _argument: str) -> Outcome:
    """Whether the file is whole and figures are what the log says."""
    from little_bell.ops.check import check as run

    found = run(existing(config), task)
    well = not found.problems
    verdict = "all is well" if well else "problems were found"
    counted = f"{found.emails:,} emails and {found.events:,} events counted: {verdict}"
    data = {"ok": well, **found._asdict()}
    return Outcome(data, (*found.problems, counted), 0 if well else FAILED)


def rebuild(config: Config, _values: dict[str, str], _argument: str) -> Outcome:
    """Bring what is stored to what the log says, through the running server if there is one."""
    from little_bell.ops.check import rebuild as run
    from little_bell.ops.corrector import corrector
    from little_bell.wire.control import call

    path = existing(config)
    with corrector(path, call) as correct:
        done = run(path, correct, task)
    times = "once" if done.rounds == 1 else f"{done.rounds} times"
    lines = (*done.problems, f"{done.corrected:,} rows corrected; counted {times}")
    well = not done.problems
    return Outcome({"ok": well, **done._asdict()}, lines, 0 if well else FAILED)


def backup(config: Config, values: dict[str, str], target: str) -> Outcome:
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
    lines = [f"{target}: {size:,} bytes"]
    keys = rotation.save(config, target)
    if keys:
        lines.append(f"{keys}: the keys that sign links; keep it as safe as the server's own")
    leave_word(path, target)
    gone = list(thin_out(folder, target, int(keep))) if keep is not None else []
    lines.extend(f"{older}: gone" for older in gone)
    return Outcome({"file": target, "bytes": size, "keys": keys, "gone": gone}, tuple(lines))


def restore(config: Config, values: dict[str, str], source: str) -> Outcome:
    """Put a backup in the place of the database."""
    from little_bell.ops import rotation
    from little_bell.ops.backup import restore as run

    skip = values.get("--skip-ids", "0")
    if not skip.isdecimal() or len(skip) > 9:
        raise LittleBellError("--skip-ids is a number below 1,000,000,000")
    kept, known = run(source, config.database_url, int(skip), task)
    lines = [f"{config.database_url} is {source} now"]
    if kept:
        lines.append(f"what was there before is {kept}")
    keys = rotation.bring_back(config, source)
    if keys:
        lines.append(keys)
    if not known and not int(skip):
        lines.append(
            "ids handed out since the backup are not known and may be handed out again: if mail "
            "was sent since, restore once more with --skip-ids"
        )
    data = {
        "database": config.database_url,
        "file": source,
        "before": kept,
        "ids_known": known,
        "keys": keys,
    }
    return Outcome(data, tuple(lines))


def keys_create(config: Config, values: dict[str, str], tenant: str) -> Outcome:
    """A new key of a tenant, alone on stdout and never again."""
    from little_bell.ops.keys import create
    from little_bell.wire.control import call

    name, role = values.get("--name", ""), values.get("--role", "write")
    key, number = create(existing(config), call, tenant, name, role)
    data = {"tenant": tenant, "number": number, "role": role, "name": name, "key": key}
    note = f"This is key {number} of {tenant} ({role}); it is not shown again."
    return Outcome(data, (key,), note=note)


def keys_list(config: Config, _values: dict[str, str], tenant: str) -> Outcome:
    """The keys of a tenant, or of all, by what is known of them."""
    from little_bell.ops.keys import as_dict, as_line, listed

    found = listed(existing(config), tenant)
    data = {"keys": [as_dict(key) for key in found]}
    return Outcome(data, tuple(as_line(key) for key in found))


def keys_revoke(config: Config, _values: dict[str, str], arguments: str) -> Outcome:
    """Let a key open nothing any more; sessions that it opened end at once."""
    from little_bell.ops.keys import revoke
    from little_bell.wire.control import call

    tenant, _, number = arguments.partition(" ")
    revoke(existing(config), call, tenant, number)
    data = {"tenant": tenant, "number": int(number), "revoked": True}
    return Outcome(data, (f"key {number} of {tenant} is revoked",))


def doctor(config: Config, _values: dict[str, str], _argument: str) -> Outcome:
    """What stands open or goes wrong soon, and what mends it; exit code 1 where something does."""
    from little_bell.ops.doctor import examine
    from little_bell.wire.control import call

    existing(config)
    found = examine(config, call)
    lines = [f"{number}. {one.what}: {one.hint}" for number, one in enumerate(found, 1)]
    data = {"ok": not found, "findings": [one._asdict() for one in found]}
    return Outcome(data, tuple(lines or ["all is well"]), FAILED if found else 0)


def secret(config: Config, _values: dict[str, str], action: str) -> Outcome:
    """Replace the key that signs links, or forget those it replaced."""
    from little_bell.ops import rotation
    from little_bell.wire.control import call

    if action == "rotate":
        verify = rotation.rotate(config, call) - 1
        line = f"a new key signs; keys before it that still verify: {verify}"
        return Outcome({"action": action, "verify": verify}, (line,))
    if action == "drop":
        gone = rotation.drop(config, call)
        line = f"keys that are gone, and with them the mail they signed: {gone}"
        return Outcome({"action": action, "dropped": gone}, (line,))
    raise LittleBellError(f"unknown action {action!r}; known are rotate, drop")


def purge(config: Config, values: dict[str, str], _argument: str) -> Outcome:
    """Take old events out of the log; figures stay."""
    from little_bell.ops.purge import purge as run
    from little_bell.ops.purge import read_cut
    from little_bell.wire.control import call

    cut = read_cut(values.get("--days", ""), values.get("--before", ""))
    events = run(existing(config), cut, values.get("--tenant"), call, task)
    return Outcome({"events": events}, (f"{events:,} events purged",))


def import_(config: Config, values: dict[str, str], path: str) -> Outcome:
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
        clear()
        for problem in error.shown:
            sys.stderr.write(f"{problem}\n")
        raise
    data = done._asdict()
    return Outcome({"imported": data.pop("counts"), **data}, tuple(lines(done)))


def export(config: Config, values: dict[str, str], tenant: str) -> int:
    """Write all emails or events of a tenant to a file or stdout."""
    from little_bell.export import export as run

    what, form = values.get("--what", "events"), values.get("--format", "csv")
    target = values.get("--output", "")
    size = run(existing(config), tenant, what, form, target, task(f"exporting {what}"))
    if target:
        say(f"{target}: {size:,} bytes")
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
