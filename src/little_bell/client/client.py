"""A client of the API that tracks mail."""

import json
import logging
from base64 import b64decode
from collections.abc import Callable, Mapping
from email.message import Message
from time import monotonic
from typing import Any, TypeVar, Unpack

from little_bell.client import answers, messages
from little_bell.client.answers import Choices, Options, Rewritten, TextsAndOptions, Tracked
from little_bell.client.api import Api
from little_bell.client.messages import AnyMessage
from little_bell.errors import BellError

T = TypeVar("T")

REST = 3  # times as long as a failure took nothing is asked of the bell for the sake of a message

log = logging.getLogger("little_bell")


class Client(Api):
    """A tenant of a bell. One is enough for all threads of a program, and for its children.

    `track` and its like never raise for what the bell or the network does, other calls BellError.
    """

    _resting_until = 0.0  # monotonic seconds

    def track(self, message: AnyMessage, **choices: Unpack[Choices]) -> AnyMessage:
        """The message, tracked, to be sent instead. Whatever happens to the bell, it can be sent.

        Where it cannot be tracked the very object comes back (or a copy without X-Little-Bell),
        and the log "little_bell" has a warning. What is given is not changed.
        """
        return self.track_message(message, **choices).message

    def track_message(self, message: AnyMessage, **choices: Unpack[Choices]) -> Tracked[AnyMessage]:
        """The same, with what became of it."""
        if not isinstance(message, Message):
            raise TypeError("track takes an EmailMessage or a Message; track_bytes takes bytes")
        query = _query_of_choices(choices)
        try:
            raw = messages.to_bytes(message)
            tracked = self._track(raw, query)
            if tracked.error is None:
                same = tracked.message == raw
                sent = message if same else messages.with_bodies_of(tracked.message, message)
                return Tracked(sent, tracked.email_id, tracked.report)
            error = tracked.error
        except Exception as failure:  # mail goes out, whatever happens
            error = _untracked(failure)
        return Tracked(messages.without_steering(message), error=error)

    def track_bytes(self, message: bytes, **choices: Unpack[Choices]) -> Tracked[bytes]:
        """The same for a message in bytes. What cannot be tracked comes back byte for byte, but for
        X-Little-Bell."""
        if not isinstance(message, bytes):
            raise TypeError("track_bytes takes bytes")
        return self._track(message, _query_of_choices(choices))

    def rewrite(
        self,
        html: str | None = None,
        text: str | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        **about: Unpack[TextsAndOptions],
    ) -> Rewritten:
        """Register an email and get its HTML and text with links and pixel that are tracked.

        `dry_run` creates nothing.
        """
        options = {name: value for name, value in about.items() if name in Options.__annotations__}
        members: dict[str, object] = {k: v for k, v in about.items() if k not in options}
        members |= {"html": html, "text": text, "options": options}
        body = json.dumps({k: v for k, v in members.items() if v is not None}).encode("ascii")
        answer = self._post(
            "emails", body, idempotency_key, {"dry_run": 1 if dry_run else None}, room=6 * len(body)
        )
        return Rewritten(
            answers.read_id(answer),
            answers.text(answer, "tracking_pixel_url"),
            answers.text(answer, "html"),
            answers.text(answer, "text"),
            answers.read_report(answer),
        )

    def unless_resting(self, call: Callable[[], T]) -> T:
        """What `call` of this client returns, or BellError at once where such a call failed to be
        answered a moment ago: who sends a thousand emails must not wait a thousand times."""
        began = monotonic()
        if began < self._resting_until:
            raise BellError("the bell did not answer a moment ago, and is not asked yet")
        try:
            return call()
        except BellError as error:
            if error.status is None:
                self._resting_until = monotonic() + REST * (monotonic() - began)
            raise

    def _track(self, raw: bytes, query: Mapping[str, object]) -> Tracked[bytes]:
        """Never raises."""
        try:
            answer = self.unless_resting(
                lambda: self._post(
                    "messages", raw, None, query, "message/rfc822", room=6 * len(raw)
                )
            )
            email, report = answers.read_id(answer), answers.read_report(answer)
            try:
                message = b64decode(answers.text(answer, "message") or "", validate=True)
            except ValueError:
                raise BellError("the answer's message is broken base64") from None
            if not messages.same_mail(raw, message):
                raise BellError("the answer is another message")
            return Tracked(message, email, report)
        except Exception as failure:  # mail goes out, whatever happens
            return Tracked(messages.bytes_without_steering(raw), error=_untracked(failure))


def _untracked(failure: Exception) -> BellError:
    """Say that a message goes out as it came."""
    log.warning("An email goes out untracked: %s", failure)
    if isinstance(failure, BellError):
        return failure
    return BellError(f"the message could not be handled: {failure}")


def _query_of_choices(choices: Mapping[str, Any]) -> dict[str, object]:
    """Raises TypeError for what is no choice."""
    known = {*Options.__annotations__, "recipient", "campaign", "consent"}
    if unknown := set(choices) - known:
        raise TypeError(f"unknown: {', '.join(sorted(unknown))}; known are {sorted(known)}")
    return {
        name: int(value) if isinstance(value, bool) else value for name, value in choices.items()
    }
