"""Claim: on one data-centre GPU an epoch over as many pictures as EMNIST has to train takes seconds.

    python -m benchmarks.training.epoch --dataset dataset --training amp=true batch_size=1024

The dataset's pictures are repeated up to 697,932; seaway.train's loop goes over them as train() sets it up, with
all random changes, averaged weights and validation after each epoch. Prints the seconds of each epoch: the first one
has the compiler and the choice of kernels in it.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from seaway.data import data
from seaway.data.data import Dataset
from seaway.nets.build import build
from seaway.train.loop import Epoch, Loop
from seaway.train.settings import parsed
from seaway.train.state import Keeper
from seaway.train.train import configure, normalisation

EMNIST = 697_932


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training.epoch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact")
    parser.add_argument("--pictures", type=int, default=EMNIST, help="to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="settings, e.g. amp=true")
    given = parser.parse_args()
    chosen = dict(setting.split("=", 1) for setting in given.training)
    settings = parsed({"device": given.device, "epochs": str(given.epochs)}, chosen)
    configure(settings)
    few = data.load(given.dataset)
    images, labels = (np.resize(p, (given.pictures, *p.shape[1:])) for p in (few.train_images, few.train_labels))
    many = Dataset(images, labels, few.test_images, few.test_labels, few.labels)
    torch.manual_seed(settings.seed)
    net = build(settings.net, many.train_images.shape[1:], len(many.labels))
    loop = Loop(net, many, normalisation(few, given.dataset), settings)
    ended = [time.monotonic()]

    def after_epoch(row: Epoch) -> None:
        ended.append(time.monotonic())
        print(f"epoch {row['epoch']:.0f}: {ended[-1] - ended[-2]:.2f} s, loss {row['loss']:.3f}", flush=True)

    loop.run(Keeper(None, "", 1e9), lambda _: None, after_epoch)
    later = [after - before for before, after in itertools.pairwise(ended[1:])]
    where = torch.cuda.get_device_name() if given.device.startswith("cuda") else "CPU"
    median = f"{statistics.median(later):.2f} s an epoch of {given.pictures:,} pictures"
    print(f"{where}, {settings.net}, {' '.join(given.training)}: {median}")


if __name__ == "__main__":
    main()
