import json
import math
import re
import socket
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from seaway.serve.supervisor.metrics import DURATION_BUCKETS_S, FAMILIES, MAX_SERIES, STAGES, Metrics

VERSION = {"model": "characters", "version": "2"}
OIP = {"protocol": "oip", **VERSION}


@pytest.fixture
def metrics():
    return Metrics()


def families(metrics):
    return {family.name: family for family in read_text(metrics.exposition()[0].decode())}


def value(metrics, name, **labels):
    """The value of the only sample with this name and these labels; None if there is none."""
    values = [s.value for f in families(metrics).values() for s in f.samples if (s.name, s.labels) == (name, labels)]
    assert len(values) < 2
    return values[0] if values else None


def busy():
    """Metrics in which every family has a sample."""
    gauges = {
        "seaway_queue_length": lambda: 3,
        "seaway_requests_active": lambda: 4,
        "seaway_connections": lambda: 5,
        "seaway_workers_alive": lambda: 1,
        "seaway_body_bytes_held": lambda: 7000,
        "seaway_tls_certificate_expiry_timestamp_seconds": lambda: 1.8e9,
        "seaway_tls_last_reload_successful": lambda: 1,
        "seaway_tls_handshake_failures_total": lambda: 3,
    }
    metrics = Metrics(gauges, lambda: [("characters", "2", "characters/2@abc", "canary,stable", True)])
    metrics.count_response("oip", "characters", "2", 200, 0.002)
    metrics.observe_stages("oip", "characters", "2", 0.0001, 0.0002, 0.0003, 0.0015, 0.00004)
    metrics.observe_batch("characters", "2", 3, 5, 0.001)
    metrics.count_load("characters", "2", 1.5, ok=True)
    metrics.count_death("SIGABRT")
    return metrics


def test_requests_by_protocol_model_version_and_status(metrics):
    for status in (200, 200, 400):
        metrics.count_response("oip", "characters", "2", status, 0.01)
    metrics.count_response("tfserving", "characters", "2", 200, 0.01)
    assert value(metrics, "seaway_requests_total", **OIP, code="200") == 2
    assert value(metrics, "seaway_requests_total", **OIP, code="400") == 1
    assert value(metrics, "seaway_requests_total", **OIP | {"protocol": "tfserving"}, code="200") == 1


def test_a_duration_counts_in_every_bucket_up_to_and_including_its_bound(metrics):
    for seconds in (0.0001, 0.0007, 0.5, 31):
        metrics.count_response("oip", "characters", "2", 200, seconds)
    name = "seaway_request_duration_seconds"
    expected = {"0.0001": 1, "0.0005": 1, "0.001": 2, "0.25": 2, "0.5": 3, "30.0": 3, "+Inf": 4}
    assert {le: value(metrics, f"{name}_bucket", **OIP, le=le) for le in expected} == expected
    assert value(metrics, f"{name}_count", **OIP) == 4
    assert value(metrics, f"{name}_sum", **OIP) == pytest.approx(31.5008)


def test_each_stage_has_its_own_time(metrics):
    stages = {"read": 0.001, "queue": 0.02, "parse": 0.003, "compute": 0.4, "write": 0.0005}
    metrics.observe_stages("oip", "characters", "2", **stages)
    metrics.observe_stages("oip", "characters", "2", **stages)
    for stage, seconds in stages.items():
        assert value(metrics, "seaway_request_seconds_sum", **OIP, stage=stage) == pytest.approx(2 * seconds)
        assert value(metrics, "seaway_request_seconds_count", **OIP, stage=stage) == 2


def test_batches(metrics):
    metrics.observe_batch("characters", "2", 3, 40, 0.002)
    metrics.observe_batch("characters", "2", 1, 1, 0.001)
    assert value(metrics, "seaway_batch_requests_sum", **VERSION) == 4
    assert value(metrics, "seaway_batch_requests_bucket", **VERSION, le="2.0") == 1
    assert value(metrics, "seaway_batch_rows_sum", **VERSION) == 41
    assert value(metrics, "seaway_batch_rows_bucket", **VERSION, le="64.0") == 2
    assert value(metrics, "seaway_batch_seconds_sum", **VERSION) == pytest.approx(0.003)


def test_loads_by_result_and_how_long_the_last_one_took(metrics):
    metrics.count_load("characters", "2", 3.0, ok=False)
    metrics.count_load("characters", "2", 1.5, ok=True)
    assert value(metrics, "seaway_loads_total", **VERSION, result="ok") == 1
    assert value(metrics, "seaway_loads_total", **VERSION, result="failed") == 1
    assert value(metrics, "seaway_load_seconds", **VERSION) == 1.5


def test_worker_deaths_by_cause_known_causes_from_zero():
    metrics = Metrics(causes=("SIGKILL",))
    assert value(metrics, "seaway_worker_deaths_total", cause="SIGKILL") == 0
    metrics.count_death("SIGKILL")
    metrics.count_death("SIGABRT")
    assert value(metrics, "seaway_worker_deaths_total", cause="SIGKILL") == 1
    assert value(metrics, "seaway_worker_deaths_total", cause="SIGABRT") == 1


def test_gauges_are_read_at_each_scrape():
    waiting = [1, 2]
    metrics = Metrics({"seaway_queue_length": lambda: len(waiting)})
    assert value(metrics, "seaway_queue_length") == 2
    waiting.clear()
    assert value(metrics, "seaway_queue_length") == 0


def test_a_gauge_that_is_not_described_is_refused():
    with pytest.raises(ValueError, match="seaway_mood"):
        Metrics({"seaway_mood": lambda: 1})


def test_versions_and_whether_they_are_available():
    rows = [("a", "1", "a/1@x", "stable", True), ("a", "2", "", "", False)]
    metrics = Metrics(available=lambda: rows)
    assert value(metrics, "seaway_model_available", model="a", version="1", identity="a/1@x", labels="stable") == 1
    assert value(metrics, "seaway_model_available", model="a", version="2", identity="", labels="") == 0


def test_only_the_series_of_an_unloaded_version_are_dropped():
    metrics = busy()
    metrics.count_response("oip", "characters", "3", 200, 0.01)
    metrics.count_response("oip", "other", "2", 200, 0.01)
    metrics.forget("characters", "2")
    rest = {s.name for f in families(metrics).values() for s in f.samples if s.labels.items() >= VERSION.items()}
    assert rest == {"seaway_model_available"}  # the current state
    assert value(metrics, "seaway_requests_total", **OIP | {"version": "3"}, code="200") == 1
    assert value(metrics, "seaway_requests_total", **OIP | {"model": "other"}, code="200") == 1


def test_series_are_bounded_and_the_rest_is_counted_without_a_name(metrics):
    for number in range(2 * MAX_SERIES):
        metrics.count_response("oip", "made up", str(number), 404, 0.001)
        metrics.observe_batch("made up", str(number), 1, 1, 0.001)
        metrics.count_load("made up", str(number), 1, ok=True)
        metrics.count_death(str(number))
    shown = families(metrics)
    for name in ("seaway_requests", "seaway_batch_rows", "seaway_loads", "seaway_worker_deaths"):
        samples = shown[name].samples
        counted = [s for s in samples if s.name.endswith(("_total", "_count")) and s.labels.get("result") != "failed"]
        assert len(counted) == MAX_SERIES + 1
        assert sum(s.value for s in counted) == 2 * MAX_SERIES
    nameless = {"protocol": "oip", "model": "", "version": "", "code": "404"}
    assert [s.value for s in shown["seaway_requests"].samples if s.labels == nameless] == [MAX_SERIES]


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "ümläut", "a,b}", "\\n"])
def test_label_values_are_escaped(metrics, name):
    metrics.count_response("oip", name, "1", 200, 0.001)
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


def test_promtool_s_rules():
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


def test_duration_buckets_rise_from_100_microseconds_to_30_seconds():
    assert list(DURATION_BUCKETS_S) == sorted(set(DURATION_BUCKETS_S))
    assert (DURATION_BUCKETS_S[0], DURATION_BUCKETS_S[-1]) == (0.0001, 30)


# ---- of a real server


def scrape(server, accept="text/plain"):
    request = urllib.request.Request(f"{server.admin_url}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return reply.read().decode(), reply.headers["Content-Type"]


def total(page, name, **labels):
    """The sum of the samples with this name and these labels."""
    samples = [s for family in read_text(page) for s in family.samples if s.name == name]
    return sum(s.value for s in samples if s.labels.items() >= labels.items())


def test_a_server_counts_its_responses(server):
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


def test_a_server_counts_and_logs_what_it_rejects(server):
    before, _ = scrape(server)
    for sent in (b"POST /v2/models/half/infer HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"nonsense\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(sent)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 4")
    after, _ = scrape(server)
    for labels in ({"protocol": "oip", "code": "413"}, {"protocol": "unknown", "code": "400"}):
        assert total(after, "seaway_requests_total", **labels) == total(before, "seaway_requests_total", **labels) + 1
    server.wait(lambda: any('"/v2/models/half/infer", "status": 413' in line for line in server.log))


def test_a_server_exposes_its_state(server):
    page, kind = scrape(server, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = {family.name: family for family in read_openmetrics(page)}
    always = {name for name in FAMILIES if not name.startswith("seaway_tls_")}
    assert {name.removesuffix("_total") for name in always} <= families.keys()
    [workers] = families["seaway_workers_alive"].samples
    assert workers.value == 1
    available = {(s.labels["model"], s.labels["version"]): s for s in families["seaway_model_available"].samples}
    assert available["half", "1"].value == available["half", "2"].value == 1
    assert available["half", "1"].labels["labels"] == "stable"
    loads = {tuple(s.labels.values()): s.value for s in families["seaway_loads"].samples}
    assert sum(loads.values()) >= 4
