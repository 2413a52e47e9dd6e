"""Emails of the standard library as the bytes that are sent, and back."""

import copy
import re
from email import message_from_bytes
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy, Policy
from email.policy import compat32 as as_it_stands
from email.utils import getaddresses
from typing import Any, TypeVar

AnyMessage = TypeVar("AnyMessage", bound="Message[Any, Any]")

STEERING = "X-Little-Bell"
ENCODING = "Content-Transfer-Encoding"
LONGEST_HEAD = 1 << 20  # bytes in which a header is read
ADDRESSES = ("From", "Sender", "To", "Cc", "Bcc", "Reply-To")

_FIELD = re.compile(
    rb"^" + STEERING.encode() + rb"[ \t]*:.*(?:\r?\n[ \t].*)*(?:\r?\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_HEAD_END = re.compile(rb"^\r?\n", re.MULTILINE)


def policy_of(message: "Message[Any, Any]") -> "Policy[Any]":
    """How a message is written: as `smtplib.SMTP.send_message` would, hence with headers in UTF-8
    where an address needs them (RFC 6532)."""
    policy = message.policy
    if isinstance(policy, EmailPolicy) and not policy.utf8:
        fields = [str(field) for name in ADDRESSES for field in message.get_all(name, [])]
        if not all(address.isascii() for _, address in getaddresses(fields)):
            return policy.clone(utf8=True)
    return policy


def to_bytes(message: "Message[Any, Any]") -> bytes:
    """A message as it is sent; raises whatever the standard library does where it cannot be."""
    return message.as_bytes(policy=policy_of(message))


def with_bodies_of(raw: bytes, message: AnyMessage) -> AnyMessage:
    """A copy of a message with the bodies of `raw`, which is the same message but for these.

    So all of its headers are written as those of the message, by its own policy. Raises ValueError
    where it would be written as other bytes than `raw`.
    """
    twin = copy.deepcopy(message, {id(message.policy): message.policy})
    del twin[STEERING]
    parsed = message_from_bytes(raw, policy=message.policy)
    for part, new in zip(twin.walk(), parsed.walk(), strict=True):
        if part.is_multipart() or new.is_multipart():
            continue
        encoding = new.get(ENCODING)
        same = str(part.get(ENCODING, "")) == str(encoding or "")
        if same and _lines(part) == _lines(new):
            continue
        part.set_payload(_body(new))
        if encoding is not None and not same:
            del part[ENCODING]
            part[ENCODING] = str(encoding)
    if to_bytes(twin) != raw:
        raise ValueError("the standard library would write it as another message")
    return twin


def _body(part: "Message[Any, Any]") -> Any:
    """A body as it is written, in its transfer encoding: ASCII, or bytes."""
    body = part.get_payload()
    if isinstance(body, str) and not body.isascii():
        return part.get_payload(decode=True)  # not decoded, since there is nothing to be
    return body


def _lines(part: "Message[Any, Any]") -> list[bytes]:
    body = _body(part)
    return (body if isinstance(body, bytes) else str(body).encode("ascii")).splitlines()


def without_steering(message: AnyMessage) -> AnyMessage:
    """Without X-Little-Bell; the very object where it has none."""
    if STEERING not in message:
        return message
    message = copy.copy(message)
    del message[STEERING]  # gives the copy a list of headers of its own
    return message


def bytes_without_steering(raw: bytes) -> bytes:
    """The same for bytes."""
    found = _HEAD_END.search(raw)
    end = found.start() if found else len(raw)
    head = raw[:end]
    rest = _FIELD.sub(b"", head)
    return raw if rest == head else rest + raw[end:]


def same_mail(before: bytes, after: bytes) -> bool:
    """Whether the headers are the same, but for what rewriting may change in them."""
    return _headers(before) == _headers(after)


def _headers(raw: bytes) -> list[tuple[str, str]]:
    found = _HEAD_END.search(raw, 0, LONGEST_HEAD)
    head = raw[: found.end() if found else LONGEST_HEAD]  # of a body it would make lines, too
    message = BytesHeaderParser(policy=as_it_stands).parsebytes(head, headersonly=True)
    return [
        (name, str(value))
        for name, value in message.items()
        if name.lower() not in (STEERING.lower(), "content-transfer-encoding")
    ]
