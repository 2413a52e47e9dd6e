"""Raw answers of every route of a running bell: as asked for, refused, compressed, in both lanes.

A new route is among them by itself, as long as its pattern has no unknown names in braces.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from bell import BROWSER, Bell, Line, raw_request
from little_bell.wire.routes import BY_NAME, CONTROL_ROUTES, ROUTES, Route

NAMES = {  # what stands in patterns
    "tenant": "acme",
    "email": "1",
    "page": "emails",
    "item": "1",
    "file": "style.css",
    "block": "1",
    "key": "1",
    "recipient": "ada%40example.com",
    "token": "AAAAAAAAAAAAAAAAAAAAAAAA",
    "mac": "AAAAAAAAAAAAAAAA.gif",
}
QUERIES = {
    "click": "?url=https%3A%2F%2Fexample.com%2F",
    "click_url": "?url=https%3A%2F%2Fexample.com%2F",
    "delete_tenant": "?confirm=acme",
}
BODIES = {"change_email": b'{"subject": "Changed"}', "create_block": b'{"email": 2}'}
AGENT = f"User-Agent: {BROWSER}"
GZIP = "Accept-Encoding: gzip"
ORIGIN = "https://app.example"  # in CORS_ORIGINS
SETTINGS = {"CORS_ORIGINS": ORIGIN, "INSTANT_SECONDS": "0", "MAX_BODY_BYTES": "2048"}


class Exchange(NamedTuple):
    """A request and the bytes of its answer."""

    route: Route | None
    method: str
    target: str
    request: bytes
    answer: bytes

    @property
    def status(self) -> int:
        return int(self.answer.split(b" ", 2)[1])

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Header fields as they came."""
        head = self.answer.partition(b"\r\n\r\n")[0].decode("ascii")
        return [
            (name, value) for name, _, value in (x.partition(": ") for x in head.split("\r\n"))
        ][1:]

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.fields}

    @property
    def body(self) -> bytes:
        """The body as it came, out of its chunks."""
        body = self.answer.partition(b"\r\n\r\n")[2]
        if "transfer-encoding" not in self.headers:
            return body
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
        return whole

    def __str__(self) -> str:
        return f"{self.method} {self.target} -> {self.status}"


def fill(bell: Bell) -> None:
    """Something of everything. Email 3 is to be deleted, link evil.example is switched off."""
    for n in range(3):
        bell.create(subject=f"Number {n}", recipient="ada@example.com", campaign="spring")
    for target in ("/acme/pixel/1.gif", "/acme/click/1?url=https://example.com/"):
        bell.get(target)
    bell.ask("POST", "/acme/blocks", {"email": 3})
    bell.ask("POST", "/acme/blocks", {"url": "https://evil.example/"})


def ask(bell: Bell, data: bytes) -> bytes:
    """The whole answer to bytes, up to the end of the connection."""
    with Line(bell.port) as line:
        line.send(data)
        line.no_more()
        return line.rest()


def target_of(route: Route, **names: str) -> str:
    """An address of a route. KeyError: a name in braces that nobody knows here."""
    known = {**NAMES, **names}
    path = re.sub(r"\{(\w+)\}", lambda found: known[found[1]], route.pattern)
    return path + QUERIES.get(route.name, "")


def exchanges(bell: Bell) -> Iterator[Exchange]:
    """Everything that is asked, and answered. What deletes comes last."""

    def one(
        route: Route | None, method: str, target: str, *lines: str, body: bytes | None = None
    ) -> Exchange:
        version = "1.0" if "HTTP/1.0" in lines else "1.1"
        lines = tuple(line for line in lines if line != "HTTP/1.0")
        data = raw_request(target, AGENT, *lines, method=method, body=body, version=version)
        return Exchange(route, method, target, data, ask(bell, data))

    last = sorted(ROUTES, key=lambda route: (route.method == "DELETE", route.name))
    for route in last:
        target = target_of(route)
        body = BODIES.get(route.name, b"{}") if route.method in ("POST", "PATCH", "PUT") else None
        if route.method == "GET":
            yield one(route, "GET", target)
            yield one(route, "HEAD", target)
            yield one(route, "GET", target, GZIP)
            yield one(route, "HEAD", target, GZIP)
            yield one(route, "GET", target, GZIP, "HTTP/1.0")
            yield one(route, "GET", target, "If-None-Match: *")
            yield one(route, "GET", target, f"Origin: {ORIGIN}")
            yield one(route, "GET", target, "Accept: application/json")
            separator = "&" if "?" in target else "?"
            yield one(route, "GET", f"{target}{separator}nonsense=1")
        yield one(route, "OPTIONS", target, f"Origin: {ORIGIN}", "Access-Control-Request-Method: X")
        yield one(route, "PUT", target, body=b"")
        yield one(route, "PUT", target, "Accept: text/html", body=b"")
        for names in ({"tenant": "_"}, {"email": "999", "item": "999", "page": "x", "file": "x"}):
            wrong = target_of(route, **names)
            if wrong != target:
                yield one(route, route.method, wrong, f"Origin: {ORIGIN}", body=body)
        if body is not None:
            yield one(route, route.method, target, body=b"{")
            yield one(route, route.method, target, body=b" " * 3000)
            yield one(route, route.method, target, "Expect: more", body=body)
            yield one(route, route.method, target, body=body)
            yield one(route, route.method, target, "Sec-Fetch-Site: cross-site", body=body)
        elif route.method == "DELETE":
            yield one(route, "DELETE", target.partition("?")[0].replace("/1", "/3"))
            yield one(route, "DELETE", target)
    bell.create()  # the tenant begins anew
    evil = "/acme/click/4?url=https://evil.example/"
    lines = "Content-Type: application/x-ndjson"
    create = BY_NAME["create_email"]
    yield one(create, "POST", "/acme/emails", body=b'[{"subject": "x"}, {}]')
    yield one(create, "POST", "/acme/emails", lines, body=b'{"subject": "x"}\n{}\n')
    yield one(create, "POST", "/acme/emails", lines, body=b"{}\n[]\n")
    message = BY_NAME["create_message"]
    mail = "Content-Type: message/rfc822"
    yield one(message, "POST", "/acme/messages", mail, body=b"Subject: x\n\ny")
    yield one(message, "POST", "/acme/messages?dry_run=1", mail, body=b"Subject: x\n\ny")
    yield one(
        message, "POST", "/acme/messages", mail, "Accept: application/json", body=b"a: b\n\nc"
    )
    yield one(message, "POST", "/acme/messages?x=1", mail, body=b"a: b\n\nc")
    yield one(create, "POST", "/acme/emails", body=b'{"html": "<p>x"}')
    yield one(create, "POST", "/acme/emails?dry_run=1", body=b'{"html": "<p>x"}')
    yield one(create, "POST", "/acme/emails", "Idempotency-Key: a", body=b"{}")
    yield one(create, "POST", "/acme/emails", "Idempotency-Key: a", body=b'{"subject": "x"}')
    yield one(BY_NAME["click"], "GET", evil)
    yield one(BY_NAME["click"], "HEAD", evil)
    yield one(BY_NAME["click"], "GET", "/acme/click/4?url=javascript:x")
    yield one(BY_NAME["front"], "GET", "/?tenant=acme")
    yield one(BY_NAME["metrics"], "GET", "/metrics", "Accept: application/json")
    for target in ("/a/b/c/d/e/f", "/%", "/-/x/y"):
        yield one(None, "GET", target)
        yield one(None, "GET", target, "Accept: text/html")
    for data in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/3.7\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 17_000 + b"\r\n\r\n",
    ):
        yield Exchange(None, "GET", repr(data[:40]), data, ask(bell, data))


def every_route_was_asked(found: list[Exchange]) -> bool:
    """So that a walk that ends early is seen."""
    asked = {one.route.name for one in found if one.route is not None}
    return asked == {route.name for route in ROUTES} and not asked & {
        r.name for r in CONTROL_ROUTES
    }
