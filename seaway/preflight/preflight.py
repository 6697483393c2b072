"""The first stage of a run on a cluster: whether the others can do what they must, before any of them begins.

It mounts no claim, so that it begins, and says so, where the claim is missing.
"""

from seaway.kube import kube
from seaway.preflight import needs as checks


def preflight(claim: str, namespace: str = "", serving: bool = True, run_namespace: str = "", account: str = "") -> str:
    """Returns the namespace in which the run changes Deployments: `namespace`, or where that is "" the run's own.

    `claim`: the PersistentVolumeClaim of the model volume; `serving`: whether the run changes Deployments at all;
    `run_namespace`: where its pods are, "" for this pod's own; `account`: NAMESPACE:NAME of its ServiceAccount, "" for
    whoever asks. Raises Refused with all that is missing, Unavailable. Outside of a cluster nothing is checked.
    """
    run_namespace = run_namespace or kube.own_namespace()
    if not run_namespace:
        print("These stages have no pods, so there is nothing to check.", flush=True)
        return namespace
    namespace = namespace or run_namespace
    checks.check(kube.connect(), claim, run_namespace, namespace if serving else "", account)
    changes = f"; Deployments in {namespace}" if serving else ""
    print(f"rights and claim {claim} in {run_namespace}{changes}: all there", flush=True)
    return namespace
