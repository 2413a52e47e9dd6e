"""Whether the bell works, and everything it measures."""

import os
from time import monotonic, process_time, time

from little_bell import __version__
from little_bell.ops.logs import Log
from little_bell.ops.metrics import Counters, Metric, resident_bytes
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.recorder import Recorder
from little_bell.store.transaction import GONE, OVER_CAP
from little_bell.tracking.hit import KINDS
from little_bell.tracking.rules import CLASSES

UNCOUNTED = {GONE: "gone", OVER_CAP: "capped"}  # hits that are no event of a class
BACKED_UP = ".backed-up"  # behind the database's name: written when a backup of it is done

# Each is there from the start: what counts from nothing to one has not risen for Prometheus.
NO_EVENTS = {
    (kind, class_): 0 for kind in range(2) for class_ in (*range(len(CLASSES)), *UNCOUNTED)
}

HELD = "another program reads an old state of the database: the write-ahead log grows past its cap"


def file_size(path: str) -> int:
    """Bytes; 0 where there is no such file."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def disk(path: str) -> tuple[int, int]:
    """Bytes of the file system under a file: those this user may still fill, and all; 0 where
    the system does not say."""
    try:
        found = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return 0, 0
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def backed_up(path: str) -> list[tuple[dict[str, str], float]]:
    """When the last backup of a database was done, seconds since the epoch, if one ever was."""
    try:
        return [({}, os.stat(path + BACKED_UP).st_mtime)]
    except OSError:
        return []


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
        self.started_at = time()

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
            for (kind, class_), n in sorted({**NO_EVENTS, **counters.events}.items())
        ]

        path = recorder.writer.path
        disk_free, disk_size = disk(path)

        def one(name: str, kind: str, help_: str, value: float) -> Metric:
            return Metric(name, kind, help_, [({}, value + 0)])  # what is true is 1 in JSON as well

        return [
            Metric("info", "gauge", "The version that runs.", [({"version": __version__}, 1.0)]),
            one("uptime_seconds", "gauge", "Seconds since start.", monotonic() - self.started),
            one(
                "start_time_seconds",
                "gauge",
                "When it was started, seconds since the epoch.",
                self.started_at,
            ),
            one("cpu_seconds_total", "counter", "Processor time of the fast lane.", process_time()),
            one("healthy", "gauge", "1 while every answer is durable.", recorder.reason is None),
            one("memory_bytes", "gauge", "Resident memory of the fast lane.", resident_bytes()),
            one(
                "slow_lane_memory_bytes",
                "gauge",
                "Resident memory of the slow lane; 0 while there is none.",
                resident_bytes(counters.slow_pid) if counters.slow_pid else 0,
            ),
            one("database_bytes", "gauge", "Size of the database file.", file_size(path)),
            one("wal_bytes", "gauge", "Size of the write-ahead log.", self.wal_bytes()),
            one("disk_free_bytes", "gauge", "Room left where the database is.", disk_free),
            one("disk_size_bytes", "gauge", "Size of the file system of the database.", disk_size),
            Metric(
                "backup_timestamp_seconds",
                "gauge",
                "When `little-bell backup` last wrote one, seconds since the epoch.",
                backed_up(path),
            ),
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
            Metric(
                "slow_lane_seconds",
                "histogram",
                "From a whole request to its answer, slow lane.",
                counters.slow_latency,
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
            Metric(
                "keys_refused_total",
                "counter",
                "Keys that open nothing, and those not looked at because too many of these came.",
                [({"reason": reason}, float(n)) for reason, n in counters.keys_refused.items()],
            ),
            one(
                "answers_not_durable_total",
                "counter",
                "Answers sent before their event was safe.",
                counters.answers_not_durable,
            ),
            one("emails_created_total", "counter", "Emails created.", counters.emails_created),
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
            one("connections_max", "gauge", "Most that may be open.", counters.connections_max),
            one("connections_total", "counter", "Connections accepted.", counters.accepted),
            one(
                "slow_lane_starts_total",
                "counter",
                "Times the slow lane was started.",
                counters.slow_starts,
            ),
            one("faults_total", "counter", "Faults of the program, logged.", self.log.faults),
            one(
                "log_lines_dropped_total",
                "counter",
                "Log lines lost because nobody read them.",
                self.log.dropped,
            ),
        ]
