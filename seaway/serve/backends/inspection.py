"""Inspects what a SavedModel's graph would do, before any of it is loaded or run.

`inspect` reads saved_model.pb, or saved_model.pbtxt, and follows the graph and its functions from everything that is
ever fetched: the signatures' outputs, the restore of variables, the initialization of tables. It refuses reached
operators that access files, the network or code, unless the restore or initialization reads the version's own files
with them. Nodes that are not reached are not loaded either: `CheckedModel.graph_def` has only checked nodes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seaway.artifacts.model_repository import SAVED_MODEL_FILES
from seaway.errors import ModelError
from seaway.serve.backends.graph import VARIABLES, Graph, full_name, node_of

FILE, TEXT_FILE = SAVED_MODEL_FILES
MAX_PROTOBUF_BYTES = (1 << 31) - 1  # no protobuf can be larger
TAG = "serve"
INITIALIZE = "__saved_model_init_op"
ASSETS = "saved_model_assets"  # a collection
_STRING = 7  # DT_STRING


@dataclass(slots=True)
class CheckedModel:
    """A SavedModel that may be loaded.

    signatures     name → SignatureDef, of those that clients can call
    all_signatures including those for TensorFlow's own use
    graph_def      GraphDef of the reached nodes
    restore_op     operator that restores the variables, and the tensor for their path; None without variables
    init_op        operator to run next, or None; `assets` are to be fed to it: tensor → file
    operators      signature → the operators that it reaches
    """

    signatures: dict[str, Any]
    all_signatures: dict[str, Any]
    graph_def: Any
    restore_op: tuple[str, str] | None = None
    init_op: str | None = None
    assets: dict[str, str] = field(default_factory=dict)
    operators: dict[str, frozenset[str]] = field(default_factory=dict)


def inspect(folder: Path, allowed: frozenset[str] = frozenset()) -> CheckedModel:
    """Reads and checks the SavedModel in a version's folder; `allowed`: operators to accept anyway.

    Raises ModelError for an unreadable file, an inconsistent graph, a refused operator (naming it, its node and its
    signature), or a path outside the folder.
    """
    meta = read(folder)
    graph = Graph(_file(folder), meta.graph_def, allowed)
    signatures = {n: s for n, s in meta.signature_def.items() if not n.startswith("__") and _is_dense(s)}
    if not signatures:
        raise ModelError(f"{folder}: the SavedModel has no signature to call; save it with signatures=")
    model = CheckedModel(signatures, dict(meta.signature_def), None)
    reached_nodes: set[str] = set()
    placeholders: dict[str, int] = {}
    variables: dict[str, set[str]] = {}  # of each signature
    for name, signature in sorted(signatures.items()):
        fed = {full_name(info.name): info.dtype for info in signature.inputs.values()}
        reached = graph.reach([info.name for info in signature.outputs.values()], set(fed), f"signature {name!r}")
        model.operators[name] = graph.check(reached, f"signature {name!r}", None)
        variables[name] = graph.variables(reached)
        reached_nodes |= reached
        placeholders |= fed
    loading: set[str] = set()
    model.restore_op = _find_restore_op(folder, meta.saver_def)
    if not model.restore_op and meta.saver_def.restore_op_name and VARIABLES & set().union(*model.operators.values()):
        raise ModelError(f"{folder / 'variables'}: the variables of this model are missing; convert the model again")
    if model.restore_op:
        operator, path = model.restore_op
        loading |= graph.check_loading(operator, {full_name(path)}, "the restore of variables")
        placeholders[full_name(path)] = _STRING
    model.init_op = _find_init_op(folder, meta)
    if model.init_op:
        model.assets = _assets(folder, meta)
        loading |= graph.check_loading(model.init_op, {full_name(t) for t in model.assets}, "the initialization")
        placeholders |= dict.fromkeys(map(full_name, model.assets), _STRING)
    _check_variables(folder, model, variables, graph.variables(loading))
    model.graph_def = graph.pruned(reached_nodes | loading, placeholders)
    return model


def read(folder: Path) -> Any:
    """The MetaGraphDef with the tag "serve". Raises ModelError."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = _file(folder)
    try:
        if path.stat().st_size > MAX_PROTOBUF_BYTES:
            raise ModelError(f"{path}: larger than 2 GiB, which no protobuf can be; convert the model again")
        if path.name == TEXT_FILE:
            saved = text_format.Parse(path.read_text("utf-8"), SavedModel())
        else:
            saved = SavedModel.FromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); convert the model again") from None
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{path}: not a SavedModel, or a truncated one; convert the model again") from None
    for meta in saved.meta_graphs:
        if set(meta.meta_info_def.tags) == {TAG}:
            return meta
    tags = [sorted(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    raise ModelError(f"{path}: no graph has the tag {TAG!r}, only {tags}; save the model for serving")


def _file(folder: Path) -> Path:
    """saved_model.pb, or if there is none, the text form of it."""
    text = folder / TEXT_FILE
    return text if text.exists() and not (folder / FILE).exists() else folder / FILE


def _find_restore_op(folder: Path, saver: Any) -> tuple[str, str] | None:
    """None if there are no variables on disk. Raises ModelError if their files are links out of the folder."""
    variables = folder / "variables"
    if not (variables / "variables.index").exists():
        return None
    for file in variables.iterdir():
        _check_inside(folder, file)
    if not saver.restore_op_name or not saver.filename_tensor_name:
        return None
    return saver.restore_op_name, saver.filename_tensor_name


def _find_init_op(folder: Path, meta: Any) -> str | None:
    if INITIALIZE in meta.signature_def:
        outputs = meta.signature_def[INITIALIZE].outputs
        if INITIALIZE in outputs:
            return node_of(outputs[INITIALIZE].name)
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta.collection_def and (names := meta.collection_def[key].node_list.value):
            if len(names) != 1:
                raise ModelError(f"{_file(folder)}: {key} names {len(names)} operators, not one; save the model again")
            return node_of(names[0])
    return None


def _check_variables(folder: Path, model: CheckedModel, used: dict[str, set[str]], loaded: set[str]) -> None:
    """Raises ModelError if each signature reads a variable that is neither restored nor initialized.

    Such are Keras 3's variables unless its own `export` saves them: tf.saved_model.save writes two for each, of which
    it restores the one that signatures do not use.
    """
    lacking = {
        name: min(variables - loaded)
        for name, variables in used.items()
        if variables - loaded and not any(op.startswith("Assign") for op in model.operators[name])
    }
    if lacking.keys() == used.keys():
        raise ModelError(
            f"{_file(folder)}: no signature can run, because variable {min(lacking.values())!r} is never restored; "
            "save a model of Keras 3 with model.export(…), not with tf.saved_model.save"
        )


def _assets(folder: Path, meta: Any) -> dict[str, str]:
    """Tensor → path of each asset, which may be missing if nothing reads it. Raises ModelError for one outside the
    folder."""
    paths = {}
    for asset in meta.asset_file_def or _assets_of_collection(folder, meta):
        file = folder / "assets" / asset.filename
        _check_inside(folder, file)
        paths[asset.tensor_info.name] = str(file)
    return paths


def _assets_of_collection(folder: Path, meta: Any) -> list[Any]:
    """The AssetFileDefs where TensorFlow 1 writes them."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef

    if ASSETS not in meta.collection_def:
        return []
    try:
        return [AssetFileDef.FromString(packed.value) for packed in meta.collection_def[ASSETS].any_list.value]
    except DecodeError:
        raise ModelError(f"{_file(folder)}: {ASSETS} is damaged; save the model again") from None


def _check_inside(folder: Path, file: Path) -> None:
    """Raises ModelError unless the file, links followed, lies in the folder."""
    try:
        resolved = file.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or an invalid file name
        raise ModelError(f"{file}: cannot be followed ({error}); publish the version's own files") from None
    if not resolved.is_relative_to(folder.resolve()):
        raise ModelError(f"{file}: leads out of the version's folder, to {resolved}; put the file itself there")


def _is_dense(signature: Any) -> bool:
    """Whether all tensors are dense; no protocol here can carry sparse or ragged ones."""
    infos = (*signature.inputs.values(), *signature.outputs.values())
    return bool(signature.outputs) and all(info.WhichOneof("encoding") == "name" for info in infos)
