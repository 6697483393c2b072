"""Two real processes under torchrun, on the CPU: they compute what one would, and end together."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from seaway.artifacts import artifact_metadata
from seaway.errors import InvalidInput, Unavailable
from seaway.train import parallel
from seaway.train.augment import distort
from seaway.train.loop import split
from seaway.train.train import Settings, train

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# 15: one process has 7 images, one 8. Slowly, so that the last bits of sums are not enlarged to differences.
SETTINGS = Settings(
    epochs=4, batch_size=15, validation=0.1, threads=1, learning_rate=5e-4, affine=1.0, elastic=0.5, stroke_jitter=0.5
)
OPTIONS = ["--epochs", "4", "--batch-size", "15", "--validation", "0.1", "--threads", "1"]  # the same
OPTIONS += ["--learning-rate", "0.0005", "--affine", "1", "--elastic", "0.5", "--stroke-jitter", "0.5"]
STEPS_PER_EPOCH = 24  # steps: 90 % of 400 images, 15 a step


@pytest.fixture(scope="module")
def bars(make, tmp_path_factory):
    return make(tmp_path_factory.mktemp("bars") / "dataset", count=400)


@pytest.fixture(scope="module")
def alone(bars, tmp_path_factory):
    """The checkpoint that one process trains."""
    checkpoint = tmp_path_factory.mktemp("alone") / "checkpoint"
    train(bars, checkpoint, SETTINGS)
    return checkpoint


def start(program, dataset, folder, *more):
    """torchrun in a process group of its own, and two processes, each in another; their output is in folder/stderr."""
    options = ["--dataset", dataset, "--checkpoint", folder / "checkpoint", "--work", folder / "work", *OPTIONS, *more]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "WATCHED": str(folder)}
    with (folder / "stderr").open("w") as stderr:
        return subprocess.Popen(
            [*TORCHRUN, *program, *map(str, options)], cwd=ROOT, env=environ, stderr=stderr, start_new_session=True
        )


def saved(folder):
    states = list((folder / "work").glob("train-*/state.pt"))
    return torch.load(states[0], weights_only=True)["step"] if states else 0


def wait_until_saved(folder, step, running):
    deadline = time.monotonic() + 120
    while saved(folder) <= step:
        assert running.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(torchrun):
    listed = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    return {Path(f"/proc/{pid}/environ").read_bytes().split(b"\0RANK=")[1][:1].decode(): int(pid) for pid in listed}


def end(torchrun):
    """Ends torchrun, however the test went."""
    if torchrun.poll() is None:
        torchrun.terminate()  # so that it ends its processes
        torchrun.wait()


@pytest.fixture(scope="module")
def left_alone(bars, tmp_path_factory):
    """A run whose second process was killed -9, in its second epoch or later: its folder and exit status."""
    folder = tmp_path_factory.mktemp("left")
    running = start(["-m", "seaway.train"], bars, folder, "--save-seconds", "0")
    try:
        wait_until_saved(folder, STEPS_PER_EPOCH, running)
        processes = workers(running)
        os.kill(processes["1"], signal.SIGKILL)
        status = running.wait(timeout=60)
        assert not Path(f"/proc/{processes['0']}").exists()
        return folder, status
    finally:
        end(running)


@pytest.fixture(scope="module")
def resumed(bars, left_alone, tmp_path_factory):
    """Two processes that went on from what that run left."""
    folder = tmp_path_factory.mktemp("resumed")
    shutil.copytree(left_alone[0] / "work", folder / "work")
    running = start([Path(__file__).with_name("watched.py")], bars, folder)
    try:
        assert running.wait(timeout=200) == 0, (folder / "stderr").read_text()
    finally:
        end(running)
    return folder


def assert_same_within_rounding(checkpoint, alone):
    weights, expected = (torch.load(folder / "weights.pt", weights_only=True) for folder in (checkpoint, alone))
    assert weights.keys() == expected.keys()
    far = {name: float((weights[name] - value).abs().max()) for name, value in expected.items()}
    # AdamW enlarges rounding where gradients are almost nothing: 0.001. Statistics, draws or weights of parts that are
    # not the whole batch's make 0.2 to 1, and 0.0004 to 0.01 in the losses.
    assert {name: by for name, by in far.items() if by > 0.02} == {}
    assert artifact_metadata.read(checkpoint).metrics == pytest.approx(artifact_metadata.read(alone).metrics, abs=1e-3)
    rows, others = (json.loads((folder / "history.json").read_text()) for folder in (checkpoint, alone))
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in others], abs=1e-4)


def test_a_killed_process_ends_the_others(left_alone):
    folder, status = left_alone
    assert status == 1
    assert saved(folder) > STEPS_PER_EPOCH
    assert not (folder / "checkpoint").exists()


def test_two_processes_interrupted_and_resumed_end_where_one_does(resumed, alone):
    assert_same_within_rounding(resumed / "checkpoint", alone)
    assert (
        artifact_metadata.check(resumed / "checkpoint", "checkpoint").settings == artifact_metadata.read(alone).settings
    )


def test_one_process_continues_what_two_began(bars, left_alone, alone, tmp_path):
    shutil.copytree(left_alone[0] / "work", tmp_path / "work")
    train(bars, tmp_path / "checkpoint", SETTINGS, work=tmp_path / "work")
    assert_same_within_rounding(tmp_path / "checkpoint", alone)


def test_only_one_process_prints(resumed):
    stderr = (resumed / "stderr").read_text()
    assert stderr.count("resumed from") == stderr.count("epoch 4/4") == stderr.count("test accuracy") == 1


def test_only_one_process_writes(resumed):
    first, second = (json.loads((resumed / f"{rank}.json").read_text())["changed"] for rank in range(2))
    assert second == []
    assert any(path.endswith("weights.pt") for path in first)
    assert any(path.endswith("state.pt") for path in first)
    assert list((resumed / "work").iterdir()) == []


def test_each_image_is_trained_on_once_an_epoch(resumed, bars):
    """In the last epoch, which the resumed run did whole."""
    parts = [json.loads((resumed / f"{rank}.json").read_text())["steps"][-STEPS_PER_EPOCH:] for rank in range(2)]
    assert {tuple(len(step) for step in both) for both in zip(*parts, strict=True)} == {(7, 8)}
    seen = [image for part in parts for step in part for image in step]
    images = np.load(bars / "train_images.npy")
    rows = split(len(images), SETTINGS.validation, SETTINGS.seed)[0]
    assert len(seen) == len({*seen}) == STEPS_PER_EPOCH * 15 == len(rows)
    assert {*seen} == {hashlib.sha256(images[row].tobytes()).hexdigest() for row in rows}


@pytest.mark.slow
def test_ctrl_c_ends_all(bars, tmp_path):
    running = start(["-m", "seaway.train"], bars, tmp_path, "--save-seconds", "0")
    try:
        wait_until_saved(tmp_path, 0, running)
        processes = workers(running).values()
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        assert running.wait(timeout=60) != 0
        assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []
    finally:
        end(running)
    assert saved(tmp_path) > 0
    assert not (tmp_path / "checkpoint").exists()


def test_parts_of_a_batch_are_distorted_as_in_the_whole():
    images = torch.rand(7, 1, 12, 12)
    torch.manual_seed(1)
    whole = distort(images, 1, 1)
    for start_at, end_at in ((0, 3), (3, 7)):
        torch.manual_seed(1)
        part = distort(images[start_at:end_at], 1, 1, 7, start_at)
        torch.testing.assert_close(part, whole[start_at:end_at])


# ---- errors


@pytest.mark.parametrize(
    ("environ", "device", "message"),
    [
        ({"WORLD_SIZE": "2"}, "cpu", "MASTER_PORT is ''.*start all processes with torchrun"),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "1"}, "cpu", "MASTER_ADDR is not"),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "1", "MASTER_ADDR": "::1"}, "cpu", "RANK is ''"),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "1", "MASTER_ADDR": "::1", "RANK": "2"}, "cpu", "RANK must be less"),
        ({"WORLD_SIZE": "many"}, "cpu", "WORLD_SIZE is 'many'"),
        ({"WORLD_SIZE": "2"}, "cuda:0", "--device cuda:0 is one GPU for several processes"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "99"}, "cuda", r"process 99 of this machine finds \d+ GPUs"),
    ],
)
def test_an_environment_that_does_not_suit_several_processes_is_refused(
    bars, tmp_path, monkeypatch, environ, device, message
):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=message):
        train(bars, tmp_path / "checkpoint", Settings(device=device))


def test_an_unreachable_master_is_reported(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        port = closed.getsockname()[1]
        for name, value in {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        expected = rf"the other processes cannot be reached \(.*127\.0\.0\.1.*{port}.*\).*check MASTER_ADDR"
        with (
            pytest.raises(Unavailable, match=expected),
            parallel.group("cpu", rendezvous_timeout=timedelta(seconds=1)),
        ):
            pass


def test_one_process_under_torchrun_is_as_without(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    net = torch.nn.Linear(2, 2)
    with parallel.group("cuda:7") as device:
        assert device == "cuda:7"
        assert parallel.wrap(net) is net
        assert parallel.batch_slice(5) == slice(0, 5)
