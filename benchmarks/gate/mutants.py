"""The list of mutants: made from the networks' exported graphs by a seed, and committed before it is measured."""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate import edits, kinds, nets
from benchmarks.gate.graph import Graph, run
from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import ArtifactMetadata

PER_KIND = 12
SEED = 1  # of the committed list
MODEL = "model.onnx"

Mutant = dict[str, Any]


def file(seed: int) -> Path:
    """mutants.jsonl, or mutants-2.jsonl and so on of other seeds."""
    return Path(__file__).with_name("mutants.jsonl" if seed == SEED else f"mutants-{seed}.jsonl")


def read(seed: int) -> list[Mutant]:
    return [json.loads(line) for line in file(seed).read_text(encoding="utf-8").splitlines()]


def text(mutants: list[Mutant]) -> str:
    """The list as a file's content, one mutant a line."""
    return "".join(json.dumps(mutant, ensure_ascii=False) + "\n" for mutant in mutants)


def export(name: str, folder: Path) -> ArtifactMetadata:
    """Exports a network as `seaway ship` does, with random golden examples."""
    from seaway.export.export import export_model

    entry = nets.NETS[name][1]
    options = {"sizes": entry.get("sizes", []), "activation": entry.get("activation", "")}
    model = f"python:benchmarks.gate.nets:{name}"
    return export_model(model, folder, weights=None, inputs=entry["inputs"], name="net", **options)


def graph(folder: Path, metadata: ArtifactMetadata) -> Graph:
    """The exported graph, with its values for the first two golden examples."""
    import onnx

    return Graph(onnx.load(folder / MODEL), example(folder), frozenset(metadata.weights))


def example(folder: Path) -> dict[str, np.ndarray]:
    first = golden.read(folder / golden.GOLDEN)
    return {name: array[:2] for name, array in first.inputs.items()} if first.inputs else first.calls[0].inputs


def generate(seed: int, names: list[str] | None = None) -> list[Mutant]:
    """The list of a seed: of each kind PER_KIND mutants at random places, as evenly over the networks as they have
    places. Each runs in ONNX Runtime, and its outputs have the shapes and types of the network's own."""
    graphs: dict[str, Graph] = {}
    places: dict[str, dict[str, list[Mutant]]] = {kind: {} for kind in kinds.KINDS}
    for name in names or nets.NETS:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            metadata = export(name, Path(folder) / "onnx")
            graphs[name] = graph(Path(folder) / "onnx", metadata)
        for kind, found in candidates(name, graphs[name]).items():
            if found:
                places[kind][name] = found
    chosen = []
    for number, kind in enumerate(places):
        order = choose(places[kind], np.random.default_rng([seed, number]))
        valid = (mutant for mutant in order if runs(graphs[mutant["net"]], mutant))
        chosen += [mutant for _, mutant in zip(range(PER_KIND), valid, strict=False)]
    return chosen


def candidates(name: str, graph: Graph) -> dict[str, list[Mutant]]:
    """Kind → every mutant of a network, whether it runs or not."""
    operators = {node.name: node.op_type for node in graph.nodes}
    found: dict[str, list[Mutant]] = {}
    for kind, sites in kinds.all_sites(graph).items():
        by_id = {}
        for node, edit, weight in sites:
            plain = json.loads(json.dumps(edit, default=float))
            key = f"{name} {node} {short(plain)}"
            by_id[key] = {
                "id": key, "net": name, "kind": kind, "operator": operators[node], "node": node, "edit": plain,
                "weight": weight,
            }  # fmt: skip
        found[kind] = list(by_id.values())
    return found


def short(edit: dict[str, Any]) -> str:
    """An edit in a few words."""
    return json.dumps(edit, separators=(",", ":")).replace('"', "").strip("{}")


def choose(places: dict[str, list[Mutant]], generator: np.random.Generator) -> Iterator[Mutant]:
    """All mutants of a kind in random order: one of each network, then a second one of each, and so on. `places`:
    network → its mutants."""
    names = [str(name) for name in generator.permutation(sorted(places))]
    queues = {name: [places[name][i] for i in generator.permutation(len(places[name]))] for name in names}
    for turn in range(max(map(len, queues.values()), default=0)):
        yield from (queues[name][turn] for name in names if turn < len(queues[name]))


def runs(graph: Graph, mutant: Mutant) -> bool:
    """Whether ONNX Runtime runs the mutant on the example, with outputs like the network's."""
    outputs = [value.name for value in graph.model.graph.output]
    try:
        results = run(edits.apply(graph, mutant["node"], mutant["edit"]), graph.example, outputs)
    except Exception:  # ONNX Runtime and ONNX raise many kinds
        return False
    own = graph.values
    return all((a := results[name]).shape == own[name].shape and a.dtype == own[name].dtype for name in outputs)
