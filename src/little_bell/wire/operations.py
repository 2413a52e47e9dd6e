"""What operators ask of a running bell: over HTTP, and over the control socket."""

import os
from collections.abc import Callable

from little_bell.config import Config
from little_bell.errors import Refused
from little_bell.ops.health import Health
from little_bell.ops.secret import PROOF, Secret, secret_path
from little_bell.store.checkpoint import Checkpointer
from little_bell.wire.answers import TEXT_HEADERS
from little_bell.wire.http import Request
from little_bell.wire.replies import Replies


class Operations:
    """Handlers by the names of their routes."""

    def __init__(
        self,
        config: Config,
        health: Health,
        checkpointer: Checkpointer,
        replies: Replies,
        secret: Secret,
    ) -> None:
        self.config = config
        self.health_report = health
        self.checkpointer = checkpointer
        self.replies = replies
        self.keys = secret
        self.handlers: dict[str, Callable[[Request, list[bytes], bytes, bytes], bytes]] = {
            "health": self.health,
            "metrics": self.metrics,
            "status": self.status,
            "checkpoint": self.checkpoint,
            "secret": self.secret,
        }

    def health(
        self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> bytes:
        report = self.health_report.report()
        status = 200 if report["status"] == "healthy" else 503
        return self.replies.json(request, "health", status, report)

    def metrics(
        self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> bytes:
        from little_bell.ops.metrics import as_json, render_text

        collected = self.health_report.metrics()
        if b"application/json" in request.headers.get(b"accept", b""):
            return self.replies.json(request, "metrics", 200, as_json(collected))
        body = render_text(collected).encode("utf-8")
        return self.replies.answer(request, "metrics", 200, TEXT_HEADERS, body)

    def status(
        self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> bytes:
        """What the console command `status` shows."""
        report = {**self.health_report.report(), "pid": os.getpid(), "url": self.config.base_url}
        return self.replies.json(request, "status", 200, report)

    def checkpoint(
        self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> bytes:
        """Begin a checkpoint; it ends in the background."""
        self.checkpointer.ask()
        wal_bytes = self.health_report.wal_bytes()
        return self.replies.json(request, "checkpoint", 200, {"wal_bytes": wal_bytes})

    def secret(
        self, request: Request, _segments: list[bytes], _query: bytes, _peer: bytes
    ) -> bytes:
        """Read the keys again where they changed, and say in which file they are, and by
        whose proof others can tell that they have the same."""
        problem = self.keys.look()
        if problem is not None:
            raise Refused(503, problem)
        file = None if self.config.secret_key else secret_path(self.config)
        proof = self.keys.ring.sign(PROOF).hex()
        return self.replies.json(request, "secret", 200, {"file": file, "proof": proof})
