"""Through the relay to a real Postfix: what is delivered is what was sent, tracked"""

import html
import os
import re
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from access import create_key
from bell import Bell, serving
from certificate import Certificate
from postfix import Postfix, as_sent, needs_postfix, postfix
from relays import Relay, relaying

pytestmark = needs_postfix
MAILS = sorted((Path(__file__).parent / "mails").glob("*.html"))

LINK = re.compile(rb"http://localhost:\d+(/acme/l/\d+/[\w-]+)")
PIXEL = re.compile(
    rb'<img src="http://localhost:\d+/acme/o/\d+/[\w-]+\.gif" width="1" height="1" alt="" />'
)


class Chain(NamedTuple):
    """A bell, a relay and a Postfix, and a key of acme."""

    bell: Bell
    relay: Relay
    postfix: Postfix
    key: str

    def client(self) -> smtplib.SMTP:
        return self.relay.client("acme", self.key)

    def deliver(self, message: bytes, *recipients: str) -> list[bytes]:
        """What arrives of a message, without the fields that Postfix adds; lines end with LF."""
        with self.client() as client:
            assert (
                client.sendmail("ada@example.com", recipients or ["b@example.com"], message) == {}
            )
        return [as_sent(mail)[0] for mail in self.postfix.delivered(len(recipients) or 1)]

    def restored(self, tracked: bytes) -> bytes:
        """A tracked mail without its pixel, its links leading where the bell says they lead."""

        def target(match: re.Match[bytes]) -> bytes:
            answer = self.bell.get(match[1].decode())
            assert answer.status == 302
            return html.escape(answer.headers["location"]).encode()

        text, count = PIXEL.subn(b"", tracked)
        assert count == 1
        return LINK.sub(target, text)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    certificate = Certificate(folder)
    with serving(folder) as bell, postfix(certificate.cert, certificate.key) as mx:
        key = create_key(bell, "acme")
        options = (f"--bell=http://127.0.0.1:{bell.port}", "--tls=required")
        settings = {"SSL_CERT_FILE": certificate.cert}
        with relaying(folder, f"smtp://127.0.0.1:{mx.port}", *options, **settings) as relay:
            yield Chain(bell, relay, mx, key)


def crlf(text: bytes) -> bytes:
    return re.sub(rb"\r?\n", b"\r\n", text)


HTML = b"""<html><body>
<p>Gr\xc3\xbc\xc3\x9fe <a href="https://example.com/a?x=1&amp;y=2">eins</a></p>
.
..
.a line that begins with a dot
<p>%s</p>
<a href='https://example.org/b'>zwei</a>
</body></html>
""" % (b"long " * 400)

MIXED = (
    b"""From: Ada <ada@example.com>
To: b@example.com
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
  folded  oddly
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_x"
X-Empty:

A preamble.
--=_x
Content-Type: multipart/alternative; boundary=y

--y
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Gr\xc3\xbc\xc3\x9fe https://example.com/text
--y
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

"""
    + HTML
    + b"""--y--
--=_x
Content-Type: application/octet-stream
Content-Disposition: attachment; filename="a.bin"
Content-Transfer-Encoding: base64

AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4
OTo7PD0+Pw==
--=_x--
An epilogue.  """
    + b"""
.

"""
)


def test_it_works(chain: Chain) -> None:
    [delivered] = chain.deliver(crlf(MIXED))
    assert len(LINK.findall(delivered)) == 2
    assert chain.restored(delivered) == MIXED
    [email] = chain.bell.ask(
        "GET", "/acme/emails?limit=1", headers={"Authorization": f"Bearer {chain.key}"}
    ).json["emails"]
    assert email["recipient"] == "b@example.com"
    assert email["clicks"] + email["machine_clicks"] == 2  # those of restored()


def test_several_recipients_get_one_copy_and_none_is_recorded(chain: Chain) -> None:
    one, other = chain.deliver(crlf(MIXED), "b@example.com", "c@example.com")
    assert one == other
    assert chain.restored(one) == MIXED
    email = int(re.findall(rb"/acme/o/(\d+)/", one)[0])
    assert chain.bell.rows("SELECT recipient FROM emails WHERE email = ?", email) == [(None,)]


def test_campaign_and_options_of_the_header(chain: Chain) -> None:
    steered = b"X-Little-Bell: campaign=spring;\r\n\ttext_too=1\r\n" + crlf(MIXED)
    [delivered] = chain.deliver(steered)
    assert len(LINK.findall(delivered)) == 3
    assert chain.restored(delivered) == MIXED


def test_swaks(chain: Chain, tmp_path: Path) -> None:
    if not shutil.which("swaks"):
        pytest.skip("needs swaks")
    # swaks takes a last dot for its own, and adds an empty line
    sent = MIXED.removesuffix(b".\n\n")
    (tmp_path / "mail.eml").write_bytes(sent)
    to_relay = ["swaks", "--server", f"127.0.0.1:{chain.relay.port}"]
    what = ["--auth-user", "acme", "--auth-password", chain.key, "--from", "ada@example.com"]
    what += ["--to", "b@example.com,c@example.com", "--data", f"@{tmp_path / 'mail.eml'}"]
    for mechanism in ("PLAIN", "LOGIN"):
        ran = subprocess.run(
            [*to_relay, "--auth", mechanism, *what],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        for mail in chain.postfix.delivered(2):
            assert chain.restored(as_sent(mail)[0]) == sent + b"\n"
    ran = subprocess.run(
        [*to_relay, "--to", "b@example.com"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "530 5.7.0" in ran.stdout


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_collected_mails_arrive_as_they_are(chain: Chain, path: Path) -> None:
    """What is not to be tracked is not touched by anybody on the way."""
    raw = b"Subject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + crlf(path.read_bytes())
    raw += b"" if raw.endswith(b"\r\n") else b"\r\n"
    [delivered] = chain.deliver(b"X-Little-Bell: track=none\r\n" + raw)
    assert crlf(delivered) == raw


def test_addresses_beyond_ascii(chain: Chain) -> None:
    message = EmailMessage(policy=policy.SMTPUTF8)
    message["From"], message["To"] = "jürgen@example.com", "zoë@example.com"
    message["Subject"] = "Grüße"
    message.set_content("<p><a href='https://example.com/ü'>x</a></p>", subtype="html", cte="8bit")
    with chain.client() as client:
        assert client.send_message(message) == {}
    [mail] = chain.postfix.delivered(1)
    sent, added = as_sent(mail)
    assert "Delivered-To: zoë@example.com\n".encode() in added
    assert "Subject: Grüße\n".encode() in sent
    rows = chain.bell.rows("SELECT recipient FROM emails ORDER BY email DESC LIMIT 1")
    assert rows == [("zoë@example.com",)]


def test_delivery_status_notifications(chain: Chain) -> None:
    with chain.client() as client:
        client.sendmail(
            "ada@example.com",
            ["b@example.com"],
            crlf(MIXED),
            ["ENVID=QQ314159", "RET=HDRS"],
            ["NOTIFY=SUCCESS", "ORCPT=rfc822;original@example.net"],
        )
    mails = [message_from_bytes(mail) for mail in chain.postfix.delivered(2)]
    [report] = [mail for mail in mails if mail.get_content_type() == "multipart/report"]
    text = report.as_string()
    assert "Original-Envelope-Id: QQ314159" in text
    assert "Original-Recipient: rfc822;original@example.net" in text
    assert "Action: delivered" in text
    assert "A preamble." not in text  # headers alone


@pytest.mark.parametrize(
    "lines",
    [
        ["MAIL FROM:<a@example.com> SIZE=30000000"],
        ["MAIL FROM:<a@example.com> RET=NONSENSE"],
        ["MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com> NOTIFY=NONSENSE"],
        ["MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com> NONSENSE=1"],
        ["MAIL FROM:<a@example.com>", "RCPT TO:<b@-->"],
    ],
)
def test_answers_are_postfix_own(chain: Chain, lines: list[str]) -> None:
    answers = []
    with smtplib.SMTP("127.0.0.1", chain.postfix.port, timeout=20) as direct:
        direct.ehlo("client.example")
        answers.append([direct.docmd(line) for line in lines])
    with chain.client() as client:
        client.ehlo("client.example")
        answers.append([client.docmd(line) for line in lines])
    assert answers[0] == answers[1]
    assert answers[0][-1][0] >= 400


def test_the_bell_dies_and_mail_arrives(chain: Chain) -> None:
    """The last one: the bell comes back on another port."""
    chain.bell.kill()
    steered = b"X-Little-Bell: campaign=spring\r\n" + crlf(MIXED)
    [delivered] = chain.deliver(steered)
    assert delivered == MIXED
    line = chain.relay.transactions()[-1]
    assert line["level"] == "WARN"
    assert urlsplit(f"http://127.0.0.1:{chain.bell.port}").netloc in line["fields"]["reason"]
    assert os.path.getsize(chain.relay.error_file) == 0
