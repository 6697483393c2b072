"""`tensorflow_model_server`: the model server with TensorFlow Serving's flags, defaults and environment.

tensorflow_model_server --rest_api_port=8501 --model_name=NAME --model_base_path=/models/NAME

`main` is that command. `image_main` is the entrypoint of an image, as in TensorFlow Serving's own: it puts these before
the arguments, and the last flag of a name counts:

    --port=8500 --rest_api_port=8501 --model_name=$MODEL_NAME --model_base_path=$MODEL_BASE_PATH/$MODEL_NAME

MODEL_NAME is by default `model`, MODEL_BASE_PATH `/models`. Both also read the server's own settings, SEAWAY_…, where
no flag says otherwise.
"""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seaway import errors
from seaway.errors import InvalidInput, Unavailable
from seaway.serve import settings, text_config, tfs_flags
from seaway.serve.settings import Settings
from seaway.serve.supervisor import tls
from seaway.serve.supervisor.model_config import ConfiguredModel, ConfiguredModels, read_config
from seaway.serve.supervisor.server import DropIn, serve
from seaway.serve.tfs_flags import FLAGS, Value
from seaway.version import VERSION

PROGRAM = "tensorflow_model_server"
METRICS_PATH = "/monitoring/prometheus/metrics"  # TensorFlow Serving's default
# Flags alone set these. (On Kubernetes, a Service named `seaway` sets SEAWAY_PORT to a URL.)
NOT_INHERITED = {"SEAWAY_MODEL_REPOSITORY", "SEAWAY_PORT", "SEAWAY_GRPC_PORT", "SEAWAY_MODEL", "SEAWAY_MODEL_VERSION"}


@dataclass(frozen=True, slots=True)
class Command:
    """What a command line asks for, and what to say about its flags and files that change nothing."""

    settings: Settings
    drop_in: DropIn
    notes: list[str]


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Command:
    """Raises InvalidInput for an unknown flag, a value out of range, a flag that is refused, and a config file that
    cannot be used."""
    given = tfs_flags.parse(arguments)
    flags = {name: flag.default for name, flag in FLAGS.items()} | given
    notes = [f"--{name} has no effect: {FLAGS[name].about}" for name in given if FLAGS[name].kind == "no effect"]
    for name, value in given.items():
        if FLAGS[name].kind == "refused" and value != FLAGS[name].default:
            raise InvalidInput(f"--{name}={value}: not supported: {FLAGS[name].about}")
    _check_numbers(flags)
    models, place = _models(flags)
    metrics_path = _metrics_path(flags, notes)
    values: dict[str, Any] = {"host": "0.0.0.0", "default_version": "latest"}  # noqa: S104 - TensorFlow Serving's
    inherited = {name: text for name, text in environ.items() if name not in NOT_INHERITED}
    values |= settings.from_environment(inherited) | _batching(flags, notes)
    values |= {"model_repository": place, "port": flags["rest_api_port"], "grpc_port": flags["port"] or None}
    if "rest_api_timeout_in_ms" in given:
        values["timeout_s"] = float(given["rest_api_timeout_in_ms"]) / 1000
    if not flags["enable_model_warmup"]:
        values["warmup_iterations"] = 0
    elif int(flags["num_request_iterations_for_warmup"]) > 0:
        values["warmup_iterations"] = flags["num_request_iterations_for_warmup"]
    if threads := _threads(flags):
        values["threads"] = threads
    if flags["rest_api_enable_cors_support"]:
        values["cors_origin"] = ("*",)
    drop_in = DropIn(models, bool(flags["rest_api_port"]), metrics_path, _grpc_tls(flags, notes))
    return Command(Settings(**values), drop_in, notes)


def _check_numbers(flags: Mapping[str, Value]) -> None:
    for name in ("port", "rest_api_port"):
        if not 0 <= int(flags[name]) <= settings.MAX_PORT:
            raise InvalidInput(f"--{name}={flags[name]}: give a port from 0 to {settings.MAX_PORT}")
    if int(flags["rest_api_timeout_in_ms"]) <= 0:
        raise InvalidInput(f"--rest_api_timeout_in_ms={flags['rest_api_timeout_in_ms']}: give more than 0")
    if not flags["port"] and not flags["rest_api_port"]:
        raise InvalidInput("--port=0 and --rest_api_port=0: no port is left; give one of them")
    if flags["port"] == flags["rest_api_port"]:
        raise InvalidInput(f"--port and --rest_api_port are both {flags['port']}: give different ports")


def _models(flags: Mapping[str, Value]) -> tuple[ConfiguredModels, Path]:
    """The models that the flags name, and the folder to name in messages."""
    poll_s = _seconds(flags, "file_system_poll_wait_seconds")
    read_s = _seconds(flags, "model_config_file_poll_wait_seconds")
    allow = bool(flags["allow_version_labels_for_unavailable_models"])
    if flags["model_config_file"]:
        file = Path(str(flags["model_config_file"]))
        models = read_config(file).values()
        source = ConfiguredModels(models, file, list_every_s=poll_s, read_every_s=read_s, allow_unavailable=allow)
        return source, file.parent
    if not flags["model_base_path"]:
        raise InvalidInput(
            "no model: give --model_base_path=DIR, the folder of its versions, or --model_config_file=FILE"
        )
    model = ConfiguredModel(str(flags["model_name"]), Path(str(flags["model_base_path"])))
    if model.base_path.is_file():
        raise InvalidInput(
            f"--model_base_path={model.base_path}: this is a file; give the folder of a model's versions"
        )
    return ConfiguredModels([model], list_every_s=poll_s), model.base_path


def _seconds(flags: Mapping[str, Value], name: str) -> float:
    """An interval; infinite for 0, which means once."""
    value = float(flags[name])
    if value < 0:
        raise InvalidInput(f"--{name}={flags[name]}: give 0 or more seconds")
    return value or math.inf


def _threads(flags: Mapping[str, Value]) -> int:
    """The threads of a worker; 0 if no flag sets them."""
    session, intra, inter = (
        int(flags[f"tensorflow_{name}_parallelism"]) for name in ("session", "intra_op", "inter_op")
    )
    if session > 0 and intra > 0 and inter > 0:
        raise InvalidInput(
            "--tensorflow_session_parallelism is set beside --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism: give the first, or the other two"
        )
    return max(intra if intra > 0 else inter if inter > 0 else session, 0)


# Field of BatchingParameters → why it has no effect
_BATCHING_NOTES = {
    "num_batch_threads": "each worker runs one batch at a time; SEAWAY_WORKERS sets their number",
    "thread_pool_name": "there is no thread pool of that name",
    "enable_large_batch_splitting": "large batches are always split over the cores",
    "max_execution_batch_size": "large batches are always split over the cores",
    "allowed_batch_sizes": "batches are not padded to certain sizes",
    "pad_variable_length_inputs": "only requests of equal shape are batched together",
}


def _batching(flags: Mapping[str, Value], notes: list[str]) -> dict[str, Any]:
    """Settings from --batching_parameters_file; adds notes about its fields that have no effect."""
    if not flags["batching_parameters_file"]:
        return {}
    if not flags["enable_batching"]:
        raise InvalidInput("--batching_parameters_file needs --enable_batching")
    file = Path(str(flags["batching_parameters_file"]))
    parameters = text_config.read(file, "BatchingParameters")
    given = {field.name for field, _ in parameters.ListFields()}
    values: dict[str, Any] = {}
    for name, least in (("max_batch_size", 1), ("batch_timeout_micros", 0), ("max_enqueued_batches", 1)):
        if name in given and (number := getattr(parameters, name).value) < least:
            raise InvalidInput(f"{file}: {name} is {number}: it must be at least {least}")
    if "max_batch_size" in given:
        values["max_batch"] = parameters.max_batch_size.value
    if "batch_timeout_micros" in given:
        values["batch_delay_ms"] = parameters.batch_timeout_micros.value / 1000
    if "max_enqueued_batches" in given:
        rows = values.get("max_batch", settings.DECLARED["max_batch"][2])
        values["max_waiting"] = parameters.max_enqueued_batches.value * rows
    notes += [f"{file}: {name} has no effect: {why}" for name, why in _BATCHING_NOTES.items() if name in given]
    return values


def _metrics_path(flags: Mapping[str, Value], notes: list[str]) -> str:
    """The path of the metrics at the HTTP port, "" for none."""
    if not flags["monitoring_config_file"]:
        return ""
    file = Path(str(flags["monitoring_config_file"]))
    prometheus = text_config.read(file, "MonitoringConfig").prometheus_config
    if not prometheus.enable:
        return ""
    path = prometheus.path or METRICS_PATH
    if not path.startswith("/") or path == "/" or path.lower().startswith(("/v1/", "/v2/", "/graphpipe/")):
        raise InvalidInput(f"{file}: path {path!r} is not free: give one like {METRICS_PATH}")
    if not flags["rest_api_port"]:
        notes.append(f"{file} has no effect: the metrics are served at --rest_api_port, which is 0")
    return path


def _grpc_tls(flags: Mapping[str, Value], notes: list[str]) -> tls.Credentials | None:
    """gRPC's credentials, whose PEM is in the config file itself; it is read once, as TensorFlow Serving does."""
    if not flags["ssl_config_file"]:
        return None
    file = Path(str(flags["ssl_config_file"]))
    config = text_config.read(file, "SSLConfig")
    if config.client_verify and not config.custom_ca:
        raise InvalidInput(f"{file}: client_verify needs custom_ca, the CAs of client certificates")
    client_ca = config.custom_ca if config.client_verify else ""
    if config.custom_ca and not config.client_verify:
        notes.append(f"{file}: custom_ca has no effect: client_verify is false, so clients show no certificate")
    if not flags["port"]:
        notes.append(f"{file} has no effect: it is about --port, which is 0")
    pem = tls.Pem(config.server_cert.encode(), config.server_key.encode(), client_ca.encode())
    return tls.check(pem, f"{file}: server_cert", f"{file}: server_key", f"{file}: custom_ca")


def image_arguments(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The command line that the image's entrypoint makes of its own."""
    name, base_path = environ.get("MODEL_NAME", "model"), environ.get("MODEL_BASE_PATH", "/models")
    model = [f"--model_name={name}", f"--model_base_path={base_path}/{name}"]
    return ["--port=8500", "--rest_api_port=8501", *model, *arguments]


def image_main() -> None:
    """The entrypoint of the image, as TensorFlow Serving's."""
    _run(image_arguments(sys.argv[1:], os.environ))


def main() -> None:
    """The command."""
    _run(sys.argv[1:])


def _run(arguments: Sequence[str]) -> None:
    if "--help" in arguments:
        print(tfs_flags.usage())
        return
    with errors.exit_with_message(PROGRAM):
        if tfs_flags.parse(arguments).get("version"):
            print(f"TensorFlow ModelServer: Seaway {VERSION}, with the flags of 2.20")
            return
        command = read(arguments, os.environ)
        for note in command.notes:
            print(f"{PROGRAM}: {note}", file=sys.stderr, flush=True)
        if command.settings.backend == "savedmodel" and find_spec("tensorflow") is None:
            raise Unavailable('tensorflow is not installed: pip install "seaway[tensorflow]"')
        serve(command.settings, command.drop_in)


if __name__ == "__main__":
    main()
