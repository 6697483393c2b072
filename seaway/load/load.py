"""Load-tests a served version and writes the evidence that `promote` requires.

Two tests over each protocol that the server supports: the test set (or the golden examples) once, then a load test by
Locust. Both compare every response with the reference's outputs (PyTorch's, unless the model came as a file).
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import artifact_metadata, atomic, golden, interface, model_repository, serving_profile
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Kind
from seaway.artifacts.golden import TEST_OUTPUTS
from seaway.client_tls import DEFAULT_TLS, ClientTls
from seaway.data import datasets
from seaway.errors import DataError, InvalidInput, MetadataError, Refused
from seaway.load import addresses, gate, supported_protocols
from seaway.load import evidence as evidence_files
from seaway.load.config import LoadConfig
from seaway.load.formatting import Pair, format_distance, format_latency
from seaway.load.gate import LimitResult, Target
from seaway.load.result import LoadResult
from seaway.load.run import complete, run
from seaway.load.served_parity import Arrays, InputsReader, ServedParity, served_parity
from seaway.protocols import client_codecs


@dataclasses.dataclass(frozen=True, slots=True)
class Examples:
    """Inputs to send, and the reference's outputs for them, `expected` [N, …]; `labels` [N] if they are known.

    `whole`: they are one call of a model without a batch.
    """

    inputs: InputsReader | Arrays
    expected: Arrays
    labels: np.ndarray | None
    whole: bool = False


def load(
    url: str,
    repository: Path,
    name: str,
    version: int,
    evidence: Path,
    dataset: Path | None = None,
    onnx: Path | None = None,
    duration_s: int = 10,
    users: int = 8,
    batch: int = 1,
    report: Path | None = None,
    protocols: Sequence[str] = (),
    rate: float = 0.0,
    limits: Mapping[str, Any] | None = None,
    metrics: str = "",
    baseline: str = "",
    tls: ClientTls = DEFAULT_TLS,
    grpc_url: str = "",
    judge_profile: bool = False,
) -> ArtifactMetadata:
    """Writes `evidence` (load.json, report.html, metadata) and a copy in the model repository; returns its metadata.

    With `dataset` and `onnx` the whole test set is sent; without them the version's golden examples are.
    `url`: over HTTP or gRPC; `grpc_url`: the gRPC address of the same server, to test it over both.
    `protocols`: default all that the server supports. `rate` above 0: an open loop of that many requests per second
    with Poisson arrivals and as many users as it needs. `limits`: see `gate.parse_stage_parameters`.
    `metrics`: address of the server's Prometheus page, for the report. `tls`: for all of the addresses at
    https:// and grpcs://.
    A limit `slower` compares with the version that is stable in the model repository, in alternating rounds, at
    `baseline` (the address that serves it; default `url`); it needs a rate, and is skipped if no version is stable yet.
    It is inconclusive if the two use different engines, unless `judge_profile` says that this is what is judged.
    Wrong responses, failed requests and violated limits are recorded, not raised. Raises NotFound or Unavailable if the
    version or the server is missing, InvalidInput for limits that cannot be met, and DataError if the version was not
    made from `onnx` and `dataset`.
    """
    artifact_metadata.check_target(evidence, "evidence")
    tls.check(url, grpc_url, baseline, metrics)
    parsed_limits, config = gate.parse_stage_parameters(limits or {}, users, rate, duration_s)
    addresses.check(url, grpc_url, baseline if parsed_limits.slower is not None else "", protocols)
    config = dataclasses.replace(config, batch=batch, model=name, version=version, metrics_url=metrics, tls=tls)
    folder = model_repository.existing(repository, name, version)
    metadata = artifact_metadata.check(folder, "version", at=model_repository.METADATA_FILE)
    profile = serving_profile.settings(repository, name, metadata)
    examples = _examples(metadata, folder, dataset, onnx)
    keys = list(protocols)
    for address in [url, *filter(None, [grpc_url])] if not protocols else ():
        keys += supported_protocols.supported_protocols(address, folder, config)
    at = {key: addresses.of(key, url, grpc_url) for key in keys}
    # from_png inverts light images, so the test set cannot be sent to it
    parities = [
        _served_parity(at[key], metadata, config, examples, key) for key in keys if key != client_codecs.PNG.key
    ]
    results = [_load(at[key], folder, dataclasses.replace(config, protocol=key)) for key in keys]
    limit_results = [
        dataclasses.replace(one, limit=f"{result.title}, {one.limit}")
        for result in results
        for one in gate.evaluate_limits(result, parsed_limits)
    ]
    pairs: list[Pair] = []
    stable = model_repository.labels(repository, name).get(model_repository.STABLE, version)
    if parsed_limits.slower is not None and stable != version:
        stable_folder = model_repository.existing(repository, name, stable)
        key = _compared_protocol(at, baseline)
        stable_target = Target(baseline or at[key], stable_folder, None if baseline else stable)
        candidate = Target(at[key], folder, version)
        compared = dataclasses.replace(config, protocol=key)
        try:
            pairs = _run_rounds(stable_target, candidate, compared, parsed_limits.slower, judge_profile)
            limit_results += _compare(pairs, parsed_limits.slower)
        except Refused as error:
            limit_results.append(LimitResult("slower", "inconclusive", str(error)))
            print(f"  slower: inconclusive: {error}", flush=True)
    written = evidence_files.write(evidence, name, version, metadata, parities, results, limit_results, pairs, profile)
    evidence_files.store(repository, name, evidence, written)
    if report:
        with atomic.file(report) as copy:
            shutil.copyfile(evidence / evidence_files.REPORT, copy)
    return written


def _served_parity(
    url: str, metadata: ArtifactMetadata, config: LoadConfig, examples: Examples, protocol: str
) -> ServedParity:
    parity = served_parity(
        *(url, config.model, config.version, examples.inputs, examples.expected, examples.labels),
        *(metadata.tolerances, protocol),
        whole=examples.whole,
        tls=config.tls,
    )
    max_abs = format_distance(parity.max_abs)
    wrong = ", ".join(f"{output.wrong:,} of {output.name!r}" for output in parity.outputs if output.wrong) or "none"
    print(f"{parity.hop}: {parity.examples:,} examples, wrong: {wrong}, max |Δ| {max_abs}", flush=True)
    return parity


def _load(url: str, folder: Path, config: LoadConfig) -> LoadResult:
    load = f"{config.rate:g} requests/s" if config.rate else f"{config.users} users"
    print(f"{client_codecs.named(config.protocol).title}: {load} for {config.duration_s} s", flush=True)
    result = complete(run(url, folder, config))
    latencies = f"p50 {format_latency(result.p50_ms, ' ms')}, p99 {format_latency(result.p99_ms, ' ms')}"
    errors = f"{result.wrong:,} wrong, {result.failed:,} failed"
    print(f"  {result.requests_per_second:.0f} correct responses/s, {latencies}, {errors}", flush=True)
    return result


def _compared_protocol(at: Mapping[str, str], baseline: str) -> str:
    """The preferred one of those that were tested, over HTTP or gRPC as the baseline's address is; `at`: protocol → the
    server's address."""
    over_grpc = client_codecs.is_grpc(baseline)
    alike = [key for key, address in at.items() if not baseline or client_codecs.is_grpc(address) == over_grpc]
    return min(alike, key=supported_protocols.PREFERENCE.index)


def _run_rounds(
    stable: Target, candidate: Target, config: LoadConfig, slower: float, judge_profile: bool
) -> list[Pair]:
    print(f"alternating with version {stable.source.name}, which is stable, at {stable.url}", flush=True)
    return gate.run_rounds(stable, candidate, config, slower, judge_profile=judge_profile)


def _compare(pairs: Sequence[Pair], slower: float) -> list[LimitResult]:
    limit_results = gate.compare_with_baseline(pairs, slower)
    for text in gate.describe_rounds(pairs):
        print(f"  {text}", flush=True)
    for one in limit_results:
        print(f"  {one.limit}: {one.state}: {one.text}", flush=True)
    return limit_results


# ---- examples


def _examples(metadata: ArtifactMetadata, folder: Path, dataset: Path | None, onnx: Path | None) -> Examples:
    if dataset is None and onnx is None:
        file = folder / model_repository.EXTRA / golden.GOLDEN
        recorded = golden.read(file)
        first = next(iter(recorded.whole()), recorded)
        return Examples(first.inputs, _outputs(metadata, first.outputs, file), None, whole=not recorded.inputs)
    if dataset is None or onnx is None:
        missing = "--dataset" if dataset is None else "--onnx"
        raise InvalidInput(
            f"{missing} is missing: give both --dataset and --onnx for the test set, or neither for the golden examples"
        )
    _check_origin(metadata, "onnx", onnx)
    _check_origin(metadata, "dataset", dataset)
    if len(metadata.inputs) != 1:
        raise InvalidInput(
            f"--dataset contains images, but {metadata.name} has {len(metadata.inputs)} inputs; omit --dataset"
        )
    loaded, name = datasets.load(dataset), metadata.inputs[0].name
    images, labels = loaded.test_images, np.asarray(loaded.test_labels)
    file = onnx / TEST_OUTPUTS
    expected = _outputs(metadata, golden.read(file).outputs, file)
    return Examples(lambda part: {name: datasets.model_input(images[part])}, expected, labels)


def _check_origin(metadata: ArtifactMetadata, role: Kind, folder: Path) -> None:
    """Raises MetadataError if `folder` is damaged, DataError if the version's lineage names another artifact."""
    digest = artifact_metadata.check(folder, role).sha256
    known = {ancestor.sha256 for ancestor in metadata.lineage() if ancestor.kind == role}
    if known and digest not in known:
        raise DataError(
            f"{folder} is not the {role} that {metadata.name}@{metadata.sha256[:12]} was made from; give that one"
        )


def _outputs(metadata: ArtifactMetadata, recorded: Arrays, file: Path) -> Arrays:
    """Those of the default signature, in the model's order."""
    names = [tensor.name for tensor in interface.default_outputs(metadata.outputs)]
    if missing := [name for name in names if name not in recorded or name not in metadata.tolerances]:
        raise MetadataError(
            f"{file}: no {', '.join(map(repr, missing))} among the recorded outputs, or no tolerance for it; export "
            "the model again"
        )
    return {name: recorded[name] for name in names}
