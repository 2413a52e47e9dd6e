"""Every route of both lanes, as a plain list, and how a request's target finds its own."""

from typing import NamedTuple

from little_bell.values import is_tenant

FAST, SLOW = "fast", "slow"
# Access: everybody, or who has a key with that role; or who has METRICS_TOKEN.
PUBLIC, READ, WRITE, MEASURES = "public", "read", "write", "measures"
EITHER = "either"  # the fast lane hands over what may take long


class Route(NamedTuple):
    """One line of the table. GET stands for HEAD as well."""

    name: str  # of the handler, and the label in metrics
    method: str
    pattern: str  # segments in braces are taken as they come
    lane: str
    page: bool = False  # errors are pages for people, else problem+json (RFC 9457)
    access: str = READ  # who may


ROUTES: tuple[Route, ...] = (
    Route("pixel", "GET", "/{tenant}/pixel/{email}", FAST, True, access=PUBLIC),
    Route("click", "GET", "/{tenant}/click/{email}", FAST, True, access=PUBLIC),
    Route("signed_pixel", "GET", "/{tenant}/o/{email}/{mac}", FAST, True, access=PUBLIC),
    Route("signed_click", "GET", "/{tenant}/l/{email}/{token}", FAST, True, access=PUBLIC),
    Route("click_url", "GET", "/{tenant}/click-url/{email}", FAST),
    Route("create_email", "POST", "/{tenant}/emails", EITHER, access=WRITE),
    Route("create_message", "POST", "/{tenant}/messages", EITHER, access=WRITE),
    Route("change_email", "PATCH", "/{tenant}/emails/{email}", FAST, access=WRITE),
    Route("delete_email", "DELETE", "/{tenant}/emails/{email}", FAST, access=WRITE),
    Route("delete_tenant", "DELETE", "/{tenant}", FAST, access=WRITE),
    Route("create_block", "POST", "/{tenant}/blocks", FAST, access=WRITE),
    Route("delete_block", "DELETE", "/{tenant}/blocks/{block}", FAST, access=WRITE),
    Route("tenant", "GET", "/{tenant}", FAST, True, access=PUBLIC),
    Route("try_it", "POST", "/{tenant}/dashboard/try", FAST, True, access=WRITE),
    Route("login", "GET", "/{tenant}/dashboard/login", SLOW, True, access=PUBLIC),
    Route("sign_in", "POST", "/{tenant}/dashboard/login", FAST, True, access=PUBLIC),
    Route("sign_out", "POST", "/{tenant}/dashboard/logout", FAST, True, access=PUBLIC),
    Route("settings", "GET", "/{tenant}/settings", FAST),
    Route("change_settings", "PATCH", "/{tenant}/settings", FAST, access=WRITE),
    Route("opt_out", "POST", "/{tenant}/optouts", FAST, access=PUBLIC),
    Route("opted_out", "GET", "/{tenant}/optouts/{recipient}", FAST),
    Route("opt_in", "DELETE", "/{tenant}/optouts/{recipient}", FAST, access=WRITE),
    Route("emails", "GET", "/{tenant}/emails", SLOW),
    Route("email", "GET", "/{tenant}/emails/{email}", SLOW),
    Route("stats", "GET", "/{tenant}/stats", SLOW),
    Route("links", "GET", "/{tenant}/links", SLOW),
    Route("campaigns", "GET", "/{tenant}/campaigns", SLOW),
    Route("clients", "GET", "/{tenant}/clients", SLOW),
    Route("blocks", "GET", "/{tenant}/blocks", SLOW),
    Route("events", "GET", "/{tenant}/events", SLOW),
    Route("events_csv", "GET", "/{tenant}/events.csv", SLOW),
    Route("events_ndjson", "GET", "/{tenant}/events.ndjson", SLOW),
    Route("emails_csv", "GET", "/{tenant}/emails.csv", SLOW),
    Route("gpc", "GET", "/.well-known/gpc.json", FAST, access=PUBLIC),
    Route("recipient", "GET", "/{tenant}/recipients/{recipient}", SLOW),
    Route("erase_recipient", "DELETE", "/{tenant}/recipients/{recipient}", SLOW, access=WRITE),
    Route("health", "GET", "/health", FAST, access=PUBLIC),
    Route("metrics", "GET", "/metrics", FAST, access=MEASURES),
    Route("openapi", "GET", "/openapi.json", SLOW, access=PUBLIC),
    Route("front", "GET", "/", SLOW, True, access=PUBLIC),
    Route("dashboard", "GET", "/{tenant}/dashboard", SLOW, True),
    Route("dashboard_page", "GET", "/{tenant}/dashboard/{page}", SLOW, True),
    Route("dashboard_item", "GET", "/{tenant}/dashboard/{page}/{item}", SLOW, True),
    Route("static", "GET", "/-/{file}", SLOW, True, access=PUBLIC),
)

# Commands to a running server, over its 0600 unix socket alone.
CONTROL_ROUTES = (
    Route("status", "GET", "/status", FAST),
    Route("checkpoint", "POST", "/checkpoint", FAST),
    Route("correct", "POST", "/corrections", FAST),
    Route("change_keys", "POST", "/keys", FAST),
    Route("secret", "POST", "/secret", FAST),
    Route("register", "POST", "/{tenant}/emails", FAST),
    Route("purge", "POST", "/purge", FAST, access=WRITE),
    Route("purged", "GET", "/purge", FAST),
    Route("import_piece", "POST", "/imports", FAST, access=WRITE),
)


BY_NAME = {route.name: route for route in (*ROUTES, *CONTROL_ROUTES)}


class Router:
    """Finds the routes of a path: by its last fixed segment and length, without a scan."""

    def __init__(self, routes: tuple[Route, ...], prefix: str = "") -> None:
        """`prefix` is BASE_URL's path: addresses are understood with it and without."""
        self.prefix = prefix.encode("ascii")
        self.whole: dict[bytes, dict[bytes, Route]] = {}
        self.scoped: dict[tuple[int, bytes], dict[bytes, Route]] = {}
        self.fixed: dict[tuple[bytes, bytes], dict[bytes, Route]] = {}  # two words behind a tenant
        self.folder: dict[bytes, Route] = {}
        for route in routes:
            segments = route.pattern.encode("ascii").split(b"/")
            if segments[1] == b"{tenant}":
                kind = segments[2] if len(segments) > 2 else b""
                if len(segments) == 4 and not segments[3].startswith(b"{"):
                    methods = self.fixed.setdefault((kind, segments[3]), {})
                else:
                    methods = self.scoped.setdefault((len(segments), kind), {})
            elif segments[1] == b"-":
                methods = self.folder
            else:
                methods = self.whole.setdefault(route.pattern.encode("ascii"), {})
            methods[route.method.encode("ascii")] = route
            if route.method == "GET":
                methods[b"HEAD"] = route
        self.home = self.scoped.get((2, b""))  # of a tenant's name alone

    def find(self, target: bytes) -> tuple[dict[bytes, Route] | None, list[bytes], bytes]:
        """The routes of a target by method (None: no such path), its segments and its query."""
        if not target.startswith(b"/"):
            target = origin_form(target)
        path, _, query = target.partition(b"?")
        segments = path.split(b"/")
        # As it stands first: `/bell/emails` is of the tenant `bell`, not of one called `emails`.
        methods = self._methods(path, segments) if path != self.prefix else None
        if methods is None and self.prefix and (path + b"/").startswith(self.prefix + b"/"):
            path = path[len(self.prefix) :] or b"/"
            segments = path.split(b"/")
            methods = self._methods(path, segments)
        return methods, segments, query

    def _methods(self, path: bytes, segments: list[bytes]) -> dict[bytes, Route] | None:
        if len(segments) > 2:
            if segments[1] == b"-" and len(segments) == 3:
                return self.folder or None
            if len(segments) == 4:
                methods = self.fixed.get((segments[2], segments[3]))
                if methods is not None:
                    return methods
            return self.scoped.get((len(segments), segments[2])) or self.whole.get(path)
        whole = self.whole.get(path)
        if whole is None and len(segments) == 2 and is_tenant(segments[1]):
            return self.home
        return whole


def origin_form(target: bytes) -> bytes:
    """The path and query of a target in absolute form, which servers must take (RFC 9112 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    path = rest[min(ends) :] if ends else b""
    return path if path.startswith(b"/") else b"/" + path
