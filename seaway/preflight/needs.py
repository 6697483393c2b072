"""What a run of the pipeline needs of the cluster before it begins: rights, the claim, the serving stack.

Everything that is missing is found at once, each with the kubectl command that fixes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seaway.errors import NotFound, Refused
from seaway.kube import rollout
from seaway.kube.kube import as_json, explained

SECONDS = (5, 10)  # to connect, and for an answer
ROLE, BINDING = "seaway-pipeline", "seaway-runs"  # manifests/rbac; what docs/pipelines.md binds it by
OVERLAY = "manifests/overlays/kubeflow"
PREFIX = "system:serviceaccount:"
SERVERS = (rollout.STABLE, rollout.CANARY)


@dataclass(frozen=True, slots=True)
class Access:
    """What a stage does to the API. `name`: of the object; "" for any."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        kind = self.resource + (f"/{self.subresource}" if self.subresource else "")
        return f"{self.verb} {kind}{f' {self.name}' if self.name else ''}"


# In the namespace of the run's pods: `outcome`, and this.
OF_A_RUN = (
    Access("list", "pods"),
    Access("get", "pods", subresource="log"),
    Access("get", "persistentvolumeclaims"),
)
# In the namespace of the Deployments: `deploy` and `promote`, and this.
OF_A_ROLLOUT = (
    *(Access(verb, "deployments", "apps", name=name) for name in SERVERS for verb in ("get", "patch")),
    *(Access("get", "services", name=name) for name in SERVERS),
    Access("list", "replicasets", "apps"),
    Access("list", "pods"),
    Access("get", "pods", subresource="log"),
    Access("list", "events"),
    Access("get", "persistentvolumeclaims"),
)


@dataclass(frozen=True, slots=True)
class Missing:
    """`fix`: commands."""

    what: str
    fix: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"- {self.what}", *(f"    {command}" for command in self.fix)])


def check(api: Any, claim: str, run_namespace: str, serving_namespace: str = "", account: str = "") -> None:
    """Returns where a run whose pods are in `run_namespace` can do what it must.

    `serving_namespace`: where the Deployments are that it changes; "" where it changes none. `account`: NAMESPACE:NAME
    of the run's ServiceAccount, "" for whoever asks. Raises Refused with all that is missing, Unavailable.
    """
    found = [
        *_rights(api, run_namespace, serving_namespace, account),
        *_claim(api, claim, run_namespace),
        *(_servers(api, serving_namespace) if serving_namespace else ()),
    ]
    if found:
        listed = "\n".join(map(str, found))
        raise Refused(f"a run in {run_namespace} cannot succeed, and this fixes it:\n{listed}")


def _rights(api: Any, run_namespace: str, serving_namespace: str, account: str) -> Iterator[Missing]:
    wanted: dict[str, tuple[Access, ...]] = {run_namespace: OF_A_RUN}
    if serving_namespace:
        wanted[serving_namespace] = tuple(dict.fromkeys((*wanted.get(serving_namespace, ()), *OF_A_ROLLOUT)))
    for namespace, accesses in wanted.items():
        try:
            refused = [str(one) for one in accesses if not _allowed(api, namespace, one, account)]
        except Refused:  # who may not ask what another may is not told
            return
        if refused:
            who = account or _whoever_asks(api)
            yield Missing(
                f"ServiceAccount {who} may not {', '.join(refused)} in {namespace}",
                (
                    f"kubectl apply -n {namespace} -k manifests/rbac",
                    f"kubectl -n {namespace} create rolebinding {BINDING} --role {ROLE} --serviceaccount {who}",
                ),
            )


def _allowed(api: Any, namespace: str, access: Access, account: str) -> bool:
    """Raises Refused for who may not ask."""
    from kubernetes import client

    attributes = client.V1ResourceAttributes(
        namespace=namespace,
        verb=access.verb,
        group=access.group,
        resource=access.resource,
        subresource=access.subresource or None,
        name=access.name or None,
    )
    reviews = client.AuthorizationV1Api(api)
    with explained(namespace, "access reviews"):
        if not account:
            own = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
            body = client.V1SelfSubjectAccessReview(spec=own)
            answer = reviews.create_self_subject_access_review(body, _request_timeout=SECONDS)
        else:
            home = account.partition(":")[0]
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
            spec = client.V1SubjectAccessReviewSpec(
                user=PREFIX + account, groups=groups, resource_attributes=attributes
            )
            body = client.V1SubjectAccessReview(spec=spec)
            answer = reviews.create_subject_access_review(body, _request_timeout=SECONDS)
    return bool(answer.status.allowed)


def _whoever_asks(api: Any) -> str:
    """NAMESPACE:NAME of a pod's ServiceAccount; words to put it in for, where the cluster cannot tell."""
    from kubernetes import client

    try:
        with explained("the cluster", "self-subject reviews"):
            answer = client.AuthenticationV1Api(api).create_self_subject_review(
                client.V1SelfSubjectReview(), _request_timeout=SECONDS
            )
    except (NotFound, Refused):  # older than Kubernetes 1.28
        return "NAMESPACE:NAME"
    return str(answer.status.user_info.username).removeprefix(PREFIX)


def _claim(api: Any, claim: str, namespace: str) -> Iterator[Missing]:
    from kubernetes import client

    apply = f"kubectl apply -n {namespace} -k {OVERLAY}"
    try:
        with explained(namespace, f"PersistentVolumeClaim {claim}"):
            found = as_json(
                api,
                client.CoreV1Api(api).read_namespaced_persistent_volume_claim(
                    claim, namespace, _request_timeout=SECONDS
                ),
            )
    except NotFound:
        what = f"no PersistentVolumeClaim {claim} in {namespace} (one of another name: --claim)"
        yield Missing(what, (apply,))
    except Refused:
        return  # among the rights
    else:
        if found.get("status", {}).get("phase") == "Lost":
            what = f"PersistentVolumeClaim {claim} in {namespace} is Lost: its volume is gone"
            yield Missing(what, (f"kubectl -n {namespace} delete persistentvolumeclaim {claim}", apply))


def _servers(api: Any, namespace: str) -> Iterator[Missing]:
    from kubernetes import client

    apps, core = client.AppsV1Api(api), client.CoreV1Api(api)
    kinds = {"Deployment": apps.read_namespaced_deployment, "Service": core.read_namespaced_service}
    absent = [f"{kind} {name}" for name in SERVERS for kind, read in kinds.items() if _absent(read, name, namespace)]
    if absent:
        yield Missing(f"no {', no '.join(absent)} in {namespace}", (f"kubectl apply -n {namespace} -k {OVERLAY}",))


def _absent(read: Any, name: str, namespace: str) -> bool:
    try:
        with explained(namespace, name):
            read(name, namespace, _request_timeout=SECONDS)
    except NotFound:
        return True
    except Refused:
        return False  # among the rights
    return False


def default_account(namespace: str, profiles: bool) -> str:
    """NAMESPACE:NAME of the ServiceAccount that Kubeflow gives runs where none is named."""
    return f"{namespace}:{'default-editor' if profiles else 'pipeline-runner'}"
