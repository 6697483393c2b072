"""Claim: training by Seaway shows more pictures a second to the same net than a plain PyTorch loop over a DataLoader.

    python -m benchmarks.training.speed --dataset dataset [--net cnn] [--rounds 5]

The peer is what tutorials write: a Dataset of PIL pictures, torchvision's transforms, a DataLoader with two workers,
AdamW, cross-entropy. In turn, each in a process of its own, over as many steps; times count from the first step that is
warm. Twice: with random turns, slants, scales and shifts (RandomAffine there, ours here), and on the pictures as they
are. Prints a Markdown table of medians and ratios.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tables import middle, spread, table
from seaway import data
from seaway.nets.build import build

BATCH = 128
WARM = 10


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training.speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact")
    parser.add_argument("--net", default="cnn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of 128 pictures, a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=["seaway", "plain"], help="one measurement, in pictures a second")
    parser.add_argument("--augmented", type=int, default=1)
    given = parser.parse_args()
    if given.one:
        torch.set_num_threads(given.threads)
        rate = {"seaway": seaway, "plain": plain}[given.one]
        print(rate(given.dataset, given.net, given.steps, bool(given.augmented)))
        return
    rows = [row(given, augmented) for augmented in (1, 0)]
    print(f"{given.net}, batches of {BATCH}, {given.threads} threads, {given.rounds} rounds of {given.steps} steps\n")
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
    for name in ("dataset", "net", "steps", "threads"):
        command += [f"--{name}", str(getattr(given, name))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seaway(dataset: Path, net: str, steps: int, augmented: bool) -> float:
    """Pictures a second of components.train's loop, as train() sets it up."""
    from components.train import cpus
    from components.train.evaluate import Normalisation
    from components.train.loop import Loop
    from components.train.settings import Settings
    from components.train.state import Keeper

    cpus.keep_memory()
    pictures = data.load(dataset)
    strength = {"affine": 1.0 if augmented else 0.0, "elastic": 0.0}
    settings = Settings(net=net, batch_size=BATCH, validation=0, epochs=1000, **strength)  # type: ignore[arg-type]
    loop = Loop(_net(net, pictures), pictures, Normalisation(0.17, 0.33), settings)
    clock = Clock(steps)
    with contextlib.suppress(StopIteration):
        loop.run(Keeper(None, "", 1e9), clock.step, lambda _: None)
    return clock.rate


def plain(dataset: Path, net: str, steps: int, augmented: bool) -> float:
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision import transforms

    pictures = data.load(dataset)
    distorted = [transforms.RandomAffine(12, translate=(0.09, 0.09), scale=(0.88, 1.12), shear=14)] if augmented else []
    transform = transforms.Compose([*distorted, transforms.ToTensor(), transforms.Normalize((0.17,), (0.33,))])

    class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return len(pictures.train_labels)

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return transform(Image.fromarray(np.asarray(pictures.train_images[row]))), int(pictures.train_labels[row])

    loader = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=2, drop_last=True)
    model = _net(net, pictures)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    clock = Clock(steps)
    model.train()
    for images, labels in again(loader):
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        try:
            clock.step(loss.item())
        except StopIteration:
            break
    return clock.rate


def again(loader: "torch.utils.data.DataLoader[tuple[Tensor, Tensor]]") -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


class Clock:
    """Counts steps; raises StopIteration after the last one."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.began, self.rate = steps, 0, 0.0, 0.0

    def step(self, _: float) -> None:
        self.done += 1
        if self.done == WARM:
            self.began = time.monotonic()
        if self.done == WARM + self.steps:
            self.rate = self.steps * BATCH / (time.monotonic() - self.began)
            raise StopIteration


def _net(name: str, pictures: data.Dataset) -> nn.Module:
    torch.manual_seed(0)
    height, width = pictures.train_images.shape[1:]
    return build(name, (height, width), len(pictures.labels))


if __name__ == "__main__":
    main()
