"""Real proxies in front of a real bell, with the files of deploy/.

Of these files only ports, names, paths and the upstream are replaced.
"""

import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from select import select

from bell import BROWSER, Answer, Bell, Line
from certificate import Certificate

ROOT = Path(__file__).parent.parent
SITE = "localhost"
CLIENTS = ("127.0.0.2", "127.0.0.3", "::1")
PIECE = 1 << 16  # bytes sent between two looks for an answer
# What proxies say of their own connection; the bell says none of the last two.
THEIRS = {"date", "connection", "keep-alive", "server", "alt-svc"}


def blocks(document: str) -> dict[str, str]:
    """The configurations that docs/PROXIES.md shows, by the words of their first line."""
    text = (ROOT / "docs" / document).read_text()
    found = re.findall(r"^```(?:nginx|caddyfile)\n# (.*?)\n(.*?)^```$", text, re.M | re.S)
    return dict(found)


def guarded(text: str, networks: str) -> str:
    """A file of deploy/ with its commented example in force."""
    text = re.sub(r"^(\s*)#guard ?", r"\1", text, flags=re.M)
    assert "192.0.2.0/24" in text
    return text.replace("192.0.2.0/24", networks)


class TlsLine(Line):
    """A raw connection through TLS, from an address of loopback's."""

    def __init__(self, port: int, own: Certificate, source: str = "127.0.0.2") -> None:
        self.buffer = b""
        host = "::1" if ":" in source else "127.0.0.1"
        plain = socket.create_connection((host, port), 20, (source, 0))
        self.socket = own.client().wrap_socket(plain, server_hostname=SITE)

    def send(self, data: bytes) -> None:
        """Reads meanwhile, as curl does: who refuses a large body does not wait for its end."""
        left = memoryview(data)
        self.socket.settimeout(0)
        try:
            while left:
                try:
                    left = left[self.socket.send(left[:PIECE]) :]
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    assert any(select([self.socket], [self.socket], [], 20))
                try:
                    if not self._more():
                        break
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
        except OSError:
            pass  # nobody takes any more of it: the answer is there, or the test fails for it
        finally:
            self.socket.settimeout(20)


class Front:
    """A proxy that runs, and the bell behind it."""

    def __init__(self, folder: Path, bell: Bell, tls_port: int, plain_port: int) -> None:
        self.folder = folder
        self.bell = bell
        self.tls_port = tls_port
        self.plain_port = plain_port
        self.certificate = Certificate(folder)
        self.log_file = folder / "access.log"
        self.pid = 0

    @property
    def origin(self) -> str:
        return f"https://{SITE}:{self.tls_port}"

    @contextmanager
    def running(self, command: list[str], **environment: str) -> Iterator["Front"]:
        """The proxy, from when it listens on."""
        path = {"PATH": os.environ.get("PATH", "")}
        with (self.folder / "output.log").open("ab") as log:
            process = subprocess.Popen(
                command, env={**path, **environment}, cwd=self.folder, stdout=log, stderr=log
            )
        try:
            self.pid = process.pid
            deadline = time.monotonic() + 20
            while True:
                assert process.poll() is None, (self.folder / "output.log").read_text()
                assert time.monotonic() < deadline
                try:
                    TlsLine(self.tls_port, self.certificate).socket.close()
                    break
                except OSError:
                    time.sleep(0.02)
            yield self
        finally:
            process.terminate()
            process.wait(15)

    def spooled(self) -> list[str]:
        """Files without a name that the proxy's processes hold: bodies on their way."""
        assert self.pid
        mine = f"/proc/{self.pid}/task/{self.pid}/children"
        pids = [str(self.pid), *Path(mine).read_text().split()]
        links = [os.readlink(one) for pid in pids for one in Path(f"/proc/{pid}/fd").iterdir()]
        return [name for name in links if name.endswith(" (deleted)")]

    def line(self, source: str = "127.0.0.2") -> TlsLine:
        return TlsLine(self.tls_port, self.certificate, source)

    def send(self, data: bytes, source: str = "127.0.0.2", head_only: bool = False) -> Answer:
        """Bytes on a connection of their own; the answer."""
        with self.line(source) as line:
            line.send(data)
            return line.answer(head_only or data.startswith(b"HEAD "))

    def direct(self, data: bytes) -> Answer:
        """What the bell says to the same."""
        with Line(self.bell.port) as line:
            line.send(data)
            return line.answer(head_only=data.startswith(b"HEAD "))

    def both(self, data: bytes) -> tuple[Answer, Answer]:
        """The answer through the proxy and the bell's own, without what is the proxy's to say."""
        return mine(self.send(data)), mine(self.direct(data))


def mine(answer: Answer) -> Answer:
    headers = {name: value for name, value in answer.headers.items() if name not in THEIRS}
    return answer._replace(headers=headers)


def head(target: bytes | str, *more: str, method: str = "GET", host: str = SITE) -> bytes:
    """A request without a body, its target byte by byte."""
    raw = target.encode("latin-1") if isinstance(target, str) else target
    rest = "".join(f"\r\n{line}" for line in (f"Host: {host}", f"User-Agent: {BROWSER}", *more))
    return method.encode() + b" " + raw + b" HTTP/1.1" + rest.encode() + b"\r\n\r\n"


def sent(target: str, body: bytes, *more: str, kind: str = "application/json") -> bytes:
    length = f"Content-Length: {len(body)}"
    return head(target, f"Content-Type: {kind}", length, *more, method="POST") + body


def stored(bell: Bell, tenant: str) -> list[str]:
    """The addresses of a tenant's events, in their order."""
    rows = bell.rows(
        "SELECT address FROM events JOIN tenants USING (tenant) WHERE name = ? ORDER BY seq", tenant
    )
    return [str(ip_address(address)) for (address,) in rows]
