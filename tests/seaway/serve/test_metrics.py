import json
import math
import re
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from seaway.serve.supervisor.metrics import FAMILIES, MOST_SERIES, SECONDS, STAGES, Metrics

VERSION = {"model": "characters", "version": "2"}
OIP = {"protocol": "oip", **VERSION}


@pytest.fixture
def metrics():
    return Metrics()


def families(metrics):
    return {family.name: family for family in read_text(metrics.exposition()[0].decode())}


def value(metrics, name, **labels):
    """The value of the one sample of this name and these labels, None where there is none."""
    found = [s.value for f in families(metrics).values() for s in f.samples if (s.name, s.labels) == (name, labels)]
    assert len(found) < 2
    return found[0] if found else None


def busy():
    """Metrics in which every family has a sample."""
    gauges = {
        "seaway_queue_length": lambda: 3,
        "seaway_requests_active": lambda: 4,
        "seaway_connections": lambda: 5,
        "seaway_workers_alive": lambda: 1,
        "seaway_body_bytes_held": lambda: 7000,
    }
    metrics = Metrics(gauges, lambda: [("characters", "2", "characters/2@abc", "canary,stable", True)])
    metrics.answered("oip", "characters", "2", 200, 0.002)
    metrics.staged("oip", "characters", "2", 0.0001, 0.0002, 0.0003, 0.0015, 0.00004)
    metrics.batched("characters", "2", 3, 5, 0.001)
    metrics.loaded("characters", "2", 1.5, ok=True)
    metrics.worker_ended("SIGABRT")
    return metrics


def test_requests_by_protocol_model_version_and_status(metrics):
    for status in (200, 200, 400):
        metrics.answered("oip", "characters", "2", status, 0.01)
    metrics.answered("tfserving", "characters", "2", 200, 0.01)
    assert value(metrics, "seaway_requests_total", **OIP, code="200") == 2
    assert value(metrics, "seaway_requests_total", **OIP, code="400") == 1
    assert value(metrics, "seaway_requests_total", **OIP | {"protocol": "tfserving"}, code="200") == 1


def test_a_duration_counts_in_every_bucket_that_reaches_it_bounds_included(metrics):
    for seconds in (0.0001, 0.0007, 0.5, 31):
        metrics.answered("oip", "characters", "2", 200, seconds)
    name = "seaway_request_duration_seconds"
    expected = {"0.0001": 1, "0.0005": 1, "0.001": 2, "0.25": 2, "0.5": 3, "30.0": 3, "+Inf": 4}
    assert {le: value(metrics, f"{name}_bucket", **OIP, le=le) for le in expected} == expected
    assert value(metrics, f"{name}_count", **OIP) == 4
    assert value(metrics, f"{name}_sum", **OIP) == pytest.approx(31.5008)


def test_each_stage_has_its_own_time(metrics):
    given = {"read": 0.001, "queue": 0.02, "parse": 0.003, "compute": 0.4, "write": 0.0005}
    metrics.staged("oip", "characters", "2", **given)
    metrics.staged("oip", "characters", "2", **given)
    for stage, seconds in given.items():
        assert value(metrics, "seaway_request_seconds_sum", **OIP, stage=stage) == pytest.approx(2 * seconds)
        assert value(metrics, "seaway_request_seconds_count", **OIP, stage=stage) == 2


def test_batches(metrics):
    metrics.batched("characters", "2", 3, 40, 0.002)
    metrics.batched("characters", "2", 1, 1, 0.001)
    assert value(metrics, "seaway_batch_requests_sum", **VERSION) == 4
    assert value(metrics, "seaway_batch_requests_bucket", **VERSION, le="2.0") == 1
    assert value(metrics, "seaway_batch_rows_sum", **VERSION) == 41
    assert value(metrics, "seaway_batch_rows_bucket", **VERSION, le="64.0") == 2
    assert value(metrics, "seaway_batch_seconds_sum", **VERSION) == pytest.approx(0.003)


def test_loads_by_result_and_how_long_the_last_one_took(metrics):
    metrics.loaded("characters", "2", 3.0, ok=False)
    metrics.loaded("characters", "2", 1.5, ok=True)
    assert value(metrics, "seaway_loads_total", **VERSION, result="ok") == 1
    assert value(metrics, "seaway_loads_total", **VERSION, result="failed") == 1
    assert value(metrics, "seaway_load_seconds", **VERSION) == 1.5


def test_worker_deaths_by_cause_known_causes_from_zero():
    metrics = Metrics(causes=("SIGKILL",))
    assert value(metrics, "seaway_worker_deaths_total", cause="SIGKILL") == 0
    metrics.worker_ended("SIGKILL")
    metrics.worker_ended("SIGABRT")
    assert value(metrics, "seaway_worker_deaths_total", cause="SIGKILL") == 1
    assert value(metrics, "seaway_worker_deaths_total", cause="SIGABRT") == 1


def test_gauges_are_asked_at_each_scrape():
    waiting = [1, 2]
    metrics = Metrics({"seaway_queue_length": lambda: len(waiting)})
    assert value(metrics, "seaway_queue_length") == 2
    waiting.clear()
    assert value(metrics, "seaway_queue_length") == 0


def test_a_gauge_that_is_not_described_is_refused():
    with pytest.raises(ValueError, match="seaway_mood"):
        Metrics({"seaway_mood": lambda: 1})


def test_versions_and_whether_they_answer():
    rows = [("a", "1", "a/1@x", "stable", True), ("a", "2", "", "", False)]
    metrics = Metrics(available=lambda: rows)
    assert value(metrics, "seaway_model_available", model="a", version="1", identity="a/1@x", labels="stable") == 1
    assert value(metrics, "seaway_model_available", model="a", version="2", identity="", labels="") == 0


def test_an_unloaded_version_s_series_go_and_no_others():
    metrics = busy()
    metrics.answered("oip", "characters", "3", 200, 0.01)
    metrics.answered("oip", "other", "2", 200, 0.01)
    metrics.forget("characters", "2")
    rest = {s.name for f in families(metrics).values() for s in f.samples if s.labels.items() >= VERSION.items()}
    assert rest == {"seaway_model_available"}  # which tells what there is now
    assert value(metrics, "seaway_requests_total", **OIP | {"version": "3"}, code="200") == 1
    assert value(metrics, "seaway_requests_total", **OIP | {"model": "other"}, code="200") == 1


def test_series_are_bounded_and_what_is_beyond_is_still_counted(metrics):
    for number in range(2 * MOST_SERIES):
        metrics.answered("oip", "made up", str(number), 404, 0.001)
        metrics.batched("made up", str(number), 1, 1, 0.001)
        metrics.loaded("made up", str(number), 1, ok=True)
        metrics.worker_ended(str(number))
    shown = families(metrics)
    for name in ("seaway_requests", "seaway_batch_rows", "seaway_loads", "seaway_worker_deaths"):
        samples = shown[name].samples
        counted = [s for s in samples if s.name.endswith(("_total", "_count")) and s.labels.get("result") != "failed"]
        assert len(counted) == MOST_SERIES + 1
        assert sum(s.value for s in counted) == 2 * MOST_SERIES
    nameless = {"protocol": "oip", "model": "", "version": "", "code": "404"}
    assert [s.value for s in shown["seaway_requests"].samples if s.labels == nameless] == [MOST_SERIES]


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "ümläut", "a,b}", "\\n"])
def test_labels_come_out_as_they_went_in(metrics, name):
    metrics.answered("oip", name, "1", 200, 0.001)
    assert value(metrics, "seaway_requests_total", protocol="oip", model=name, version="1", code="200") == 1
    accepted = metrics.exposition("application/openmetrics-text")[0].decode()
    [requests] = [f for f in read_openmetrics(accepted) if f.name == "seaway_requests"]
    assert requests.samples[0].labels["model"] == name


def test_the_format_is_the_one_asked_for():
    metrics = busy()
    text, text_type = metrics.exposition("*/*")
    assert text_type == "text/plain; version=0.0.4; charset=utf-8"
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    openmetrics, openmetrics_type = metrics.exposition(prometheus)
    assert openmetrics_type.startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.endswith(b"# EOF\n")
    old = {(s.name, *sorted(s.labels.items())): s.value for f in read_text(text.decode()) for s in f.samples}
    new = {
        (s.name, *sorted(s.labels.items())): s.value for f in read_openmetrics(openmetrics.decode()) for s in f.samples
    }
    ours = {key for key in old if key[0].startswith("seaway_")}
    assert len(ours) > 100
    assert {key: old[key] for key in ours} == {key: new[key] for key in new if key[0].startswith("seaway_")}


def test_what_promtool_would_say():
    text = busy().exposition()[0].decode()
    assert re.fullmatch(r"(?:#[^\n]+\n|[a-z_]+(?:\{[^\n]*\})? \S+\n)+", text)
    for family in read_text(text):
        if not family.name.startswith("seaway_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert FAMILIES[name] == (family.type, family.documentation)
        assert family.samples, name
        assert re.fullmatch(r"seaway_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (family.type == "counter")
        assert not name.endswith(("_count", "_sum", "_bucket", "_milliseconds", "_ms", "_kilobytes"))
        assert all(math.isfinite(s.value) for s in family.samples)
        labels = {label for s in family.samples for label in s.labels} - {"le"}
        assert all(re.fullmatch(r"[a-z]+", label) for label in labels)
    shown = {f"{f.name}_total" if f.type == "counter" else f.name for f in read_text(text)}
    assert set(FAMILIES) <= shown
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "python_info"} <= shown


def test_bounds_rise_from_100_microseconds_to_30_seconds():
    assert list(SECONDS) == sorted(set(SECONDS))
    assert (SECONDS[0], SECONDS[-1]) == (0.0001, 30)


# ---- as a server counts


def scrape(server, accept="text/plain"):
    asked = urllib.request.Request(f"{server.admin_url}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=60) as reply:
        return reply.read().decode(), reply.headers["Content-Type"]


def total(page, name, **labels):
    """The sum of a name's samples that have these labels."""
    samples = [s for family in read_text(page) for s in family.samples if s.name == name]
    return sum(s.value for s in samples if s.labels.items() >= labels.items())


def test_a_server_counts_what_it_answers(server):
    infer = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
    before, _ = scrape(server)
    for _ in range(3):
        assert server.predict("half/versions/1", {"instances": [1, 2]}).status == 200
    assert server.predict("half/versions/1", {"instances": ["x"]}).status == 400
    assert server.request("POST", "/v2/models/half/versions/1/infer", json.dumps(infer)).status == 200
    assert server.predict("nobody", {"instances": [1]}).status == 404
    after, _ = scrape(server)

    def counted(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    half = {"model": "half", "version": "1"}
    assert counted("seaway_requests_total", **half, code="200") == 4
    assert counted("seaway_requests_total", protocol="oip", **half, code="200") == 1
    assert counted("seaway_requests_total", code="400") == 1
    assert counted("seaway_requests_total", model="", version="", code="404") == 1
    assert counted("seaway_request_duration_seconds_count") == 6
    for stage in STAGES:
        assert counted("seaway_request_seconds_count", **half, stage=stage) >= 4
    assert counted("seaway_request_seconds_sum", **half, stage="compute") > 0
    assert counted("seaway_batch_requests_sum", **half) >= 4
    assert counted("seaway_batch_rows_sum", **half) >= 8


def test_a_server_tells_its_state(server):
    page, kind = scrape(server, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = {family.name: family for family in read_openmetrics(page)}
    assert {name.removesuffix("_total") for name in FAMILIES} <= families.keys()
    [workers] = families["seaway_workers_alive"].samples
    assert workers.value == 1
    available = {(s.labels["model"], s.labels["version"]): s for s in families["seaway_model_available"].samples}
    assert available["half", "1"].value == available["half", "2"].value == 1
    assert available["half", "1"].labels["labels"] == "stable"
    loads = {tuple(s.labels.values()): s.value for s in families["seaway_loads"].samples}
    assert sum(loads.values()) >= 4
