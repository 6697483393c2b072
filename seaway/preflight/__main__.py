"""`python -m seaway.preflight --namespace NS [--service-account NAME]`"""

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.preflight.preflight import preflight

PROGRAM = "python -m seaway.preflight"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Reports what a pipeline run would lack in a namespace, with the commands that fix it.",
        epilog=f"example: {PROGRAM} --namespace kubeflow --service-account pipeline-runner",
    )
    parser.add_argument(
        "--namespace", required=True, metavar="NS", help="namespace of the run's pods and the serving stack"
    )
    parser.add_argument(
        "--claim", default="seaway-models", help="PersistentVolumeClaim of the model repository (default: %(default)s)"
    )
    parser.add_argument(
        "--service-account", default="", metavar="NAME", help="the run's ServiceAccount (default: the caller's)"
    )
    parser.add_argument(
        "--no-serving", action="store_true", help="the run changes no Deployment (e.g. the ship pipeline)"
    )
    args = parser.parse_args()
    account = f"{args.namespace}:{args.service_account}" if args.service_account else ""
    with errors.exit_with_message(PROGRAM):
        preflight(args.claim, args.namespace, not args.no_serving, args.namespace, account)


if __name__ == "__main__":
    main()
