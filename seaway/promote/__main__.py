"""`python -m seaway.promote --volume DIR --name NAME --version N [--evidence DIR]`, and `--rollback`"""

import argparse
from pathlib import Path

from seaway import errors
from seaway.promote.promote import LABEL, promote
from seaway.promote.rollback import rollback

PROGRAM = "python -m seaway.promote"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=f"Makes a version {LABEL!r}: the one that answers whoever asks for none. Refuses without evidence.",
        epilog=f"{PROGRAM} --volume models --name characters --version 3",
    )
    parser.add_argument("--volume", type=Path, required=True, metavar="DIR", help="the model volume")
    parser.add_argument("--name", required=True, help="the model, e.g. characters")
    parser.add_argument("--version", type=int, metavar="N", help="the version to promote, e.g. 3")
    parser.add_argument("--evidence", type=Path, metavar="DIR", help="what load wrote (default: the newest there is)")
    parser.add_argument(
        "--rollback", action="store_true", help=f"back to what was {LABEL} before, or to a --version that once was"
    )
    parser.add_argument("--namespace", default="", metavar="NS", help="roll it out in this namespace of the cluster")
    parser.add_argument("--context", default="", help="of kubectl's configuration (default: the current one)")
    given = parser.parse_args()
    if given.version is None and not given.rollback:
        parser.error("the following arguments are required: --version")
    with errors.exit_with_message(PROGRAM):
        if given.rollback:
            rollback(given.volume, given.name, given.version, given.namespace, given.context)
        else:
            promote(given.volume, given.name, given.version, given.evidence, given.namespace, given.context)


if __name__ == "__main__":
    main()
