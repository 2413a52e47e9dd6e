"""What a client gets of a page: gzip where it takes that, nothing where it has it already."""

import re
import zlib
from hashlib import blake2b

from little_bell.wire.http import Headers, Request

SMALL = 1024  # bytes that are not worth compressing
LEVEL = 5  # of zlib
GZIP = 31  # zlib's window bits, with gzip's head

PACKED = frozenset(
    {"text/html", "application/json", "text/css", "text/javascript", "image/svg+xml"}
)
PACKED_LONG = PACKED | {"text/csv", "application/x-ndjson"}

# Of the headers of a 200 (RFC 9110 15.4.5); the rest belongs to what the client has.
NOT_MODIFIED = frozenset(
    {"cache-control", "content-location", "etag", "expires", "set-cookie", "vary"}
)

TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')  # RFC 9110 8.8.3
WEIGHT = re.compile(rb"0(\.[0-9]{0,3})?|1(\.0{0,3})?")  # RFC 9110 12.4.2


def represent(
    request: Request, status: int, headers: Headers, body: bytes
) -> tuple[int, Headers, bytes]:
    """A whole answer as its client likes it: 304, or perhaps compressed."""
    headers, gzip = negotiate(request, headers, PACKED)
    gzip = gzip and len(body) > SMALL
    if status == 200 and request.method in (b"GET", b"HEAD"):
        tag = entity_tag(body, gzip)
        headers += (("ETag", tag),)
        if matches(request.headers.get(b"if-none-match", b""), tag):
            return 304, tuple(one for one in headers if one[0].lower() in NOT_MODIFIED), b""
    if gzip:
        headers += (("Content-Encoding", "gzip"),)
        body = zlib.compress(body, LEVEL, GZIP)
    return status, headers, body


def represent_long(request: Request, headers: Headers) -> tuple[Headers, bool]:
    """The headers of a body that comes in pieces, and whether these are compressed."""
    headers, gzip = negotiate(request, headers, PACKED_LONG)
    return headers + ((("Content-Encoding", "gzip"),) if gzip else ()), gzip


def negotiate(request: Request, headers: Headers, types: frozenset[str]) -> tuple[Headers, bool]:
    """Whether a client takes gzip of what is of these types; the headers say what that depends on.

    A body that is small is not compressed, but may have been larger when a cache kept it."""
    kind = next((value for name, value in headers if name.lower() == "content-type"), "")
    if kind.partition(";")[0].strip().lower() not in types:
        return headers, False
    headers += (("Vary", "Accept-Encoding"),)
    return headers, takes_gzip(request.headers.get(b"accept-encoding", b""))


def takes_gzip(accepted: bytes) -> bool:
    """Whether an Accept-Encoding allows gzip, and likes it no less than plain (RFC 9110 12.5.3)."""
    weights: dict[bytes, float] = {}
    for part in accepted.lower().split(b","):
        coding, _, parameter = part.partition(b";")
        name, _, value = parameter.partition(b"=")
        weight = 1.0
        if name.strip() == b"q":
            value = value.strip()
            weight = float(value) if WEIGHT.fullmatch(value) else 0.0
        weights[coding.strip()] = weight
    gzip = weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", 0.0)))
    return gzip > 0 and gzip >= weights.get(b"identity", 0.0)


def entity_tag(body: bytes, gzip: bool) -> str:
    """A strong tag: of the bytes, so each coding has its own (RFC 9110 8.8.3.3)."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}{"-gzip" if gzip else ""}"'


def matches(wanted: bytes, tag: str) -> bool:
    """Whether an If-None-Match names this tag, by weak comparison (RFC 9110 13.1.2)."""
    return wanted.strip() == b"*" or tag.encode("ascii") in TAG.findall(wanted)


def one_vary(headers: Headers) -> Headers:
    """The same headers with one Vary at most, last."""
    names = [value for name, value in headers if name.lower() == "vary"]
    if not names:
        return headers
    rest = tuple(one for one in headers if one[0].lower() != "vary")
    listed = [one.strip() for value in names for one in value.split(",")]
    return (*rest, ("Vary", ", ".join(dict.fromkeys(listed))))
