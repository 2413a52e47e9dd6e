"""Signed addresses by another hand: the standard library's HMAC and base64, from the form as it is
written down, so that the bell does not check itself."""

import base64
import hmac
import struct


def mac(key: bytes, purpose: bytes, *fields: bytes) -> bytes:
    """96 bits of HMAC-SHA256 over the purpose and the fields, each behind its length."""
    message = b"".join(struct.pack(">I", len(one)) + one for one in (purpose, *fields))
    return hmac.new(key, message, "sha256").digest()[:12]


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def click_mac(
    key: bytes, tenant: str, email: int, url: str, label: str = "", part: str = ""
) -> bytes:
    names = label.encode(), part.encode()
    return mac(key, b"click/1", tenant.encode(), str(email).encode(), *names, url.encode())


def token(key: bytes, tenant: str, email: int, url: str, label: str = "", part: str = "") -> str:
    """What stands behind `/{tenant}/l/{email}/`."""
    names = b"".join(bytes([len(one.encode())]) + one.encode() for one in (label, part))
    signed = click_mac(key, tenant, email, url, label, part)
    return text(b"\x01" + signed + names + url.encode())


def pixel(key: bytes, tenant: str, email: int) -> str:
    """What stands behind `/{tenant}/o/{email}/`."""
    return text(mac(key, b"open/1", tenant.encode(), str(email).encode())) + ".gif"
