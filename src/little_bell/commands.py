"""The commands of `little-bell`, as a table: it feeds the command line, its help and the docs."""

from collections.abc import Callable
from typing import NamedTuple

from little_bell import actions
from little_bell.actions import Outcome
from little_bell.config import Config

# Headings of the help, in their order.
GROUPS = (
    ("run", "Run it"),
    ("look", "Look after it"),
    ("keep", "Keep what it knows"),
    ("keys", "Keys"),
    ("mail", "Mail on its way"),
)
OF_JSON = "--json   say it as one JSON object on stdout, errors too"


class Command(NamedTuple):
    """One line of the table. `run` takes settings, values of options and argument; it gives what
    came of it, or an exit code where it spoke itself."""

    name: str
    argument: str  # what stands behind it, in brackets what may be missing; nothing where none does
    help: str
    run: Callable[[Config, dict[str, str], str], Outcome | int]
    options: tuple[str, ...] = ()  # beside the settings: `--name VALUE   what`, or `--flag   what`
    group: str = "keep"
    about: str = ""  # what it does beside a running server, and what else matters; lines
    examples: tuple[str, ...] = ()
    json: bool = False  # it takes --json
    stands: str = ""  # what is so after Ctrl-C
    settings: tuple[str, ...] | None = None  # those that it heeds; None: all


COMMANDS = (
    Command(
        "serve",
        "",
        "start the server; what happens without a command",
        actions.serve,
        group="run",
        about="""\
It runs until SIGTERM or Ctrl-C, finishes what is under way and ends with 0.
Only one server uses a database file; a second one ends with exit code 3.""",
        examples=(
            "little-bell",
            "little-bell serve --port 8080 --base-url https://track.example.com",
            "DATABASE_URL=sqlite:/var/lib/little-bell/tracking.db little-bell serve",
        ),
    ),
    Command(
        "demo",
        "",
        "show a server full of invented mail, until Ctrl-C",
        actions.demo,
        (
            "--keep DIR     leave the database in this new folder",
            "--no-browser   print the addresses, open nothing",
            "--no-live      nothing goes on arriving",
        ),
        group="run",
        about="""\
Two months of three senders, in a database of its own that is gone at the end. It listens on
this machine alone (HOST), on PORT or, where that is taken, on a free port. A server that
runs beside it is left alone, and so is its database; other settings do not reach the demo.""",
        examples=("little-bell demo", "little-bell demo --no-browser --port 8080 --keep demo-data"),
        stands="nothing is left, but for what is in the folder of --keep",
        settings=("HOST", "PORT"),
    ),
    Command(
        "status",
        "",
        "say how the server on this database is",
        actions.status,
        group="look",
        about="It asks the running server; exit code 1 where none runs, or it is not well.",
        examples=("little-bell status", "little-bell status --json | python3 -m json.tool"),
        json=True,
    ),
    Command(
        "doctor",
        "",
        "say what stands open or goes wrong soon",
        actions.doctor,
        group="look",
        about="""\
It reads the settings as this command got them, so give it the server's. It changes nothing,
and works beside a running server. Exit code 1 where something stands open.""",
        examples=("little-bell doctor", "little-bell doctor --base-url https://track.example.com"),
        json=True,
    ),
    Command(
        "check",
        "",
        "is the file whole, do figures say what the log says",
        actions.check,
        group="look",
        about="""\
It works on a copy that it makes beside the database (there has to be room) and holds up
nobody, with a server or without. Exit code 1 where something is wrong: see rebuild.""",
        examples=("little-bell check", "little-bell check --json"),
        json=True,
        stands="nothing was changed",
    ),
    Command(
        "backup",
        "FILE",
        "write a consistent copy; opens go on",
        actions.backup,
        ("--keep N   FILE is a folder: write a dated one into it, keep the newest N",),
        about="""\
FILE appears, or takes the place of an older backup, once all of it is there and checked.
The keys that sign links go to FILE.secret. Works beside a running server.""",
        examples=(
            "little-bell backup /var/backups/little-bell/monday.db",
            "little-bell backup /var/backups/little-bell --keep 14 --json",
        ),
        json=True,
        stands="the file is as it was, or the whole new backup",
    ),
    Command(
        "restore",
        "FILE",
        "put a backup in the database's place",
        actions.restore,
        ("--skip-ids N   ids to leave out, where those handed out since are not known",),
        about="""\
It checks the backup first. The database that was there is kept beside it under a new name,
and no id that it handed out is handed out again. Stop the server before.""",
        examples=(
            "little-bell restore /var/backups/little-bell/monday.db",
            "little-bell restore monday.db --skip-ids 100000",
        ),
        json=True,
        stands="the database is as it was, or the whole backup",
    ),
    Command(
        "export",
        "TENANT",
        "write a tenant's events or emails; opens go on",
        actions.export,
        (
            "--what KIND       events (if not said), or emails",
            "--format FORMAT   csv (if not said), or ndjson",
            "--output FILE     written there, once all of it is there; stdout if not said",
        ),
        about="""\
It reads beside a running server in short pieces, as the exports by HTTP do. A file is its
owner's alone (mode 0600) and takes the place of an older one.""",
        examples=(
            "little-bell export acme --output events.csv",
            "little-bell export acme --what emails --format ndjson --output emails.ndjson",
            "little-bell export acme --format ndjson | gzip > events.ndjson.gz",
        ),
        stands="the file is as it was",
    ),
    Command(
        "import",
        "FILE",
        "bring in emails, opens and clicks of long ago",
        actions.import_,
        (
            "--tenant NAME   whose rows they are where the file is silent; else of this one alone",
            "--skip-bad      leave bad rows out; without it nothing is imported where one is bad",
            "--again         even where the very same rows were imported before",
        ),
        about="""\
FILE is CSV, NDJSON, or the database of the Little Bell in Rust; docs/IMPORT.md has the columns.
All of it is read and checked first. A running server goes on answering opens.""",
        examples=(
            "little-bell import /opt/old/data/tracking.db",
            "little-bell import events.csv --tenant acme",
        ),
        json=True,
        stands="what is in stays; the same command goes on from there",
    ),
    Command(
        "rebuild",
        "",
        "bring figures to what the log says; opens go on",
        actions.rebuild,
        about="""\
A running server gets what is wrong in small pieces and goes on answering. Exit code 1 where
something remains that the log cannot mend.""",
        examples=("little-bell rebuild", "little-bell rebuild --json"),
        json=True,
        stands="what was corrected stays; run it again for the rest",
    ),
    Command(
        "purge",
        "",
        "take old events out of the log; figures stay",
        actions.purge,
        (
            "--days N        those older than N days",
            "--before DATE   or those from before a day (YYYY-MM-DD, UTC)",
            "--tenant NAME   of this one alone",
        ),
        about="A running server does it in small steps behind all other work.",
        examples=(
            "little-bell purge --days 365",
            "little-bell purge --before 2026-01-01 --tenant acme",
        ),
        json=True,
        stands="what is purged is gone; a running server goes on, otherwise the rest stays",
    ),
    Command(
        "keys create",
        "TENANT",
        "print a new key; its first one closes a tenant",
        actions.keys_create,
        ("--name NAME   what it is called", "--role ROLE   read, or write (if not said)"),
        group="keys",
        about="""\
The key is alone on stdout and is never shown again. A running server knows it at once.""",
        examples=(
            "little-bell keys create acme --name newsletter",
            "little-bell keys create acme --role read --name dashboard > dashboard.key",
        ),
        json=True,
    ),
    Command(
        "keys list",
        "[TENANT]",
        "print keys by their numbers and names",
        actions.keys_list,
        group="keys",
        about="It reads the database, beside a running server or without one; no key is shown.",
        examples=("little-bell keys list", "little-bell keys list acme --json"),
        json=True,
    ),
    Command(
        "keys revoke",
        "TENANT NUMBER",
        "let a key open nothing any more",
        actions.keys_revoke,
        group="keys",
        about="A running server forgets it at once, and ends the logins that it opened.",
        examples=("little-bell keys revoke acme 1",),
        json=True,
    ),
    Command(
        "secret",
        "ACTION",
        "rotate the key that signs links, or drop older ones",
        actions.secret,
        group="keys",
        about="""\
rotate: a new key signs, and those before it still verify: mail already sent goes on counting.
drop: those before it verify no more, and the links in mail that they signed are dead.
A running server reads the keys again at once.""",
        examples=("little-bell secret rotate", "little-bell secret drop"),
        json=True,
    ),
    Command(
        "relay",
        "",
        "take mail by SMTP, track it, send it on",
        actions.relay,
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
        group="mail",
        about="It is a process of its own, needs a running server, and runs until SIGTERM.",
        examples=(
            "little-bell relay --upstream smtp://mail.example.com:587",
            "RELAY_UPSTREAM=smtp://user:password@mail.example.com:587 little-bell relay"
            " --tls required",
        ),
    ),
    Command(
        "rewrite",
        "",
        "track an email, or HTML, from stdin to stdout",
        actions.rewrite,
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
        group="mail",
        about="""\
A running server gets the email; without one it is written into the database. Whatever fails,
the email goes out as it came, and the exit code is not 0.""",
        examples=(
            "little-bell rewrite --tenant acme < mail.eml > tracked.eml",
            "little-bell rewrite --tenant acme --campaign spring < mail.eml | sendmail -t",
        ),
    ),
)
