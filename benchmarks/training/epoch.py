"""Claim: on one data-centre GPU an epoch over as repeated images as EMNIST's training set takes seconds.

    python -m benchmarks.training.epoch --dataset dataset --training amp=true batch_size=1024

Repeats the dataset's images up to 697,932, and runs seaway.train's loop over them as train() sets it up, with
augmentation, averaged weights and validation after each epoch. Prints the seconds of each epoch; the first one includes
compilation and the choice of kernels.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from seaway.data import datasets
from seaway.data.datasets import Dataset
from seaway.nets.build import build
from seaway.train.checkpoints import CheckpointManager
from seaway.train.loop import Epoch, Loop
from seaway.train.settings import parse_settings
from seaway.train.train import configure, normalisation

EMNIST = 697_932


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training.epoch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact")
    parser.add_argument("--images", type=int, default=EMNIST, help="to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="settings, e.g. amp=true")
    args = parser.parse_args()
    training = dict(setting.split("=", 1) for setting in args.training)
    settings = parse_settings({"device": args.device, "epochs": str(args.epochs)}, training)
    configure(settings)
    original = datasets.load(args.dataset)
    images, labels = (np.resize(p, (args.images, *p.shape[1:])) for p in (original.train_images, original.train_labels))
    repeated = Dataset(images, labels, original.test_images, original.test_labels, original.labels)
    torch.manual_seed(settings.seed)
    net = build(settings.net, repeated.train_images.shape[1:], len(repeated.labels))
    loop = Loop(net, repeated, normalisation(original, args.dataset), settings)
    ends = [time.monotonic()]

    def after_epoch(row: Epoch) -> None:
        ends.append(time.monotonic())
        print(f"epoch {row['epoch']:.0f}: {ends[-1] - ends[-2]:.2f} s, loss {row['loss']:.3f}", flush=True)

    loop.run(CheckpointManager(None, "", 1e9), lambda _: None, after_epoch)
    later = [after - before for before, after in itertools.pairwise(ends[1:])]
    device = torch.cuda.get_device_name() if args.device.startswith("cuda") else "CPU"
    median = f"{statistics.median(later):.2f} s per epoch of {args.images:,} images"
    print(f"{device}, {settings.net}, {' '.join(args.training)}: {median}")


if __name__ == "__main__":
    main()
