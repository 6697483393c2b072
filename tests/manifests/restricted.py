"""Checks a pod spec against the Pod Security Standard "restricted" of Kubernetes 1.34, including "baseline"."""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SELINUX = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t", ""}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
CONFINED = {"RuntimeDefault", "Localhost"}
HANDLERS = ("startupProbe", "readinessProbe", "livenessProbe")


def violations(spec: dict[str, Any]) -> list[str]:
    """Returns the violations; [] for a pod that a namespace with `enforce: restricted` admits."""
    found = [*_pod_violations(spec)]
    for container in _containers(spec):
        found += _container_violations(spec, container)
    return found


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [c for kind in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(kind, [])]


def _pod_violations(spec: dict[str, Any]) -> Iterator[str]:
    context = spec.get("securityContext", {})
    yield from (f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", []):
        yield from (f"volume {volume['name']}: {kind}" for kind in volume.keys() - {"name"} - VOLUMES)
    yield from (f"sysctl {s['name']}" for s in context.get("sysctls", []) if s["name"] not in SYSCTLS)
    yield from _context_violations("the pod", context)


def _container_violations(spec: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    name, context = container["name"], container.get("securityContext", {})
    pods = spec.get("securityContext", {})
    yield from _context_violations(name, context)
    if context.get("privileged"):
        yield f"{name}: privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation is not false"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: does not drop ALL"
    yield from (f"{name}: adds {added}" for added in capabilities.get("add", []) if added != "NET_BIND_SERVICE")
    if context.get("runAsNonRoot", pods.get("runAsNonRoot")) is not True:
        yield f"{name}: runAsNonRoot is not true"
    profile = context.get("seccompProfile", pods.get("seccompProfile", {}))
    if profile.get("type") not in CONFINED:
        yield f"{name}: seccompProfile is {profile.get('type')}"
    if context.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    yield from (f"{name}: hostPort" for port in container.get("ports", []) if port.get("hostPort"))
    handlers = [container[kind] for kind in HANDLERS if kind in container]
    handlers += container.get("lifecycle", {}).values()
    requests = [handler.get(how, {}) for handler in handlers for how in ("httpGet", "tcpSocket")]
    yield from (f"{name}: a probe or hook names a host" for request in requests if request.get("host"))


def _context_violations(name: str, context: dict[str, Any]) -> Iterator[str]:
    """Yields the violations that pods and containers have in common."""
    if context.get("runAsUser") == 0:
        yield f"{name}: runs as root"
    if context.get("runAsNonRoot") is False:
        yield f"{name}: runAsNonRoot is false"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in CONFINED:
        yield f"{name}: seccompProfile is {context['seccompProfile']['type']}"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in CONFINED:
        yield f"{name}: appArmorProfile"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name}: hostProcess"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{name}: seLinuxOptions"
