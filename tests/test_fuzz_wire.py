"""Fuzzing over the wire: nothing that comes breaks the bell, or what others have counted meanwhile.

Each case follows from its seed, which a failure names: `Case(seed)` makes the same bytes again.
The long form (`make soak`) goes on with other seeds.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest

from bell import Answer, Bell, Line, events, fresh_tenant, raw_request, serving
from hostile import CHUNKED, GENEROUS, PATIENCE, is_sound, mutated

CASES = 8000  # of the short form
AT_ONCE = 5  # connections that send in the same moment


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("fuzz"), **GENEROUS) as bell:
        bell.create("fuzz")
        yield bell
        is_sound(bell)


# What is sent

IDS = ["1", "1.gif", "0", "-1", "+1", "01", "1_0", "1e0", "%31", "1.gif.gif", "", ".gif", "1 "]
IDS += ["9" * 18, "9" * 19, "9223372036854775807", "\xb2", "%D9%A1", "1%00", "1.GIF", "x", "٣"]
TENANTS = [
    "fuzz",
    "fuzz",
    "fuzz",
    "FUZZ",
    "other",
    "-",
    "..",
    "a" * 65,
    "%66uzz",
    "fu%00zz",
    "",
    "ä",
]
URLS = ["https://example.com/", "http://x", "//x", "javascript:x", "https://u@x", "%FF", "%00", ""]
URLS += [
    "https://exämple.com/?ü",
    "https://[::1]:0/",
    "http://x/%ED%A0%80",
    "https:%5C%5Cx",
    "http:",
]
BODIES = [b"", b"{}", b"[]", b"null", b'{"subject": "x"}', b'{"campaign": "\xff"}', b"[" * 5000]
BODIES += [b'{"subject": "\\ud800\\u0000"}', b'{"metadata": {"a": "\\udfff"}}', b"9" * 5000]
LINES = [
    "Connection: close",
    "Connection: keep-alive",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "Expect: x",
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: 99999999",
    "Content-Length: -1",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Host: other",
    "Host: a b",
    "User-Agent: \xff\xfe\x80",
    "User-Agent: " + "\xc3\xa9" * 600,
    "X-Forwarded-For: 1.2.3.4, ::1, [::1]:80, x, 999.1.1.1",
    "X-Forwarded-For: " + "127.0.0.1," * 200,
    "X-Real-IP: ::ffff:1.2.3.4%eth0",
    "X-Forwarded-For: \xff\x80",
    "Accept: application/json",
    "Accept: text/html",
    "Origin: null",
    "Sec-Purpose: prefetch;prerender",
    "DNT: 1",
    "Proxy-Connection: upgrade",
    "Trailer: X",
    "TE: trailers",
    "X: ",
    "X:\ty",
    "X" * 300 + ": y",
    "X: " + "y" * 9000,
    "X: a\r\n b",
    "X : y",
    ": y",
    "X\x00: y",
    "\xff: y",
]
ODD = ["/health", "*", "//", "/%", "http://x/health", "http://x", "http://x?y", "http://", "x:y"]
METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "M-SEARCH", "get", "G"]


def in_chunks(source: random.Random, body: bytes) -> bytes:
    """A body in chunks of any size, some with extensions, perhaps with a trailer."""
    parts = []
    while body:
        size = source.randint(1, len(body))
        extension = source.choice(["", "", ";a", ';a="b"', ";a=b;c"])
        parts.append(f"{size:x}{extension}\r\n".encode() + body[:size] + b"\r\n")
        body = body[size:]
    return b"".join(parts) + b"0\r\n" + source.choice([b"", b"", b"X: y\r\n"]) + b"\r\n"


def valid(source: random.Random) -> bytes:
    """A request as clients send it, for the most part."""
    tenant, email = source.choice(TENANTS), source.choice(IDS)
    lines = source.choices(LINES, k=source.choice([0, 0, 1, 1, 2, 5]))
    method = source.choice(METHODS) if source.random() < 0.1 else "GET"
    kind = source.randrange(20)
    if kind < 6:
        return raw_text(f"/{tenant}/pixel/{email}", *lines, method=method)
    if kind < 10:
        url = source.choice(URLS)
        route = source.choice(["click", "click", "click-url"])
        return raw_text(f"/{tenant}/{route}/{email}?url={url}", *lines, method=method)
    if kind < 16:
        body = source.choice(BODIES)
        if source.random() < 0.4:
            head = raw_text(f"/{tenant}/emails", CHUNKED, *lines, method="POST")
            return head + in_chunks(source, body)
        length = f"Content-Length: {len(body)}"
        return raw_text(f"/{tenant}/emails", length, *lines, method="POST") + body
    if kind == 16:
        return raw_text("/metrics", *lines, method=method)
    if kind == 17:
        page = source.choice([f"/{tenant}/dashboard", "/", "/-/style.css", f"/?tenant={tenant}"])
        return raw_text(page, *lines, method=method)
    if kind == 18:
        return raw_text(source.choice(ODD), *lines)
    return source.randbytes(source.choice([1, 10, 300]))


def raw_text(target: str, *lines: str, method: str = "GET") -> bytes:
    """A request whose target may hold any text."""
    target = target.encode("utf-8").decode("latin-1")
    return raw_request(target, *lines, method=method)


class Case:
    """What one connection sends: whole opens that count, and then anything."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)
        self.seed = seed
        self.opens = source.choice([0, 1, 1, 3])
        requests = [valid(source) for _ in range(source.choice([1, 1, 2, 3, 6]))]
        self.data = b"".join(
            mutated(source, one) if source.random() < 0.6 else one for one in requests
        )
        self.splits = sorted(source.randint(0, len(self.data)) for _ in range(source.randrange(3)))
        self.ending = source.choice(["closes", "closes", "closes", "resets", "leaves"])

    def __repr__(self) -> str:
        return f"Case({self.seed}): {self.ending} after {self.opens} opens and {self.data!r}"

    def parts(self, opening: bytes) -> list[bytes]:
        """The bytes as they are sent, some together with what is opened before."""
        edges = [0, *self.splits, len(self.data)]
        first, *rest = [self.data[begin:end] for begin, end in pairwise(edges)]
        return [opening * self.opens + first, *rest]


def all_answers(line: Line, data: bytes) -> list[Answer]:
    """Every answer until the server closes; `data` is what was asked."""
    line.rest()
    answers = []
    while line.buffer:
        _, _, behind = line.buffer.partition(b"\r\n\r\n")
        # The answer to a HEAD looks like another one and has no body.
        empty = b"HEAD" in data and (not behind or behind.startswith(b"HTTP/1.1 "))
        answers.append(line.answer(head_only=empty))
    return answers


def check_answers(case: Case, answers: list[Answer]) -> None:
    """No failure; the opens come first, and what closes comes last."""
    statuses = [answer.status for answer in answers]
    assert all(status < 500 or status == 505 for status in statuses), statuses
    opens = answers[: case.opens]
    assert [answer.status for answer in opens] == [200] * case.opens
    assert {answer.headers["content-type"] for answer in opens} <= {"image/gif"}
    assert not any(answer.headers.get("connection") == "close" for answer in answers[:-1])


class Round:
    """Cases that come at once, on connections of their own, with a visitor's opens among them."""

    def __init__(self, bell: Bell, tenant: str) -> None:
        self.bell = bell
        self.opening = raw_request(f"/{tenant}/pixel/1.gif")
        self.visitor = Line(bell.port)
        self.certain = 0  # opens that count
        self.possible = 0  # opens that may have been lost with their connection

    def run(self, cases: list[Case]) -> None:
        parts = [case.parts(self.opening) for case in cases]
        turns = max(map(len, parts))
        with ExitStack() as clients:
            lines = [clients.enter_context(Line(self.bell.port)) for _ in cases]
            for turn in range(turns):
                for line, own in zip(lines, parts, strict=True):
                    if turn < len(own):
                        self._send(line, own[turn])
                self.visitor.send(self.opening)
            for case, line in zip(cases, lines, strict=True):
                self._end(case, line)
            for _ in range(turns):
                assert self.visitor.answer().headers["content-type"] == "image/gif"
                self.certain += 1

    def _send(self, line: Line, data: bytes) -> None:
        try:
            line.send(data)
        except ConnectionError:
            pass  # refused, and closed, for what came before

    def _end(self, case: Case, line: Line) -> None:
        if case.ending == "resets":
            line.reset()
            self.possible += case.opens
        elif case.ending == "leaves":
            line.socket.close()
            self.possible += case.opens
        else:
            try:
                line.no_more()
            except OSError:
                pass  # closed already
            check_answers(case, all_answers(line, case.data))
            self.certain += case.opens


def test_anything_may_come(bell: Bell, soak: bool) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    begin = random.randrange(1 << 40) if soak else 0
    rounds = Round(bell, tenant)
    with rounds.visitor:
        rounds.visitor.socket.settimeout(PATIENCE)
        for seed in range(begin, begin + CASES * (30 if soak else 1), AT_ONCE):
            cases = [Case(seed + n) for n in range(AT_ONCE)]
            try:
                rounds.run(cases)
                if seed % 500 == 0:
                    assert bell.get("/health").status == 200
            except (AssertionError, OSError) as error:
                pytest.fail(f"{error!r} in the round of " + "\n".join(map(repr, cases)))
    is_sound(bell)
    opened = len(events(bell, tenant))
    assert rounds.certain <= opened <= rounds.certain + rounds.possible, f"seeds from {begin}"
    assert rounds.certain > CASES
    batches = bell.metrics()["batch_size"]
    assert batches["sum"] > 2 * batches["count"], "they did not come at once"
