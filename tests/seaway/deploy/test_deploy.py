import socket
import subprocess
import sys
import threading

import pytest
import toy
from responder import serving

from seaway.artifacts import store
from seaway.deploy import deploy as stage
from seaway.deploy.deploy import deploy
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable


@pytest.fixture
def volume(tmp_path):
    for seed, shapes in ((1, toy.PICTURE), (2, toy.TABLE)):
        toy.make(tmp_path / f"made{seed}", shapes, seed=seed).publish(tmp_path / "volume")
    return tmp_path / "volume"


@pytest.fixture
def server(volume):
    with serving(volume) as started:
        yield started


@pytest.mark.parametrize("version", [1, 2], ids=["one input", "two inputs"])
def test_the_version_becomes_canary_and_answers_as_pytorch_over_every_protocol(server, volume, version):
    worst = deploy(server.url + "/", volume, "toy", version)
    assert worst.keys() == {"REST", "GraphPipe", "OIP v2", "OIP v2 binary"}
    assert max(worst.values()) < 1e-6
    assert store.labels(volume, "toy") == {"canary": version}


def test_it_waits_until_the_server_has_loaded_the_version(server, volume, monkeypatch):
    server.states[1] = (None, "")
    states = iter([("LOADING", ""), ("END", ""), ("AVAILABLE", "")])  # END without an error: unloaded, and back now
    monkeypatch.setattr(stage.time, "sleep", lambda _: server.states.update({1: next(states)}))
    deploy(server.url, volume, "toy", 1)
    assert server.asked.count("/v1/models/toy/versions/1") == 4


def test_it_waits_for_a_server_that_is_not_up_yet(volume, monkeypatch):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"after 0 s: nobody answers"):
            deploy(url, volume, "toy", 1, timeout=0)


def test_a_version_that_is_never_loaded_is_a_bounded_wait(server, volume):
    server.states[1] = ("LOADING", "")
    with pytest.raises(Unavailable, match=r"after 0\.3 s: LOADING; does it serve this volume"):
        deploy(server.url, volume, "toy", 1, timeout=0.3)
    server.states[1] = (None, "")
    with pytest.raises(Unavailable, match="Could not find version 1"):
        deploy(server.url, volume, "toy", 1, timeout=0)


def test_a_version_that_will_not_load_tells_the_server_s_reason_at_once(server, volume):
    server.states[1] = ("END", "Op type not registered 'Warp'")
    with pytest.raises(Refused, match="could not load toy/1: Op type not registered"):
        deploy(server.url, volume, "toy", 1)


def test_something_else_on_the_port_is_named(server, volume, monkeypatch):
    monkeypatch.setattr(server.RequestHandlerClass, "do_GET", lambda h: h.send(200, b"<html>Grafana", "text/html"))
    with pytest.raises(Unavailable, match="200 '<html>Grafana': something else than a model server"):
        deploy(server.url, volume, "toy", 1)


def test_a_port_that_hangs_up_is_waited_for_and_then_named(volume):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            for _ in range(2):
                listening.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(Unavailable, match="nobody answers at"):
            deploy(f"http://127.0.0.1:{listening.getsockname()[1]}", volume, "toy", 1, timeout=0.1)


@pytest.mark.parametrize("fault", ["constant", "nan", "shape", "off", "permuted"])
def test_wrong_answers_are_refused(server, volume, fault):
    next(server.counter)
    server.fault = fault
    with pytest.raises(Refused, match=r"1[0-6] of 16 golden examples .* over REST otherwise than by PyTorch"):
        deploy(server.url, volume, "toy", 1)


def test_wrong_answers_of_the_second_protocol_alone_are_refused(server, volume):
    server.fault = "off"  # from the second inference on
    with pytest.raises(Refused, match="over GraphPipe otherwise"):
        deploy(server.url, volume, "toy", 1)


@pytest.mark.parametrize(
    ("fault", "message"), [("error", "500 'the model ran out of luck'"), ("garbage", "no REST answer")]
)
def test_no_answer_is_refused(server, volume, fault, message):
    next(server.counter)
    server.fault = fault
    with pytest.raises(Refused, match=message):
        deploy(server.url, volume, "toy", 1)


def test_another_model_s_answer_is_refused_even_if_it_is_right(server, volume):
    server.digests[1] = "0" * 64
    with pytest.raises(Refused, match="toy/1@0000000"):
        deploy(server.url, volume, "toy", 1)


def test_wrong_use(server, volume):
    with pytest.raises(NotFound, match="no version 9"):
        deploy(server.url, volume, "toy", 9)
    with pytest.raises(InvalidInput, match="not an address"):
        deploy("localhost", volume, "toy", 1)


def test_the_stage_prints_what_it_found(server, volume):
    of = ["--url", server.url, "--volume", volume, "--name", "toy", "--version", "1"]
    command = [sys.executable, "-m", "seaway.deploy", *of]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("as PyTorch, max |Δ|") == 4
