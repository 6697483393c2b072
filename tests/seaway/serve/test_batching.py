"""Batching: which requests share a batch, that each gets its own response, and that one error affects one request."""

import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance
from seaway.errors import InvalidInput
from seaway.protocols import graphpipe
from seaway.protocols.calls import Call, ModelVersionInfo, Signature
from seaway.serve.worker import batching, worker_main

SIGNATURE = Signature((Tensor("x", "float32", (None, 2)),), (Tensor("y", "float32", (None, 2)),))
TOLERANCES = {"y": Tolerance(1e-6, 1e-6)}


def call(*shape, name="serving_default", dtype="float32", outputs=None):
    return Call(name, {"x": np.zeros(shape, dtype)}, outputs)


def test_only_compatible_calls_are_grouped():
    calls = [
        call(1, 2),
        call(2, 2),
        call(1, 3),  # another size
        call(1, 2, dtype="float64"),
        call(1, 2, outputs=["y"]),
        call(1, 2, name="other"),  # rows not proven independent
        call(0, 2),
        call(),
        call(3, 2),
    ]
    assert batching.group(calls, {"serving_default"}, 64) == [[0, 1, 8], [2], [3], [4], [5], [6], [7]]


def test_groups_have_at_most_the_maximum_of_rows():
    calls = [call(3, 2), call(2, 2), call(4, 2), call(9, 2), call(1, 2)]
    assert batching.group(calls, {"serving_default"}, 5) == [[0, 1], [2, 4], [3]]


def test_each_call_gets_its_own_rows():
    calls = [Call("s", {"x": np.arange(n * 2, dtype=np.float32).reshape(n, 2) + 10 * n}) for n in (1, 3, 2)]
    outputs = batching.run(lambda signature, inputs, outputs: {"y": inputs["x"] * 2}, calls)
    for call, own in zip(calls, outputs, strict=True):
        assert np.array_equal(own["y"], call.inputs["x"] * 2)


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [0, 1, 31, 32, 33, 100])
def test_a_large_call_is_split_across_cores_and_its_rows_stay_in_order(cores, rows):
    sizes = []

    def predict(name, inputs, outputs):
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2, "z": inputs["x"][:, 0]}

    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    with ThreadPoolExecutor(8) as threads:
        outputs = batching.split_across_cores(predict, cores, threads)("s", {"x": x}, None)
    np.testing.assert_array_equal(outputs["y"], x * 2)
    np.testing.assert_array_equal(outputs["z"], x[:, 0])
    assert len(sizes) == max(1, min(cores, rows // batching.MIN_ROWS_PER_CORE))
    assert sum(sizes) == rows


def test_inputs_of_different_lengths_are_not_split():
    def predict(name, inputs, outputs):
        return {"sizes": np.array([len(array) for array in inputs.values()])}

    with ThreadPoolExecutor(2) as threads:
        run = batching.split_across_cores(predict, 2, threads)
        uneven = run("s", {"a": np.zeros((64, 1)), "b": np.zeros((40, 1))}, None)
    assert uneven["sizes"].tolist() == [64, 40]


def test_an_error_in_one_part_fails_the_call():
    def predict(name, inputs, outputs):
        if inputs["x"][-1, 0] == 63:
            raise InvalidInput("the last row")
        return inputs

    with ThreadPoolExecutor(2) as threads, pytest.raises(InvalidInput, match="the last row"):
        batching.split_across_cores(predict, 2, threads)("s", {"x": np.arange(64.0).reshape(64, 1)}, None)


def test_outputs_that_are_not_rows_cannot_be_split():
    assert batching.run(lambda *_: {"y": np.zeros(1)}, [call(1, 2), call(1, 2)]) is None


def test_a_batch_that_fails_for_any_reason_is_run_one_by_one():
    def predict(signature, inputs, outputs):
        if len(inputs["x"]) > 1:
            raise MemoryError
        return {"y": inputs["x"]}

    info = ModelVersionInfo("m", 1, "m/1@0", {"serving_default": SIGNATURE})
    version = SimpleNamespace(
        backend=SimpleNamespace(predict=predict), batchable=set(), conforms=lambda call: True, served=info
    )
    members = [worker_main.InFlight(graphpipe) for _ in range(2)]
    for member in members:
        member.call = call(1, 2, outputs=["y"])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker_main.Worker(ours, "onnx", 1, 1, 64, 1 << 20)._run(version, members)
    assert [member.reply.status for member in members] == [200, 200]


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
def test_only_independent_rows_are_batched(net, independent):
    x = np.random.default_rng(0).random((6, 2), np.float32)

    def predict(signature, inputs, outputs):
        return {"y": net(inputs["x"]).astype(np.float32)}

    whole = predict("s", {"x": x}, None)
    assert batching.rows_are_independent(predict, "s", SIGNATURE, {"x": x}, whole, TOLERANCES) is independent


def test_a_signature_of_fixed_size_is_never_batched():
    fixed = Signature((Tensor("x", "float32", (1, 2)),), SIGNATURE.outputs)
    x = np.zeros((1, 2), np.float32)
    assert not batching.rows_are_independent(lambda *_: {"y": x}, "s", fixed, {"x": x}, {"y": x}, TOLERANCES)


def publish_mean(following, name):
    """Its golden outputs hold only for the golden batch."""

    def fill(folder):
        shutil.copytree(following.models / "centred" / "1", folder, dirs_exist_ok=True)
        (folder / model_repository.EXTRA).mkdir()
        x = np.float32([1, 2, 3, 6])
        golden = goldens.Golden({"x": x}, {"y": x - x.mean()})
        goldens.write(folder / model_repository.EXTRA / goldens.GOLDEN, golden)
        artifact_metadata.write(
            folder,
            ArtifactMetadata("version", name, tolerances={"y": Tolerance(1e-6, 1e-6)}),
            at=model_repository.METADATA_FILE,
        )

    return model_repository.publish(following.repository, name, fill)


def send_together(server, requests):
    """Sends all requests while the only worker is busy, so that they share a frame; returns the replies in order."""
    server.wait(lambda: server.predict("busy", {"signature_name": "slow", "inputs": [1]}).status == 200)
    long = threading.Thread(target=server.predict, args=("busy", {"signature_name": "slow", "inputs": [50_000]}))
    long.start()
    server.wait(lambda: server.status()["workers"][0]["running"] == 1)
    replies = {}

    def send(number, target, document):
        replies[number] = server.predict(target, document)

    threads = [threading.Thread(target=send, args=(n, *request)) for n, request in enumerate(requests)]
    for thread in threads:
        thread.start()
    server.wait(lambda: server.status()["waiting"] == len(requests))
    for thread in (long, *threads):
        thread.join(120)
    return [replies[n] for n in range(len(requests))]


@pytest.fixture(scope="module")
def busy(following):
    """A model in the same repository that keeps the worker busy; without golden examples, so it is never batched."""
    if not (following.repository / "busy").exists():
        shutil.copytree(following.models / "hard", following.repository / "busy")
    following.wait_available("busy", 1)
    return following


def runs(server, model):
    """(runs of the model, requests in them), from the metrics."""
    totals = {}
    for line in server.metrics().splitlines():
        name, _, rest = line.partition("{")
        if name in ("seaway_batch_requests_count", "seaway_batch_requests_sum") and f'model="{model}"' in rest:
            totals[name.rpartition("_")[2]] = float(line.rpartition(" ")[2])
    return totals.get("count", 0), totals.get("sum", 0)


def test_requests_that_wait_together_share_a_run(busy):
    server = busy.server
    busy.publish("together")
    busy.wait_available("together", 1)
    before = runs(server, "together")
    sent = [[float(n)] * (1 + n % 3) for n in range(12)]
    replies = send_together(server, [("together", {"instances": rows}) for rows in sent])
    for rows, reply in zip(sent, replies, strict=True):
        assert reply.json() == {"predictions": [x / 2 + 2 for x in rows]}
    after = runs(server, "together")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 12)


def test_one_bad_request_among_good_ones_fails_alone(busy):
    busy.publish("mixed")
    busy.wait_available("mixed", 1)
    requests = [("mixed", {"instances": [n]}) for n in range(4)]
    requests[1:1] = [("mixed", {"instances": ["x"]}), ("mixed", {"inputs": [[1.0], [2.0]]})]
    replies = send_together(busy.server, requests)
    assert [reply.status for reply in replies] == [200, 400, 200, 200, 200, 200]
    assert [replies[i].json() for i in (0, 3, 4, 5)] == [{"predictions": [n / 2 + 2]} for n in range(4)]
    assert replies[2].json() == {"outputs": [[2.5], [3.0]]}  # of another rank: run alone


def test_a_net_whose_rows_depend_on_the_batch_is_run_alone(busy):
    version = publish_mean(busy, "centred")
    busy.wait_available("centred", version)
    replies = send_together(busy.server, [("centred", {"inputs": [float(n)]}) for n in range(5)])
    assert [reply.json() for reply in replies] == [{"outputs": [0.0]}] * 5


def test_concatenation_never_casts():
    """Calls of different types are never in one group, so no request's numbers depend on the others."""
    groups = batching.group([call(1, 2), call(1, 2, dtype="int64"), call(1, 2)], {"serving_default"}, 64)
    assert groups == [[0, 2], [1]]


def test_an_error_in_a_run_is_not_hidden():
    def predict(*_):
        raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        batching.run(predict, [call(1, 2), call(1, 2)])
