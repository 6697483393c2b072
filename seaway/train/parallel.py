"""Training by several processes: `torchrun --nproc-per-node=2 -m seaway.train …`, on one machine or on several.

Each process takes its part of every batch, and gradients and BatchNorm's statistics are those of the whole batch: so
many processes do what one does, within rounding. Process 0 alone speaks and writes. Started without torchrun there is
one process, and nothing here does anything.
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
MEETING = timedelta(minutes=2)  # torchrun starts processes together, when all machines are there
SILENCE = timedelta(minutes=30)  # process 0 evaluates alone: nobody may give it up meanwhile


@contextmanager
def group(device: str, meeting: timedelta = MEETING) -> Iterator[str]:
    """Within it the processes that torchrun started work together; yields this one's device: of several GPUs its own.

    Raises InvalidInput for a device or an environment that several processes cannot have, Unavailable where the others
    are not there, or no more.
    """
    if _number("WORLD_SIZE", "1") == 1:
        yield device
        return
    device = _own(device)
    try:
        _meet("nccl" if device.startswith("cuda") else "gloo", meeting)
        yield device
        dist.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        reason = re.sub(r"^\[\S+\] ", "", str(error)).partition(". ")[0].rstrip(".\n")
        raise Unavailable(
            f"the other processes cannot be reached ({reason}): the one that ended first says why, or look at "
            "MASTER_ADDR and the network; run again to go on from the last state saved"
        ) from None


def rank() -> int:
    """This process's number; 0 is the one that speaks and writes."""
    return dist.get_rank() if _several() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def part(count: int) -> slice:
    """This process's part of a batch of `count`: parts differ by one at most. Raises InvalidInput for an empty one."""
    if count < world():
        raise InvalidInput(
            f"a batch of {count} is too small for {world()} processes: start fewer, or raise --batch-size"
        )
    return slice(count * rank() // world(), count * (rank() + 1) // world())


def wrap(net: nn.Module) -> nn.Module:
    """What to train `net` through; the net itself where there is one process. Others get the weights of process 0."""
    if not _several():
        return net
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = _WholeBatchNorm  # its parameters, buffers and their names stay
    return DistributedDataParallel(net, forward_sync_buffers=False)  # they are alike already


def total(values: Tensor) -> Tensor:
    """The sums of all processes' values."""
    if not _several():
        return values
    summed = values.detach().clone()
    dist.all_reduce(summed)
    return summed


def share(value: T | None) -> T:
    """What process 0 has; what the others give is not looked at."""
    held: list[Any] = [value]
    if _several():
        dist.broadcast_object_list(held, src=0)
    result: T = held[0]
    return result


class _Total(torch.autograd.Function):
    """The sum over all processes; and the gradient of each part is the sum of all gradients."""

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


class _WholeBatchNorm(_BatchNorm):
    """BatchNorm, as its defaults make it, over all processes' pictures. PyTorch's SyncBatchNorm is for GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        others = [axis for axis in range(x.ndim) if axis != 1]
        own = x.mean(others)
        shape = [1, -1] + [1] * (x.ndim - 2)
        spread = (x - own.view(shape)).square().sum(others)  # squares less the mean's square would lose digits
        parts = x.new_zeros(world(), 2 * len(own) + 1)
        parts[rank()] = torch.cat([own, spread, own.new_tensor([x.numel() / x.shape[1]])])
        means, spreads, counts = _Total.apply(parts).split([len(own), len(own), 1], dim=1)
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
        """The net was right before it was wrapped."""


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()


def _number(name: str, otherwise: str = "") -> int:
    """Of the environment that torchrun makes. Raises InvalidInput."""
    value = os.environ.get(name, otherwise)
    if not value.isdecimal():
        raise InvalidInput(
            f"{name} is {value!r}, which has to be a number where WORLD_SIZE is set: start all processes with "
            "torchrun, or unset WORLD_SIZE to train with one"
        )
    return int(value)


def _own(device: str) -> str:
    """Of several GPUs this process's own. Raises InvalidInput."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return device
    if index:
        raise InvalidInput(f"--device {device} names one GPU for several processes: --device cuda gives each its own")
    local, there = _number("LOCAL_RANK"), torch.cuda.device_count()
    if local >= there:
        raise InvalidInput(
            f"process {local} of this machine finds {there} GPUs: start one process a GPU (--nproc-per-node), "
            "or take --device cpu"
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def _meet(backend: str, meeting: timedelta) -> None:
    port = _number("MASTER_PORT")
    if not os.environ.get("MASTER_ADDR"):
        raise InvalidInput("WORLD_SIZE is set, but MASTER_ADDR is not: start all processes with torchrun")
    if _number("RANK") >= _number("WORLD_SIZE") or port >= 2**16:
        raise InvalidInput("RANK has to be less than WORLD_SIZE, and MASTER_PORT a port: start with torchrun")
    store, number, count = next(rendezvous("env://", timeout=meeting))
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=SILENCE)
