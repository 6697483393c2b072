"""`python -m seaway.publish --onnx DIR --saved-model DIR --parity DIR --volume DIR [--name NAME]`"""

import argparse
from pathlib import Path

from seaway import errors
from seaway.publish.publish import publish

PROGRAM = "python -m seaway.publish"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Publishes a validated model as the next version in the volume; prints the version's number last.",
        epilog=f"{PROGRAM} --onnx work/onnx --saved-model work/saved_model --parity work/parity --volume models",
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="DIR", help="what export wrote: work/onnx")
    parser.add_argument("--saved-model", type=Path, required=True, metavar="DIR", help="what convert wrote")
    parser.add_argument("--parity", type=Path, required=True, metavar="DIR", help="what validate wrote for these two")
    parser.add_argument("--volume", type=Path, required=True, metavar="DIR", help="the volume, an existing folder")
    parser.add_argument("--name", help="the model's name in the volume and in URLs (default: as on the card)")
    given = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        print(publish(given.onnx, given.saved_model, given.parity, given.volume, given.name))


if __name__ == "__main__":
    main()
