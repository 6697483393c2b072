import socket
import subprocess
import sys
import threading

import pytest
import toy
from certificates import Authority
from responder import serving
from tls_servers import https

from seaway.artifacts import model_repository
from seaway.client_tls import ClientTls
from seaway.deploy import deploy as stage
from seaway.deploy.deploy import deploy
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable


@pytest.fixture
def repository(tmp_path):
    for seed, shapes in ((1, toy.IMAGE_INPUT), (2, toy.TABLE_INPUTS)):
        toy.make(tmp_path / f"made{seed}", shapes, seed=seed).publish(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def server(repository):
    with serving(repository) as started:
        yield started


@pytest.mark.parametrize("version", [1, 2], ids=["one input", "two inputs"])
def test_the_version_becomes_canary_and_responds_as_pytorch_over_every_protocol(server, repository, version):
    differences = deploy(server.url + "/", repository, "toy", version)
    assert differences.keys() == {"REST", "GraphPipe", "OIP v2", "OIP v2 binary"}
    assert max(differences.values()) < 1e-6
    assert model_repository.labels(repository, "toy") == {"canary": version}


def test_it_waits_until_the_server_has_loaded_the_version(server, repository, monkeypatch):
    server.states[1] = (None, "")
    states = iter([("LOADING", ""), ("END", ""), ("AVAILABLE", "")])  # END without an error: unloaded, and back now
    monkeypatch.setattr(stage.time, "sleep", lambda _: server.states.update({1: next(states)}))
    deploy(server.url, repository, "toy", 1)
    assert server.paths.count("/v1/models/toy/versions/1") == 4


def test_it_waits_for_a_server_that_is_not_up_yet(repository):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"after 0 s: nothing responds"):
            deploy(url, repository, "toy", 1, timeout_s=0)


def test_the_wait_for_a_version_that_never_loads_is_bounded(server, repository):
    server.states[1] = ("LOADING", "")
    with pytest.raises(Unavailable, match=r"after 0\.3 s: LOADING; does it serve this model repository"):
        deploy(server.url, repository, "toy", 1, timeout_s=0.3)
    server.states[1] = (None, "")
    with pytest.raises(Unavailable, match="Could not find version 1"):
        deploy(server.url, repository, "toy", 1, timeout_s=0)


def test_a_version_that_fails_to_load_raises_the_server_s_reason_at_once(server, repository):
    server.states[1] = ("END", "Op type not registered 'Warp'")
    with pytest.raises(Refused, match="could not load toy/1: Op type not registered"):
        deploy(server.url, repository, "toy", 1)


def test_something_else_on_the_port_is_named(server, repository, monkeypatch):
    monkeypatch.setattr(server.RequestHandlerClass, "do_GET", lambda h: h.send(200, b"<html>Grafana", "text/html"))
    with pytest.raises(Unavailable, match="200 '<html>Grafana': something other than a model server"):
        deploy(server.url, repository, "toy", 1)


def test_a_port_that_closes_connections_is_retried_and_then_named(repository):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            for _ in range(2):
                listening.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(Unavailable, match="nothing responds at"):
            deploy(f"http://127.0.0.1:{listening.getsockname()[1]}", repository, "toy", 1, timeout_s=0.1)


@pytest.mark.parametrize("fault", ["constant", "nan", "shape", "off", "permuted"])
def test_wrong_responses_are_refused(server, repository, fault):
    next(server.counter)
    server.fault = fault
    with pytest.raises(
        Refused, match=r"1[0-6] of 16 golden examples .* over REST whose output 'scores' differs from PyTorch's"
    ):
        deploy(server.url, repository, "toy", 1)


def test_wrong_responses_over_the_second_protocol_only_are_refused(server, repository):
    server.fault = "off"  # from the second inference on
    with pytest.raises(Refused, match="over GraphPipe whose output 'scores' differs"):
        deploy(server.url, repository, "toy", 1)


@pytest.mark.parametrize(
    ("fault", "message"), [("error", "500 'the model ran out of luck'"), ("garbage", "no REST response")]
)
def test_an_error_or_an_unreadable_response_is_refused(server, repository, fault, message):
    next(server.counter)
    server.fault = fault
    with pytest.raises(Refused, match=message):
        deploy(server.url, repository, "toy", 1)


def test_another_model_s_response_is_refused_even_if_it_is_correct(server, repository):
    server.digests[1] = "0" * 64
    with pytest.raises(Refused, match="toy/1@0000000"):
        deploy(server.url, repository, "toy", 1)


def test_wrong_arguments(server, repository):
    with pytest.raises(NotFound, match="no version 9"):
        deploy(server.url, repository, "toy", 9)
    with pytest.raises(InvalidInput, match="not a URL"):
        deploy("localhost", repository, "toy", 1)


def test_the_stage_prints_its_measurements(server, repository):
    options = ["--url", server.url, "--model-repository", repository, "--name", "toy", "--version", "1"]
    command = [sys.executable, "-m", "seaway.deploy", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("match PyTorch, max |Δ|") == 4


def test_a_server_at_https(repository, tmp_path):
    """A certificate that is not trusted ends the wait at once; a closed connection does not: the server may restart."""
    ca, untrusted = Authority(tmp_path), Authority(tmp_path, "untrusted")
    client = ca.issue("client")
    with https(repository, ca.issue("server"), client_ca=ca.ca) as server:
        differences = deploy(server.url, repository, "toy", 1, tls=ca.trust(client))
        assert len(differences) == 4
        with pytest.raises(
            InvalidInput, match=r"/v1/models/toy.*: the server's TLS certificate is not trusted .*--tls-ca"
        ):
            deploy(server.url, repository, "toy", 1, tls=untrusted.trust(client))
        with pytest.raises((InvalidInput, Unavailable), match=r"requires a client certificate.*--tls-cert FILE"):
            deploy(server.url, repository, "toy", 1, timeout_s=0.1, tls=ca.trust())
    with pytest.raises(InvalidInput, match=r"http://127.0.0.1:1: no TLS there, so --insecure would have no effect"):
        deploy("http://127.0.0.1:1", repository, "toy", 1, tls=ClientTls(insecure=True))


def test_a_grpc_address_is_refused_at_once(repository):
    with pytest.raises(InvalidInput, match=r"grpc://127.0.0.1:1: a canary is deployed and tested over HTTP: give the"):
        deploy("grpc://127.0.0.1:1", repository, "toy", 1)
    assert model_repository.labels(repository, "toy") == {}
