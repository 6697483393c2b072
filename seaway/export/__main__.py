"""python -m seaway.export --checkpoint checkpoint --dataset dataset --onnx onnx"""

import argparse
from pathlib import Path

from seaway import errors
from seaway.arguments import ArgumentParser

PROGRAM = "python -m seaway.export"
with errors.exit_with_message(PROGRAM):  # if an import fails, it says what to install
    from seaway.export import graph
    from seaway.export.export import export_checkpoint, export_model
    from seaway.export.wrap import ACTIVATIONS
    from seaway.nets.names import ONNX

EPILOG = f"""a checkpoint of the train stage:
  {PROGRAM} --checkpoint out/checkpoint --dataset out/dataset --onnx out/onnx

any PyTorch model, here one of torchvision's:
  {PROGRAM} --model python:torchvision.models:resnet18 --weights resnet18.pt --input 3x224x224 \\
      --labels imagenet.txt --onnx out/onnx

a model with two inputs, forward(self, numeric, category):
  {PROGRAM} --model python:shop.nets:churn --weights churn.pt --input numeric:6 --input category:3:int64 \\
      --activation sigmoid --golden examples.npz --onnx out/onnx

a model of texts of any length:
  {PROGRAM} --model python:texts.nets:tagger --input ids:L:int64 --size L=1..512 --onnx out/onnx
"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        PROGRAM,
        description="Exports a PyTorch model to ONNX, with golden examples of PyTorch's outputs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="a trained model: the train stage's folder")
    source.add_argument(
        "--model",
        help="python:MODULE:FUNCTION, a function that builds the model, e.g. python:nets:churn; or an .onnx file",
    )
    parser.add_argument(
        "--onnx", type=Path, required=True, help="the folder to write: model.onnx, golden.npz, card.json"
    )
    parser.add_argument(
        "--name", help="the model's name in the repository (default: characters, or the function's name)"
    )
    parser.add_argument("--dataset", type=Path, help="with --checkpoint: the dataset that it was trained on")
    user = parser.add_argument_group("with --model")
    user.add_argument(
        "--weights",
        type=Path,
        help="file written by torch.save(model.state_dict(), FILE) (default: as the function initializes them)",
    )
    user.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME:]SHAPE[:DTYPE]",
        help="shape of one input, without the batch dimension: 3x224x224, ids:128:int64, age:scalar; repeat for each; "
        "names are forward()'s parameters, or new names in their order",
    )
    user.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME=LOW..HIGH[:STEP]",
        help="range of an axis that --input names: L=1..512, side=64..512:32; repeat for each",
    )
    user.add_argument(
        "--no-batch", action="store_true", help="the inputs have no batch as their first axis; --input gives all axes"
    )
    user.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="[NEW=]NAME",
        help="an output to serve, and its new name; repeat for each (default: all)",
    )
    user.add_argument(
        "--labels", type=Path, help="a text file, one class per line, in the order of the model's outputs"
    )
    user.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="turns a classifier's logits into scores (default: softmax with --labels)",
    )
    user.add_argument("--golden", type=Path, help=".npz of real examples by input name (default: seeded random ones)")
    user.add_argument(
        "--exporter",
        choices=sorted(graph.EXPORTERS),
        help="of PyTorch's exporters, the torch.export one (dynamo), the tracing one (torchscript), or auto (default): "
        "the latter if the former's graph does not hold",
    )
    user.add_argument(
        "--second-opinion", action="store_true", help="also try the exporter that was not needed, and report the result"
    )
    parser.add_argument(
        "--converter",
        choices=("seaway", graph.ONNX_TF),
        default="seaway",
        help="that the model is for: onnx-tf takes older opsets only (default: seaway)",
    )
    return parser


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    if options.checkpoint:
        if not options.dataset:
            parser.error("--checkpoint needs --dataset, the dataset that it was trained on")
        names = (
            "weights",
            "input",
            "size",
            "no_batch",
            "output",
            "labels",
            "activation",
            "golden",
            "exporter",
            "second_opinion",
        )
        model_only = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
        if model_only:
            parser.error(f"{', '.join(model_only)} can only be used with --model")
    elif options.dataset or not (options.input or options.model.endswith(ONNX)):
        parser.error("--dataset needs --checkpoint" if options.dataset else "--model needs --input, e.g. 3x224x224")
    with errors.exit_with_message(PROGRAM):
        if options.checkpoint:
            metadata = export_checkpoint(
                options.checkpoint,
                options.dataset,
                options.onnx,
                name=options.name or "characters",
                converter=options.converter,
            )
        else:
            metadata = export_model(
                options.model,
                options.onnx,
                weights=options.weights,
                inputs=options.input,
                sizes=options.size,
                batch=not options.no_batch,
                outputs=options.output,
                labels=options.labels,
                activation=options.activation or "",
                golden=options.golden,
                name=options.name or "",
                exporter=options.exporter or "",
                second_opinion=options.second_opinion,
                converter=options.converter,
            )
        print(
            f"{options.onnx}: {metadata.name}, opset {metadata.settings['opset']}, "
            f"{len(metadata.weights)} weights checked"
        )


if __name__ == "__main__":
    main()
