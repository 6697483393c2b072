"""The queue's limits: how long and how many requests may wait, and the end of a worker that never responds."""

import http.client
import json
import shutil
import threading
import time

import pytest

SLOW = {"signature_name": "slow", "inputs": [100_000_000]}  # longer than any test
QUICK = {"signature_name": "slow", "inputs": [1]}


@pytest.fixture(scope="module")
def hasty(models, server_class, tmp_path_factory):
    """A server with a deadline of one second, and room for two waiting requests."""
    repository = tmp_path_factory.mktemp("hasty")
    shutil.copytree(models / "hard", repository / "hard")
    running = server_class(repository, "--timeout-s", "1", "--max-waiting", "2")
    try:
        running.wait_ready()
        yield running
    finally:
        assert running.stop() == 0


def test_a_request_past_its_deadline_gets_504_and_its_worker_is_replaced(hasty):
    worker = hasty.worker()
    reply = hasty.predict("hard", SLOW)
    assert reply.status == 504
    assert "deadline" in reply.json()["error"]
    assert hasty.worker() == worker  # it may still finish
    assert hasty.predict("hard", QUICK).status == 504  # behind it
    hasty.wait(lambda: hasty.worker() != worker)  # because nobody waits for its result
    hasty.wait(lambda: hasty.predict("hard", QUICK).status == 200)


def test_a_full_queue_responds_503_with_retry_after(hasty):
    hasty.wait(lambda: hasty.predict("hard", QUICK).status == 200)
    replies = []

    def predict(document):
        connection = http.client.HTTPConnection("127.0.0.1", hasty.port, timeout=60)
        connection.request("POST", "/v1/models/hard:predict", json.dumps(document))
        reply = connection.getresponse()
        reply.read()
        replies.append((reply.status, reply.headers.get("Retry-After")))
        connection.close()

    first = threading.Thread(target=predict, args=(SLOW,))
    first.start()
    hasty.wait(lambda: hasty.status()["workers"][0]["running"] == 1)
    others = [threading.Thread(target=predict, args=(QUICK,)) for _ in range(6)]
    for thread in others:
        thread.start()
    assert hasty.get("/healthz").status == 200  # only predictions wait
    for thread in (first, *others):
        thread.join(60)
    assert sorted(replies, key=str) == [(503, "1")] * 4 + [(504, None)] * 3


def test_with_only_a_model_given_its_stable_version_at_startup_is_served(models, server_class, tmp_path):
    """So a server to which nothing was promoted never loads a candidate."""
    running = server_class(tmp_path, "--model", "half")
    try:
        running.wait(lambda: "half, the only model to serve, is not in" in running.get("/readyz").body.decode())
        assert running.get("/readyz").status == 503
        (tmp_path / "incoming").mkdir()
        shutil.copytree(models / "half" / "1", tmp_path / "incoming" / "1")
        (tmp_path / "incoming").rename(tmp_path / "half")
        running.wait_ready()
        shutil.copytree(models / "half" / "2", tmp_path / "half" / "2")
        (tmp_path / "half" / "labels.json").write_text('{"stable": 2}')
        time.sleep(1)  # several scans of the repository
        assert running.states("half") == {1: "AVAILABLE"}
        assert running.predict("half", {"instances": [1]}).json() == {"predictions": [2.5]}
    finally:
        assert running.stop() == 0
    running = server_class(tmp_path, "--model", "half")
    try:
        running.wait_ready()
        assert running.states("half") == {2: "AVAILABLE"}
    finally:
        assert running.stop() == 0


def test_only_one_version_is_served(models, server_class, tmp_path):
    shutil.copytree(models / "half", tmp_path / "half")
    shutil.copytree(models / "multi", tmp_path / "multi")
    (tmp_path / "half" / "labels.json").write_text('{"stable": 2}')
    running = server_class(tmp_path, "--model", "half", "--model-version", "1")
    try:
        running.wait_ready()
        assert running.predict("half", {"instances": [1]}).json() == {"predictions": [2.5]}
        assert running.predict("half/versions/2", {"instances": [1]}).status == 404
        assert running.predict("multi", {"instances": [{"a": [1, 2], "b": 3}]}).status == 404
        assert running.states("half") == {1: "AVAILABLE"}
    finally:
        assert running.stop() == 0
