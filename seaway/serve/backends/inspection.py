"""What a SavedModel's graph would do, found before anything of it is loaded or run.

`inspect` reads saved_model.pb and follows the graph, through its functions, from what is ever asked of it: the
signatures' outputs, the restoring of variables, the initialization of tables. Operators that are reached and touch
files, network or code are refused, unless restoring or initialization reads the version's own files with them. What was
never reached is not loaded either: `Checked.definition` holds the checked nodes alone.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seaway.errors import ModelError
from seaway.serve.backends.graph import Graph, full, node_of

FILE = "saved_model.pb"
LARGEST = (1 << 31) - 1  # bytes: no protobuf can be larger
TAG = "serve"
INITIALIZE = "__saved_model_init_op"
_STRING = 7  # DT_STRING
_VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}


@dataclass(slots=True)
class Checked:
    """A SavedModel that may be loaded.

    signatures     name → SignatureDef, of those that can be called
    all_signatures with those for TensorFlow's own use
    definition     GraphDef of what is reached
    restore        operator that restores the variables, and the tensor that takes their path; None without variables
    initialize     operator to run then, None where there is none; `assets` are to be fed: tensor → file
    operators      signature → the operators that it reaches
    """

    signatures: dict[str, Any]
    all_signatures: dict[str, Any]
    definition: Any
    restore: tuple[str, str] | None = None
    initialize: str | None = None
    assets: dict[str, str] = field(default_factory=dict)
    operators: dict[str, frozenset[str]] = field(default_factory=dict)


def inspect(folder: Path, allowed: frozenset[str] = frozenset()) -> Checked:
    """Reads and checks the SavedModel in a version's folder; `allowed`: operators to let pass.

    Raises ModelError: a file that cannot be read, a graph that contradicts itself, an operator that is refused (it,
    its node and its signature are named), or a path outside the folder.
    """
    meta = read(folder)
    graph = Graph(folder / FILE, meta.graph_def, allowed)
    signatures = {n: s for n, s in meta.signature_def.items() if not n.startswith("__") and _dense(s)}
    if not signatures:
        raise ModelError(f"{folder}: the SavedModel has no signature to call; save it with signatures=")
    checked = Checked(signatures, dict(meta.signature_def), None)
    kept: set[str] = set()
    placeholders: dict[str, int] = {}
    for name, signature in sorted(signatures.items()):
        fed = {full(info.name): info.dtype for info in signature.inputs.values()}
        reached = graph.reach([info.name for info in signature.outputs.values()], set(fed), f"signature {name!r}")
        checked.operators[name] = graph.check(reached, f"signature {name!r}", None)
        kept |= reached
        placeholders |= fed
    checked.restore = _restore(folder, meta.saver_def)
    if not checked.restore and meta.saver_def.restore_op_name and _VARIABLES & set().union(*checked.operators.values()):
        raise ModelError(f"{folder / 'variables'}: the variables of this model are missing; convert the model again")
    if checked.restore:
        operator, path = checked.restore
        kept |= graph.check_loading(operator, {full(path)}, "the restoring of variables")
        placeholders[full(path)] = _STRING
    checked.initialize = _initialize(folder, meta)
    if checked.initialize:
        checked.assets = _assets(folder, meta)
        kept |= graph.check_loading(checked.initialize, {full(t) for t in checked.assets}, "the initialization")
        placeholders |= dict.fromkeys(map(full, checked.assets), _STRING)
    checked.definition = graph.trimmed(kept, placeholders)
    return checked


def read(folder: Path) -> Any:
    """The MetaGraphDef for serving. Raises ModelError."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / FILE
    try:
        if path.stat().st_size > LARGEST:
            raise ModelError(f"{path}: larger than 2 GiB, which no protobuf can be; convert the model again")
        saved = SavedModel.FromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); convert the model again") from None
    except DecodeError:
        raise ModelError(f"{path}: not a SavedModel, or a truncated one; convert the model again") from None
    for meta in saved.meta_graphs:
        if set(meta.meta_info_def.tags) == {TAG}:
            return meta
    tags = [sorted(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    raise ModelError(f"{path}: no graph has the tag {TAG!r}; there are {tags}; save the model for serving")


def _restore(folder: Path, saver: Any) -> tuple[str, str] | None:
    """None where there are no variables on disk. Raises ModelError where their files lead out of the folder."""
    variables = folder / "variables"
    if not (variables / "variables.index").exists():
        return None
    for file in variables.iterdir():
        _inside(folder, file)
    if not saver.restore_op_name or not saver.filename_tensor_name:
        return None
    return saver.restore_op_name, saver.filename_tensor_name


def _initialize(folder: Path, meta: Any) -> str | None:
    if INITIALIZE in meta.signature_def:
        outputs = meta.signature_def[INITIALIZE].outputs
        if INITIALIZE in outputs:
            return node_of(outputs[INITIALIZE].name)
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta.collection_def and (names := meta.collection_def[key].node_list.value):
            if len(names) != 1:
                raise ModelError(f"{folder / FILE}: {key} names {len(names)} operators, not one; save the model again")
            return node_of(names[0])
    return None


def _assets(folder: Path, meta: Any) -> dict[str, str]:
    """Tensor → path of each asset. Raises ModelError for one that is missing or outside the folder."""
    found = {}
    for asset in meta.asset_file_def:
        file = folder / "assets" / asset.filename
        _inside(folder, file)
        if not file.is_file():
            raise ModelError(f"{file}: this asset is missing; convert the model again")
        found[asset.tensor_info.name] = str(file)
    return found


def _inside(folder: Path, file: Path) -> None:
    """Raises ModelError unless the file, links followed, lies in the folder."""
    try:
        resolved = file.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name that no file can have
        raise ModelError(f"{file}: cannot be followed ({error}); publish the version's own files") from None
    if not resolved.is_relative_to(folder.resolve()):
        raise ModelError(f"{file}: leads out of the version's folder, to {resolved}; put the file itself there")


def _dense(signature: Any) -> bool:
    """Whether each tensor is one tensor; sparse and ragged ones are several, and no protocol here can carry them."""
    infos = (*signature.inputs.values(), *signature.outputs.values())
    return bool(signature.outputs) and all(info.WhichOneof("encoding") == "name" for info in infos)
