"""`python -m seaway.convert`: see seaway/convert/convert.py."""

import argparse
from pathlib import Path

from seaway.arguments import ArgumentParser
from seaway.errors import exit_with_message

PROGRAM = "python -m seaway.convert"
with exit_with_message(PROGRAM):  # if an import fails, it says what to install
    from seaway.convert.convert import CONVERTERS, DEFAULT_CONVERTER, convert, convert_artifact

EXAMPLE = """\
examples:
  python -m seaway.convert --onnx onnx/ --saved-model saved_model/
  python -m seaway.convert model.onnx saved_model/     (a bare ONNX file, without card.json)
"""


def main() -> None:
    """Reads the command line and converts."""
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Converts an ONNX model to a TensorFlow SavedModel.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", type=Path, help="a bare .onnx file, instead of --onnx")
    parser.add_argument("folder", nargs="?", type=Path, help="the folder for its SavedModel, instead of --saved-model")
    parser.add_argument("--onnx", type=Path, metavar="DIR", help="the export stage's folder: model.onnx and card.json")
    parser.add_argument("--saved-model", type=Path, metavar="OUT", help="the folder to write, e.g. saved_model/")
    parser.add_argument(
        "--converter", default=DEFAULT_CONVERTER, choices=CONVERTERS, help="the converter (default: %(default)s)"
    )
    arguments = parser.parse_args()
    source, target = arguments.onnx or arguments.model, arguments.saved_model or arguments.folder
    if not source or not target:
        parser.error("give an ONNX model and the folder for its SavedModel, as in the examples (--help)")
    with exit_with_message(PROGRAM):
        (convert_artifact if source.is_dir() else convert)(source, target, arguments.converter)


if __name__ == "__main__":
    main()
