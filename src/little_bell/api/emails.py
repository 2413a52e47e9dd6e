"""`POST /{tenant}/emails`: what a sender says of an email, checked."""

import json

from little_bell.errors import Refused
from little_bell.tracking import signing
from little_bell.tracking.addresses import Addresses
from little_bell.tracking.email import Change, NewEmail, Once
from little_bell.tracking.privacy import CONSENTS, FULL, trimmed

# Characters. 998 is a header line's limit (RFC 5322 2.1.1), 320 the longest address's.
MAX_TEXT = {"subject": 998, "recipient": 320, "campaign": 128}
MEMBERS = (*MAX_TEXT, "metadata", "consent")
REWRITTEN = frozenset(("html", "text", "options"))  # members of an email that is to be rewritten
MAX_METADATA = 50  # members
MAX_NAME = 64
MAX_VALUE = 1024
MAX_KEY = 255  # bytes of an Idempotency-Key

NO_EMAILS = "the body holds no emails"
NDJSON_TYPES = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")


def is_ndjson(content_type: bytes) -> bool:
    """Whether a Content-Type says newline-delimited JSON (https://github.com/ndjson)."""
    return content_type.partition(b";")[0].strip().lower() in NDJSON_TYPES


def clean(text: object, field: str, limit: int) -> str:
    """A text that can be stored: UTF-8 without NUL, lone surrogates replaced.

    Raises Refused (400) that names the field.
    """
    if not isinstance(text, str):
        raise Refused(400, f"{field} is not a string", field)
    if len(text) > limit:
        raise Refused(400, f"{field} is longer than {limit} characters", field)
    if "\0" in text:
        raise Refused(400, f"{field} holds a NUL character", field)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def read_json(text: bytes, what: str) -> object:
    """The value of a JSON text, which is called `what` in messages. Raises Refused (400)."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=refuse_constant)
    except UnicodeDecodeError:
        raise Refused(400, f"{what} is not UTF-8") from None
    except RecursionError:
        raise Refused(400, f"{what} is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"{what} is not JSON: {error}") from None


def read_object(body: bytes) -> dict[str, object]:
    """The JSON object of a body; an empty body is an empty object. Raises Refused (400)."""
    if not body.strip():
        return {}
    value = read_json(body, "the body")
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def read_once(headers: dict[bytes, bytes], digest: bytes) -> Once | None:
    """The request's Idempotency-Key, if it has one; `digest` is the SHA-256 of its body.

    Raises Refused (400).
    """
    key = headers.get(b"idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY:
        raise Refused(400, f"the Idempotency-Key is empty or longer than {MAX_KEY} bytes")
    return Once(signing.digest(key)[:16], digest[:16])


def parse_email(tenant: str, body: bytes, once: Once | None = None) -> NewEmail:
    """One new email from a request's body. Raises Refused (400) that names the field at fault."""
    return read_email(tenant, read_object(body), once)


def created(base: str, addresses: Addresses, tenant: str, email: int) -> dict[str, object]:
    """What the answer says of an email; `base` is BASE_URL."""
    return {"email_id": email, "tracking_pixel_url": base + addresses.pixel(tenant, email)}


def where(prefix: str, tenant: str, email: int) -> tuple[tuple[str, str], ...]:
    """The header that says where a new email is; `prefix` is BASE_URL's path."""
    return (("Location", f"{prefix}/{tenant}/emails/{email}"),)


def described(
    email: int,
    subject: str | None,
    recipient: str | None,
    campaign: str | None,
    metadata: str | None,
    consent: int,
) -> dict[str, object]:
    """What answers say of an email's texts; `metadata` is JSON."""
    return {
        "email_id": email,
        "subject": subject,
        "recipient": recipient,
        "campaign": campaign,
        "metadata": None if metadata is None else json.loads(metadata),
        "consent": CONSENTS[consent],
    }


def read_texts(members: dict[str, object]) -> dict[str, str | None]:
    """The members of an email but for its consent, checked; only those that are given.

    Raises Refused (400) that names the field at fault.
    """
    texts: dict[str, str | None] = {}
    for name, value in members.items():
        if name in MAX_TEXT:
            texts[name] = None if value is None else clean(value, name, MAX_TEXT[name]) or None
            if name == "recipient":  # as those who opt out are compared
                texts[name] = trimmed(texts[name] or "") or None
        elif name == "metadata":
            texts[name] = None if value is None else read_metadata(value)
        elif name != "consent":
            known = ", ".join(MEMBERS)
            shown = clean(name[:MAX_NAME].replace("\0", " "), "name", MAX_NAME)
            raise Refused(400, f"unknown field {shown!r}; known are {known}", shown)
    return texts


def read_email(tenant: str, members: dict[str, object], once: Once | None = None) -> NewEmail:
    """One new email from its members. Raises Refused (400) that names the field at fault."""
    texts = read_texts(members)
    subject, recipient, campaign = (texts.get(name) for name in MAX_TEXT)
    metadata, consent = texts.get("metadata"), read_consent(members)
    return NewEmail(tenant, subject, recipient, campaign, metadata, once, consent)


def parse_change(body: bytes) -> Change:
    """New values of an email from a request's body: what is not named stays, null takes away.

    Raises Refused (400).
    """
    members = read_object(body)
    texts = read_texts(members)
    if not members:
        raise Refused(400, f"nothing to change; known are {', '.join(MEMBERS)}")
    subject, recipient, campaign, metadata = (texts.get(name) for name in MEMBERS[:4])
    consent = read_consent(members)
    return Change(frozenset(members), subject, recipient, campaign, metadata, consent)


def read_consent(members: dict[str, object]) -> int:
    """How much of an email's hits may be stored; where nothing is said, all.

    Raises Refused (400).
    """
    value = members.get("consent")
    if value is None:
        return FULL
    if not isinstance(value, str) or value not in CONSENTS:
        raise Refused(400, f"consent is none of {', '.join(CONSENTS)}", "consent")
    return CONSENTS.index(value)


def read_metadata(value: object) -> str | None:
    """An object of strings as compact JSON. Raises Refused (400)."""
    if not isinstance(value, dict):
        raise Refused(400, "metadata is not an object", "metadata")
    if len(value) > MAX_METADATA:
        raise Refused(400, f"metadata has more than {MAX_METADATA} members", "metadata")
    checked = {
        clean(name, "metadata", MAX_NAME): clean(
            text, f"metadata.{clean(name, 'metadata', MAX_NAME)}", MAX_VALUE
        )
        for name, text in value.items()
    }
    return json.dumps(checked, ensure_ascii=False, separators=(",", ":")) if checked else None
