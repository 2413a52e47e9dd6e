"""Keys as their users have them: made and revoked by the command, sent in every form."""

import itertools
import os
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode

from bell import Bell
from little_bell.tracking.signing import Keyring, sha256

ADMIN_KEY = "admin-key-of-the-tests"
TOKEN = "token-of-the-measures"
SOURCES = itertools.count(1)
HALF_A_DAY = 12 * 3600


def command(bell: Bell, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`little-bell ...` on the database of a bell."""
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-m", "little_bell", *arguments],
        cwd=bell.folder,
        env={**inherited, **bell.settings, **settings},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def create_key(bell: Bell, tenant: str, *options: str) -> str:
    """A new key."""
    ran = command(bell, "keys", "create", tenant, *options)
    assert ran.returncode == 0, ran
    return ran.stdout.removesuffix("\n")


def revoke(bell: Bell, tenant: str, number: int) -> None:
    ran = command(bell, "keys", "revoke", tenant, str(number))
    assert ran.returncode == 0, ran


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(user: str, password: str) -> dict[str, str]:
    text = b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def cookie(value: str) -> dict[str, str]:
    return {"Cookie": f"lb_session={value}"}


def from_elsewhere() -> dict[str, str]:
    """A source that no other request had: its failures are its own."""
    number = next(SOURCES)
    return {"X-Forwarded-For": f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"}


def log_in(bell: Bell, tenant: str, key: str) -> str:
    """The value of the cookie of a new session."""
    answer = bell.ask(
        "POST", f"/{tenant}/dashboard/login", f"key={key}", {**from_elsewhere(), **OUR_PAGE}
    )
    assert answer.status == 303, answer
    return answer.headers["set-cookie"].partition(";")[0].partition("=")[2]


OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}


def signed(bell: Bell, tenant: str, number: int, key: str, expiry: int) -> str:
    """A cookie as who knows the secret makes it: by hand, from what DESIGN.md says."""
    secret = bell.database.with_name(bell.database.name + ".secret").read_text().split()
    ring = Keyring([one.encode() for one in secret])
    piece = sha256(key.encode()).digest()[:16]
    fields = (tenant.encode(), str(number).encode(), piece, str(expiry).encode())
    mac = urlsafe_b64encode(ring.sign(b"session/1", *fields)).decode()
    return f"{number}.{expiry}.{mac}"
