"""Which of TensorFlow's operators a served model may use: those that touch no files, network or code.

The rule also holds for operators that a later TensorFlow brings: one that TensorFlow does not call stateful only
computes, but for those in REACHING; a stateful one is refused, but for those in STAYING.
"""

import re
from typing import Any

# Stateless as TensorFlow sees it, but reaching out of the model: why → full names as regular expressions
REACHING = {
    "reads or writes files": (
        "ReadFile|MatchingFiles|ImmutableConst|GenerateVocabRemapping|InitializeTableFromTextFile|CacheDataset"
        "|Snapshot.+"
    ),
    "talks to other machines": "RegisterDataset(V2)?|DebugIdentity|DebugNanCount|DebugNumericSummary|Copy(Host)?",
    "runs code that this check cannot read": (
        "PyFuncStateless|DatasetFromGraph|MlirPassthroughOp|XlaCustomCall(V2)?|XlaLaunch.*|TPU.*|Infeed.*"
    ),
    "ends or holds up the process": "Abort|.*SleepDataset|Barrier.*|Queue.*|Reader.*",
}

# Stateful, but staying within the model
STAYING = re.compile(
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
    # chance
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
# An attribute that makes a harmless operator reach a file: operator → attribute, and values that do not
SINKS = {
    "FixedUnigramCandidateSampler": ("vocab_file", re.compile("")),
    "PrintV2": ("output_stream", re.compile("stdout|stderr|log\\((info|warning|error)\\)|")),
    "DecodeProtoV2": ("descriptor_source", re.compile("local://|bytes://.*|", re.DOTALL)),
    "EncodeProto": ("descriptor_source", re.compile("local://|bytes://.*|", re.DOTALL)),
}

# They end the process on inputs of a rank, or with sizes, that they do not expect; benchmarks/abort_hunt.py finds them
ENDING = re.compile(
    "Conv2D|Conv3D|DepthwiseConv2dNative|MaxPool3D|CombinedNonMaxSuppression|ScatterNd|RaggedGather|Qr"
    "|TensorScatter(Update|Add|Sub|Max|Min)|MatrixDiagPartV3|EncodePng"
)


def known(operator: str) -> bool:
    """Whether a graph on disk may name it; those with an underscore are made by TensorFlow as it runs."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(operator) is not None and not operator.startswith("_")


def why_refused(node: Any) -> str:
    """Why a node's operator, one of TensorFlow's, is refused, or ""."""
    from tensorflow.python.framework import op_def_registry

    for why, names in REACHING.items():
        if re.fullmatch(names, node.op):
            return why
    if op_def_registry.get(node.op).is_stateful and not STAYING.fullmatch(node.op):
        return "keeps a state or reaches out of the model (files, network, devices), and is not known to be harmless"
    if sink := SINKS.get(node.op):
        value = node.attr.get(sink[0], None)
        if value is not None and (value.WhichOneof("value") != "s" or not sink[1].fullmatch(value.s.decode("latin-1"))):
            return f"may reach a file through its {sink[0]}"
    return ""
