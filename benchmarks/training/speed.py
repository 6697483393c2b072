"""Claim: Seaway trains the same net on more images per second than a plain PyTorch loop over a DataLoader.

    python -m benchmarks.training.speed --dataset dataset [--net cnn] [--rounds 5]
    python -m benchmarks.training.speed --dataset dataset --device cuda --batch 1024 --training amp=true

The peer is the loop of tutorials: a Dataset of PIL images, torchvision's transforms, a DataLoader with two workers,
AdamW, cross-entropy; on a GPU with pinned memory, and without waiting for each loss. Both run in turn, each in a
process of its own, over as many steps; the time counts from the first warm step. Measured twice: with random rotations,
slants, scales and shifts (RandomAffine there, ours here), and on unchanged images. Prints a Markdown table of medians
and ratios.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tables import median_or_nan, table, value_range
from seaway.data import datasets
from seaway.data.datasets import Dataset
from seaway.nets.build import build

WARM_UP_STEPS = 50  # a GPU's losses are fetched 25 at a time: this and --steps must be multiples of 25


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training.speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact")
    parser.add_argument("--net", default="cnn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="per round")
    parser.add_argument("--batch", type=int, default=128, help="images per step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="further settings for Seaway")
    parser.add_argument(
        "--threads", type=int, default=2, help="CPU threads, and workers of the plain loop's DataLoader"
    )
    parser.add_argument("--one", choices=["seaway", "plain"], help="make one measurement, in images per second")
    parser.add_argument("--augmented", type=int, default=1)
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(args.threads)
        print({"seaway": seaway, "plain": plain}[args.one](args, datasets.load(args.dataset)))
        return
    rows = [row(args, augmented) for augmented in (1, 0)]
    setup = f"{args.device}, {args.threads} threads" + "".join(f", {setting}" for setting in args.training)
    print(f"{args.net}, batches of {args.batch}, {setup}, {args.rounds} rounds of {args.steps} steps\n")
    print(table(["images", "plain loop, images/s", "Seaway, images/s", "ratio", "range over rounds"], rows))


def row(args: argparse.Namespace, augmented: int) -> list[str]:
    rates: dict[str, list[float]] = {"plain": [], "seaway": []}
    for _ in range(args.rounds):
        for peer, measured in rates.items():
            measured.append(measure(args, peer, augmented))
    ratios = [ours / theirs for ours, theirs in zip(rates["seaway"], rates["plain"], strict=True)]
    extremes = f"{min(ratios):.2f} to {max(ratios):.2f}"
    name = "augmented" if augmented else "unchanged"
    figures = [f"{median_or_nan(rates[peer]):,.0f} ({value_range(rates[peer])})" for peer in rates]
    return [name, *figures, f"{median_or_nan(ratios):.2f}", extremes]


def measure(args: argparse.Namespace, peer: str, augmented: int) -> float:
    command = [sys.executable, "-m", "benchmarks.training.speed", "--one", peer, "--augmented", str(augmented)]
    for name in ("dataset", "net", "steps", "threads", "batch", "device"):
        command += [f"--{name}", str(getattr(args, name))]
    if args.training:
        command += ["--training", *args.training]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seaway(args: argparse.Namespace, images: Dataset) -> float:
    """Images per second of seaway.train's loop, as train() sets it up."""
    from seaway.train.checkpoints import CheckpointManager
    from seaway.train.evaluate import Normalisation
    from seaway.train.loop import Loop
    from seaway.train.settings import parse_settings
    from seaway.train.train import configure

    shared = {"net": args.net, "batch_size": args.batch, "device": args.device, "threads": args.threads}
    seaway_only = {
        "affine": args.augmented,
        "elastic": 0,
        "stroke_jitter": 0,
        "ema": 0,
        "validation": 0,
        "epochs": 1000,
    }
    training = dict(setting.split("=", 1) for setting in args.training)
    settings = parse_settings({name: str(value) for name, value in (shared | seaway_only).items()} | training)
    configure(settings)
    loop = Loop(_net(args.net, images), images, Normalisation(0.17, 0.33), settings)
    clock = Clock(args)
    with contextlib.suppress(StopIteration):
        loop.run(CheckpointManager(None, "", 1e9), clock.step, lambda _: None)
    return clock.rate


def plain(args: argparse.Namespace, images: Dataset) -> float:
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision import transforms

    distortions = [transforms.RandomAffine(12, translate=(0.09, 0.09), scale=(0.88, 1.12), shear=14)]
    augmentation = distortions if args.augmented else []
    transform = transforms.Compose([*augmentation, transforms.ToTensor(), transforms.Normalize((0.17,), (0.33,))])

    class Images(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return len(images.train_labels)

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return transform(Image.fromarray(np.asarray(images.train_images[row]))), int(images.train_labels[row])

    gpu = args.device != "cpu"
    loader = DataLoader(
        Images(), args.batch, shuffle=True, num_workers=args.threads, drop_last=True, pin_memory=gpu,
        persistent_workers=True,
    )  # fmt: skip
    model = _net(args.net, images).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    clock = Clock(args)
    model.train()
    for batch, labels in again(loader):
        batch, labels = batch.to(args.device, non_blocking=True), labels.to(args.device, non_blocking=True)
        optimizer.zero_grad()
        loss = criterion(model(batch), labels)
        loss.backward()
        optimizer.step()
        try:
            clock.step(0.0 if gpu else loss.item())
        except StopIteration:
            break
    return clock.rate


def again(loader: "torch.utils.data.DataLoader[Any]") -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


class Clock:
    """Measures the rate over the steps after warm-up; raises StopIteration after the last one."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.done, self.start, self.rate = args, 0, 0.0, 0.0

    def step(self, _: float) -> None:
        self.done += 1
        if self.done in (WARM_UP_STEPS, WARM_UP_STEPS + self.args.steps) and self.args.device != "cpu":
            torch.cuda.synchronize()
        if self.done == WARM_UP_STEPS:
            self.start = time.monotonic()
        if self.done == WARM_UP_STEPS + self.args.steps:
            self.rate = self.args.steps * self.args.batch / (time.monotonic() - self.start)
            raise StopIteration


def _net(name: str, images: Dataset) -> nn.Module:
    torch.manual_seed(0)
    height, width = images.train_images.shape[1:]
    return build(name, (height, width), len(images.labels))


if __name__ == "__main__":
    main()
