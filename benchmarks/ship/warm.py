"""What every network's process needs: imported once, by the process from which all others fork."""

import contextlib
import gc
import importlib

# In this order: TensorFlow's libraries must come after torchvision's and torch._dynamo's. `:` is followed by a function
# that imports.
IMPORTS = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "timm",
    "transformers",
    "einops",
    "onnxscript",
    "torch.onnx._internal.exporter._core",
    "seaway.export.export",
    "seaway.convert.convert",
    "seaway.validate.validate",
    "seaway.publish.publish",
    "benchmarks.ship.builders",
    "seaway.onnxruntime_import:import_onnxruntime",
    "seaway.tensorflow_import:import_tensorflow",
    "seaway.convert.native.net",
    "seaway.convert.signatures",
)

for each in IMPORTS:
    name, _, function = each.partition(":")
    with contextlib.suppress(ImportError):  # the process itself reports it, if it needs it
        imported = importlib.import_module(name)
        if function:
            getattr(imported, function)()
gc.freeze()  # so that garbage collection does not touch, and so copy, shared pages
