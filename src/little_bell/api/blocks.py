"""`/{tenant}/blocks`: what is switched off, as JSON."""

from time import gmtime, strftime

from little_bell.api.emails import read_object
from little_bell.errors import Refused
from little_bell.tracking.hit import MAX_ID_DIGITS
from little_bell.tracking.links import canonical

MEMBERS = ("tenant", "email", "url")


def parse_block(body: bytes) -> tuple[int, str | None]:
    """What is to be switched off: an email's id or 0, and a canonical target or None; neither is
    the tenant. Raises Refused (400)."""
    members = read_object(body)
    if len(members) != 1 or not set(members) <= set(MEMBERS):
        raise Refused(400, f"name exactly one of {', '.join(MEMBERS)}")
    [(name, value)] = members.items()
    if name == "tenant":
        if value is not True:
            raise Refused(400, "tenant is not true", "tenant")
        return 0, None
    if name == "email":
        if isinstance(value, float) and value.is_integer():  # 12.0 is 12 in JSON
            value = int(value)
        if type(value) is not int or not 0 < value < 10**MAX_ID_DIGITS:
            raise Refused(400, "email is not an email's id", "email")
        return value, None
    if not isinstance(value, str):
        raise Refused(400, "url is not a string", "url")
    return 0, canonical(value)


def shown(block: int, email: int | None, url: str | None, at: int) -> dict[str, object]:
    """What answers say of a block that was made `at` (ms)."""
    seconds, ms = divmod(at, 1000)
    return {
        "block": block,
        "tenant": not email and url is None,
        "email": email or None,
        "url": url,
        "created_at": f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{ms:03d}Z",
    }
