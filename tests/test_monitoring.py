"""A real Prometheus that scrapes the bell, alert rules, the dashboard, MONITORING.md"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bell import BROWSER, Bell, serving, wait_until
from programs import free_port, needs
from prometheus import (
    DEPLOY,
    RULES,
    TOKEN,
    Prometheus,
    Sample,
    needs_prometheus,
    promtool,
)

MONITORING = (Path(__file__).parent.parent / "docs" / "MONITORING.md").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana" / "little-bell.json").read_text())
ALERTS = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())
MACHINE = {"User-Agent": "curl/8.0"}

pytestmark = needs_prometheus


class Watched(NamedTuple):
    """A bell with a life behind it, and the Prometheus that saw it."""

    bell: Bell
    prometheus: Prometheus
    empty: float  # when nothing had happened yet; these are seconds since the epoch
    busy: float  # after traffic
    restarted: float  # after a kill, a start and more traffic

    def at(self, moment: float, expression: str) -> list[Sample]:
        return self.prometheus.query(expression, moment)


def traffic(bell: Bell) -> None:
    """6 opens by people, 2 by machines, a click, a miss; pages; an email, 20 emails."""
    bell.create()
    for _ in range(6):
        bell.ask("GET", "/acme/pixel/1.gif", headers={"User-Agent": BROWSER})
    for _ in range(2):
        bell.ask("GET", "/acme/pixel/1.gif", headers=MACHINE)
    bell.get("/acme/click/1?url=https://example.com")  # so soon that it is a machine's
    bell.get("/acme/pixel/999.gif")
    bell.get("/acme/dashboard")
    bell.get("/acme/events.csv")
    ndjson = {"Content-Type": "application/x-ndjson"}
    assert bell.ask("POST", "/acme/emails", b"{}\n" * 20, ndjson).status == 201


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    port = free_port()
    settings = {"PORT": str(port), "METRICS_TOKEN": TOKEN}
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        serving(tmp_path_factory.mktemp("watched"), **settings) as bell,
        Prometheus(folder, port) as prometheus,
    ):
        prometheus.scraped()
        empty = prometheus.scraped()
        traffic(bell)
        prometheus.scraped()
        busy = prometheus.scraped()
        bell.kill()
        wait_until(lambda: prometheus.value('up{job="little-bell"}') == 0)
        bell.start()
        prometheus.scraped()
        for _ in range(3):
            bell.ask("GET", "/acme/pixel/1.gif", headers={"User-Agent": BROWSER})
        bell.get("/acme/dashboard")
        prometheus.scraped()
        yield Watched(bell, prometheus, empty, busy, prometheus.scraped())


# Prometheus


def test_the_configuration_is_good(tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path, 3000)
    prometheus.configure()
    code, said = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert code == 0, said
    assert f"{len(ALERTS)} rules found" in said


def test_it_is_up_for_who_has_the_token(watched: Watched) -> None:
    assert watched.prometheus.value('up{job="little-bell"}', watched.empty) == 1
    assert watched.prometheus.value('up{job="wrong"}', watched.busy) == 0
    [refused] = [
        one
        for one in watched.prometheus.api("targets")["activeTargets"]
        if one["labels"]["job"] == "wrong"
    ]
    # Wrong ones come twice a second here, and are soon not looked at any more.
    assert re.search("401 Unauthorized|429 Too Many Requests", refused["lastError"])


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ('sum(little_bell_events_total{kind="open"})', 8),
        ('sum(little_bell_events_total{kind="click"})', 1),
        ('little_bell_events_total{kind="open", class="human"}', 6),
        ('little_bell_events_total{kind="open", class="machine"}', 2),
        ('little_bell_events_total{kind="open", class="unknown"}', 0),
        ("little_bell_hits_unknown_id_total", 1),
        ("little_bell_emails_created_total", 21),
        ('little_bell_requests_total{lane="fast", route="pixel", status="200"}', 9),
        ('little_bell_requests_total{lane="slow", route="dashboard", status="200"}', 1),
        ("little_bell_slow_lane_seconds_count", 3),
        ("little_bell_healthy", 1),
        ("little_bell_slow_lane_starts_total", 1),
        ("little_bell_faults_total", 0),
    ],
)
def test_queries_give_what_happened(watched: Watched, expression: str, number: float) -> None:
    assert watched.prometheus.value(expression, watched.busy) == number


def test_what_rose_is_what_happened(watched: Watched) -> None:
    """That is what a series with 0 from the start is for; increase() estimates, with a fraction."""
    rose = 'sum(increase(little_bell_events_total{kind="open"}[1m]))'
    assert 7 < watched.prometheus.value(rose, watched.busy) < 12


@pytest.mark.parametrize(
    ("histogram", "most"), [("latency", 5), ("commit", 5), ("tick", 5), ("slow_lane", 30)]
)
def test_quantiles(watched: Watched, histogram: str, most: float) -> None:
    for quantile in (0.5, 0.99):
        expression = (
            f"histogram_quantile({quantile}, "
            f"sum by (le) (rate(little_bell_{histogram}_seconds_bucket[1m])))"
        )
        assert 0 < watched.prometheus.value(expression, watched.busy) <= most


def test_a_restart_is_a_reset_and_nothing_is_counted_twice(watched: Watched) -> None:
    def value(expression: str) -> float:
        return watched.prometheus.value(expression, watched.restarted)

    assert value("changes(little_bell_start_time_seconds[1m])") == 1
    assert value("little_bell_uptime_seconds") < watched.restarted - watched.busy
    human = 'little_bell_events_total{kind="open", class="human"}'
    assert value(human) == 3
    assert value(f"resets({human}[1m])") == 1
    assert 8 < value(f"increase({human}[1m])") < 13  # 9, and what it makes of the edges
    assert watched.at(watched.restarted, "little_bell_healthy == 1")


def test_series_are_few(watched: Watched) -> None:
    number = watched.prometheus.value(
        'count({__name__=~"little_bell_.*", job="little-bell"})', watched.restarted
    )
    assert 50 < number < 250


# Alerts


def test_promtool_finds_nothing_to_say_of_the_rules() -> None:
    code, said = promtool("check", "rules", str(RULES / "alerts.yml"))
    assert code == 0, said


@pytest.mark.parametrize("name", ["alerts_test.yml", "alerts_slow_test.yml"])
def test_each_alert_fires_where_it_should_and_nowhere_else(name: str) -> None:
    code, said = promtool("test", "rules", name, folder=RULES)
    assert code == 0, said


def test_each_alert_has_both_cases() -> None:
    cases = "".join(
        (RULES / name).read_text() for name in ("alerts_test.yml", "alerts_slow_test.yml")
    )
    for alert in ALERTS:
        expected = re.findall(
            rf'alertname="{alert}", alertstate="firing"}}\)\n *eval_time: \w+\n *(.*)\n', cases
        )
        assert "exp_samples:" in expected, f"{alert} never fires"
        assert "exp_samples: []" in expected, f"{alert} is never quiet"


def test_alerts_ask_for_metrics_that_are_there(watched: Watched) -> None:
    [group] = watched.prometheus.api("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == ALERTS
    there = names(watched)
    for rule in group["rules"]:
        asked = set(re.findall(r"little_bell_\w+", rule["query"]))
        assert asked <= there, rule["name"]
        assert asked or rule["name"] == "LittleBellDown"
        assert rule["health"] == "ok", rule
        # A kill and a start, with an answer in between: too short to tell anybody of.
        assert rule["state"] != "firing", rule


def test_a_daily_backup_is_not_called_old() -> None:
    """The longest day of the timer, where clocks go back, and an hour for the backup itself."""
    timer = (DEPLOY / "systemd" / "little-bell-backup.timer").read_text()
    assert "OnCalendar=daily\n" in timer
    fixed = "FixedRandomDelay=true\n" in timer
    [delay] = re.findall(r"^RandomizedDelaySec=(\d)h$", timer, re.MULTILINE)
    [hours] = re.findall(
        r"backup_timestamp_seconds > (\d+) \* 3600$",
        (RULES / "alerts.yml").read_text(),
        re.MULTILINE,
    )
    assert 24 + 1 + (0 if fixed else int(delay)) < int(hours)


def test_each_alert_says_what_to_do(watched: Watched) -> None:
    headings = re.findall(r"^### (\w+)$", MONITORING, re.MULTILINE)
    assert headings == ALERTS
    for rule in watched.prometheus.api("rules")["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/MONITORING.md#{rule['name'].lower()}"
        assert "$labels.instance" in rule["annotations"]["summary"]


def names(watched: Watched) -> set[str]:
    """What the bell's series are called, and those that only some bells have."""
    found = watched.prometheus.api("label/__name__/values")
    return {*found, "little_bell_backup_timestamp_seconds"}


# The dashboard


def panels(kind: str | None = None) -> list[dict[str, Any]]:
    return [
        p
        for p in DASHBOARD["panels"]
        if (p["type"] != "row" if kind is None else p["type"] == kind)
    ]


def expressions() -> list[tuple[str, str]]:
    """(panel, query) of all, with variables as Grafana would fill them."""
    found = [(p["title"], one["expr"]) for p in panels() for one in p["targets"]]
    found += [(one["name"], one["expr"]) for one in DASHBOARD["annotations"]["list"]]
    variables = {
        "$job": "little-bell",
        "$instance": ".+",
        "$__rate_interval": "30s",
        "$__range": "1m",
    }
    filled = []
    for title, expression in found:
        for name, value in variables.items():
            expression = expression.replace(name, value)
        assert "$" not in expression, title
        filled.append((title, expression))
    return filled


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_each_query_of_the_dashboard_gives_something(
    watched: Watched, title: str, expression: str
) -> None:
    found = watched.at(watched.restarted, expression)
    if title == "Last backup":
        assert found == []  # there was none
    else:
        assert found
        assert any(sample.value == sample.value for sample in found), "nothing but NaN"
    assert set(re.findall(r"little_bell_\w+", expression)) <= names(watched)


def test_what_the_dashboard_says_of_the_opens(watched: Watched) -> None:
    """One of its queries, by its numbers: machines opened less often than people."""
    [expression] = [e for title, e in expressions() if title == "Opens a minute, by class"]
    found = {s.labels["class"]: s.value for s in watched.at(watched.busy, expression)}
    assert 0 < found["machine"] < found["human"]
    assert found["capped"] == 0


def test_the_dashboard_shows_every_metric_or_it_is_said_why_not(watched: Watched) -> None:
    text = json.dumps(DASHBOARD)
    shown = set(re.findall(r"little_bell_[a-z_]+", text))
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    there = {
        re.sub("_(bucket|sum|count)$", "", n) for n in names(watched) if n.startswith("little_")
    }
    # The time since the start is shown by the time of the start; the disk's size by what is free.
    assert there - shown == {"little_bell_uptime_seconds"}


def test_variables_of_the_dashboard() -> None:
    listed = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert list(listed) == ["datasource", "job", "instance"]
    assert listed["datasource"]["type"] == "datasource"
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(one["datasource"] == panel["datasource"] for one in panel["targets"])
        for one in panel["targets"]:
            assert one["expr"].count('job="$job", instance=~"$instance"') == one["expr"].count(
                "little_bell_"
            ) + one["expr"].count("up{")


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(titles) == len(set(titles))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert [p["title"] for p in panels("row")] == [
        "Is it well",
        "Traffic",
        "Latency and turns",
        "Disk and write-ahead log",
        "Memory and connections",
        "Limits and attacks",
    ]


# https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts
UNITS = {"none", "short", "percentunit", "bytes", "s", "reqps", "dateTimeFromNow"}


def test_units() -> None:
    for panel in panels():
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert unit in UNITS
        queries = " ".join(one["expr"] for one in panel["targets"])
        if "histogram_quantile" in queries:
            assert unit == "s", panel["title"]
        if "_bytes" in queries and "/" not in queries:
            assert unit == "bytes", panel["title"]
        if "* 1000" in queries:
            assert unit == "dateTimeFromNow", panel["title"]


# MONITORING.md


@needs("jq")
def test_each_command_runs_and_says_something(bell: Bell) -> None:
    traffic(bell)
    assert bell.stop() == 0
    bell.start()  # it has an open tenant now, of which it warns
    commands = [
        line
        for block in re.findall(r"```sh\n(.*?)```", MONITORING, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(commands) >= 8
    log = bell.log_file.read_text()
    (bell.folder / "bell.log").write_text(log)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = {}
    for command in commands:
        here = command.replace("localhost:3000", f"localhost:{bell.port}")
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", here],
            cwd=bell.folder,
            env={"PATH": path},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), command
        said[command] = ran.stdout
    [health, status, numbers, failed, *logs] = [said[command] for command in commands]
    assert "healthy" in health
    assert "healthy" in status
    assert json.loads(numbers)["healthy"] == 1
    assert failed == ""  # nothing did
    unusual, opened, clicked, counted = logs
    assert [json.loads(line)["level"] for line in unusual.splitlines()] == ["WARN"]
    assert opened.split() == ["8", "acme"]
    assert clicked.split()[1:] == ["acme", "1"]
    assert json.loads(counted)["Email opened"] == 8


def test_it_names_metrics_and_messages_that_there_are(watched: Watched) -> None:
    there = {name.removeprefix("little_bell_") for name in names(watched)}
    there |= {re.sub("_(bucket|sum|count)$", "", name) for name in there}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", MONITORING))
    assert named <= there
    usage = (Path(__file__).parent.parent / "docs" / "USAGE.md").read_text()
    messages = re.findall(r"^\| `([A-Z].*?)` \|", MONITORING, re.MULTILINE)
    assert len(messages) == 9
    for message in messages:
        for one in message.split("`, `"):
            assert re.search(re.escape(one).replace(r"\ ", r"\s+"), usage), one
