"""ONNX Runtime in MLServer, as lean as possible: one thread, flat JSON in and out. Runs in MLServer's environment."""

import numpy as np
import onnxruntime
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput  # type: ignore[import-not-found]


class OnnxModel(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options, ["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        [tensor] = payload.inputs
        array = np.array(tensor.data.root, np.float32).reshape(tensor.shape)
        [scores] = self._session.run(["scores"], {tensor.name: array})
        output = ResponseOutput(name="scores", shape=scores.shape, datatype="FP32", data=scores.ravel().tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])
