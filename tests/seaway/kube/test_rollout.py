"""Rollouts against a fake API that responds with real JSON; tests/e2e covers a real cluster."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubernetes import client

from seaway.errors import NotFound, Refused, Unavailable
from seaway.kube import rollout

NAMESPACE = "seaway"
BASE = f"/apis/apps/v1/namespaces/{NAMESPACE}"
LABELS = {"seaway.dev/track": "stable"}


def deployment(version=None, serves="", revision=1, volumes=(), **status):
    """Returns a Deployment, or its ReplicaSet of that revision, which has the same shape."""
    env = [{"name": "SEAWAY_MODEL", "value": "toy"}, {"name": "SEAWAY_MODEL_VERSION", "value": str(version)}]
    container = {"name": "server", "image": "seaway/serve:1", "env": env if version else []}
    annotations = {"seaway.dev/serves": serves} if serves else {}
    return {
        "metadata": {
            "name": "seaway",
            "uid": "deployment",
            "generation": 2,
            "annotations": {rollout.REVISION: str(revision)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "seaway", "uid": "deployment"}],
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS, "annotations": annotations},
                "spec": {"containers": [container], "volumes": list(volumes)},
            },
        },
        "status": status,
    }


@contextmanager
def api_with(responses):
    """Yields a client of a fake API that responds to GET by path: with a list's elements in turn, the last for good."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = responses.get(self.path.partition("?")[0])
            if isinstance(body, list):
                body = body.pop(0) if len(body) > 1 else body[0]
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body or {"message": "not found"}).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_address[1]}")
        try:
            with client.ApiClient(configuration) as api:
                yield api
        finally:
            server.shutdown()


def responses_for(*deployments, sets=()):
    empty = {"items": []}
    return {
        f"{BASE}/deployments/seaway": list(deployments),
        f"{BASE}/replicasets": {"items": list(sets)},
        **{f"/api/v1/namespaces/{NAMESPACE}/{kind}": empty for kind in ("pods", "events")},
    }


def test_the_containers_environment_decides_which_version_is_served():
    digest = "toy/3@" + "a" * 64
    cases = [(3, digest, digest), (4, digest, "toy/4"), (3, "", "toy/3"), (None, "", "")]
    for version, annotation, serves in cases:
        with api_with(responses_for(deployment(version, annotation))) as api:
            serving = rollout.read(api, NAMESPACE, "seaway")
        assert (serving.version, serving.serves) == (version, serves)
    with api_with({}) as api, pytest.raises(NotFound, match="is the serving stack applied there"):
        rollout.read(api, NAMESPACE, "seaway")


def test_conditions_of_the_previous_rollout_do_not_end_a_new_one(monkeypatch):
    """A failed rollout's conditions stay until the controller has observed the change."""
    monkeypatch.setattr(rollout, "POLL_INTERVAL_S", 0.01)
    failed = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]
    counts = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    not_observed = deployment(2, observedGeneration=1, conditions=failed, **counts)
    done = deployment(2, observedGeneration=2, **counts)
    with api_with(responses_for(not_observed, not_observed, done)) as api:
        rollout.wait(api, NAMESPACE, "seaway", 20, on_progress=lambda progress: None)
    failing = deployment(2, observedGeneration=2, conditions=failed, replicas=1)
    with (
        api_with(responses_for(failing)) as api,
        pytest.raises(Unavailable, match=r"cannot roll out .*toy/2.*:\n  - .*timed out"),
    ):
        rollout.wait(api, NAMESPACE, "seaway", 20, on_progress=lambda progress: None)


def test_the_previous_revision_is_the_newest_with_another_version():
    sets = [
        deployment(version, revision=number, replicas=0)
        for number, version in ((1, 1), (2, None), (3, 2), (4, 3), (5, 2))
    ]
    with api_with(responses_for(deployment(2), sets=sets)) as api:
        assert rollout.previous_revision(api, NAMESPACE, "seaway").serves == "toy/3"
    with (
        api_with(responses_for(deployment(2), sets=sets[2:3])) as api,
        pytest.raises(NotFound, match="no version other than toy/2"),
    ):
        rollout.previous_revision(api, NAMESPACE, "seaway")


def test_several_replicas_with_a_claim_for_one_node_are_refused():
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "seaway-models"}}
    table = responses_for(deployment(1, volumes=[volume]))
    claim = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/seaway-models"
    for modes, nodes, refused in (
        (["ReadWriteOnce"], 2, True),
        (["ReadWriteOnce"], 1, False),
        (["ReadWriteMany"], 2, False),
    ):
        table[claim] = {"metadata": {"name": "seaway-models"}, "spec": {"accessModes": modes}, "status": {}}
        table["/api/v1/nodes"] = {"items": [{"metadata": {"name": str(number)}} for number in range(nodes)]}
        with api_with(table) as api:
            rollout.check_replicas(api, NAMESPACE, "seaway", 1)
            if not refused:
                rollout.check_replicas(api, NAMESPACE, "seaway", 2)
                continue
            with pytest.raises(Refused, match="the claim seaway-models is ReadWriteOnce"):
                rollout.check_replicas(api, NAMESPACE, "seaway", 2)
