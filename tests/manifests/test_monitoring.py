"""Alerts and dashboard speak of metrics and labels that the server has."""

import json
import re

import pytest
from promql import grouped_labels, matched_labels, metrics
from rendered import Object, chosen, containers, load, of_kind

from seaway.serve.supervisor.metrics import FAMILIES, Metrics

MONITORED = ("base-monitoring", "kind-monitoring-pipeline", "production", "production-loadtest-pipeline")
FROM_THE_TARGET = {"namespace", "pod", "container", "job", "seaway_dev_track"}


def known() -> dict[str, set[str]]:
    """Every series' name and its labels, from the server's own exposition after it counted one of everything."""
    gauges = {name: lambda: 1.0 for name, (kind, _) in FAMILIES.items() if kind == "gauge"}
    for name in ("seaway_load_seconds", "seaway_model_available"):
        del gauges[name]
    counted = Metrics(gauges, lambda: [("m", "1", "m/1@d", "stable", True)])
    counted.answered("tfs", "m", "1", 200, 0.1)
    counted.staged("tfs", "m", "1", 0.1, 0.1, 0.1, 0.1, 0.1)
    counted.batched("m", "1", 1, 1, 0.1)
    counted.loaded("m", "1", 0.1, True)
    counted.worker_ended("signal 9")
    found: dict[str, set[str]] = {}
    for line in counted.exposition()[0].decode().splitlines():
        if not line.startswith("#"):
            name, inside = re.match(r"([\w:]+)(?:\{(.*)\})? ", line).groups()  # type: ignore[union-attr]
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', inside or ""))
    return found


KNOWN = known()


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
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    assert asked
    return asked + [rule["expr"] for rule in rules(objects)]


def test_what_is_known_is_the_servers() -> None:
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) if name.startswith("seaway_") else name for name in KNOWN}
    assert seen >= FAMILIES.keys()
    assert KNOWN["seaway_request_seconds_sum"] == {"protocol", "model", "version", "stage"}
    assert "process_open_fds" in KNOWN


@pytest.mark.parametrize("name", MONITORED)
def test_every_expression_is_of_series_that_there_are(name: str) -> None:
    for expression in expressions(load(name)):
        named = metrics(expression)
        assert named, expression
        assert named <= KNOWN.keys(), expression
        for metric, label in matched_labels(expression):
            assert label in KNOWN[metric] | FROM_THE_TARGET, expression
        there = set().union(*(KNOWN[metric] for metric in named)) | FROM_THE_TARGET
        assert grouped_labels(expression) <= there, expression


@pytest.mark.parametrize("name", MONITORED)
def test_alerts_say_what_is_wrong_and_what_to_do(name: str) -> None:
    for rule in rules(load(name)):
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        shown = {*re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))}
        grouped = grouped_labels(rule["expr"])
        assert shown <= (grouped or FROM_THE_TARGET), rule["alert"]
    assert len({rule["alert"] for rule in rules(load(name))}) == len(rules(load(name)))


def test_alerts_and_panels_together_use_most_of_what_is_counted() -> None:
    used = set().union(*(metrics(expression) for expression in expressions(load("production"))))
    unused = {name for name in FAMILIES if not any(metric.startswith(name) for metric in used)}
    assert unused <= {"seaway_batch_requests", "seaway_batch_seconds", "seaway_loads_total", "seaway_load_seconds"}


@pytest.mark.parametrize("name", MONITORED)
def test_pods_are_scraped_on_a_port_that_they_have(name: str) -> None:
    objects = load(name)
    monitor = of_kind(objects, "PodMonitor")["seaway"]["spec"]
    pods = chosen(monitor["selector"]["matchLabels"], objects)
    assert {made["metadata"]["name"] for made in pods} == {"seaway", "seaway-canary"}
    (endpoint,) = monitor["podMetricsEndpoints"]
    for deployment in pods:
        assert endpoint["port"] in {p["name"] for c in containers(deployment) for p in c.get("ports", [])}
    assert monitor["podTargetLabels"] == ["seaway.dev/track"]
    assert "seaway.dev/track" in pods[0]["spec"]["template"]["metadata"]["labels"]
    assert {re.sub(r"\W", "_", label) for label in monitor["podTargetLabels"]} <= FROM_THE_TARGET


def test_the_reader_of_expressions() -> None:
    expression = 'sum by (le, pod) (rate(a_bucket{b="c{d}", e!~"f"}[5m])) / on (g) 1e6 * h_total offset 10m > 0.5 or i'
    assert metrics(expression) == {"a_bucket", "h_total", "i"}
    assert matched_labels(expression) == {("a_bucket", "b"), ("a_bucket", "e")}
    assert grouped_labels(expression) == {"le", "pod", "g"}
