"""The Django backend: around backends that send messages, and around those that read attributes"""

import copy
import email
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

if not settings.configured:
    settings.configure(EMAIL_BACKEND="little_bell.django.EmailBackend", DEFAULT_CHARSET="utf-8")

from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.test.utils import override_settings

from bell import Bell, fresh_tenant, serving
from little_bell import Client
from little_bell.django import EmailBackend, client_of, read_steering
from scripted import answer, cut, scripted

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
HTML = '<p>Hello <a href="https://example.com/?a=1&amp;b=2">shop</a></p>'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("bell")) as bell:
        yield bell


@pytest.fixture
def tenant(shared: Bell) -> Iterator[str]:
    """The settings are those of a tenant of its own, the mail is in `mail.outbox`."""
    name = fresh_tenant()
    with little_bell(f"http://127.0.0.1:{shared.port}", name):
        yield name
        EmailBackend().client.close()
    client_of.cache_clear()


@pytest.fixture
def client(shared: Bell, tenant: str) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{shared.port}", tenant) as client:
        yield client


def little_bell(url: str, tenant: str = "acme", **more: Any) -> Any:
    mail.outbox = []
    return override_settings(LITTLE_BELL={"URL": url, "TENANT": tenant, "BACKEND": LOCMEM, **more})


def changed(**more: Any) -> Any:
    """The settings with some more."""
    return override_settings(LITTLE_BELL={**settings.LITTLE_BELL, **more})


def newsletter(to: Sequence[str] = ("Ada <ada@example.com>",), **given: Any) -> Any:
    message = EmailMultiAlternatives(
        "Grüße", "See https://example.com/", "shop@example.com", to, **given
    )
    message.attach_alternative(HTML, "text/html")
    message.attach("bill.pdf", b"%PDF\0\xff", "application/pdf")
    return message


def html_of(message: Any) -> str:
    [found] = [content for content, kind in message.alternatives if kind == "text/html"]
    assert isinstance(found, str)
    return found


def test_it_works(client: Client) -> None:
    message = newsletter(cc=[])
    assert message.send() == 1
    [sent] = mail.outbox
    assert "/l/1/" in html_of(sent)
    assert f"/{client.tenant}/o/1/" in html_of(sent)
    assert (sent.subject, sent.body, sent.to) == (message.subject, message.body, message.to)
    assert sent.attachments == message.attachments
    row = client.email(1)
    assert (row["subject"], row["recipient"]) == ("Grüße", "ada@example.com")
    assert message.tracked.email_id == 1
    assert [one["label"] for one in message.tracked.report["tracked"]] == ["shop"]


def test_the_message_given_is_not_changed(client: Client) -> None:
    message = newsletter(headers={"X-Little-Bell": "campaign=spring", "X-Other": "a"})
    before = copy.deepcopy(vars(message))
    message.send()
    after = {**vars(message)}
    assert after.pop("tracked").email_id == 1
    assert after.pop("connection").backend
    before.pop("connection")
    assert after == before
    assert html_of(message) == HTML
    [sent] = mail.outbox
    assert sent.extra_headers == {"X-Other": "a"}
    assert message.send() == 1  # and again, as another email
    assert message.tracked.email_id == 2


def test_send_mail_and_send_mass_mail(client: Client) -> None:
    assert mail.send_mail("a", "text", None, ["ada@example.com"], html_message=HTML) == 1
    plain = ("b", "https://example.com/", None, ["bob@example.com"])
    assert mail.send_mass_mail([plain, plain]) == 2
    assert ["/l/1/" in str(getattr(one, "alternatives", "")) for one in mail.outbox] == [
        True,
        False,
        False,
    ]
    assert [one["email_id"] for one in client.emails()] == [1]  # text alone is not tracked


def test_a_body_that_is_html(client: Client) -> None:
    message = EmailMessage("a", HTML, None, ["ada@example.com"])
    message.content_subtype = "html"
    message.send()
    [sent] = mail.outbox
    assert "/l/1/" in sent.body
    assert message.body == HTML


def test_what_a_message_says_of_itself(client: Client) -> None:
    with changed(CAMPAIGN="all", OPTIONS={"pixel": "none", "text_too": True}):
        newsletter().send()
        first = newsletter(headers={"x-little-bell": 'campaign="a; b"; pixel=top; text_too=0'})
        first.send()
        second = newsletter()
        second.tracking = {"campaign": "own", "metadata": {"order": "7"}, "consent": "aggregate"}
        second.send()
    assert [one["campaign"] for one in client.emails()] == ["own", "a; b", "all"]
    own = client.email(3)
    assert (own["metadata"], own["consent"]) == ({"order": "7"}, "aggregate")
    assert ["/o/" in html_of(one) for one in mail.outbox] == [False, True, False]
    assert ["/l/" in one.body for one in mail.outbox] == [True, False, True]


def test_what_is_not_to_be_tracked(client: Client) -> None:
    client.create()
    by_attribute = newsletter()
    by_attribute.tracking = False
    assert (
        mail.get_connection().send_messages(
            [by_attribute, newsletter(headers={"X-Little-Bell": "track=none"})]
        )
        == 2
    )
    assert [html_of(one) for one in mail.outbox] == [HTML, HTML]
    assert [one.extra_headers for one in mail.outbox] == [{}, {}]
    assert by_attribute.tracked is None
    assert len(list(client.emails())) == 1


def test_several_recipients_share_an_email(client: Client) -> None:
    newsletter(["ada@example.com", "bob@example.com"]).send()
    newsletter(bcc=["carol@example.com"]).send()
    assert [one["recipient"] for one in client.emails()] == [None, None]


def test_the_last_html_is_what_people_see(client: Client) -> None:
    message = newsletter()
    message.attach_alternative("<html amp4email>" + HTML, "text/x-amp-html")
    message.send()
    [sent] = mail.outbox
    assert [kind for _, kind in sent.alternatives] == ["text/html", "text/x-amp-html"]
    assert sent.alternatives[1][0] == "<html amp4email>" + HTML
    assert b"/l/1/" in sent.message().as_bytes().replace(b"=\n", b"")


def test_files(client: Client, tmp_path: Path) -> None:
    """Around a backend that sends `message()`."""
    with (
        changed(BACKEND="django.core.mail.backends.filebased.EmailBackend"),
        get_connection(file_path=str(tmp_path)) as connection,
    ):
        assert connection.send_messages([newsletter(), newsletter()]) == 2
    [file] = tmp_path.iterdir()
    first = email.message_from_bytes(file.read_bytes().split(b"-" * 79)[0])
    [html] = [part for part in first.walk() if part.get_content_type() == "text/html"]
    decoded = html.get_payload(decode=True)
    assert isinstance(decoded, bytes)
    assert b"/l/1/" in decoded
    assert first["Subject"] == "=?utf-8?b?R3LDvMOfZQ==?="


class Service(BaseEmailBackend):  # type: ignore[misc]
    """As backends of sending services: reads attributes, and notes on messages what became of
    them."""

    log: list[Any] = []  # noqa: RUF012 - emptied by its test

    def open(self) -> bool:
        self.log.append("open")
        return True

    def close(self) -> None:
        self.log.append("close")

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        for number, message in enumerate(email_messages):
            self.log.append((message.body, message.alternatives[0][0]))
            message.service_status = f"sent {number}"
            if message.subject == "bad":
                if self.fail_silently:
                    return number
                raise OSError("refused")
        return len(email_messages)


def test_sending_services(client: Client) -> None:
    Service.log.clear()
    with changed(BACKEND="test_django.Service"):
        with get_connection() as connection:
            first, bad, last = newsletter(), newsletter(), newsletter()
            bad.subject = "bad"
            assert connection.send_messages([first, last]) == 2
            with pytest.raises(OSError, match="refused"):
                connection.send_messages([first, bad, last])
        assert get_connection(fail_silently=True).send_messages([first, bad, last]) == 1
    assert (Service.log[0], Service.log[5]) == ("open", "close")
    assert "/l/1/" in Service.log[1][1]
    assert (first.service_status, last.service_status) == ("sent 0", "sent 1")
    assert html_of(first) == HTML


@pytest.mark.parametrize("status", [None, 500, 400, 201])
def test_whatever_the_bell_does(status: int | None, caplog: pytest.LogCaptureFixture) -> None:
    act = cut if status is None else answer(status, b"{}")
    with scripted(act) as bell, little_bell(bell.url, TIMEOUT=0.4, CAMPAIGN="a"):
        message = newsletter(headers={"X-Little-Bell": "text_too=1"})
        with caplog.at_level(logging.WARNING, "little_bell"):
            assert message.send() == 1
        EmailBackend().client.close()
    [sent] = mail.outbox
    assert (html_of(sent), sent.body) == (HTML, "See https://example.com/")
    assert sent.extra_headers == {}
    assert message.tracked is None
    assert "An email goes out untracked" in caplog.text
    client_of.cache_clear()


def test_a_bell_that_stalls_is_not_waited_for_each_time() -> None:
    def hold(*_given: object) -> None:
        threading.Event().wait(1)

    with scripted(hold) as bell, little_bell(bell.url, TIMEOUT=0.3):
        assert get_connection().send_messages([newsletter() for _ in range(40)]) == 40
        assert len(bell.requests) < 40
        EmailBackend().client.close()
    assert len(mail.outbox) == 40
    client_of.cache_clear()


def test_a_wrong_option_keeps_no_mail_back(client: Client) -> None:
    message = newsletter()
    message.tracking = {"pixels": "top", "campaign": object()}
    assert message.send() == 1
    assert message.tracked is None


def test_one_connection_for_many_backends(shared: Bell, client: Client) -> None:
    before = shared.metrics()["connections_total"]
    for _ in range(4):
        mail.send_mail("a", "b", None, ["ada@example.com"], html_message=HTML)
    client.create()
    assert EmailBackend().client is EmailBackend().client
    assert shared.metrics()["connections_total"] - before <= 4 + 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "is a dict"),
        ({}, "has no URL and no TENANT"),
        ({"URL": "http://localhost", "TENANT": ""}, "has no TENANT"),
        ({"URL": "localhost", "TENANT": "acme"}, "URL is http"),
        ({"URL": "http://localhost", "TENANT": "a/b"}, "tenant"),
        ({"URL": "http://localhost", "TENANT": "a", "KEY": "lb key"}, "key is empty, or"),
        ({"URL": "http://localhost", "TENANT": "a", "TIMEOUT": "x"}, "LITTLE_BELL"),
        ({"URL": "http://localhost", "TENANT": "a", "URI": 1}, "unknown URI"),
    ],
)
def test_wrong_settings(given: Any, said: str) -> None:
    with override_settings(LITTLE_BELL=given), pytest.raises(ImproperlyConfigured, match=said):
        get_connection()


def test_steering() -> None:
    assert read_steering("track=none; campaign=spring") == {"track": "none", "campaign": "spring"}
    assert read_steering('Text_Too=1; pixel=top;\n campaign="a; b"') == {
        "text_too": True,
        "pixel": "top",
        "campaign": "a; b",
    }
    assert read_steering("") == {}
