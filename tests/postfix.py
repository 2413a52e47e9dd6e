"""A Postfix of our own beside the system's: other folders, one port of loopback, one Maildir."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from programs import free_port, only_where

DAEMONS = "/usr/lib/postfix/sbin"
NOBODY = 65534

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
maillog_file = {folder}/log/postfix
maillog_file_prefixes = {folder}/log
myhostname = mx.example.net
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
mydestination =
alias_maps =
local_transport = error:none
virtual_mailbox_domains = example.com, xn--exmple-cua.com
virtual_mailbox_base = {folder}
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{nobody}
virtual_gid_maps = static:{nobody}
smtputf8_enable = yes
local_header_rewrite_clients =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
tls_random_source = dev:/dev/urandom
message_size_limit = 20000000
smtpd_client_connection_count_limit = 0
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

needs_postfix = only_where(
    os.path.exists(f"{DAEMONS}/master") and os.geteuid() == 0,
    "needs Postfix, and root to start it",
)


class Postfix:
    """Mail for *@example.com is delivered to one Maildir."""

    def __init__(self, folder: Path, cert: str, key: str) -> None:
        """The folder can be entered by all."""
        self.folder = folder
        self.inbox = folder / "inbox" / "new"
        for name in ("queue", "data", "log", "config", "inbox"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        os.chown(folder / "inbox", NOBODY, NOBODY)
        self.port = free_port()
        values = {"folder": folder, "daemons": DAEMONS, "nobody": NOBODY, "cert": cert, "key": key}
        (folder / "config" / "main.cf").write_text(MAIN.format(**values))
        (folder / "config" / "master.cf").write_text(MASTER.format(port=self.port))
        self._run("start")

    def _run(self, what: str) -> None:
        ran = subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.folder / "config"), what],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, (ran, self.log)

    def stop(self) -> None:
        self._run("stop")

    @property
    def log(self) -> str:
        path = self.folder / "log" / "postfix"
        return path.read_text() if path.exists() else ""

    def delivered(self, count: int, timeout: float = 20) -> list[bytes]:
        """Mails, once there are so many; those before are gone then. Line ends are LF."""
        deadline = time.monotonic() + timeout
        while len(found := sorted(self.inbox.glob("*"))) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count}: {self.log}"
            time.sleep(0.02)
        mails = [path.read_bytes() for path in found]
        for path in found:
            path.unlink()
        return mails


@contextmanager
def postfix(cert: str, key: str) -> Iterator[Postfix]:
    """One for as long as the `with` block lasts."""
    with tempfile.TemporaryDirectory(prefix="postfix-") as name:
        os.chmod(name, 0o755)
        running = Postfix(Path(name), cert, key)
        try:
            yield running
        finally:
            running.stop()


ADDED = (b"return-path", b"x-original-to", b"delivered-to", b"received")


def as_sent(delivered: bytes) -> tuple[bytes, list[bytes]]:
    """A mail without the fields that Postfix put before it, and these."""
    lines = delivered.splitlines(True)
    added: list[bytes] = []
    while lines and (
        lines[0].partition(b":")[0].lower() in ADDED or (added and lines[0][:1] in b" \t")
    ):
        added.append(lines.pop(0))
    return b"".join(lines), added
