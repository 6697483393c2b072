"""`python -m seaway.outcome --run ID --namespace NS`"""

import argparse
from pathlib import Path

from seaway import errors
from seaway.outcome.outcome import outcome

PROGRAM = "python -m seaway.outcome"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Says which stages of a Kubeflow run failed or wait, why, and their last words, by their pods.",
        epilog=f"{PROGRAM} --run 0f1e2d3c-aaaa-bbbb-cccc-0123456789ab --namespace kubeflow",
    )
    parser.add_argument("--run", required=True, metavar="ID", help="the run's id, which seaway submit printed")
    parser.add_argument("--namespace", required=True, metavar="NS", help="where the run's pods are")
    parser.add_argument("--state", default="", help="what Kubeflow says of the run")
    parser.add_argument("--report", type=Path, help="write it there too, as Markdown")
    given = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        outcome(given.run, given.state, given.report, given.namespace)


if __name__ == "__main__":
    main()
