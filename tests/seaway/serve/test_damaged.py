"""Versions whose files vanish or are damaged while they are served, before their worker dies."""

import os
import shutil
import signal
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from seaway.artifacts import model_repository

BACKENDS = ("savedmodel", "onnx")
MAX_FILE_BYTES = {"savedmodel": "variables/variables.data-00000-of-00001", "onnx": "model.onnx"}


def write_onnx(folder: Path, offset: float) -> None:
    """y = x/2 + offset, as make_models.py's half."""
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [v]) for name, v in (("h", 0.5), ("o", offset))]
    nodes = [helper.make_node("Mul", ["x", "h"], ["m"]), helper.make_node("Add", ["m", "o"], ["y"])]
    sides = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])] for name in "xy"]
    graph = helper.make_graph(nodes, "half", *sides, constants)
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


class World:
    """A model repository, a server on it, and two versions of a model of its own for each test: x/2 + 2 and x/2 + 3."""

    def __init__(self, backend, models, folder, server_class, workers=1):
        self.repository, self._whole, self.backend = folder / "models", folder / "whole", backend
        for version, offset in ((1, 2.0), (2, 3.0)):
            if backend == "onnx":
                write_onnx(self._whole / str(version), offset)
            else:
                shutil.copytree(models / "half" / str(version), self._whole / str(version))
        self.repository.mkdir()
        settings = {"--backend": backend, "--workers": workers, "--threads": 1, "--timeout-s": 8}
        self.server = server_class(self.repository, *(str(part) for pair in settings.items() for part in pair))

    def add(self, name, *versions, labels=()):
        for version in versions:  # whole at once, as publish does: a server may look at any moment
            copied = shutil.copytree(self._whole / str(version), self._whole / f"{name}-{version}")
            self.folder(name, version).parent.mkdir(exist_ok=True)
            copied.rename(self.folder(name, version))
        for label, version in labels:
            model_repository.set_label(self.repository, name, label, version)
        wanted = {max(versions), *(version for _, version in labels)}
        self.server.wait(lambda: self.server.states(name) == dict.fromkeys(wanted, "AVAILABLE"))

    def folder(self, name, version):
        return self.repository / name / str(version)

    def restore(self, name, version):
        shutil.rmtree(self.folder(name, version), ignore_errors=True)
        shutil.copytree(self._whole / str(version), self.folder(name, version))

    def damage(self, name, version, fault="truncated"):
        folder = self.folder(name, version)
        file = folder / MAX_FILE_BYTES[self.backend]
        if fault == "a file is gone":
            file.unlink()
        elif fault == "truncated":
            file.write_bytes(file.read_bytes()[:-3])
        else:  # another model, that could well be loaded, under the same number
            shutil.rmtree(folder)
            shutil.copytree(self._whole / "1", folder)

    def kill(self):
        """Ends the first worker, and waits until its place is taken by another."""
        pid = self.server.status()["workers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        self.server.wait(lambda: all(w["alive"] and w["pid"] != pid for w in self.server.status()["workers"]))

    def predict(self, target):
        return self.server.predict(target, {"instances": [1.0]})

    def state(self, name, version):
        return self.server.states(name).get(version)


@pytest.fixture(params=BACKENDS, scope="module")
def world(request, models, tmp_path_factory, server_class):
    made = World(request.param, models, tmp_path_factory.mktemp("damaged"), server_class)
    yield made
    assert made.server.stop() == 0


@pytest.fixture(params=BACKENDS)
def two_workers(request, models, tmp_path, server_class):
    made = World(request.param, models, tmp_path, server_class, workers=2)
    yield made
    assert made.server.stop() == 0


def test_the_only_model(world):
    """First of this file, so that there is no other."""
    server = world.server
    world.add("only", 2)
    server.wait_ready()
    digest = world.predict("only").headers["Seaway-Model"]
    world.damage("only", 2)
    assert world.predict("only").json() == {"predictions": [3.5]}  # the version in memory is served
    world.kill()
    server.wait(lambda: world.state("only", 2) == "END")
    assert server.get("/readyz").status == 503
    assert server.get("/v2/health/ready").status == 503
    assert server.get("/v2/models/only/ready").status == 503
    assert world.predict("only").status == 503
    shutil.rmtree(world.repository / "only")  # and its folder too, as if a mount were lost
    server.wait(lambda: b"all models disappeared at once" in server.get("/readyz").body)
    assert world.predict("only").status == 503
    world.restore("only", 2)
    server.wait(lambda: world.predict("only").status == 200)
    assert world.predict("only").headers["Seaway-Model"] == digest
    assert server.get("/readyz").status == 200
    assert server.get("/v2/models/only/ready").status == 200


@pytest.mark.parametrize("fault", ["a file is gone", "truncated", "changed"])
def test_a_version_that_cannot_be_reloaded_fails_at_once_and_recovers(world, fault):
    server, name = world.server, f"fault-{fault}".replace(" ", "-")
    world.add(name, 2)
    digest = world.predict(name).headers["Seaway-Model"]
    world.damage(name, 2, fault)
    world.kill()
    server.wait(lambda: world.state(name, 2) == "END")
    for target in (name, f"{name}/versions/2"):
        reply = world.predict(target)
        assert reply.status == 503, reply.body
        assert str(world.folder(name, 2)) in reply.json()["error"]
    said = server.error_of(name, 2)
    assert str(world.folder(name, 2)) in said
    assert "it is retried when its files change, or in" in said or "it is being retried" in said
    assert server.get(f"/v2/models/{name}/ready").status == 503
    server.wait(lambda: server.get("/readyz").status == 200)  # there are others
    world.restore(name, 2)
    server.wait(lambda: world.state(name, 2) == "AVAILABLE")
    assert world.predict(name).json() == {"predictions": [3.5]}
    assert world.predict(name).headers["Seaway-Model"] == digest
    assert server.error_of(name, 2) == ""


def test_it_fills_no_log(world):
    server, name = world.server, "quiet"
    world.add(name, 2)
    world.damage(name, 2)
    before = len(server.log)
    world.kill()
    failed = f'seaway_loads_total{{model="{name}",version="2",result="failed"}} 3'
    server.wait(lambda: failed in server.metrics())
    told = [line for line in server.log[before:] if f"{name}/" in line and "is available" not in line]
    assert len(told) == 1, told
    assert f"{name}/2 cannot be served" in told[0]
    assert sum("is available" not in line for line in server.log[before:]) <= 4, server.log[before:]


@pytest.mark.parametrize("labels", [[], [("stable", 2)]])
def test_the_version_before_answers_who_asks_for_none(world, labels):
    server, name = world.server, f"before{len(labels)}"
    world.add(name, 2, labels=labels)
    world.restore(name, 1)
    assert world.predict(name).json() == {"predictions": [3.5]}
    world.damage(name, 2)
    world.kill()
    server.wait(lambda: world.predict(name).json() == {"predictions": [2.5]})
    assert world.predict(f"{name}/versions/2").status == 503
    assert server.get("/readyz").status == 200
    assert server.get(f"/v2/models/{name}/ready").status == 200
    assert server.get(f"/v2/models/{name}/versions/2/ready").status == 503
    for label, _ in labels:  # a label gets its own version or none
        assert world.predict(f"{name}/labels/{label}").status == 503
    world.restore(name, 2)
    server.wait(lambda: world.predict(name).json() == {"predictions": [3.5]})
    server.wait(lambda: server.states(name) == {2: "AVAILABLE"})


def test_a_labelled_version_whose_folder_disappears(world):
    server, name = world.server, "pointed"
    world.add(name, 1, 2, labels=[("stable", 2)])
    shutil.rmtree(world.folder(name, 2))
    assert world.predict(name).json() == {"predictions": [3.5]}
    world.kill()
    server.wait(lambda: world.predict(name).json() == {"predictions": [2.5]})
    reply = world.predict(f"{name}/labels/stable")
    assert reply.status == 503
    assert "it is not in the model repository" in reply.json()["error"]
    world.restore(name, 2)
    server.wait(lambda: world.predict(name).json() == {"predictions": [3.5]})


def test_a_newer_version_that_was_not_promoted_replaces_no_other(world):
    server, name = world.server, "canary"
    world.add(name, 1, 2, labels=[("stable", 1), ("canary", 2)])
    world.damage(name, 1)
    world.kill()
    server.wait(lambda: world.state(name, 1) == "END" and world.predict(f"{name}/labels/canary").status == 200)
    reply = world.predict(name)
    assert reply.status == 503
    assert "label 'stable' points at version 1, which is not available" in reply.json()["error"]
    assert world.predict(f"{name}/versions/2").json() == {"predictions": [3.5]}


def test_another_worker_continues_to_serve(two_workers):
    world = two_workers
    server, name = world.server, "half"
    world.add(name, 2)
    world.damage(name, 2)
    world.kill()
    server.wait(lambda: any("which others continue to serve" in line for line in server.log))
    assert [world.predict(name).json() for _ in range(5)] == [{"predictions": [3.5]}] * 5
    assert world.state(name, 2) == "AVAILABLE"
    assert server.get("/readyz").status == 200
    assert server.get(f"/v2/models/{name}/ready").status == 200
    world.restore(name, 2)
    server.wait(lambda: all(w["loaded"] for w in server.status()["workers"]))
    assert sum("which others continue to serve" in line for line in server.log) == 1


def test_requests_fail_at_once_if_no_worker_can_be_started(start, tmp_path, monkeypatch):
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(shadow))
    write_onnx(tmp_path / "models" / "half" / "1", 2.0)
    server = start(tmp_path / "models", "--backend", "onnx", "--timeout-s", "20")
    server.wait_ready()
    (shadow / "onnxruntime.py").write_text("raise ImportError('it was uninstalled')")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    worker = server.worker()
    for pid in (*map(int, children), worker):  # the forkserver, and the only worker
        os.kill(pid, signal.SIGKILL)

    def refused():
        reply = server.predict("half", {"instances": [1.0]})
        return reply.status == 503 and "no worker can be started" in reply.json()["error"]

    server.wait(refused)
    assert server.get("/readyz").status == 503
    assert sum(f"worker {worker} exited" in line for line in server.log) == 1
    (shadow / "onnxruntime.py").unlink()
    server.wait(lambda: server.predict("half", {"instances": [1.0]}).status == 200)
    assert server.get("/readyz").status == 200
