"""Single features: Locust reaches the server, TensorFlow Serving knows its flags, kind fits the overlay."""

import re
from urllib.parse import urlsplit

import pytest
import yaml
from rendered import MANIFESTS, Object, containers, deployments, environment, labels, load, of_kind, pod

from seaway.pipeline import cluster

LOADTESTS = ("base-loadtest", "kind-autoscale-loadtest", "kind-tf-serving-loadtest", "production-loadtest-pipeline")
TF_SERVINGS = ("base-tf-serving", "kind-tf-serving-loadtest", "base-tf-serving-autoscale-gpu")
# flags in tensorflow_model_server's main.cc
FLAGS = {
    "port", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms", "enable_batching",
    "batching_parameters_file", "model_config_file", "model_name", "model_base_path", "file_system_poll_wait_seconds",
    "flush_filesystem_caches", "tensorflow_session_parallelism", "platform_config_file",
    "per_process_gpu_memory_fraction", "saved_model_tags", "grpc_channel_arguments", "enable_model_warmup", "version",
}  # fmt: skip


# ---- loadtest


@pytest.mark.parametrize("name", LOADTESTS)
def test_locust_calls_a_service_from_pods_that_the_policy_admits(name: str) -> None:
    objects = load(name)
    services, locust = of_kind(objects, "Service"), deployments(objects, "seaway-loadtest")
    for deployment in locust.values():
        (container,) = containers(deployment)
        host = urlsplit(environment(objects, container)["LOADTEST_HOST"])
        assert host.port in {port["port"] for port in services[host.hostname]["spec"]["ports"]}
        golden = environment(objects, container)["LOADTEST_GOLDEN"]
        mount = next(m for m in container["volumeMounts"] if golden.startswith(m["mountPath"] + "/"))
        assert mount["readOnly"]
    worker = locust["seaway-loadtest-worker"]
    (rule, _) = of_kind(objects, "NetworkPolicy")["seaway"]["spec"]["ingress"]
    admitted = rule["from"][0]["podSelector"]["matchLabels"]
    assert admitted.items() <= labels(worker).items()
    assert not admitted.items() <= labels(locust["seaway-loadtest-master"]).items(), "the master sends nothing"
    (container,) = containers(worker)
    master = container["command"][container["command"].index("--master-host") + 1]
    assert {port["port"] for port in services[master]["spec"]["ports"]} == {8089, 5557}


def test_locust_understands_its_command_line() -> None:
    """Checks its own options by name, and the locustfile's by the code that adds them."""
    locustfile = (MANIFESTS.parent / "seaway" / "load" / "locustfile.py").read_text()
    for deployment in deployments(load("base-loadtest"), "seaway-loadtest").values():
        (container,) = containers(deployment)
        options = {word for word in container["command"] + container["args"] if word.startswith("--")}
        added = {option for option in options if f'"{option}"' in locustfile}
        assert added == {"--golden", "--protocol"}
        assert options - added <= {"--master", "--worker", "--master-host", "--host"}


# ---- tf-serving


@pytest.mark.parametrize("name", TF_SERVINGS)
def test_tensorflow_serving_gets_only_known_flags(name: str) -> None:
    objects = load(name)
    (container,) = pod(deployments(objects)["seaway"])["containers"]
    flags = dict(re.fullmatch(r"--([a-z_]+)=(\S+)", argument).groups() for argument in container["args"])  # type: ignore[union-attr]
    assert flags.keys() <= FLAGS
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["http"] == int(flags["rest_api_port"]) != int(flags["port"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    folder, _, file = flags["model_config_file"].rpartition("/")
    assert folder == mounts["models-config"]
    (volume,) = [v for v in pod(deployments(objects)["seaway"])["volumes"] if v["name"] == "models-config"]
    config = of_kind(objects, "ConfigMap")[volume["configMap"]["name"]]["data"][file]
    assert re.search(r"model_version_policy \{ specific \{ versions: [1-9]\d* \} \}", config)
    assert config.count("versions:") == 1
    model = re.search(r'name: "(\w+)"', config)[1]  # type: ignore[index]
    assert f'base_path: "{mounts["models"]}/{model}"' in config
    assert container["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{model}/metadata"


@pytest.mark.parametrize("name", TF_SERVINGS)
def test_tensorflow_serving_has_the_service_and_no_canary(name: str) -> None:
    objects = load(name)
    assert deployments(objects, "seaway").keys() == {"seaway"}
    assert "seaway-canary" not in of_kind(objects, "Service")
    assert of_kind(objects, "Service")["seaway"] == {
        **of_kind(load("base-gpu"), "Service")["seaway"],
        "metadata": of_kind(objects, "Service")["seaway"]["metadata"],
    }


def test_stable_and_canary_both_get_gpus() -> None:
    for name in ("base-gpu", "production-gpu"):
        for deployment in deployments(load(name), "seaway").values():
            (container,) = pod(deployment)["containers"]
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert pod(deployment)["tolerations"][0]["key"] == "nvidia.com/gpu"
            assert pod(deployment)["nodeSelector"]


def test_the_server_s_own_image_copies_the_example() -> None:
    for name in ("kind", "base-example", "kind-tf-serving-loadtest"):
        (seed,) = pod(deployments(load(name))["seaway"])["initContainers"]
        assert seed["image"].startswith("seaway/serve:")
        assert seed["command"][1:3] == ["-m", "seaway.serve.seed"]
        (mount,) = [m for m in seed["volumeMounts"] if m["mountPath"] == seed["command"][-1]]
        assert not mount.get("readOnly")


# ---- beside Kubeflow

NODES = (2.0, 2.0)
KUBEFLOW = 1.3  # cores that Kubeflow Pipelines 2.17's pods request
SYSTEM = 0.65 + 2 * 0.1 + 2 * 0.1  # kubeadm's control plane, two CoreDNS pods, a CNI pod per node


def cores(text: str) -> float:
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def stack_cores(objects: list[Object]) -> float:
    """Returns the cores that stable, the canary and a rollout's surge pod request together."""
    (stable,) = pod(deployments(objects, "seaway")["seaway"])["containers"]
    (canary,) = pod(deployments(objects, "seaway")["seaway-canary"])["containers"]
    replicas = deployments(objects, "seaway")["seaway"]["spec"]["replicas"]
    stable_cores, canary_cores = (cores(one["resources"]["requests"]["cpu"]) for one in (stable, canary))
    return (replicas + 1) * stable_cores + canary_cores


def test_two_nodes_of_two_cores_have_room_for_every_stage_beside_kubeflow_and_the_stack() -> None:
    """One node has at least half of the free cores, however the other pods are spread."""
    free = sum(NODES) - KUBEFLOW - SYSTEM - stack_cores(load("kubeflow"))
    for stage, resources in cluster.STAGE_RESOURCES.items():
        assert cores(resources.cpu[0]) <= free / 2, stage
        assert resources.memory[0] in ("1Gi", "512Mi", "256Mi", "128Mi"), stage
    assert stack_cores(load("base-example")) > free, "the base, whose pods request a core each, would not fit"


# ---- kind


@pytest.mark.parametrize(("file", "nodes"), [("kind.yaml", 1), ("kind-workers.yaml", 3)])
def test_every_kind_node_mounts_the_model_repository_and_one_maps_the_ports(file: str, nodes: int) -> None:
    cluster: Object = yaml.safe_load((MANIFESTS / file).read_text())
    assert len(cluster["nodes"]) == nodes
    path = of_kind(load("kind"), "PersistentVolume")["seaway-models"]["spec"]["hostPath"]["path"]
    for node in cluster["nodes"]:
        assert node["extraMounts"] == [{"hostPath": ".kind-models", "containerPath": path}]
    (ports,) = [node["extraPortMappings"] for node in cluster["nodes"] if "extraPortMappings" in node]
    assert {port["listenAddress"] for port in ports} == {"127.0.0.1"}
    assert [port["hostPort"] for port in ports] == [port["containerPort"] for port in ports] == [*range(30080, 30084)]
    (port,) = of_kind(load("kind"), "Service")["seaway-host"]["spec"]["ports"]
    assert port["nodePort"] in {port["containerPort"] for port in ports}


# ---- tls


@pytest.mark.parametrize("name", ["base-tls", "kind-tls"])
def test_servers_read_their_certificate_from_the_mounted_secret(name: str) -> None:
    objects = load(name)
    for deployment in (deployments(objects)["seaway"], deployments(objects)["seaway-canary"]):
        spec = pod(deployment)
        (container,) = spec["containers"]
        (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "tls")
        assert "subPath" not in mount, "a changed Secret would never arrive"
        (volume,) = (volume["secret"] for volume in spec["volumes"] if volume["name"] == "tls")
        assert volume["defaultMode"] & 0o440 == 0o440, "the server's user reads it by its group"
        given = environment(objects, container)
        files = {given[f"SEAWAY_TLS_{part}"] for part in ("CERT", "KEY", "CLIENT_CA")}
        assert files == {f"{mount['mountPath']}/{key}" for key in ("tls.crt", "tls.key", "ca.crt")}
