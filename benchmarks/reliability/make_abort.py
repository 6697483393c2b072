"""Writes a SavedModel that returns x/2, and aborts its process if any x is below 0; run as a program."""

import sys
from typing import Any

from seaway.tensorflow_import import import_tensorflow

tf = import_tensorflow()


class Aborting(tf.Module):  # type: ignore[misc, name-defined]
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def serve(self, x: Any) -> dict[str, Any]:
        def abort() -> Any:
            with tf.control_dependencies([tf.raw_ops.Abort(error_msg="x < 0", exit_without_error=False)]):
                return tf.identity(x)

        return {"y": tf.cond(tf.reduce_any(x < 0), abort, lambda: x / 2)}


module = Aborting()
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.serve})
