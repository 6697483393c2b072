"""`tensorflow_model_server`: TensorFlow Serving's flags, and servers started as its image's users start them."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import yaml

from seaway.errors import InvalidInput
from seaway.serve import tfs_command, tfs_flags
from seaway.serve.tfs_flags import FLAGS

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))  # certificates.py
from certificates import Authority, Pair

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "tests" / "fixtures" / "tfs_manifests"
PAGE = ROOT / "docs" / "tensorflow-serving.md"


# ---- flags


@pytest.mark.parametrize(
    "arguments, given",
    [
        (["--port=9000"], {"port": 9000}),
        (["-port=9000"], {"port": 9000}),
        (["--port=1", "--port=+2"], {"port": 2}),  # the image's entrypoint gives it before the user's
        (["--enable_batching"], {"enable_batching": True}),
        (["--enable_batching=TRUE"], {"enable_batching": True}),
        (["--enable_batching=0"], {"enable_batching": False}),
        (["--model_name=a=b"], {"model_name": "a=b"}),
        (["--model_name="], {"model_name": ""}),
        (["--load_retry_interval_micros=-9223372036854775808"], {"load_retry_interval_micros": -(2**63)}),
        (["--per_process_gpu_memory_fraction=0.5"], {"per_process_gpu_memory_fraction": 0.5}),
    ],
)
def test_flags_are_read_as_tensorflow_reads_them(arguments, given):
    assert tfs_flags.parse(arguments) == given


@pytest.mark.parametrize(
    "argument, said",
    [
        ("--modelname=x", "there is no flag --modelname: did you mean --model_name?"),
        ("--batching_parameter_file=x", "did you mean --batching_parameters_file?"),
        ("--noenable_batching", "write --enable_batching=false"),
        ("--zzz", "there is no flag --zzz"),
        ("--port", "--port has no value: write --port=VALUE"),
        ("--port=", "--port=: give an integer of 32 bits"),
        ("--port=8500x", "--port=8500x: give an integer"),
        ("--port=2147483648", "give an integer of 32 bits"),
        ("--enable_batching=yes", "--enable_batching=yes: give true or false"),
        ("--per_process_gpu_memory_fraction=much", "give a number"),
        ("8500", "unexpected argument '8500'"),
        ("--", "unexpected argument '--'"),
        ("", "unexpected argument ''"),
    ],
)
def test_a_wrong_flag_is_an_error_that_names_the_right_one(argument, said):
    with pytest.raises(InvalidInput, match=re.escape(said)):
        tfs_flags.parse([argument])


def read(*arguments: str, **environ: str) -> tfs_command.Command:
    return tfs_command.read([*arguments, "--model_base_path=/m"], environ)


def test_the_defaults_are_tensorflow_servings():
    command = read("--rest_api_port=8501")
    found = command.settings
    assert (found.host, found.port, found.grpc_port, found.timeout_s) == ("0.0.0.0", 8501, 8500, 30.0)
    assert (found.default_version, found.backend, command.notes) == ("latest", "savedmodel", [])
    assert list(command.drop_in.models({}).models) == ["default"]
    assert not read().drop_in.http


def test_the_images_entrypoint():
    arguments = tfs_command.image_arguments(["--rest_api_port=1"], {})
    assert tfs_flags.parse(arguments) == {
        "port": 8500,
        "rest_api_port": 1,
        "model_name": "model",
        "model_base_path": "/models/model",
    }
    named = tfs_command.image_arguments([], {"MODEL_NAME": "half", "MODEL_BASE_PATH": "/srv"})
    assert "--model_name=half" in named
    assert "--model_base_path=/srv/half" in named


def test_flags_become_settings():
    settings = read(
        "--port=0", "--rest_api_port=1", "--rest_api_timeout_in_ms=1500", "--rest_api_enable_cors_support"
    ).settings
    assert (settings.grpc_port, settings.port, settings.timeout_s, settings.cors_origin) == (None, 1, 1.5, ("*",))


@pytest.mark.parametrize(
    "arguments, threads",
    [
        ([], 0),
        (["--tensorflow_session_parallelism=3"], 3),
        (["--tensorflow_intra_op_parallelism=2", "--tensorflow_inter_op_parallelism=1"], 2),
        (["--tensorflow_inter_op_parallelism=4"], 4),
        (["--tensorflow_session_parallelism=3", "--tensorflow_intra_op_parallelism=2"], 2),
    ],
)
def test_threads(arguments, threads):
    assert read(*arguments).settings.threads == threads


def test_settings_of_the_server_come_from_the_environment_where_no_flag_says_otherwise():
    inherited = {"SEAWAY_WORKERS": "3", "SEAWAY_PORT": "tcp://10.0.0.1:80", "SEAWAY_TIMEOUT_S": "7"}
    assert read(**inherited).settings.workers == 3
    assert read(**inherited).settings.timeout_s == 7
    assert read("--rest_api_timeout_in_ms=1000", **inherited).settings.timeout_s == 1


def test_each_flag_without_effect_is_named_once_with_the_reason():
    without = [name for name, flag in FLAGS.items() if flag.kind == "no effect"]
    values = [f"--{name}={str(FLAGS[name].default).lower() or 'x'}" for name in without]
    notes = read(*values, values[0]).notes
    assert notes == [f"--{name} has no effect: {FLAGS[name].about}" for name in without]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--ssl_config_file=/none"], "/none: it does not exist"),
        (["--use_alts_credentials"], "ALTS"),
        (["--saved_model_tags=serve,gpu"], "--saved_model_tags=serve,gpu: not supported"),
        (["--port=0"], "no port is left"),
        (["--rest_api_port=8500"], "--port and --rest_api_port are both 8500"),
        (["--rest_api_port=70000"], "--rest_api_port=70000: give a port from 0 to 65535"),
        (["--rest_api_timeout_in_ms=0"], "--rest_api_timeout_in_ms=0: give more than 0"),
        (["--file_system_poll_wait_seconds=-1"], "--file_system_poll_wait_seconds=-1: give 0 or more"),
        (["--batching_parameters_file=x"], "--batching_parameters_file needs --enable_batching"),
        (["--enable_batching", "--batching_parameters_file=/none"], "/none: it does not exist"),
        (["--model_config_file=/none"], "/none: it does not exist"),
        (["--model_name="], "a model has no name"),
        (
            [f"--tensorflow_{name}_parallelism=1" for name in ("session", "intra_op", "inter_op")],
            "give the first, or the other two",
        ),
    ],
)
def test_what_would_serve_something_else_is_refused(arguments, said):
    with pytest.raises(InvalidInput, match=re.escape(said)):
        read(*arguments)


def test_without_any_model_it_says_what_to_give():
    with pytest.raises(InvalidInput, match="give --model_base_path=DIR"):
        tfs_command.read([], {})


def test_batching_parameters(tmp_path):
    file = tmp_path / "batching"
    file.write_text(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 1500 } max_enqueued_batches { value: 10 }"
        "num_batch_threads { value: 8 } allowed_batch_sizes: 64 allowed_batch_sizes: 128"
    )
    command = read("--enable_batching", f"--batching_parameters_file={file}")
    settings = command.settings
    assert (settings.max_batch, settings.batch_delay_ms, settings.max_waiting) == (128, 1.5, 1280)
    assert [note.partition(" has no effect")[0] for note in command.notes] == [
        f"{file}: num_batch_threads",
        f"{file}: allowed_batch_sizes",
    ]
    file.write_text("max_batch_size { value: 0 }")
    with pytest.raises(InvalidInput, match="max_batch_size is 0: it must be at least 1"):
        read("--enable_batching", f"--batching_parameters_file={file}")


@pytest.mark.parametrize(
    "content, path",
    [
        ("prometheus_config { enable: true, path: '/m' }", "/m"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ("prometheus_config { path: '/m' }", ""),
        ("", ""),
    ],
)
def test_the_path_of_the_metrics(tmp_path, content, path):
    file = tmp_path / "monitoring"
    file.write_text(content)
    assert read("--rest_api_port=1", f"--monitoring_config_file={file}").drop_in.metrics_path == path


@pytest.mark.parametrize("path", ["/", "metrics", "/v1/models/m"])
def test_a_path_of_the_metrics_that_is_taken(tmp_path, path):
    file = tmp_path / "monitoring"
    file.write_text(f"prometheus_config {{ enable: true path: '{path}' }}")
    with pytest.raises(InvalidInput, match="is not free"):
        read("--rest_api_port=1", f"--monitoring_config_file={file}")


def ssl_config(folder: Path, pair: Pair, more: str = "") -> Path:
    file = folder / "ssl.config"
    fields = {"server_key": pair.key.read_text(), "server_cert": pair.cert.read_text()}
    file.write_text("\n".join([f"{name}: {json.dumps(text)}" for name, text in fields.items()] + [more]))
    return file


def test_the_credentials_of_grpc(tmp_path):
    authority = Authority(tmp_path)
    pair, other = authority.issue("server"), authority.issue("other")
    ca = f"custom_ca: {json.dumps(authority.ca.read_text())}"
    command = read("--rest_api_port=1", f"--ssl_config_file={ssl_config(tmp_path, pair, f'{ca} client_verify: true')}")
    found = command.drop_in.grpc_tls.pem
    assert (found.cert, found.key) == (pair.cert.read_bytes(), pair.key.read_bytes())
    assert (found.client_ca, command.notes, command.settings.tls_cert) == (authority.ca.read_bytes(), [], None)
    command = read(f"--ssl_config_file={ssl_config(tmp_path, pair, ca)}")
    assert (command.drop_in.grpc_tls.pem.client_ca, len(command.notes)) == (b"", 1)
    assert "custom_ca has no effect" in command.notes[0]
    assert read().drop_in.grpc_tls is None
    for wrong, more, said in (
        (Pair(pair.cert, other.key), "", "server_key: this is not the key of the certificate"),
        (Pair(pair.key, pair.key), "", "server_cert: no certificate in PEM"),
        (pair, "client_verify: true", "client_verify needs custom_ca"),
        (pair, "verify: true", "no SSLConfig"),
    ):
        with pytest.raises(InvalidInput, match=said):
            read(f"--ssl_config_file={ssl_config(tmp_path, wrong, more)}")


def test_the_page_lists_every_flag_with_what_it_does():
    rows = re.findall(r"^\| `--(\w+)` \| (.*?) \| (honoured|no effect|refused) \| (.+?) \|$", PAGE.read_text(), re.M)
    assert [(name, kind) for name, _, kind, _ in rows] == [(name, flag.kind) for name, flag in FLAGS.items()]


# ---- servers


@pytest.fixture
def launch(drop_in_class) -> Iterator[Callable[..., object]]:
    """Starts servers as the command `main`, or as an image's entrypoint `image_main`, on free ports."""
    started: list[object] = []

    def begin(entry: str, *arguments: str, grpc: int = 0, **environ: str) -> object:
        started.append(drop_in_class(entry, arguments, environ, grpc))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            assert server.stop() == 0


def container(manifest: Path) -> tuple[str, list[str], dict[str, str]]:
    """Which entry its container runs, with which arguments and environment."""
    document = yaml.safe_load(manifest.read_text())
    if "services" in document:
        [found] = document["services"].values()
        arguments = found.get("command", [])
        return "image_main", shlex.split(arguments) if isinstance(arguments, str) else arguments, {}
    [found] = document["spec"].get("template", document)["spec"]["containers"]
    environ = {row["name"]: row["value"] for row in found.get("env", [])}
    return "main" if "command" in found else "image_main", found["args"], environ


def test_compose_with_only_the_image_changed(tmp_path, models, launch):
    folder = tmp_path / "models"
    shutil.copytree(models / "half", folder / "half")
    shutil.copytree(models / "multi", folder / "multi")
    (folder / "models.config").write_text(
        f"""model_config_list {{
  config {{
    name: 'half' base_path: '{folder}/half' model_platform: 'tensorflow'
    model_version_policy {{ all {{}} }}
    version_labels {{ key: 'stable' value: 1 }} version_labels {{ key: 'canary' value: 2 }}
  }}
  config {{ name: 'multi', base_path: '{folder}/multi', model_platform: 'tensorflow' }}
}}"""
    )
    (folder / "monitor.config").write_text('prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }')
    (folder / "batching.config").write_text("max_batch_size { value: 128 } num_batch_threads { value: 8 }")
    server = run(MANIFESTS / "compose.yaml", tmp_path, launch)
    assert server.predict("half", {"instances": [2.0]}).json() == {"predictions": [4.0]}  # the latest, not `stable`
    assert server.predict("half/labels/stable", {"instances": [2.0]}).json() == {"predictions": [3.0]}
    assert server.predict("half/labels/canary", {"instances": [2.0]}).json() == {"predictions": [4.0]}
    assert server.predict("multi", {"instances": [{"a": [1, 2], "b": 3}]}).status == 200
    metrics = server.get("/monitoring/prometheus/metrics")
    assert (metrics.status, b"seaway_requests_total" in metrics.body) == (200, True)
    assert server.request("POST", "/monitoring/prometheus/metrics", "x").status == 405
    [note] = [line for line in server.log if "has no effect" in line]
    assert note.startswith(f"tensorflow_model_server: {folder}/batching.config: num_batch_threads has no effect: ")


def test_a_deployment_with_only_the_image_changed(tmp_path, models, launch):
    shutil.copytree(models / "half", tmp_path / "models" / "my_model")
    server = run(MANIFESTS / "deployment.yaml", tmp_path, launch)
    assert server.predict("my_model", {"instances": [2.0]}).json() == {"predictions": [4.0]}
    assert server.states("my_model") == {2: "AVAILABLE"}  # version 1 is not loaded
    assert server.predict("my_model/versions/1", {"instances": [2.0]}).status == 404
    assert not [line for line in server.log if "has no effect" in line]


def test_kserves_runtime_with_only_the_image_changed(tmp_path, models, launch):
    shutil.copytree(models / "half" / "2", tmp_path / "mnt" / "models")  # without a folder of a version
    server = run(MANIFESTS / "servingruntime.yaml", tmp_path, launch)
    reply = server.predict("flowers", {"instances": [2.0]})
    assert (reply.status, reply.json()) == (200, {"predictions": [4.0]})
    assert reply.headers["Seaway-Model"].startswith("flowers/1@")


def run(manifest: Path, root: Path, launch):
    """A server as the manifest's container runs it, with `root` before all paths, once it is ready."""
    entry, arguments, environ = container(manifest)
    arguments = [text.replace("=/", f"={root}/").replace("{{.Name}}", "flowers") for text in arguments]
    server = launch(entry, *arguments, **{"MODEL_BASE_PATH": f"{root}/models", **environ})
    server.wait_ready()
    return server


def test_the_ports_open_once_the_model_is_loaded(tmp_path, models, launch):
    (tmp_path / "half").mkdir()
    server = launch("image_main", MODEL_NAME="half", MODEL_BASE_PATH=str(tmp_path))
    server.wait(lambda: any("no version of model 'half'" in line for line in server.log))
    with pytest.raises(ConnectionRefusedError):
        server.get("/readyz")
    shutil.copytree(models / "half" / "1", tmp_path / "half" / "1")
    server.wait_ready()
    assert server.predict("half", {"instances": [2.0]}).json() == {"predictions": [3.0]}
    shutil.copytree(models / "half" / "2", tmp_path / "half" / "2")  # the next version replaces it
    server.wait(lambda: server.states("half") == {2: "AVAILABLE"})
    assert server.predict("half", {"instances": [2.0]}).json() == {"predictions": [4.0]}


def test_a_config_that_changes_while_it_is_served(tmp_path, models, launch):
    def configure(*configs: str) -> None:
        part = tmp_path / "part"
        part.write_text("model_config_list {\n" + "\n".join(f"config {{ {one} }}" for one in configs) + "\n}\n")
        part.rename(tmp_path / "models.config")

    half = f"name: 'half' base_path: '{models}/half' model_platform: 'tensorflow'"
    two = "model_version_policy { specific { versions: 1 versions: 2 } }"
    multi = f"name: 'multi' base_path: '{models}/multi' model_platform: 'tensorflow'"
    configure(f"{half} model_version_policy {{ specific {{ versions: 1 }} }}")
    server = launch(
        "main",
        f"--model_config_file={tmp_path}/models.config",
        "--model_config_file_poll_wait_seconds=1",
        "--num_load_threads=4",
    )
    server.wait_ready()
    assert server.states("half") == {1: "AVAILABLE"}
    assert [line for line in server.log if "has no effect" in line] == [
        f"tensorflow_model_server: --num_load_threads has no effect: {FLAGS['num_load_threads'].about}\n"
    ]

    configure(f"{half} {two} version_labels {{ key: 'canary' value: 2 }}", multi)
    server.wait(lambda: any("label 'canary' points at version 2" in line for line in server.log))
    assert server.states("half") == {1: "AVAILABLE"}  # the whole config is refused, as in TensorFlow Serving
    assert server.get("/v1/models/multi").status == 404

    configure(f"{half} {two}", multi)
    server.wait(lambda: server.states("half") == {1: "AVAILABLE", 2: "AVAILABLE"})
    server.wait(lambda: server.states("multi") == {7: "AVAILABLE"})
    configure(f"{half} {two} version_labels {{ key: 'canary' value: 2 }}", multi)
    server.wait(lambda: server.predict("half/labels/canary", {"instances": [2.0]}).status == 200)
    assert server.predict("half/labels/canary", {"instances": [2.0]}).json() == {"predictions": [4.0]}
    assert server.predict("half/labels/stable", {"instances": [2.0]}).status == 400  # there is no such label

    (tmp_path / "models.config").write_text("model_config_list {\n config { name: }\n}\n")
    broken = f"{tmp_path}/models.config:2"
    server.wait(lambda: any(broken in line for line in server.log))
    assert server.predict("half/labels/canary", {"instances": [2.0]}).status == 200

    configure(multi)  # half is gone
    server.wait(lambda: server.get("/v1/models/half").status == 404)
    assert server.predict("multi", {"instances": [{"a": [1, 2], "b": 3}]}).status == 200
    assert len([line for line in server.log if broken in line]) == 1


def test_warm_up_requests_are_replayed_unless_the_flag_says_otherwise(tmp_path, models, launch):
    content = (ROOT / "tests" / "fixtures" / "tf_serving_warmup_requests").read_bytes()
    for name, source, requests in (
        ("good", "half/1", content),
        ("damaged", "half/1", content[:-3]),
        ("other", "multi/7", content),
    ):
        version = tmp_path / name / "7"
        shutil.copytree(models / source, version)
        (version / "assets.extra").mkdir()
        (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(requests)
    configs = [
        f"config {{ name: '{name}' base_path: '{tmp_path}/{name}' model_platform: 'tensorflow' }}"
        for name in ("good", "damaged", "other")
    ]
    (tmp_path / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
    flag = f"--model_config_file={tmp_path}/models.config"
    server = launch("main", flag, "--num_request_iterations_for_warmup=2")
    server.wait_ready()
    assert server.states("good") == {7: "AVAILABLE"}
    assert "warm-up request 5: the file is truncated" in server.error_of("damaged", 7)
    assert 'warm-up request 1: Serving signature key "twice" not found' in server.error_of("other", 7)
    cold = launch("main", flag, "--enable_model_warmup=false")
    cold.wait_ready()
    for name in ("good", "damaged", "other"):
        assert cold.states(name) == {7: "AVAILABLE"}


def test_the_command_prints_its_version_and_flags():
    command = [sys.executable, "-m", "seaway.serve.tfs_command"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert version.startswith("TensorFlow ModelServer: ")
    printed = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert re.findall(r"(?m)^  --(\w+)=", printed) == list(FLAGS)
    wrong = subprocess.run([*command, "--modelname=x"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "tensorflow_model_server: there is no flag --modelname: did you mean --model_name?\n",
    )


def test_ssl_config_file_is_for_grpc_alone(tmp_path, models, launch, drop_in_class):
    authority = Authority(tmp_path)
    known = authority.issue("client")
    more = f"custom_ca: {json.dumps(authority.ca.read_text())} client_verify: true"
    config = ssl_config(tmp_path, authority.issue("server"), more)
    shutil.copytree(models / "half", tmp_path / "half")
    (tmp_path / "monitoring").write_text("prometheus_config { enable: true }")
    port = drop_in_class.free_port()
    server = launch(
        "main",
        *(f"--ssl_config_file={config}", "--model_name=half", f"--model_base_path={tmp_path / 'half'}"),
        f"--monitoring_config_file={tmp_path / 'monitoring'}",
        grpc=port,
    )
    server.wait_ready()
    assert server.predict("half", {"instances": [2.0]}).json() == {"predictions": [4.0]}
    for key, cert in ((known.key.read_bytes(), known.cert.read_bytes()), (None, None)):
        credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes(), key, cert)
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            if key:
                assert call(b"", timeout=20) == b"\x08\x01"
                continue
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=20)
    metrics = server.get("/monitoring/prometheus/metrics").body
    assert b"\nseaway_tls_certificate_expiry_timestamp_seconds 1" in metrics
    assert b"seaway_tls_handshake_failures_total" not in metrics  # of the data port
