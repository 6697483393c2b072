"""Workloads: probes, limits, rollouts without downtime, time to drain, references between objects."""

import re
from dataclasses import fields

from rendered import Object, containers, deployments, each, environment, labels, load, of_kind, pod, selected
from rendered import each_serving as each_with_pods

from seaway.pipeline.manifests import PLACEHOLDER_TAG
from seaway.serve import settings
from seaway.serve.settings import Settings
from seaway.serve.supervisor import forkserver_client, server

SEAWAY_IMAGES = ("seaway/serve", "seaway/load")
WITHOUT_PORTS = {"seaway-loadtest-worker"}
CERTIFICATE = "seaway-tls"  # a Secret that the user or cert-manager makes


def serving(objects: list[Object]) -> dict[str, Object]:
    found = deployments(objects, "seaway")
    assert "seaway" in found
    return found


def is_seaway_server(container: Object) -> bool:
    return container["image"].startswith("seaway/serve:")


# ---- containers


@each_with_pods
def test_every_container_has_three_probes(objects: list[Object]) -> None:
    for name, deployment in deployments(objects).items():
        for container in pod(deployment)["containers"]:
            probes = {how: container[how] for how in container if how.endswith("Probe")}
            if name in WITHOUT_PORTS:
                assert "ports" not in container
                continue
            assert probes.keys() == {"startupProbe", "readinessProbe", "livenessProbe"}, name
            ready, alive = (probes[how].get("httpGet") for how in ("readinessProbe", "livenessProbe"))
            assert ready != alive, f"{name}: an unready pod would be killed"
            ports = {port["name"] for port in container["ports"]}
            for probe in probes.values():
                assert probe.get("httpGet", probe.get("tcpSocket"))["port"] in ports


@each_with_pods
def test_the_server_is_probed_on_the_admin_port(objects: list[Object]) -> None:
    for deployment in serving(objects).values():
        for container in filter(is_seaway_server, pod(deployment)["containers"]):
            probes = {how: container[how]["httpGet"] for how in ("startupProbe", "readinessProbe", "livenessProbe")}
            assert probes["readinessProbe"] == {"path": "/readyz", "port": "admin"}
            assert probes["livenessProbe"] == probes["startupProbe"] == {"path": "/healthz", "port": "admin"}


@each_with_pods
def test_every_container_has_requests_and_limits(objects: list[Object]) -> None:
    for name, deployment in deployments(objects).items():
        for container in containers(deployment):
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys(), name


@each_with_pods
def test_every_image_has_a_tag_and_seaway_s_match_the_code(objects: list[Object]) -> None:
    for deployment in deployments(objects).values():
        for container in containers(deployment):
            image, _, tag = container["image"].rpartition(":")
            assert image, f"{container['image']}: no tag"
            assert re.fullmatch(r"[\w][\w.-]{0,127}", tag)
            assert tag != "latest"
            assert image not in SEAWAY_IMAGES or f":{tag}" == PLACEHOLDER_TAG
            assert image in SEAWAY_IMAGES or image == "tensorflow/serving"


# ---- rollouts, spreading, draining


@each_with_pods
def test_selectors_are_minimal_and_match_the_pods(objects: list[Object]) -> None:
    for name, deployment in serving(objects).items():
        selector = deployment["spec"]["selector"]["matchLabels"]
        track = "canary" if name == "seaway-canary" else "stable"
        assert selector == {"app.kubernetes.io/name": "seaway", "seaway.dev/track": track}
        assert labels(deployment) == selector
    for deployment in deployments(objects).values():
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert len(selector) == 2
        assert selected(selector, objects) == [deployment]


@each_with_pods
def test_a_rollout_removes_no_ready_pod_and_pods_are_spread(objects: list[Object]) -> None:
    for deployment in serving(objects).values():
        assert deployment["spec"]["strategy"] == {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        spread = pod(deployment)["topologySpreadConstraints"]
        assert [rule["topologyKey"] for rule in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        for rule in spread:
            assert rule["whenUnsatisfiable"] == "ScheduleAnyway"
            assert rule["labelSelector"]["matchLabels"].items() <= labels(deployment).items()
            assert rule["matchLabelKeys"] == ["pod-template-hash"]
    budget = of_kind(objects, "PodDisruptionBudget")["seaway"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert selected(budget["selector"]["matchLabels"], objects) == [serving(objects)["seaway"]]


@each_with_pods
def test_the_grace_period_covers_the_drain(objects: list[Object]) -> None:
    for deployment in serving(objects).values():
        given = pod(deployment)["terminationGracePeriodSeconds"]
        for container in pod(deployment)["containers"]:
            if not is_seaway_server(container):
                _, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
                assert 10 <= int(seconds) < given - 10
                continue
            told = server_settings(environment(objects, container))
            assert told.drain_s >= 2, "endpoints are taken out of rotation within seconds, not at once"
            in_flight = told.timeout_s + 1 + server.LATE_CONNECTIONS_S
            assert given > told.drain_s + in_flight + 2 * forkserver_client.EXIT_TIMEOUT_S


# ---- settings


def server_settings(environ: dict[str, str]) -> Settings:
    read = settings.from_environment({name: value for name, value in environ.items() if name != "SEAWAY_POD"})
    return Settings(**read | {"model_version": 1})


@each_with_pods
def test_every_setting_is_known_to_the_server(objects: list[Object]) -> None:
    known = {settings.PREFIX + field.name.upper() for field in fields(Settings)}
    for deployment in serving(objects).values():
        for container in filter(is_seaway_server, pod(deployment)["containers"]):
            environ = environment(objects, container)
            assert {name for name in environ if name.startswith(settings.PREFIX)} <= known
            told = server_settings(environ)
            assert told.host == "0.0.0.0", "requests come from other pods"
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports == {"http": told.port, "grpc": told.grpc_port, "admin": told.admin_port}
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert mounts[str(told.model_repository)]["readOnly"], "only the pipeline writes the model repository"
            pods = {entry["name"]: entry.get("valueFrom") for entry in container["env"]}
            assert pods["SEAWAY_POD"] == {"fieldRef": {"fieldPath": "metadata.name"}}


@each
def test_only_the_promotion_sets_the_version(objects: list[Object]) -> None:
    assert "SEAWAY_MODEL_VERSION" not in str(objects)


def test_the_canary_differs_from_stable_only_in_its_track() -> None:
    for name in ("kind", "production", "base-gpu", "base-loadtest", "base-example"):
        objects = load(name)
        stable, canary = (serving(objects)[track] for track in ("seaway", "seaway-canary"))
        seed = pod(stable).pop("initContainers", None)
        without = {key: value for key, value in pod(stable).items() if key != "initContainers"}
        assert without == pod(canary), name
        assert (seed is not None) == (name in ("kind", "base-example"))
        assert canary["spec"]["replicas"] == 0
        services = of_kind(objects, "Service")
        assert services["seaway"]["spec"]["ports"] == services["seaway-canary"]["spec"]["ports"]


@each
def test_an_autoscaler_owns_the_replicas(objects: list[Object]) -> None:
    for scaler in of_kind(objects, "HorizontalPodAutoscaler").values():
        target = of_kind(objects, scaler["spec"]["scaleTargetRef"]["kind"])[scaler["spec"]["scaleTargetRef"]["name"]]
        assert target["metadata"]["name"] == "seaway"
        assert "replicas" not in target["spec"]
        assert {"scaleUp", "scaleDown"} == scaler["spec"]["behavior"].keys()
    if not of_kind(objects, "HorizontalPodAutoscaler") and "seaway" in deployments(objects):
        assert deployments(objects)["seaway"]["spec"]["replicas"] >= 1


def test_production_has_at_least_three_replicas() -> None:
    scaler = of_kind(load("production"), "HorizontalPodAutoscaler")["seaway"]
    assert scaler["spec"]["minReplicas"] == 3


# ---- references


@each_with_pods
def test_everything_that_pods_refer_to_exists(objects: list[Object]) -> None:
    kinds = {
        "configMap": ("ConfigMap", "name"),
        "secret": ("Secret", "secretName"),
        "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
    }
    for deployment in deployments(objects).values():
        spec = pod(deployment)
        assert spec["serviceAccountName"] in of_kind(objects, "ServiceAccount")
        for volume in spec["volumes"]:
            for source, (kind, key) in kinds.items():
                made = of_kind(objects, kind).keys() | ({CERTIFICATE} if kind == "Secret" else set())
                assert source not in volume or volume[source][key] in made
        mounted = {volume["name"] for volume in spec["volumes"]}
        for container in containers(deployment):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= mounted
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in of_kind(objects, "ConfigMap")
            for entry in container.get("env", []):
                assert not {"configMapKeyRef", "secretKeyRef"} & entry.get("valueFrom", {}).keys()
            used = {*re.findall(r"\$\((\w+)\)", " ".join(container.get("args", []) + container["command"]))}
            assert used <= environment(objects, container).keys()


@each_with_pods
def test_changed_settings_start_new_pods(objects: list[Object]) -> None:
    """A ConfigMap that a pod reads has a suffix with a hash of its content."""
    read = set()
    for deployment in deployments(objects).values():
        read |= {volume["configMap"]["name"] for volume in pod(deployment)["volumes"] if "configMap" in volume}
        for container in containers(deployment):
            read |= {source["configMapRef"]["name"] for source in container.get("envFrom", [])}
    assert read
    for name in read:
        assert re.fullmatch(r"[a-z-]+-[a-z0-9]{10}", name), name


@each_with_pods
def test_services_target_ports_of_pods(objects: list[Object]) -> None:
    services = of_kind(objects, "Service")
    assert services["seaway"]["spec"]["ports"] == [
        {"name": "http", "port": 8501, "targetPort": "http"},
        {"name": "grpc", "port": 8500, "targetPort": "grpc"},
    ]
    for name, service in services.items():
        (deployment,) = selected(service["spec"]["selector"], objects)
        ports = {port["name"] for container in pod(deployment)["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        assert "admin" not in {port["targetPort"] for port in service["spec"]["ports"]}, f"{name}: only scrapers use it"
    for policy in of_kind(objects, "NetworkPolicy").values():
        assert selected(policy["spec"]["podSelector"]["matchLabels"], objects)


@each_with_pods
def test_all_pods_share_one_claim_that_several_nodes_can_mount(objects: list[Object]) -> None:
    (claim,) = of_kind(objects, "PersistentVolumeClaim").values()
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = of_kind(objects, "PersistentVolume")
    if "volumeName" in claim["spec"]:
        volume = volumes[claim["spec"]["volumeName"]]["spec"]
        assert volume["accessModes"] == claim["spec"]["accessModes"]
        assert volume["capacity"]["storage"] == claim["spec"]["resources"]["requests"]["storage"]
        assert volume["storageClassName"] == claim["spec"]["storageClassName"] == ""
    else:
        assert not volumes
        assert "storageClassName" not in claim["spec"]
