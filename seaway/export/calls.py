"""The golden calls of a net: its examples, those that floats.py adds, and some with other sizes of its open axes, each
with the outputs of the reference."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import golden as goldens
from seaway.artifacts.golden import Golden
from seaway.errors import ModelError
from seaway.export import floats, wrap
from seaway.export.inputs import ROWS_AT_OTHER_SIZES, Examples, Inputs, at_sizes, sizes_to_try
from seaway.export.tolerance import Outputs
from seaway.export.wrap import Observed, Wrapped
from seaway.nets.user import user_code

DRAWS = 8  # of random examples for one size, until the net takes one

Run = Callable[[Examples], Outputs]


def that_run(wrapped: Wrapped, examples: Examples) -> tuple[Examples, Observed]:
    """The examples, with ones as their integers if the net takes no zeros, as lengths may be. Raises ModelError."""
    try:
        return examples, wrap.check(wrapped, examples)
    except ModelError as error:
        ones = {name: np.ones_like(a) if a.dtype.kind in "iu" else a for name, a in examples.items()}
        if all(array is examples[name] for name, array in ones.items()):
            raise
        try:
            return ones, wrap.check(wrapped, ones)
        except ModelError:
            raise error from None


def with_outputs(
    inputs: Inputs,
    examples: Examples,
    observed: Observed,
    run: Run,
    settings: dict[str, Any],
    further: Sequence[Examples] = (),
) -> list[tuple[Examples, Outputs]]:
    """Calls and their outputs, which are added to `observed`: the examples, and some with other sizes of open axes."""
    calls = [floats.placed(examples, further)] if inputs.batch else [examples, *further]
    if inputs.batch and not observed.batched:  # they cannot be sliced: each is a call
        print("export: not every output has the batch as its first axis alone, so a server runs each request alone")
        calls = [*(wrap.batch_of(examples, batch) for batch in wrap.BATCHES), *calls]
    pairs = [*((call, run(call)) for call in calls), *_other_sizes(inputs, examples, run, settings)]
    for call, outputs in pairs:
        observed.add(len(next(iter(call.values()))) if inputs.batch else 0, outputs)
    return pairs


def _other_sizes(
    inputs: Inputs, examples: Examples, run: Run, settings: dict[str, Any]
) -> list[tuple[Examples, Outputs]]:
    """Calls with other sizes of the open axes, and their outputs; sizes that the net does not take are in the settings.

    Where it does not take integers that it takes at the usual sizes, as indices into an open axis, they are 0 and 1.
    """
    real = settings.get("golden") == "given"
    small = {n: np.clip(a, 0, 1).astype(a.dtype) if a.dtype.kind in "iu" else a for n, a in examples.items()}
    attempts = [(examples, 0)] if real else [(source, draw) for source in (examples, small) for draw in range(DRAWS)]
    pairs, refused = [], {}
    for sizes in sizes_to_try(inputs):
        why = ""
        for source, draw in attempts:
            call = at_sizes(inputs, source, sizes, ROWS_AT_OTHER_SIZES, real, draw)
            try:
                outputs = run(call)
            except ModelError as error:
                why = why or str(error)
                continue
            if real or not any(np.isnan(array).any() for array in outputs.values()):  # as of a mask without a token
                pairs.append((call, outputs))
                break
            why = why or f"the outputs are NaN at {', '.join(f'{name}={size}' for name, size in sizes.items())}"
        else:
            if not real:
                raise ModelError(f"{why}; give a range that it takes, or real inputs")
            refused[", ".join(f"{name}={size}" for name, size in sizes.items())] = why
    if refused:
        settings["refused_sizes"] = refused
        print(f"export: --golden, cut or repeated, does not fit {'; '.join(refused)}, which are not tried", flush=True)
    return pairs


def write(part: Path, pairs: list[tuple[Examples, Outputs]], batched: bool) -> None:
    """Writes golden.npz; the first call's examples are its rows if they are `batched`."""
    whole = [Golden(*pair) for pair in pairs]
    rows = whole.pop(0) if batched else Golden({}, {})
    goldens.write(part / goldens.GOLDEN, Golden(rows.inputs, rows.outputs, tuple(whole)))


def by_pytorch(wrapped: Wrapped, examples: Examples) -> Outputs:
    """PyTorch's outputs of a call. Raises ModelError."""
    shapes = ", ".join(f"{name} {array.dtype.name} {list(array.shape)}" for name, array in examples.items())
    with user_code(f"forward() fails on {shapes} (see --golden, --size)"):
        return wrap.run(wrapped, examples)
