"""The model manager decides which versions are loaded, which one responds, and when an old one is unloaded.

It polls the model repository, or another source (`scan`). For each model it serves the labelled versions and the
latest, or as many of the latest as the source asks for. A version is loaded, warmed up and checked; then it is
AVAILABLE and receives requests; only then is the version it replaces drained and unloaded. A version that fails to load
is in state END with its error and replaces nothing: its labels keep pointing at the previous version, and the latest is
the latest that loads. It is retried (`watch`). The same happens to a version that cannot be reloaded after its last
worker died; if it was stable, the version before it responds instead. A version without artifact metadata is loaded
only once its files have been unchanged for a while, because nothing else shows that they are complete. If the
repository is unreadable or suddenly empty, nothing changes.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaway.artifacts import model_repository
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError, Unavailable
from seaway.protocols.tfserving import VersionStatus
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.models import (
    IN_PROGRESS,
    NOT_LOADED,
    Model,
    ModelVersion,
    newest_unavailable_reason,
    unavailable_reason,
    wanted_versions,
)
from seaway.serve.supervisor.pool import Pool, VersionSpec
from seaway.serve.supervisor.scan import ModelContents, Pin, Source, inspect_folder, resolve_pin, scan
from seaway.serve.supervisor.watch import LOG_INTERVAL_S, Watch
from seaway.serve.supervisor.worker_handle import WorkerDied
from seaway.serve.worker.version import read_description

log = logging.getLogger("seaway.serve")

SETTLE_POLLS = 2  # polls during which files must not change
POLL_INTERVAL_S = 1.0  # until `follow` sets it


class CrashedOnLoad(ModelError):
    """A version that killed the worker that loaded it, twice."""


class ModelManager:
    """`place` names the source in messages. `pin` names the only model and version to serve; without a number, the
    version that is stable at the first scan (or else the latest) is chosen and kept. `on_loaded(version, seconds, ok)`
    is called after every attempt to load, `on_unloaded(version)` after a version is removed."""

    def __init__(self, source: Source, place: object, pool: Pool, default_version: str, pin: Pin | None = None) -> None:
        self.models: dict[str, Model] = {}
        self.draining = False
        self._scanned = self._was_ready = False
        self._polling = asyncio.Lock()
        self.repository_error = ""
        self._source, self._place, self._pool, self._default, self._pin = source, place, pool, default_version, pin
        self._settle_s = SETTLE_POLLS * POLL_INTERVAL_S  # how long files must have been unchanged
        self._skipped: dict[Path, str] = {}
        self.on_loaded: Callable[[ModelVersion, float, bool], None] = lambda version, seconds, ok: None
        self.on_unloaded: Callable[[ModelVersion], None] = lambda version: None
        self._tasks: set[asyncio.Task[None]] = set()
        pool.on_lost = self._on_version_lost

    # ---- for the endpoints

    def find(self, name: str, number: int | None = None, label: str | None = None) -> ModelVersion:
        """The version that responds. Raises NotFound, InvalidInput for an unknown label, Unavailable."""
        model = self.models.get(name)
        if not self._scanned:
            raise Unavailable("the server is starting: it has not found its models yet")
        if model is None or not model.versions:
            target = f"Specific({name}, {number})" if number is not None else f"Latest({name})"
            raise NotFound(f"Servable not found for request: {target}")
        if label is not None:
            if label not in model.requested_labels:
                raise InvalidInput(f"Unrecognized servable version label: {label}")
            return self._find_labelled(model, name, label)
        if number is not None:
            version = model.versions.get(number)
            if version is not None and version.state in ("END", *IN_PROGRESS):
                reason = unavailable_reason(model, number, self._settle_s) or "it is being loaded"
                raise Unavailable(f"{version.key} is not available: {reason}")
            if version is None or version.state != "AVAILABLE":
                raise NotFound(f"Servable not found for request: Specific({name}, {number})")
            return version
        if self._default == model_repository.STABLE and model_repository.STABLE in model.requested_labels:
            try:
                return self._find_labelled(model, name, model_repository.STABLE)
            except Unavailable:
                if older := model.stable_fallbacks():
                    return model.versions[older[-1]]
                raise
        available = model.available()
        if not available:
            raise Unavailable(f"no version of {name} is available: {newest_unavailable_reason(model, self._settle_s)}")
        return model.versions[available[-1]]

    def find_ready(self, model: str, number: int | None = None, label: str | None = None) -> ModelVersion:
        """Like `find`, but Unavailable also if the version must first be loaded into a new worker."""
        version = self.find(model, number, label)
        if not self._pool.is_loaded(version.key):
            raise Unavailable(f"{version.key} is being loaded into a new worker")
        return version

    def submit(self, job: Job) -> None:
        """Queues a job for its version. Raises Unavailable if the queue is full."""
        self._pool.submit(job)

    def default(self, model: str) -> int | None:
        """The version that an unlabelled request gets now; None if there is none."""
        try:
            return self.find(model).number
        except SeawayError:
            return None

    def statuses(self, name: str, number: int | None = None) -> list[VersionStatus]:
        """Raises NotFound."""
        model = self.models.get(name)
        if not self._scanned:
            raise Unavailable("the server is starting: it has not found its models yet")
        if model is None or not model.versions:
            raise NotFound(f"Could not find any versions of model {name}")
        if number is not None and number not in model.versions:
            raise NotFound(f"Could not find version {number} of model {name}")
        versions = model.versions.values() if number is None else [model.versions[number]]
        return [VersionStatus(v.number, v.state, self.unavailable_reason(v)) for v in versions]

    def unavailable_reason(self, version: ModelVersion) -> str:
        """Why a version is unavailable, and when it is retried, in words; "" if it is available."""
        return unavailable_reason(self.models[version.model], version.number, self._settle_s)

    @property
    def waiting(self) -> int:
        """Requests waiting for a worker."""
        return self._pool.scheduler.waiting

    def workers(self) -> list[dict[str, Any]]:
        return [
            {"pid": w.pid, "alive": not w.exited.is_set(), "running": len(w.running), "loaded": sorted(w.loaded)}
            for w in self._pool.workers
        ]

    def not_ready_reason(self) -> str:
        """Why /readyz is 503, in words; "" if at least one version can respond."""
        if self.draining:
            return "the server is shutting down"
        if not self._pool.alive:
            return "no worker is alive; one is being started"
        if not self._was_ready and any(v.is_first_load for m in self.models.values() for v in m.versions.values()):
            return "the first versions are being loaded"
        available = [v.key for m in self.models.values() for v in m.versions.values() if v.state == "AVAILABLE"]
        if any(map(self._pool.is_loaded, available)):
            self._was_ready = True  # from now on, loading versions do not affect readiness
            return ""
        if available:
            return "a new worker is loading the versions"
        if self.repository_error:
            return self.repository_error
        if self._pin and not any(model.versions for model in self.models.values()):
            name, number = self._pin
            only = f"{name}, the only model to serve,"
            if number is not None:
                only = f"{name}/{number}, the only version to serve,"
            return f"{only} is not in {self._place} yet"
        if not self.models:
            return f"there is no model in {self._place} yet"
        return "no version is available: " + "; ".join(
            f"{name}: {newest_unavailable_reason(m, self._settle_s)}" for name, m in self.models.items()
        )

    # ---- following the model repository

    async def follow(self, interval_s: float) -> None:
        """Polls forever."""
        self._settle_s = SETTLE_POLLS * interval_s
        logged = -math.inf
        while True:
            try:
                await self.poll()
            except Exception:
                if logged + LOG_INTERVAL_S < time.monotonic():
                    logged = time.monotonic()
                    log.exception("the scan of %s failed; loaded versions continue to be served", self._place)
            await asyncio.sleep(interval_s)

    async def poll(self) -> None:
        """Scans the repository once; the loading and unloading that follows runs in the background."""
        async with self._polling:  # so that an older scan never undoes a newer one
            await self._poll()

    async def _poll(self) -> None:
        if self._pin and self._pin[1] is None:
            self._pin = await asyncio.to_thread(resolve_pin, self._source, self._pin[0])
        states = {name: {n: v.state for n, v in model.versions.items()} for name, model in self.models.items()}
        not_loaded = [v for m in self.models.values() for v in m.versions.values() if v.state in NOT_LOADED]
        paths = {(version.model, version.number): version.path for version in not_loaded}
        snapshot, error = await asyncio.to_thread(scan, self._source, states, self._pin, paths)
        if error and error != self.repository_error:
            log.warning("%s; loaded versions continue to be served", error)
        self.repository_error = error
        if snapshot is None:
            return
        self._scanned = True
        for path in snapshot.skipped.keys() - self._skipped.keys():
            log.info("%s is skipped: %s", path, snapshot.skipped[path])
        self._skipped |= snapshot.skipped
        for name, contents in snapshot.models.items():
            if contents is not None:
                self._reconcile_model(name, self.models.setdefault(name, Model()), contents)
        for name in self.models.keys() - snapshot.models.keys():
            self._reconcile_model(name, self.models[name], ModelContents({}, {}))
            if not self.models[name].versions:
                del self.models[name]
        for version in not_loaded:
            if version.key in snapshot.fingerprints:
                self._load_if_due(version, snapshot.fingerprints[version.key])

    def _reconcile_model(self, name: str, model: Model, contents: ModelContents) -> None:
        folders, labels, model.newest = contents
        for number, version in list(model.versions.items()):
            if version.state in NOT_LOADED and number not in folders:
                del model.versions[number]
                self.on_unloaded(version)
            elif version.state in NOT_LOADED:
                version.path = folders[number]
        model.requested_labels = labels
        labels_in_effect = {label: number for label, number in model.labels.items() if label in labels}
        available = model.available()
        model.labels = labels_in_effect | {label: number for label, number in labels.items() if number in available}
        needed = wanted_versions(model, sorted(folders))
        for number in sorted(needed - model.versions.keys(), reverse=True):
            version = ModelVersion(name, number, folders[number])
            model.versions[number] = version
            self._start_task(self._load_if_complete(version))
        for number in available:
            if number not in needed:
                model.versions[number].state = "UNLOADING"
                self._start_task(self._unload(model.versions[number]))

    def _load_if_due(self, version: ModelVersion, fingerprint: str) -> None:
        """Loads a version that is not served, if its files have settled or its retry is due."""
        if not self._can_load(version):
            return
        now, needed = time.monotonic(), self.models[version.model].would_serve(version.number)
        version.watch.observe(fingerprint, now)
        if version.watch.may_load(now, self._settle_s) and (version.state == "START" or needed):
            self._start_task(self._load(version))

    def _can_load(self, version: ModelVersion) -> bool:
        """Whether it exists, and is neither served nor being loaded."""
        model = self.models.get(version.model)
        exists = model is not None and model.versions.get(version.number) is version
        return exists and version.state in NOT_LOADED

    async def _load_if_complete(self, version: ModelVersion) -> None:
        """Loads a new version at once if its metadata can prove it complete; `_load_if_due` loads the others."""
        fingerprint, proven = await asyncio.to_thread(inspect_folder, version.path)
        if version.watch.seen is None:
            version.watch.observe(fingerprint, time.monotonic())
        if proven and self._can_load(version):
            await self._load(version)

    async def _load(self, version: ModelVersion) -> None:
        if not self._can_load(version):  # it is being loaded already, or was removed
            return
        version.state = "LOADING"
        tried = version.watch.seen or ""
        began = time.perf_counter()
        try:
            described = await self._load_in_pool(version)
        except Exception as error:
            if not isinstance(error, (SeawayError, OSError)):
                log.exception("loading %s failed", version.key)
            self.on_loaded(version, time.perf_counter() - began, False)
            await self._on_load_failed(
                version, str(error) or type(error).__name__, tried, isinstance(error, CrashedOnLoad)
            )
            return
        version.served, version.batchable = read_description(described), tuple(described["batchable"])
        version.headers = {
            "Seaway-Model": model_repository.header(version.identity),
            "Seaway-Backend": self._pool.backend,
        }
        version.digest = version.identity.rpartition("@")[2]
        version.state, version.error, version.watch = "AVAILABLE", "", Watch(logged=version.watch.logged)
        seconds = time.perf_counter() - began
        self.on_loaded(version, seconds, True)
        together = f"batched: {', '.join(version.batchable)}" if version.batchable else "requests are not batched"
        log.info("%s is available after %.1f s (%s)", version.identity, seconds, together)
        await self.poll()  # labels may be waiting for it, and the version that it replaces can be unloaded

    async def _load_in_pool(self, version: ModelVersion) -> dict[str, Any]:
        spec = VersionSpec(version.model, version.number, version.path, version.digest)
        if not version.error:
            try:
                return await self._pool.load(version.key, spec)
            except WorkerDied:
                log.warning("a worker died while it loaded %s: retrying once, in a separate process", version.key)
        try:
            return await self._pool.load(version.key, spec, isolated=True)
        except WorkerDied:
            raise CrashedOnLoad(
                f"{version.path}: loading it, or running its golden inputs, kills the process"
            ) from None

    async def _on_load_failed(
        self, version: ModelVersion, error: str, tried: str, killed_process: bool = False
    ) -> None:
        """`tried`: the fingerprint of the files that failed to load; `killed_process`: they did."""
        model, now = self.models[version.model], time.monotonic()
        version.state, version.error = "END", error
        version.watch.record_failure(tried, now, killed_process)
        if version.watch.should_log(now):
            log.error("%s cannot be served: %s", version.key, unavailable_reason(model, version.number, self._settle_s))
        await self.poll()

    async def _unload(self, version: ModelVersion) -> None:
        while version.active:
            await asyncio.sleep(0.05)
        await self._pool.unload(version.key)
        self.models[version.model].versions.pop(version.number, None)
        self.on_unloaded(version)
        log.info("%s is unloaded", version.key)

    def _on_version_lost(self, key: str, message: str) -> None:
        name, _, number = key.rpartition("/")
        version = self.models[name].versions[int(number)]
        version.state, version.error = "END", message
        self._start_task(self._on_load_failed(version, message, ""))

    def _find_labelled(self, model: Model, name: str, label: str) -> ModelVersion:
        number = model.labels.get(label)
        version = model.versions.get(number) if number is not None else None
        if version is None or version.state != "AVAILABLE":
            requested = model.requested_labels[label]
            reason = "it is not in the model repository"
            if requested in model.versions:
                reason = unavailable_reason(model, requested, self._settle_s) or "it is being loaded"
            raise Unavailable(
                f"{name}: label {label!r} points at version {requested}, which is not available: {reason}"
            )
        return version

    def _start_task(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
