"""The SavedModel backend: the only file of the server that imports TensorFlow.

It calls signatures through a session's callables, as TensorFlow Serving does, which is cheaper than a Python signature
call. It loads only the nodes that `inspection` has reached and accepted.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seaway import tensorflow_import
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError
from seaway.protocols import signatures, tensorproto, tensors
from seaway.protocols.calls import Signature
from seaway.serve.backends import inspection, operators

# By default, TensorFlow uses oneDNN's kernels only on some CPUs; batches are twice as fast with them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The allocator that TensorFlow uses with them never returns memory, not even that of a version that was unloaded.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
warnings.filterwarnings("ignore", category=DeprecationWarning)  # TensorFlow's own, of others' libraries
tf = tensorflow_import.import_tensorflow()
from google.protobuf.json_format import MessageToDict  # noqa: E402
from tensorflow.core.framework import tensor_pb2  # noqa: E402
from tensorflow.core.protobuf import config_pb2  # noqa: E402

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it logs at each load that the session API is deprecated

# TensorFlow's error codes → HTTP, as TensorFlow Serving maps them
STATUS = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 14: 503, 16: 401}
MAX_CALLABLES = 64  # one per signature and combination of outputs that clients request; each holds a pruned graph
_NODE = re.compile(r"\s*\[\[\{\{.*", re.DOTALL)  # the node of the graph, which means nothing to a client
REFERENCE = 100  # added to the number of a type for a variable of TensorFlow 1 itself
IN_CALLERS_THREAD = -1  # instead of the session's threads: saves some 30 µs a call


def load(
    path: Path, metadata: ArtifactMetadata | None, threads: int, allowed_ops: frozenset[str] = frozenset()
) -> "SavedModel":
    """Loads a version's folder. Raises ModelError if it cannot be loaded, or is refused (`inspection`)."""
    return SavedModel(path, metadata, threads, allowed_ops)


class SavedModel:
    """One version in memory; for `signatures` and `definitions` see seaway.protocols.calls.ModelVersionInfo."""

    platform = "tensorflow_savedmodel"

    def __init__(
        self, path: Path, metadata: ArtifactMetadata | None, threads: int, allowed_ops: frozenset[str] = frozenset()
    ) -> None:
        checked = inspection.inspect(path, allowed_ops)
        self.signatures = {name: _signature(signature_def) for name, signature_def in checked.signatures.items()}
        self.definitions = {name: _to_json(signature_def) for name, signature_def in checked.all_signatures.items()}
        self._names = {name: (_names(s.inputs), _names(s.outputs)) for name, s in checked.signatures.items()}
        self._guarded = {
            n for n, reached in checked.operators.items() if any(map(operators.CRASH_PRONE.fullmatch, reached))
        }
        self._callables: dict[tuple[str, tuple[str, ...], bool], Callable[..., list[Any]]] = {}
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        config.experimental.optimize_for_static_graph = True  # does not keep the original graph as well
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            self._load_graph_and_variables(path, checked)
        except BaseException as error:
            self._session.close()
            if isinstance(error, tf.errors.OpError | OSError | ValueError | RuntimeError | KeyError | TypeError):
                raise ModelError(f"{path}: the SavedModel cannot be loaded: {_first_lines(error)}") from None
            raise

    def _load_graph_and_variables(self, path: Path, checked: inspection.CheckedModel) -> None:
        with self._session.graph.as_default():
            tf.graph_util.import_graph_def(checked.graph_def, name="")
        if checked.restore_op:
            operator, tensor = checked.restore_op
            self._session.run(operator, {tensor: str(path / "variables" / "variables")})
        if checked.init_op:
            self._session.run(checked.init_op, checked.assets)

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` None returns all. Raises InvalidInput, NotFound, or TensorFlow's error."""
        declared = self.signatures.get(signature)
        if declared is None:
            raise NotFound(f"no signature {signature!r}; choose from {sorted(self.signatures)}")
        input_tensors, output_tensors = self._names[signature]
        output_names = tuple(outputs or output_tensors)
        if inputs.keys() != input_tensors.keys():
            raise InvalidInput(f"signature {signature!r} takes {sorted(input_tensors)}, but got {sorted(inputs)}")
        high_rank = any(array.ndim > tensors.MAX_RANK for array in inputs.values())
        if signature in self._guarded and (wrong := signatures.shape_mismatch(declared, inputs)):
            raise InvalidInput(wrong)
        try:
            call = self._callables.get((signature, output_names, high_rank)) or self._callable(
                signature, output_names, high_rank
            )
            values = call(*(_to_tensor_proto(inputs[name]) if high_rank else inputs[name] for name in input_tensors))
        except tf.errors.OpError as error:
            if empty := _empty_batch(declared, inputs, output_names):
                return empty
            status, text = STATUS.get(error.error_code, 500), _NODE.sub("", error.message)
            if mismatch := signatures.shape_mismatch(declared, inputs):
                text = f"{mismatch}: {text}"
            raise SeawayError(text, status=status) from None
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"signature {signature!r} does not accept these inputs: {error}") from None
        if high_rank:
            values = [_from_tensor_proto(value) for value in values]
        return {name: np.asanyarray(value) for name, value in zip(output_names, values, strict=True)}

    def close(self) -> None:
        self._session.close()

    def _callable(self, signature: str, output_names: tuple[str, ...], high_rank: bool) -> Callable[..., list[Any]]:
        """Makes and caches a callable. With `high_rank` it exchanges tensors as serialized TensorProtos, because NumPy
        arrays cannot have that many dimensions."""
        input_tensors, output_tensors = self._names[signature]
        missing = [name for name in output_names if name not in output_tensors]
        if missing:
            raise InvalidInput(f"signature {signature!r} has no output {missing}; it has {sorted(output_tensors)}")
        fetch = [output_tensors[name] for name in output_names]
        options = config_pb2.CallableOptions(feed=input_tensors.values(), fetch=fetch)
        if high_rank:
            options = self._high_rank_options(list(input_tensors.values()), fetch)
        options.run_options.inter_op_thread_pool = IN_CALLERS_THREAD
        # Unlike the public make_callable this does not check shapes; TensorFlow Serving leaves that to the graph.
        callable_: Callable[..., list[Any]] = self._session._make_callable_from_options(options)
        evictable = [
            key for key in self._callables if not key[2]
        ]  # high-rank ones stay: remaking one would add nodes to the graph again
        if len(evictable) >= MAX_CALLABLES:
            self._callables.pop(evictable[0], None)
        self._callables[signature, output_names, high_rank] = callable_
        return callable_

    def _high_rank_options(self, input_tensors: list[str], output_tensors: list[str]) -> Any:
        options = config_pb2.CallableOptions()
        graph = self._session.graph
        with graph.as_default():
            for name in input_tensors:
                message = tf.compat.v1.placeholder(tf.string, [])
                parsed = tf.io.parse_tensor(message, graph.get_tensor_by_name(name).dtype)
                options.feed.append(message.name)
                options.tensor_connection.add(from_tensor=parsed.name, to_tensor=name)
            options.fetch.extend(tf.io.serialize_tensor(graph.get_tensor_by_name(name)).name for name in output_tensors)
        return options


def _signature(signature_def: Any) -> Signature:
    infos = {**signature_def.inputs, **signature_def.outputs}
    unranked = frozenset(name for name, info in infos.items() if info.tensor_shape.unknown_rank)
    defaults = {name: tf.make_ndarray(value) for name, value in signature_def.defaults.items()}
    return Signature(
        _tensors(signature_def.inputs), _tensors(signature_def.outputs), signature_def.method_name, unranked, defaults
    )


def _tensors(infos: Any) -> tuple[Tensor, ...]:
    """Tensors by name; the shape () stands for an unknown rank too."""
    listed = []
    for name, info in sorted(infos.items()):
        dtype = tensorproto.dtype(info.dtype % REFERENCE)
        shape = tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
        listed.append(Tensor(name, dtype, shape))
    return tuple(listed)


def _names(infos: Any) -> dict[str, str]:
    """Tensor name in the signature → in the graph, in the order of `Signature`."""
    return {name: infos[name].name for name in sorted(infos)}


def _to_tensor_proto(array: np.ndarray) -> np.ndarray:
    """Serialises to a TensorProto, as an object array because NumPy's own bytes lose trailing zeros."""
    dtype = tf.dtypes.as_dtype(array.dtype)
    message = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if dtype == tf.string:
        message.string_val.extend(tensors.string_values(array))
    else:
        message.tensor_content = array.tobytes()
    return np.array(message.SerializeToString(), object)


def _from_tensor_proto(content: bytes) -> np.ndarray:
    message = tensor_pb2.TensorProto.FromString(content)
    shape = [dim.size for dim in message.tensor_shape.dim]
    if message.dtype == tf.string.as_datatype_enum:
        return tensors.shaped(tensors.strings(message.string_val, [len(message.string_val)]), shape)
    return tensors.shaped(
        np.frombuffer(message.tensor_content, tf.dtypes.as_dtype(message.dtype).as_numpy_dtype), shape
    )


def _empty_batch(
    signature: Signature, inputs: dict[str, np.ndarray], output_names: tuple[str, ...]
) -> dict[str, np.ndarray] | None:
    """The outputs for a batch of no rows, for graphs that fail on it; None if it has rows, or shapes are unknown."""
    if (
        not inputs
        or signatures.shape_mismatch(signature, inputs)
        or any(len(array) for array in inputs.values() if array.ndim)
    ):
        return None
    declared = {tensor.name: tensor for tensor in signature.outputs}
    outputs = [declared[name] for name in output_names]
    if any(not t.shape or t.shape[0] is not None for t in (*signature.inputs, *outputs)):
        return None
    if any(None in t.shape[1:] or t.dtype not in tensors.DTYPES for t in outputs):
        return None
    return {t.name: np.empty((0, *(size or 0 for size in t.shape[1:])), tensors.DTYPES[t.dtype]) for t in outputs}


def _to_json(signature: Any) -> dict[str, Any]:
    """In the form of TensorFlow Serving's metadata, in which `defaults` are empty."""
    shown = type(signature)()
    shown.CopyFrom(signature)
    shown.ClearField("defaults")
    as_json: dict[str, Any] = MessageToDict(
        shown, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    return as_json


def _first_lines(error: BaseException) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(line.strip() for line in str(text).splitlines()[:3])[:500]
