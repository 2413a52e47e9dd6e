"""The answers both lanes give: JSON, pages for people, problems."""

from binascii import b2a_base64

from little_bell.errors import Refused
from little_bell.page import BEARER
from little_bell.tracking.signing import digest
from little_bell.wire.http import REASON_PHRASES, Headers

JSON_HEADERS: Headers = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)
NDJSON_HEADERS: Headers = (("Content-Type", "application/x-ndjson"), *JSON_HEADERS[1:])
PROBLEM_HEADERS: Headers = (("Content-Type", "application/problem+json"), *JSON_HEADERS[1:])
TEXT_HEADERS: Headers = (
    ("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),
    *JSON_HEADERS[1:],
)
STYLE = """body{font:1rem/1.5 system-ui,sans-serif;margin:20vh auto;max-width:32rem;padding:0 1rem;
color:#222;background:#fff}h1{font-size:1.25rem}
a{color:inherit;overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181a1b}}"""
# No style but this one, by its hash (https://www.w3.org/TR/CSP3/).
STYLE_HASH = b2a_base64(digest(STYLE.encode("ascii")), newline=False).decode("ascii")
POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Headers = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex, nofollow"),
)

CHALLENGE = f'{BEARER}, Basic realm="Little Bell", charset="UTF-8"'

# No text of the sender goes in here: details are our own words, escaped all the same.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>{style}</style></head>
<body><h1>{title}</h1>{detail}</body></html>
"""

TARGET = '<p>{why}</p><p><a rel="noreferrer nofollow" href="{url}">{url}</a></p>'


def preview(url: str, why: str) -> bytes:
    """A page that names a link's target, which is canonical, and leads there only by hand."""
    shown = url.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    detail = TARGET.format(why=why, url=shown)
    text = PAGE.format(title="Where this link leads", detail=detail, style=STYLE)
    return text.encode("utf-8")


def to_json(value: object) -> bytes:
    import json

    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # halves of surrogate pairs have no UTF-8
        return json.dumps(value).encode("ascii") + b"\n"


def cors(headers: dict[bytes, bytes], origins: tuple[str, ...]) -> Headers:
    """What lets a page of an allowed origin read the answer (https://fetch.spec.whatwg.org).

    `headers` are the request's."""
    if not origins:
        return ()
    if "*" in origins:
        return (("Access-Control-Allow-Origin", "*"),)
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin in origins:
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
    return (("Vary", "Origin"),)


def problem(refused: Refused, page: bool) -> tuple[int, Headers, bytes]:
    """A refusal as status, headers and body: a page for people, or problem+json (RFC 9457)."""
    extra: Headers = ()
    if refused.retry_after is not None:
        extra = (("Retry-After", str(refused.retry_after)),)
    if refused.status == 401:
        extra += (("WWW-Authenticate", BEARER if page else CHALLENGE),)
    title = REASON_PHRASES[refused.status]
    detail = str(refused)
    if page:
        detail = detail[:1].upper() + detail[1:].replace("&", "&amp;").replace("<", "&lt;") + "."
        detail = f"<p>{detail}</p>"
        text = PAGE.format(title=f"{refused.status} {title}", detail=detail, style=STYLE)
        return refused.status, PAGE_HEADERS + extra, text.encode("utf-8")
    members: dict[str, object] = {
        "type": "about:blank",
        "title": title,
        "status": refused.status,
        "detail": detail,
    }
    if refused.field is not None:
        members["field"] = refused.field
    if refused.place is not None:
        name, number = refused.place
        members[name] = number
    return refused.status, PROBLEM_HEADERS + extra, to_json(members)
