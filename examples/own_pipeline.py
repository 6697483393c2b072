"""A pipeline of your own, from Seaway's stages and components that you write. Copy it and change it.

    seaway run --pipeline examples/own_pipeline.py --param minimum=5        (on this machine)
    seaway compile own.yaml --pipeline examples/own_pipeline.py             (for a cluster)

explore ─▶ enough: the run ends early if a class has too few images to train on.
"""

from typing import NamedTuple

from kfp import dsl

from seaway.pipeline.definitions import component

explore = component("explore")


# All of KFP's rules apply: the body imports what it uses, and the image contains it. Locally it runs in this Python.
@dsl.component(base_image="python:3.12-slim")
def enough(dataset: dsl.Input[dsl.Dataset], minimum: int, report: dsl.Output[dsl.HTML]) -> float:
    """Training images per class; fails if there are fewer than `minimum`."""
    import json
    from pathlib import Path

    metadata = json.loads((Path(dataset.path) / "card.json").read_text())
    per_class = metadata["metrics"]["train"] / len(metadata["labels"])
    text = f"{per_class:g} images per class, {minimum} needed"
    Path(report.path).write_text(f"<!doctype html><title>Enough?</title><p>{text}")
    if per_class < minimum:
        raise SystemExit(f"enough: {text}: collect more")
    return per_class


class Outputs(NamedTuple):
    each: float
    explore_report: dsl.HTML
    enough_report: dsl.HTML


@dsl.pipeline(name="own-pipeline", description="Reads images, and checks that there are enough of them.")
def own_pipeline(
    source: str = "strokes:434", fingerprint: str = "", cache: str = "/models/.cache", minimum: int = 5
) -> Outputs:
    """`seaway run` fills in `fingerprint` and `cache` by their names; docs/pipelines.md lists all such names."""
    data = explore(source=source, fingerprint=fingerprint, cache=cache)
    checked = enough(dataset=data.outputs["dataset"], minimum=minimum)
    return Outputs(checked.outputs["Output"], data.outputs["report"], checked.outputs["report"])
