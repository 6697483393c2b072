"""Replicas behind one address, one of which is not what the others are."""

import shutil
import threading

import numpy as np
import pytest
from balancer import balancing
from responder import serving

from seaway.artifacts import store
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable
from seaway.load import gate
from seaway.load import run as runs
from seaway.load.capacity import Capacity, Trial, capacity
from seaway.load.client import NoAnswer
from seaway.load.gate import Limits, Target, against, verdict
from seaway.load.payloads import identity
from seaway.load.run import Plan, Progress
from seaway.load.spoken import FIRST, first, speaking, spoken
from seaway.load.tally import Tally
from seaway.load.verify import faults, keep, replicas, verify
from seaway.promote.promote import promote


@pytest.fixture(autouse=True)
def crowded(monkeypatch):
    """Other tests run beside these, so the load generator may be late."""
    monkeypatch.setattr(runs, "LATE_MS", 1000.0)


@pytest.fixture
def three(volume, tmp_path):
    """Three replicas; the third's weights differ from the others' in one number, and nobody has told its card."""
    changed = tmp_path / "changed"
    shutil.copytree(volume, changed)
    file = store.path(changed, "toy", 1) / "saved_model.pb"
    weights = np.load(file)
    weights[3, 1] += 0.05
    with file.open("wb") as opened:
        np.save(opened, weights)
    with serving(volume) as one, serving(volume) as two, serving(changed) as other:
        servers = (one, two, other)
        for number, server in enumerate(servers):
            server.pod = f"seaway-{number}"
        with balancing([server.server_address[1] for server in servers]) as url:
            yield url, servers


PLAN = Plan(users=4, seconds=1, warmup=0)


def test_the_replica_with_other_weights_is_named(three, volume):
    url, _ = three
    source = store.path(volume, "toy", 1)
    got = verify(url, source, PLAN, ["tfs", "oip-binary"])
    found = {replica.pod: replica for replica in replicas(got)}
    assert set(found) == {"seaway-0", "seaway-1", "seaway-2"}
    assert found["seaway-0"].wrong == found["seaway-1"].wrong == 0 < found["seaway-2"].wrong
    assert min(replica.answers for replica in found.values()) > 0.2 * sum(replica.answers for replica in found.values())
    [said] = faults(got, identity(source))
    assert said.startswith("seaway-2 answered ")
    kept = keep(source, got)
    assert kept == store.evidence(volume, "toy", store.read_card(volume, "toy", 1).sha256) / kept.name
    with pytest.raises(Refused, match="answers differed from PyTorch's"):
        promote(volume, "toy", 1)
    assert store.labels(volume, "toy") == {}


def test_three_replicas_that_are_alike(three, volume, monkeypatch):
    url, servers = three
    servers[2].version = servers[0].version
    source = store.path(volume, "toy", 1)
    got = verify(url, source, PLAN)
    assert [result.protocol for result in got] == ["tfs", "graphpipe", "oip", "oip-binary"]  # the toy has no from_png
    assert faults(got, identity(source)) == []
    assert sum(result.requests for result in got) == sum(replica.answers for replica in replicas(got)) > 0
    keep(source, got)
    assert promote(volume, "toy", 1) is None
    servers[1].digests[1] = "f" * 64
    said = faults(verify(url, source, PLAN, ["graphpipe"]), identity(source))
    assert [line.partition(",")[0] for line in said] == [f"seaway-1 serves toy/1@{'f' * 64}"]


def test_a_server_that_fails_is_told(volume):
    with serving(volume) as server:
        server.fault = "error"
        said = faults(verify(server.url, store.path(volume, "toy", 1), PLAN, ["tfs"]))
    assert any(line.startswith("REST: ") and "HTTP 500" in line for line in said)


def test_one_protocol_is_found_in_the_order_of_preference(volume, monkeypatch):
    """REST first; where that is refused, OIP; the probes end with the first that is answered."""
    with serving(volume) as server:
        source = store.path(volume, "toy", 1)
        assert first(server.url, source, PLAN) == "tfs"
        assert next(server.counter) == 1
        with pytest.raises(NotFound, match="Servable not found"):
            first(server.url, source, Plan(model="nobody"))
    for refused, found in (
        (("tfs",), "oip"),
        (("tfs", "oip"), "graphpipe"),
        (("tfs", "oip", "graphpipe"), "oip-binary"),
    ):

        def ask(protocol, refused=refused):
            if protocol.key in refused:
                raise NotFound(f"no {protocol.key} here")

        assert next(speaking(ask, FIRST)) == found


def test_who_does_not_answer_at_all_is_asked_once():
    tried = []

    def ask(protocol):
        tried.append(protocol.key)
        raise NoAnswer("timed out")

    with pytest.raises(NoAnswer):
        list(speaking(ask, FIRST))
    assert tried == ["tfs"]


def test_where_nothing_is_spoken(volume):
    with pytest.raises(Unavailable, match="is the server running"):
        spoken("http://127.0.0.1:9", store.path(volume, "toy", 1), PLAN)


def test_rounds_in_turn_tell_a_slow_server_from_a_fast_one(volume):
    """Never the wrong way round; how often it can tell at all, benchmarks/loadgen measures on quiet cores."""
    source = store.path(volume, "toy", 1)
    with serving(volume) as fast, serving(volume) as slow:
        fast.delay, slow.delay = 0.01, 0.08
        plan = Plan(rate=20, users=8, seconds=1, warmup=0)
        pairs = gate.rounds(Target(fast.url, source), Target(slow.url, source), plan, 0.2, least=3)
    assert verdict(against(pairs, 0.2)) != "pass"
    assert verdict(against([(slower, faster) for faster, slower in pairs], 0.2)) != "fail"
    assert all(one.wrong == one.failed == 0 for pair in pairs for one in pair)
    assert {base.url for base, _ in pairs} == {fast.url}
    with pytest.raises(InvalidInput, match="needs --rate"):
        gate.rounds(Target(fast.url, source), Target(slow.url, source), Plan(), 0.2)


def test_the_capacity_of_a_server_that_answers_one_after_the_other(volume):
    """20 ms each, one at a time: 50 a second and no more."""
    source = store.path(volume, "toy", 1)
    with serving(volume) as server:
        one, infer = threading.Lock(), server.version

        def version(number):
            with one:
                threading.Event().wait(0.02)
            return infer(number)

        server.version = version
        found = capacity(server.url, source, Plan(rate=10, users=64, seconds=1, warmup=0), Limits(p50_ms=200), None)
        with pytest.raises(InvalidInput, match="limit of latency"):
            capacity(server.url, source, Plan(), Limits())
    assert 10 < found.rate < 60  # less where other tests take the cores
    assert found.above is not None
    assert found.rate < found.above <= 80
    assert "did not hold" in found.text


def test_a_generator_that_is_short_of_cpu_at_the_first_rate_is_told():
    text = Capacity(0.0, None, 0, (Trial(20.0, False, "it sent late", None),)).text
    assert text == "not known: the load generator could not ask even 20 requests/s: it sent late"


def test_trials_have_arrivals_of_their_own_and_are_judged_by_what_was_due(monkeypatch):
    """Chance makes 5 of 20 due fewer or more; a server that answers all that is due holds the rate."""
    seeds = []

    def run(url, source, plan, told):
        times = plan.schedule()
        seeds.append(plan.seed)
        tally = Tally()
        held = plan.rate <= 80
        for chunk in times.due():
            for at in chunk:
                tally.right(at + 0.001, 1.0 if held else 500.0)
                tally.sent(int(at), 0.1)
        return runs.result(Progress(plan.seconds, total=tally), url, plan)

    monkeypatch.setattr("seaway.load.capacity.run", run)
    found = capacity("", None, Plan(rate=20, seconds=2, warmup=0, seed=100), Limits(p50_ms=50))
    assert seeds == list(range(100, 100 + len(seeds)))
    assert 75 < found.rate <= 80 < found.above < 85
    assert found.confirmed == 3
