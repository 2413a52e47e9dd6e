"""GET /metrics"""

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bell import BROWSER, Bell, Line, raw_request, serving, wait_until
from prometheus import needs_prometheus, promtool

PREFIX = "little_bell_"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """A server that has seen a bit of everything, where no exact number is looked for."""
    with serving(tmp_path_factory.mktemp("metrics")) as bell:
        bell.create()
        for _ in range(10):
            bell.get("/acme/pixel/1.gif")
        yield bell


def families(bell: Bell) -> dict[str, Metric]:
    """Every family as Prometheus reads it, by its name in the text without the prefix."""
    text = bell.get("/metrics").body.decode("utf-8")
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(text):
        assert family.name.startswith(PREFIX)
        # The parser cuts the suffix off that counters have.
        suffix = "_total" if family.type == "counter" else ""
        name = family.name.removeprefix(PREFIX) + suffix
        assert name not in found, f"{name} twice"
        found[name] = family
    return found


def value(bell: Bell, name: str, **labels: str) -> float:
    """The sum of the samples of that name whose labels hold these."""
    return sum(
        sample.value
        for family in families(bell).values()
        for sample in family.samples
        if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
    )


def test_numbers_are_numbers_in_json_too(shared: Bell) -> None:
    for name, found in shared.metrics().items():
        assert not isinstance(found, bool), name


def test_it_works(shared: Bell) -> None:
    answer = shared.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert families(shared)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("memory_bytes", "gauge"),
        ("database_bytes", "gauge"),
        ("wal_bytes", "gauge"),
        ("uptime_seconds", "gauge"),
        ("start_time_seconds", "gauge"),
        ("cpu_seconds_total", "counter"),
        ("slow_lane_memory_bytes", "gauge"),
        ("slow_lane_seconds", "histogram"),
        ("disk_free_bytes", "gauge"),
        ("disk_size_bytes", "gauge"),
        ("keys_refused_total", "counter"),
        ("emails_created_total", "counter"),
        ("connections_max", "gauge"),
        ("faults_total", "counter"),
        ("requests_total", "counter"),
        ("latency_seconds", "histogram"),
        ("tick_seconds", "histogram"),
        ("commit_seconds", "histogram"),
        ("longest_turn_seconds", "gauge"),
        ("batch_size", "histogram"),
        ("events_total", "counter"),
        ("hits_unknown_id_total", "counter"),
        ("hits_blocked_total", "counter"),
        ("misses_limited_total", "counter"),
        ("requests_limited_total", "counter"),
        ("answers_not_durable_total", "counter"),
        ("events_waiting", "gauge"),
        ("events_dropped_total", "counter"),
        ("connections_open", "gauge"),
        ("log_lines_dropped_total", "counter"),
    ],
)
def test_each_is_there_with_its_kind_and_its_help(shared: Bell, name: str, kind: str) -> None:
    family = families(shared)[name]
    assert family.type == kind
    assert family.documentation
    assert family.samples


@needs_prometheus
def test_promtool_finds_nothing_to_say(bell: Bell) -> None:
    for _ in range(2):  # with nothing counted yet, and with everything
        metrics = bell.get("/metrics").body
        assert promtool("check", "metrics", given=metrics) == (0, "")
        bell.create()
        bell.get("/acme/pixel/1.gif")
        bell.get("/acme/click/1?url=https://example.com")
        bell.get("/acme/pixel/2.gif")
        assert bell.get("/").status == 200
        assert bell.get("/acme/events.csv").status == 200
        assert run_backup(bell) == 0


def run_backup(bell: Bell) -> int:
    """`little-bell backup` in the server's folder; its exit code."""
    ran = subprocess.run(
        [*bell.program, "backup", "copy.db"], cwd=bell.folder, capture_output=True, timeout=60
    )
    return ran.returncode


def test_requests_by_route_and_status(bell: Bell) -> None:
    bell.create()
    for _ in range(3):
        bell.get("/acme/pixel/1.gif")
    bell.get("/acme/click/1?url=https://example.com")
    bell.get("/acme/click/1")
    bell.get("/_nothing")
    bell.get("/")
    with Line(bell.port) as line:
        line.send(b"garbage\r\n\r\n")
        line.rest()
    assert value(bell, "requests_total", route="pixel", status="200") == 3
    assert value(bell, "requests_total", route="click", status="302") == 1
    assert value(bell, "requests_total", route="click", status="400") == 1
    assert value(bell, "requests_total", route="create_email", status="201") == 1
    assert value(bell, "requests_total", status="404") == 1
    wait_until(lambda: value(bell, "requests_total", route="front", status="200") == 1)
    assert value(bell, "requests_total", status="400") == 2


def test_routes_are_few_whatever_is_asked_for(bell: Bell) -> None:
    for n in range(50):
        bell.get(f"/nothing{n}")
        bell.get(f"/tenant{n}/pixel/{n}.gif")
        bell.ask("PROPFIND", f"/x{n}")
    assert len(families(bell)["requests_total"].samples) < 15


def test_events_by_kind_and_class(bell: Bell) -> None:
    bell.create()
    for agent in (BROWSER, BROWSER, "Mozilla/5.0", "curl/8.0"):
        bell.ask("GET", "/acme/pixel/1.gif", headers={"User-Agent": agent})
    bell.get("/acme/click/1?url=https://example.com")  # so soon that it is a machine's
    assert value(bell, "events_total", kind="open", **{"class": "human"}) == 2
    assert value(bell, "events_total", kind="open", **{"class": "machine"}) == 2
    assert value(bell, "events_total", kind="click", **{"class": "machine"}) == 1
    assert value(bell, "events_total") == 5


def test_hits_on_unknown_ids(bell: Bell) -> None:
    bell.create()
    bell.get("/acme/pixel/2.gif")
    bell.get("/nobody/pixel/1.gif")
    bell.get("/acme/click/7?url=https://example.com")
    assert value(bell, "hits_unknown_id_total") == 3
    assert value(bell, "events_total") == 0


@pytest.mark.parametrize("name", ["commit_seconds", "batch_size"])
def test_histograms_of_commits(bell: Bell, name: str) -> None:
    bell.create()
    before = value(bell, f"{name}_count")
    assert before == 1
    for _ in range(5):
        bell.get("/acme/pixel/1.gif")
    assert value(bell, f"{name}_count") == before + 5
    assert value(bell, f"{name}_sum") > 0


def test_batches_grow_with_load(bell: Bell) -> None:
    bell.create()
    with Line(bell.port) as line:
        line.send(raw_request("/acme/pixel/1.gif") * 100)
        for _ in range(100):
            line.answer()
    assert value(bell, "batch_size_sum") == 101
    assert value(bell, "batch_size_count") < 50


def test_latency_counts_every_request(bell: Bell) -> None:
    before = value(bell, "latency_seconds_count")
    for _ in range(10):
        bell.get("/acme/pixel/1.gif")
    # Ten pixels, and the first reading of the metrics themselves.
    assert value(bell, "latency_seconds_count") == before + 11


@pytest.mark.parametrize(
    "name", ["latency_seconds", "tick_seconds", "commit_seconds", "batch_size"]
)
def test_buckets_add_up(shared: Bell, name: str) -> None:
    samples = families(shared)[name].samples
    buckets = [(s.labels["le"], s.value) for s in samples if s.name.endswith("_bucket")]
    [count] = [s.value for s in samples if s.name.endswith("_count")]
    counts = [n for _, n in buckets]
    assert counts == sorted(counts)
    assert buckets[-1] == ("+Inf", count)
    bounds = [float(bound) for bound, _ in buckets]
    assert bounds == sorted(set(bounds))


def test_the_longest_turn_is_no_shorter_than_the_average(shared: Bell) -> None:
    average = value(shared, "tick_seconds_sum") / value(shared, "tick_seconds_count")
    assert value(shared, "longest_turn_seconds") >= average


def test_sizes_and_uptime(bell: Bell) -> None:
    before = value(bell, "wal_bytes")
    bell.create(subject="x" * 900, metadata={str(n): "y" * 900 for n in range(40)})
    assert value(bell, "wal_bytes") > before
    assert value(bell, "database_bytes") == bell.database.stat().st_size
    wal = bell.database.with_name(bell.database.name + "-wal")
    assert value(bell, "wal_bytes") == wal.stat().st_size
    assert 5_000_000 < value(bell, "memory_bytes") < 200_000_000
    first = value(bell, "uptime_seconds")
    assert 0 < first < 60
    assert value(bell, "uptime_seconds") > first


def test_what_is_left_of_the_disk(bell: Bell) -> None:
    disk = os.statvfs(bell.database.parent)
    assert value(bell, "disk_size_bytes") == disk.f_blocks * disk.f_frsize
    free = disk.f_bavail * disk.f_frsize
    assert abs(value(bell, "disk_free_bytes") - free) < 1 << 30  # others write, too


def test_when_the_last_backup_was(bell: Bell) -> None:
    bell.create()
    assert families(bell)["backup_timestamp_seconds"].samples == []
    assert bell.metrics()["backup_timestamp_seconds"] == []
    before = time.time() - 0.1  # a file's time may be that of the last tick of the kernel
    assert run_backup(bell) == 0
    assert before < value(bell, "backup_timestamp_seconds") <= time.time()
    word = bell.database.with_name("tracking.db.backed-up")
    assert word.read_text() == f"{bell.folder / 'copy.db'}\n"
    last = value(bell, "backup_timestamp_seconds")
    failed = subprocess.run(
        [*bell.program, "backup", "nowhere/copy.db"], cwd=bell.folder, capture_output=True
    )
    assert failed.returncode == 1
    assert value(bell, "backup_timestamp_seconds") == last


def test_when_it_started_and_what_it_took(bell: Bell) -> None:
    started = value(bell, "start_time_seconds")
    assert time.time() - 20 < started < time.time()
    spent = value(bell, "cpu_seconds_total")
    for _ in range(200):
        bell.get("/acme/pixel/1.gif")
    assert value(bell, "cpu_seconds_total") > spent
    assert value(bell, "start_time_seconds") == started


def test_keys_that_were_refused(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(AUTH="keys", ADMIN_KEY="k" * 16, METRICS_TOKEN="t" * 16)
    assert bell.get("/metrics").status == 401

    def refused(reason: str) -> float:
        answer = bell.get("/metrics", Authorization="Bearer " + "t" * 16, Accept="application/json")
        [found] = [x for x in answer.json["keys_refused_total"] if x["reason"] == reason]
        return float(found["value"])

    assert (refused("unknown"), refused("limited")) == (0, 0)
    bell.get("/acme/emails")  # no key at all is not a wrong one
    assert bell.get("/acme/emails", Authorization="Bearer " + "k" * 16).status == 404
    assert (refused("unknown"), refused("limited")) == (0, 0)
    assert bell.get("/metrics", Authorization="Bearer wrong").status == 401
    for _ in range(9):
        assert bell.get("/acme/emails", Authorization="Bearer wrong").status == 401
    assert (refused("unknown"), refused("limited")) == (10, 0)
    for _ in range(3):
        assert bell.get("/acme/emails", Authorization="Bearer wrong").status == 429
    assert (refused("unknown"), refused("limited")) == (10, 3)


def test_the_slow_lane(bell: Bell) -> None:
    assert value(bell, "slow_lane_memory_bytes") == 0
    assert value(bell, "slow_lane_seconds_count") == 0
    bell.create()
    for _ in range(3):
        assert bell.get("/acme/dashboard").status == 200
    assert bell.get("/acme/events.csv").status == 200
    wait_until(lambda: value(bell, "slow_lane_seconds_count") == 4)
    assert 0 < value(bell, "slow_lane_seconds_sum") < 60
    assert 5_000_000 < value(bell, "slow_lane_memory_bytes") < 500_000_000


def test_the_slow_lanes_memory_is_that_of_one_that_is_there(
    start_bell: Callable[..., Bell],
) -> None:
    bell = start_bell(SLOW_LANE_IDLE_SECONDS="1")
    bell.get("/acme/dashboard")
    assert value(bell, "slow_lane_memory_bytes") > 0
    wait_until(lambda: value(bell, "slow_lane_memory_bytes") == 0)
    assert value(bell, "slow_lane_starts_total") == 1


def test_emails_created(bell: Bell) -> None:
    bell.create()
    assert bell.ask("POST", "/acme/emails", b"{").status == 400
    many = bell.ask("POST", "/acme/emails", b"{}\n" * 500, {"Content-Type": "application/x-ndjson"})
    assert many.status == 201
    once = {"Idempotency-Key": "k"}
    for _ in range(2):
        assert bell.ask("POST", "/acme/emails", {"html": "<p>x"}, once).status == 201
    assert value(bell, "emails_created_total") == 502


def test_each_class_of_events_is_there_from_the_start(bell: Bell) -> None:
    samples = families(bell)["events_total"].samples
    assert {s.labels["kind"] for s in samples} == {"open", "click"}
    classes = {"human", "proxy", "machine", "unknown", "gone", "capped"}
    assert {s.labels["class"] for s in samples} == classes
    assert [s.value for s in samples] == [0] * 12


def test_series_do_not_grow_with_what_strangers_send(bell: Bell) -> None:
    """Every label is a word of ours: a tenant, a path, a method or a status of theirs is none."""
    bell.create()

    def everything(n: int) -> None:
        for target in (
            f"/tenant{n}/pixel/{n}.gif",
            f"/tenant{n}/click/{n}?url=https://host{n}.example/{n}",
            f"/tenant{n}/l/{n}/token{n}",
            f"/tenant{n}/dashboard",
            f"/{n}",
            f"/acme/pixel/1.gif?{n}",
            f"/acme/click/1?url=https://host{n}.example",
        ):
            bell.ask(
                "GET", target, headers={"User-Agent": f"agent {n}", "X-Real-IP": f"10.0.0.{n}"}
            )
        bell.ask("POST", f"/tenant{n}/emails", {"campaign": f"campaign {n}"})
        bell.ask("BREW", f"/tenant{n}")
        bell.ask("PROPFIND", f"/tenant{n}/emails")
        with Line(bell.port) as line:
            line.send(b"GET /%d HTTP/1.%d\r\n\r\n" % (n, n % 10))
            line.rest()

    def series() -> int:
        return sum(len(family.samples) for family in families(bell).values())

    for n in range(10, 20):  # each form of a bad version once
        everything(n)
    answered = {"lane": "slow", "route": "dashboard"}
    wait_until(lambda: value(bell, "requests_total", **answered) == 10)
    before = series()
    for n in range(20, 60):
        everything(n)
    wait_until(lambda: value(bell, "requests_total", **answered) == 50)
    assert series() == before
    assert before < 250


def test_connections(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_CONNECTIONS="100")
    assert value(bell, "connections_max") == 100
    assert value(bell, "connections_open") == 1  # the one that asks
    with Line(bell.port) as one, Line(bell.port) as two:
        for line in (one, two):
            line.send(raw_request("/health"))
            line.answer()
        assert value(bell, "connections_open") == 3
    wait_until(lambda: value(bell, "connections_open") == 1)


def test_events_that_wait_and_are_dropped(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_WAITING_BYTES="2000")
    bell.create()
    other = sqlite3.connect(bell.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        for _ in range(20):
            assert bell.get("/acme/pixel/1.gif").status == 200
        waiting, dropped = value(bell, "events_waiting"), value(bell, "events_dropped_total")
        assert waiting > 0
        assert dropped > 0
        assert waiting + dropped == 20
        assert value(bell, "answers_not_durable_total") == 20
    finally:
        other.execute("ROLLBACK")
        other.close()
    wait_until(lambda: value(bell, "events_waiting") == 0)
    assert value(bell, "events_total") == waiting
    assert bell.rows("SELECT count(*) FROM events") == [(waiting,)]
    assert value(bell, "events_dropped_total") == dropped


def test_the_same_as_json(bell: Bell) -> None:
    bell.create()
    bell.get("/acme/pixel/1.gif")
    answer = bell.get("/metrics", Accept="application/json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    shown = answer.json
    assert set(families(bell)) <= set(shown), "it is in the text alone"
    assert shown["batch_size"]["count"] == 2
    assert shown["batch_size"]["buckets"]["1"] == 2
    [opened] = [one for one in shown["events_total"] if one["value"]]
    assert opened == {"kind": "open", "class": "human", "value": 1}
    pixels = [one for one in shown["requests_total"] if one["route"] == "pixel"]
    assert [(one["status"], one["value"]) for one in pixels] == [("200", 1)]


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "application/openmetrics-text"])
def test_text_unless_json_is_asked_for(shared: Bell, accept: str) -> None:
    assert shared.get("/metrics", Accept=accept).headers["content-type"].startswith("text/plain")


def test_it_holds_nothing_of_any_tenant(bell: Bell) -> None:
    bell.create("hidden", subject="hidden", recipient="hidden@example.com", campaign="hidden")
    bell.get("/hidden/pixel/1.gif", User_Agent="hidden")
    for accept in ("text/plain", "application/json"):
        assert b"hidden" not in bell.get("/metrics", Accept=accept).body


def test_head_and_wrong_method(shared: Bell) -> None:
    head = shared.ask("HEAD", "/metrics")
    assert (head.status, head.body) == (200, b"")
    answer = shared.ask("POST", "/metrics", b"")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"].split(", ")
