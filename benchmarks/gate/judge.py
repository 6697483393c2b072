"""Runs a network's mutants through the gate, in a process that `__main__` starts and watches.

A mutant stands for a converter that gets one operator wrong. Its graph is converted, and the result takes the place of
the network's own SavedModel: the gate gets the unchanged ONNX file, with its weights and golden examples, and a
conversion record as the wrong converter would write it. Constants that the mutation invented are not in that record,
because a converter has no name for them.
"""

import dataclasses
import json
import os
import re
import shutil
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from seaway.errors import Refused, SeawayError

BEGUN, DONE, LOG = "begun", "done", "log"
MODEL, SAVED, PARITY = "onnx", "saved_model", "parity"
MUTANT, MUTANT_SAVED = "mutant", "mutant_saved_model"
CONVERSION = "conversion.json"
MAX_REASON = 300
_NAMED = re.compile(r"the first operator that differs is \S+ \(node '([^']*)'")
_FAULT = re.compile(r"^  ([^:\n]+): (.*)", re.MULTILINE)


def child(net: str, mutants: list[dict[str, Any]], folder: str, results: str, commit: str) -> None:
    """The process's work: appends a line to `results` for the unchanged network and each mutant."""
    log = os.open(Path(folder) / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    warnings.simplefilter("ignore")
    judge = Judge(net, Path(folder))

    def add(result: dict[str, Any]) -> None:
        with Path(results).open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(result | {"commit": commit}, ensure_ascii=False, allow_nan=False) + "\n")

    add(judge.unchanged)
    for mutant in mutants:
        (Path(folder) / BEGUN).write_text(mutant["id"], encoding="utf-8")
        add(judge.result(mutant))
    (Path(folder) / DONE).touch()


class Judge:
    """One network: exported, converted and validated; then its mutants."""

    def __init__(self, net: str, folder: Path) -> None:
        from benchmarks.gate import mutants, nets, score
        from seaway.artifacts import golden
        from seaway.convert.convert import convert_artifact

        began = time.process_time()
        self.net, self.folder, self.entry = net, folder, nets.NETS[net][1]
        self.metadata = mutants.export(net, folder / MODEL)
        self.graph = mutants.graph(folder / MODEL, self.metadata)
        self.examples = golden.read(folder / MODEL / golden.GOLDEN)
        convert_artifact(folder / MODEL, folder / SAVED)
        checks, reason, _ = self.gate(folder / SAVED)
        self.unchanged = {"id": net, "net": net, "kind": score.UNCHANGED}
        self.unchanged |= {"class": score.REFUSED, "reason": reason} if checks else {"class": score.PASSED}
        self.unchanged["cpu_s"] = round(time.process_time() - began, 1)
        self._own: Any = None

    def result(self, mutant: dict[str, Any]) -> dict[str, Any]:
        """The mutant's line of the results."""
        from benchmarks.gate import score

        began = time.process_time()
        result = {key: mutant[key] for key in ("id", "net", "kind", "operator", "weight")}
        try:
            self.convert(mutant)
        except Exception as error:  # TensorFlow raises many kinds
            found = {"class": score.NOT_CONVERTED, "without_weights": score.NOT_CONVERTED, "reason": _said(error)}
        else:
            found = self._judged(mutant["node"])
        return result | found | {"cpu_s": round(time.process_time() - began, 1)}

    def convert(self, mutant: dict[str, Any]) -> None:
        """Writes MUTANT_SAVED: what the wrong converter makes of the network."""
        from benchmarks.gate import edits, mutants
        from seaway.artifacts import artifact_metadata
        from seaway.convert.convert import convert_artifact

        onnx, saved = self.folder / MUTANT, self.folder / MUTANT_SAVED
        for each in (onnx, saved):
            shutil.rmtree(each, ignore_errors=True)
        shutil.copytree(self.folder / MODEL, onnx)
        model = edits.apply(self.graph, mutant["node"], mutant["edit"])
        (onnx / mutants.MODEL).write_bytes(model.SerializeToString())
        artifact_metadata.write(onnx, self.metadata)
        converted = convert_artifact(onnx, saved)
        record = json.loads((saved / CONVERSION).read_text(encoding="utf-8"))
        known = {*self.graph.initializers, *self.graph.producers}
        record["constants"] = [each for each in record["constants"] if each[0] in known]
        (saved / CONVERSION).write_text(json.dumps(record), encoding="utf-8")
        artifact_metadata.write(saved, dataclasses.replace(converted, parents={"onnx": self.metadata}))

    def gate(self, saved: Path) -> tuple[list[str], str, str]:
        """The checks that refuse a SavedModel of this network, the first reason, and the node that it names."""
        from seaway.validate.validate import validate

        shutil.rmtree(self.folder / PARITY, ignore_errors=True)
        try:
            validate(self.folder / MODEL, saved, None, self.folder / PARITY)
        except Refused as error:
            faults = _FAULT.findall(str(error))
            named = _NAMED.search(str(error))
            checks = list(dict.fromkeys(check for check, _ in faults))
            return checks, faults[0][1][:MAX_REASON], named[1] if named else ""
        except SeawayError as error:
            return [type(error).__name__], _said(error), ""
        return [], "", ""

    def _judged(self, node: str) -> dict[str, Any]:
        from benchmarks.gate import score

        checks, reason, named = self.gate(self.folder / MUTANT_SAVED)
        found: dict[str, Any] = {"ratio": None}
        if all(check in score.WEIGHT_CHECKS for check in checks):
            found = self.search()
        said: dict[str, Any] = {}
        if checks:
            said = {"checks": checks, "reason": reason, "named": named, "named_right": named == node}
        result = score.verdict(checks, found["ratio"]) | said
        if "structure" in found:
            result |= found
        if found["ratio"] is not None:
            infinite = found["ratio"] == float("inf")
            result["ratio"] = None if infinite else float(f"{found['ratio']:.3g}")
        return result

    def search(self) -> dict[str, Any]:
        """The worst input of this mutant, found apart from the gate."""
        from benchmarks.gate import search

        if self._own is None:
            self._own = self._runner(self.folder / SAVED)
        mutant = self._runner(self.folder / MUTANT_SAVED)
        names = [tensor.name for tensor in self.metadata.inputs]
        texts = [t if t.startswith(f"{n}:") else f"{n}:{t}" for t, n in zip(self.entry["inputs"], names, strict=True)]
        calls = search.inputs(self.entry | {"inputs": texts}, self.examples)
        return search.worst(self._own, mutant, self.metadata.tolerances, calls)

    def _runner(self, saved: Path) -> Any:
        from seaway.artifacts import interface
        from seaway.validate import runners

        default = interface.default_outputs(self.metadata.outputs)
        others = [tensor.name for tensor in self.metadata.outputs if tensor not in default]
        return runners.tensorflow(saved)([interface.DEFAULT, *others])


def _said(error: Exception) -> str:
    lines = traceback.format_exception_only(error)
    return " ".join(lines[-1].split())[:MAX_REASON]
