"""A pipeline of your own: Seaway's stages beside components that you write. Copy it, and change it.

    seaway run --pipeline examples/own_pipeline.py --param minimum=5        (on this machine)
    seaway compile own.yaml --pipeline examples/own_pipeline.py             (for a cluster)

explore ─▶ enough: the run ends early where a class has too few pictures to train on.
"""

from typing import NamedTuple

from kfp import dsl

from seaway.pipeline.definitions import component

explore = component("explore")


# All of KFP's rules hold: the body imports what it uses, and the image has it. On this machine it runs in this Python.
@dsl.component(base_image="python:3.12-slim")
def enough(dataset: dsl.Input[dsl.Dataset], minimum: int, report: dsl.Output[dsl.HTML]) -> float:
    """Training pictures a class; fails where that is less than `minimum`."""
    import json
    from pathlib import Path

    card = json.loads((Path(dataset.path) / "card.json").read_text())
    each = card["metrics"]["train"] / len(card["labels"])
    Path(report.path).write_text(f"<!doctype html><title>Enough?</title><p>{each:g} pictures a class, {minimum} wanted")
    if each < minimum:
        raise SystemExit(f"enough: {each:g} pictures a class, and {minimum} are wanted: collect more")
    return each


class Outputs(NamedTuple):
    each: float
    explore_report: dsl.HTML
    enough_report: dsl.HTML


@dsl.pipeline(name="own-pipeline", description="Pictures, and whether there are enough of them.")
def own_pipeline(
    source: str = "strokes:434", fingerprint: str = "", cache: str = "/models/.cache", minimum: int = 5
) -> Outputs:
    """`seaway run` gives `fingerprint` and `cache`, for it knows these names: docs/pipelines.md has all of them."""
    data = explore(source=source, fingerprint=fingerprint, cache=cache)
    checked = enough(dataset=data.outputs["dataset"], minimum=minimum)
    return Outputs(checked.outputs["Output"], data.outputs["report"], checked.outputs["report"])
