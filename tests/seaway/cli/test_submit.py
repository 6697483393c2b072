"""`seaway submit` against a fake of Kubeflow's API that validates every request."""

import datetime
import http.server
import ipaddress
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "fixtures"))

import cluster_api  # noqa: E402
import kubeflow_api  # noqa: E402
from cluster_api import ERROR, RUN, pod  # noqa: E402
from kubeflow_api import Kubeflow  # noqa: E402
from submitting import start, submit  # noqa: E402

from seaway.cli.submit import submit as command  # noqa: E402
from seaway.errors import InvalidInput  # noqa: E402

# ---- requests


def test_a_run_with_parameters(tmp_path: Path) -> None:
    kubeflow = Kubeflow()
    with kubeflow_api.serving(kubeflow) as host:
        own = ["--registry", "ghcr.io/example", "--claim", "team-models", "--service-account", "seaway-pipeline"]
        param = ["--param", "epochs=2", "--param", "net=mlp", "--param", 'load_limits={"p99_ms": "50"}']
        done = submit(tmp_path, "--host", f"{host}/", "--run-name", "a first", *own, *param)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"Run   {RUN}\nPage  {host}/#/runs/details/{RUN}\n")
    assert done.stdout.startswith("Preflight skipped: no cluster: ")
    sent = kubeflow.runs[RUN]
    assert (sent["display_name"], sent["service_account"]) == ("a first", "seaway-pipeline")
    assert sent["runtime_config"] == {"parameters": {"epochs": 2, "net": "mlp", "load_limits": {"p99_ms": "50"}}}
    assert kubeflow.experiments[sent["experiment_id"]]["display_name"] == "seaway", "created, because it did not exist"
    executors = sent["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert all(one["container"]["image"].startswith("ghcr.io/example/") for one in executors.values())
    assert "team-models" in json.dumps(sent["pipeline_spec"]["platform_spec"])


def cached(kubeflow: Kubeflow) -> set[str]:
    components = kubeflow.runs[RUN]["pipeline_spec"]["pipeline_spec"]["components"]
    tasks = components["comp-exit-handler-1"]["dag"]["tasks"]
    return {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}


def test_no_cached_result_for_data_of_unknown_content(tmp_path: Path) -> None:
    kubeflow, source = Kubeflow(), ["--param", "source=idx:/models/.data/emnist"]
    with kubeflow_api.serving(kubeflow) as host:
        unseen = submit(tmp_path, "--host", host, *source)
        assert (unseen.returncode, cached(kubeflow)) == (0, set()), unseen.stderr
        assert "Caching is off for this run" in unseen.stdout
        named = submit(tmp_path, "--host", host, *source, "--param", "fingerprint=1")
        assert (named.returncode, "explore" in cached(kubeflow)) == (0, True), named.stderr
        without = submit(tmp_path, "--host", host, "--no-cache")
        assert (without.returncode, cached(kubeflow)) == (0, set()), without.stderr


def test_namespace_token_and_experiment(tmp_path: Path) -> None:
    kubeflow = Kubeflow(multi_user=True, token="secret")
    kubeflow.new_experiment("mine", "team")
    (tmp_path / "token").write_text("secret\n")
    with kubeflow_api.serving(kubeflow) as host:
        own = ["--host", host, "--token-file", "token"]
        done = submit(tmp_path, *own, "--namespace", "team", "--experiment", "mine")
        assert done.returncode == 0, done.stderr
        sent = kubeflow.runs[RUN]
        assert (sent["experiment_id"], sent["runtime_config"]["parameters"]) == ("id-of-mine", {"namespace": "team"})
        nowhere = submit(tmp_path, *own)
        assert (nowhere.returncode, "give your profile's namespace with --namespace" in nowhere.stderr) == (1, True)
        elsewhere = submit(tmp_path, *own, "--namespace", "other")
        assert elsewhere.returncode == 1
        assert "access to experiments denied: User is not authorized for namespace 'other'" in elsewhere.stderr
        missing = submit(tmp_path, *own, "--namespace", "team", "--experiment", "mien")
        assert missing.returncode == 1
        assert "has no experiment 'mien'; available: mine; create it there, or omit --experiment" in missing.stderr
        for token in ({}, {"KF_PIPELINES_TOKEN": "old"}):
            refused = submit(tmp_path, "--host", host, "--namespace", "team", **token)
            assert refused.returncode == 1
            assert "requires authentication (401): give --token-file" in refused.stderr
    assert "secret" not in done.stdout + done.stderr


def test_a_run_that_could_not_succeed_is_not_submitted(tmp_path: Path) -> None:
    """With the cluster in kubectl's context: the permissions checked are the run's, not those of the user."""
    kubeflow = Kubeflow(multi_user=True)
    table: dict[str, object] = {"/api/v1/namespaces/team": {"metadata": {"name": "team"}}}
    with kubeflow_api.serving(kubeflow) as host, cluster_api.serving(table) as api:
        (tmp_path / "config").write_text(cluster_api.kubeconfig(api))
        own = ["--host", host, "--namespace", "team"]
        done = submit(tmp_path, *own, "--claim", "team-models", "--param", "namespace=serving")
        assert (done.returncode, kubeflow.runs) == (1, {}), done.stdout
        for message in (
            "seaway: nothing was submitted: a run in team would fail; fix these first:\n",
            "- team:default-editor is not allowed to: list pods, get pods/log, get persistentvolumeclaims",
            "    kubectl -n team create rolebinding seaway-runs --role seaway-pipeline --serviceaccount team:def",
            "- team:default-editor is not allowed to: get deployments seaway, patch deployments seaway, ",
            "    kubectl apply -n serving -k manifests/rbac\n",
            "- no PersistentVolumeClaim team-models in team (to use another: --claim)\n",
            "- no Deployment seaway, no Service seaway, no Deployment seaway-canary, no Service seaway-canary in se",
            "--context NAME, or --no-preflight",
        ):
            assert message in done.stderr
        recurring = submit(tmp_path, *own, "--every", "6h")
        assert (recurring.returncode, kubeflow.recurring) == (1, [])
        named = submit(tmp_path, *own, "--service-account", "mine")
        assert "team:mine is not allowed to" in named.stderr
        shipped = ["--param", "name=n", "--param", "model=python:m:f", "--param", 'inputs=["3"]']
        ship = submit(tmp_path, *own, "--pipeline", "ship", *shipped)
        assert (ship.returncode, "Deployment" in ship.stderr, "not allowed to: list pods" in ship.stderr) == (
            1,
            False,
            True,
        )
        assert submit(tmp_path, *own, "--no-preflight").returncode == 0


def test_a_run_that_passes_preflight_is_submitted(tmp_path: Path) -> None:
    role = yaml.safe_load((ROOT / "manifests/rbac/role.yaml").read_text())["rules"]
    claim = {"metadata": {"name": "seaway-models"}, "spec": {}, "status": {"phase": "Bound"}}
    table: dict[str, object] = {
        "/api/v1/namespaces/team": {"metadata": {"name": "team"}},
        "/api/v1/namespaces/team/persistentvolumeclaims/seaway-models": claim,
    }
    shipped = ["--param", "name=n", "--param", "model=python:m:f", "--param", 'inputs=["3"]']
    kubeflow = Kubeflow(multi_user=True)
    with kubeflow_api.serving(kubeflow) as host, cluster_api.serving(table, role) as api:
        (tmp_path / "config").write_text(cluster_api.kubeconfig(api))
        account = ["--service-account", "pipeline-runner"]
        done = submit(tmp_path, "--host", host, "--namespace", "team", *account, "--pipeline", "ship", *shipped)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Preflight skipped" not in done.stdout
    assert RUN in kubeflow.runs


def test_preflight_is_skipped_for_another_cluster(tmp_path: Path) -> None:
    with kubeflow_api.serving(Kubeflow()) as host, cluster_api.serving({}) as api:
        (tmp_path / "config").write_text(cluster_api.kubeconfig(api))
        done = submit(tmp_path, "--host", host)
    assert done.returncode == 0, done.stderr
    assert "Preflight skipped: kubectl's context has no namespace kubeflow" in done.stdout


def test_recurring_runs(tmp_path: Path) -> None:
    kubeflow = Kubeflow()
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(tmp_path, "--host", host, "--cron", "30 3 * * 1")
        assert done.returncode == 0, done.stderr
        assert f"{host}/#/recurringrun/details/recurring-0" in done.stdout
        assert submit(tmp_path, "--host", host, "--every", "6h").returncode == 0
        wrong = submit(tmp_path, "--host", host, "--cron", "daily")
        assert (wrong.returncode, "give minute, hour, day, month and weekday" in wrong.stderr) == (1, True)
        both = submit(tmp_path, "--host", host, "--every", "6h", "--wait")
        assert (both.returncode, "exclude each other" in both.stderr) == (1, True)
    cron, every = kubeflow.recurring
    assert cron["trigger"] == {"cron_schedule": {"cron": "0 30 3 * * 1"}}
    assert every["trigger"] == {"periodic_schedule": {"interval_second": "21600"}}
    for one in (cron, every):
        assert (one["mode"], one["max_concurrency"], one["no_catchup"]) == ("ENABLE", "1", True)
    assert kubeflow.runs == {}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"every": 59}, "--every 59s: a run takes minutes; give a minute or more"),
        ({"every": 1}, "give a minute or more"),
        ({"cron": "* * * * * *"}, "the first of six fields is one second"),
        ({"cron": "*/5 * * * * *"}, "the first of six fields is one second"),
        ({"cron": "0,30 0 3 * * 1"}, "the first of six fields is one second"),
        ({"cron": "0-59 0 3 * * 1"}, "the first of six fields is one second"),
    ],
)
def test_more_than_one_run_per_minute_is_refused_before_any_request(schedule: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        command(host="http://127.0.0.1:1", **schedule)


def test_an_unknown_parameter_is_refused_before_any_request(tmp_path: Path) -> None:
    done = submit(tmp_path, "--host", "http://127.0.0.1:1", "--param", "epoch=2")
    assert done.returncode == 1
    assert done.stderr == "seaway: --param epoch: the pipeline has no such parameter; did you mean epochs?\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "a"}, "V2beta1Run has no field 'name'"),
        ({"display_name": 1}, "body.display_name: str expected"),
        ({"runtime_config": {"parameter": {}}}, "V2beta1RuntimeConfig has no field 'parameter'"),
        ({"state": "DONE"}, "body.state: 'DONE' is none of"),
    ],
)
def test_the_fake_refuses_requests_that_the_api_does_not_define(body: dict, message: str) -> None:
    with pytest.raises(kubeflow_api.Refused, match=re.escape(message)):
        kubeflow_api.check(body, "V2beta1Run")


def test_the_fake_refuses_invalid_pipelines() -> None:
    spec, platform = yaml.safe_load_all((ROOT / "tests" / "golden" / "characters.yaml").read_text())
    whole = {"pipeline_spec": spec, "platform_spec": platform}
    kubeflow_api.check_pipeline(whole, {"epochs": 2})
    for parameters in ({"epoch": 2}, {"epochs": "2"}):
        with pytest.raises(kubeflow_api.Refused, match="parameter epoch"):
            kubeflow_api.check_pipeline(whole, parameters)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for wrong in ({"exec-train": {"pvcMounts": []}}, {"exec-trian": {}}):
        changed = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors | wrong}}}}
        with pytest.raises(kubeflow_api.Refused, match=r"pvcMounts|executors that do not exist"):
            kubeflow_api.check_pipeline(whole | {"platform_spec": changed}, {})
    with pytest.raises(kubeflow_api.Refused, match="Failed to parse"):
        kubeflow_api.check_pipeline(whole | {"pipeline_spec": spec | {"roots": {}}}, {})


# ---- following a run


def test_wait_prints_each_change_once(tmp_path: Path) -> None:
    with kubeflow_api.serving(Kubeflow(away=2)) as host:
        done = submit(tmp_path, "--host", host, "--wait", "--poll", 0.1)
    assert done.returncode == 0, done.stderr
    printed = [line.split()[1:] for line in done.stdout.splitlines()[3:-1]]
    changes = [[stage, state] for stage in kubeflow_api.ORDER for state in ("running", "succeeded")]
    assert sorted(printed) == sorted([*changes, ["run-summary", "succeeded"]])
    assert printed[:3] == [["preflight", "running"], ["preflight", "succeeded"], ["explore", "running"]]
    assert done.stdout.splitlines()[-1] == f"The run succeeded: {host}/#/runs/details/{RUN}"


def test_a_failed_run_names_the_stage_and_quotes_its_log(tmp_path: Path) -> None:
    said = "convert: no converter 'onnx-ft': there are seaway, onnx-tf\n"
    failed = pod("exit-handler-1.convert.executor", "Failed", 1, ERROR)
    cluster = cluster_api.pod_responses(failed, logs={"pod-1": said})
    with kubeflow_api.serving(Kubeflow(multi_user=True, fails="convert")) as host, cluster_api.serving(cluster) as api:
        (tmp_path / "config").write_text(cluster_api.kubeconfig(api))
        done = submit(tmp_path, "--host", host, "--namespace", "team", "--wait", "--poll", 0.1)
    assert done.returncode == 1
    assert done.stderr == (
        f"seaway: the run failed in convert: {host}/#/runs/details/{RUN}\n  convert:\n"
        f"    pod pod-1, main: ended with Error, status 1\n    | {said}"
    )
    assert "validate" not in done.stdout


def test_a_failed_run_without_access_to_the_cluster_says_how_to_read_logs(tmp_path: Path) -> None:
    with kubeflow_api.serving(Kubeflow(fails="train")) as host:
        done = submit(tmp_path, "--host", host, "--wait", "--poll", 0.1)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"seaway: the run failed in train: {host}/#/runs/details/{RUN}\n  the reasons cannot be read"
    )
    assert f"kubectl -n kubeflow logs -l pipeline/runid={RUN} -c main" in done.stderr


def test_what_blocks_a_stage_is_printed_while_it_waits(tmp_path: Path) -> None:
    pull = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    cluster = cluster_api.pod_responses(pod("exit-handler-1.explore.executor", "Pending", 1, pull))
    arguments = ["--namespace", "team", "--wait", "--poll", "0.1"]
    with kubeflow_api.serving(Kubeflow(multi_user=True, lasts=True)) as host, cluster_api.serving(cluster) as api:
        (tmp_path / "config").write_text(cluster_api.kubeconfig(api))
        with start(tmp_path, "--host", host, *arguments, PYTHONUNBUFFERED="1") as process:
            assert process.stdout is not None
            blocker = next((line for line in process.stdout if "ImagePullBackOff" in line), "")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert blocker.split(maxsplit=1) == ["explore:", "pod pod-1, main: ImagePullBackOff no such image\n"]


def test_ctrl_c_stops_waiting_but_not_the_run_which_can_be_followed_again(tmp_path: Path) -> None:
    kubeflow = Kubeflow(lasts=True)
    with kubeflow_api.serving(kubeflow) as host:
        with start(tmp_path, "--host", host, "--wait", "--poll", 0.1, PYTHONUNBUFFERED="1") as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "running" in line:
                    break
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        page, again = f"{host}/#/runs/details/{RUN}", f"--host {host} --follow {RUN}"
        assert f"Interrupted; the run continues: {page}; to follow it again: " in out
        assert f"seaway submit {again}\n" in out
        assert err == ""
        kubeflow.lasts = False
        followed = submit(tmp_path, *again.split(), "--poll", 0.1)
        assert (followed.returncode, "The run succeeded" in followed.stdout) == (0, True), followed.stderr
        unknown = submit(tmp_path, "--host", host, "--follow", "another")
        assert (unknown.returncode, unknown.stderr) == (
            1,
            f"seaway: {host} has no run another: Run another not found\n",
        )


# ---- unusable hosts


def test_an_unreachable_host(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = submit(tmp_path, "--host", host)
    assert done.returncode == 1
    assert done.stderr.startswith(f"seaway: nothing responds at {host}: ")
    assert "refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    bare = submit(tmp_path, "--host", "127.0.0.1:8080")
    assert (bare.returncode, "begin with http:// or https://" in bare.stderr) == (1, True)


@contextmanager
def another(status: int, **headers: str) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (200, {}, "is not a Kubeflow Pipelines 2 API: it responds with something other than JSON at /apis/v2beta1/"),
        (404, {}, "is not a Kubeflow Pipelines 2 API: it responds with 404 at /apis/v2beta1/healthz"),
        (302, {"Location": "/dex/auth"}, "requires authentication (302, redirects to /dex/auth)"),
        (502, {}, "healthz: 502"),
    ],
)
def test_other_servers(tmp_path: Path, status: int, headers: dict[str, str], message: str) -> None:
    with another(status, **headers) as host:
        done = submit(tmp_path, "--host", host)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Certificate chain and key of a server that is not trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "chain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    kind, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "key.pem").write_bytes(key.private_bytes(kind, form, serialization.NoEncryption()))
    return tmp_path / "chain.pem", tmp_path / "key.pem"


def test_an_untrusted_certificate(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with kubeflow_api.serving(Kubeflow(), certificate) as host:
        done = submit(tmp_path, "--host", host)
        assert done.returncode == 1
        assert f"the TLS certificate of {host} is not trusted" in done.stderr
        assert "--ca-file" in done.stderr
        trusted = submit(tmp_path, "--host", host, "--ca-file", certificate[0])
        assert trusted.returncode == 0, trusted.stderr
