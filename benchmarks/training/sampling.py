"""Claim: if classes are imbalanced, sampling raises the balanced accuracy.

    python -m benchmarks.training.sampling --dataset dataset [--net cnn] [--seeds 3] [--epochs 6] --folder measured
    python -m benchmarks.training.sampling --dataset dataset --device cuda --at-once 12 --folder measured

Trains the net with each of the five samplings over the same seeds, each on about as many images, because epochs are
counted in passes over the original training set. Keeps finished runs in the folder, so that the benchmark can be
interrupted. Prints a Markdown table and plots FOLDER/sampling.png.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.tables import table
from seaway.artifacts import artifact_metadata
from seaway.data import datasets
from seaway.nets.build import build
from seaway.train import sampling, train
from seaway.train.evaluate import Normalisation, measure, predict
from seaway.train.settings import EPOCHS

METRICS = ("accuracy", "balanced accuracy", "worst class", "ten rarest classes")


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
    parser.add_argument("--folder", type=Path, required=True, help="folder for the runs and the plot")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    runs = [(choice, seed) for choice in sampling.CHOICES for seed in range(args.seeds)]
    with ThreadPoolExecutor(args.at_once) as executor:
        list(executor.map(lambda run: train_once(args, *run), runs))
    metrics = {
        choice: np.array([evaluate(args.dataset, folder(args, choice, seed)) for seed in range(args.seeds)])
        for choice in sampling.CHOICES
    }
    baseline = 100 * metrics["none"].mean(axis=0)[1]
    rows = []
    for choice, values in metrics.items():
        cells = [f"{100 * m:.2f} ± {100 * s:.2f}" for m, s in zip(values.mean(axis=0), values.std(axis=0), strict=True)]
        rows.append([choice, *cells, f"{100 * values.mean(axis=0)[1] - baseline:+.2f}"])
    print(f"{args.net}, {args.seeds} seeds, percent of the test set, mean ± standard deviation over seeds\n")
    print(table(["sampling", *METRICS, "balanced, vs. none"], rows))
    plot(metrics, args.folder / "sampling.png")


def folder(args: argparse.Namespace, choice: str, seed: int) -> Path:
    return Path(args.folder / f"{args.net}-{choice}-{seed}")


def train_once(args: argparse.Namespace, choice: str, seed: int) -> None:
    """Trains one run, unless its checkpoint exists."""
    checkpoint = folder(args, choice, seed)
    if checkpoint.exists():
        return
    passes = args.epochs or EPOCHS.get(args.net, EPOCHS["cnn"])
    labels = datasets.load_labels(args.dataset, "train")
    epochs = max(1, round(passes * len(labels) / sampling.size(labels, choice)))
    command = [sys.executable, "-m", "seaway.train", "--dataset", args.dataset, "--checkpoint", checkpoint]
    command += ["--net", args.net, "--sampling", choice, "--seed", seed, "--epochs", epochs, "--device", args.device]
    command += ["--threads", args.threads, "--work", args.folder / "work" / checkpoint.name]
    subprocess.run([*map(str, command)], check=True)


def evaluate(dataset: Path, checkpoint: Path) -> list[float]:
    """METRICS of the run on the test set."""
    import torch

    metadata, images = artifact_metadata.read(checkpoint), datasets.load(dataset)
    height, width = images.train_images.shape[1:]
    net = build(metadata.settings["net"], (height, width), len(images.labels))
    net.load_state_dict(torch.load(checkpoint / train.WEIGHTS, weights_only=True))
    normalise = Normalisation(metadata.settings["mean"], metadata.settings["std"])
    result = measure(predict(net, images.test_images, normalise, torch.device("cpu")), images.test_labels)
    rarest = np.argsort(np.bincount(images.train_labels, minlength=len(images.labels)), kind="stable")[:10]
    recall = result.recall
    return [result.accuracy, result.balanced_accuracy, float(np.nanmin(recall)), float(np.nanmean(recall[rarest]))]


def plot(metrics: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib.figure import Figure

    from seaway.reporting.report import COLOURS

    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, name, column in zip(figure.subplots(1, len(METRICS)), METRICS, range(len(METRICS)), strict=True):
        for x, values in enumerate(metrics.values()):
            axes.plot([x] * len(values), 100 * values[:, column], "o", color=COLOURS[x], alpha=0.6)
            axes.plot(x, 100 * values[:, column].mean(), "_", color=COLOURS[x], markersize=18)
        axes.set_title(name, fontsize=9)
        axes.set_xticks(range(len(metrics)), list(metrics), rotation=60, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
