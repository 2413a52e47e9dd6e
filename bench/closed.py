"""A bell as it stands on the open internet: its tenant has a key, and what it sent is signed."""

import os
import subprocess
from base64 import urlsafe_b64encode
from pathlib import Path

from bench.errors import NotMeasuredError
from bench.programs import LITTLE_BELL, TENANT, Program, bell
from little_bell.tracking.signing import Keyring

SECRET = "a-secret-of-the-benchmark"
SETTINGS = {"SECRET_KEY": SECRET, "LINK_POLICY": "signed"}


def signed_paths(folder: Path, emails: int) -> Path:
    """A file with the path of each email's pixel, one a line, from email 1 on."""
    path = folder / f"signed-{emails}"
    if not path.exists():
        ring = Keyring([SECRET.encode("ascii")])
        tenant = TENANT.encode("ascii")
        with path.open("w") as file:
            for email in range(1, emails + 1):
                mac = ring.sign(b"open/1", tenant, str(email).encode("ascii"))
                signature = urlsafe_b64encode(mac).decode("ascii")
                file.write(f"/{TENANT}/o/{email}/{signature}.gif\n")
    return path


def closed_bell(folder: Path, database: Path) -> Program:
    """Little Bell that counts signed addresses alone."""
    program = bell(folder, database)
    return program._replace(environment={**program.environment, **SETTINGS})


def make_key(database: Path) -> str:
    """Close the tenant; returns its key. Raises NotMeasuredError."""
    environment = {**os.environ, "DATABASE_URL": f"sqlite:{database}", **SETTINGS}
    command = [*LITTLE_BELL, "keys", "create", TENANT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    if done.returncode:
        raise NotMeasuredError(f"no key was made: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
