"""A real relay as a process, and the two that it talks to: an upstream and a bell by a script."""

import asyncio
import base64
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Relay:
    """`little-bell relay` on a free port, in a folder with the bell's database or without one."""

    def __init__(self, folder: Path, upstream: str, *options: str, **settings: str) -> None:
        self.folder = folder
        self.log_file = folder / "relay.log"
        self.error_file = folder / "relay.err"
        self.begin = self.log_file.stat().st_size if self.log_file.exists() else 0
        self.port = 0
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
        program = [sys.executable, "-m", "little_bell", "relay", "--listen=127.0.0.1:0", *options]
        with self.log_file.open("ab") as out, self.error_file.open("ab") as err:
            self.process = subprocess.Popen(
                program,
                cwd=folder,
                env={**inherited, "RELAY_UPSTREAM": upstream, **settings},
                stdout=out,
                stderr=err,
            )
        deadline = time.monotonic() + 20
        while not self.port:
            assert self.process.poll() is None, self.error_file.read_text()
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.02)
            for line in self.lines():
                self.port = line["fields"].get("port", self.port)

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, of this start."""
        text = self.log_file.read_bytes()[self.begin :].decode()
        return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]

    def transactions(self) -> list[dict[str, Any]]:
        """What the log says of messages."""
        return [line for line in self.lines() if line["message"].startswith("A message was")]

    def client(self, user: str = "acme", password: str = "any") -> smtplib.SMTP:
        """A client that is logged in."""
        client = smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=30)
        client.login(user, password)
        return client

    def stop(self, timeout: float = 40) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@contextmanager
def relaying(folder: Path, upstream: str, *options: str, **settings: str) -> Iterator[Relay]:
    """A relay for as long as the `with` block lasts."""
    relay = Relay(folder, upstream, *options, **settings)
    try:
        yield relay
    finally:
        relay.end()


class Mail(NamedTuple):
    """What an upstream took."""

    sender: str  # MAIL's argument as it came
    recipients: tuple[str, ...]
    data: bytes  # with dots undoubled


Script = Callable[[str, str, int], str | None]
"""From a verb, its argument and how often it came on all connections: the answer's lines by \\n,
several answers in one packet by \\r\\n; None: as a friendly server answers. `drop` ends the
connection without an answer; `take+drop` takes the message first; `hang` never answers."""

FRIENDLY = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


class ScriptedUpstream:
    """A mail server in a thread of its own, bytes in and bytes out, independent of the relay's
    libraries. DATA ends at CRLF . CRLF alone."""

    def __init__(
        self,
        script: Script | None = None,
        offers: tuple[str, ...] = FRIENDLY,
        tls: Any = None,
        implicit: bool = False,
    ) -> None:
        self.script = script or (lambda _verb, _argument, _count: None)
        self.offers = offers
        self.tls = tls  # a server's context: STARTTLS is offered, or all is within it
        self.implicit = implicit
        self.taken: list[Mail] = []
        self.commands: list[str] = []  # all lines, but AUTH's secrets
        self.unfinished = 0  # messages whose connection ended before the dot
        self.doubtful: list[Mail] = []  # those that were taken without an answer
        self.secure: list[bool] = []  # was MAIL said within TLS
        self.counts: dict[str, int] = {}
        self.port = 0
        self.ready = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ScriptedUpstream":
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(
            asyncio.start_server(
                self._connection,
                "127.0.0.1",
                0,
                limit=1 << 26,
                backlog=1000,
                ssl=self.tls if self.implicit else None,
            )
        )
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    def _decide(self, verb: str, argument: str) -> str | None:
        self.counts[verb] = self.counts.get(verb, 0) + 1
        return self.script(verb, argument, self.counts[verb])

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            if text == "hang":
                await asyncio.sleep(3600)
            if text.endswith("drop"):
                raise ConnectionResetError
            lines: list[str] = []
            for one in text.split("\r\n"):
                *first, last = one.split("\n")
                lines += [f"{line[:3]}-{line[4:]}\r\n" for line in first] + [f"{last}\r\n"]
            writer.write("".join(lines).encode())
            await writer.drain()

        await say(self._decide("CONNECT", "") or "220 upstream.example ESMTP")
        sender, recipients, secure = "", list[str](), self.implicit
        while True:
            line = (await reader.readuntil(b"\r\n")).decode("utf-8", "surrogateescape")[:-2]
            verb, _, argument = line.partition(" ")
            self.commands.append("AUTH" if verb.upper() == "AUTH" else line)
            verb = verb.upper()
            decided = self._decide(verb, argument)
            if verb == "EHLO":
                offers = [*self.offers, "AUTH PLAIN LOGIN"]
                offers += ["STARTTLS"] if self.tls and not secure else []
                lines = ["250 upstream.example", *(f"250 {offer}" for offer in offers)]
                await say(decided or "\n".join(lines))
            elif verb == "STARTTLS" and not decided:
                await say("220 2.0.0 go ahead")
                await writer.start_tls(self.tls)
                secure = True
            elif verb == "AUTH":
                await say(decided or "235 2.7.0 welcome")
            elif verb == "MAIL":
                sender, recipients = argument, []
                self.secure.append(secure)
                await say(decided or "250 2.1.0 sender ok")
            elif verb == "RCPT":
                answer = decided or "250 2.1.5 recipient ok"
                if answer.startswith("2"):
                    recipients.append(argument)
                await say(answer)
            elif verb == "DATA":
                answer = decided or "354 go on"
                await say(answer)
                if answer.startswith("354"):
                    await say(await self._take(reader, sender, recipients))
            elif verb == "QUIT":
                await say(decided or "221 2.0.0 bye")
                return
            else:
                await say(decided or "250 2.0.0 ok")

    async def _take(self, reader: asyncio.StreamReader, sender: str, recipients: list[str]) -> str:
        data = bytearray(b"\r\n")
        while not data.endswith(b"\r\n.\r\n"):
            try:
                data += await reader.readuntil(b"\r\n")
            except asyncio.IncompleteReadError:
                self.unfinished += 1
                raise
        text = bytes(data)[2:-3].replace(b"\r\n.", b"\r\n")
        mail = Mail(sender, tuple(recipients), text.removeprefix(b"."))
        decided = self._decide("DOT", "") or "250 2.0.0 taken"
        if decided.startswith("2") or decided == "take+drop":
            self.taken.append(mail)
        if decided == "take+drop":
            self.doubtful.append(mail)
        return decided


class ScriptedBell:
    """What answers `POST /{tenant}/messages` in place of a bell: `answer` gets the message and
    gives status and body. As it comes, it adds a line to the message's end."""

    def __init__(self, answer: Callable[[bytes], tuple[int, bytes]] | None = None) -> None:
        self.answer = answer or friendly_answer
        self.asked: list[tuple[str, dict[str, str], bytes]] = []  # target, headers, message
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.path, headers, body))
                status, data = outer.answer(body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "ScriptedBell":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


TRACKED = b"tracked by a script\r\n"


def friendly_answer(message: bytes) -> tuple[int, bytes]:
    return told(message + TRACKED)


def told(message: bytes, email_id: int | None = 7, status: int = 201) -> tuple[int, bytes]:
    """An answer with a message."""
    body: dict[str, Any] = {
        "email_id": email_id,
        "tracking_pixel_url": None,
        "message": base64.b64encode(message).decode(),
        "report": {"tracked": [], "skipped": [], "problems": []},
    }
    return status, json.dumps(body).encode()


class Wire:
    """A raw client: bytes out, whole answers in."""

    def __init__(self, port: int, greet: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.socket.makefile("rb")
        if greet:
            assert self.read()[0] == 220

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> tuple[int, list[str]]:
        """The next answer: its code and its lines."""
        lines: list[str] = []
        while True:
            line = self.file.readline().decode("utf-8", "surrogateescape")
            assert line.endswith("\r\n"), f"the connection ended: {lines} {line!r}"
            lines.append(line[4:-2])
            if line[3] == " ":
                return int(line[:3]), lines

    def ask(self, line: str) -> tuple[int, list[str]]:
        self.send(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return self.read()

    def log_in(self, user: str = "acme", password: str = "any") -> None:
        assert self.ask("EHLO client.example")[0] == 250
        assert self.auth(user, password)[0] == 235

    def auth(self, user: str, password: str) -> tuple[int, list[str]]:
        secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        return self.ask(f"AUTH PLAIN {secret}")

    def begin(self, *recipients: str) -> None:
        """MAIL and RCPT."""
        assert self.ask("MAIL FROM:<ada@example.com>")[0] == 250
        for recipient in recipients or ("bob@example.com",):
            assert self.ask(f"RCPT TO:<{recipient}>")[0] == 250

    @property
    def closed(self) -> bool:
        """Whether nothing more comes. Waits for it."""
        try:
            return self.file.read() == b""
        except OSError:
            return True
