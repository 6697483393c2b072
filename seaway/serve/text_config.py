"""Reads TensorFlow Serving's config files: messages in protobuf's text format, with a schema of their own.

The schema is a private descriptor pool, so that it never meets TensorFlow Serving's own classes in one process. It has
no message within itself: how deep a file nests is bounded by it, as its size is by `MAX_BYTES`.
"""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from seaway.errors import InvalidInput, explain
from seaway.protocols import descriptors

MAX_BYTES = 1 << 20
PACKAGE = "tensorflow.serving"

# Numbers do not matter in text.
_FILES: descriptors.Files = {
    "seaway/text_config.proto": (
        PACKAGE,
        ("google/protobuf/wrappers.proto",),
        """
        enum ModelType
            0 MODEL_TYPE_UNSPECIFIED
            1 TENSORFLOW
            2 OTHER
        message ModelServerConfig
            1 model_config_list ModelConfigList
        message ModelConfigList
            1 config ModelConfig*
        message ModelConfig
            1 name string
            2 base_path string
            3 model_type ModelType
            4 model_platform string
            5 model_version_policy ServableVersionPolicy
            6 version_labels {int64
            7 logging_config LoggingConfig
        message ServableVersionPolicy
            1 latest Latest|policy_choice
            2 all All|policy_choice
            3 specific Specific|policy_choice
        message Latest
            1 num_versions uint32
        message All
        message Specific
            1 versions int64*
        message LoggingConfig
            1 log_collector_config LogCollectorConfig
            2 sampling_config SamplingConfig
        message LogCollectorConfig
            1 type string
            2 filename_prefix string
        message SamplingConfig
            1 sampling_rate double
            2 attributes int32
        message BatchingParameters
            1 max_batch_size google.protobuf.Int64Value
            2 batch_timeout_micros google.protobuf.Int64Value
            3 max_enqueued_batches google.protobuf.Int64Value
            4 num_batch_threads google.protobuf.Int64Value
            5 thread_pool_name google.protobuf.StringValue
            6 enable_large_batch_splitting google.protobuf.BoolValue
            7 max_execution_batch_size google.protobuf.Int64Value
            8 allowed_batch_sizes int64*
            9 pad_variable_length_inputs bool
        message MonitoringConfig
            1 prometheus_config PrometheusConfig
        message PrometheusConfig
            1 enable bool
            2 path string
        message SSLConfig
            1 server_key string
            2 server_cert string
            3 custom_ca string
            4 client_verify bool
        """,
    ),
}


def read(file: Path, message: str) -> Any:
    """The message of this name from a file. Raises InvalidInput, with line and column, for a file that cannot be read
    or is not such a message."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(explain(error)) from None
    if len(content) > MAX_BYTES:
        raise InvalidInput(f"{file}: larger than {MAX_BYTES} bytes, so it is no {message}")
    return parse(content, message, str(file))


def parse(content: bytes, message: str, name: str) -> Any:
    """Like `read`, from bytes; `name` begins the errors."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: not UTF-8 at byte {error.start}, so it is no {message} as text") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # Python's about an escape that it does not know
            return text_format.Parse(text, _class(message)())
    except DeprecationWarning as error:
        raise InvalidInput(f"{name}: no {message}: a string has an invalid escape: {error}") from None
    except text_format.ParseError as error:
        where = f"{name}:{error.GetLine()}" if error.GetLine() else name
        raise InvalidInput(f"{where}: no {message}: {error}") from None


@cache
def _class(name: str) -> Any:
    return descriptors.message(_pool(), f"{PACKAGE}.{name}")


@cache
def _pool() -> Any:
    return descriptors.pool(_FILES)
