"""`python -m seaway.train`: see train.py."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seaway.errors import exit_with_message
from seaway.train import sampling
from seaway.train.settings import EPOCHS, Settings, option

EPILOG = """\
example:
  python -m seaway.train --dataset dataset --checkpoint checkpoint --work work --report train.html

A quick look with the small network:
  python -m seaway.train --dataset dataset --checkpoint checkpoint --net mlp --epochs 3

Several processes that share every batch, one a GPU with --device cuda (docs/training.md):
  torchrun --standalone --nproc-per-node=2 -m seaway.train --dataset dataset --checkpoint checkpoint --work work
"""

EPOCHS_TEXT = ", ".join(f"{count} for the {net}" for net, count in EPOCHS.items())
HELP = {
    "net": "cnn, cnn-large, mlp, linear, torchvision:NAME as torchvision:resnet18, or python:MODULE:FUNCTION, your own",
    "epochs": f"times that every training picture is seen; 0 for as many as the net is worth, {EPOCHS_TEXT}",
    "sampling": f"what to do where classes are unevenly filled: {', '.join(sampling.CHOICES)}",
    "batch_size": "pictures a step",
    "learning_rate": "highest learning rate; lower it where the loss diverges, e.g. 0.001",
    "weight_decay": "AdamW's weight decay, on weights alone",
    "label_smoothing": "share of certainty taken from the true class, e.g. 0.05; 0 for none",
    "affine": "strength of random turns, slants, scales and shifts: 0 for none, 1 for what handwriting bears",
    "elastic": "strength of random smooth bends: 0 for none, 1 for bends of nearly a pixel",
    "pen": "how different a pen draws each picture: width, softness and darkness of strokes; 0 for none",
    "warm_up": "share of all steps in which the learning rate rises",
    "ema": "how much of the averaged weights stays at each step, as 0.998; 0 for none, and the weights as they are",
    "validation": "share of the training set that chooses the best epoch and is not trained on",
    "patience": "epochs without a better one after which training ends; 0 for never",
    "seed": "what chance draws from: the same seed gives the same weights",
    "amp": "bfloat16 where it is enough, for GPUs",
    "compile": "torch.compile: wants a C++ compiler",
    "threads": "CPU threads; 0 for one a core, as far as the container's CPU limit allows",
    "device": "PyTorch's name of the device, e.g. cpu or cuda",
    "save_seconds": "how often to save the state within an epoch, with --work",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m seaway.train",
        description="Train a network on a dataset artifact.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact, made by seaway.explore")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder to write, e.g. checkpoint")
    parser.add_argument("--work", type=Path, help="folder for the state of an unfinished run, to resume from")
    parser.add_argument("--report", type=Path, help="HTML report to write, e.g. train.html")
    defaults = Settings()
    for name, text in HELP.items():
        default = getattr(defaults, name)
        kind: dict[str, Any] = {"action": "store_true"} if isinstance(default, bool) else {"type": type(default)}
        parser.add_argument(f"--{option(name)}", default=default, help=f"{text} (default: {default})", **kind)
    given = parser.parse_args(arguments)
    # Waiting threads are to sleep: spinning, OpenMP's way, doubles the CPU time where other programs want the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    process = f" (process {os.environ['RANK']})" if "RANK" in os.environ else ""
    with exit_with_message(f"python -m seaway.train{process}"):
        from seaway.train.train import train  # only now, since PyTorch reads it when it is loaded

        settings = Settings(**{name: getattr(given, name) for name in HELP})
        train(given.dataset, given.checkpoint, settings, given.work, given.report)


if __name__ == "__main__":
    main()
