"""The SavedModel backend: the only file of the server that imports TensorFlow.

Signatures are called through a session's callables on the graph as it was saved, which is how TensorFlow Serving calls
them, and cheaper than a Python signature call.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seaway import quiet
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError

warnings.filterwarnings("ignore", category=DeprecationWarning)  # TensorFlow's own, of others' libraries
tf = quiet.import_tensorflow()
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # noqa: E402
from tensorflow.core.protobuf import config_pb2  # noqa: E402

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # the session API is called deprecated once a load

# TensorFlow's error codes → HTTP, as TensorFlow Serving maps them
STATUS = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 14: 503, 16: 401}


class SavedModel:
    """One version in memory. Raises ModelError where it cannot be loaded."""

    def __init__(self, path: Path, threads: int) -> None:
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            meta = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        except (tf.errors.OpError, OSError, ValueError, RuntimeError, KeyError) as error:
            self._session.close()
            raise ModelError(f"{path}: the SavedModel cannot be loaded: {_first_lines(error)}") from None
        self._signatures = {name: sig for name, sig in meta.signature_def.items() if not name.startswith("__")}
        self._definitions = {name: _as_json(sig) for name, sig in meta.signature_def.items()}
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[Any]]] = {}
        if not self._signatures:
            raise ModelError(f"{path}: the SavedModel has no signature to call; save it with signatures=")

    def describe(self) -> dict[str, Any]:
        """Signatures as the card writes tensors, and as protobuf's JSON for TensorFlow Serving's metadata."""
        sides = {
            name: {"inputs": _tensors(sig.inputs), "outputs": _tensors(sig.outputs)}
            for name, sig in self._signatures.items()
        }
        return {"signatures": sides, "definitions": self._definitions}

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` None gives all. Raises InvalidInput, NotFound, or what TensorFlow said."""
        found = self._signatures.get(signature)
        if found is None:
            raise NotFound(f"no signature {signature!r}; there are {sorted(self._signatures)}")
        wanted = tuple(outputs) if outputs else tuple(found.outputs)
        if inputs.keys() != set(found.inputs):
            raise InvalidInput(f"signature {signature!r} takes {sorted(found.inputs)}, but {sorted(inputs)} came")
        call = self._callables.get((signature, wanted)) or self._callable(signature, wanted)
        try:
            values = call(*(inputs[name] for name in found.inputs))
        except tf.errors.OpError as error:
            raise SeawayError(error.message, status=STATUS.get(error.error_code, 500)) from None
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"signature {signature!r} does not take these inputs: {error}") from None
        return {name: np.asarray(value) for name, value in zip(wanted, values, strict=True)}

    def close(self) -> None:
        self._session.close()

    def _callable(self, signature: str, wanted: tuple[str, ...]) -> Callable[..., list[Any]]:
        found = self._signatures[signature]
        missing = [name for name in wanted if name not in found.outputs]
        if missing:
            raise InvalidInput(f"signature {signature!r} has no output {missing}; it has {sorted(found.outputs)}")
        options = config_pb2.CallableOptions()
        options.feed.extend(info.name for info in found.inputs.values())
        options.fetch.extend(found.outputs[name].name for name in wanted)
        # The public make_callable compares shapes with the signature's, which TensorFlow Serving leaves to the graph.
        made: Callable[..., list[Any]] = self._session._make_callable_from_options(options)
        self._callables[signature, wanted] = made
        return made


def _tensors(infos: Any) -> list[tuple[str, str, list[int | None]]]:
    """(name, dtype, shape) of each, by name; a shape of unknown rank is given as []."""
    listed = []
    for name, info in sorted(infos.items()):
        kind = tf.dtypes.as_dtype(info.dtype).name
        dims = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
        listed.append((name, "str" if kind == "string" else kind, dims))
    return listed


def _as_json(signature: Any) -> dict[str, Any]:
    as_json: dict[str, Any] = MessageToDict(
        signature, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    return as_json


def _first_lines(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(line.strip() for line in str(text).splitlines()[:3])[:500]
