"""Message classes of the gRPC services.

Files, names and numbers are those of TensorFlow 2.21, TensorFlow Serving 2.20, the Open Inference Protocol (with
Triton's two further kinds of parameters), and gRPC's health and reflection services. Left out: resources, variants and
composite tensors inside TensorProto and TensorInfo, the options of streamed predictions, and the reload of
configurations; a parser skips them as unknown fields.
"""

from typing import Any

from seaway.protocols import descriptors

_FILES: descriptors.Files = {
    "tensorflow/core/framework/types.proto": (
        "tensorflow",
        (),
        """
        enum DataType
            0 DT_INVALID
            1 DT_FLOAT
            2 DT_DOUBLE
            3 DT_INT32
            4 DT_UINT8
            5 DT_INT16
            6 DT_INT8
            7 DT_STRING
            8 DT_COMPLEX64
            9 DT_INT64
            10 DT_BOOL
            11 DT_QINT8
            12 DT_QUINT8
            13 DT_QINT32
            14 DT_BFLOAT16
            15 DT_QINT16
            16 DT_QUINT16
            17 DT_UINT16
            18 DT_COMPLEX128
            19 DT_HALF
            20 DT_RESOURCE
            21 DT_VARIANT
            22 DT_UINT32
            23 DT_UINT64
        """,
    ),
    "tensorflow/core/framework/tensor_shape.proto": (
        "tensorflow",
        (),
        """
        message TensorShapeProto
            2 dim TensorShapeProto.Dim*
            3 unknown_rank bool
        message TensorShapeProto.Dim
            1 size int64
            2 name string
        """,
    ),
    "tensorflow/core/framework/tensor.proto": (
        "tensorflow",
        ("tensorflow/core/framework/types.proto", "tensorflow/core/framework/tensor_shape.proto"),
        """
        message TensorProto
            1 dtype DataType
            2 tensor_shape TensorShapeProto
            3 version_number int32
            4 tensor_content bytes
            5 float_val float*
            6 double_val double*
            7 int_val int32*
            8 string_val bytes*
            9 scomplex_val float*
            10 int64_val int64*
            11 bool_val bool*
            12 dcomplex_val double*
            13 half_val int32*
            16 uint32_val uint32*
            17 uint64_val uint64*
        """,
    ),
    "tensorflow/core/protobuf/meta_graph.proto": (
        "tensorflow",
        (
            "tensorflow/core/framework/types.proto",
            "tensorflow/core/framework/tensor_shape.proto",
            "tensorflow/core/framework/tensor.proto",
        ),
        """
        message TensorInfo
            1 name string|encoding
            4 coo_sparse TensorInfo.CooSparse|encoding
            2 dtype DataType
            3 tensor_shape TensorShapeProto
        message TensorInfo.CooSparse
            1 values_tensor_name string
            2 indices_tensor_name string
            3 dense_shape_tensor_name string
        message SignatureDef
            1 inputs {TensorInfo
            2 outputs {TensorInfo
            3 method_name string
            4 defaults {TensorProto
        """,
    ),
    "tensorflow/core/example/feature.proto": (
        "tensorflow",
        (),
        """
        message BytesList
            1 value bytes*
        message FloatList
            1 value float*
        message Int64List
            1 value int64*
        message Feature
            1 bytes_list BytesList|kind
            2 float_list FloatList|kind
            3 int64_list Int64List|kind
        message Features
            1 feature {Feature
        """,
    ),
    "tensorflow/core/example/example.proto": (
        "tensorflow",
        ("tensorflow/core/example/feature.proto",),
        """
        message Example
            1 features Features
        """,
    ),
    "tensorflow_serving/apis/model.proto": (
        "tensorflow.serving",
        ("google/protobuf/wrappers.proto",),
        """
        message ModelSpec
            1 name string
            2 version google.protobuf.Int64Value|version_choice
            4 version_label string|version_choice
            3 signature_name string
        """,
    ),
    "tensorflow_serving/apis/predict.proto": (
        "tensorflow.serving",
        ("tensorflow/core/framework/tensor.proto", "tensorflow_serving/apis/model.proto"),
        """
        message PredictRequest
            1 model_spec ModelSpec
            2 inputs {tensorflow.TensorProto
            3 output_filter string*
        message PredictResponse
            2 model_spec ModelSpec
            1 outputs {tensorflow.TensorProto
        """,
    ),
    "tensorflow_serving/apis/input.proto": (
        "tensorflow.serving",
        ("tensorflow/core/example/example.proto",),
        """
        message ExampleList
            1 examples tensorflow.Example*
        message ExampleListWithContext
            1 examples tensorflow.Example*
            2 context tensorflow.Example
        message Input
            1 example_list ExampleList|kind
            2 example_list_with_context ExampleListWithContext|kind
        """,
    ),
    "tensorflow_serving/apis/classification.proto": (
        "tensorflow.serving",
        ("tensorflow_serving/apis/input.proto", "tensorflow_serving/apis/model.proto"),
        """
        message Class
            1 label string
            2 score float
        message Classifications
            1 classes Class*
        message ClassificationResult
            1 classifications Classifications*
        message ClassificationRequest
            1 model_spec ModelSpec
            2 input Input
        message ClassificationResponse
            2 model_spec ModelSpec
            1 result ClassificationResult
        """,
    ),
    "tensorflow_serving/apis/regression.proto": (
        "tensorflow.serving",
        ("tensorflow_serving/apis/input.proto", "tensorflow_serving/apis/model.proto"),
        """
        message Regression
            1 value float
        message RegressionResult
            1 regressions Regression*
        message RegressionRequest
            1 model_spec ModelSpec
            2 input Input
        message RegressionResponse
            2 model_spec ModelSpec
            1 result RegressionResult
        """,
    ),
    "tensorflow_serving/apis/inference.proto": (
        "tensorflow.serving",
        (
            "tensorflow_serving/apis/classification.proto",
            "tensorflow_serving/apis/input.proto",
            "tensorflow_serving/apis/model.proto",
            "tensorflow_serving/apis/regression.proto",
        ),
        """
        message InferenceTask
            1 model_spec ModelSpec
            2 method_name string
        message InferenceResult
            1 model_spec ModelSpec
            2 classification_result ClassificationResult|result
            3 regression_result RegressionResult|result
        message MultiInferenceRequest
            1 tasks InferenceTask*
            2 input Input
        message MultiInferenceResponse
            1 results InferenceResult*
        """,
    ),
    "tensorflow_serving/apis/get_model_metadata.proto": (
        "tensorflow.serving",
        (
            "google/protobuf/any.proto",
            "tensorflow/core/protobuf/meta_graph.proto",
            "tensorflow_serving/apis/model.proto",
        ),
        """
        message SignatureDefMap
            1 signature_def {tensorflow.SignatureDef
        message GetModelMetadataRequest
            1 model_spec ModelSpec
            2 metadata_field string*
        message GetModelMetadataResponse
            1 model_spec ModelSpec
            2 metadata {google.protobuf.Any
        """,
    ),
    "tensorflow_serving/apis/prediction_service.proto": (
        "tensorflow.serving",
        (
            "tensorflow_serving/apis/classification.proto",
            "tensorflow_serving/apis/get_model_metadata.proto",
            "tensorflow_serving/apis/inference.proto",
            "tensorflow_serving/apis/predict.proto",
            "tensorflow_serving/apis/regression.proto",
        ),
        """
        service PredictionService
            Classify ClassificationRequest ClassificationResponse
            Regress RegressionRequest RegressionResponse
            Predict PredictRequest PredictResponse
            MultiInference MultiInferenceRequest MultiInferenceResponse
            GetModelMetadata GetModelMetadataRequest GetModelMetadataResponse
        """,
    ),
    "tensorflow_serving/apis/status.proto": (
        "tensorflow.serving",
        (),
        """
        message StatusProto
            1 error_code int32
            2 error_message string
        """,
    ),
    "tensorflow_serving/apis/get_model_status.proto": (
        "tensorflow.serving",
        ("tensorflow_serving/apis/model.proto", "tensorflow_serving/apis/status.proto"),
        """
        message GetModelStatusRequest
            1 model_spec ModelSpec
        message ModelVersionStatus
            1 version int64
            2 state ModelVersionStatus.State
            3 status StatusProto
        enum ModelVersionStatus.State
            0 UNKNOWN
            10 START
            20 LOADING
            30 AVAILABLE
            40 UNLOADING
            50 END
        message GetModelStatusResponse
            1 model_version_status ModelVersionStatus*
        """,
    ),
    "tensorflow_serving/apis/model_service.proto": (
        "tensorflow.serving",
        ("tensorflow_serving/apis/get_model_status.proto",),
        """
        service ModelService
            GetModelStatus GetModelStatusRequest GetModelStatusResponse
        """,
    ),
    "grpc_service.proto": (
        "inference",
        (),
        """
        message ServerLiveRequest
        message ServerLiveResponse
            1 live bool
        message ServerReadyRequest
        message ServerReadyResponse
            1 ready bool
        message ModelReadyRequest
            1 name string
            2 version string
        message ModelReadyResponse
            1 ready bool
        message ServerMetadataRequest
        message ServerMetadataResponse
            1 name string
            2 version string
            3 extensions string*
        message ModelMetadataRequest
            1 name string
            2 version string
        message ModelMetadataResponse
            1 name string
            2 versions string*
            3 platform string
            4 inputs ModelMetadataResponse.TensorMetadata*
            5 outputs ModelMetadataResponse.TensorMetadata*
            6 properties {string
        message ModelMetadataResponse.TensorMetadata
            1 name string
            2 datatype string
            3 shape int64*
        message InferParameter
            1 bool_param bool|parameter_choice
            2 int64_param int64|parameter_choice
            3 string_param string|parameter_choice
            4 double_param double|parameter_choice
            5 uint64_param uint64|parameter_choice
        message InferTensorContents
            1 bool_contents bool*
            2 int_contents int32*
            3 int64_contents int64*
            4 uint_contents uint32*
            5 uint64_contents uint64*
            6 fp32_contents float*
            7 fp64_contents double*
            8 bytes_contents bytes*
        message ModelInferRequest
            1 model_name string
            2 model_version string
            3 id string
            4 parameters {InferParameter
            5 inputs ModelInferRequest.InferInputTensor*
            6 outputs ModelInferRequest.InferRequestedOutputTensor*
            7 raw_input_contents bytes*
        message ModelInferRequest.InferInputTensor
            1 name string
            2 datatype string
            3 shape int64*
            4 parameters {InferParameter
            5 contents InferTensorContents
        message ModelInferRequest.InferRequestedOutputTensor
            1 name string
            2 parameters {InferParameter
        message ModelInferResponse
            1 model_name string
            2 model_version string
            3 id string
            4 parameters {InferParameter
            5 outputs ModelInferResponse.InferOutputTensor*
            6 raw_output_contents bytes*
        message ModelInferResponse.InferOutputTensor
            1 name string
            2 datatype string
            3 shape int64*
            4 parameters {InferParameter
            5 contents InferTensorContents
        service GRPCInferenceService
            ServerLive ServerLiveRequest ServerLiveResponse
            ServerReady ServerReadyRequest ServerReadyResponse
            ModelReady ModelReadyRequest ModelReadyResponse
            ServerMetadata ServerMetadataRequest ServerMetadataResponse
            ModelMetadata ModelMetadataRequest ModelMetadataResponse
            ModelInfer ModelInferRequest ModelInferResponse
        """,
    ),
    "grpc/health/v1/health.proto": (
        "grpc.health.v1",
        (),
        """
        message HealthCheckRequest
            1 service string
        message HealthCheckResponse
            1 status HealthCheckResponse.ServingStatus
        enum HealthCheckResponse.ServingStatus
            0 UNKNOWN
            1 SERVING
            2 NOT_SERVING
            3 SERVICE_UNKNOWN
        service Health
            Check HealthCheckRequest HealthCheckResponse
            Watch HealthCheckRequest HealthCheckResponse*
        """,
    ),
    **{
        f"grpc/reflection/{version}/reflection.proto": (
            f"grpc.reflection.{version}",
            (),
            """
            message ServerReflectionRequest
                1 host string
                3 file_by_filename string|message_request
                4 file_containing_symbol string|message_request
                5 file_containing_extension ExtensionRequest|message_request
                6 all_extension_numbers_of_type string|message_request
                7 list_services string|message_request
            message ExtensionRequest
                1 containing_type string
                2 extension_number int32
            message ServerReflectionResponse
                1 valid_host string
                2 original_request ServerReflectionRequest
                4 file_descriptor_response FileDescriptorResponse|message_response
                5 all_extension_numbers_response ExtensionNumberResponse|message_response
                6 list_services_response ListServiceResponse|message_response
                7 error_response ErrorResponse|message_response
            message FileDescriptorResponse
                1 file_descriptor_proto bytes*
            message ExtensionNumberResponse
                1 base_type_name string
                2 extension_number int32*
            message ListServiceResponse
                1 service ServiceResponse*
            message ServiceResponse
                1 name string
            message ErrorResponse
                1 error_code int32
                2 error_message string
            service ServerReflection
                ServerReflectionInfo ServerReflectionRequest* ServerReflectionResponse*
            """,
        )
        for version in ("v1", "v1alpha")
    },
}

POOL = descriptors.pool(_FILES)
SERVICES = (
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


def message(name: str) -> Any:
    """The class of the message with this full name."""
    return descriptors.message(POOL, name)


def files(name: str, by_symbol: bool) -> list[bytes]:
    """The serialised file of this name, or with this symbol, and all that it imports. Raises KeyError."""
    first = POOL.FindFileContainingSymbol(name) if by_symbol else POOL.FindFileByName(name)
    found, waiting = dict[str, bytes](), [first]
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            found[file.name] = file.serialized_pb
            waiting += file.dependencies
    return list(found.values())
