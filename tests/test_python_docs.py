"""All examples of docs/PYTHON.md are run, with a real bell and a mail server; what they print is
what stands behind them."""

import contextlib
import io
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bell import Bell
from examples import blocks, expected

ROOT = Path(__file__).parent.parent
DOC = (ROOT / "docs" / "PYTHON.md").read_text()
KEY = "an-admin-key-of-this-test"


class Sink(socketserver.ThreadingTCPServer):
    """Takes mail by SMTP (RFC 5321), and keeps it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.mails: list[bytes] = []


class Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                taken = b"".join(iter(self.rfile.readline, b".\r\n"))
                assert isinstance(self.server, Sink)
                self.server.mails.append(taken)
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 8BITMIME\r\n")


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def codes(text: str) -> list[str]:
    return [block.code for block in blocks(text) if block.language == "python"]


def here(code: str, bell: Bell, sink: Sink) -> str:
    """An example with the addresses of this test."""
    for written, ours in (
        ("https://bell.example", f"http://localhost:{bell.port}"),
        ('"lb_..."', repr(KEY)),
        ('"localhost", 25', f'"127.0.0.1", {sink.server_address[1]}'),
    ):
        code = code.replace(written, ours)
    return code


def split() -> tuple[str, str]:
    """The document without its section on Django, and that."""
    before, _, rest = DOC.partition("\n## Django\n")
    django, _, after = rest.partition("\n## ")
    return before + "\n## " + after, django


def test_each_example(
    start_bell: Callable[..., Bell], sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    bell = start_bell(AUTH="keys", ADMIN_KEY=KEY)
    found = codes(split()[0])
    assert len(found) >= 9
    names: dict[str, object] = {"__name__": "example"}
    for code in found:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(here(code, bell, sink), "docs/PYTHON.md", "exec"), names)
        lines = iter(printed.getvalue().splitlines())
        for line in expected(code):
            assert line in lines, code  # in this order
    for name in ("client", "bell"):
        names[name].close()  # type: ignore[attr-defined]
    assert caplog.records == []
    assert len(sink.mails) == 3
    assert all(b"/acme/l/" in mail.replace(b"=\r\n", b"") for mail in sink.mails)


def test_the_examples_of_django(
    start_bell: Callable[..., Bell], sink: Sink, tmp_path: Path
) -> None:
    bell = start_bell(AUTH="keys", ADMIN_KEY=KEY)
    settings, code = codes(split()[1])
    port = f'EMAIL_HOST, EMAIL_PORT = "127.0.0.1", {sink.server_address[1]}\n'
    (tmp_path / "shop_settings.py").write_text(here(settings, bell, sink) + port)
    begin = "import django, logging\ndjango.setup()\nlogging.basicConfig()\n"
    (tmp_path / "run.py").write_text(begin + here(code, bell, sink))
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "shop_settings"}
    ran = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == expected(code)
    tracked = [b"/acme/l/" in mail.replace(b"=\r\n", b"") for mail in sink.mails]
    assert tracked == [True, True, False]


def test_each_call_is_named() -> None:
    from little_bell import Client

    for name in dir(Client):
        if not name.startswith("_"):
            assert f"`{name}" in DOC or f".{name}(" in DOC, name
