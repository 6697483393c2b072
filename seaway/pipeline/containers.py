"""Runs a pipeline's stages in their images on this machine: kfp.local's DockerRunner, with its faults fixed.

Stages run as the current user, without capabilities and on a read-only root, on the host's network to reach a server on
127.0.0.1. ROOT is mounted at the same path, and other inputs read-only.
"""

import codecs
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from seaway.errors import Unavailable
from seaway.pipeline.images import REGISTRY

LABEL = "seaway.root"


def runner(pipeline: Any, root: Path, reads: Sequence[Path] = ()) -> Any:
    """Returns a runner for `local.run`. Raises Unavailable without Docker or an image of the pipeline."""
    import docker
    from docker.types import Mount
    from kfp import local
    from kfp.local import docker_task_handler

    try:
        with closing(docker.from_env()) as client:
            _check_images(client, sorted(images(pipeline)))
            for orphan in client.containers.list(filters={"label": f"{LABEL}={root}"}):  # of a killed run
                orphan.remove(force=True)
    except docker.errors.DockerException as error:
        raise Unavailable(f"Docker does not respond ({error}); start it, or omit --runner docker") from None
    docker_task_handler.run_docker_container = _run
    return local.DockerRunner(
        network_mode="host",
        user=f"{os.getuid()}:{os.getgid()}",  # the caller must own what stages write
        mounts=[Mount(str(root), str(root), type="bind")]
        + [Mount(str(path), str(path), type="bind", read_only=True) for path in reads],
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},  # noqa: S108  (the container's own)
        labels={LABEL: str(root)},
    )


def images(pipeline: Any) -> set[str]:
    """Returns the images of a compiled pipeline."""
    executors = pipeline.pipeline_spec.deployment_spec["executors"]
    return {executor["container"]["image"] for executor in executors.values()}


def _check_images(client: Any, required: Iterable[str]) -> None:
    present = {tag for image in client.images.list() for tag in image.tags}
    missing = [image for image in required if image not in present]
    seaway = [image for image in missing if image.startswith(f"{REGISTRY}/")]
    if seaway:
        raise Unavailable(f"missing Docker images: {', '.join(seaway)}; build them with `make images`")
    if missing:  # of a user's own components
        raise Unavailable(f"missing Docker images: {', '.join(missing)}; run docker pull {missing[0]}, or build it")


def _run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any) -> int:
    """Runs a container to its end, prints its output, and returns its exit status.

    Replaces kfp's function, which lets Docker remove the container, reports success if the removal comes before the
    status is read, and leaves the container running if the caller is interrupted.
    """
    container = client.containers.create(image, command, volumes=volumes, **arguments)
    try:
        container.start()
        decoder, line = codecs.getincrementaldecoder("utf-8")("replace"), ""
        for chunk in container.logs(stream=True, follow=True):
            *lines, line = (line + decoder.decode(chunk)).split("\n")
            for whole in lines:
                print(whole)
        print(line)
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
