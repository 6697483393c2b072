"""Versions change under a steady load, and kubectl shows what is served."""

import json
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from certificates import Authority
from onkind import (
    CANARY,
    CONTEXT,
    EXAMPLE,
    MODEL,
    NAMESPACE,
    Steady,
    answered_by,
    command,
    forwarded,
    found,
    kubectl,
    publish,
    restarts,
    rolled_out,
    seaway,
    serving,
    serving_pods,
    until,
)

from seaway.errors import Unavailable
from seaway.kube import api_client, rollout, rollout_diagnostics
from seaway.load.config import LoadConfig
from seaway.load.verify import problems, verify

LABELS = {"app.kubernetes.io/name": "seaway"}  # for the NetworkPolicy

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def api(stack: str) -> object:
    return api_client.connect(CONTEXT)


def apply_overlay() -> None:
    command("kubectl", "--context", CONTEXT, "apply", "-k", "manifests/overlays/kind")


def test_applying_the_overlay_gives_a_working_server_over_every_protocol(stack: str) -> None:
    assert answered_by(stack, "tfs", "graphpipe", "oip", "oip-binary", "png") == {f"{MODEL}/1"}
    assert rollout.VERSION not in serving("seaway"), "nothing was promoted yet"


def test_both_services_answer_over_grpc(stack: str) -> None:
    with forwarded("service/seaway", 8500) as address:
        assert answered_by(f"grpc://{address}", "tfs-grpc", "oip-grpc") == {f"{MODEL}/1"}


def test_tls_with_client_certificates_and_a_certificate_that_is_replaced_under_load(stack: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.trust(authority.issue("client"))

    def issue(name: str) -> None:
        """The Secret of a new certificate, as cert-manager writes it."""
        pair = authority.issue(name)
        files = {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": authority.ca}
        named = [f"--from-file={key}={file}" for key, file in files.items()]
        secret = kubectl("create", "secret", "generic", "seaway-tls", *named, "--dry-run=client", "-o", "yaml")
        kubectl("apply", "-f", "-", stdin=secret)

    issue("first")
    command("kubectl", "--context", CONTEXT, "apply", "-k", "manifests/combinations/kind-tls")
    rolled_out()
    url = stack.replace("http:", "https:")
    assert answered_by(url, "tfs", "graphpipe", "oip", "oip-binary", "png", tls=client) == {f"{MODEL}/1"}
    with forwarded("service/seaway", 8500) as address:
        assert answered_by(f"grpcs://{address}", "tfs-grpc", "oip-grpc", tls=client) == {f"{MODEL}/1"}
    with pytest.raises(Unavailable, match="client certificate"):
        answered_by(url, "tfs", tls=authority.trust())

    def served() -> bytes:
        certificate = ssl.get_server_certificate(("127.0.0.1", urlsplit(stack).port))
        return ssl.PEM_cert_to_DER_cert(certificate)

    before = served()
    with Steady(url, seconds=300, tls=client, new_connections=True) as load:
        load.wait_for(100)
        issue("second")
        until(lambda: served() != before, 150)  # the kubelet writes a changed Secret within its sync period
        load.wait_for(load.correct() + 300)
    load.check_clean()
    [pod] = serving_pods("stable")
    assert restarts(pod["metadata"]["name"]) == 0, "a probe failed"


def test_the_pod_that_kserve_makes_serves_over_both_ports(stack: str, cluster: Path) -> None:
    """KServe's controller is not here: the runtime's container, with the model mounted at /mnt/models."""
    rendered = yaml.safe_load_all(command("kubectl", "kustomize", "manifests/kserve"))
    (runtime,) = (found["spec"] for found in rendered if found["kind"] == "ServingRuntime")
    (container,) = runtime["containers"]
    container["args"] = [argument.replace("{{.Name}}", MODEL) for argument in container["args"]]
    container["volumeMounts"].append({"name": "models", "mountPath": "/mnt/models", "subPath": MODEL, "readOnly": True})
    claim = {"persistentVolumeClaim": {"claimName": "seaway-models"}}
    spec = {
        "containers": [container],
        "volumes": [*runtime["volumes"], {"name": "models", **claim}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kserve", "labels": LABELS}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    kubectl("wait", "pod/kserve", "--for=condition=Ready", "--timeout=180s")
    for port, scheme in ((8080, "http"), (9000, "grpc")):
        with forwarded("pod/kserve", port) as address:
            config = LoadConfig(users=2, duration_s=1, warmup_s=0, model=MODEL)
            assert problems(verify(f"{scheme}://{address}", EXAMPLE, config)) == []


def test_canary_promotion_rollback_and_undo_under_load(stack: str, api: object, cluster: Path) -> None:
    version = publish(cluster)
    with Steady(stack, seconds=600) as load:
        options = ("--url", CANARY, "--model-repository", cluster)
        done = seaway("deploy", "--name", MODEL, "--version", version, "--context", CONTEXT, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("match PyTorch, max |Δ|") == 4
        assert serving("seaway-canary")[rollout.VERSION] == str(version)
        assert answered_by(stack, "tfs") == {f"{MODEL}/1"}, "stable does not serve the candidate"

        rollout.apply(api, NAMESPACE, rollout.STABLE, f"{MODEL}/{version}", "test: promoted")
        rollout.wait(api, NAMESPACE, rollout.STABLE)
        assert serving("seaway")[rollout.VERSION] == str(version)
        assert answered_by(stack, "tfs") == {f"{MODEL}/{version}"}
        apply_overlay()
        assert serving("seaway")[rollout.VERSION] == str(version), "apply -k reverts no promotion"

        rollout.apply(api, NAMESPACE, rollout.STABLE, f"{MODEL}/1", "test: the first version")
        rollout.wait(api, NAMESPACE, rollout.STABLE)
        done = seaway("rollback", "--context", CONTEXT)
        assert done.returncode == 0, done.stderr
        assert answered_by(stack, "tfs") == {f"{MODEL}/{version}"}

        kubectl("rollout", "undo", "deployment/seaway")
        rolled_out()
        assert answered_by(stack, "tfs") == {f"{MODEL}/1"}
        shown = seaway("status", "--context", CONTEXT)
        assert f"{MODEL}/1" in shown.stdout, shown.stdout + shown.stderr
    load.check_clean()


def test_scaling_and_a_deleted_pod_under_load(stack: str) -> None:
    with Steady(stack, seconds=600) as load:
        for replicas_wanted in (3, 1, 2):
            kubectl("scale", "deployment/seaway", f"--replicas={replicas_wanted}")
            rolled_out()
        [pod, *_] = kubectl("get", "pods", "-l", "seaway.dev/track=stable", "-o", "name").split()
        kubectl("delete", pod, "--wait")
        rolled_out()
    load.check_clean()


def test_a_failing_canary_is_diagnosed_and_stable_continues(stack: str, api: object, cluster: Path) -> None:
    broken = publish(cluster)
    for file in (cluster / MODEL / str(broken)).rglob("variables.data*"):
        file.write_bytes(file.read_bytes()[:1000])
    with Steady(stack, seconds=300) as load:
        rollout.apply(api, NAMESPACE, rollout.CANARY, f"{MODEL}/{broken}", "test: corrupt", replicas=1)
        with pytest.raises(Unavailable, match=rf"does not serve {MODEL}/{broken} after 40 s"):
            rollout.wait(api, NAMESPACE, rollout.CANARY, 40)
        reasons = " ".join(rollout_diagnostics.failure_reasons(api, NAMESPACE, rollout.CANARY))
        assert f"{MODEL}/{broken} cannot be served" in reasons, reasons
        kubectl("set", "image", "deployment/seaway-canary", "server=seaway/serve:is-not-there")
        with pytest.raises(Unavailable, match=r"(?s)cannot roll out .*:.*(ImagePull|ErrImage)"):
            rollout.wait(api, NAMESPACE, rollout.CANARY, 120)
    load.check_clean()
    status = found("deployment", "seaway")["status"]
    assert status["readyReplicas"] == 1
