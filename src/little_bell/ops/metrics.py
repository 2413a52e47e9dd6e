"""Counters and histograms of the fast lane, and how they are shown.

Text format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from typing import NamedTuple

PREFIX = "little_bell_"

WITHHELD = ("consent", "gpc", "optout")  # why a hit was not stored
REFUSED_KEYS = ("unknown", "limited")  # why a key was not taken

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# Of answers that take their time: pages, exports, many emails at once.
LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Histogram:
    """Counts of observations by upper bound; the last count is of those above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, as many times as it occurred."""
        i = 0
        for bound in self.bounds:
            if value <= bound:
                break
            i += 1
        self.counts[i] += times
        self.total += value * times


class Metric(NamedTuple):
    """One family: its samples are (labels, number) or a histogram."""

    name: str  # without the prefix
    kind: str  # counter, gauge, histogram
    help: str
    samples: list[tuple[dict[str, str], float]] | Histogram


class Counters:
    """What the fast lane counts as it goes."""

    __slots__ = (
        "accepted",
        "answers_not_durable",
        "bad_signatures",
        "batch",
        "blocked",
        "commit",
        "connections",
        "connections_max",
        "emails_created",
        "events",
        "events_purged",
        "heads",
        "keys_refused",
        "latency",
        "longest_turn",
        "misses_limited",
        "requests",
        "requests_limited",
        "slow_latency",
        "slow_pid",
        "slow_starts",
        "tick",
        "unknown_ids",
        "withheld",
    )

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = {}  # (lane, route, status)
        self.events: dict[tuple[int, int], int] = {}  # (kind, class, or what became of it)
        self.withheld = dict.fromkeys(WITHHELD, 0)  # hits that were not stored, by reason
        self.keys_refused = dict.fromkeys(REFUSED_KEYS, 0)  # by reason
        self.latency = Histogram(SECONDS)
        self.slow_latency = Histogram(LONG_SECONDS)
        self.tick = Histogram(SECONDS)
        self.commit = Histogram(SECONDS)
        self.batch = Histogram(SIZES)
        self.longest_turn = 0.0
        self.unknown_ids = 0
        self.bad_signatures = 0
        self.heads = 0
        self.blocked = 0
        self.misses_limited = 0
        self.requests_limited = 0
        self.emails_created = 0
        self.events_purged = 0
        self.answers_not_durable = 0
        self.accepted = 0
        self.connections = 0
        self.connections_max = 0
        self.slow_starts = 0
        self.slow_pid = 0  # of the process behind the pages, while there is one

    def withhold(self, reason: str) -> None:
        self.withheld[reason] += 1

    def request(self, lane: str, route: str, status: int) -> None:
        key = (lane, route, status)
        self.requests[key] = self.requests.get(key, 0) + 1


def number(value: float) -> str:
    """A sample's value: whole numbers without a fraction."""
    return str(int(value)) if value == int(value) else repr(float(value))


def label_text(labels: dict[str, str]) -> str:
    """Labels in braces. Names and values here are our own and need no escapes."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def render_text(metrics: list[Metric]) -> str:
    """The metrics as Prometheus reads them."""
    lines = []
    for metric in metrics:
        name = PREFIX + metric.name
        lines.append(f"# HELP {name} {metric.help}")
        lines.append(f"# TYPE {name} {metric.kind}")
        samples = metric.samples
        if isinstance(samples, Histogram):
            running = 0
            for bound, count in zip(samples.bounds, samples.counts, strict=False):
                running += count
                lines.append(f'{name}_bucket{{le="{number(bound)}"}} {running}')
            running += samples.counts[-1]
            lines.append(f'{name}_bucket{{le="+Inf"}} {running}')
            lines.append(f"{name}_sum {number(samples.total)}")
            lines.append(f"{name}_count {running}")
        else:
            lines += [f"{name}{label_text(labels)} {number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def as_json(metrics: list[Metric]) -> dict[str, object]:
    """The same, for programs that would rather read JSON."""
    shown: dict[str, object] = {}
    for metric in metrics:
        samples = metric.samples
        if isinstance(samples, Histogram):
            shown[metric.name] = {
                "count": sum(samples.counts),
                "sum": samples.total,
                "buckets": {
                    number(bound): sum(samples.counts[: i + 1])
                    for i, bound in enumerate(samples.bounds)
                },
            }
        elif len(samples) == 1 and not samples[0][0]:
            shown[metric.name] = samples[0][1]
        else:
            shown[metric.name] = [{**labels, "value": value} for labels, value in samples]
    return shown


def resident_bytes(process: int | str = "self") -> int:
    """Memory of a process that is in RAM; 0 where the system does not say so cheaply."""
    try:
        with open(f"/proc/{process}/statm") as statm:
            return int(statm.read().split()[1]) * 4096
    except (OSError, ValueError):
        return 0
