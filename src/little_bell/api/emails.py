"""`POST /{tenant}/emails`: what a sender says of an email, checked."""

import json

from little_bell.errors import Refused
from little_bell.tracking.email import NewEmail

# Characters. 998 is a header line's limit (RFC 5322 2.1.1), 320 the longest address's.
MAX_TEXT = {"subject": 998, "recipient": 320, "campaign": 128}
MAX_METADATA = 50  # members
MAX_NAME = 64
MAX_VALUE = 1024


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


def read_object(body: bytes) -> dict[str, object]:
    """The JSON object of a body; an empty body is an empty object. Raises Refused (400)."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=refuse_constant)
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def parse_email(tenant: str, body: bytes) -> NewEmail:
    """One new email from a request's body. Raises Refused (400) that names the field at fault."""
    members = read_object(body)
    texts: dict[str, str | None] = dict.fromkeys(MAX_TEXT)
    metadata = None
    for name, value in members.items():
        if name in MAX_TEXT:
            if value is not None:
                texts[name] = clean(value, name, MAX_TEXT[name]) or None
        elif name == "metadata":
            if value is not None:
                metadata = read_metadata(value)
        else:
            known = ", ".join((*MAX_TEXT, "metadata"))
            shown = clean(name[:MAX_NAME].replace("\0", " "), "name", MAX_NAME)
            raise Refused(400, f"unknown field {shown!r}; known are {known}", shown)
    return NewEmail(tenant, texts["subject"], texts["recipient"], texts["campaign"], metadata)


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
