"""Who may send through the relay, with TLS and without it; its options"""

import os
import smtplib
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from access import ADMIN_KEY, command, create_key, revoke
from bell import Bell
from certificate import Certificate
from little_bell.config import Config
from little_bell.errors import StartError
from little_bell.relay import credentials
from little_bell.relay.settings import read_settings, read_upstream
from little_bell.store.reader import Reader
from relays import Relay, ScriptedUpstream, Wire, relaying

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as one:
        yield one


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[Relay]:
    """A relay without a database."""
    with relaying(tmp_path_factory.mktemp("shared"), upstream.url) as one:
        yield one


@pytest.fixture
def closed(bell: Bell) -> tuple[Bell, str]:
    """A bell that does not run any more, and the key of its tenant acme."""
    key = create_key(bell, "acme")
    bell.kill()
    return bell, key


def try_key(relay: Relay, user: str, key: str) -> int:
    with Wire(relay.port) as wire:
        wire.ask("EHLO client.example")
        return wire.auth(user, key)[0]


def test_keys_are_tried_while_the_bell_is_dead(
    closed: tuple[Bell, str], upstream: ScriptedUpstream
) -> None:
    bell, key = closed
    read = create_key(bell, "acme", "--role", "read")
    other = create_key(bell, "other")
    with relaying(bell.folder, upstream.url) as relay:
        assert try_key(relay, "acme", key) == 235
        for user, given in (
            ("acme", read),
            ("acme", other),
            ("other", key),
            ("acme", ""),
            ("acme", key[:-1]),
            ("", key),
            ("a/b", key),
        ):
            assert try_key(relay, user, given) == 535, (user, given)
        assert try_key(relay, "other", other) == 235
        assert try_key(relay, "open", "whatever") == 235
        with relay.client("acme", key) as client:
            client.sendmail("a@example.com", ["b@example.com"], MESSAGE)
        assert relay.transactions()[-1]["fields"]["tenant_id"] == "acme"


def test_a_revoked_key_sends_nothing_more(
    closed: tuple[Bell, str], upstream: ScriptedUpstream
) -> None:
    bell, key = closed
    with relaying(bell.folder, upstream.url) as relay, Wire(relay.port) as wire:
        wire.log_in("acme", key)
        wire.begin()
        assert wire.ask("RSET")[0] == 250
        revoke(bell, "acme", 1)
        assert wire.ask("MAIL FROM:<a@example.com>")[0] == 530
        assert wire.ask("RCPT TO:<b@example.com>")[0] == 503
        assert wire.auth("acme", key)[0] == 535
        assert try_key(relay, "acme", "any") == 535  # it stays closed


def test_a_file_that_rests_is_read_once(
    closed: tuple[Bell, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bell, key = closed
    opened: list[str] = []

    def reader(path: str) -> Reader:
        opened.append(path)
        return Reader(path)

    monkeypatch.setattr(credentials, "Reader", reader)
    tried = credentials.Credentials(Config({"DATABASE_URL": f"sqlite:{bell.database}"}))
    login = credentials.Login("acme", key, True)
    assert tried.admit(login)
    assert tried.admit(login)
    assert len(opened) == 2  # just after a change another one may have the same time
    for path in bell.database.parent.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    for _ in range(3):
        assert tried.admit(login)
    assert len(opened) == 3
    assert not tried.admit(login._replace(key="wrong"))
    revoke(bell, "acme", 1)
    assert not tried.admit(login)


def test_closed_to_all_but_the_admin(closed: tuple[Bell, str], upstream: ScriptedUpstream) -> None:
    bell, key = closed
    settings = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY}
    with relaying(bell.folder, upstream.url, **settings) as relay:
        assert try_key(relay, "open", "whatever") == 535
        assert try_key(relay, "acme", key) == 235
        assert try_key(relay, "open", ADMIN_KEY) == 235
        assert try_key(relay, "acme", ADMIN_KEY) == 235


def test_wrong_keys_are_slowed_down(closed: tuple[Bell, str], upstream: ScriptedUpstream) -> None:
    bell, key = closed
    with relaying(bell.folder, upstream.url) as relay:
        codes = [try_key(relay, "acme", "wrong") for _ in range(11)]
        assert codes == [535] * 10 + [454]
        assert try_key(relay, "acme", key) == 454
        assert try_key(relay, "another", "any") == 235  # on this machine


def test_wrong_keys_at_once_are_counted(
    closed: tuple[Bell, str], upstream: ScriptedUpstream
) -> None:
    secret = b64encode(b"\0acme\0wrong")
    with relaying(closed[0].folder, upstream.url) as relay, ExitStack() as stack:
        wires = [stack.enter_context(Wire(relay.port)) for _ in range(40)]
        for wire in wires:
            wire.ask("EHLO x")
        for wire in wires:
            wire.send(b"AUTH PLAIN " + secret + b"\r\n")
        codes = sorted(wire.read()[0] for wire in wires)
        assert codes == [454] * 30 + [535] * 10


def test_a_broken_database_opens_nothing(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tracking.db").write_bytes(b"this is no database" * 1000)
    with relaying(tmp_path, upstream.url) as relay:
        assert try_key(relay, "acme", "any") == 454


@pytest.mark.parametrize(
    "lines",
    [
        ["HELO x", "MAIL FROM:<a@example.com>"],
        ["EHLO x", "MAIL FROM:<a@example.com>"],
        ["EHLO x", "AUTH PLAIN AGFjbWUA!", "MAIL FROM:<a@example.com>"],
        ["EHLO x", "AUTH PLAIN " + b64encode(b"acme\0any").decode(), "MAIL FROM:<a@example.com>"],
        ["EHLO x", "AUTH PLAIN " + b64encode(b"boss\0acme\0any").decode(), "MAIL FROM:<a@b.com>"],
        ["EHLO x", "AUTH CRAM-MD5", "MAIL FROM:<a@example.com>"],
        ["HELO x", "AUTH PLAIN " + b64encode(b"\0_\0any").decode(), "MAIL FROM:<a@example.com>"],
        ["EHLO x", "AUTH LOGIN", "*", "MAIL FROM:<a@example.com>"],
        ["EHLO x", "AUTH", "MAIL FROM:<a@example.com> AUTH=<acme>"],
        ["MAIL FROM:<a@example.com>"],
    ],
)
def test_it_is_no_open_relay(shared: Relay, upstream: ScriptedUpstream, lines: list[str]) -> None:
    upstream.commands.clear()
    with Wire(shared.port) as wire:
        for line in lines:
            code, _ = wire.ask(line)
        assert code in (530, 503)
        assert wire.ask("RCPT TO:<b@example.com>")[0] == 503
        assert wire.ask("DATA")[0] == 503
        assert not any(line.startswith("MAIL") for line in upstream.commands)


def test_forms_of_auth(shared: Relay) -> None:
    def word(data: bytes) -> str:
        return b64encode(data).decode()

    plain = word(b"\0acme\0any")
    for lines, codes in (
        ([f"AUTH PLAIN {plain}"], [235]),
        ([f"auth plain {word(b'acme' + b64decode_(plain))}"], [235]),
        (["AUTH PLAIN", plain], [334, 235]),
        (["AUTH LOGIN", word(b"acme"), word(b"any")], [334, 334, 235]),
        ([f"AUTH LOGIN {word(b'acme')}", word(b"any")], [334, 235]),
        ([f"AUTH PLAIN {plain}", f"AUTH PLAIN {plain}"], [235, 503]),
        (["AUTH PLAIN", "x" * 100_000], [334, 500]),
    ):
        with Wire(shared.port) as wire:
            wire.ask("EHLO x")
            assert [wire.ask(line)[0] for line in lines] == codes


def b64decode_(text: str) -> bytes:
    from base64 import b64decode

    return b64decode(text)


# From another machine: an address of this one that is not loopback stands for it.


def own_address() -> str:
    """An address of this machine that others may reach; nothing where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return ""
        found: str = probe.getsockname()[0]
        return "" if found.startswith("127.") else found


ADDRESS = own_address()
elsewhere = pytest.mark.skipif(not ADDRESS, reason="this machine has no address but loopback's")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


def test_tls_for_clients(
    closed: tuple[Bell, str], upstream: ScriptedUpstream, certificate: Certificate
) -> None:
    bell, key = closed
    options = (f"--tls-cert={certificate.cert}", f"--tls-key={certificate.key}")
    with relaying(bell.folder, upstream.url, *options) as relay:
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=20) as client:
            client.ehlo()
            assert client.has_extn("starttls")
            client.starttls(context=certificate.client())
            client.ehlo()
            assert not client.has_extn("starttls")
            client.login("acme", key)
            for n in range(2):
                client.sendmail("a@example.com", ["b@example.com"], MESSAGE + b"%d\r\n" % n)
        assert [mail.data[-3:] for mail in upstream.taken[-2:]] == [b"0\r\n", b"1\r\n"]
        assert relay.stop() == 0
        assert relay.error_file.read_text() == ""


def test_what_came_before_tls_is_forgotten(
    tmp_path: Path, upstream: ScriptedUpstream, certificate: Certificate
) -> None:
    """Commands behind STARTTLS in its packet (CVE-2011-0411); a login and a message from before."""
    options = (f"--tls-cert={certificate.cert}", f"--tls-key={certificate.key}")
    with relaying(tmp_path, upstream.url, *options) as relay:
        wire = Wire(relay.port)
        wire.log_in()
        wire.begin()
        wire.send(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<injected@example.com>\r\n")
        assert wire.read()[0] == 220
        wire.file.close()
        with certificate.client().wrap_socket(wire.socket, server_hostname="localhost") as secure:
            secure.sendall(b"MAIL FROM:<a@example.com>\r\n")
            assert secure.recv(100)[:3] == b"503"  # not even EHLO was said
            for line in (b"RCPT TO:<b@example.com>\r\n", b"DATA\r\n"):
                secure.sendall(line)
                assert secure.recv(100)[:3] == b"503"
            secure.sendall(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\n")
            text = b""
            while b"\r\n530" not in text:
                text += secure.recv(1000)


def test_who_speaks_no_tls_is_no_fault(
    tmp_path: Path, upstream: ScriptedUpstream, certificate: Certificate
) -> None:
    options = (f"--tls-cert={certificate.cert}", f"--tls-key={certificate.key}")
    with relaying(tmp_path, upstream.url, *options) as relay:
        with Wire(relay.port) as wire:
            wire.ask("EHLO x")
            assert wire.ask("STARTTLS")[0] == 220
            wire.send(b"GET / HTTP/1.1\r\n\r\n")
            assert wire.socket.recv(1) in (b"", b"\x15")  # nothing, or TLS's own alert
        with relay.client():
            pass
        assert relay.stop() == 0
        assert {line["level"] for line in relay.lines()} <= {"INFO", "WARN"}
        assert relay.error_file.read_text() == ""


@elsewhere
def test_others_log_in_within_tls_alone(
    closed: tuple[Bell, str], upstream: ScriptedUpstream, certificate: Certificate
) -> None:
    bell, key = closed
    options = (f"--tls-cert={certificate.cert}", f"--tls-key={certificate.key}")
    listen = "--listen=0.0.0.0:0"
    context = certificate.client()
    context.check_hostname = False
    with relaying(bell.folder, upstream.url, *options, listen) as relay:
        with smtplib.SMTP(ADDRESS, relay.port, timeout=20) as client:
            client.ehlo()
            assert not client.has_extn("auth")
            assert client.docmd("AUTH", "PLAIN x")[0] == 538
            client.starttls(context=context)
            client.login("acme", key)
            assert client.sendmail("a@example.com", ["b@example.com"], MESSAGE) == {}
        with smtplib.SMTP(ADDRESS, relay.port, timeout=20) as client:
            client.starttls(context=context)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("open", "whatever")  # such tenants are this machine's alone
            for _ in range(5):
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    client.login("acme", "wrong")  # each by two mechanisms
            with pytest.raises(smtplib.SMTPAuthenticationError) as slowed:
                client.login("acme", key)
            assert slowed.value.smtp_code == 454
    with relaying(bell.folder, upstream.url, listen) as relay:
        assert any("Nobody but this machine" in line["message"] for line in relay.lines())


@pytest.mark.parametrize(
    ("offered", "tls", "trusted", "secure"),
    [
        (True, "", False, True),  # whoever answers
        (True, "starttls", False, True),
        (True, "none", True, False),
        (False, "starttls", True, False),
        (True, "required", True, True),
        (True, "required", False, None),
        (False, "required", True, None),
    ],
)
def test_tls_towards_the_upstream(
    tmp_path: Path,
    certificate: Certificate,
    offered: bool,
    tls: str,
    trusted: bool,
    secure: bool | None,
) -> None:
    settings = {"SSL_CERT_FILE": certificate.cert} if trusted else {}
    with ScriptedUpstream(tls=certificate.server() if offered else None) as upstream:
        url = f"smtp://user%40example:p%2Fw@127.0.0.1:{upstream.port}"
        with relaying(tmp_path, url, *([f"--tls={tls}"] if tls else []), **settings) as relay:
            with Wire(relay.port) as wire:
                wire.log_in()
                code, [text] = wire.ask("MAIL FROM:<a@example.com>")
            if secure is None:
                assert (code, text[:5]) == (451, "4.7.4")
                assert "AUTH" not in upstream.commands
            else:
                assert code == 250
                assert "AUTH" in upstream.commands
                assert upstream.secure == [secure]


@pytest.mark.parametrize("trusted", [True, False])
def test_an_upstream_within_tls_from_the_start(
    tmp_path: Path, certificate: Certificate, trusted: bool
) -> None:
    settings = {"SSL_CERT_FILE": certificate.cert} if trusted else {}
    with ScriptedUpstream(tls=certificate.server(), implicit=True) as upstream:
        url = f"smtps://user:password@localhost:{upstream.port}"
        with relaying(tmp_path, url, **settings) as relay, Wire(relay.port) as wire:
            wire.log_in()
            code, [text] = wire.ask("MAIL FROM:<a@example.com>")
            assert (code, text[:5]) == ((250, "2.1.0") if trusted else (451, "4.7.4"))
            assert upstream.secure == [True] * trusted


def test_an_upstream_that_does_not_know_us(tmp_path: Path) -> None:
    def script(verb: str, _argument: str, _count: int) -> str | None:
        return "535 5.7.8 who are you" if verb == "AUTH" else None

    with ScriptedUpstream(script) as upstream:
        url = f"smtp://user:password@127.0.0.1:{upstream.port}"
        with relaying(tmp_path, url) as relay, Wire(relay.port) as wire:
            wire.log_in()
            code, [text] = wire.ask("MAIL FROM:<a@example.com>")
            assert (code, text[:5]) == (451, "4.3.5")


# Options.


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("", ""),
        ("smtp.example.com", ""),
        ("http://smtp.example.com", ""),
        ("smtp://", ""),
        ("smtp://smtp.example.com:x", ""),
        ("smtp://smtp.example.com:99999", ""),
        ("smtp://smtp.example.com/path", ""),
        ("smtp://user@smtp.example.com", ""),
        ("smtp://:secret-word@smtp.example.com", ""),
        ("smtp://user:secret-word@smtp.example.com", "none"),
        ("smtp://user:secret-word@smtp.example.com", "starttls"),
        ("smtps://smtp.example.com", "none"),
        ("smtp://smtp.example.com", "maybe"),
        ("smtp://smtp.exa\nmple.com", ""),
    ],
)
def test_wrong_upstreams(url: str, tls: str) -> None:
    with pytest.raises(StartError) as wrong:
        read_settings({"--upstream": url, "--tls": tls}, "http://127.0.0.1:3000", 1 << 20)
    assert "secret" not in str(wrong.value)
    assert len(str(wrong.value).splitlines()) == 1


def test_tls_that_is_meant() -> None:
    assert read_upstream("smtp://user:p@smtp.example.com:587", "").tls == "required"
    assert read_upstream("smtp://user:p@127.0.0.1:587", "").tls == "starttls"
    assert read_upstream("smtp://smtp.example.com", "").tls == "starttls"
    assert read_upstream("smtp://smtp.example.com", "").port == 25
    found = read_upstream("smtps://us%40er:p%3Aw@[::1]", "")
    assert (found.host, found.port, found.user, found.password) == ("::1", 465, "us@er", "p:w")
    assert found.implicit_tls


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--listen", "2525"),
        ("--listen", "127.0.0.1:"),
        ("--listen", ":25"),
        ("--listen", "127.0.0.1:99999"),
        ("--bell", "127.0.0.1:3000"),
        ("--bell", "ftp://127.0.0.1"),
        ("--max-size", "1"),
        ("--max-size", "10M"),
        ("--tls-cert", "cert.pem"),
        ("--tls-key", "key.pem"),
    ],
)
def test_wrong_options(option: str, value: str) -> None:
    values = {"RELAY_UPSTREAM": "smtp://smtp.example.com", option: value}
    with pytest.raises(StartError, match=option):
        read_settings(values, "http://127.0.0.1:3000", 1 << 20)


def test_what_ends_the_start(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
        return subprocess.run(
            [sys.executable, "-m", "little_bell", "relay", *arguments],
            cwd=tmp_path,
            env=inherited,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, code, said in (
            ((), 3, "--upstream is missing"),
            (("--upstream=smtp://127.0.0.1:2525",), 3, "listens"),
            (("--upstream=smtp://h", f"--listen=127.0.0.1:{port}"), 3, f"127.0.0.1:{port}"),
            (("--upstream=smtp://h", "--tls-cert=none.pem", "--tls-key=none.pem"), 3, "--tls-cert"),
            (("--upstream=smtp://h", "--per-recipient=maybe"), 3, "--per-recipient"),
            (("--upstream",), 2, "--upstream"),
        ):
            ended = run(*arguments)
            assert (ended.returncode, ended.stdout) == (code, ""), ended
            assert said in ended.stderr
            assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_the_commands_help_lists_it(start_bell: Callable[..., Bell]) -> None:
    shown = command(start_bell(), "help", "relay").stdout
    assert "RELAY_UPSTREAM" in shown
    assert "--per-recipient" in shown
