"""`python -m seaway.preflight --namespace NS [--service-account NAME]`"""

import argparse

from seaway import errors
from seaway.preflight.preflight import preflight

PROGRAM = "python -m seaway.preflight"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Says what a run of the pipeline would lack in a namespace, and the commands that fix it.",
        epilog=f"{PROGRAM} --namespace kubeflow --service-account pipeline-runner",
    )
    parser.add_argument("--namespace", required=True, metavar="NS", help="where the run's pods and the stack are")
    parser.add_argument("--claim", default="seaway-models", help="of the model volume (default: %(default)s)")
    parser.add_argument("--service-account", default="", metavar="NAME", help="the run's (default: whoever asks)")
    parser.add_argument("--no-serving", action="store_true", help="of a run that changes no Deployment, as ship's")
    given = parser.parse_args()
    account = f"{given.namespace}:{given.service_account}" if given.service_account else ""
    with errors.exit_with_message(PROGRAM):
        preflight(given.claim, given.namespace, not given.no_serving, given.namespace, account)


if __name__ == "__main__":
    main()
