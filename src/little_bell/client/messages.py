"""Emails of the standard library as the bytes that are sent, and back."""

import copy
import re
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy, Policy
from email.policy import compat32 as as_it_stands
from email.utils import getaddresses
from typing import TypeVar

# MIMEText and its like come back as Message, EmailMessage and what is made of it as EmailMessage.
AnyMessage = TypeVar("AnyMessage", EmailMessage, Message)

STEERING = "X-Little-Bell"
ADDRESSES = ("From", "Sender", "To", "Cc", "Bcc", "Reply-To")

_FIELD = re.compile(
    rb"^" + STEERING.encode() + rb"[ \t]*:.*(?:\r?\n[ \t].*)*(?:\r?\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_HEAD_END = re.compile(rb"^\r?\n", re.MULTILINE)


def policy_of(message: "Message") -> "Policy[Message]":
    """How a message is written: as `smtplib.SMTP.send_message` would, hence with headers in UTF-8
    where an address needs them (RFC 6532)."""
    policy = message.policy
    if isinstance(policy, EmailPolicy) and not policy.utf8:
        fields = [str(field) for name in ADDRESSES for field in message.get_all(name, [])]
        if not all(address.isascii() for _, address in getaddresses(fields)):
            return policy.clone(utf8=True)
    return policy


def to_bytes(message: "Message") -> bytes:
    """A message as it is sent; raises whatever the standard library does where it cannot be."""
    return message.as_bytes(policy=policy_of(message))


def from_bytes(raw: bytes, like: AnyMessage) -> AnyMessage:
    """A message that is written as these very bytes, with the policy of `like`.

    But for `refold_source`: headers stay folded as they are. Raises ValueError where the standard
    library would write other bytes.
    """
    policy = like.policy
    if isinstance(policy, EmailPolicy):
        policy = policy.clone(refold_source="none")
    kind = EmailMessage if isinstance(like, EmailMessage) else Message
    message: AnyMessage = message_from_bytes(raw, kind, policy=policy)
    if to_bytes(message) != raw:
        raise ValueError("the standard library reads and writes it as another message")
    return message


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
    message = BytesHeaderParser(policy=as_it_stands).parsebytes(raw, headersonly=True)
    return [
        (name, str(value))
        for name, value in message.items()
        if name.lower() not in (STEERING.lower(), "content-transfer-encoding")
    ]
