"""Runs a pipeline's stages in their images on this machine: kfp.local's DockerRunner, mended where it falls short.

Stages run as the user who started them, without capabilities and on a read-only root, on the host's network, so that a
server on 127.0.0.1 is within their reach. They see ROOT, at the same path, and read what else they are given.
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
    """A runner for `local.run`. Raises Unavailable where Docker or an image of the pipeline is not there."""
    import docker
    from docker.types import Mount
    from kfp import local
    from kfp.local import docker_task_handler

    try:
        with closing(docker.from_env()) as client:
            _check_images(client, sorted(images(pipeline)))
            for left in client.containers.list(filters={"label": f"{LABEL}={root}"}):  # of a run that was killed
                left.remove(force=True)
    except docker.errors.DockerException as error:
        raise Unavailable(f"Docker does not answer ({error}); start it, or leave --runner docker out") from None
    docker_task_handler.run_docker_container = _run
    return local.DockerRunner(
        network_mode="host",
        user=f"{os.getuid()}:{os.getgid()}",  # what stages write is to be the caller's
        mounts=[Mount(str(root), str(root), type="bind")]
        + [Mount(str(path), str(path), type="bind", read_only=True) for path in reads],
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},  # noqa: S108  (the container's own)
        labels={LABEL: str(root)},
    )


def images(pipeline: Any) -> set[str]:
    """The images that a compiled pipeline names."""
    executors = pipeline.pipeline_spec.deployment_spec["executors"]
    return {executor["container"]["image"] for executor in executors.values()}


def _check_images(client: Any, wanted: Iterable[str]) -> None:
    there = {tag for image in client.images.list() for tag in image.tags}
    missing = [image for image in wanted if image not in there]
    ours = [image for image in missing if image.startswith(f"{REGISTRY}/")]
    if ours:
        raise Unavailable(f"no image {', '.join(ours)} here: build them with `make images`")
    if missing:  # of a user's own components
        raise Unavailable(f"no image {', '.join(missing)} here: docker pull {missing[0]}, or build it")


def _run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any) -> int:
    """Runs a container to its end, prints what it says, and returns its exit status.

    In place of kfp's own, which has Docker remove the container and takes it for success where that was quicker than
    the question how it ended, and which leaves it running when the caller is interrupted.
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
