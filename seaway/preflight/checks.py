"""Checks what a pipeline run needs on the cluster: permissions, the claim, the serving stack.

One check reports everything that is missing, each with the kubectl commands that fix it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seaway.errors import NotFound, Refused
from seaway.kube import rollout
from seaway.kube.api_client import as_json, translated_errors

REQUEST_TIMEOUT_S = (5, 10)  # to connect, and to read the response
ROLE, BINDING = "seaway-pipeline", "seaway-runs"  # from manifests/rbac and docs/pipelines.md
OVERLAY = "manifests/overlays/kubeflow"
ACCOUNT_PREFIX = "system:serviceaccount:"
SERVERS = (rollout.STABLE, rollout.CANARY)


@dataclass(frozen=True, slots=True)
class Permission:
    """A request that a stage makes to the API. `name`: the object's, "" for any."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        kind = self.resource + (f"/{self.subresource}" if self.subresource else "")
        return f"{self.verb} {kind}{f' {self.name}' if self.name else ''}"


# For `run_summary` and `preflight`, in the namespace of the run's pods.
RUN_PERMISSIONS = (
    Permission("list", "pods"),
    Permission("get", "pods", subresource="log"),
    Permission("get", "persistentvolumeclaims"),
)
# For `deploy`, `promote` and `preflight`, in the namespace of the Deployments.
ROLLOUT_PERMISSIONS = (
    *(Permission(verb, "deployments", "apps", name=name) for name in SERVERS for verb in ("get", "patch")),
    *(Permission("get", "services", name=name) for name in SERVERS),
    Permission("list", "replicasets", "apps"),
    Permission("list", "pods"),
    Permission("get", "pods", subresource="log"),
    Permission("list", "events"),
    Permission("get", "persistentvolumeclaims"),
)


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that the run lacks. `fix`: commands."""

    description: str
    fix: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"- {self.description}", *(f"    {command}" for command in self.fix)])


def check(api: Any, claim: str, run_namespace: str, serving_namespace: str = "", account: str = "") -> None:
    """Raises Refused with everything that a run with pods in `run_namespace` lacks, or Unavailable.

    `serving_namespace`: of the Deployments that the run changes; "" if it changes none. `account`: NAMESPACE:NAME of
    the run's ServiceAccount; "" for the caller.
    """
    missing = [
        *_missing_permissions(api, run_namespace, serving_namespace, account),
        *_missing_claim(api, claim, run_namespace),
        *(_missing_servers(api, serving_namespace) if serving_namespace else ()),
    ]
    if missing:
        listed = "\n".join(map(str, missing))
        raise Refused(f"a run in {run_namespace} would fail; fix these first:\n{listed}")


def _missing_permissions(api: Any, run_namespace: str, serving_namespace: str, account: str) -> Iterator[Missing]:
    required: dict[str, tuple[Permission, ...]] = {run_namespace: RUN_PERMISSIONS}
    if serving_namespace:
        in_run = required.get(serving_namespace, ())
        required[serving_namespace] = tuple(dict.fromkeys((*in_run, *ROLLOUT_PERMISSIONS)))
    for namespace, permissions in required.items():
        try:
            denied = [str(one) for one in permissions if not _is_allowed(api, namespace, one, account)]
        except Refused:  # the caller may not review another account's access
            return
        if denied:
            subject = account or _caller(api)
            yield Missing(
                f"{subject} is not allowed to: {', '.join(denied)} (namespace {namespace})",
                (
                    f"kubectl apply -n {namespace} -k manifests/rbac",
                    f"kubectl -n {namespace} create rolebinding {BINDING} --role {ROLE} --serviceaccount {subject}",
                ),
            )


def _is_allowed(api: Any, namespace: str, permission: Permission, account: str) -> bool:
    """Raises Refused if the caller may not review this access."""
    from kubernetes import client

    attributes = client.V1ResourceAttributes(
        namespace=namespace,
        verb=permission.verb,
        group=permission.group,
        resource=permission.resource,
        subresource=permission.subresource or None,
        name=permission.name or None,
    )
    reviews = client.AuthorizationV1Api(api)
    with translated_errors(namespace, "access reviews"):
        if not account:
            own = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
            body = client.V1SelfSubjectAccessReview(spec=own)
            review = reviews.create_self_subject_access_review(body, _request_timeout=REQUEST_TIMEOUT_S)
        else:
            home = account.partition(":")[0]
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
            spec = client.V1SubjectAccessReviewSpec(
                user=ACCOUNT_PREFIX + account, groups=groups, resource_attributes=attributes
            )
            body = client.V1SubjectAccessReview(spec=spec)
            review = reviews.create_subject_access_review(body, _request_timeout=REQUEST_TIMEOUT_S)
    return bool(review.status.allowed)


def _caller(api: Any) -> str:
    """Returns NAMESPACE:NAME of the caller's ServiceAccount, or that placeholder if the cluster cannot tell."""
    from kubernetes import client

    try:
        with translated_errors("the cluster", "self-subject reviews"):
            review = client.AuthenticationV1Api(api).create_self_subject_review(
                client.V1SelfSubjectReview(), _request_timeout=REQUEST_TIMEOUT_S
            )
    except (NotFound, Refused):  # older than Kubernetes 1.28
        return "NAMESPACE:NAME"
    return str(review.status.user_info.username).removeprefix(ACCOUNT_PREFIX)


def _missing_claim(api: Any, claim: str, namespace: str) -> Iterator[Missing]:
    from kubernetes import client

    apply = f"kubectl apply -n {namespace} -k {OVERLAY}"
    try:
        with translated_errors(namespace, f"PersistentVolumeClaim {claim}"):
            current = as_json(
                api,
                client.CoreV1Api(api).read_namespaced_persistent_volume_claim(
                    claim, namespace, _request_timeout=REQUEST_TIMEOUT_S
                ),
            )
    except NotFound:
        yield Missing(f"no PersistentVolumeClaim {claim} in {namespace} (to use another: --claim)", (apply,))
    except Refused:
        return  # reported with the permissions
    else:
        if current.get("status", {}).get("phase") == "Lost":
            description = f"PersistentVolumeClaim {claim} in {namespace} is Lost: its volume is gone"
            yield Missing(description, (f"kubectl -n {namespace} delete persistentvolumeclaim {claim}", apply))


def _missing_servers(api: Any, namespace: str) -> Iterator[Missing]:
    from kubernetes import client

    apps, core = client.AppsV1Api(api), client.CoreV1Api(api)
    kinds = {"Deployment": apps.read_namespaced_deployment, "Service": core.read_namespaced_service}
    absent = [f"{kind} {name}" for name in SERVERS for kind, read in kinds.items() if _is_absent(read, name, namespace)]
    if absent:
        yield Missing(f"no {', no '.join(absent)} in {namespace}", (f"kubectl apply -n {namespace} -k {OVERLAY}",))


def _is_absent(read: Any, name: str, namespace: str) -> bool:
    try:
        with translated_errors(namespace, name):
            read(name, namespace, _request_timeout=REQUEST_TIMEOUT_S)
    except NotFound:
        return True
    except Refused:
        return False  # reported with the permissions
    return False


def default_account(namespace: str, profiles: bool) -> str:
    """Returns NAMESPACE:NAME of the ServiceAccount that Kubeflow gives to runs by default."""
    return f"{namespace}:{'default-editor' if profiles else 'pipeline-runner'}"
