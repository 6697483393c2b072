"""One version in a worker's memory: verified against its digest, loaded, warmed up and checked.

At load the golden examples serve three purposes: they warm up the backend, prove that it predicts the recorded
outputs, and show which signatures can be batched (`batching.rows_are_independent`).
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.artifacts.golden import Golden
from seaway.errors import MetadataError, ModelError, explain
from seaway.protocols.calls import Call, ModelVersionInfo, Signature
from seaway.serve.backends.backend import Backend, Load
from seaway.serve.worker import batching, warmup
from seaway.serve.worker.parse_cache import ParseCache

GOLDEN_SIGNATURE = "golden_signature"  # in the metadata's settings: the only one that the golden examples are of
MAX_SHAPES = 4096  # input shapes whose check is remembered


@dataclass(slots=True)
class LoadedVersion:
    """`batchable` are the signatures with independent rows; `quarantined` the shapes (`describe_shapes`) that killed a
    process and are not run again."""

    served: ModelVersionInfo
    backend: Backend
    batchable: frozenset[str]
    fingerprint: str = ""  # of the loaded files (`model_repository.fingerprint`)
    quarantined: set[str] = field(default_factory=set)
    parse_cache: ParseCache = field(default_factory=ParseCache)
    _conforming: dict[Any, bool] = field(default_factory=dict)

    def conforms(self, call: Call) -> bool:
        """Whether the inputs' ranks, and their sizes other than the first, match the signature."""
        key = (call.signature, *((name, array.shape[1:], array.ndim) for name, array in call.inputs.items()))
        conforms = self._conforming.get(key)
        if conforms is None:
            conforms = _conforms(self.served.signatures.get(call.signature), call.inputs)
            if len(self._conforming) < MAX_SHAPES:
                self._conforming[key] = conforms
        return conforms


def _conforms(signature: Signature | None, inputs: dict[str, np.ndarray]) -> bool:
    declared = {tensor.name: tensor.shape for tensor in signature.inputs} if signature else {}
    for name, array in inputs.items():
        shape = declared.get(name)
        if shape is None or (signature and name in signature.unranked):
            continue
        rest = zip(shape[1:], array.shape[1:], strict=False)
        if len(shape) != array.ndim or any(want not in (None, size) for want, size in rest):
            return False
    return True


def describe_shapes(call: Call) -> str:
    """A call's signature and input shapes, without the batch dimension, in words."""
    inputs = (f"{name} {a.dtype.name} {['N', *a.shape[1:]] if a.ndim else []}" for name, a in call.inputs.items())
    return f"{call.signature}: {', '.join(inputs)}"


def load(
    name: str,
    number: int,
    path: Path,
    digest: str,
    fingerprint: str,
    load_backend: Load,
    threads: int,
    ops: Iterable[str],
    warmup_iterations: int = 1,
) -> LoadedVersion:
    """Verifies, loads, warms up and checks. If `digest` is set, only files with that digest are loaded; files with the
    `fingerprint` were already verified. `warmup_iterations`: see `warmup`.

    Raises MetadataError if a file has changed since the version was published, ModelError if it cannot be loaded, does
    not match `digest`, changes meanwhile, or does not predict the golden outputs.
    """
    current = model_repository.fingerprint(path)
    if not current:
        raise ModelError(f"{path}: the version's folder has disappeared; restore it")
    try:
        metadata = _read_metadata(path)
        if not digest or current != fingerprint:
            digest = _verified_digest(path, metadata, name, digest)
        version = _loaded(name, number, path, metadata, digest, load_backend, threads, ops)
        _replay(path, version, warmup_iterations)
    except OSError as error:
        raise ModelError(f"{path}: its files cannot be read: {explain(error)}") from None
    version.fingerprint = current
    if model_repository.fingerprint(path) != current:
        version.backend.close()
        raise ModelError(f"{path}: its files changed while they were loaded")
    return version


def _replay(path: Path, version: LoadedVersion, iterations: int) -> None:
    try:
        warmup.replay(path, version.backend, version.served, iterations)
    except BaseException:
        version.backend.close()
        raise


def _read_metadata(path: Path) -> ArtifactMetadata | None:
    if not (path / model_repository.METADATA_FILE).exists():
        return None
    return artifact_metadata.read(path, model_repository.METADATA_FILE)


def _verified_digest(path: Path, metadata: ArtifactMetadata | None, name: str, expected: str) -> str:
    """The digest of the files. Raises MetadataError if it differs from the metadata's, ModelError from `expected`."""
    metadata = artifact_metadata.check(path, "version", at=model_repository.METADATA_FILE) if metadata else None
    if metadata:
        digest = metadata.sha256
    else:
        digest = artifact_metadata.digest(path, ArtifactMetadata(kind="version", name=name))
    if expected and digest != expected:
        raise ModelError(
            f"{path}: its files are not those that were served (digest {digest[:12]}, not {expected[:12]}): restore "
            "them, or publish the new ones under a new number"
        )
    return digest


def _loaded(
    name: str,
    number: int,
    path: Path,
    metadata: ArtifactMetadata | None,
    digest: str,
    load_backend: Load,
    threads: int,
    ops: Iterable[str],
) -> LoadedVersion:
    backend = load_backend(path, metadata, threads, frozenset(ops))
    try:
        signatures = {key: _ordered(signature, metadata) for key, signature in backend.signatures.items()}
        labels, training_data = (metadata.labels, metadata.training_data) if metadata else ((), "")
        identity, definitions = f"{name}/{number}@{digest}", backend.definitions
        served = ModelVersionInfo(
            name, number, identity, signatures, definitions, labels, backend.platform, training_data
        )
        file = path / model_repository.EXTRA / goldens.GOLDEN
        batchable = (
            _check_golden(served, backend, metadata, goldens.read(file)) if metadata and file.exists() else frozenset()
        )
    except BaseException:
        backend.close()
        raise
    return LoadedVersion(served, backend, batchable)


def _check_golden(
    served: ModelVersionInfo, backend: Backend, metadata: ArtifactMetadata, golden: Golden
) -> frozenset[str]:
    """Compares with the golden examples. Returns the signatures with independent rows. Raises ModelError."""
    compared, batchable = set(), set()
    for name, call, outputs in on_golden(served, backend, metadata, golden):
        for output in outputs.keys() & call.outputs.keys():
            _compare(metadata, name, output, outputs[output], call.outputs[output])
            compared.add(output)
        if call.inputs is golden.inputs and batching.rows_are_independent(
            backend.predict, name, served.signatures[name], call.inputs, outputs, metadata.tolerances
        ):
            batchable.add(name)
    if not compared:
        first = next(iter(golden.whole()), golden)
        raise ModelError(
            f"no signature maps the golden inputs {sorted(first.inputs)} to the outputs {sorted(first.outputs)}"
        )
    return frozenset(batchable)


def on_golden(
    served: ModelVersionInfo, backend: Backend, metadata: ArtifactMetadata, golden: Golden
) -> Iterator[tuple[str, Golden, dict[str, np.ndarray]]]:
    """Each signature that takes the golden inputs, with each golden call and the backend's outputs for it."""
    only = metadata.settings.get(GOLDEN_SIGNATURE)
    for name, signature in served.signatures.items():
        for call in golden.whole() if only in (None, name) else ():
            if {tensor.name for tensor in signature.inputs} == call.inputs.keys():
                yield name, call, backend.predict(name, call.inputs)


def _compare(metadata: ArtifactMetadata, signature: str, output: str, actual: np.ndarray, expected: np.ndarray) -> None:
    if output not in metadata.tolerances:
        raise MetadataError(f"the metadata has no tolerance for output {output!r}; export the model again")
    comparison = goldens.compare(actual, expected, metadata.tolerances[output])
    if comparison.wrong:
        raise ModelError(
            f"signature {signature!r} is wrong for {comparison.wrong} of {comparison.rows} golden examples: output "
            f"{output!r} differs from {metadata.reference}'s by up to {comparison.max_abs:.3g}; convert and validate "
            "the model again"
        )


def _ordered(signature: Signature, metadata: ArtifactMetadata | None) -> Signature:
    """The signature with its tensors in the metadata's order, if it names them."""
    order = {t.name: i for i, t in enumerate((*metadata.inputs, *metadata.outputs))} if metadata else {}

    def sort(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(sorted(tensors, key=lambda t: (order.get(t.name, len(order)), t.name)))

    return dataclasses.replace(signature, inputs=sort(signature.inputs), outputs=sort(signature.outputs))


# ---- as JSON, for the supervisor, which has no models in memory


def describe(version: LoadedVersion) -> dict[str, Any]:
    served = dataclasses.asdict(version.served)
    for signature in served["signatures"].values():
        signature["unranked"] = sorted(signature["unranked"])
        del signature["defaults"]
    return {"served": served, "batchable": sorted(version.batchable), "fingerprint": version.fingerprint}


def read_description(described: dict[str, Any]) -> ModelVersionInfo:
    def tensors(rows: list[dict[str, Any]]) -> tuple[Tensor, ...]:
        return tuple(Tensor(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)

    served = described["served"]
    signatures = {
        name: Signature(tensors(s["inputs"]), tensors(s["outputs"]), s["method"], frozenset(s["unranked"]))
        for name, s in served["signatures"].items()
    }
    return ModelVersionInfo(**{**served, "signatures": signatures, "labels": tuple(served["labels"])})
