"""The inspection of SavedModels before any of it is loaded or run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process

from seaway.errors import ModelError
from seaway.serve.backends import graph as graphs
from seaway.serve.backends import inspection, operators
from seaway.serve.backends.savedmodel import load, tf

Models = Callable[..., Path]

X = tf.TensorSpec([None], tf.float32, name="x")
TEXT = tf.TensorSpec([None], tf.string, name="text")

# The stateful operators that may run, reviewed with TensorFlow 2.21: what each works on → operators
REVIEWED = {
    "runs functions of the graph": """
        Case If StatefulPartitionedCall While
    """,
    "checks, copies or prints a tensor": """
        Assert CheckNumerics CheckNumericsV2 DeepCopy Empty GuaranteeConst Print PrintV2 Timestamp
    """,
    "a variable of the model": """
        AssignAddVariableOp AssignSubVariableOp AssignVariableOp DestroyResourceOp DisableCopyOnRead ReadVariableOp
        ResourceApplyAdaMax ResourceApplyAdadelta ResourceApplyAdagrad ResourceApplyAdagradDA ResourceApplyAdagradV2
        ResourceApplyAdam ResourceApplyAdamWithAmsgrad ResourceApplyAddSign ResourceApplyCenteredRMSProp
        ResourceApplyFtrl ResourceApplyFtrlV2 ResourceApplyGradientDescent ResourceApplyKerasMomentum
        ResourceApplyMomentum ResourceApplyPowerSign ResourceApplyProximalAdagrad
        ResourceApplyProximalGradientDescent ResourceApplyRMSProp ResourceCountUpTo ResourceGather ResourceGatherNd
        ResourceScatterAdd ResourceScatterDiv ResourceScatterMax ResourceScatterMin ResourceScatterMul
        ResourceScatterNdAdd ResourceScatterNdMax ResourceScatterNdMin ResourceScatterNdSub ResourceScatterNdUpdate
        ResourceScatterSub ResourceScatterUpdate ResourceSparseApplyAdadelta ResourceSparseApplyAdagrad
        ResourceSparseApplyAdagradDA ResourceSparseApplyAdagradV2 ResourceSparseApplyCenteredRMSProp
        ResourceSparseApplyFtrl ResourceSparseApplyFtrlV2 ResourceSparseApplyKerasMomentum
        ResourceSparseApplyMomentum ResourceSparseApplyProximalAdagrad ResourceSparseApplyProximalGradientDescent
        ResourceSparseApplyRMSProp ResourceStridedSliceAssign TemporaryVariable VarHandleOp VarIsInitializedOp
        Variable VariableShape VariableV2
    """,
    "a lookup table in memory": """
        AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
        AnonymousMutableHashTableOfTensors HashTable HashTableV2 InitializeTableV2 LookupTableExportV2
        LookupTableFindV2 LookupTableImportV2 LookupTableInsertV2 LookupTableRemoveV2 LookupTableSizeV2
        MutableDenseHashTable MutableDenseHashTableV2 MutableHashTable MutableHashTableOfTensors
        MutableHashTableOfTensorsV2 MutableHashTableV2
    """,
    "a list, stack or map in memory": """
        AddManySparseToTensorsMap AddSparseToTensorsMap Stack StackCloseV2 StackPopV2 StackPushV2 StackV2
        TakeManySparseFromTensorsMap TensorArray TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3
        TensorArrayGrad TensorArrayGradV2 TensorArrayGradV3 TensorArrayGradWithShape TensorArrayReadV3
        TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV2 TensorArrayV3 TensorArrayWriteV3
    """,
    "random numbers": """
        AllCandidateSampler AnonymousRandomSeedGenerator AnonymousSeedGenerator DeleteRandomSeedGenerator
        DeleteSeedGenerator DummySeedGenerator FixedUnigramCandidateSampler LearnedUnigramCandidateSampler
        LogUniformCandidateSampler Multinomial NonDeterministicInts ParameterizedTruncatedNormal RandomCrop
        RandomGamma RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
        RngReadAndSkip RngSkip SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 StatefulRandomBinomial
        StatefulStandardNormal StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
        StatefulUniformFullInt StatefulUniformInt StatelessRandomGetAlg ThreadUnsafeUnigramCandidateSampler
        TruncatedNormal UniformCandidateSampler
    """,
    "a data set of tensors in memory": """
        AnonymousIterator AnonymousIteratorV2 AnonymousIteratorV3 DatasetToSingleElement DeleteIterator
        GeneratorDataset GroupByReducerDataset Iterator IteratorGetNext IteratorGetNextAsOptional
        IteratorGetNextSync IteratorV2 MakeIterator OneShotIterator RandomDataset RandomDatasetV2 RangeDataset
        ReduceDataset ShuffleAndRepeatDatasetV2 ShuffleDatasetV2 ShuffleDatasetV3 SparseTensorSliceDataset
        TensorDataset TensorSliceDataset
    """,
    "a trained ensemble of trees, or a recurrent net": """
        BoostedTreesCreateEnsemble BoostedTreesDeserializeEnsemble BoostedTreesEnsembleResourceHandleOp
        BoostedTreesPredict CudnnRNN CudnnRNNV2 CudnnRNNV3 IsBoostedTreesEnsembleInitialized
    """,
}

# Argument names that suggest files, addresses or code; operators that may run although they have one, and why
SUSPICIOUS = re.compile("file|path|url|address|uri|host|server|directory|library|pattern|program|descriptor|vocab_file")
HARMLESS = {
    "CTCBeamSearchDecoder": "top_paths is a number",
    "DecodeProtoV2": "descriptor_source is checked (operators.FILE_ATTRIBUTES)",
    "EncodeProto": "descriptor_source is checked (operators.FILE_ATTRIBUTES)",
    "FixedUnigramCandidateSampler": "vocab_file is checked (operators.FILE_ATTRIBUTES)",
    "RegexFullMatch": "pattern is a regular expression",
    "RegexReplace": "pattern is a regular expression",
    "StaticRegexFullMatch": "pattern is a regular expression",
    "StaticRegexReplace": "pattern is a regular expression",
    "TensorSliceDataset": "is_files says what the strings are, and opens none",
}


@pytest.fixture
def save(tmp_path: Path) -> Models:
    """Writes a SavedModel of functions, each a signature with the one input given."""

    def make(work: Callable[..., Any], spec: Any = TEXT, module: Any = None, **more: Callable[..., Any]) -> Path:
        module = module or tf.Module()
        module.signatures_kept = {
            name: tf.function(function, input_signature=[spec]).get_concrete_function()
            for name, function in {"serving_default": work, **more}.items()
        }
        folder = tmp_path / "model" / "1"
        tf.saved_model.save(module, str(folder), signatures=module.signatures_kept)
        return folder

    return make


def edit(folder: Path, change: Callable[[Any], None]) -> Path:
    """Changes the SavedModel's only MetaGraphDef as it lies on the disk."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = folder / inspection.FILE
    saved = SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString())
    return folder


def registered() -> list[Any]:
    from tensorflow.core.framework.op_def_pb2 import OpList
    from tensorflow.python.client import pywrap_tf_session

    return list(OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())).op)


def passes(name: str) -> bool:
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    return operators.is_known(name) and not operators.refusal_reason(NodeDef(op=name))


def test_every_stateful_operator_that_may_run_has_been_reviewed() -> None:
    """The allowlist has wildcards, so a new TensorFlow may have an operator that matches and accesses files or the
    network. Read what it does: then add it to REVIEWED, or change operators.STATEFUL_ALLOWLIST to refuse it."""
    reviewed = {name for names in REVIEWED.values() for name in names.split()}
    allowed = {op.name for op in registered() if op.is_stateful and passes(op.name)}
    assert allowed - reviewed == set(), "allowed, but never reviewed"
    assert reviewed - allowed == set(), "reviewed as harmless, but refused"


def test_no_operator_may_run_whose_arguments_suggest_files_addresses_or_code() -> None:
    suspicious = {
        op.name: [a.name for a in (*op.input_arg, *op.attr) if SUSPICIOUS.search(a.name)]
        for op in registered()
        if passes(op.name)
    }
    assert {name: arguments for name, arguments in suspicious.items() if arguments and name not in HARMLESS} == {}


def test_the_denylist_names_existing_operators() -> None:
    names = {op.name for op in registered()}
    for part in "|".join(operators.DENYLIST.values()).split("|"):
        assert any(re.fullmatch(part, name) for name in names), part
    assert set(operators.FILE_ATTRIBUTES) <= names


def read_file(text: Any) -> dict[str, Any]:
    return {"y": tf.map_fn(tf.io.read_file, text)}


def write_file(text: Any) -> dict[str, Any]:
    with tf.control_dependencies([tf.io.write_file(text[0], "x")]):
        return {"y": tf.identity(text)}


def list_files(text: Any) -> dict[str, Any]:
    return {"y": tf.io.matching_files(text)}


def run_python(text: Any) -> dict[str, Any]:
    return {"y": tf.ensure_shape(tf.py_function(lambda t: t, [text], tf.string), [None])}


def run_numpy(text: Any) -> dict[str, Any]:
    return {"y": tf.ensure_shape(tf.numpy_function(lambda t: t, [text], tf.string), [None])}


def run_stateless_numpy(text: Any) -> dict[str, Any]:
    return {"y": tf.ensure_shape(tf.numpy_function(lambda t: t, [text], tf.string, stateful=False), [None])}


def read_lines(text: Any) -> dict[str, Any]:
    lines = tf.data.TextLineDataset(text).reduce(tf.constant(""), lambda a, b: tf.strings.join([a, b]))
    return {"y": lines[tf.newaxis]}


def read_records(text: Any) -> dict[str, Any]:
    records = tf.data.TFRecordDataset(text).reduce(tf.constant(""), lambda a, b: tf.strings.join([a, b]))
    return {"y": records[tf.newaxis]}


def print_to_file(text: Any) -> dict[str, Any]:
    with tf.control_dependencies([tf.print("x", output_stream="file:///tmp/never")]):
        return {"y": tf.identity(text)}


def restore(text: Any) -> dict[str, Any]:
    return {"y": tf.raw_ops.RestoreV2(prefix=text[0], tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string])[0]}


def save_variables(text: Any) -> dict[str, Any]:
    saved = tf.raw_ops.SaveV2(prefix=text[0], tensor_names=["a"], shape_and_slices=[""], tensors=[text])
    with tf.control_dependencies([saved]):
        return {"y": tf.identity(text)}


def end_the_process(text: Any) -> dict[str, Any]:
    with tf.control_dependencies([tf.raw_ops.Abort()]):
        return {"y": tf.identity(text)}


def map_memory(text: Any) -> dict[str, Any]:
    memory = tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[1], memory_region_name="/etc/passwd")
    return {"y": tf.strings.as_string(memory)}


def in_a_branch(text: Any) -> dict[str, Any]:
    return {"y": tf.cond(tf.size(text) > 3, lambda: tf.map_fn(tf.io.read_file, text), lambda: text)}


def in_a_loop(text: Any) -> dict[str, Any]:
    def body(i: Any, y: Any) -> Any:
        return i + 1, y + tf.io.read_file(text[0])

    return {"y": tf.while_loop(lambda i, y: i < 3, body, (0, text))[1]}


def in_a_data_set(text: Any) -> dict[str, Any]:
    read = tf.data.Dataset.from_tensor_slices(text).map(tf.io.read_file)
    return {"y": read.reduce(tf.constant(""), lambda a, b: tf.strings.join([a, b]))[tf.newaxis]}


def by_protobuf(text: Any) -> dict[str, Any]:
    _, values = tf.io.decode_proto(text, "m.M", ["x"], [tf.string], descriptor_source="/etc/descriptors")
    return {"y": values[0]}


@pytest.mark.parametrize(
    ("work", "operator"),
    [
        (read_file, "ReadFile"),
        (write_file, "WriteFile"),
        (list_files, "MatchingFiles"),
        (run_python, "EagerPyFunc"),
        (run_numpy, "PyFunc"),
        (run_stateless_numpy, "PyFuncStateless"),
        (read_lines, "TextLineDataset"),
        (read_records, "TFRecordDataset"),
        (print_to_file, "PrintV2"),
        (restore, "RestoreV2"),
        (save_variables, "SaveV2"),
        (end_the_process, "Abort"),
        (map_memory, "ImmutableConst"),
        (in_a_branch, "ReadFile"),
        (in_a_loop, "ReadFile"),
        (in_a_data_set, "ReadFile"),
        (by_protobuf, "DecodeProtoV2"),
    ],
)
def test_operators_that_reach_out_of_the_model_are_refused_wherever_they_are(
    save: Models, work: Callable[..., Any], operator: str
) -> None:
    folder = save(work, harmless=lambda text: {"y": tf.strings.upper(text)})
    with pytest.raises(ModelError, match=f"'serving_default' reaches operator {operator} .*--allow-op {operator}$"):
        inspection.inspect(folder)
    assert operator in inspection.inspect(folder, frozenset([operator])).operators["serving_default"]


def test_what_no_signature_reaches_is_neither_refused_nor_loaded(save: Models) -> None:
    module = tf.Module()
    module.other = tf.function(read_file, input_signature=[TEXT])
    folder = save(lambda text: {"y": tf.strings.upper(text)}, module=module)
    assert "ReadFile" in (folder / inspection.FILE).read_bytes().decode("latin-1")
    graph_def = inspection.inspect(folder).graph_def
    assert "ReadFile" not in graph_def.SerializeToString().decode("latin-1")
    assert load(folder, None, 1).predict("serving_default", {"text": strings(b"a")})["y"].tolist() == [b"A"]


def strings(*values: bytes) -> np.ndarray:
    return np.array(values, object)


def test_an_attribute_that_a_caller_fills_in_is_not_taken_for_harmless(save: Models) -> None:
    def work(text: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.print("x", output_stream="file:///tmp/never")]):
            return {"y": tf.identity(text)}

    def change(meta: Any) -> None:
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                if node.op == "PrintV2":
                    node.attr["output_stream"].placeholder = "stream"

    with pytest.raises(ModelError, match="PrintV2"):
        inspection.inspect(edit(save(work), change))


def test_functions_given_to_functions_are_followed(save: Models) -> None:
    def change(meta: Any) -> None:
        library = meta.graph_def.library
        hostile = library.function.add()
        hostile.signature.name = "hostile"
        hostile.node_def.add(name="read", op="ReadFile")
        for node in meta.graph_def.node:
            if node.op == "PartitionedCall":
                node.attr["f"].func.attr["work"].func.name = "hostile"

    folder = edit(save(lambda text: {"y": tf.strings.upper(text)}), change)
    with pytest.raises(ModelError, match=r"ReadFile .*function 'hostile'"):
        inspection.inspect(folder)


# ---- files that belong to a version


@pytest.fixture
def vocabulary(save: Models, tmp_path: Path) -> Path:
    """A model that looks words up in a file that is its own asset."""
    words = tmp_path / "words.txt"
    words.write_text("anchor\nbuoy\n")
    module = tf.Module()
    initializer = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    folder = save(lambda text: {"y": module.table.lookup(text)}, module=module)
    words.unlink()
    return folder


def test_a_table_is_read_from_the_versions_own_asset(vocabulary: Path) -> None:
    model = inspection.inspect(vocabulary)
    assert list(model.assets.values()) == [str(vocabulary / "assets" / "words.txt")]
    answers = load(vocabulary, None, 1).predict("serving_default", {"text": strings(b"buoy", b"anchor", b"x")})
    assert answers["y"].tolist() == [1, 0, -1]


def into_collection(meta: Any) -> None:
    """Moves the assets to where TensorFlow 1 writes them."""
    for asset in meta.asset_file_def:
        meta.collection_def["saved_model_assets"].any_list.value.add().Pack(asset)
    del meta.asset_file_def[:]


def test_so_it_is_as_tensorflow_1_lists_assets(vocabulary: Path) -> None:
    assert edit(vocabulary, into_collection) == vocabulary
    test_a_table_is_read_from_the_versions_own_asset(vocabulary)

    def damage(meta: Any) -> None:
        meta.collection_def["saved_model_assets"].any_list.value[0].value = b"\x0a\x7f"

    with pytest.raises(ModelError, match="saved_model_assets is damaged"):
        inspection.inspect(edit(vocabulary, damage))


@pytest.mark.parametrize("name", ["/etc/passwd", "../../other.txt", "nul\0"])
@pytest.mark.parametrize("era", [1, 2])
def test_an_asset_outside_the_folder_is_refused(vocabulary: Path, tmp_path: Path, name: str, era: int) -> None:
    (tmp_path / "model" / "other.txt").write_text("secret\n")

    def change(meta: Any) -> None:
        meta.asset_file_def[0].filename = name
        if era == 1:
            into_collection(meta)

    with pytest.raises(ModelError, match=r"leads out of|cannot be followed"):
        inspection.inspect(edit(vocabulary, change))


@pytest.mark.parametrize("name", ["../saved_model.pb/x", "other.txt"])
def test_a_missing_asset_is_an_error_if_the_model_reads_it(vocabulary: Path, name: str) -> None:
    def change(meta: Any) -> None:
        meta.asset_file_def.add().CopyFrom(meta.asset_file_def[0])
        meta.asset_file_def[1].filename, meta.asset_file_def[1].tensor_info.name = name, "unused:0"
        meta.graph_def.node.add(name="unused", op="Placeholder").attr["dtype"].type = tf.string.as_datatype_enum

    def swap(meta: Any) -> None:
        meta.asset_file_def[0].filename = name

    assert load(edit(vocabulary, change), None, 1)
    with pytest.raises(ModelError, match=r"the SavedModel cannot be loaded.*assets/"):
        load(edit(vocabulary, swap), None, 1)


def test_links_out_of_the_folder_are_refused(vocabulary: Path, save: Models, tmp_path: Path) -> None:
    asset = vocabulary / "assets" / "words.txt"
    asset.rename(tmp_path / "elsewhere.txt")
    asset.symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(ModelError, match=r"words\.txt: leads out of the version's folder"):
        inspection.inspect(vocabulary)


def test_variables_outside_the_folder_or_missing_are_refused(save: Models, tmp_path: Path) -> None:
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    folder = save(lambda x: {"y": x * module.weight}, X, module)
    assert load(folder, None, 1).predict("serving_default", {"x": np.float32([3])})["y"].tolist() == [6]
    data = next((folder / "variables").glob("variables.data-*"))
    data.rename(tmp_path / "data")
    data.symlink_to(tmp_path / "data")
    with pytest.raises(ModelError, match="leads out of the version's folder"):
        inspection.inspect(folder)
    for file in (folder / "variables").iterdir():
        file.unlink()
    with pytest.raises(ModelError, match="variables of this model are missing"):
        inspection.inspect(folder)


def test_initialization_reads_no_path_that_the_server_did_not_give(vocabulary: Path) -> None:
    def change(meta: Any) -> None:
        del meta.asset_file_def[:]

    with pytest.raises(
        ModelError, match=r"initialization reaches operator InitializeTableFromTextFileV2.*did not supply"
    ):
        inspection.inspect(edit(vocabulary, change))


def test_initialization_reads_no_path_that_another_handle_of_the_variable_could_set(vocabulary: Path) -> None:
    def change(meta: Any) -> None:
        nodes = meta.graph_def.node
        variable = next(n for n in nodes if n.op == "VarHandleOp")
        copy = nodes.add()
        copy.CopyFrom(variable)
        copy.name, copy.attr["shared_name"].s = "other", variable.attr["shared_name"].s or variable.name.encode()

    with pytest.raises(
        ModelError, match=r"initialization reaches operator InitializeTableFromTextFileV2.*did not supply"
    ):
        inspection.inspect(edit(vocabulary, change))


def test_restoring_reads_no_path_of_the_graphs_own(save: Models) -> None:
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    folder = save(lambda x: {"y": x * module.weight}, X, module)

    def change(meta: Any) -> None:
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                if node.op == "RestoreV2":
                    node.input[0] = node.input[1]  # the names of the variables, a constant

    with pytest.raises(ModelError, match=r"restore of variables reaches operator RestoreV2.*did not supply"):
        inspection.inspect(edit(folder, change))


# ---- graphs made to do harm


def test_files_that_are_no_savedmodel_are_told(save: Models) -> None:
    folder = save(lambda text: {"y": tf.strings.upper(text)})
    whole = (folder / inspection.FILE).read_bytes()
    for size in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        (folder / inspection.FILE).write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"saved_model\.pb"):
            inspection.inspect(folder)
    for text in (b"meta_graphs {", b"\xff", b"meta_graphs { meta_info_def { tags: 3 } }", b"1" * 100_000):
        (folder / inspection.FILE).unlink(missing_ok=True)
        (folder / inspection.TEXT_FILE).write_bytes(text)
        with pytest.raises(ModelError, match=r"saved_model\.pbtxt: not a SavedModel"):
            inspection.inspect(folder)
    (folder / inspection.TEXT_FILE).unlink()
    (folder / inspection.FILE).write_bytes(b"\x0a\x0a" * 100_000)
    with pytest.raises(ModelError, match=r"saved_model\.pb"):
        inspection.inspect(folder)
    (folder / inspection.FILE).unlink()
    with pytest.raises(ModelError, match="No such file"):
        inspection.inspect(folder)


def test_flipped_bytes_give_a_model_or_a_model_error(save: Models) -> None:
    folder = save(lambda text: {"y": tf.strings.upper(text)})
    whole = (folder / inspection.FILE).read_bytes()
    rng = np.random.default_rng(4)
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(256)
        (folder / inspection.FILE).write_bytes(data)
        try:
            inspection.inspect(folder)
        except ModelError:
            continue


def test_a_graph_for_something_else_than_serving_is_told(save: Models) -> None:
    folder = edit(save(lambda x: {"y": x}, X), lambda meta: meta.meta_info_def.tags.append("gpu"))
    with pytest.raises(ModelError, match=r"no graph has the tag 'serve', only \[\['gpu', 'serve'\]\]"):
        inspection.inspect(folder)


def add_functions(meta: Any, calls: dict[str, list[str]]) -> None:
    """Functions that call each other; the graph's first call goes to the first."""
    for name, called in calls.items():
        function = meta.graph_def.library.function.add()
        function.signature.name = name
        for i, other in enumerate(called):
            function.node_def.add(name=f"call_{i}", op="PartitionedCall").attr["f"].func.name = other
    next(n for n in meta.graph_def.node if n.op == "PartitionedCall").attr["f"].func.name = next(iter(calls))


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ({"a": ["a"]}, "function 'a', which calls itself"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "function 'a', which calls itself"),
        ({"a": ["nowhere"]}, "calls function 'nowhere', which is missing"),
        ({f"f{i}": [f"f{i + 1}"] * 2 for i in range(60)} | {"f60": []}, "more than 4000000 nodes"),
        ({f"f{i}": [f"f{i + 1}"] for i in range(20_000)} | {"f20000": ["f0"]}, "function 'f0', which calls itself"),
    ],
)
def test_functions_that_would_never_end_are_refused(save: Models, calls: dict[str, list[str]], said: str) -> None:
    folder = edit(save(lambda text: {"y": tf.strings.upper(text)}), lambda meta: add_functions(meta, calls))
    with pytest.raises(ModelError, match=said):
        inspection.inspect(folder)


def test_contradictions_are_told(save: Models) -> None:
    folder = save(lambda text: {"y": tf.strings.upper(text)})
    whole = (folder / inspection.FILE).read_bytes()

    def unknown(meta: Any) -> None:
        meta.graph_def.node.add(name="mine", op="MyOwnOp")
        next(n for n in meta.graph_def.node if n.op == "PartitionedCall").input.append("^mine")

    def internal(meta: Any) -> None:
        meta.graph_def.node.add(name="mine", op="_Recv")
        next(n for n in meta.graph_def.node if n.op == "PartitionedCall").input.append("^mine")

    def missing(meta: Any) -> None:
        meta.signature_def["serving_default"].outputs["y"].name = "nowhere:0"

    def twice(meta: Any) -> None:
        meta.graph_def.node.add(name=meta.graph_def.node[0].name, op="NoOp")

    def no_input(meta: Any) -> None:
        meta.signature_def["serving_default"].inputs["text"].name = "nowhere:0"

    def no_signature(meta: Any) -> None:
        del meta.signature_def["serving_default"]

    for change, said in (
        (unknown, "operator 'MyOwnOp', which this TensorFlow does not know"),
        (internal, "operator '_Recv', which this TensorFlow does not know"),
        (missing, "needs node 'nowhere', which is missing"),
        (twice, "two nodes or two functions have the same name"),
        (no_input, "'nowhere:0' is to be fed, but is missing"),
        (no_signature, "no signature to call"),
    ):
        (folder / inspection.FILE).write_bytes(whole)
        with pytest.raises(ModelError, match=said):
            inspection.inspect(edit(folder, change))


def test_a_signature_may_be_fed_in_the_middle_of_a_graph_that_reads_files(save: Models) -> None:
    """As graphs of TensorFlow 1 are, whose input comes from a reader while they are trained."""

    def change(meta: Any) -> None:
        nodes = meta.graph_def.node
        nodes.add(name="path", op="Const").attr["dtype"].type = tf.string.as_datatype_enum
        nodes.add(name="read", op="ReadFile", input=["path"])
        upper = nodes.add(name="upper", op="StringUpper", input=["read"])
        upper.attr["encoding"].s = b""
        lower = nodes.add(name="lower", op="StringLower", input=["upper", "^upper"][:1])
        lower.attr["encoding"].s = b""
        signature = meta.signature_def["serving_default"]
        signature.inputs["text"].name, signature.outputs["y"].name = "upper:0", "lower:0"

    folder = edit(save(lambda text: {"y": tf.strings.upper(text)}), change)
    assert load(folder, None, 1).predict("serving_default", {"text": strings(b"AB")})["y"].tolist() == [b"ab"]


def test_names_of_tensors() -> None:
    assert [graphs.node_of(name) for name in ("^a", "a", "a:0", "a:output:0")] == ["a"] * 4
    assert [graphs.full_name(name) for name in ("a", "a:0", "a:1")] == ["a:0", "a:0", "a:1"]
