"""What the relay is told: where it listens, where mail goes on to, and how."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from little_bell.client.transport import read_url
from little_bell.errors import Refused, StartError
from little_bell.mail.options import read_flag
from little_bell.tracking.client import pack, parse_networks, within

NONE, STARTTLS, REQUIRED = "none", "starttls", "required"  # TLS towards the upstream
PORTS = {"smtp": 25, "smtps": 465}
LISTEN = "127.0.0.1:2525"
MAX_SESSIONS = 1000
LOOPBACK = parse_networks("loopback")


class Limits(NamedTuple):
    """Seconds. Those of RFC 5321 4.5.3.2 where it names them; opening a conversation is shorter,
    since our own client waits for it behind its MAIL."""

    log_in: float = 60  # from the connection to a good AUTH
    command: float = 300  # the client's next command; the upstream's answer to MAIL and RCPT
    block: float = 180  # between two pieces of a message
    probe: float = 10  # what may an EHLO wait for the upstream's offers
    open: float = 120  # connection, greeting, EHLO, STARTTLS and AUTH together
    data: float = 120  # the upstream's answer to DATA
    answer: float = 600  # its answer to the message
    track: float = 5  # what the bell may take for one message
    track_large: float = 30  # for one of a megabyte or more
    stop: float = 30  # what messages on their way get at the end


class Upstream(NamedTuple):
    """A mail server that takes our mail."""

    host: str
    port: int
    user: str  # nothing: no AUTH
    password: str
    implicit_tls: bool  # smtps
    tls: str  # NONE, STARTTLS (where it is offered, whoever answers) or REQUIRED (and verified)


class Settings(NamedTuple):
    """All of it, parsed."""

    host: str
    port: int  # 0 takes a free one
    upstream: Upstream
    bell: str  # its URL
    per_recipient: bool
    tls_cert: str  # paths; nothing: no STARTTLS for clients
    tls_key: str
    max_size: int  # bytes of a message
    max_sessions: int = MAX_SESSIONS
    limits: Limits = Limits()


def read_settings(values: Mapping[str, str], bell: str, max_size: int) -> Settings:
    """From options of the command and RELAY_UPSTREAM; `bell` and `max_size` where none is named.

    Raises StartError that names the wrong one, and never shows a password.
    """
    host, port = _listen(values.get("--listen", LISTEN))
    text = values.get("--upstream") or values.get("RELAY_UPSTREAM", "")
    if not text:
        raise StartError(
            "--upstream is missing: smtp://user:password@host:587 (or RELAY_UPSTREAM=...)"
        )
    upstream = read_upstream(text.strip(), values.get("--tls", ""))
    if (upstream.host, upstream.port) == (host, port):
        raise StartError("--upstream is where the relay itself listens")
    cert, key = values.get("--tls-cert", ""), values.get("--tls-key", "")
    if bool(cert) != bool(key):
        raise StartError("--tls-cert and --tls-key belong together")
    bell = values.get("--bell", bell)
    try:
        read_url(bell)
    except ValueError as error:
        raise StartError(f"--bell={bell!r}: {error}") from None
    size = values.get("--max-size", str(max_size))
    if not (size.isascii() and size.isdigit() and 1 << 16 <= int(size[:12]) <= 1 << 30):
        raise StartError(f"--max-size={size!r} is not a number of bytes from 65536 to 1073741824")
    try:
        alone = read_flag(values.get("--per-recipient", "0"), "--per-recipient")
    except Refused as error:
        raise StartError(error.detail) from None
    return Settings(host, port, upstream, bell, alone, cert, key, int(size))


def read_upstream(text: str, tls: str) -> Upstream:
    """`smtp://user:password@host:587` or `smtps://...`, percent-encoded. Raises StartError."""
    wrong = "--upstream is not smtp://[user:password@]host[:port] or smtps://..."
    try:
        url = urlsplit(text)
        port = url.port or PORTS.get(url.scheme, 0)
    except ValueError:
        raise StartError(wrong) from None
    rest = (url.path.strip("/"), url.query, url.fragment)
    if not port or not url.hostname or any(rest) or not text.isprintable():
        raise StartError(wrong)
    user, password = unquote(url.username or ""), unquote(url.password or "")
    if bool(user) != bool(password):
        raise StartError("--upstream has a user without a password, or a password without a user")
    implicit = url.scheme == "smtps"
    if tls not in ("", NONE, STARTTLS, REQUIRED):
        raise StartError(f"--tls={tls!r} is not {NONE}, {STARTTLS} or {REQUIRED}")
    if implicit and tls == NONE:
        raise StartError("--tls=none does not go with smtps://")
    exposed = bool(password) and not is_local(url.hostname)
    if exposed and tls in (NONE, STARTTLS) and not implicit:
        raise StartError(
            f"--tls={tls} could show the upstream's password to others: use --tls required"
        )
    tls = tls or (REQUIRED if exposed else STARTTLS)
    return Upstream(url.hostname, port, user, password, implicit, tls)


def is_local(host: str) -> bool:
    """Whether a host is this machine, by its loopback address or as `localhost`."""
    address = pack(host)
    return host == "localhost" or (address is not None and within(address, LOOPBACK))


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port[:6]) < 65_536):
        raise StartError(f"--listen={text!r} is not ADDRESS:PORT, such as {LISTEN}")
    return host, int(port)
