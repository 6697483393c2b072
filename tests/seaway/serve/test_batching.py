"""Requests run together: who may, that each gets its own answer, and that one's fault stays its own."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seaway.artifacts import card as cards
from seaway.artifacts import golden as goldens
from seaway.artifacts import store
from seaway.artifacts.card import Card, Tensor, Tolerance
from seaway.errors import InvalidInput
from seaway.protocols.calls import Call, Signature
from seaway.serve.worker import batching

SIGNATURE = Signature((Tensor("x", "float32", (None, 2)),), (Tensor("y", "float32", (None, 2)),))
TOLERANCES = {"y": Tolerance(1e-6, 1e-6)}


def call(*shape, name="serving_default", dtype="float32", outputs=None):
    return Call(name, {"x": np.zeros(shape, dtype)}, outputs)


def test_groups_hold_what_fits_together():
    calls = [
        call(1, 2),
        call(2, 2),
        call(1, 3),  # another size
        call(1, 2, dtype="float64"),
        call(1, 2, outputs=["y"]),
        call(1, 2, name="other"),  # not proven
        call(0, 2),
        call(),
        call(3, 2),
    ]
    assert batching.groups(calls, {"serving_default"}, 64) == [[0, 1, 8], [2], [3], [4], [5], [6], [7]]


def test_groups_are_cut_at_the_most_rows():
    calls = [call(3, 2), call(2, 2), call(4, 2), call(9, 2), call(1, 2)]
    assert batching.groups(calls, {"serving_default"}, 5) == [[0, 1], [2, 4], [3]]


def test_each_call_gets_its_own_rows():
    calls = [Call("s", {"x": np.arange(n * 2, dtype=np.float32).reshape(n, 2) + 10 * n}) for n in (1, 3, 2)]
    answers = batching.run(lambda signature, inputs, outputs: {"y": inputs["x"] * 2}, calls)
    for one, answer in zip(calls, answers, strict=True):
        assert np.array_equal(answer["y"], one.inputs["x"] * 2)


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [0, 1, 31, 32, 33, 100])
def test_a_large_call_is_spread_and_its_rows_stay_in_order(cores, rows):
    sizes = []

    def predict(name, inputs, outputs):
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2, "z": inputs["x"][:, 0]}

    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    with ThreadPoolExecutor(8) as threads:
        got = batching.spread(predict, cores, threads)("s", {"x": x}, None)
    np.testing.assert_array_equal(got["y"], x * 2)
    np.testing.assert_array_equal(got["z"], x[:, 0])
    assert len(sizes) == max(1, min(cores, rows // batching.SPREAD_ROWS))
    assert sum(sizes) == rows


def test_what_cannot_be_cut_is_not_spread():
    def predict(name, inputs, outputs):
        return {"sizes": np.array([len(array) for array in inputs.values()])}

    with ThreadPoolExecutor(2) as threads:
        run = batching.spread(predict, 2, threads)
        uneven = run("s", {"a": np.zeros((64, 1)), "b": np.zeros((40, 1))}, None)
    assert uneven["sizes"].tolist() == [64, 40]


def test_a_share_that_fails_fails_the_call():
    def predict(name, inputs, outputs):
        if inputs["x"][-1, 0] == 63:
            raise InvalidInput("the last row")
        return inputs

    with ThreadPoolExecutor(2) as threads, pytest.raises(InvalidInput, match="the last row"):
        batching.spread(predict, 2, threads)("s", {"x": np.arange(64.0).reshape(64, 1)}, None)


def test_outputs_that_are_not_rows_cannot_be_told_apart():
    assert batching.run(lambda *_: {"y": np.zeros(1)}, [call(1, 2), call(1, 2)]) is None


@pytest.mark.parametrize(
    "net, independent",
    [
        (lambda x: x * 2, True),
        (lambda x: x - x.mean(0), False),
        (lambda x: x / len(x), False),
        (lambda x: np.cumsum(x, 0), False),
        (lambda x: x + np.arange(len(x))[:, None], False),
        (lambda x: x * 2 + np.float32(1e-7) * (len(x) > 3), True),  # another kernel for larger batches
    ],
)
def test_only_rows_that_do_not_depend_on_each_other_go_together(net, independent):
    x = np.random.default_rng(0).random((6, 2), np.float32)

    def predict(signature, inputs, outputs):
        return {"y": net(inputs["x"]).astype(np.float32)}

    found = batching.proven(predict, "s", SIGNATURE, {"x": x}, predict("s", {"x": x}, None), TOLERANCES)
    assert found is independent


def test_a_signature_of_fixed_size_is_never_run_together():
    fixed = Signature((Tensor("x", "float32", (1, 2)),), SIGNATURE.outputs)
    x = np.zeros((1, 2), np.float32)
    assert not batching.proven(lambda *_: {"y": x}, "s", fixed, {"x": x}, {"y": x}, TOLERANCES)


def publish_mean(following, name):
    """Its golden answers hold for the batch that they came in alone."""

    def fill(folder):
        shutil.copytree(following.models / "centred" / "1", folder, dirs_exist_ok=True)
        (folder / store.EXTRA).mkdir()
        x = np.float32([1, 2, 3, 6])
        golden = goldens.Golden({"x": x}, {"y": x - x.mean()})
        goldens.write(folder / store.EXTRA / goldens.GOLDEN, golden)
        cards.write(folder, Card("version", name, tolerances={"y": Tolerance(1e-6, 1e-6)}), at=store.CARD)

    return store.publish(following.volume, name, fill)


def asked_together(server, requests):
    """Sends all requests while the only worker is busy, so that they go out in one frame; replies in order."""
    server.wait(lambda: server.predict("busy", {"signature_name": "slow", "inputs": [1]}).status == 200)
    long = threading.Thread(target=server.predict, args=("busy", {"signature_name": "slow", "inputs": [50_000]}))
    long.start()
    server.wait(lambda: server.status()["workers"][0]["running"] == 1)
    replies = {}

    def ask(number, target, document):
        replies[number] = server.predict(target, document)

    threads = [threading.Thread(target=ask, args=(n, *request)) for n, request in enumerate(requests)]
    for thread in threads:
        thread.start()
    server.wait(lambda: server.status()["waiting"] == len(requests))
    for thread in (long, *threads):
        thread.join(120)
    return [replies[n] for n in range(len(requests))]


@pytest.fixture(scope="module")
def busy(following):
    """A model in the same volume that keeps the worker busy; plain, so nothing of it is run together."""
    if not (following.volume / "busy").exists():
        shutil.copytree(following.models / "hard", following.volume / "busy")
    following.wait_available("busy", 1)
    return following


def runs(server, model):
    """(runs of the model, requests answered by them), from the metrics."""
    found = {}
    for line in server.metrics().splitlines():
        name, _, rest = line.partition("{")
        if name in ("seaway_batch_requests_count", "seaway_batch_requests_sum") and f'model="{model}"' in rest:
            found[name.rpartition("_")[2]] = float(line.rpartition(" ")[2])
    return found.get("count", 0), found.get("sum", 0)


def test_who_waits_together_is_answered_by_one_run(busy):
    server = busy.server
    busy.publish("together")
    busy.wait_available("together", 1)
    before = runs(server, "together")
    sent = [[float(n)] * (1 + n % 3) for n in range(12)]
    replies = asked_together(server, [("together", {"instances": rows}) for rows in sent])
    for rows, reply in zip(sent, replies, strict=True):
        assert reply.json() == {"predictions": [x / 2 + 2 for x in rows]}
    after = runs(server, "together")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 12)


def test_one_bad_request_among_good_ones_fails_alone(busy):
    busy.publish("mixed")
    busy.wait_available("mixed", 1)
    requests = [("mixed", {"instances": [n]}) for n in range(4)]
    requests[1:1] = [("mixed", {"instances": ["x"]}), ("mixed", {"inputs": [[1.0], [2.0]]})]
    replies = asked_together(busy.server, requests)
    assert [reply.status for reply in replies] == [200, 400, 200, 200, 200, 200]
    assert [replies[i].json() for i in (0, 3, 4, 5)] == [{"predictions": [n / 2 + 2]} for n in range(4)]
    assert replies[2].json() == {"outputs": [[2.5], [3.0]]}  # of another rank: run by itself


def test_a_net_whose_rows_depend_on_the_batch_is_run_alone(busy):
    version = publish_mean(busy, "centred")
    busy.wait_available("centred", version)
    replies = asked_together(busy.server, [("centred", {"inputs": [float(n)]}) for n in range(5)])
    assert [reply.json() for reply in replies] == [{"outputs": [0.0]}] * 5


def test_concatenation_never_casts():
    """Calls of different types are never in one group, so that nobody's numbers change with the company."""
    groups = batching.groups([call(1, 2), call(1, 2, dtype="int64"), call(1, 2)], {"serving_default"}, 64)
    assert groups == [[0, 2], [1]]


def test_an_error_in_a_run_is_not_hidden():
    def predict(*_):
        raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        batching.run(predict, [call(1, 2), call(1, 2)])
