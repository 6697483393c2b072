"""The server survives garbage, inputs that abort TensorFlow and killed workers, and shuts down gracefully."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tolerance
from seaway.platform import sockets
from seaway.protocols import graphpipe

ROOT = Path(__file__).parents[3]


def mutations(body: bytes, count: int):
    chance = random.Random(0)
    for _ in range(count):
        broken = bytearray(body)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        yield bytes(broken[: chance.randint(0, len(broken))])


@pytest.mark.parametrize("path, body", [
    ("/graphpipe/half", graphpipe.write_infer_request({"x": np.float32([1, 2])}, ["y"])),
    ("/v1/models/half:predict", b'{"signature_name": "serving_default", "instances": [1.0, 2.5e3]}'),
])  # fmt: skip
def test_garbage_gets_a_response_and_does_no_harm(server, path, body):
    worker = server.worker()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    statuses = set()
    for broken in mutations(body, 400):
        connection.request("POST", path, broken)
        reply = connection.getresponse()
        reply.read()
        statuses.add(reply.status)
    connection.close()
    assert statuses <= {200, 400, 404}
    assert 400 in statuses
    assert server.worker() == worker


@pytest.mark.parametrize("sent", [b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
def test_invalid_http(server, sent):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.sendall(sent)
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")
    assert server.get("/healthz").status == 200


def test_a_client_that_disconnects_midway(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert server.predict("half", {"instances": [1]}).status == 200


def test_an_input_that_aborts_tensorflow_fails_alone(server):
    worker = server.worker()
    reply = server.predict("hard", {"signature_name": "fatal", "inputs": [1]})
    assert reply.status == 500
    assert "process that worked on this request died" in reply.json()["error"]
    assert server.get("/healthz").status == 200
    assert server.predict("half", {"instances": [1]}).json() == {"predictions": [3.5]}  # waits for the next worker
    assert server.worker() != worker


def test_a_killed_worker_fails_only_what_it_was_computing(server):
    """One long request is running and three short ones wait: only the long one is lost."""
    server.wait(lambda: server.predict("hard", {"signature_name": "slow", "inputs": [1]}).status == 200)
    replies: dict[int, int] = {}

    def send(number, steps):
        replies[number] = server.predict("hard", {"signature_name": "slow", "inputs": [steps]}).status

    long = threading.Thread(target=send, args=(0, 100_000_000))
    long.start()
    server.wait(lambda: server.status()["workers"][0]["running"] == 1)
    short = [threading.Thread(target=send, args=(number, number)) for number in (1, 2, 3)]
    for thread in short:
        thread.start()
    server.wait(lambda: server.status()["waiting"] == 3)
    os.kill(server.worker(), signal.SIGKILL)
    for thread in (long, *short):
        thread.join(120)
    assert replies == {0: 500, 1: 200, 2: 200, 3: 200}


def test_requests_that_share_a_frame_with_a_fatal_one_succeed(server):
    """While one long request runs, a fatal one and harmless ones queue up and are sent in one frame."""
    replies: dict[int, tuple[int, object]] = {}

    def send(number, document):
        reply = server.predict("hard", document)
        replies[number] = reply.status, reply.json()

    long = threading.Thread(target=send, args=(0, {"signature_name": "slow", "inputs": [60_000]}))
    long.start()
    server.wait(lambda: server.status()["workers"][0]["running"] == 1)
    fatal = {"signature_name": "fatal", "inputs": [1, 1]}
    behind = [{"signature_name": "slow", "inputs": [n]} for n in range(1, 5)]
    behind.insert(2, fatal)
    threads = [threading.Thread(target=send, args=(n, document)) for n, document in enumerate(behind, start=1)]
    for thread in threads:
        thread.start()
    server.wait(lambda: server.status()["waiting"] == 5)
    for thread in (long, *threads):
        thread.join(120)
    assert replies.pop(3)[0] == 500
    assert [replies[n] for n in (1, 2, 4, 5)] == [(200, {"outputs": [float(n)]}) for n in (1, 2, 3, 4)]


def test_shapes_that_kill_a_process_are_quarantined(server):
    """A shape that does not match the signature and kills the process is rejected from then on."""
    assert server.predict("hard", {"signature_name": "conv", "inputs": [[1.0]]}).status in (400, 500)
    server.wait(lambda: server.predict("half", {"instances": [1]}).status == 200)
    worker = server.worker()
    assert server.predict("hard", {"signature_name": "conv", "inputs": [[1.0]]}).status == 400
    assert server.predict("hard", {"signature_name": "conv", "inputs": [[2.0], [3.0]]}).status == 400
    assert server.worker() == worker


def test_the_forkserver_is_replaced_too(following):
    server = following.server

    def children():
        pids = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        return {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}

    [forkserver] = [pid for pid, command in children().items() if b"seaway.serve.worker.forkserver" in command]
    os.kill(forkserver, signal.SIGKILL)
    assert server.predict("first", {"instances": [0]}).status == 200  # the worker continues without it
    orphan = server.worker()
    server.wait(lambda: orphan in children())
    os.kill(orphan, signal.SIGKILL)
    server.wait(lambda: any(f"worker {orphan} exited (signal 9)" in line for line in server.log))
    # A new forkserver imports TensorFlow first: on busy cores that may exceed a request's deadline.
    server.wait(lambda: server.predict("first", {"instances": [0]}).json() == {"predictions": [2.0]}, 120)
    assert not {forkserver, orphan} & set(children())  # no zombies


def test_a_version_whose_golden_inputs_kill_the_process_is_removed(following):
    def fill(folder):
        shutil.copytree(following.models / "hard" / "1", folder, dirs_exist_ok=True)
        (folder / model_repository.EXTRA).mkdir()
        sizes = np.ones(3, np.int32)
        golden = goldens.Golden({"sizes": sizes}, {"y": np.ones(3, np.float32)})
        goldens.write(folder / model_repository.EXTRA / goldens.GOLDEN, golden)
        artifact_metadata.write(
            folder,
            ArtifactMetadata("version", "aborting", tolerances={"y": Tolerance(1e-6, 1e-6)}),
            at=model_repository.METADATA_FILE,
        )

    version = model_repository.publish(following.repository, "aborting", fill)
    assert "kills the process" in following.wait_end("aborting", version)
    assert following.server.predict("first", {"instances": [0]}).json() == {"predictions": [2.0]}


def test_health_and_admin(server):
    assert server.get("/healthz").body == b"ok\n"
    assert server.get("/readyz").body == b"ready\n"
    assert server.get("/status").status == 404  # only on the admin port
    status = server.status()
    assert status["ready"] == "ready"
    assert status["models"]["half"]["labels"] == {"stable": 1, "canary": 2}


def test_the_access_log_is_json(server):
    server.predict("half/labels/stable", {"instances": [1]})
    path = "/v1/models/half/labels/stable:predict"

    def logged():
        lines = [json.loads(line) for line in server.log if line.startswith("{")]
        return [line for line in lines if line["path"] == path and line["status"] == 200]

    server.wait(logged)
    assert logged()[-1]["model"].startswith("half/1@")


def test_a_server_without_a_model_is_not_ready(start, tmp_path):
    server = start(tmp_path)
    assert server.get("/healthz").status == 200
    server.wait(lambda: b"no model" in server.get("/readyz").body)
    assert server.get("/readyz").status == 503
    assert server.get("/").status == 503


def test_one_of_two_workers_is_killed_under_load(start, models, tmp_path, under_load):
    shutil.copytree(models / "half", tmp_path / "half")
    server = start(tmp_path, "--workers", "2")
    server.wait_ready()
    assert server.get("/").json()["Name"] == "half"  # the only model
    with under_load(server.port, "half", {"half/2": 3.0}, threads=4) as load:
        server.wait(lambda: load.answers.get("half/2", 0) > 50)
        killed = server.status()["workers"][0]["pid"]
        os.kill(killed, signal.SIGKILL)
        server.wait(lambda: all(w["pid"] != killed and w["loaded"] for w in server.status()["workers"]))
        seen = load.answers["half/2"]
        server.wait(lambda: load.answers["half/2"] > seen + 50)
    assert [failure[0] for failure in load.failed] in ([], [500])  # the request that it was running, if any
    assert load.wrong == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters packets")
def test_a_port_that_stops_accepting_keeps_its_connections():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as late:
        with socket.create_connection(listening.getsockname()) as early:
            sockets.stop_accepting(listening)
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(listening.getsockname())
            with listening.accept()[0] as accepted:
                early.sendall(b"hello")
                assert accepted.recv(5) == b"hello"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_sigterm_fails_only_new_connections(start, models, tmp_path, under_load):
    shutil.copytree(models / "half", tmp_path / "half")
    server = start(tmp_path)
    server.wait_ready()
    with under_load(server.port, "half", {"half/2": 3.0}, threads=4) as load:
        server.wait(lambda: load.answers.get("half/2", 0) > 50)
        assert server.stop() == 0
    assert load.wrong == []
    assert set(load.failed) == {"ConnectionRefusedError(111, 'Connection refused')"}, load.failed


def test_ctrl_c_while_the_backend_is_imported(start, tmp_path):
    """Ctrl-C reaches the forkserver as well, which must not end with a traceback."""
    server = start(tmp_path)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")

    def ignores_sigint() -> bool:
        statuses = [Path(f"/proc/{child}/status").read_text() for child in children.read_text().split()]
        masks = [status.partition("SigIgn:")[2] for status in statuses]
        return bool(masks) and all(int(mask.split()[0], 16) & 1 << signal.SIGINT - 1 for mask in masks)

    server.wait(ignores_sigint)
    for process in (*children.read_text().split(), server.process.pid):
        os.kill(int(process), signal.SIGINT)
    assert server.process.wait(60) == 0
    server.stop()
    log = "".join(server.log)
    assert "stopping after the requests in flight; the same command serves again\n" in log
    assert "Traceback" not in log


def test_requests_in_flight_at_sigterm_get_responses(start, models, tmp_path):
    shutil.copytree(models / "hard", tmp_path / "hard")
    server = start(tmp_path, "--drain-s", "0.5")
    server.wait_ready()
    replies = []
    request = {"signature_name": "slow", "inputs": [50_000]}  # about a second
    begun = [threading.Thread(target=lambda: replies.append(server.predict("hard", request))) for _ in range(3)]
    for thread in begun:
        thread.start()
    server.wait(lambda: server.status()["models"]["hard"]["versions"][0]["active"] == 3)
    worker = server.worker()
    status = server.stop()
    for thread in begun:
        thread.join(60)
    assert status == 0
    assert [reply.status for reply in replies] == [200] * 3
    assert not Path(f"/proc/{worker}").exists()


def run(*options, **environment):
    variables = {k: v for k, v in os.environ.items() if not k.startswith("SEAWAY_")} | environment
    return subprocess.run(
        [sys.executable, "-m", "seaway.serve", *options],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=variables,
    )


def test_a_port_in_use(server, tmp_path):
    done = run("--model-repository", str(tmp_path), "--port", str(server.port))
    assert done.returncode == 1
    assert f"127.0.0.1:{server.port}: the port is in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "options, environment, said",
    [
        ([], {}, "--model-repository"),
        (["--model-repository", "x", "--poll-interval-s", "0"], {}, "--poll-interval-s is 0"),
        (["--model-repository", "x", "--port", "70000"], {}, "--port is 70000: it must be at most 65535"),
        ([], {"SEAWAY_MODEL_REPOSITORY": "x", "SEAWAY_TIMEOUT_S": "nan"}, "--timeout-s is nan"),
        ([], {"SEAWAY_MODEL_REPOSITORY": "x", "SEAWAY_PORT": "http"}, "SEAWAY_PORT='http'"),
        ([], {"SEAWAY_MODEL_REPOSITORY": "x", "SEAWAY_DEFAULT_VERSION": "newest"}, "newest"),
    ],
)
def test_invalid_settings(options, environment, said):
    done = run(*options, **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backend_that_cannot_be_imported(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no tensorflow here')")
    done = run("--model-repository", str(tmp_path), "--port", "0", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "no tensorflow here" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("python -m seaway.serve: no worker could be started")


def test_the_supervisor_never_imports_tensorflow():
    program = "import sys, seaway.serve.__main__; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0
