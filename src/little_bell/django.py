"""A Django email backend that tracks what another one sends.

EMAIL_BACKEND = "little_bell.django.EmailBackend"
LITTLE_BELL = {"URL": "https://bell.example", "TENANT": "acme", "KEY": "lb_..."}

Backends read messages in two ways: those for SMTP, files and the console call `message()`, those of
sending services read `body`, `alternatives` and `attachments`. The former is made of the latter, so
these are what is rewritten, on a copy, and every backend sends the tracked email. Signing in
`message()` comes after it.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from email.message import Message
from email.utils import parseaddr
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from little_bell.client import Client, Rewritten
from little_bell.client.messages import STEERING

SETTINGS = ("URL", "TENANT", "KEY", "BACKEND", "CAMPAIGN", "OPTIONS", "TIMEOUT")
NEEDED = ("URL", "TENANT")
SMTP = "django.core.mail.backends.smtp.EmailBackend"
YES = ("1", "true", "yes", "on")
FLAGS = ("_too", "_urls")  # how the names of options end that are true or false
MAX_SUBJECT, MAX_RECIPIENT = 998, 320  # the bell's own bounds

log = logging.getLogger("little_bell")


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]
    """Has the backend of LITTLE_BELL["BACKEND"] send tracked copies of messages.

    What a message says of itself, in `tracking` (a dict of `campaign`, `metadata`, `consent` and
    options; False: do not track) or in a header X-Little-Bell, goes before the settings.
    Afterwards its `tracked` is what became of it (`Rewritten`), or None. Whatever happens to the
    bell, messages are sent.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """All is for the other backend: `fail_silently`, `username`, a mailer's OPTIONS."""
        self.little_bell = read_settings()
        self.backend = import_string(self.little_bell.get("BACKEND") or SMTP)(*args, **kwargs)
        super().__init__()
        self.alias = kwargs.get("alias")

    def open(self) -> bool | None:
        opened: bool | None = self.backend.open()
        return opened

    def close(self) -> None:
        self.backend.close()

    def send_messages(self, email_messages: Sequence[Any]) -> int | None:
        """As the other backend: how many were sent."""
        messages = list(email_messages)
        copies = [self._tracked(message) for message in messages]
        kept = [dict(vars(one)) for one in copies]
        try:
            sent: int | None = self.backend.send_messages(copies)
            return sent
        finally:
            for message, before, after in zip(messages, kept, copies, strict=True):
                _tell(message, before, vars(after))

    def _tracked(self, message: Any) -> Any:
        """A copy that leads through the bell, or at least a copy."""
        twin = copy.copy(message)
        message.tracked = None
        try:
            about = self._about(message)
            twin.extra_headers = {
                name: value
                for name, value in message.extra_headers.items()
                if name.lower() != STEERING.lower()
            }
            if about is not None:
                message.tracked = self._rewrite(twin, about)
        except Exception as error:  # mail goes out, whatever happens
            log.warning("An email goes out untracked: %s", error)
            twin.body = message.body
            if hasattr(message, "alternatives"):
                twin.alternatives = message.alternatives
        return twin

    def _about(self, message: Any) -> dict[str, Any] | None:
        """What is to be said of a message, options too; None: it is not to be tracked."""
        own = getattr(message, "tracking", None)
        if own is False:
            return None
        about = {**self.little_bell.get("OPTIONS", {})}
        if self.little_bell.get("CAMPAIGN"):
            about["campaign"] = self.little_bell["CAMPAIGN"]
        for name, value in message.extra_headers.items():
            if name.lower() == STEERING.lower():
                about.update(read_steering(str(value)))
        if about.pop("track", "") == "none":
            return None
        return {**about, **own} if isinstance(own, Mapping) else about

    def _rewrite(self, twin: Any, about: Mapping[str, Any]) -> Rewritten | None:
        """Rewrite the HTML and the text of a message; None where it has no HTML."""
        alternatives = list(getattr(twin, "alternatives", None) or ())
        at = max((at for at, one in enumerate(alternatives) if one[1] == "text/html"), default=None)
        body = str(twin.body or "")
        if twin.content_subtype == "html":
            html, text, at = body, None, None
        elif at is not None and not isinstance(alternatives[at][0], bytes):
            html, text = str(alternatives[at][0]), body
        else:
            return None
        if not html.strip():
            return None
        to = twin.recipients()
        given = {
            "subject": str(twin.subject)[:MAX_SUBJECT],
            "recipient": parseaddr(str(to[0]))[1][:MAX_RECIPIENT] if len(to) == 1 else None,
            **about,
            "html": html,
            "text": text or None,
        }
        client = self.client
        rewritten = client.unless_resting(lambda: client.rewrite(**given))
        if rewritten.html is None or (text and rewritten.text is None):
            raise ValueError("the answer has not what was sent")
        if at is None:
            twin.body = rewritten.html
        else:
            twin.body = rewritten.text or twin.body
            alternatives[at] = _replaced(alternatives[at], rewritten.html)
            twin.alternatives = alternatives
        return rewritten

    @property
    def client(self) -> Client:
        """One for all backends of a process, so that connections are kept."""
        given = self.little_bell
        return client_of(given["URL"], given["TENANT"], given.get("KEY"), given.get("TIMEOUT", 5))


@lru_cache(maxsize=16)
def client_of(url: str, tenant: str, key: str | None, timeout: float) -> Client:
    return Client(url, tenant, key, timeout=timeout)


def read_settings() -> dict[str, Any]:
    """LITTLE_BELL, checked. Raises ImproperlyConfigured that names what is wrong."""
    given = getattr(settings, "LITTLE_BELL", None)
    if not isinstance(given, dict):
        raise ImproperlyConfigured("LITTLE_BELL is a dict with URL and TENANT at least")
    if missing := [name for name in NEEDED if not given.get(name)]:
        raise ImproperlyConfigured(f"LITTLE_BELL has no {' and no '.join(missing)}")
    if unknown := sorted(set(given) - set(SETTINGS)):
        raise ImproperlyConfigured(
            f"LITTLE_BELL has unknown {', '.join(unknown)}; known are {', '.join(SETTINGS)}"
        )
    try:
        client_of(given["URL"], given["TENANT"], given.get("KEY"), given.get("TIMEOUT", 5))
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"LITTLE_BELL: {error}") from None
    return given


def read_steering(value: str) -> dict[str, Any]:
    """What X-Little-Bell says: `campaign=spring; text_too=1`."""
    message = Message()
    message[STEERING] = " ".join(value.split())
    said = message.get_params([], STEERING)
    return {
        name.lower(): text.lower() in YES if name.lower().endswith(FLAGS) else text
        for name, text in said
        if name
    }


def _replaced(alternative: Any, html: str) -> Any:
    """An alternative of the same kind; Django has had tuples and named ones."""
    if hasattr(alternative, "_replace"):
        return alternative._replace(content=html)
    return (html, *tuple(alternative)[1:])


def _tell(message: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """What the other backend noted on the copy, as its identifier of it, stands on the message."""
    for name, value in after.items():
        if name not in before or before[name] is not value:
            setattr(message, name, value)
