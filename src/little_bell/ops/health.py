"""Whether the bell works, and everything it measures."""

import os
from time import monotonic

from little_bell import __version__
from little_bell.ops.logs import Log
from little_bell.ops.metrics import Counters, Metric, resident_bytes
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.recorder import Recorder
from little_bell.store.transaction import GONE, OVER_CAP
from little_bell.tracking.hit import KINDS
from little_bell.tracking.rules import CLASSES

UNCOUNTED = {GONE: "gone", OVER_CAP: "capped"}  # hits that are no event of a class


HELD = "another program reads an old state of the database: the write-ahead log grows past its cap"


def file_size(path: str) -> int:
    """Bytes; 0 where there is no such file."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


class Health:
    """Reads the fast lane's state; changes nothing."""

    def __init__(
        self, counters: Counters, recorder: Recorder, checkpointer: Checkpointer, log: Log
    ) -> None:
        self.counters = counters
        self.recorder = recorder
        self.checkpointer = checkpointer
        self.log = log
        self.started = monotonic()

    def report(self) -> dict[str, object]:
        """The body of /health; `status` is healthy, or degraded with a reason."""
        reason = self.recorder.reason
        report: dict[str, object] = {
            "status": "healthy" if reason is None else "degraded",
            "service": "little-bell",
            "version": __version__,
            "uptime_seconds": int(monotonic() - self.started),
            "database": "ok" if reason is None else "failing",
        }
        if reason is not None:
            report["reason"] = reason
            report["events_waiting"] = self.recorder.events_waiting
        elif self.checkpointer.held:
            report["warning"] = HELD
        return report

    def wal_bytes(self) -> int:
        return file_size(self.recorder.writer.path + "-wal")

    def metrics(self) -> list[Metric]:
        """Every family of /metrics."""
        counters = self.counters
        recorder = self.recorder
        requests = [
            ({"lane": lane, "route": route, "status": str(status)}, float(n))
            for (lane, route, status), n in sorted(counters.requests.items())
        ]
        events = [
            ({"kind": KINDS[kind], "class": UNCOUNTED.get(class_) or CLASSES[class_]}, float(n))
            for (kind, class_), n in sorted(counters.events.items())
        ]

        def one(name: str, kind: str, help_: str, value: float) -> Metric:
            return Metric(name, kind, help_, [({}, value + 0)])  # what is true is 1 in JSON as well

        return [
            Metric("info", "gauge", "The version that runs.", [({"version": __version__}, 1.0)]),
            one("uptime_seconds", "gauge", "Seconds since start.", monotonic() - self.started),
            one("healthy", "gauge", "1 while every answer is durable.", recorder.reason is None),
            one("memory_bytes", "gauge", "Resident memory of the fast lane.", resident_bytes()),
            one(
                "database_bytes",
                "gauge",
                "Size of the database file.",
                file_size(recorder.writer.path),
            ),
            one("wal_bytes", "gauge", "Size of the write-ahead log.", self.wal_bytes()),
            one(
                "checkpoints_total",
                "counter",
                "Times the write-ahead log started from its beginning.",
                self.checkpointer.count,
            ),
            one(
                "checkpoint_held",
                "gauge",
                "1 while a reader keeps a write-ahead log past its cap from starting anew.",
                self.checkpointer.held,
            ),
            one(
                "checkpoint_longest_seconds",
                "gauge",
                "Longest part of a checkpoint that the fast lane did itself.",
                self.checkpointer.longest,
            ),
            Metric("requests_total", "counter", "Requests by lane, route and status.", requests),
            Metric(
                "latency_seconds",
                "histogram",
                "From bytes read to the answer handed to the kernel, fast lane.",
                counters.latency,
            ),
            Metric("tick_seconds", "histogram", "Duration of a turn of the loop.", counters.tick),
            one(
                "longest_turn_seconds",
                "gauge",
                "The longest turn since start.",
                counters.longest_turn,
            ),
            Metric("commit_seconds", "histogram", "Duration of a commit.", counters.commit),
            Metric(
                "batch_size", "histogram", "Events and emails that shared a commit.", counters.batch
            ),
            Metric("events_total", "counter", "Hits by kind and class.", events),
            Metric(
                "events_withheld_total",
                "counter",
                "Hits of which nothing was stored, by reason.",
                [({"reason": reason}, float(n)) for reason, n in counters.withheld.items()],
            ),
            one(
                "hits_unknown_id_total",
                "counter",
                "Hits on ids never issued.",
                counters.unknown_ids,
            ),
            one(
                "hits_bad_signature_total",
                "counter",
                "Hits with a signature that is not good.",
                counters.bad_signatures,
            ),
            one(
                "hits_head_total",
                "counter",
                "HEAD requests of issued ids, no events.",
                counters.heads,
            ),
            one(
                "hits_blocked_total",
                "counter",
                "Hits on what is switched off.",
                counters.blocked,
            ),
            one(
                "misses_limited_total",
                "counter",
                "Hits on ids never issued, past a source's share.",
                counters.misses_limited,
            ),
            one(
                "requests_limited_total",
                "counter",
                "Requests of management refused because too many came.",
                counters.requests_limited,
            ),
            one(
                "answers_not_durable_total",
                "counter",
                "Answers sent before their event was safe.",
                counters.answers_not_durable,
            ),
            one(
                "events_waiting", "gauge", "Events that wait for the disk.", recorder.events_waiting
            ),
            one(
                "events_dropped_total",
                "counter",
                "Events lost because too many waited.",
                recorder.dropped,
            ),
            one(
                "events_purged_total",
                "counter",
                "Events that left the log because they were old.",
                counters.events_purged,
            ),
            one(
                "rows_refused_total", "counter", "Rows that the database refused.", recorder.refused
            ),
            one("connections_open", "gauge", "Open connections.", counters.connections),
            one("connections_total", "counter", "Connections accepted.", counters.accepted),
            one(
                "slow_lane_starts_total",
                "counter",
                "Times the slow lane was started.",
                counters.slow_starts,
            ),
            one(
                "log_lines_dropped_total",
                "counter",
                "Log lines lost because nobody read them.",
                self.log.dropped,
            ),
        ]
