"""Compiles the pipelines to KFP's IR: `python -m pipelines.compile characters characters.yaml`."""

import argparse
from pathlib import Path
from typing import Any

from kfp import compiler

from pipelines.characters import characters
from pipelines.ship import ship

PIPELINES: dict[str, Any] = {"characters": characters, "ship": ship}


def compile_pipeline(name: str, output: Path) -> None:
    """Writes the IR YAML of the named pipeline to `output`."""
    compiler.Compiler().compile(PIPELINES[name], str(output))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__)
    parser.add_argument("pipeline", choices=sorted(PIPELINES))
    parser.add_argument("output", type=Path, help="the .yaml file to write")
    chosen = parser.parse_args()
    compile_pipeline(chosen.pipeline, chosen.output)


if __name__ == "__main__":
    main()
