"""Client of a Kubernetes cluster: reads objects as the API's own JSON and translates API errors into Seaway's."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seaway.errors import InvalidInput, NotFound, Refused, Unavailable

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
REVISION = "deployment.kubernetes.io/revision"  # annotation of Deployments and ReplicaSets


def connect(context: str = "") -> Any:
    """Returns a client for the cluster that this pod runs in, or for kubectl's context (default: the current one).

    Raises Unavailable.
    """
    from kubernetes import client, config

    try:
        if context:
            return config.new_client_from_config(context=context)
        try:
            config.load_incluster_config()
            return client.ApiClient()
        except config.ConfigException:
            return config.new_client_from_config()
    except (config.ConfigException, OSError) as error:
        raise Unavailable(f"no cluster: {error}; does `kubectl get nodes` work here?") from None


def own_namespace() -> str:
    """Returns the namespace of the pod that this process runs in, or "" outside a cluster."""
    try:
        return OWN_NAMESPACE.read_text().strip()
    except OSError:
        return ""


def has_namespace(api: Any, name: str) -> bool:
    """Whether the namespace exists; True if the caller may not read namespaces. Raises Unavailable."""
    from kubernetes import client

    try:
        with translated_errors(name, "namespace"):
            client.CoreV1Api(api).read_namespace(name, _request_timeout=(5, 10))
    except NotFound:
        return False
    except Refused:
        pass
    return True


def read_deployment(api: Any, namespace: str, name: str) -> dict[str, Any]:
    """Returns the Deployment as JSON. Raises NotFound."""
    from kubernetes import client

    with translated_errors(namespace, f"Deployment {name}"):
        return as_json(api, client.AppsV1Api(api).read_namespaced_deployment(name, namespace))


def claims(api: Any, namespace: str, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the PersistentVolumeClaims that the Deployment's pods mount. Raises NotFound."""
    from kubernetes import client

    volumes = deployment["spec"]["template"]["spec"].get("volumes", [])
    names = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
    core = client.CoreV1Api(api)
    with translated_errors(namespace, f"PersistentVolumeClaim {', '.join(names)}"):
        return [as_json(api, core.read_namespaced_persistent_volume_claim(name, namespace)) for name in names]


def replica_sets(api: Any, namespace: str, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the Deployment's ReplicaSets, newest revision first."""
    from kubernetes import client

    with translated_errors(namespace, "replicasets"):
        response = client.AppsV1Api(api).list_namespaced_replica_set(namespace, label_selector=selector(deployment))
    owned = [replica_set for replica_set in as_json(api, response)["items"] if _is_owned_by(replica_set, deployment)]
    return sorted(owned, key=lambda replica_set: -int(replica_set["metadata"].get("annotations", {}).get(REVISION, 0)))


def newest_pods(api: Any, namespace: str, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the pods of the Deployment's newest ReplicaSet."""
    from kubernetes import client

    newest = next(iter(replica_sets(api, namespace, deployment)), None)
    with translated_errors(namespace, "pods"):
        response = client.CoreV1Api(api).list_namespaced_pod(namespace, label_selector=selector(deployment))
    return [pod for pod in as_json(api, response)["items"] if newest is not None and _is_owned_by(pod, newest)]


def selector(deployment: dict[str, Any]) -> str:
    """Returns the Deployment's label selector, as `key=value,…`."""
    return ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())


def _is_owned_by(resource: dict[str, Any], owner: dict[str, Any]) -> bool:
    return any(ref["uid"] == owner["metadata"]["uid"] for ref in resource["metadata"].get("ownerReferences", []))


def as_json(api: Any, response: Any) -> dict[str, Any]:
    """Returns a response of the Python client as the API's own JSON, without fields that are None."""
    serialized: dict[str, Any] = api.sanitize_for_serialization(response)
    return serialized


@contextlib.contextmanager
def translated_errors(namespace: str, resource: str) -> Iterator[None]:
    """Raises the API's errors as Seaway's: NotFound, Refused, InvalidInput or Unavailable."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        try:
            message = str(json.loads(error.body)["message"])
        except (ValueError, KeyError, TypeError):
            message = str(error.reason)
        if error.status == 404:
            raise NotFound(f"{namespace} has no {resource}: {message}; is the serving stack applied there?") from None
        if error.status in (401, 403):
            raise Refused(f"{resource} in {namespace}: access denied: {message}") from None
        if error.status in (400, 409, 422):
            raise InvalidInput(f"{resource} in {namespace}: {message}") from None
        raise Unavailable(f"{resource} in {namespace}: {error.status} {message}") from None
    except (HTTPError, OSError) as error:
        raise Unavailable(f"the cluster does not respond: {error}") from None
