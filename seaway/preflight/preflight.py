"""The first stage of a run on a cluster: checks that the other stages can succeed, before any of them starts.

It mounts no claim, so that it can start and report a missing one.
"""

from seaway.kube import api_client
from seaway.preflight import checks


def preflight(claim: str, namespace: str = "", serving: bool = True, run_namespace: str = "", account: str = "") -> str:
    """Returns the namespace in which the run changes Deployments: `namespace`, or the run's own if that is "".

    `claim`: the PersistentVolumeClaim of the model repository; `serving`: whether the run changes Deployments at all;
    `run_namespace`: of its pods, "" for this pod's own; `account`: NAMESPACE:NAME of its ServiceAccount, "" for the
    caller. Raises Refused with everything that is missing, or Unavailable. Outside a cluster it checks nothing.
    """
    run_namespace = run_namespace or api_client.own_namespace()
    if not run_namespace:
        print("Not on a cluster: nothing to check.", flush=True)
        return namespace
    namespace = namespace or run_namespace
    checks.check(api_client.connect(), claim, run_namespace, namespace if serving else "", account)
    deployments = f"; Deployments in {namespace}" if serving else ""
    print(f"nothing is missing: permissions and claim {claim} in {run_namespace}{deployments}", flush=True)
    return namespace
