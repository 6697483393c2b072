"""What single features promise: Locust reaches the server, TensorFlow Serving is told what it knows, kind fits."""

import re
from urllib.parse import urlsplit

import pytest
import yaml
from rendered import MANIFESTS, Object, containers, deployments, environment, labels, load, of_kind, pod

from seaway.pipeline import cluster

LOADTESTS = ("base-loadtest", "kind-autoscale-loadtest", "kind-tf-serving-loadtest", "production-loadtest-pipeline")
TF_SERVINGS = ("base-tf-serving", "kind-tf-serving-loadtest", "base-tf-serving-autoscale-gpu")
# of tensorflow_model_server's main.cc
FLAGS = {
    "port", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms", "enable_batching",
    "batching_parameters_file", "model_config_file", "model_name", "model_base_path", "file_system_poll_wait_seconds",
    "flush_filesystem_caches", "tensorflow_session_parallelism", "platform_config_file",
    "per_process_gpu_memory_fraction", "saved_model_tags", "grpc_channel_arguments", "enable_model_warmup", "version",
}  # fmt: skip


# ---- loadtest


@pytest.mark.parametrize("name", LOADTESTS)
def test_locust_asks_a_service_from_pods_that_are_let_in(name: str) -> None:
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
    wanted = rule["from"][0]["podSelector"]["matchLabels"]
    assert wanted.items() <= labels(worker).items()
    assert not wanted.items() <= labels(locust["seaway-loadtest-master"]).items(), "the master sends nothing"
    (container,) = containers(worker)
    master = container["command"][container["command"].index("--master-host") + 1]
    assert {port["port"] for port in services[master]["spec"]["ports"]} == {8089, 5557}


def test_locust_understands_its_command_line() -> None:
    """Its own options by name, the locustfile's as that file adds them."""
    locustfile = (MANIFESTS.parent / "seaway" / "load" / "locustfile.py").read_text()
    for deployment in deployments(load("base-loadtest"), "seaway-loadtest").values():
        (container,) = containers(deployment)
        given = {word for word in container["command"] + container["args"] if word.startswith("--")}
        ours = {option for option in given if f'"{option}"' in locustfile}
        assert ours == {"--golden", "--protocol"}
        assert given - ours <= {"--master", "--worker", "--master-host", "--host"}


# ---- tf-serving


@pytest.mark.parametrize("name", TF_SERVINGS)
def test_tensorflow_serving_is_given_flags_that_it_has(name: str) -> None:
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


def test_gpus_are_for_stable_and_canary_alike() -> None:
    for name in ("base-gpu", "production-gpu"):
        for deployment in deployments(load(name), "seaway").values():
            (container,) = pod(deployment)["containers"]
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert pod(deployment)["tolerations"][0]["key"] == "nvidia.com/gpu"
            assert pod(deployment)["nodeSelector"]


def test_the_example_is_copied_by_the_servers_own_image() -> None:
    for name in ("kind", "base-example", "kind-tf-serving-loadtest"):
        (seed,) = pod(deployments(load(name))["seaway"])["initContainers"]
        assert seed["image"].startswith("seaway/serve:")
        assert seed["command"][1:3] == ["-m", "seaway.serve.seed"]
        (mount,) = [m for m in seed["volumeMounts"] if m["mountPath"] == seed["command"][-1]]
        assert not mount.get("readOnly")


# ---- beside Kubeflow

NODES = (2.0, 2.0)
KUBEFLOW = 1.3  # what Kubeflow Pipelines 2.17's pods request, of cores
SYSTEM = 0.65 + 2 * 0.1 + 2 * 0.1  # kubeadm's control plane, two of CoreDNS, a CNI's pod on each node


def cores(text: str) -> float:
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def stack_cores(objects: list[Object]) -> float:
    """What stable, the canary and a pod that a rollout adds request together."""
    (stable,) = pod(deployments(objects, "seaway")["seaway"])["containers"]
    (canary,) = pod(deployments(objects, "seaway")["seaway-canary"])["containers"]
    replicas = deployments(objects, "seaway")["seaway"]["spec"]["replicas"]
    asked = [cores(one["resources"]["requests"]["cpu"]) for one in (stable, canary)]
    return (replicas + 1) * asked[0] + asked[1]


def test_two_nodes_of_two_cores_have_room_for_every_stage_beside_kubeflow_and_the_stack() -> None:
    """Of what is free, one node has at least half, however the others' pods lie."""
    free = sum(NODES) - KUBEFLOW - SYSTEM - stack_cores(load("kubeflow"))
    for stage, needs in cluster.NEEDS.items():
        assert cores(needs.cpu[0]) <= free / 2, stage
        assert needs.memory[0] in ("1Gi", "512Mi", "256Mi", "128Mi"), stage
    assert stack_cores(load("base-example")) > free, "the base's own, whose pods ask for a core each, has no room"


# ---- kind


@pytest.mark.parametrize(("file", "nodes"), [("kind.yaml", 1), ("kind-workers.yaml", 3)])
def test_every_node_of_kind_has_the_volume_and_one_has_the_ports(file: str, nodes: int) -> None:
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
