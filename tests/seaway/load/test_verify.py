"""Replicas behind one address, one of which differs; supported protocols; comparisons and capacity."""

import os
import re
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from balancer import balancing
from responder import serving

from seaway.artifacts import artifact_metadata, model_repository, serving_profile
from seaway.artifacts.serving_profile import Candidate, Parity, Profile
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable
from seaway.load import gate, result
from seaway.load.capacity import Capacity, Trial, capacity
from seaway.load.client import NoResponse
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.gate import Limits, Target, compare_with_baseline, verdict
from seaway.load.payloads import identity
from seaway.load.progress import Progress
from seaway.load.supported_protocols import PREFERENCE, filter_supported, preferred_protocol, supported_protocols
from seaway.load.verify import check_evidence, problems, replicas, store_evidence, verify
from seaway.promote.promote import promote


@pytest.fixture(autouse=True)
def allow_lag(monkeypatch):
    """Other tests run at the same time, so the load generator may be late."""
    monkeypatch.setattr(result, "MAX_LAG_MS", 1000.0)


@pytest.fixture
def three_replicas(repository, tmp_path):
    """Three replicas; the third's weights differ in one number, which its metadata does not show."""
    changed = tmp_path / "changed"
    shutil.copytree(repository, changed)
    file = model_repository.path(changed, "toy", 1) / "saved_model.pb"
    weights = np.load(file)
    weights[3, 1] += 0.05
    with file.open("wb") as opened:
        np.save(opened, weights)
    with serving(repository) as one, serving(repository) as two, serving(changed) as other:
        servers = (one, two, other)
        for number, server in enumerate(servers):
            server.pod = f"seaway-{number}"
        with balancing([server.server_address[1] for server in servers]) as url:
            yield url, servers


CONFIG = LoadConfig(users=4, duration_s=1, warmup_s=0)


def test_the_replica_with_other_weights_is_named(three_replicas, repository):
    url, _ = three_replicas
    source = model_repository.path(repository, "toy", 1)
    results = verify(url, source, CONFIG, ["tfs", "oip-binary"])
    by_pod = {replica.pod: replica for replica in replicas(results)}
    assert set(by_pod) == {"seaway-0", "seaway-1", "seaway-2"}
    assert by_pod["seaway-0"].wrong == by_pod["seaway-1"].wrong == 0 < by_pod["seaway-2"].wrong
    assert min(replica.responses for replica in by_pod.values()) > 0.2 * sum(
        replica.responses for replica in by_pod.values()
    )
    found = problems(results, identity(source))
    assert [line.partition(": ")[0] for line in found] == [
        *("REST, seaway-2", "REST", "OIP v2 binary, seaway-2", "OIP v2 binary")
    ]
    assert "REST: wrong response: output 'scores' differs from PyTorch's by more than the tolerance (" in found[1]
    stored = store_evidence(source, results)
    digest = model_repository.read_metadata(repository, "toy", 1).sha256
    assert stored.parent == model_repository.evidence(repository, "toy", digest)
    with pytest.raises(Refused, match="responses differed from PyTorch's"):
        promote(repository, "toy", 1)
    assert model_repository.labels(repository, "toy") == {}


def test_three_equal_replicas(three_replicas, repository, monkeypatch):
    url, servers = three_replicas
    servers[2].version = servers[0].version
    source = model_repository.path(repository, "toy", 1)
    results = verify(url, source, CONFIG)
    assert [one.protocol for one in results] == [
        "tfs",
        "graphpipe",
        "oip",
        "oip-binary",
    ]  # the toy model has no from_png
    assert problems(results, identity(source)) == []
    assert sum(one.requests for one in results) == sum(replica.responses for replica in replicas(results)) > 0
    store_evidence(source, results)
    assert promote(repository, "toy", 1) is None
    servers[1].digests[1] = "f" * 64
    found = problems(verify(url, source, CONFIG, ["graphpipe"]), identity(source))
    assert [line.partition(", not")[0] for line in found] == [f"GraphPipe, seaway-1: it serves toy/1@{'f' * 64}"]


def test_replicas_with_different_engines_are_a_problem(three_replicas, repository):
    url, servers = three_replicas
    servers[2].version = servers[0].version
    servers[0].backend = servers[1].backend = "savedmodel"  # the third does not name its engine
    source = model_repository.path(repository, "toy", 1)
    same = verify(url, source, CONFIG, ["tfs"])
    assert problems(same, identity(source)) == []
    assert {replica.pod: replica.backend for replica in same[0].replicas} == {
        "seaway-0": "savedmodel",
        "seaway-1": "savedmodel",
        "seaway-2": "",
    }
    metadata = model_repository.read_metadata(repository, "toy", 1)
    profile = Profile(
        *(f"toy@{metadata.sha256}", "2026-12-01", "a CPU", 2, Candidate("savedmodel", 1, 2, True), "", (), ()),
        parity={"savedmodel": {"serving_default": Parity(4, 0, 0.0)}},
    )
    file = serving_profile.write(repository, "toy", metadata, profile)
    stored = artifact_metadata.read(store_evidence(source, same))
    assert (stored.settings["backends"], stored.settings["profile"]) == (["savedmodel"], profile.settings)
    servers[2].backend = "onnx"
    mixed = verify(url, source, CONFIG, ["tfs"])
    assert mixed[0].backends == ["onnx", "savedmodel"]
    assert problems(mixed, identity(source)) == [
        "the replicas use different engines: onnx (seaway-2) and savedmodel (seaway-0, seaway-1); a track must use "
        "one: roll it out again"
    ]
    stored = artifact_metadata.read(store_evidence(source, mixed))
    assert (stored.settings["backends"], stored.settings["profile"]) == (["onnx", "savedmodel"], {})
    with pytest.raises(Refused, match="the responses came from different engines, onnx and savedmodel"):
        promote(repository, "toy", 1)
    file.unlink()
    assert artifact_metadata.read(store_evidence(source, same)).settings["profile"] == {}


def test_evidence_is_not_stored_for_a_version_that_did_not_respond(repository):
    source = model_repository.path(repository, "toy", 1)
    before = set(repository.glob("toy/evidence/*/*"))
    with serving(repository) as server:
        server.digests[1] = "f" * 64
        results = verify(server.url, source, CONFIG, ["tfs"])
    unnamed = [replace(one, replicas=tuple(replace(each, model="") for each in one.replicas)) for one in results]
    for measured, other in ((results, f"toy/1@{'f' * 64}"), (unnamed, "a version that the server does not name")):
        with pytest.raises(Refused, match=f"no evidence was stored for toy/1@.* came from {other}"):
            store_evidence(source, measured)
    assert set(repository.glob("toy/evidence/*/*")) == before


def test_evidence_that_cannot_be_stored_is_told_before_the_load(repository, monkeypatch):
    source = model_repository.path(repository, "toy", 1)
    check_evidence(source)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # tests may run as root, who may write
    with pytest.raises(Unavailable, match=r"toy(/evidence)?: not writable, so no evidence .* --no-evidence"):
        check_evidence(source)


def test_failed_requests_are_a_problem(repository):
    with serving(repository) as server:
        server.fault = "error"
        found = problems(verify(server.url, model_repository.path(repository, "toy", 1), CONFIG, ["tfs"]))
    assert any(line.startswith("REST: ") and "HTTP 500" in line for line in found)


def test_the_preferred_protocol_is_the_first_that_is_supported(repository, monkeypatch):
    """REST first; if that is refused, OIP; the probes end with the first success."""
    with serving(repository) as server:
        source = model_repository.path(repository, "toy", 1)
        assert preferred_protocol(server.url, source, CONFIG) == "tfs"
        assert next(server.counter) == 1
        with pytest.raises(NotFound, match="Servable not found"):
            preferred_protocol(server.url, source, LoadConfig(model="nobody"))
    for refused, preferred in (
        (("tfs",), "oip"),
        (("tfs", "oip"), "graphpipe"),
        (("tfs", "oip", "graphpipe"), "oip-binary"),
    ):

        def send(protocol, refused=refused):
            if protocol.key in refused:
                raise NotFound(f"no {protocol.key} here")

        assert next(filter_supported(send, PREFERENCE)) == preferred


def test_a_server_that_does_not_respond_is_probed_once():
    tried = []

    def send(protocol):
        tried.append(protocol.key)
        raise NoResponse("timed out")

    with pytest.raises(NoResponse):
        list(filter_supported(send, PREFERENCE))
    assert tried == ["tfs"]


def test_an_address_without_a_server(repository):
    with pytest.raises(Unavailable, match="is the server running"):
        supported_protocols("http://127.0.0.1:9", model_repository.path(repository, "toy", 1), CONFIG)


def test_alternating_rounds_distinguish_a_slow_server_from_a_fast_one(repository):
    """Never the wrong way round; benchmarks/loadgen measures on quiet cores how often the verdict is conclusive."""
    source = model_repository.path(repository, "toy", 1)
    with serving(repository) as fast, serving(repository) as slow:
        fast.delay_s, slow.delay_s = 0.01, 0.08
        config = LoadConfig(rate=20, users=8, duration_s=1, warmup_s=0)
        pairs = gate.run_rounds(Target(fast.url, source), Target(slow.url, source), config, 0.2, min_rounds=3)
    assert verdict(compare_with_baseline(pairs, 0.2)) != "pass"
    assert verdict(compare_with_baseline([(slower, faster) for faster, slower in pairs], 0.2)) != "fail"
    assert all(one.wrong == one.failed == 0 for pair in pairs for one in pair)
    assert {base.url for base, _ in pairs} == {fast.url}
    with pytest.raises(InvalidInput, match="needs --rate"):
        gate.run_rounds(Target(fast.url, source), Target(slow.url, source), LoadConfig(), 0.2)


def test_different_engines_are_not_compared_unless_the_profile_is_judged(repository):
    source = model_repository.path(repository, "toy", 1)
    config = LoadConfig(rate=20, users=8, duration_s=1, warmup_s=0)
    with serving(repository) as stable, serving(repository) as canary:
        targets = Target(stable.url, source), Target(canary.url, source)
        stable.backend, canary.backend = "savedmodel", "onnx"
        asked = "the baseline responds with savedmodel and the candidate with onnx, .* give --judge-profile"
        with pytest.raises(Refused, match=asked):
            gate.run_rounds(*targets, config, 0.2)
        pairs = gate.run_rounds(*targets, config, 1e6, min_rounds=1, judge_profile=True)
        assert [(one.backends, other.backends) for one, other in pairs[:1]] == [(["savedmodel"], ["onnx"])]
        [sentence] = gate.describe_rounds(pairs)
        assert re.search(
            r" rounds? of the baseline toy/1@\w+ in savedmodel and the candidate toy/1@\w+ in onnx;", sentence
        )
        stable.backend = ""  # such as TensorFlow Serving
        assert len(gate.run_rounds(*targets, config, 1e6, min_rounds=1)) >= 1


def test_the_capacity_of_a_server_that_handles_one_request_at_a_time(repository):
    """20 ms each: at most 50 per second."""
    source = model_repository.path(repository, "toy", 1)
    with serving(repository) as server:
        lock, load_version = threading.Lock(), server.version

        def version(number):
            with lock:
                threading.Event().wait(0.02)
            return load_version(number)

        server.version = version
        found = capacity(
            server.url, source, LoadConfig(rate=10, users=64, duration_s=1, warmup_s=0), Limits(p50_ms=200), None
        )
        with pytest.raises(InvalidInput, match="latency limit"):
            capacity(server.url, source, LoadConfig(), Limits())
    assert 10 < found.rate < 60  # less if other tests take the cores
    assert found.failed_rate is not None
    assert found.rate < found.failed_rate <= 80
    assert "did not meet the limits (" in found.summary


def test_a_generator_that_lacks_cpu_at_the_first_rate():
    summary = Capacity(0.0, None, 0, (Trial(20.0, False, "it sent late", None),)).summary
    assert summary == "unknown; the load generator could not send even 20 requests/s (it sent late)"


def test_trials_have_their_own_arrivals_and_pass_by_the_requests_due(monkeypatch):
    """Of 20 expected requests chance makes 5 more or fewer due; a server that handles all of them passes."""
    seeds, titles = [], []

    def run(url, source, config, on_progress):
        on_progress(Progress())
        schedule = config.schedule()
        seeds.append(config.seed)
        counters = Counters()
        fast = config.rate <= 80
        for chunk in schedule.due_times():
            for at in chunk:
                counters.record_correct(at + 0.001, 1.0 if fast else 500.0)
                counters.record_lag(int(at), 0.1)
        return result.summarize(Progress(config.duration_s, total=counters), url, config)

    monkeypatch.setattr("seaway.load.capacity.run", run)
    config = LoadConfig(rate=20, duration_s=2, warmup_s=0, seed=100)
    found = capacity("", None, config, Limits(p50_ms=50), lambda title, progress: titles.append(title))
    assert titles[:3] == ["rate 20/s", "rate 40/s", "rate 80/s"]
    assert seeds == list(range(100, 100 + len(seeds)))
    assert 75 < found.rate <= 80 < found.failed_rate < 85
    assert found.confirmed == 3
