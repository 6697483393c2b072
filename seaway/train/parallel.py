"""Training with several processes: `torchrun --nproc-per-node=2 -m seaway.train …`, on one machine or on several.

Each process computes its part of every batch, and gradients and BatchNorm's statistics are those of the whole batch:
many processes compute what one would, within rounding. Only process 0 prints and writes. Without torchrun there is one
process, and nothing here has any effect.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from seaway.errors import InvalidInput, Unavailable

T = TypeVar("T")
RENDEZVOUS_TIMEOUT = timedelta(minutes=2)  # torchrun starts processes together, once all machines are there
COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # process 0 evaluates alone, while the others wait for it


@contextmanager
def group(device: str, rendezvous_timeout: timedelta = RENDEZVOUS_TIMEOUT) -> Iterator[str]:
    """Joins the processes that torchrun started; yields this process's device: with several GPUs, its own.

    Raises InvalidInput for a device or an environment that does not suit several processes, Unavailable if the other
    processes cannot be reached or have ended.
    """
    if _env_int("WORLD_SIZE", "1") == 1:
        yield device
        return
    device = _own_device(device)
    try:
        _init_process_group("nccl" if device.startswith("cuda") else "gloo", rendezvous_timeout)
        yield device
        dist.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        reason = re.sub(r"^\[\S+\] ", "", str(error)).partition(". ")[0].rstrip(".\n")
        raise Unavailable(
            f"the other processes cannot be reached ({reason}): see the message of the one that ended first, "
            "or check MASTER_ADDR and the network; run again to continue from the last saved state"
        ) from None


def rank() -> int:
    """This process's number; process 0 prints and writes."""
    return dist.get_rank() if _distributed() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if _distributed() else 1


def batch_slice(count: int) -> slice:
    """This process's part of a batch of `count`; parts differ by at most one. Raises InvalidInput for an empty part."""
    if count < world_size():
        raise InvalidInput(
            f"a batch of {count} is too small for {world_size()} processes: start fewer, or raise --batch-size"
        )
    return slice(count * rank() // world_size(), count * (rank() + 1) // world_size())


def wrap(net: nn.Module) -> nn.Module:
    """The module to train `net` through, with one process the net itself. All processes get process 0's weights."""
    if not _distributed():
        return net
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = _GlobalBatchNorm  # its parameters, buffers and their names stay
    return DistributedDataParallel(net, forward_sync_buffers=False)  # they are equal already


def all_reduce(values: Tensor) -> Tensor:
    """The sums over all processes."""
    if not _distributed():
        return values
    summed = values.detach().clone()
    dist.all_reduce(summed)
    return summed


def broadcast(value: T | None) -> T:
    """The value of process 0; those of the other processes are ignored."""
    values: list[Any] = [value]
    if _distributed():
        dist.broadcast_object_list(values, src=0)
    result: T = values[0]
    return result


class _AllReduce(torch.autograd.Function):
    """The sum over all processes; the gradient of each part is the sum of all gradients."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        summed = value.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


class _GlobalBatchNorm(_BatchNorm):
    """BatchNorm with default options over the images of all processes. PyTorch's SyncBatchNorm works only on GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        others = [axis for axis in range(x.ndim) if axis != 1]
        own = x.mean(others)
        shape = [1, -1] + [1] * (x.ndim - 2)
        spread = (x - own.view(shape)).square().sum(others)  # E[x²] - E[x]² would lose digits
        parts = x.new_zeros(world_size(), 2 * len(own) + 1)
        parts[rank()] = torch.cat([own, spread, own.new_tensor([x.numel() / x.shape[1]])])
        means, spreads, counts = _AllReduce.apply(parts).split([len(own), len(own), 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = (spreads + (means - mean).square() * counts).sum(0) / count
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        result: Tensor = x * scale.view(shape) + (self.bias - mean * scale).view(shape)
        return result

    def _check_input_dim(self, _: Tensor) -> None:
        """Skipped, because it was checked before the net was wrapped."""


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _env_int(name: str, default: str = "") -> int:
    """A number from the environment that torchrun sets. Raises InvalidInput."""
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise InvalidInput(
            f"{name} is {value!r}, but must be a number if WORLD_SIZE is set: start all processes with torchrun, or "
            "unset WORLD_SIZE to train with one process"
        )
    return int(value)


def _own_device(device: str) -> str:
    """This process's own GPU, if there are several. Raises InvalidInput."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return device
    if index:
        raise InvalidInput(f"--device {device} is one GPU for several processes: --device cuda gives each its own")
    local_rank, gpus = _env_int("LOCAL_RANK"), torch.cuda.device_count()
    if local_rank >= gpus:
        raise InvalidInput(
            f"process {local_rank} of this machine finds {gpus} GPUs: start one process per GPU (--nproc-per-node), "
            "or use --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


def _init_process_group(backend: str, rendezvous_timeout: timedelta) -> None:
    port = _env_int("MASTER_PORT")
    if not os.environ.get("MASTER_ADDR"):
        raise InvalidInput("WORLD_SIZE is set, but MASTER_ADDR is not: start all processes with torchrun")
    if _env_int("RANK") >= _env_int("WORLD_SIZE") or port >= 2**16:
        raise InvalidInput("RANK must be less than WORLD_SIZE, and MASTER_PORT a port: start with torchrun")
    store, rank, world_size = next(rendezvous("env://", timeout=rendezvous_timeout))
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=COLLECTIVE_TIMEOUT)
