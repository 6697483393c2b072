"""TensorFlow Serving's command line: the flags of tensorflow_model_server 2.20, and what each of them does here.

The table is complete: a flag is honoured, refused, or accepted without effect for a stated reason.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seaway.errors import InvalidInput

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Flag:
    """`about`: what the flag does; if it has no effect, why; if only its default is accepted (`refused`), why.
    `bits`: the size of an integer."""

    default: Value
    about: str
    kind: Literal["honoured", "no effect", "refused"] = "honoured"
    bits: int = 32


def _none(default: Value, why: str, bits: int = 32) -> Flag:
    return Flag(default, why, "no effect", bits)


_LOADS = "versions are loaded and unloaded in the worker processes, beside requests"
_RETRIES = "a version that failed to load is tried again after 2 s, 4 s, … 5 min, and when its files change"
_TFLITE = "only SavedModels are served, not TensorFlow Lite models"
_XLA = "models are not compiled with XLA"
_FILE = "the file is not read: "

# Flag → default and meaning, in main.cc's order
FLAGS = {
    "port": Flag(8500, "port of gRPC; 0: none"),
    "grpc_socket_path": _none("", "gRPC listens at --port alone, not at a UNIX socket"),
    "rest_api_port": Flag(0, "port of HTTP: REST, and all else that the server speaks; 0: none"),
    "rest_api_num_threads": _none(0, "one event loop serves all connections; SEAWAY_WORKERS sets the processes"),
    "rest_api_timeout_in_ms": Flag(30000, "a request's deadline, of REST and gRPC; after it the client gets 504"),
    "rest_api_enable_cors_support": Flag(False, "pages of all sites may read responses"),
    "enable_batching": Flag(False, "allows --batching_parameters_file; requests are batched without it, too"),
    "allow_version_labels_for_unavailable_models": Flag(False, "new labels may point at versions that are not loaded"),
    "batching_parameters_file": Flag("", "BatchingParameters: sizes of batches and of the queue"),
    "enable_per_model_batching_parameters": _none(False, "batches have the same limits for all models"),
    "model_config_file": Flag("", "ModelServerConfig: models, version policies, labels"),
    "model_config_file_poll_wait_seconds": Flag(0, "seconds between two readings of it; 0: it is read once"),
    "model_name": Flag("default", "name of the model; ignored with --model_config_file"),
    "model_base_path": Flag("", "folder of its versions; ignored with --model_config_file"),
    "num_load_threads": _none(0, _LOADS),
    "num_unload_threads": _none(0, _LOADS),
    "max_num_load_retries": _none(5, _RETRIES),
    "load_retry_interval_micros": _none(60_000_000, _RETRIES, bits=64),
    "file_system_poll_wait_seconds": Flag(1, "seconds between two searches for new versions; 0: one search"),
    "flush_filesystem_caches": _none(True, "models are read from local folders, without a cache"),
    "tensorflow_session_parallelism": Flag(0, "threads of each worker", bits=64),
    "tensorflow_session_config_file": _none("", _FILE + "SEAWAY_WORKERS and SEAWAY_THREADS set processes and threads"),
    "tensorflow_intra_op_parallelism": Flag(0, "threads of each worker", bits=64),
    "tensorflow_inter_op_parallelism": Flag(
        0, "threads of each worker, if --tensorflow_intra_op_parallelism sets none", bits=64
    ),
    "use_alts_credentials": Flag(False, "ALTS is not supported, and clients that need it must not get less", "refused"),
    "ssl_config_file": Flag("", "SSLConfig: TLS at --port; REST stays plain"),
    "platform_config_file": _none("", _FILE + "there is one platform, TensorFlow's"),
    "per_process_gpu_memory_fraction": _none(0.0, "the installed packages and images compute on the CPU"),
    "saved_model_tags": Flag("serve", "only the graph tagged `serve` can be served", "refused"),
    "grpc_channel_arguments": _none("", "the gRPC server has its own limits"),
    "grpc_max_threads": _none(0, "the gRPC server has its own limits"),
    "enable_model_warmup": Flag(True, "assets.extra/tf_serving_warmup_requests is replayed when a version is loaded"),
    "num_request_iterations_for_warmup": Flag(0, "runs of each of those requests; 0: one"),
    "version": Flag(False, "prints the version and exits"),
    "monitoring_config_file": Flag("", "MonitoringConfig: metrics at a path of --rest_api_port, under Seaway's names"),
    "remove_unused_fields_from_bundle_metagraph": _none(True, "unused fields are always removed"),
    "prefer_tflite_model": _none(False, _TFLITE),
    "num_tflite_pools": _none(0, _TFLITE),
    "num_tflite_interpreters_per_pool": _none(1, _TFLITE),
    "enable_signature_method_name_check": _none(False, "a signature's method_name is never checked"),
    "xla_cpu_compilation_enabled": _none(False, _XLA),
    "xla_gpu_compilation_enabled": _none(False, _XLA),
    "enable_profiler": _none(True, "there is no profiler service"),
    "thread_pool_factory_config_file": _none("", _FILE + "SEAWAY_THREADS sets the threads of each worker"),
    "mixed_precision": _none("", "models compute in their own types"),
    "skip_initialize_tpu": _none(False, "TPUs are not used"),
    "enable_grpc_healthcheck_service": _none(False, "the gRPC health service needs no flag"),
    "enable_serialization_as_tensor_content": _none(False, "clients read both forms of a tensor"),
}


def parse(arguments: Sequence[str]) -> dict[str, Value]:
    """The flags that were given, as TensorFlow's parser reads them: `--flag=value`, or `--flag` to set a boolean; the
    last one of a name counts. One dash is accepted, too. Raises InvalidInput, with the nearest flag for an unknown one.
    """
    given: dict[str, Value] = {}
    for argument in arguments:
        words = re.fullmatch(r"--?([^=-][^=]*)(=?)(.*)", argument, re.DOTALL)
        if words is None:
            raise InvalidInput(f"unexpected argument {argument!r}: write flags as --flag=value")
        name, equals, text = words.groups()
        if name not in FLAGS:
            raise InvalidInput(_unknown(name))
        flag = FLAGS[name]
        if not equals and not isinstance(flag.default, bool):
            raise InvalidInput(f"--{name} has no value: write --{name}=VALUE")
        given[name] = _value(name, flag, text) if equals else True
    return given


def _unknown(name: str) -> str:
    if name.startswith("no") and isinstance(getattr(FLAGS.get(name[2:]), "default", None), bool):
        return f"there is no flag --{name}: write --{name[2:]}=false"
    similar = difflib.get_close_matches(name, FLAGS, n=1)
    return f"there is no flag --{name}{f': did you mean --{similar[0]}?' if similar else ''}"


def _value(name: str, flag: Flag, text: str) -> Value:
    if isinstance(flag.default, bool):
        if text.lower() not in ("true", "1", "false", "0"):
            raise InvalidInput(f"--{name}={text}: give true or false")
        return text.lower() in ("true", "1")
    if isinstance(flag.default, int):
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not -(1 << flag.bits - 1) <= int(text) < 1 << flag.bits - 1:
            raise InvalidInput(f"--{name}={text}: give an integer of {flag.bits} bits")
        return int(text)
    if isinstance(flag.default, float):
        try:
            return float(text)
        except ValueError:
            raise InvalidInput(f"--{name}={text}: give a number") from None
    return text


def usage() -> str:
    """All flags with their defaults, one a line."""
    lines = ["usage: tensorflow_model_server --flag=value …", "", "Flags, with their defaults:"]
    for name, flag in FLAGS.items():
        default = str(flag.default).lower() if isinstance(flag.default, bool) else flag.default
        kind = "" if flag.kind == "honoured" else f"{flag.kind}: "
        lines.append(f"  --{name}={default}\n      {kind}{flag.about}")
    return "\n".join(lines)
