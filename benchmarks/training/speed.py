"""Claim: training by Seaway shows more pictures a second to the same net than a plain PyTorch loop over a DataLoader.

    python -m benchmarks.training.speed --dataset dataset [--net cnn] [--rounds 5]
    python -m benchmarks.training.speed --dataset dataset --device cuda --batch 1024 --training amp=true

The peer is what tutorials write: a Dataset of PIL pictures, torchvision's transforms, a DataLoader with two workers,
AdamW, cross-entropy; on a GPU with pinned memory, and without waiting for each loss. In turn, each in a process of its
own, over as many steps; times count from the first step that is warm. Twice: with random turns, slants, scales and
shifts (RandomAffine there, ours here), and on the pictures as they are. Prints a Markdown table of medians and ratios.
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

from benchmarks.tables import middle, spread, table
from seaway.data import data
from seaway.data.data import Dataset
from seaway.nets.build import build

WARM = 50  # a GPU's losses are read 25 at a time: this and --steps are to be multiples of that


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training.speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact")
    parser.add_argument("--net", default="cnn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="a round")
    parser.add_argument("--batch", type=int, default=128, help="pictures a step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="further settings of ours")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU; workers of the plain loop's DataLoader")
    parser.add_argument("--one", choices=["seaway", "plain"], help="one measurement, in pictures a second")
    parser.add_argument("--augmented", type=int, default=1)
    given = parser.parse_args()
    if given.one:
        torch.set_num_threads(given.threads)
        print({"seaway": seaway, "plain": plain}[given.one](given, data.load(given.dataset)))
        return
    rows = [row(given, augmented) for augmented in (1, 0)]
    where = f"{given.device}, {given.threads} threads" + "".join(f", {setting}" for setting in given.training)
    print(f"{given.net}, batches of {given.batch}, {where}, {given.rounds} rounds of {given.steps} steps\n")
    print(table(["pictures", "plain loop, pictures/s", "Seaway, pictures/s", "ratio", "of the rounds"], rows))


def row(given: argparse.Namespace, augmented: int) -> list[str]:
    rates: dict[str, list[float]] = {"plain": [], "seaway": []}
    for _ in range(given.rounds):
        for who, measured in rates.items():
            measured.append(measure(given, who, augmented))
    ratios = [ours / theirs for ours, theirs in zip(rates["seaway"], rates["plain"], strict=True)]
    around = f"{min(ratios):.2f} to {max(ratios):.2f}"
    name = "distorted" if augmented else "as they are"
    figures = [f"{middle(rates[who]):,.0f} ({spread(rates[who])})" for who in rates]
    return [name, *figures, f"{middle(ratios):.2f}", around]


def measure(given: argparse.Namespace, who: str, augmented: int) -> float:
    command = [sys.executable, "-m", "benchmarks.training.speed", "--one", who, "--augmented", str(augmented)]
    for name in ("dataset", "net", "steps", "threads", "batch", "device"):
        command += [f"--{name}", str(getattr(given, name))]
    if given.training:
        command += ["--training", *given.training]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seaway(given: argparse.Namespace, pictures: Dataset) -> float:
    """Pictures a second of seaway.train's loop, as train() sets it up."""
    from seaway.train.evaluate import Normalisation
    from seaway.train.loop import Loop
    from seaway.train.settings import parsed
    from seaway.train.state import Keeper
    from seaway.train.train import configure

    plain_words = {"net": given.net, "batch_size": given.batch, "device": given.device, "threads": given.threads}
    own = {"affine": given.augmented, "elastic": 0, "pen": 0, "ema": 0, "validation": 0, "epochs": 1000}
    further = dict(setting.split("=", 1) for setting in given.training)
    settings = parsed({name: str(value) for name, value in (plain_words | own).items()} | further)
    configure(settings)
    loop = Loop(_net(given.net, pictures), pictures, Normalisation(0.17, 0.33), settings)
    clock = Clock(given)
    with contextlib.suppress(StopIteration):
        loop.run(Keeper(None, "", 1e9), clock.step, lambda _: None)
    return clock.rate


def plain(given: argparse.Namespace, pictures: Dataset) -> float:
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision import transforms

    distorted = [transforms.RandomAffine(12, translate=(0.09, 0.09), scale=(0.88, 1.12), shear=14)]
    first = distorted if given.augmented else []
    transform = transforms.Compose([*first, transforms.ToTensor(), transforms.Normalize((0.17,), (0.33,))])

    class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return len(pictures.train_labels)

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return transform(Image.fromarray(np.asarray(pictures.train_images[row]))), int(pictures.train_labels[row])

    gpu = given.device != "cpu"
    loader = DataLoader(
        Pictures(), given.batch, shuffle=True, num_workers=given.threads, drop_last=True, pin_memory=gpu,
        persistent_workers=True,
    )  # fmt: skip
    model = _net(given.net, pictures).to(given.device)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    clock = Clock(given)
    model.train()
    for images, labels in again(loader):
        images, labels = images.to(given.device, non_blocking=True), labels.to(given.device, non_blocking=True)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
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
    """Counts steps; raises StopIteration after the last one."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.done, self.began, self.rate = given, 0, 0.0, 0.0

    def step(self, _: float) -> None:
        self.done += 1
        if self.done in (WARM, WARM + self.given.steps) and self.given.device != "cpu":
            torch.cuda.synchronize()
        if self.done == WARM:
            self.began = time.monotonic()
        if self.done == WARM + self.given.steps:
            self.rate = self.given.steps * self.given.batch / (time.monotonic() - self.began)
            raise StopIteration


def _net(name: str, pictures: Dataset) -> nn.Module:
    torch.manual_seed(0)
    height, width = pictures.train_images.shape[1:]
    return build(name, (height, width), len(pictures.labels))


if __name__ == "__main__":
    main()
