"""Answers of the fast lane: written and counted."""

from little_bell.errors import Refused
from little_bell.ops.metrics import Counters
from little_bell.wire.answers import JSON_HEADERS, cors, problem, to_json
from little_bell.wire.http import Answers, Headers, Request, connection_line
from little_bell.wire.routes import Route

ALLOWED_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match"  # from pages of other origins
)


class Replies:
    """Makes the bytes of answers; each names its route, for the metrics."""

    def __init__(self, counters: Counters, origins: tuple[str, ...]) -> None:
        """`origins` are those whose pages may read answers (CORS_ORIGINS)."""
        self.counters = counters
        self.origins = origins
        self.answers = Answers()

    def tick(self, now: float) -> None:
        """Let time pass: `now` is in seconds since the epoch."""
        self.answers.tick(now)

    def prepare(self, name: str, status: int, headers: Headers, body: bytes) -> None:
        """Keep an answer ready for `prepared`."""
        self.answers.prepare(name, status, headers, body)

    def prepared(
        self, request: Request, name: str, route: str | None = None, status: int = 200
    ) -> bytes:
        """An answer that was prepared with this status. `route`: its label, if not `name`."""
        self.counters.request("fast", route or name, status)
        return self.answers.prepared[name, request.head_only, connection_line(request)]

    def answer(
        self, request: Request, route: str, status: int, headers: Headers, body: bytes
    ) -> bytes:
        """Any answer."""
        self.counters.request("fast", route, status)
        return self.answers.write(request, status, headers, body)

    def json(
        self, request: Request, route: str, status: int, value: object, more: Headers = ()
    ) -> bytes:
        """A JSON value, with `more` headers."""
        headers = JSON_HEADERS + more + cors(request.headers, self.origins)
        return self.answer(request, route, status, headers, to_json(value))

    def refuse(self, request: Request, name: str, refused: Refused, route: Route | None) -> bytes:
        """A refusal: a page where the route is one for people, or, with none, where the client
        asks for HTML; else a problem."""
        page = route.page if route else b"text/html" in request.headers.get(b"accept", b"")
        status, headers, body = problem(refused, page)
        return self.answer(
            request, name, status, headers + cors(request.headers, self.origins), body
        )

    def malformed(self, refused: Refused) -> bytes:
        """The answer to bytes that are no request."""
        status, headers, body = problem(refused, page=False)
        self.counters.request("fast", "malformed", status)
        return self.answers.write(Request(), status, headers, body)

    def wrong_method(self, request: Request, methods: dict[bytes, Route]) -> bytes:
        """What OPTIONS asks for, or 405."""
        allowed = ", ".join(sorted({"OPTIONS", *(name.decode("ascii") for name in methods)}))
        shared = cors(request.headers, self.origins)
        if request.method == b"OPTIONS":
            headers: Headers = (("Allow", allowed), *shared)
            if b"access-control-request-method" in request.headers and (
                shared and shared[0][0] == "Access-Control-Allow-Origin"
            ):
                headers += (
                    ("Access-Control-Allow-Methods", allowed),
                    ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
                    ("Access-Control-Max-Age", "600"),
                )
            return self.answer(request, "options", 204, headers, b"")
        route = next(iter(methods.values()))
        status, headers, body = problem(Refused(405, f"allowed here: {allowed}"), route.page)
        headers = (*headers, ("Allow", allowed), *shared)
        return self.answer(request, route.name, status, headers, body)
