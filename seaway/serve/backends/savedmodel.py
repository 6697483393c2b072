"""The SavedModel backend: the only file of the server that imports TensorFlow.

Signatures are called through a session's callables, which is how TensorFlow Serving calls them, and cheaper than a
Python signature call. What is loaded is what `inspection` found to be reached and harmless, and nothing else.
"""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seaway import quiet
from seaway.artifacts.card import Card, Tensor
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError
from seaway.protocols import signatures, tensors
from seaway.protocols.calls import Signature
from seaway.serve.backends import inspection, operators

# Left to itself, TensorFlow takes oneDNN's kernels on some CPUs only; batches are answered twice as fast with them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
warnings.filterwarnings("ignore", category=DeprecationWarning)  # TensorFlow's own, of others' libraries
tf = quiet.import_tensorflow()
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # noqa: E402
from tensorflow.core.framework import tensor_pb2  # noqa: E402
from tensorflow.core.protobuf import config_pb2  # noqa: E402

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # the session API is called deprecated once a load

# TensorFlow's error codes → HTTP, as TensorFlow Serving maps them
STATUS = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 14: 503, 16: 401}
MOST_CALLABLES = 64  # of combinations of outputs that clients may ask for, each with a graph of its own
IN_CALLERS_THREAD = -1  # instead of a hand-over to the session's threads and back, some 30 µs a call


def load(path: Path, card: Card | None, threads: int, allowed_ops: frozenset[str] = frozenset()) -> "SavedModel":
    """A version's folder into memory. Raises ModelError where it cannot be loaded or may not be (`inspection`)."""
    return SavedModel(path, card, threads, allowed_ops)


class SavedModel:
    """One version in memory; `signatures` and `definitions` are those of seaway.protocols.calls.Served."""

    platform = "tensorflow_savedmodel"

    def __init__(self, path: Path, card: Card | None, threads: int, allowed_ops: frozenset[str] = frozenset()) -> None:
        graph = inspection.inspect(path, allowed_ops)
        self.signatures = {name: _signature(made) for name, made in graph.signatures.items()}
        self.definitions = {name: _as_json(made) for name, made in graph.all_signatures.items()}
        self._names = {name: (_names(s.inputs), _names(s.outputs)) for name, s in graph.signatures.items()}
        self._guarded = {n for n, reached in graph.operators.items() if any(map(operators.ENDING.fullmatch, reached))}
        self._callables: dict[tuple[str, tuple[str, ...], bool], Callable[..., list[Any]]] = {}
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        config.experimental.optimize_for_static_graph = True  # the graph as it was given is not kept as well
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            self._fill(path, graph)
        except BaseException as error:
            self._session.close()
            if isinstance(error, tf.errors.OpError | OSError | ValueError | RuntimeError | KeyError | TypeError):
                raise ModelError(f"{path}: the SavedModel cannot be loaded: {_first_lines(error)}") from None
            raise

    def _fill(self, path: Path, graph: inspection.Checked) -> None:
        with self._session.graph.as_default():
            tf.graph_util.import_graph_def(graph.definition, name="")
        if graph.restore:
            operator, tensor = graph.restore
            self._session.run(operator, {tensor: str(path / "variables" / "variables")})
        if graph.initialize:
            self._session.run(graph.initialize, graph.assets)

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` None gives all. Raises InvalidInput, NotFound, or what TensorFlow said."""
        found = self.signatures.get(signature)
        if found is None:
            raise NotFound(f"no signature {signature!r}; there are {sorted(self.signatures)}")
        takes, gives = self._names[signature]
        wanted = tuple(outputs or gives)
        if inputs.keys() != takes.keys():
            raise InvalidInput(f"signature {signature!r} takes {sorted(takes)}, but {sorted(inputs)} came")
        deep = any(array.ndim > tensors.MAX_RANK for array in inputs.values())
        call = self._callables.get((signature, wanted, deep)) or self._callable(signature, wanted, deep)
        if signature in self._guarded and (wrong := signatures.contradiction(found, inputs)):
            raise InvalidInput(wrong)
        try:
            values = call(*(_message(inputs[name]) if deep else inputs[name] for name in takes))
        except tf.errors.OpError as error:
            if nothing := _no_rows(found, inputs, wanted):
                return nothing
            raise SeawayError(error.message, status=STATUS.get(error.error_code, 500)) from None
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"signature {signature!r} does not take these inputs: {error}") from None
        if deep:
            values = [_of_message(value) for value in values]
        return {name: np.asanyarray(value) for name, value in zip(wanted, values, strict=True)}

    def close(self) -> None:
        self._session.close()

    def _callable(self, signature: str, wanted: tuple[str, ...], deep: bool) -> Callable[..., list[Any]]:
        """`deep` makes one that takes and gives each tensor as a TensorProto, which has more dimensions than NumPy."""
        takes, gives = self._names[signature]
        missing = [name for name in wanted if name not in gives]
        if missing:
            raise InvalidInput(f"signature {signature!r} has no output {missing}; it has {sorted(gives)}")
        fetch = [gives[name] for name in wanted]
        options = config_pb2.CallableOptions(feed=takes.values(), fetch=fetch)
        if deep:
            options = self._deep_options(list(takes.values()), fetch)
        options.run_options.inter_op_thread_pool = IN_CALLERS_THREAD
        # The public make_callable compares shapes with the signature's, which TensorFlow Serving leaves to the graph.
        made: Callable[..., list[Any]] = self._session._make_callable_from_options(options)
        spare = [key for key in self._callables if not key[2]]  # deep ones have left nodes in the graph
        if len(spare) >= MOST_CALLABLES:
            self._callables.pop(spare[0], None)
        self._callables[signature, wanted, deep] = made
        return made

    def _deep_options(self, takes: list[str], gives: list[str]) -> Any:
        options = config_pb2.CallableOptions()
        graph = self._session.graph
        with graph.as_default():
            for name in takes:
                message = tf.compat.v1.placeholder(tf.string, [])
                parsed = tf.io.parse_tensor(message, graph.get_tensor_by_name(name).dtype)
                options.feed.append(message.name)
                options.tensor_connection.add(from_tensor=parsed.name, to_tensor=name)
            options.fetch.extend(tf.io.serialize_tensor(graph.get_tensor_by_name(name)).name for name in gives)
        return options


def _signature(made: Any) -> Signature:
    infos = {**made.inputs, **made.outputs}
    unranked = frozenset(name for name, info in infos.items() if info.tensor_shape.unknown_rank)
    return Signature(_tensors(made.inputs), _tensors(made.outputs), made.method_name, unranked)


def _tensors(infos: Any) -> tuple[Tensor, ...]:
    """By name; the shape of unknown rank is ()."""
    listed = []
    for name, info in sorted(infos.items()):
        kind = tf.dtypes.as_dtype(info.dtype).name
        shape = tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
        listed.append(Tensor(name, "str" if kind == "string" else kind, shape))
    return tuple(listed)


def _names(infos: Any) -> dict[str, str]:
    """The signature's name of each tensor → the graph's, in the order of `Signature`."""
    return {name: infos[name].name for name in sorted(infos)}


def _message(array: np.ndarray) -> np.ndarray:
    """The array as a serialised TensorProto, which is an object for NumPy's own bytes end at a last 0."""
    kind = tf.dtypes.as_dtype(array.dtype)
    message = tensor_pb2.TensorProto(dtype=kind.as_datatype_enum)
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if kind == tf.string:
        message.string_val.extend(tensors.string_values(array))
    else:
        message.tensor_content = array.tobytes()
    return np.array(message.SerializeToString(), object)


def _of_message(content: bytes) -> np.ndarray:
    message = tensor_pb2.TensorProto.FromString(content)
    shape = [dim.size for dim in message.tensor_shape.dim]
    if message.dtype == tf.string.as_datatype_enum:
        return tensors.shaped(tensors.strings(message.string_val, [len(message.string_val)]), shape)
    return tensors.shaped(
        np.frombuffer(message.tensor_content, tf.dtypes.as_dtype(message.dtype).as_numpy_dtype), shape
    )


def _no_rows(
    signature: Signature, inputs: dict[str, np.ndarray], wanted: tuple[str, ...]
) -> dict[str, np.ndarray] | None:
    """The answer to a batch of no rows, for graphs that cannot give it; None where it is not that, or not known."""
    if (
        not inputs
        or signatures.contradiction(signature, inputs)
        or any(len(array) for array in inputs.values() if array.ndim)
    ):
        return None
    declared = {tensor.name: tensor for tensor in signature.outputs}
    outputs = [declared[name] for name in wanted]
    if any(not t.shape or t.shape[0] is not None for t in (*signature.inputs, *outputs)):
        return None
    if any(None in t.shape[1:] or t.dtype not in tensors.DTYPES for t in outputs):
        return None
    return {t.name: np.empty((0, *(size or 0 for size in t.shape[1:])), tensors.DTYPES[t.dtype]) for t in outputs}


def _as_json(signature: Any) -> dict[str, Any]:
    as_json: dict[str, Any] = MessageToDict(
        signature, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    return as_json


def _first_lines(error: BaseException) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(line.strip() for line in str(text).splitlines()[:3])[:500]
