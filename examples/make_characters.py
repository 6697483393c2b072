"""Rebuilds the bundled example with the real stages: `python -m examples.make_characters` in the repository.

    explore (strokes, offline) ─▶ train ─▶ calibrate ─▶ export ─▶ convert ─▶ validate ─▶ publish
        ─▶ seaway/example/characters/1

The network is small, so that its weights, which are in both formats, and the golden examples stay below 1 MB together.
It learns from made handwriting alone; one number, the temperature of its probabilities, was fitted on real handwriting
(benchmarks/handwriting.py), and the metadata says so. All other stages are those of every other model, so the example
has passed the gate. Takes about 20 minutes on two cores.
"""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from seaway.errors import exit_with_message

ROOT = Path(__file__).resolve().parents[1]
NAME, NET = "characters", "cnn-example"
SOURCE = "strokes:210000#text"
EPOCHS = 8
TEMPERATURE = 1.05  # by which the logits are divided; fitted by `python -m benchmarks.handwriting` on its dev writers
FITTED_ON = "pen-stroke handwriting (UNIPEN), the writers of its training set"
MAX_SIZE_BYTES = 1_000_000  # of the whole version


def main() -> None:
    parser = argparse.ArgumentParser("python -m examples.make_characters", description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, help="folder to keep the stages' artifacts in (default: they are deleted)")
    parser.add_argument("--source", default=SOURCE, help="data to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the data (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "seaway" / "example",
        help="folder whose characters/1 is replaced (default: %(default)s)",
    )
    args = parser.parse_args()
    with exit_with_message(parser.prog), tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        version = make(work, args.source, args.epochs)
        size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
        if size > MAX_SIZE_BYTES:
            sys.exit(f"{version} has {size:,} bytes, more than {MAX_SIZE_BYTES:,}: use a smaller network")
        target = args.out / NAME / "1"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(version, target)
        print(f"{target}: {size:,} bytes")


def make(work: Path, source: str, epochs: int) -> Path:
    """Runs all stages in `work`, those with TensorFlow in processes of their own. Returns the version's folder."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as seaway.train does, before torch is loaded
    from seaway.explore.explore import explore
    from seaway.export.export import export_checkpoint
    from seaway.nets import build, cnn
    from seaway.train.train import Settings, train

    build.NETS[NET] = partial(cnn.build, sizes=cnn.Sizes(stem=8, stages=(16, 28, 32)))
    explore(source, work / "dataset", work / "explore.html")
    settings = Settings(net=NET, epochs=epochs, learning_rate=4e-3, affine=1.0, elastic=0.6, stroke_jitter=0.7)
    train(work / "dataset", work / "trained", settings, report=work / "train.html")
    calibrate(work / "trained", work / "checkpoint")
    export_checkpoint(work / "checkpoint", work / "dataset", work / "onnx", name=NAME)
    _stage("convert", work, "onnx", "saved-model")
    _stage("validate", work, "onnx", "saved-model", "dataset", "parity", report="validate.html")
    repository = work / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    repository.mkdir()
    _stage("publish", work, "onnx", "saved-model", "parity", "repository")
    return repository / NAME / "1"


def calibrate(trained: Path, checkpoint: Path) -> None:
    """Writes the checkpoint whose logits are those of `trained` divided by TEMPERATURE."""
    import torch

    from seaway.artifacts import artifact_metadata, atomic
    from seaway.train.train import HISTORY, WEIGHTS

    metadata = artifact_metadata.check(trained, "checkpoint")
    weights = torch.load(trained / WEIGHTS, weights_only=True)
    for name in ("classify.weight", "classify.bias"):
        weights[name] /= TEMPERATURE
    fitted = {"temperature": TEMPERATURE, "temperature_fitted_on": FITTED_ON}
    with atomic.folder(checkpoint) as part:
        torch.save(weights, part / WEIGHTS)
        shutil.copyfile(trained / HISTORY, part / HISTORY)
        settings = {**metadata.settings, **fitted}
        artifact_metadata.write(part, dataclasses.replace(metadata, settings=settings))


def _stage(name: str, work: Path, *artifacts: str, report: str = "") -> None:
    options = [word for artifact in artifacts for word in (f"--{artifact}", str(work / artifact))]
    options += ["--report", str(work / report)] if report else []
    subprocess.run([sys.executable, "-m", f"seaway.{name}", *options], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
