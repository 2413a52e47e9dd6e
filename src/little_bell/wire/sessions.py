"""Sessions: a signed cookie says which key opened a tenant. Nothing is kept of them here.

The signature holds a piece of the key's hash: so a session ends with its key, or where ADMIN_KEY is
another one.
"""

from little_bell.config import Config
from little_bell.store.keys import Key, Keys
from little_bell.tracking.addresses import decode, encode
from little_bell.tracking.signing import Keyring

PURPOSE = b"session/1"
SECONDS = 12 * 3600
PIECE = 16  # bytes of a key's hash
COOKIES = 4  # of the name, that are looked at: another site under our domain may add some
LONGEST = 80  # bytes of a value
ADMIN = 0  # in place of a key's number


class Sessions:
    """Makes and reads cookies. `keys` are those of today."""

    __slots__ = ("admin", "keyring", "keys", "name", "prefix", "secure")

    def __init__(self, config: Config, keyring: Keyring, keys: Keys, admin: Key | None) -> None:
        self.keyring = keyring
        self.keys = keys
        self.admin = admin
        self.prefix = config.prefix
        self.secure = config.base_url.startswith("https:")
        self.name = b"__Secure-lb_session" if self.secure else b"lb_session"

    def begin(self, tenant: bytes, key: Key, now: float) -> str:
        """The Set-Cookie of a session that `key` opens. `now` is seconds since the epoch."""
        expiry = int(now) + SECONDS
        mac = self.keyring.sign(PURPOSE, *_fields(tenant, key, expiry))
        return self._cookie(tenant, f"{key.number}.{expiry}.{encode(mac)}", SECONDS)

    def end(self, tenant: bytes) -> str:
        """The Set-Cookie that ends a session in its browser."""
        return self._cookie(tenant, "", 0)

    def find(self, headers: dict[bytes, bytes], tenant: bytes, now: float) -> Key | None:
        """The key whose session a request belongs to, if any."""
        cookies = headers.get(b"cookie")
        if cookies is None or self.name not in cookies:
            return None
        looked_at = 0
        for pair in cookies.split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == self.name and looked_at < COOKIES:
                looked_at += 1
                key = self._key(value, tenant, now)
                if key is not None:
                    return key
        return None

    def _key(self, value: bytes, tenant: bytes, now: float) -> Key | None:
        number, _, rest = value.partition(b".")
        expiry, _, text = rest.partition(b".")
        if len(value) > LONGEST or not (number.isdigit() and expiry.isdigit()):
            return None
        if int(number) == ADMIN:
            key = self.admin
        else:
            key = self.keys.by_number.get((tenant, int(number)))
        if key is None or int(expiry) <= now:
            return None
        mac = decode(text)
        if mac is None:
            return None
        good = self.keyring.verify(mac, PURPOSE, *_fields(tenant, key, int(expiry)))
        return key if good else None

    def _cookie(self, tenant: bytes, value: str, seconds: int) -> str:
        secure = "; Secure" if self.secure else ""
        path = f"{self.prefix}/{tenant.decode('ascii')}"
        return (
            f"{self.name.decode('ascii')}={value}; Path={path}; Max-Age={seconds}; "
            f"HttpOnly; SameSite=Lax{secure}"
        )


def _fields(tenant: bytes, key: Key, expiry: int) -> tuple[bytes, ...]:
    return tenant, b"%d" % key.number, key.hash[:PIECE], b"%d" % expiry
