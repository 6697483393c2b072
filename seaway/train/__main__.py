"""`python -m seaway.train`: see train.py."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seaway.arguments import ArgumentParser
from seaway.errors import exit_with_message
from seaway.train import sampling
from seaway.train.settings import EPOCHS, Settings, option

EPILOG = """\
example:
  python -m seaway.train --dataset dataset --checkpoint checkpoint --work work --report train.html

A quick try with the small network:
  python -m seaway.train --dataset dataset --checkpoint checkpoint --net mlp --epochs 3

Several processes that share every batch, with --device cuda one per GPU (docs/training.md):
  torchrun --standalone --nproc-per-node=2 -m seaway.train --dataset dataset --checkpoint checkpoint --work work
"""

EPOCHS_TEXT = ", ".join(f"{net} {count}" for net, count in EPOCHS.items())
HELP = {
    "net": "cnn, cnn-large, mlp, linear, torchvision:NAME, e.g. torchvision:resnet18, or your python:MODULE:FUNCTION",
    "epochs": f"epochs; 0: the network's own number, {EPOCHS_TEXT}",
    "sampling": f"how to treat class imbalance: {', '.join(sampling.CHOICES)}",
    "batch_size": "images per step",
    "learning_rate": "highest learning rate; lower it if the loss diverges, e.g. to 0.001",
    "weight_decay": "AdamW's weight decay; not applied to biases and BatchNorm",
    "label_smoothing": "label-smoothing factor, e.g. 0.05; 0: off",
    "affine": "strength of random rotations, slants, scales and shifts; 0: off, 1: as much as handwriting tolerates",
    "elastic": "strength of random smooth bends; 0: off, 1: bends of nearly a pixel",
    "stroke_jitter": "strength of random changes to the width, softness and darkness of strokes; 0: off",
    "warm_up": "fraction of all steps over which the learning rate warms up",
    "ema": "decay of the exponential moving average of the weights, e.g. 0.998; 0: off",
    "validation": "fraction of the training set held out to choose the best epoch",
    "patience": "early stopping: stop after this many epochs without improvement; 0: off",
    "seed": "seed of all random numbers: the same seed gives the same weights",
    "amp": "mixed precision with bfloat16, for GPUs",
    "compile": "torch.compile; needs a C++ compiler",
    "threads": "CPU threads; 0: one per core, within the container's CPU limit",
    "device": "PyTorch device, e.g. cpu or cuda",
    "save_seconds": "seconds between two saves of the state within an epoch, with --work",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(
        "python -m seaway.train",
        description="Trains a network on a dataset artifact.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact, made by seaway.explore")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder to write, e.g. checkpoint")
    parser.add_argument(
        "--work", type=Path, help="folder for the state of an unfinished run, which the next run resumes"
    )
    parser.add_argument("--report", type=Path, help="HTML report to write, e.g. train.html")
    defaults = Settings()
    for name, text in HELP.items():
        default = getattr(defaults, name)
        kwargs: dict[str, Any] = {"type": type(default), "help": f"{text} (default: {default})"}
        if isinstance(default, bool):
            kwargs = {"action": "store_true", "help": text}
        parser.add_argument(f"--{option(name)}", default=default, **kwargs)
    args = parser.parse_args(arguments)
    # Waiting threads should sleep: OpenMP's spinning doubles the CPU time if other programs need the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    process = f" (process {os.environ['RANK']})" if "RANK" in os.environ else ""
    with exit_with_message(f"python -m seaway.train{process}"):
        from seaway.train.train import train  # only now, because PyTorch reads the variable when it is loaded

        settings = Settings(**{name: getattr(args, name) for name in HELP})
        train(args.dataset, args.checkpoint, settings, args.work, args.report)


if __name__ == "__main__":
    main()
