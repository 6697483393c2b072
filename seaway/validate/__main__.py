"""`python -m seaway.validate`: see seaway/validate/validate.py."""

import argparse
from pathlib import Path

from seaway.errors import exit_with_message

PROGRAM = "python -m seaway.validate"
with exit_with_message(PROGRAM):  # which says what to install where an import fails
    from seaway.validate.validate import validate

EXAMPLE = """\
example:
  python -m seaway.validate --onnx onnx/ --saved-model saved_model/ --dataset dataset/ \\
      --parity parity/ --report parity.html
"""


def main() -> None:
    """Reads the command line and validates."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Proves ONNX Runtime and the SavedModel equal to PyTorch, or refuses and exits with status 1.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="DIR", help="the export stage's folder")
    parser.add_argument("--saved-model", type=Path, required=True, metavar="DIR", help="the convert stage's folder")
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="also compare and score the whole test set of it")
    parser.add_argument(
        "--parity", type=Path, required=True, metavar="OUT", help="the folder to make where all is well"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="the HTML report, written even where it refuses")
    given = parser.parse_args()
    with exit_with_message(PROGRAM):
        card = validate(given.onnx, given.saved_model, given.dataset, given.parity, given.report)
        print(f"validate: {card.name} is equal at every hop; max |Δ| {card.metrics['max_abs']:.2g}; {given.parity}")


if __name__ == "__main__":
    main()
