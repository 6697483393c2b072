"""`python -m seaway.run_summary --run ID --namespace NS`"""

from pathlib import Path

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.run_summary.run_summary import run_summary

PROGRAM = "python -m seaway.run_summary"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Reports which stages of a Kubeflow run failed or cannot start, why, and the end of their logs.",
        epilog=f"example: {PROGRAM} --run 0f1e2d3c-aaaa-bbbb-cccc-0123456789ab --namespace kubeflow",
    )
    parser.add_argument("--run", required=True, metavar="ID", help="the run's ID, as printed by seaway submit")
    parser.add_argument("--namespace", required=True, metavar="NS", help="namespace of the run's pods")
    parser.add_argument("--state", default="", help="the run's state according to Kubeflow, e.g. FAILED")
    parser.add_argument("--report", type=Path, help="also write the summary to this file, as Markdown")
    args = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        run_summary(args.run, args.state, args.report, args.namespace)


if __name__ == "__main__":
    main()
