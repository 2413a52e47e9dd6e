"""`track` and its like: mail goes out, tracked where it can be, and else as it came"""

import base64
import copy
import json
import logging
import re
import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest

from bell import Bell, fresh_tenant, serving
from little_bell import Client, Unreachable
from messages import Maker
from scripted import Act, answer, cut, drip, forward, raw, scripted

HTML = '<p>Hello <a href="https://example.com/?a=1&amp;b=2">shop</a></p>'
REPORT: dict[str, list[object]] = {"tracked": [], "skipped": [], "problems": []}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("bell")) as bell:
        yield bell


@pytest.fixture
def client(shared: Bell) -> Iterator[Client]:
    with Client(f"http://localhost:{shared.port}", fresh_tenant()) as client:
        yield client


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the library logs during a test."""
    said: list[str] = []

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Said(logging.WARNING)
    logging.getLogger("little_bell").addHandler(handler)
    yield said
    logging.getLogger("little_bell").removeHandler(handler)


def newsletter(kind: Any = policy.default, to: str = "Ada <ada@example.com>") -> Any:
    """An email with text, HTML, an image in it, and a file."""
    message: Any = EmailMessage(policy=kind)
    message["Subject"] = "Grüße, and a subject that is long enough to be folded somewhere, at last"
    message["From"] = "Shop <shop@example.com>"
    message["To"] = to
    message["List-Unsubscribe"] = f"<https://shop.example/unsubscribe?u={'7' * 90}>"
    message.set_content("Grüße: https://example.com/\n")
    message.add_alternative(HTML + "<p>Grüße</p>", subtype="html")
    html = message.get_payload()[1]
    html.add_related(b"\x89PNG\r\n\x1a\n", "image", "png", cid="<logo@example.com>")
    message.add_attachment(b"%PDF-1.7\r\n\0\xff", "application", "pdf", filename="bill ü.pdf")
    return message


def links_of(message: "Message[Any, Any]") -> list[str]:
    [html] = [part for part in message.walk() if part.get_content_type() == "text/html"]
    decoded = html.get_payload(decode=True)
    assert isinstance(decoded, bytes)
    return re.findall(r'(?:href|src)="([^"]+)"', decoded.decode("utf-8"))


def wire(message: "Message[Any, Any]") -> bytes:
    """What smtplib sends."""
    sent = []

    class Recorder(smtplib.SMTP):
        def __init__(self) -> None:
            self.esmtp_features = {"smtputf8": "", "8bitmime": ""}
            self.does_esmtp = True
            self.command_encoding = "ascii"

        def ehlo_or_helo_if_needed(self) -> None:
            pass

        def sendmail(self, *given: Any) -> dict[str, tuple[int, bytes]]:
            sent.append(given[2])
            return {}

    Recorder().send_message(message)
    [data] = sent
    assert isinstance(data, bytes)
    return data


# Tracked


def test_it_works(client: Client, shared: Bell, warnings: list[str]) -> None:
    message = newsletter()
    before = message.as_bytes()
    sent = client.track(message, campaign="spring")
    assert isinstance(sent, EmailMessage)
    assert message.as_bytes() == before
    assert warnings == []
    link, pixel = links_of(sent)
    for address in (link, pixel):
        shared.get("/" + address.split("/", 3)[3])
    assert sorted(one["kind"] for one in client.events()) == ["click", "open"]
    [click] = client.events(kind="click")
    assert (click["url"], click["label"]) == ("https://example.com/?a=1&b=2", "shop")
    email = client.email(1)
    assert (email["recipient"], email["campaign"]) == ("ada@example.com", "spring")
    assert email["subject"] == message["Subject"]


def test_what_became_of_it(client: Client) -> None:
    tracked = client.track_message(newsletter(), text_too=True, pixel="none")
    assert (tracked.email_id, tracked.error) == (1, None)
    assert tracked.report is not None
    assert [one["part"] for one in tracked.report["tracked"]] == ["text", "html"]
    assert len(links_of(tracked.message)) == 1


@pytest.mark.parametrize(
    "kind",
    [
        policy.default,
        policy.SMTP,
        policy.SMTPUTF8,
        policy.default.clone(cte_type="7bit", max_line_length=200),
        policy.default.clone(refold_source="all", linesep="\r\n"),
    ],
)
def test_nothing_else_changes(client: Client, kind: Any) -> None:
    message = newsletter(kind)
    before = message.as_bytes()
    tracked = client.track_bytes(before)
    sent = client.track(message)
    assert sent.policy is kind
    # The same but for the number of the email and what is signed with it.
    assert len(sent.as_bytes()) == len(tracked.message)
    end = kind.linesep.encode() * 2
    assert sent.as_bytes().partition(end)[0] == before.partition(end)[0]
    for one, other in zip(message.walk(), sent.walk(), strict=True):
        assert one.items() == other.items()
        if not one.is_multipart() and one.get_content_type() != "text/html":
            assert one.get_payload() == other.get_payload()
    # On the wire nothing is folded or encoded anew either.
    assert wire(sent) == re.sub(rb"\r?\n", b"\r\n", sent.as_bytes())


def test_addresses_that_need_utf_8(client: Client) -> None:
    message = newsletter(to="Bücher <bücher@exämple.com>")
    sent = client.track(message)
    assert sent is not message
    assert client.email(1)["recipient"] == "bücher@exämple.com"
    data, before = wire(sent), wire(message)
    assert "To: Bücher <bücher@exämple.com>\r\n".encode() in before
    assert data.partition(b"\r\n\r\n")[0] == before.partition(b"\r\n\r\n")[0]


def test_mail_as_it_was_made_long_ago(client: Client) -> None:
    message = MIMEMultipart("mixed")
    message["Subject"] = "Hello"
    message["To"] = "ada@example.com"
    both = MIMEMultipart("alternative")
    both.attach(MIMEText("Grüße", "plain", "utf-8"))
    both.attach(MIMEText(HTML, "html", "utf-8"))
    message.attach(both)
    message.attach(MIMEApplication(b"\0\xff"))
    sent = client.track(message)
    assert isinstance(sent, MIMEMultipart)
    assert len(links_of(sent)) == 2
    assert sent.policy is policy.compat32
    assert len(links_of(message)) == 1
    assert sent.items() == message.items()


def test_any_mail(client: Client, warnings: list[str]) -> None:
    """What goes through the standard library is the very mail that the bell makes of its bytes."""
    tracked = 0
    for seed in range(120):
        message = message_from_bytes(Maker(seed).message().raw, policy=policy.default)
        sent = client.track_message(message, text_too=True)
        assert sent.error is None
        if sent.report is not None and sent.report["tracked"]:
            tracked += 1
    assert warnings == []
    assert tracked > 20


def test_bytes(client: Client) -> None:
    message = newsletter(policy.SMTP).as_bytes()
    tracked = client.track_bytes(message, recipient="charlie@example.com", consent="aggregate")
    assert (tracked.email_id, tracked.error) == (1, None)
    assert tracked.message != message
    email = client.email(1)
    assert (email["recipient"], email["consent"]) == ("charlie@example.com", "aggregate")


def test_a_message_that_does_not_want_it(client: Client, warnings: list[str]) -> None:
    message = newsletter()
    message["X-Little-Bell"] = "track=none"
    tracked = client.track_message(message)
    assert (tracked.email_id, tracked.error, warnings) == (None, None, [])
    del message["X-Little-Bell"]
    assert tracked.message.as_bytes() == message.as_bytes()


def test_an_answer_that_got_lost_registers_nothing_twice(client: Client, shared: Bell) -> None:
    mail = newsletter(policy.SMTP).as_bytes()
    lost, passed = forward(shared.port, deliver=False), forward(shared.port)
    with scripted(lost, passed) as between, Client(between.url, client.tenant) as other:
        tracked = other.track_bytes(mail)
        assert (tracked.email_id, tracked.error) == (1, None)
    with scripted(lost, lost, passed) as between, Client(between.url, client.tenant) as other:
        assert other.rewrite(html=HTML).email_id == 2
    assert client.stats()["figures"]["sent"] == 2


def test_a_message_that_is_too_large(start_bell: Callable[..., Bell], warnings: list[str]) -> None:
    bell = start_bell(MAX_MESSAGE_BYTES="100000")
    message = newsletter()
    message.add_attachment(b"x" * 3_000_000, "application", "octet-stream")
    with Client(f"http://127.0.0.1:{bell.port}", "acme") as client:
        tracked = client.track_message(message)
        assert tracked.message is message
        assert tracked.error is not None
        assert tracked.error.status == 413
        assert client.track_message(newsletter()).email_id == 1


def test_8_threads(client: Client) -> None:
    ids: list[int | None] = []
    mail = newsletter(policy.SMTP).as_bytes()

    def send() -> None:
        ids.extend(client.track_bytes(mail).email_id for _ in range(15))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(ids) == set(range(1, 121))


def test_nothing_to_track(client: Client, warnings: list[str]) -> None:
    message = EmailMessage()
    message["To"] = "ada@example.com"
    message.set_content("https://example.com/")
    tracked = client.track_message(message)
    assert (tracked.email_id, tracked.error, warnings) == (1, None, [])
    assert tracked.message is message
    mail = message.as_bytes()
    assert client.track_bytes(mail).message == mail


def test_html_of_your_own(client: Client) -> None:
    dry = client.rewrite(html=HTML, text="https://example.com/", dry_run=True)
    assert dry.email_id is None
    made = client.rewrite(
        html=HTML, text="https://example.com/", subject="a", campaign="spring", text_too=True
    )
    assert made.email_id == 1
    assert made.html is not None
    assert made.text is not None
    assert made.html.count("/l/1/") == 1
    assert "/l/1/" in made.text
    assert [one["part"] for one in made.report["tracked"]] == ["html", "text"]
    assert client.email(1)["campaign"] == "spring"


# Untracked: it goes out all the same

NO_MAIL = json.dumps({"email_id": 1, "message": "", "report": REPORT}).encode()
OTHER = base64.b64encode(b"Subject: other\n\nmail\n").decode()
OTHER_MAIL = json.dumps({"email_id": 1, "message": OTHER, "report": REPORT}).encode()
HALF = base64.b64encode(newsletter().as_bytes()[:100]).decode()
HALF_MAIL = json.dumps({"email_id": 1, "message": HALF, "report": REPORT}).encode()


def hold(*_given: object) -> None:
    threading.Event().wait(2)


@pytest.mark.parametrize(
    "act",
    [
        cut,
        hold,
        drip(b"HTTP/1.1 201 Created\r\nX: " + b"x" * 60, 0.05),
        answer(500, b"{}"),
        answer(503, b"{}"),
        answer(401, b"{}"),
        answer(404, b"<html>", "text/html"),
        answer(413, b"{}"),
        answer(200, b"<html>Please log in</html>", "text/html"),
        answer(201, b"{}"),
        answer(201, NO_MAIL),
        answer(201, OTHER_MAIL),
        answer(201, HALF_MAIL),
        answer(201, NO_MAIL.replace(b'""', b'"a"')),
        answer(201, NO_MAIL.replace(b'""', b"7")),
        raw(b"220 mail.example ESMTP\r\n"),
        raw(b"HTTP/1.1 201 Created\r\nContent-Length: 9999\r\n\r\n{"),
        None,
    ],
)
def test_whatever_the_bell_does(act: Act | None, warnings: list[str]) -> None:
    message = newsletter()
    before = message.as_bytes()
    steered = copy.deepcopy(message)
    steered["X-Little-Bell"] = "campaign=spring"
    in_bytes = (
        b"Subject: a\r\nx-little-BELL: campaign=spring;\r\n\ttext_too=1\r\nTo: b\r\n\r\nc\r\n"
    )
    with scripted(act or cut) as bell, ExitStack() as closing:
        if act is None:
            bell.close()
        client = closing.enter_context(Client(bell.url, "acme", timeout=0.4, retries=1))
        sent = client.track_message(message)
        assert sent.message is message
        assert sent.error is not None
        assert (sent.email_id, sent.report) == (None, None)
        assert len(warnings) == 1
        assert client.track(message) is message
        assert client.track(steered).as_bytes() == before
        assert steered["X-Little-Bell"] == "campaign=spring"
        assert client.track_bytes(before).message is before
        assert client.track_bytes(in_bytes).message == b"Subject: a\r\nTo: b\r\n\r\nc\r\n"
        assert len(warnings) == 5
    assert message.as_bytes() == before
    assert all(said.startswith("An email goes out untracked: ") for said in warnings)


def test_a_bell_that_stalls_is_not_waited_for_each_time(warnings: list[str]) -> None:
    message = newsletter()
    with scripted(hold) as bell, Client(bell.url, "acme", timeout=0.5, retries=0) as client:
        began = time.monotonic()
        for _ in range(40):  # 20 seconds, if each one waited
            assert client.track(message) is message
        assert time.monotonic() - began < 15
        assert len(bell.requests) < 40
        with pytest.raises(Unreachable):
            client.create()  # other calls are their caller's
    assert len(warnings) == 40


def test_a_bell_that_comes_back_is_asked_again(shared: Bell, warnings: list[str]) -> None:
    with scripted(hold) as bell, Client(bell.url, fresh_tenant(), timeout=0.3) as client:
        assert client.track_message(newsletter()).error is not None
        bell.script[:] = [answer(500, b"{}")]
        until = time.monotonic() + 10
        while len(bell.requests) < 2 and time.monotonic() < until:
            client.track(newsletter())
            time.sleep(0.05)
        assert len(bell.requests) >= 2


def test_what_cannot_be_sent_anyhow(client: Client, warnings: list[str]) -> None:
    message = Message()
    message["Subject"] = "a"
    message.set_payload("Grüße \udfff")
    assert client.track(message) is message
    assert len(warnings) == 1


def test_what_callers_do_wrong(client: Client) -> None:
    with pytest.raises(TypeError, match="track_bytes"):
        client.track(b"Subject: a\n\nb")  # type: ignore[type-var]
    with pytest.raises(TypeError, match="bytes"):
        client.track_bytes("Subject: a\n\nb")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown: pixels"):
        client.track(newsletter(), pixels="top")  # type: ignore[call-arg]
