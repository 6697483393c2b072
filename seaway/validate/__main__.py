"""`python -m seaway.validate`: see seaway/validate/validate.py."""

import argparse
from pathlib import Path

from seaway.arguments import ArgumentParser
from seaway.errors import exit_with_message

PROGRAM = "python -m seaway.validate"
with exit_with_message(PROGRAM):  # if an import fails, it says what to install
    from seaway.validate.validate import validate

EXAMPLE = """\
example:
  python -m seaway.validate --onnx onnx/ --saved-model saved_model/ --dataset dataset/ \\
      --parity parity/ --report parity.html
"""


def main() -> None:
    """Reads the command line and validates."""
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Checks that ONNX Runtime and the SavedModel give the golden outputs; if not, exits with status 1.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="DIR", help="the export stage's folder")
    parser.add_argument("--saved-model", type=Path, required=True, metavar="DIR", help="the convert stage's folder")
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="also compare and score its whole test set")
    parser.add_argument(
        "--parity", type=Path, required=True, metavar="OUT", help="the folder to write if all checks pass"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="the HTML report, written even if a check fails")
    arguments = parser.parse_args()
    with exit_with_message(PROGRAM):
        metadata = validate(
            arguments.onnx, arguments.saved_model, arguments.dataset, arguments.parity, arguments.report
        )
        print(
            f"validate: {metadata.name} matches {metadata.reference} in ONNX Runtime and TensorFlow; "
            f"max |Δ| {metadata.metrics['max_abs']:.2g}; wrote {arguments.parity}"
        )


if __name__ == "__main__":
    main()
