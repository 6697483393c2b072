"""Claim: where classes are unevenly filled, sampling raises the balanced accuracy.

    python -m benchmarks.training.sampling --dataset dataset [--net cnn] [--seeds 3] [--epochs 6] --folder measured
    python -m benchmarks.training.sampling --dataset dataset --device cuda --at-once 12 --folder measured

Trains the net with each of the five samplings over the same seeds; all learn from about as many pictures, since epochs
are counted in passes over the training set as it is. Finished runs are kept in the folder, so that it can be
interrupted. Prints a Markdown table and draws FOLDER/sampling.png.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.tables import table
from seaway.artifacts import card as cards
from seaway.data import data
from seaway.nets.build import build
from seaway.train import sampling, train
from seaway.train.evaluate import Normalisation, measure, predict
from seaway.train.settings import EPOCHS

FIGURES = ("accuracy", "balanced accuracy", "worst class", "ten rarest classes")


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.training.sampling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--dataset", type=Path, required=True, help="dataset artifact")
    parser.add_argument("--net", default="cnn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="passes over the training set (default: the net's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a run")
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time (default: 1)")
    parser.add_argument("--folder", type=Path, required=True, help="where runs and the picture are kept")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    runs = [(choice, seed) for choice in sampling.CHOICES for seed in range(given.seeds)]
    with ThreadPoolExecutor(given.at_once) as running:
        list(running.map(lambda run: train_once(given, *run), runs))
    got = {
        choice: np.array([figures(given.dataset, folder(given, choice, seed)) for seed in range(given.seeds)])
        for choice in sampling.CHOICES
    }
    plain = 100 * got["none"].mean(axis=0)[1]
    rows = []
    for choice, values in got.items():
        cells = [f"{100 * m:.2f} ± {100 * s:.2f}" for m, s in zip(values.mean(axis=0), values.std(axis=0), strict=True)]
        rows.append([choice, *cells, f"{100 * values.mean(axis=0)[1] - plain:+.2f}"])
    print(f"{given.net}, {given.seeds} seeds, percent of the test set, mean ± standard deviation over seeds\n")
    print(table(["sampling", *FIGURES, "balanced, against none"], rows))
    draw(got, given.folder / "sampling.png")


def folder(given: argparse.Namespace, choice: str, seed: int) -> Path:
    return Path(given.folder / f"{given.net}-{choice}-{seed}")


def train_once(given: argparse.Namespace, choice: str, seed: int) -> None:
    """Trains one run where it is not there yet."""
    checkpoint = folder(given, choice, seed)
    if checkpoint.exists():
        return
    passes = given.epochs or EPOCHS.get(given.net, EPOCHS["cnn"])
    labels = data.load_labels(given.dataset, "train")
    epochs = max(1, round(passes * len(labels) / sampling.size(labels, choice)))
    command = [sys.executable, "-m", "seaway.train", "--dataset", given.dataset, "--checkpoint", checkpoint]
    command += ["--net", given.net, "--sampling", choice, "--seed", seed, "--epochs", epochs, "--device", given.device]
    command += ["--threads", given.threads, "--work", given.folder / "work" / checkpoint.name]
    subprocess.run([*map(str, command)], check=True)


def figures(dataset: Path, checkpoint: Path) -> list[float]:
    """What the run reached on the test set, as FIGURES names it."""
    import torch

    card, pictures = cards.read(checkpoint), data.load(dataset)
    height, width = pictures.train_images.shape[1:]
    net = build(card.settings["net"], (height, width), len(pictures.labels))
    net.load_state_dict(torch.load(checkpoint / train.WEIGHTS, weights_only=True))
    normalise = Normalisation(card.settings["mean"], card.settings["std"])
    result = measure(predict(net, pictures.test_images, normalise, torch.device("cpu")), pictures.test_labels)
    rarest = np.argsort(np.bincount(pictures.train_labels, minlength=len(pictures.labels)), kind="stable")[:10]
    recall = result.recall
    return [result.accuracy, result.balanced_accuracy, float(np.nanmin(recall)), float(np.nanmean(recall[rarest]))]


def draw(got: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib.figure import Figure

    from seaway.reporting.report import COLOURS

    drawn = Figure(figsize=(9, 3), layout="constrained")
    for axes, name, column in zip(drawn.subplots(1, len(FIGURES)), FIGURES, range(len(FIGURES)), strict=True):
        for place, values in enumerate(got.values()):
            axes.plot([place] * len(values), 100 * values[:, column], "o", color=COLOURS[place], alpha=0.6)
            axes.plot(place, 100 * values[:, column].mean(), "_", color=COLOURS[place], markersize=18)
        axes.set_title(name, fontsize=9)
        axes.set_xticks(range(len(got)), list(got), rotation=60, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
