"""A certificate of our own, for servers that speak TLS in tests."""

import ssl
import subprocess
from pathlib import Path

# As in https://docs.openssl.org/3.0/man1/openssl-req/
OPENSSL = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
    *("-days", "2", "-subj", "/CN=localhost"),
    *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
)


class Certificate:
    """For localhost and 127.0.0.1: two files, by openssl."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = str(folder / "cert.pem"), str(folder / "key.pem")
        subprocess.run(
            [*OPENSSL, "-keyout", self.key, "-out", self.cert],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.cert)
