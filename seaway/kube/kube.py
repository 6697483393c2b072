"""A Kubernetes cluster's API: the client, objects as the API's own JSON, and its errors as ours."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seaway.errors import InvalidInput, NotFound, Refused, Unavailable

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
REVISION = "deployment.kubernetes.io/revision"


def connect(context: str = "") -> Any:
    """A client of the cluster that this pod runs in, else of kubectl's (current) context. Raises Unavailable."""
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
    """Of the pod that this runs in; "" outside of a cluster."""
    try:
        return OWN_NAMESPACE.read_text().strip()
    except OSError:
        return ""


def has_namespace(api: Any, name: str) -> bool:
    """Also where that may not be looked at. Raises Unavailable."""
    from kubernetes import client

    try:
        with explained(name, "namespace"):
            client.CoreV1Api(api).read_namespace(name, _request_timeout=(5, 10))
    except NotFound:
        return False
    except Refused:
        pass
    return True


def deployment(api: Any, namespace: str, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    from kubernetes import client

    with explained(namespace, f"Deployment {name}"):
        return as_json(api, client.AppsV1Api(api).read_namespaced_deployment(name, namespace))


def claims(api: Any, namespace: str, raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The PersistentVolumeClaims that the Deployment's pods mount. Raises NotFound."""
    from kubernetes import client

    volumes = raw["spec"]["template"]["spec"].get("volumes", [])
    names = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
    core = client.CoreV1Api(api)
    with explained(namespace, f"PersistentVolumeClaim {', '.join(names)}"):
        return [as_json(api, core.read_namespaced_persistent_volume_claim(name, namespace)) for name in names]


def replica_sets(api: Any, namespace: str, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """The Deployment's, newest revision first."""
    from kubernetes import client

    with explained(namespace, "replicasets"):
        found = client.AppsV1Api(api).list_namespaced_replica_set(namespace, label_selector=selector(deployment))
    own = [one for one in as_json(api, found)["items"] if _owned(one, deployment)]
    return sorted(own, key=lambda one: -int(one["metadata"].get("annotations", {}).get(REVISION, 0)))


def newest_pods(api: Any, namespace: str, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the Deployment's newest ReplicaSet."""
    from kubernetes import client

    newest = next(iter(replica_sets(api, namespace, deployment)), None)
    with explained(namespace, "pods"):
        found = client.CoreV1Api(api).list_namespaced_pod(namespace, label_selector=selector(deployment))
    return [pod for pod in as_json(api, found)["items"] if newest is not None and _owned(pod, newest)]


def selector(raw: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in raw["spec"]["selector"]["matchLabels"].items())


def _owned(one: dict[str, Any], owner: dict[str, Any]) -> bool:
    return any(ref["uid"] == owner["metadata"]["uid"] for ref in one["metadata"].get("ownerReferences", []))


def as_json(api: Any, found: Any) -> dict[str, Any]:
    """The client's object as the API's JSON, without what is None."""
    raw: dict[str, Any] = api.sanitize_for_serialization(found)
    return raw


@contextlib.contextmanager
def explained(namespace: str, what: str) -> Iterator[None]:
    """The API's errors as ours."""
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
            raise NotFound(f"{namespace} has no {what}: {message}; is the serving stack applied there?") from None
        if error.status in (401, 403):
            raise Refused(f"{what} in {namespace}: the cluster does not allow it: {message}") from None
        if error.status in (400, 409, 422):
            raise InvalidInput(f"{what} in {namespace}: {message}") from None
        raise Unavailable(f"{what} in {namespace}: {error.status} {message}") from None
    except (HTTPError, OSError) as error:
        raise Unavailable(f"the cluster does not answer: {error}") from None
