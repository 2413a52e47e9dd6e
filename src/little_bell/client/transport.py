"""Requests to one bell: kept connections, tries, and the time that all of it may take."""

import json
import os
import random
import re
import time
from collections.abc import Mapping
from http.client import HTTPException, IncompleteRead
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from little_bell import __version__
from little_bell.client.line import Line, Reply, Request, TooLargeError
from little_bell.errors import BellError, Unreachable

if TYPE_CHECKING:
    from ssl import SSLContext

MOST = 16 << 20  # bytes of an answer
KEPT = 8  # idle connections
IDLE = 30.0  # seconds after which one may be dead, whatever it looks like
CONNECT = 3.0  # seconds for connecting to one address
FIRST_WAIT = 0.4  # seconds before the second try, at most; then twice as long each time
PASSING = (429, 502, 503, 504)  # what another try may change
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
LONGEST = 500  # characters of a sentence from the bell


class Transport:
    """Sends requests to one bell and to no other host. From any thread."""

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout: float,
        retries: int,
        context: "SSLContext | None",
    ) -> None:
        """Raises ValueError, which holds nothing of the key."""
        secure, self.host, self.port, self.prefix = read_url(url)
        self.url = url.rstrip("/")
        if secure and context is None:
            from ssl import create_default_context

            context = create_default_context()
        self.context = context if secure else None
        self.key = read_key(key)
        if not timeout > 0 or retries < 0:
            raise ValueError("timeout is in seconds, more than 0; retries is a number from 0")
        self.timeout = timeout
        self.retries = retries
        self.headers = {"User-Agent": f"little-bell-python/{__version__}"}
        if self.key is not None:
            self.headers["Authorization"] = f"Bearer {self.key}"
        self._kept: list[Line] = []
        self._process = os.getpid()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = False,
        most: int = MOST,
    ) -> Reply:
        """The answer, of a status below 300. `path` has the query, and is percent-encoded.

        Where `safe`, what failed or was put off is tried again while there is time; else only what
        never reached the bell. Raises BellError.
        """
        given = {"Accept": "application/json", **self.headers, **(headers or {})}
        request = Request(method, self.prefix + path, body, given, safe, most)
        deadline = monotonic() + self.timeout
        attempt = 0
        while True:
            failure: BellError
            try:
                reply = self._try(request, deadline)
            except Unreachable as unreachable:
                failure = unreachable
                again = safe or not unreachable.sent
            else:
                if reply.status < 300:
                    return reply
                failure = self.refusal(reply)
                passing = reply.status in PASSING or failure.retry_after is not None
                again = passing and (safe or reply.status == 429)
            backoff = FIRST_WAIT * 2**attempt * random.uniform(0.5, 1)  # noqa: S311 - jitter
            wait = max(backoff, failure.retry_after or 0)
            if not again or attempt >= self.retries or monotonic() + wait >= deadline:
                raise failure
            time.sleep(wait)
            attempt += 1

    def close(self) -> None:
        """Close the connections that wait for another request."""
        while (line := self._waiting()) is not None:
            line.close()

    def refusal(self, reply: Reply) -> BellError:
        """What an answer of another status says."""
        if 300 <= reply.status < 400:
            return BellError(
                "the bell leads elsewhere, and nobody follows: see the URL", reply.status
            )
        problem: object = None
        if is_json(reply):
            try:
                problem = json.loads(reply.body)
            except (ValueError, RecursionError):
                pass  # the status says enough
        said = problem if isinstance(problem, dict) else {}
        texts = {
            name: self._shown(said[name])
            for name in ("detail", "title", "type", "field")
            if isinstance(said.get(name), str)
        }
        detail = texts.pop("detail", f"the bell answered {reply.status} and said no more")
        index, number = said.get("index"), said.get("line")
        if isinstance(number, int):
            index, detail = number - 1, detail.removeprefix(f"line {number}: ")
        after = reply.headers.get("retry-after", "")
        return BellError(
            detail,
            reply.status,
            index=index if isinstance(index, int) else None,
            retry_after=float(after) if after.isascii() and after.isdigit() else None,
            **texts,
        )

    def _shown(self, text: str) -> str:
        """A text of the answer, without the key, whatever it was that answered."""
        return (text.replace(self.key, "...") if self.key else text)[:LONGEST]

    def _try(self, request: Request, deadline: float) -> Reply:
        """One try. Raises BellError."""
        sent = False
        try:
            if request.safe and (kept := self._waiting()) is not None:
                sent = True
                try:
                    return self._exchange(kept, request, deadline)
                except ConnectionError:
                    self.close()  # it was closed meanwhile, and so may be the others
                sent = False
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            line = Line(self.host, self.port, self.context, min(CONNECT, left))
            sent = True
            return self._exchange(line, request, deadline)
        except TooLargeError:
            raise BellError(f"the answer has more than {request.most} bytes") from None
        except TimeoutError:
            where = "no answer within" if sent else "no connection within"
            raise Unreachable(f"{self.url}: {where} {self.timeout:g} seconds", sent) from None
        except IncompleteRead:
            raise Unreachable(f"{self.url}: the answer broke off", sent) from None
        except (OSError, UnicodeError) as error:  # the latter: a host that can be no name
            raise Unreachable(f"{self.url}: {error}", sent) from None
        except HTTPException as error:
            detail = f"{self.url} does not speak HTTP ({type(error).__name__})"
            raise BellError(detail) from None

    def _exchange(self, line: Line, request: Request, deadline: float) -> Reply:
        reply, keep = line.exchange(request, deadline)
        if keep:
            if len(self._kept) < KEPT:
                self._kept.append(line)
            else:
                line.close()
        return reply

    def _waiting(self) -> Line | None:
        """A connection that waits for a request; those of a parent process stay its own."""
        if self._process != os.getpid():
            self._kept = []
            self._process = os.getpid()
        while True:
            try:
                line = self._kept.pop()
            except IndexError:
                return None
            if monotonic() - line.used < IDLE:
                return line
            line.close()


def is_tenant(name: str) -> bool:
    return bool(_TENANT.fullmatch(name))


def read_url(url: str) -> tuple[bool, str, int, str]:
    """Whether by TLS, host, port, and the path without a slash at its end. Raises ValueError."""
    wrong = ValueError("the bell's URL is http(s)://host, with a port and a path where needed")
    if not url.isascii() or not url.isprintable() or any(c in url for c in " @?#\\"):
        raise wrong
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    try:
        port = parts.port
    except ValueError:
        raise wrong from None
    return secure, parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/")


def read_key(key: str | None) -> str | None:
    """A key as it goes into a header. Raises ValueError, without the key."""
    if key is None:
        return None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the key is empty, or holds what a key cannot hold")
    return key


def is_json(reply: Reply) -> bool:
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("application/json", "application/problem+json")


def read_json(reply: Reply) -> dict[str, Any]:
    """The JSON object of an answer. Raises BellError."""
    if not is_json(reply):
        raise BellError("the answer is no JSON: see the URL", reply.status)
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError):
        raise BellError("the answer is broken JSON", reply.status) from None
    if not isinstance(value, dict):
        raise BellError("the answer is no JSON object", reply.status)
    return value
