"""Makes the lists of networks by rule, before anything is tuned on them: benchmarks/ship/lists/<list>.json.

    python -m benchmarks.ship.lists torchvision|timm|transformers|nets [--kept FILE]

torchvision    every classifier, segmentation network and detector
timm           of each module the network with the fewest parameters (of equal ones the first by name) that can be built
transformers   every model type, with its configuration made small by `shrink`, that PyTorch runs here
nets           `own.NETS`, as they are

An entry has the network's name and parameters, its inputs in the syntax of `seaway ship --input`, open sizes in that of
`--size`, and what random inputs must keep to: `high`, the bound of an integer input, and `masks`, inputs of ones and
then zeros. `activation` is `ship`'s, where the default, softmax, does not fit. Lists keep what was left out, and why.
"""

import argparse
import functools
import json
import multiprocessing
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("lists")
KINDS = {"classification": ("", 224), "segmentation": ("segmentation", 128), "detection": ("detection", 320)}
TYPE_TIMEOUT_S, TYPE_BYTES = 120, 6 << 30  # for one type of transformers
SIDES = {"inception_v3": 299}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.ship.lists")
    parser.add_argument("list", choices=LISTS)
    parser.add_argument("--kept", type=Path, help="transformers: a file that keeps each type's line, to resume from")
    arguments = parser.parse_args()
    makers = LISTS | {"transformers": functools.partial(transformers, arguments.kept)}
    write(arguments.list, *makers[arguments.list]())


def read(name: str) -> list[dict[str, Any]]:
    """The entries of a list."""
    return list(json.loads((FOLDER / f"{name}.json").read_text())["nets"])


def write(name: str, versions: dict[str, str], entries: list[dict[str, Any]], left_out: dict[str, str]) -> None:
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    out = json.dumps(left_out, indent=1)
    text = f'{{"versions": {json.dumps(versions)},\n"nets": [\n{lines}\n],\n"left_out": {out}}}\n'
    json.loads(text)
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"{name}: {len(entries)} networks, {len(left_out)} left out")


Made = tuple[dict[str, str], list[dict[str, Any]], dict[str, str]]


def torchvision() -> Made:
    import torchvision

    from benchmarks.ship import builders

    entries = []
    for kind, (part, side) in KINDS.items():
        module = getattr(torchvision.models, part) if part else torchvision.models
        for name in torchvision.models.list_models(module):
            size = SIDES.get(name, side)
            entry = {"name": name, "kind": kind, "inputs": [f"3x{size}x{size}"]}
            entry |= {"batch": 1} if kind == "detection" else {}
            entries.append(entry | {"parameters": _parameters(lambda name=name: builders.torchvision_net(name))})
    return {"torchvision": torchvision.__version__.partition("+")[0]}, entries, {}


def timm() -> Made:
    import timm

    entries, left_out = [], {}
    for module in timm.list_modules():
        sizes = []
        for name in timm.list_models(module=module):
            try:
                sizes.append((_parameters(lambda name=name: timm.create_model(name, pretrained=False)), name))
            except Exception as error:  # any network may fail in its own way, and is then not the one
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        for parameters, name in sorted(sizes):
            try:
                net = timm.create_model(name, pretrained=False)
            except Exception as error:
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            shape = "x".join(map(str, net.default_cfg["input_size"]))
            entries.append({"name": name, "module": module, "inputs": [shape], "parameters": parameters})
            break
        else:
            left_out[module] = "none of the module's networks can be built"
    return {"timm": timm.__version__}, entries, left_out


def _parameters(build: Callable[[], Any]) -> int:
    """The number of a network's parameters, without memory for them where it can be built so."""
    import torch

    try:
        with torch.device("meta"):
            net = build()
    except Exception:  # some compute with their weights while they are built
        net = build()
    return sum(parameter.numel() for parameter in net.parameters())


def transformers(kept: Path | None = None) -> Made:
    """Each type in a process of its own, forked once the packages are imported: some never end, or crash."""
    import timm  # noqa: F401  which some types import
    import torchvision  # noqa: F401
    import transformers
    from transformers import AutoModel  # noqa: F401
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    made: dict[str, Any] = {}
    if kept and kept.exists():
        made = dict(json.loads(line) for line in kept.read_text().splitlines())
    for model_type in sorted(MODEL_MAPPING_NAMES):
        if model_type not in made:
            made[model_type] = _entry(model_type)
            line = json.dumps([model_type, made[model_type]])
            print(line, flush=True)
            if kept:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
    entries = [entry for _, entry in sorted(made.items()) if not isinstance(entry, str)]
    left_out = {name: reason for name, reason in sorted(made.items()) if isinstance(reason, str)}
    return {"transformers": transformers.__version__}, entries, left_out


def _entry(model_type: str) -> Any:
    """The type's entry, or why there is none."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send_entry, args=(model_type, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(TYPE_TIMEOUT_S) else f"not done after {TYPE_TIMEOUT_S} s"
    except EOFError:
        return "the process died"
    finally:
        process.kill()
        process.join()


def _send_entry(model_type: str, sender: Any) -> None:
    import torch

    from benchmarks.ship import shrink

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (TYPE_BYTES, TYPE_BYTES))
    try:
        made: Any = shrink.entry(model_type)
        json.dumps(made)
    except Exception as error:  # any type may fail in its own way
        made = re.sub(r"/\S*/site-packages/", "", f"{type(error).__name__}: {error}".splitlines()[0])
    sender.send(made)


def nets() -> Made:
    from importlib.metadata import version

    from benchmarks.ship import own

    entries = [
        {"name": name, **entry, "parameters": _parameters(build)} for name, (build, entry) in sorted(own.NETS.items())
    ]
    return {name: version(name) for name in ("segmentation_models_pytorch", "einops")}, entries, {}


LISTS: dict[str, Callable[[], Made]] = {
    "torchvision": torchvision,
    "timm": timm,
    "transformers": transformers,
    "nets": nets,
}


if __name__ == "__main__":
    main()
