"""Which TensorFlow operators a served model may use: those that do not access files, the network or code.

The rule also covers operators of later TensorFlow versions: operators that TensorFlow calls stateless only compute,
except those in DENYLIST; stateful ones are refused, except those in STATEFUL_ALLOWLIST.
"""

import re
from typing import Any

# Stateless according to TensorFlow, but unsafe: reason → full names as regular expressions
DENYLIST = {
    "reads or writes files": (
        "ReadFile|MatchingFiles|ImmutableConst|GenerateVocabRemapping|InitializeTableFromTextFile|CacheDataset"
        "|Snapshot.+"
    ),
    "talks to other machines": "RegisterDataset(V2)?|DebugIdentity|DebugNanCount|DebugNumericSummary|Copy(Host)?",
    "runs code that this check cannot read": (
        "PyFuncStateless|DatasetFromGraph|MlirPassthroughOp|XlaCustomCall(V2)?|XlaLaunch.*|TPU.*|Infeed.*"
    ),
    "ends or blocks the process": "Abort|.*SleepDataset|Barrier.*|Queue.*|Reader.*",
}

# Stateful, but confined to the model
STATEFUL_ALLOWLIST = re.compile(
    # control flow, and checks
    "If|While|Case|StatefulPartitionedCall|Assert|CheckNumerics(V2)?|Print|PrintV2|GuaranteeConst|Timestamp|Empty"
    # variables
    "|VarHandleOp|Variable(V2)?|TemporaryVariable|VariableShape|ReadVariableOp|Assign(Add|Sub)?VariableOp"
    "|VarIsInitializedOp|DestroyResourceOp|DisableCopyOnRead|DeepCopy"
    "|Resource(Gather.*|Scatter.*|StridedSliceAssign|CountUpTo|Apply.*|SparseApply.*)"
    # tables
    "|(Anonymous|Mutable|AnonymousMutable)?(Dense)?HashTable(OfTensors)?(V2)?"
    "|LookupTable(Export|Find|Import|Insert|Remove|Size)V2|InitializeTableV2"
    # lists, stacks and maps
    "|TensorArray.*|Stack(Push|Pop|Close)?(V2)?|AddSparseToTensorsMap|AddManySparseToTensorsMap"
    "|TakeManySparseFromTensorsMap"
    # random numbers
    "|Random(StandardNormal|Uniform|UniformInt|Gamma|Poisson(V2)?|Shuffle|Crop)|TruncatedNormal|Multinomial"
    "|ParameterizedTruncatedNormal|Stateful(Uniform.*|StandardNormal.*|TruncatedNormal|RandomBinomial)"
    "|NonDeterministicInts|Rng(Skip|ReadAndSkip)|.*CandidateSampler|SampleDistortedBoundingBox(V2)?"
    "|StatelessRandomGetAlg|Anonymous(Random)?SeedGenerator|Delete(Random)?SeedGenerator|DummySeedGenerator"
    # data sets in memory
    "|(Tensor|TensorSlice|SparseTensorSlice|Range|Random|Reduce|GroupByReducer|Generator)Dataset(V2)?"
    "|ShuffleDataset(V2|V3)|ShuffleAndRepeatDatasetV2|DatasetToSingleElement|AnonymousIterator(V2|V3)?"
    "|Iterator(V2)?|OneShotIterator|MakeIterator|DeleteIterator|IteratorGetNext(Sync|AsOptional)?"
    # trees and recurrent nets
    "|BoostedTrees(EnsembleResourceHandleOp|CreateEnsemble|DeserializeEnsemble|Predict)"
    "|IsBoostedTreesEnsembleInitialized|CudnnRNN(V2|V3)?"
)
# Attributes through which an allowed operator could access a file: operator → attribute, and its safe values
FILE_ATTRIBUTES = {
    "FixedUnigramCandidateSampler": ("vocab_file", re.compile("")),
    "PrintV2": ("output_stream", re.compile("stdout|stderr|log\\((info|warning|error)\\)|")),
    "DecodeProtoV2": ("descriptor_source", re.compile("local://|bytes://.*|", re.DOTALL)),
    "EncodeProto": ("descriptor_source", re.compile("local://|bytes://.*|", re.DOTALL)),
}

# Operators that abort the process on inputs of an unexpected rank or size; benchmarks/abort_hunt.py finds them
CRASH_PRONE = re.compile(
    "Conv2D|Conv3D|DepthwiseConv2dNative|MaxPool3D|CombinedNonMaxSuppression|ScatterNd|RaggedGather|Qr"
    "|TensorScatter(Update|Add|Sub|Max|Min)|MatrixDiagPartV3|EncodePng"
)


def is_known(operator: str) -> bool:
    """Whether a graph on disk may contain it; names with a leading underscore are created only at run time."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(operator) is not None and not operator.startswith("_")


def refusal_reason(node: Any) -> str:
    """Why a node's operator, one of TensorFlow's, is refused, or ""."""
    from tensorflow.python.framework import op_def_registry

    for reason, names in DENYLIST.items():
        if re.fullmatch(names, node.op):
            return reason
    if op_def_registry.get(node.op).is_stateful and not STATEFUL_ALLOWLIST.fullmatch(node.op):
        return "keeps state or accesses files, the network or devices, and is not on the allowlist"
    if node.op in FILE_ATTRIBUTES:
        name, safe = FILE_ATTRIBUTES[node.op]
        value = node.attr.get(name, None)
        if value is not None and (value.WhichOneof("value") != "s" or not safe.fullmatch(value.s.decode("latin-1"))):
            return f"may access a file through its {name}"
    return ""
