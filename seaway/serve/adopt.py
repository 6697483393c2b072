"""Publishes a SavedModel from elsewhere, after the server's checks: it is loaded, run and compared as a server does.

Its own outputs become the golden examples, on which every server compares later loads of the version: there is no
PyTorch to compare it with.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from seaway.artifacts import artifact_metadata, atomic, golden, model_repository, npz
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance
from seaway.artifacts.golden import Golden
from seaway.errors import InvalidInput, ModelError, SeawayError
from seaway.protocols.calls import DEFAULT_SIGNATURE, Signature
from seaway.serve.backends import savedmodel
from seaway.serve.backends.backend import Load
from seaway.serve.worker import version

ROWS, DYNAMIC_SIZE = 8, 2  # of random examples: the first axis, and other dynamic ones
TOLERANCE, REL = 1e-4, 1e-5  # of the largest output; the same process may sum another batch in another order
FLOOR = 1e-5

Arrays = dict[str, np.ndarray]


def publish(folder: Path, repository: Path, name: str, examples: Path | None = None) -> int:
    """Copies the SavedModel into `repository` as the next version of `name`; returns its number.

    `examples`: an .npz with an array for each input of the signature; else random numbers are tried. If those do not
    run, the version has no golden examples. Raises ModelError for a SavedModel that a server would refuse, InvalidInput
    for examples that do not fit.
    """

    def fill(incoming: Path) -> None:
        _copy(folder, incoming)
        backend = savedmodel.load(incoming, None, threads=1)
        try:
            signature = _signature(backend, folder)
            metadata = ArtifactMetadata(
                kind="version",
                name=name,
                inputs=backend.signatures[signature].inputs,
                outputs=backend.signatures[signature].outputs,
                settings={"reference": "the SavedModel", version.GOLDEN_SIGNATURE: signature},
            )
            recorded = _record(backend, signature, examples)
        finally:
            backend.close()
        (incoming / model_repository.EXTRA).mkdir()
        if recorded:
            golden.write(incoming / model_repository.EXTRA / golden.GOLDEN, recorded)
            outputs = recorded.whole()[0].outputs
            tolerances = {output: _tolerance(array) for output, array in outputs.items()}
            metadata = replace(metadata, tolerances=tolerances)
        written = artifact_metadata.write(incoming, metadata, at=model_repository.METADATA_FILE)
        version.load(name, 1, incoming, written.sha256, "", cast(Load, savedmodel.load), 1, ()).backend.close()

    with atomic.locked(repository):
        number = model_repository.publish(repository, name, fill)
    model_repository.write_models_config(repository)
    return number


def _copy(folder: Path, incoming: Path) -> None:
    """Copies everything but assets.extra/. Raises ModelError for links, which might lead to any file."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if relative.parts[0] == model_repository.EXTRA:
            continue
        if path.is_symlink():
            raise ModelError(f"{path}: a link; put the file itself there")
        if path.is_dir():
            (incoming / relative).mkdir(exist_ok=True)
        else:
            (incoming / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, incoming / relative)


def _signature(backend: savedmodel.SavedModel, folder: Path) -> str:
    if not backend.signatures:
        raise ModelError(
            f"{folder}: it has no signature; save it with tf.saved_model.save(module, folder, signatures=…)"
        )
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in backend.signatures else min(backend.signatures)


def _record(backend: savedmodel.SavedModel, signature: str, examples: Path | None) -> Golden | None:
    """The examples and their outputs; None, with the reason printed, if random numbers do not run."""
    declared = backend.signatures[signature]
    try:
        inputs = _read(examples, declared) if examples else _random(declared)
        first, again = (backend.predict(signature, inputs) for _ in range(2))
    except SeawayError as error:
        if examples:
            raise
        _say_without(f"it does not run on random numbers: {error}")
        return None
    if any(array.dtype.kind not in "fiub" for array in first.values()):
        _say_without("it returns strings")
        return None
    if any(golden.compare(again[key], array, _tolerance(array)).wrong for key, array in first.items()):
        _say_without("it returns other outputs for the same inputs")
        return None
    sizes = {array.shape[:1] for array in (inputs | first).values()}
    if len(sizes) == 1 and all(tensor.shape[:1] == (None,) for tensor in (*declared.inputs, *declared.outputs)):
        return Golden(inputs, first)
    return Golden({}, {}, (Golden(inputs, first),))


def _say_without(reason: str) -> None:
    print(
        f"ship: no golden examples, so servers will neither warm it up nor compare it: {reason}; give --golden FILE.npz"
    )


def _read(path: Path, signature: Signature) -> Arrays:
    try:
        content = npz.read(path)
    except (FileNotFoundError, ValueError) as error:
        raise InvalidInput(f"--golden {path}: not an .npz of arrays ({error}); np.savez makes one") from None
    needed = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}".replace("None", "any") for t in signature.inputs)
    if sorted(content) != sorted(tensor.name for tensor in signature.inputs):
        raise InvalidInput(f"--golden {path}: contains {', '.join(sorted(content)) or 'nothing'}, needed: {needed}")
    for tensor in signature.inputs:
        if content[tensor.name].dtype.kind != np.dtype(tensor.dtype).kind:
            raise InvalidInput(f"--golden {path}: {tensor.name} is {content[tensor.name].dtype}, needed: {needed}")
    return {tensor.name: content[tensor.name].astype(tensor.dtype) for tensor in signature.inputs}


def _random(signature: Signature) -> Arrays:
    """Normally distributed floats; integers 0 and 1, which are valid indices almost everywhere."""
    generator = np.random.default_rng(0)
    return {tensor.name: _draw(tensor, generator) for tensor in signature.inputs}


def _draw(tensor: Tensor, generator: np.random.Generator) -> np.ndarray:
    if tensor.dtype == "str":
        raise InvalidInput(f"input {tensor.name!r} takes strings")
    shape = [(ROWS if i == 0 else DYNAMIC_SIZE) if size is None else size for i, size in enumerate(tensor.shape)]
    dtype = np.dtype(tensor.dtype)
    values = generator.integers(0, 2, shape) if dtype.kind in "biu" else generator.standard_normal(shape)
    return np.asarray(values, dtype)


def _tolerance(output: np.ndarray) -> Tolerance:
    if output.dtype.kind != "f":
        return Tolerance(0.0, 0.0)
    largest = float(np.abs(output[np.isfinite(output)]).max(initial=0))
    return Tolerance(max(FLOOR, TOLERANCE * largest), REL)
