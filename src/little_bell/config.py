"""Settings: one table feeds the environment, the command line, `--help`, the docs and the tests."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from little_bell.errors import StartError
from little_bell.tracking.client import Network
from little_bell.tracking.privacy import ADDRESSES, CONSENTS, GPC_CONSENTS
from little_bell.values import (
    LEVELS,
    base_url,
    database_path,
    file_path,
    host,
    log_level,
    networks,
    one_of,
    origins,
    own_addresses,
    place_in,
    rust_log,
    seconds,
    secret,
    secret_keys,
    whole,
)

ANY, SIGNED = "any", "signed"  # LINK_POLICY
OWN, LITESTREAM = "own", "litestream"  # CHECKPOINTS
SECRETS = ("SECRET_KEY", "ADMIN_KEY", "METRICS_TOKEN")  # settings whose value is told to nobody


class Setting(NamedTuple):
    """One line of the table. `parse` raises ValueError with what is wanted instead."""

    name: str
    default: str
    parse: Callable[[str], object]
    help: str


SETTINGS = (
    Setting("PORT", "3000", whole(0, 65535), "TCP port; 0 takes a free one"),
    Setting(
        "HOST",
        "0.0.0.0",  # noqa: S104
        host,
        "address to listen on; :: listens on IPv4 and IPv6, unix:PATH on a unix socket",
    ),
    Setting("DATABASE_URL", "sqlite:data/tracking.db", database_path, "the database file"),
    Setting(
        "BASE_URL",
        "",
        base_url,
        "public URL in front of all addresses, a path prefix allowed; "
        "http://localhost:PORT where empty",
    ),
    Setting(
        "LOG_LEVEL",
        "",
        lambda text: log_level(text) if text else None,
        "debug, info, warn, error or off; info where empty",
    ),
    Setting("RUST_LOG", "", rust_log, "understood where LOG_LEVEL is empty: little_bell=debug"),
    Setting(
        "TRUSTED_PROXIES",
        "loopback",
        networks,
        "whose X-Forwarded-For, or else X-Real-IP, is believed: "
        "addresses, CIDR ranges, loopback, private, none",
    ),
    Setting(
        "OWN_ADDRESSES",
        "",
        own_addresses,
        "the sender's own addresses and CIDR ranges, whose opens and clicks are no people's; "
        "TENANT=ADDRESS for one tenant",
    ),
    Setting(
        "SECRET_KEY",
        "",
        secret_keys,
        "signs links and sessions; several by spaces: the first signs, all verify; "
        "made beside the database where neither this nor SECRET_KEY_FILE is set",
    ),
    Setting("SECRET_KEY_FILE", "", file_path, "a file with the same, one a line"),
    Setting(
        "AUTH",
        "open",
        one_of("open", "keys"),
        "who may manage a tenant without keys, and create one: open: anybody; "
        "keys: who has ADMIN_KEY",
    ),
    Setting("ADMIN_KEY", "", secret, "opens every tenant; at least 16 characters"),
    Setting("ADMIN_KEY_FILE", "", file_path, "a file with the same, and nothing else"),
    Setting("METRICS_TOKEN", "", secret, "/metrics needs it, where it is set"),
    Setting("METRICS_TOKEN_FILE", "", file_path, "a file with the same, and nothing else"),
    Setting(
        "LINK_POLICY",
        "any",
        one_of(ANY, SIGNED),
        "signed: only links and pixels with a good signature count, and only they redirect; "
        "any: all do",
    ),
    Setting("CORS_ORIGINS", "", origins, "origins whose pages may call the API; * for all"),
    Setting(
        "CONSENT",
        "full",
        place_in(CONSENTS),
        "how much of opens and clicks is stored: full, aggregate (totals, no emails), none; "
        "tenants and emails may be stricter",
    ),
    Setting(
        "ADDRESSES",
        "truncate",
        place_in(ADDRESSES),
        "how much of clients' addresses is stored: none, truncate (/24, /48), full",
    ),
    Setting(
        "GPC",
        "aggregate",
        place_in(GPC_CONSENTS),
        "how much is stored of requests with Sec-GPC: 1: ignore (as of any), aggregate, none",
    ),
    Setting(
        "RETENTION_DAYS", "0", whole(0, 36_500), "days that events are kept; 0 keeps them for ever"
    ),
    Setting("INSTANT_SECONDS", "2", seconds, "a click sooner after creation is a machine's"),
    Setting(
        "MAX_HITS_PER_EMAIL_HOUR",
        "10000",
        whole(1, 1_000_000),
        "events of one email in an hour, past as many of them in all",
    ),
    Setting(
        "MAX_NEW_AGENTS_PER_HOUR",
        "2000",
        whole(1, 1_000_000),
        "user agents a tenant may add in an hour; then they are (other)",
    ),
    Setting(
        "MAX_NEW_LINKS_PER_HOUR",
        "10000",
        whole(1, 1_000_000),
        "link targets a tenant may add in an hour; then they are (other)",
    ),
    Setting(
        "MAX_REQUESTS_PER_MINUTE",
        "30000",
        whole(0, 10_000_000),
        "requests of management from one address, so many at once; more get 429; 0: no limit",
    ),
    Setting(
        "MAX_MISSES_PER_MINUTE",
        "600",
        whole(0, 10_000_000),
        "hits on ids never handed out, from one address, that get a page of their own; 0: no limit",
    ),
    Setting("MAX_BODY_BYTES", "65536", whole(1024, 1 << 20), "size of one request's body"),
    Setting(
        "MAX_BULK_BYTES",
        "67108864",
        whole(1 << 16, 1 << 28),
        "size of one request's body of many emails (NDJSON)",
    ),
    Setting(
        "MAX_MESSAGE_BYTES",
        "33554432",
        whole(1 << 16, 1 << 27),
        "size of one request's body with an email to be rewritten",
    ),
    Setting("MAX_CONNECTIONS", "10000", whole(16, 100_000), "open connections"),
    Setting("IDLE_SECONDS", "75", seconds, "a connection without a request is closed after it"),
    Setting("REQUEST_SECONDS", "15", seconds, "time a request may take to arrive"),
    Setting(
        "MAX_WAITING_BYTES",
        "8388608",
        whole(0, 1 << 30),
        "memory of the events that wait while the disk fails",
    ),
    Setting(
        "MAX_WAL_BYTES",
        "67108864",
        whole(1 << 22, 1 << 34),
        "size past which the write-ahead log is given back to the disk",
    ),
    Setting(
        "CHECKPOINTS",
        OWN,
        one_of(OWN, LITESTREAM),
        "who moves the write-ahead log into the database: own: the server; litestream: Litestream, "
        "while it keeps it below MAX_WAL_BYTES",
    ),
    Setting("SLOW_LANE_IDLE_SECONDS", "60", seconds, "the process behind the pages ends after it"),
)


class Config:
    """All settings, parsed. Attributes are the settings' names in lower case."""

    port: int
    host: str
    database_url: str
    base_url: str
    log_level: int
    rust_log: int | None
    trusted_proxies: tuple[Network, ...]
    own_addresses: dict[str, tuple[Network, ...]]
    secret_key: tuple[str, ...]
    secret_key_file: str
    auth: str
    admin_key: str
    admin_key_file: str
    metrics_token: str
    metrics_token_file: str
    link_policy: str
    cors_origins: tuple[str, ...]
    consent: int  # of tracking.privacy, as are the next two
    addresses: int
    gpc: int
    retention_days: int
    instant_seconds: float
    max_hits_per_email_hour: int
    max_new_agents_per_hour: int
    max_new_links_per_hour: int
    max_requests_per_minute: int
    max_misses_per_minute: int
    max_body_bytes: int
    max_bulk_bytes: int
    max_message_bytes: int
    max_connections: int
    idle_seconds: float
    request_seconds: float
    max_waiting_bytes: int
    max_wal_bytes: int
    checkpoints: str
    slow_lane_idle_seconds: float

    def __init__(self, values: Mapping[str, str]) -> None:
        """Read settings from an environment. Raises StartError that names the wrong one."""
        self.values = {s.name: values[s.name] for s in SETTINGS if s.name in values}
        for setting in SETTINGS:
            text = values.get(setting.name, setting.default).strip()
            try:
                value = setting.parse(text)
            except ValueError as error:
                scheme, separator, _ = text.partition("://")
                if separator and "@" in text:  # a password, perhaps: that of another program's
                    text = f"{scheme}://..."
                shown = "..." if setting.name in SECRETS else repr(text)
                raise StartError(f"{setting.name}={shown} is not {error}") from None
            setattr(self, setting.name.lower(), value)
        self.admin_key = self._of_file("ADMIN_KEY", self.admin_key, self.admin_key_file)
        self.metrics_token = self._of_file(
            "METRICS_TOKEN", self.metrics_token, self.metrics_token_file
        )
        if self.log_level is None:
            self.log_level = self.rust_log or LEVELS["info"]
        self.listening_on(self.port)

    def _of_file(self, name: str, value: str, path: str) -> str:
        """A secret as it was given, or what its file says, without white space around it."""
        if not path:
            return value
        if value:
            raise StartError(f"{name} and {name}_FILE are both set: leave one out")
        try:
            with open(path, encoding="utf-8") as file:
                value = secret(file.read(4096).strip())
        except OSError as error:
            raise StartError(f"{name}_FILE={path!r} cannot be read: {error.strerror}") from None
        except ValueError as error:
            what = "UTF-8" if isinstance(error, UnicodeDecodeError) else error
            raise StartError(f"what {name}_FILE={path!r} holds is not {what}") from None
        if not value:
            raise StartError(f"{name}_FILE={path!r} is empty")
        return value

    def listening_on(self, port: int) -> None:
        """BASE_URL follows the port that was really bound, unless it was set."""
        self.port = port
        if not self.values.get("BASE_URL", "").strip():
            self.base_url = f"http://localhost:{port}"

    @property
    def prefix(self) -> str:
        """The path in BASE_URL: `/bell`, or nothing."""
        _, slash, path = self.base_url.partition("://")[2].partition("/")
        return slash + path
