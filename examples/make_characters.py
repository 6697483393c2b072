"""Makes the bundled example anew, through the real stages: `python -m examples.make_characters` in the repository.

    explore (strokes, offline) ─▶ train ─▶ export ─▶ convert ─▶ validate ─▶ publish ─▶ seaway/example/characters/1

A small network, so that its weights, which both formats hold, and the golden examples stay below 1 MB together. The
stages are those of every other model: nothing comes here that the gate did not pass. About ten minutes on two cores.
"""

import argparse
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
SOURCE = "strokes:42000"
EPOCHS = 20
LARGEST = 1_000_000  # bytes of the whole version


def main() -> None:
    parser = argparse.ArgumentParser("python -m examples.make_characters", description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, help="keeps the stages' artifacts here (default: nowhere)")
    parser.add_argument("--source", default=SOURCE, help="data to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over it (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "seaway" / "example",
        help="folder whose characters/1 is replaced (default: %(default)s)",
    )
    given = parser.parse_args()
    with exit_with_message(parser.prog), tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        version = make(work, given.source, given.epochs)
        size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
        if size > LARGEST:
            sys.exit(f"{version} has {size:,} bytes, more than {LARGEST:,}: choose a smaller network")
        target = given.out / NAME / "1"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(version, target)
        print(f"{target}: {size:,} bytes")


def make(work: Path, source: str, epochs: int) -> Path:
    """Runs all stages in `work`, those with torch in this process and those with TensorFlow in others. The version."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as seaway.train does, before torch is loaded
    from seaway.explore.explore import explore
    from seaway.export.export import export_checkpoint
    from seaway.nets import build, cnn
    from seaway.train.train import Settings, train

    build.NETS[NET] = partial(cnn.build, sizes=cnn.Sizes(stem=8, stages=(12, 24, 28)))
    explore(source, work / "dataset", work / "explore.html")
    settings = Settings(net=NET, epochs=epochs, learning_rate=4e-3)
    train(work / "dataset", work / "checkpoint", settings, report=work / "train.html")
    export_checkpoint(work / "checkpoint", work / "dataset", work / "onnx", name=NAME)
    _stage("convert", work, "onnx", "saved-model")
    _stage("validate", work, "onnx", "saved-model", "dataset", "parity", report="validate.html")
    volume = work / "volume"
    shutil.rmtree(volume, ignore_errors=True)
    volume.mkdir()
    _stage("publish", work, "onnx", "saved-model", "parity", "volume")
    return volume / NAME / "1"


def _stage(name: str, work: Path, *artifacts: str, report: str = "") -> None:
    options = [word for artifact in artifacts for word in (f"--{artifact}", str(work / artifact))]
    options += ["--report", str(work / report)] if report else []
    subprocess.run([sys.executable, "-m", f"seaway.{name}", *options], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
