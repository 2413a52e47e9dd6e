"""`little-bell rewrite`: one email from stdin, registered and tracked, to stdout.

Whatever fails, the email goes out as it came: a pipeline must not lose mail.
"""

import json
import re
import sys
from collections.abc import Mapping
from time import monotonic, time
from typing import BinaryIO
from urllib.parse import urlencode

from little_bell.config import Config
from little_bell.errors import LittleBellError, StartError
from little_bell.mail import charset
from little_bell.mail.options import NAMES, read_flag, read_words
from little_bell.mail.report import Options, Report
from little_bell.mail.rewriting import rewrite_parts
from little_bell.ops.secret import PROOF, Secret
from little_bell.store.lock import Lock
from little_bell.store.reader import Reader
from little_bell.store.writer import Writer
from little_bell.tracking.email import NewEmail
from little_bell.tracking.privacy import CONSENTS
from little_bell.values import NO_TENANT, is_tenant
from little_bell.wire.control import call
from little_bell.wire.mailroom import Mailroom, parse_message

DONE, FAILED = 0, 1  # exit codes
PIECE = 1 << 16  # bytes that are passed on at once
PATIENCE = 5.0  # seconds for another command to end its writing, or for the server to answer
PAUSE = 0.1  # seconds between two looks for a server that may have started
ABOUT = ("recipient", "campaign", "consent")  # what is said of the email, beside options
META = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
NEAR = 1024  # bytes at the beginning, among which browsers look for it
NOTHING_SAID = b"\n\nHTML"  # a message without a header
OTHER_KEYS = "the server signs with other keys: give this command its SECRET_KEY"


def rewrite(config: Config, words: Mapping[str, str], source: BinaryIO, target: BinaryIO) -> int:
    """Read an email, write it tracked; returns the exit code. `words` are `tenant`, ABOUT, the
    names of options, `html`, `dry_run` and `report` (a file). Raises OSError where nothing can be
    written."""
    raw = source.read(config.max_message_bytes + 1)
    problem: str | None = None
    new: bytes = raw
    told: dict[str, object] = {}
    try:
        if len(raw) > config.max_message_bytes:
            raise LittleBellError(f"it is larger than {config.max_message_bytes} bytes")
        new, told = _rewritten(config, words, raw)
    except LittleBellError as error:
        problem = str(error)
    except Exception as error:  # the outermost edge: mail goes out, whatever happens
        problem = f"{type(error).__name__}: {error}"
    target.write(new)
    pass_on(source, target)
    if problem is None:
        try:
            _report(words.get("report", ""), told)
        except OSError as error:
            problem = f"the report cannot be written ({error.strerror})"
            sys.stderr.write(f"little-bell: {problem}\n")
            return FAILED
        return DONE
    sys.stderr.write(f"little-bell: the email goes out as it came: {problem}\n")
    return FAILED


def pass_on(source: BinaryIO, target: BinaryIO) -> None:
    """Write what is still to be read. Raises OSError."""
    while piece := source.read(PIECE):
        target.write(piece)
    target.flush()


def _report(file: str, told: dict[str, object]) -> None:
    text = json.dumps(told) + "\n"
    if not file:
        sys.stderr.write(text)
        return
    with open(file, "w", encoding="ascii") as out:
        out.write(text)


def _rewritten(
    config: Config, words: Mapping[str, str], raw: bytes
) -> tuple[bytes, dict[str, object]]:
    """The email and what is told of it. Raises LittleBellError."""
    tenant = words.get("tenant", "")
    if not is_tenant(tenant.encode("utf-8", "replace")):
        raise LittleBellError(f"--tenant is missing, or no name: {NO_TENANT}")
    secret = Secret(config)
    served = _server(config, secret)
    room = Mailroom(config, secret.ring, lambda: Reader(config.database_url))
    said = {name: words[name] for name in (*ABOUT, *NAMES) if name in words}
    # What is said of HTML is read as of a message, which then has nothing to say itself.
    html = read_flag(words.get("html", "0"), "html") or is_html(raw)
    message = parse_message(tenant, NOTHING_SAID if html else raw, urlencode(said).encode("ascii"))
    dry = read_flag(words.get("dry_run", "0"), "dry_run") or not message.tracked
    source = _decoded(raw) if html else ("", "")
    number = 0 if dry else register(config, secret, message.email, served)
    if html:
        new, report, pixel = _html(room, raw, source, message.email, read_words(words), number)
    else:
        new, report, recipe = room.rewrite(message, number)
        pixel = recipe.pixel
    told: dict[str, object] = {
        "email_id": number or None,
        "tracking_pixel_url": pixel if message.tracked else None,
        "report": report.as_dict(),
    }
    return new, told


def _html(
    room: Mailroom,
    raw: bytes,
    source: tuple[str, str],
    email: NewEmail,
    options: Options,
    number: int,
) -> tuple[bytes, Report, str]:
    """HTML by itself, in its own charset, with its report and pixel."""
    text, codec = source
    recipe = room.recipe(email, number)
    new, _, report = rewrite_parts(text, None, options, recipe, charset.is_unicode(codec))
    if new is None or new == text:
        return raw, report, recipe.pixel
    try:
        return charset.encode(new, codec, raw, text, True), report, recipe.pixel
    except ValueError as error:
        return raw, Report.of_failure("the HTML", error), recipe.pixel


def is_html(raw: bytes) -> bool:
    """Whether it looks like HTML, and not like a message: that begins with a name and a colon."""
    return raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def _decoded(raw: bytes) -> tuple[str, str]:
    """HTML as text, and its codec. Raises LittleBellError."""
    named = META.search(raw, 0, NEAR)
    try:
        return charset.decode(raw, named[1].decode("ascii") if named else "utf-8")
    except ValueError as error:
        raise LittleBellError(str(error)) from None


def _server(config: Config, secret: Secret) -> bool:
    """Whether a server runs; then addresses are those of its BASE_URL, and its keys are ours.

    Raises LittleBellError."""
    try:
        _, body = call(config.database_url, "GET", "/status", seconds=PATIENCE)
    except LittleBellError:
        return False
    config.base_url = json.loads(body)["url"]
    _, body = call(config.database_url, "POST", "/secret", b"{}")
    if json.loads(body).get("proof") != secret.ring.sign(PROOF).hex():
        raise LittleBellError(OTHER_KEYS)
    return True


def register(config: Config, secret: Secret, email: NewEmail, served: bool) -> int:
    """Create the email; returns its number. Raises LittleBellError."""
    lock = None if served else _lock(config, secret)
    if lock is None:
        members = {
            "subject": email.subject,
            "recipient": email.recipient,
            "campaign": email.campaign,
            "consent": CONSENTS[email.consent],
        }
        body = json.dumps(members).encode("utf-8")
        status, answer = call(config.database_url, "POST", f"/{email.tenant}/emails", body)
        found = json.loads(answer)
        if status != 201:
            raise LittleBellError(found["detail"])
        return int(found["email_id"])
    try:
        writer = Writer(config.database_url)
        try:
            [(_, number)] = writer.write(int(time() * 1000), [email], []).emails
            return number
        finally:
            writer.close()
    finally:
        lock.release()


def _lock(config: Config, secret: Secret) -> Lock | None:
    """Take the lock, once other commands are done; None where a server took it meanwhile.

    Raises LittleBellError."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            return Lock(config.database_url, PAUSE)
        except StartError:
            if _server(config, secret):
                return None
            if monotonic() > deadline:
                raise
