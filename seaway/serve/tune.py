"""Measures a version in both engines and writes its serving profile, the faster one's settings.

    python -m seaway.serve.tune --model-repository DIR --name NAME --version N      (`seaway tune-serving NAME/N`)

Run it on a machine like those that will serve, with the same CPU limit and nothing else to do. Each measurement is a
process of its own (`worker.measure`), one after another. First every candidate is measured once; then the best of each
engine take turns.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from seaway import extras
from seaway.arguments import ArgumentParser
from seaway.artifacts import artifact_metadata, golden, model_repository, serving_profile
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.artifacts.serving_profile import ENGINES, ONNX, SAVEDMODEL, Candidate, Measurement, Parity, Profile
from seaway.errors import ModelError, NotFound, Unavailable, exit_with_message
from seaway.platform import cgroup, cpu
from seaway.serve.settings import Settings

PROGRAM = "python -m seaway.serve.tune"
BATCHES = (1, 8, 32)
ROUNDS = 5  # of both engines in turn
MEASURED_S = 0.5  # for each batch size in each measurement
MIN_GAIN = 1.05  # times as fast as the default; less is within noise
ONNX_FILES = (f"{model_repository.EXTRA}/model.onnx", "model.onnx")  # where the ONNX backend looks

ProgressCallback = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Subject:
    """The version that is measured."""

    folder: Path
    name: str
    version: int
    metadata: ArtifactMetadata
    batches: tuple[int, ...]
    seconds: float

    def measure(self, candidate: Candidate) -> dict[str, Any]:
        """What `worker.measure` returns, from a new process. Raises ModelError if the engine fails."""
        arguments = {
            "path": str(self.folder),
            "name": self.name,
            "number": self.version,
            "digest": self.metadata.sha256,
            "fingerprint": model_repository.fingerprint(self.folder),
            "backend": candidate.backend,
            "threads": candidate.threads,
            "cores": candidate.cores,
            "batches": self.batches,
            "seconds": self.seconds,
        }
        command = [sys.executable, "-m", "seaway.serve.worker.measure", json.dumps(arguments)]
        done = subprocess.run(command, env={**os.environ, **candidate.settings}, capture_output=True, text=True)
        try:
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise ModelError(f"its process ended with status {done.returncode}: {last[:300]}") from None
        if "error" in result:
            raise ModelError(result["error"])
        return result


def tune(
    repository: Path,
    name: str,
    version: int,
    on_progress: ProgressCallback = print,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
    seconds: float = MEASURED_S,
) -> tuple[Profile, Path]:
    """Measures the version, writes its profile into the model repository and returns it with its file.

    ONNX Runtime is chosen if it gives the recorded outputs, for images as the SavedModel does too, and is faster in
    every round and at the median by `MIN_GAIN`, in the geometric mean of the batch sizes; otherwise the SavedModel.
    Raises NotFound for a missing version or one without golden examples, MetadataError for one that was changed,
    ModuleNotFoundError if one of its engines is not installed, Unavailable if the model repository is not writable, and
    ModelError if no engine gives the recorded outputs.
    """
    folder = model_repository.existing(repository, name, version)
    metadata = artifact_metadata.check(folder, "version", at=model_repository.METADATA_FILE)
    file = folder / model_repository.EXTRA / golden.GOLDEN
    if not file.is_file():
        raise NotFound(f"{file} is missing: without golden examples no engine can be checked; publish the model again")
    _check_writable(serving_profile.path(repository, name, metadata.sha256))
    engines = _engines(folder)
    if SAVEDMODEL in engines:
        extras.require("tensorflow")
    batches = tuple(batches) if golden.read(file).inputs else (1,)
    subject = _Subject(folder, name, version, metadata, batches, seconds)
    found = _screen(subject, [one for engine in engines for one in candidates(engine)], on_progress)
    found = _compare_preprocessed(found, metadata)
    best = {engine: _best(found, engine) for engine in engines}
    finalists = [one for one in best.values() if one]
    if not finalists:
        raise ModelError(
            f"{name}/{version}: no engine can serve it: "
            + "; ".join(f"{ENGINES[one.backend]}: {result.failed}" for one, result in _first_of_each(found).items())
        )
    ratios: list[float] = []
    if len(finalists) == 2:
        found, ratios = _alternate(subject, found, finalists, rounds, on_progress)
    chosen, reason = _choose(best, found, ratios)
    profile = Profile(
        version=f"{name}@{metadata.sha256}",
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu.model(),
        cores=cgroup.cores(),
        chosen=chosen,
        reason=reason,
        measurements=tuple(Measurement(one, result.ms, result.failed) for one, result in found.items()),
        ratios=tuple(ratios),
        parity={engine: found[one].parity for engine, one in best.items() if one},
    )
    return profile, serving_profile.write(repository, name, metadata, profile)


def _check_writable(file: Path) -> None:
    """Raises Unavailable, before any measurement, if this user cannot store the profile."""
    existing = next(folder for folder in file.absolute().parents if folder.exists())
    if not os.access(existing, os.W_OK):
        raise Unavailable(f"{existing}: not writable, so the serving profile could not be stored: make it so")


def _engines(folder: Path) -> list[str]:
    """The engines that have a file of the version. Raises NotFound without any."""
    engines = [SAVEDMODEL] if model_repository.is_saved_model(folder) else []
    engines += [ONNX] if any((folder / name).is_file() for name in ONNX_FILES) else []
    if not engines:
        raise NotFound(f"{folder} has neither a SavedModel nor {ONNX_FILES[0]}; publish the model again")
    return engines


def candidates(engine: str) -> list[Candidate]:
    """The settings to measure, the server's defaults first: a batch split over the cores of a worker, one thread each,
    or one call with a thread for each of those cores; TensorFlow with oneDNN's kernels and without."""
    default = Settings(model_repository=Path())
    choices = dict.fromkeys((default.thread_count, max(1, cgroup.cores() // default.worker_count)))
    return [
        Candidate(engine, threads, Settings(model_repository=Path(), threads=threads).cores_per_worker, onednn)
        for threads in choices
        for onednn in ((True, False) if engine == SAVEDMODEL else (None,))
    ]


# ---- measurements


@dataclass(frozen=True, slots=True)
class _Result:
    ms: Mapping[str, float]
    parity: Mapping[str, Parity]
    preprocessed: list[list[float]] | None = None
    failed: str = ""

    @property
    def score(self) -> float:
        """The geometric mean of the batch sizes' milliseconds."""
        return math.exp(sum(map(math.log, self.ms.values())) / len(self.ms))


_Results = dict[Candidate, _Result]


def _screen(subject: _Subject, measured: Sequence[Candidate], on_progress: ProgressCallback) -> _Results:
    """Each candidate once."""
    found: _Results = {}
    for number, candidate in enumerate(measured, 1):
        try:
            result = _measure(subject, candidate)
        except ModelError as error:
            result = _Result({}, {}, failed=str(error))
        found[candidate] = result
        on_progress(f"{number} of {len(measured)}: {candidate.title}: {result.failed or _times(result.ms)}")
    return found


def _measure(subject: _Subject, candidate: Candidate) -> _Result:
    raw = subject.measure(candidate)
    parity = {name: Parity(**one) for name, one in raw["parity"].items()}
    wrong = [f"{name!r} for {one.wrong} of {one.examples}" for name, one in parity.items() if one.wrong]
    failed = f"it does not give the recorded outputs of {', '.join(wrong)} golden examples" if wrong else ""
    return _Result(raw["ms"], parity, raw["preprocessed"], failed)


def _times(ms: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.3g} ms for {rows}" for rows, value in ms.items())


def _compare_preprocessed(found: _Results, metadata: ArtifactMetadata) -> _Results:
    """ONNX Runtime's classes for images that from_png has to preprocess, against TensorFlow's: no output is recorded
    for these. The two decoders round differently, so only another class is wrong; the parity says how far they are."""
    reference = next((r.preprocessed for c, r in found.items() if c.backend == SAVEDMODEL and r.preprocessed), None)
    if reference is None:
        return found
    expected = np.array(reference, np.float32)
    compared: _Results = {}
    for candidate, result in found.items():
        if candidate.backend == ONNX and result.preprocessed is not None:
            actual = np.array(result.preprocessed, np.float32)
            one = golden.compare(actual, expected, metadata.tolerances[metadata.outputs[0].name])
            parity = Parity(one.rows, one.flipped, one.max_abs if math.isfinite(one.max_abs) else None)
            failed = result.failed
            if one.flipped:
                failed = failed or f"from_png gives {one.flipped} of {one.rows} images another class than TensorFlow's"
            result = _Result(result.ms, {**result.parity, "from_png, preprocessed": parity}, None, failed)
        compared[candidate] = result
    return compared


def _first_of_each(found: _Results) -> _Results:
    """The first candidate of each engine."""
    first: dict[str, Candidate] = {}
    for candidate in found:
        first.setdefault(candidate.backend, candidate)
    return {candidate: found[candidate] for candidate in first.values()}


def _best(found: _Results, engine: str) -> Candidate | None:
    """The engine's default settings, unless others are faster by more than noise; None if all failed."""
    usable = [candidate for candidate in found if candidate.backend == engine and not found[candidate].failed]
    if not usable:
        return None
    fastest = min(usable, key=lambda candidate: found[candidate].score)
    gain = found[usable[0]].score / found[fastest].score
    return fastest if gain >= MIN_GAIN else usable[0]


def _alternate(
    subject: _Subject, found: _Results, finalists: Sequence[Candidate], rounds: int, on_progress: ProgressCallback
) -> tuple[_Results, list[float]]:
    """The results with the finalists' medians of all rounds, and TensorFlow's time by ONNX Runtime's in each round.
    Their order is swapped in each round. Raises ModelError if one fails."""
    series: dict[Candidate, list[_Result]] = {candidate: [] for candidate in finalists}
    ratios: list[float] = []
    for number in range(rounds):
        for candidate in finalists if number % 2 == 0 else finalists[::-1]:
            series[candidate].append(_measure(subject, candidate))
        saved_model, onnx = (series[candidate][-1].score for candidate in finalists)
        ratios.append(saved_model / onnx)
        on_progress(f"round {number + 1} of {rounds}: ONNX Runtime is {ratios[-1]:.2f} times as fast as TensorFlow")
    for candidate, results in series.items():
        ms = {rows: median(result.ms[rows] for result in results) for rows in results[0].ms}
        before = found[candidate]
        found = found | {candidate: _Result(ms, before.parity, before.preprocessed)}
    return found, ratios


def _choose(best: Mapping[str, Candidate | None], found: _Results, ratios: Sequence[float]) -> tuple[Candidate, str]:
    """The winner, and the reason in a sentence."""
    saved_model, onnx = best.get(SAVEDMODEL), best.get(ONNX)
    if saved_model and onnx:
        ratio = median(ratios)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
        text = f"ONNX Runtime was {ratio:.2f} times as fast ({spread})"
        if min(ratios) > 1 and ratio >= MIN_GAIN:
            return onnx, f"{text}, in the mean of batch sizes {', '.join(found[onnx].ms)}"
        slower = ratio < 1 / MIN_GAIN and max(ratios) < 1
        return saved_model, text if slower else f"{text}, which is within noise, so the SavedModel stays"
    chosen = saved_model or onnx
    assert chosen  # `tune` has raised otherwise
    other = ONNX if chosen is saved_model else SAVEDMODEL
    if other not in best:
        return chosen, f"the version has no {'ONNX file' if other == ONNX else 'SavedModel'}, so nothing was compared"
    failed = next(result.failed for candidate, result in found.items() if candidate.backend == other)
    return chosen, f"{ENGINES[other]} cannot serve it: {failed}"


# ---- output


def lines(profile: Profile) -> list[str]:
    """The profile for a terminal: a table of all candidates, the ratio, the reason and the settings."""
    batches = list(next(one.ms for one in profile.measurements if one.ms))
    head = ["", *(f"{rows} in a batch" for rows in batches)]
    rows = [
        [
            f"{'*' if one.candidate == profile.chosen else ' '} {one.candidate.title}",
            *([f"{one.ms[size]:.3f} ms" for size in batches] if not one.failed else [one.failed]),
        ]
        for one in profile.measurements
    ]
    width = max(len(row[0]) for row in rows)
    table = [f"{row[0]:{width}}" + "".join(f"  {cell:>14}" for cell in row[1:]) for row in (head, *rows)]
    parity = [
        f"{ENGINES[engine]}: {', '.join(_shown(name, one) for name, one in signatures.items())}"
        for engine, signatures in profile.parity.items()
    ]
    machine = f"{profile.cores} core{'s' if profile.cores > 1 else ''}" + (f" of {profile.cpu}" if profile.cpu else "")
    return [
        *table,
        f"max |Δ| from the recorded outputs, by signature: {'; '.join(parity)}",
        f"chosen on {machine}: {profile.chosen.title}: {profile.reason}",
        f"settings: {serving_profile.describe(profile.settings)}",
    ]


def _shown(signature: str, parity: Parity) -> str:
    return f"{signature} {'∞' if parity.max_abs is None else f'{parity.max_abs:.2g}'}"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Measures a version in both engines, and writes the faster one's settings beside it.",
        epilog=f"example: {PROGRAM} --model-repository models --name characters --version 3",
    )
    parser.add_argument("--model-repository", type=Path, required=True, metavar="DIR", help="the model repository")
    parser.add_argument("--name", required=True, help="the model, e.g. characters")
    parser.add_argument("--version", type=int, required=True, metavar="N", help="its version, e.g. 3")
    args = parser.parse_args()
    with exit_with_message(PROGRAM):
        profile, file = tune(args.model_repository, args.name, args.version, _to_stderr)
        print("\n".join([*lines(profile), f"written: {file}"]))


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
