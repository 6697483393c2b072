"""Alerts and dashboard use only metrics and labels that the server exports."""

import json
import re

import pytest
from promql import grouped_labels, matched_labels, metrics
from rendered import Object, containers, load, of_kind, selected

from seaway.serve.supervisor.metrics import FAMILIES, TLS, Metrics

MONITORED = ("base-monitoring", "kind-monitoring-pipeline", "production", "production-loadtest-pipeline")
TARGET_LABELS = {"namespace", "pod", "container", "job", "seaway_dev_track"}


def exported_series() -> dict[str, set[str]]:
    """Returns series → labels, from the server's own exposition after one event of each kind."""
    gauges = {name: lambda: 1.0 for name, (kind, _) in FAMILIES.items() if kind == "gauge" or name.startswith(TLS)}
    for name in ("seaway_load_seconds", "seaway_model_available"):
        del gauges[name]
    counted = Metrics(gauges, lambda: [("m", "1", "m/1@d", "stable", True)])
    counted.count_response("tfs", "m", "1", 200, 0.1)
    counted.observe_stages("tfs", "m", "1", 0.1, 0.1, 0.1, 0.1, 0.1)
    counted.observe_batch("m", "1", 1, 1, 0.1)
    counted.count_load("m", "1", 0.1, True)
    counted.count_death("signal 9")
    series: dict[str, set[str]] = {}
    for line in counted.exposition()[0].decode().splitlines():
        if not line.startswith("#"):
            name, inside = re.match(r"([\w:]+)(?:\{(.*)\})? ", line).groups()  # type: ignore[union-attr]
            series.setdefault(name, set()).update(re.findall(r'(\w+)="', inside or ""))
    return series


SERIES = exported_series()


def rules(objects: list[Object]) -> list[Object]:
    groups = [group for made in of_kind(objects, "PrometheusRule").values() for group in made["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def dashboard(objects: list[Object]) -> Object:
    (board,) = [made for name, made in of_kind(objects, "ConfigMap").items() if name == "seaway-dashboard"]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = board["data"].values()
    return dict(json.loads(text))


def expressions(objects: list[Object]) -> list[str]:
    panels = dashboard(objects)["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert queries
    return queries + [rule["expr"] for rule in rules(objects)]


def test_the_series_are_the_servers() -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) if name.startswith("seaway_") else name for name in SERIES}
    assert families >= FAMILIES.keys()
    assert SERIES["seaway_request_seconds_sum"] == {"protocol", "model", "version", "stage"}
    assert "process_open_fds" in SERIES


@pytest.mark.parametrize("name", MONITORED)
def test_every_expression_uses_exported_series(name: str) -> None:
    for expression in expressions(load(name)):
        named = metrics(expression)
        assert named, expression
        assert named <= SERIES.keys(), expression
        for metric, label in matched_labels(expression):
            assert label in SERIES[metric] | TARGET_LABELS, expression
        available = set().union(*(SERIES[metric] for metric in named)) | TARGET_LABELS
        assert grouped_labels(expression) <= available, expression


@pytest.mark.parametrize("name", MONITORED)
def test_alerts_have_a_summary_and_a_description(name: str) -> None:
    for rule in rules(load(name)):
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        shown = {*re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))}
        grouped = grouped_labels(rule["expr"])
        assert shown <= (grouped or TARGET_LABELS), rule["alert"]
    assert len({rule["alert"] for rule in rules(load(name))}) == len(rules(load(name)))


def test_alerts_and_panels_together_use_most_metrics() -> None:
    used = set().union(*(metrics(expression) for expression in expressions(load("production"))))
    unused = {name for name in FAMILIES if not any(metric.startswith(name) for metric in used)}
    loading = {"seaway_loads_total", "seaway_load_seconds"}
    assert unused <= loading | {"seaway_batch_requests", "seaway_batch_seconds", "seaway_tls_handshake_failures_total"}


@pytest.mark.parametrize("name", MONITORED)
def test_pods_are_scraped_on_an_existing_port(name: str) -> None:
    objects = load(name)
    monitor = of_kind(objects, "PodMonitor")["seaway"]["spec"]
    pods = selected(monitor["selector"]["matchLabels"], objects)
    assert {made["metadata"]["name"] for made in pods} == {"seaway", "seaway-canary"}
    (endpoint,) = monitor["podMetricsEndpoints"]
    for deployment in pods:
        assert endpoint["port"] in {p["name"] for c in containers(deployment) for p in c.get("ports", [])}
    assert monitor["podTargetLabels"] == ["seaway.dev/track"]
    assert "seaway.dev/track" in pods[0]["spec"]["template"]["metadata"]["labels"]
    assert {re.sub(r"\W", "_", label) for label in monitor["podTargetLabels"]} <= TARGET_LABELS


def test_the_expression_parser() -> None:
    expression = 'sum by (le, pod) (rate(a_bucket{b="c{d}", e!~"f"}[5m])) / on (g) 1e6 * h_total offset 10m > 0.5 or i'
    assert metrics(expression) == {"a_bucket", "h_total", "i"}
    assert matched_labels(expression) == {("a_bucket", "b"), ("a_bucket", "e")}
    assert grouped_labels(expression) == {"le", "pod", "g"}
