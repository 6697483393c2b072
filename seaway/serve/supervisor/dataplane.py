"""The data plane decides: which versions are loaded, which one answers a request, when an old one may go.

The volume is polled. Of each model these versions are served: those that labels point at, and the latest. A version is
loaded, warmed up and checked; then it is AVAILABLE and requests may go to it; only then what it replaces is drained
and unloaded. One that will not load ends in END with its error and replaces nothing: a label goes on pointing where
it pointed, and the latest is the latest that loads. It is tried again (`watch`). The same becomes of one that cannot be
loaded again once its last worker is gone; then the one before it answers in place of a stable one. A version without a
card is loaded only once its files have been the same for a while, since nothing else tells that they are all there. A
volume that is unreadable, or suddenly empty, changes nothing.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaway.artifacts import store
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError, Unavailable
from seaway.protocols.tfserving import VersionStatus
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.models import UNDER_WAY, Model, Version, wanted, why_not, why_unavailable
from seaway.serve.supervisor.pool import Held, Pool
from seaway.serve.supervisor.scan import Pin, chosen, first_look, scan
from seaway.serve.supervisor.watch import LOG_SECONDS, Watch
from seaway.serve.supervisor.workers import WorkerDied
from seaway.serve.worker.version import read_description

log = logging.getLogger("seaway.serve")

SETTLE_POLLS = 2  # polls between which files must not have changed
POLL_SECONDS = 1.0  # until it is told otherwise


class EndsProcess(ModelError):
    """A version that ended the worker that loaded it, twice."""


class DataPlane:
    """`pin` names the only model and version to serve, version None: the one that is stable when it is first seen, the
    latest where none is, and that one for good; `on_loaded(version, seconds, ok)` is told of every load,
    `on_unloaded(version)` of every one that is gone."""

    def __init__(
        self,
        volume: Path,
        pool: Pool,
        default_version: str,
        pin: Pin | None = None,
    ) -> None:
        self.models: dict[str, Model] = {}
        self.draining = False
        self._looked = self._settled = False
        self._polling = asyncio.Lock()
        self.volume_error = ""
        self._volume, self._pool, self._default, self._pin = volume, pool, default_version, pin
        self._settle = SETTLE_POLLS * POLL_SECONDS  # seconds for which files that are loaded have been the same
        self._skipped: dict[Path, str] = {}
        self.on_loaded: Callable[[Version, float, bool], None] = lambda version, seconds, ok: None
        self.on_unloaded: Callable[[Version], None] = lambda version: None
        self._tasks: set[asyncio.Task[None]] = set()
        pool.on_lost = self._lost

    # ---- what endpoints ask

    def find(self, model: str, number: int | None = None, label: str | None = None) -> Version:
        """The version that answers. Raises NotFound, InvalidInput for an unknown label, Unavailable."""
        found = self.models.get(model)
        if not self._looked:
            raise Unavailable("the server is starting: it has not seen its models yet")
        if found is None or not found.versions:
            asked = f"Specific({model}, {number})" if number is not None else f"Latest({model})"
            raise NotFound(f"Servable not found for request: {asked}")
        if label is not None:
            if label not in found.wanted_labels:
                raise InvalidInput(f"Unrecognized servable version label: {label}")
            return self._labelled(found, model, label)
        if number is not None:
            version = found.versions.get(number)
            if version is not None and version.state in ("END", *UNDER_WAY):
                why = why_not(found, number, self._settle) or "it is being loaded"
                raise Unavailable(f"{version.key} is not available: {why}")
            if version is None or version.state != "AVAILABLE":
                raise NotFound(f"Servable not found for request: Specific({model}, {number})")
            return version
        if self._default == store.STABLE and store.STABLE in found.wanted_labels:
            try:
                return self._labelled(found, model, store.STABLE)
            except Unavailable:
                if older := found.instead_of_stable():
                    return found.versions[older[-1]]
                raise
        available = found.available()
        if not available:
            raise Unavailable(f"no version of {model} is available: {why_unavailable(found, self._settle)}")
        return found.versions[available[-1]]

    def find_ready(self, model: str, number: int | None = None, label: str | None = None) -> Version:
        """As `find`; Unavailable also where the version has first to be loaded into a new worker."""
        version = self.find(model, number, label)
        if not self._pool.holds(version.key):
            raise Unavailable(f"{version.key} is being loaded into a new worker")
        return version

    def ask(self, job: Job) -> None:
        """Has a job's version answer it, now or later. Raises Unavailable where too many wait already."""
        self._pool.ask(job)

    def default(self, model: str) -> int | None:
        """The version that an unlabelled request gets now; None where there is none."""
        try:
            return self.find(model).number
        except SeawayError:
            return None

    def statuses(self, model: str, number: int | None = None) -> list[VersionStatus]:
        """Raises NotFound."""
        found = self.models.get(model)
        if not self._looked:
            raise Unavailable("the server is starting: it has not seen its models yet")
        if found is None or not found.versions:
            raise NotFound(f"Could not find any versions of model {model}")
        if number is not None and number not in found.versions:
            raise NotFound(f"Could not find version {number} of model {model}")
        chosen = found.versions.values() if number is None else [found.versions[number]]
        return [VersionStatus(v.number, v.state, self.why_not(v)) for v in chosen]

    def why_not(self, version: Version) -> str:
        """Why it does not answer and what will become of it, in words; "" where it does."""
        return why_not(self.models[version.model], version.number, self._settle)

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return self._pool.waiting

    def workers(self) -> list[dict[str, Any]]:
        return [
            {"pid": w.pid, "alive": not w.gone.is_set(), "running": len(w.running), "loaded": sorted(w.loaded)}
            for w in self._pool.workers
        ]

    def why_not_ready(self) -> str:
        """ "" where at least one version can answer."""
        if self.draining:
            return "the server is going down"
        if not self._pool.alive:
            return "no worker is alive; one is being started"
        if not self._settled and any(v.coming for m in self.models.values() for v in m.versions.values()):
            return "the first versions are being loaded"
        available = [v.key for m in self.models.values() for v in m.versions.values() if v.state == "AVAILABLE"]
        if any(map(self._pool.holds, available)):
            self._settled = True  # from now on, what is loading stands in nobody's way
            return ""
        if available:
            return "a new worker is loading the versions"
        if self.volume_error:
            return self.volume_error
        if self._pin and not any(model.versions for model in self.models.values()):
            name, number = self._pin
            only = f"{name}, the only model to serve,"
            if number is not None:
                only = f"{name}/{number}, the only version to serve,"
            return f"{only} is not in {self._volume} yet"
        if not self.models:
            return f"there is no model in {self._volume} yet"
        return "no version is available: " + "; ".join(
            f"{name}: {why_unavailable(m, self._settle)}" for name, m in self.models.items()
        )

    # ---- following the volume

    async def follow(self, seconds: float) -> None:
        """Polls for ever."""
        self._settle = SETTLE_POLLS * seconds
        logged = -math.inf
        while True:
            try:
                await self.poll()
            except Exception:
                if logged + LOG_SECONDS < time.monotonic():
                    logged = time.monotonic()
                    log.exception("looking at %s failed; what is loaded goes on being served", self._volume)
            await asyncio.sleep(seconds)

    async def poll(self) -> None:
        """One look at the volume; what it takes to follow it goes on by itself."""
        async with self._polling:  # so that an older look never undoes a newer one
            await self._poll()

    async def _poll(self) -> None:
        if self._pin and self._pin[1] is None:
            self._pin = await asyncio.to_thread(chosen, self._volume, self._pin[0])
        known = any(model.versions for model in self.models.values())
        waiting = [v for m in self.models.values() for v in m.versions.values() if v.state in ("START", "END")]
        keys = {(version.model, version.number) for version in waiting}
        found, error = await asyncio.to_thread(scan, self._volume, known, self._pin, keys)
        if error and error != self.volume_error:
            log.warning("%s; what is loaded goes on being served", error)
        self.volume_error = error
        if found is None:
            return
        self._looked = True
        for path in found.skipped.keys() - self._skipped.keys():
            log.info("%s is skipped: %s", path, found.skipped[path])
        self._skipped |= found.skipped
        for name, seen in found.models.items():
            if seen is not None:
                self._follow_model(name, self.models.setdefault(name, Model()), *seen)
        for name in self.models.keys() - found.models.keys():
            self._follow_model(name, self.models[name], {}, {})
            if not self.models[name].versions:
                del self.models[name]
        for version in waiting:
            if version.key in found.fingerprints:
                self._follow_files(version, found.fingerprints[version.key])

    def _follow_model(self, name: str, model: Model, folders: dict[int, Path], labels: dict[str, int]) -> None:
        for number, version in list(model.versions.items()):
            if version.state in ("START", "END") and number not in folders:
                del model.versions[number]
                self.on_unloaded(version)
            elif version.state in ("START", "END"):
                version.path = folders[number]
        model.wanted_labels = labels
        in_force = {label: number for label, number in model.labels.items() if label in labels}
        available = model.available()
        model.labels = in_force | {label: number for label, number in labels.items() if number in available}
        needed = wanted(model, sorted(folders))
        for number in sorted(needed - model.versions.keys(), reverse=True):
            version = Version(name, number, folders[number])
            model.versions[number] = version
            self._spawn(self._begin(version))
        for number in available:
            if number not in needed:
                model.versions[number].state = "UNLOADING"
                self._spawn(self._unload(model.versions[number]))

    def _follow_files(self, version: Version, fingerprint: str) -> None:
        """Loads a version that is not served, where its files or the time that has passed give reason to."""
        if not self._waits(version):
            return
        now, needed = time.monotonic(), self.models[version.model].needs(version.number)
        version.watch.look(fingerprint, now)
        if version.watch.may_load(now, self._settle) and (version.state == "START" or needed):
            self._spawn(self._load(version))

    def _waits(self, version: Version) -> bool:
        """Whether it is known, and neither served nor being loaded."""
        model = self.models.get(version.model)
        known = model is not None and model.versions.get(version.number) is version
        return known and version.state in ("START", "END")

    async def _begin(self, version: Version) -> None:
        """Loads a new version at once where its card can prove that it is whole; `_follow_files` loads the others."""
        fingerprint, proven = await asyncio.to_thread(first_look, version.path)
        if version.watch.seen is None:
            version.watch.look(fingerprint, time.monotonic())
        if proven and self._waits(version):
            await self._load(version)

    async def _load(self, version: Version) -> None:
        if not self._waits(version):  # it was begun twice, or is gone
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
            await self._not_loaded(version, str(error) or type(error).__name__, tried, isinstance(error, EndsProcess))
            return
        version.served, version.batchable = read_description(described), tuple(described["batchable"])
        version.header, version.digest = store.header(version.identity), version.identity.rpartition("@")[2]
        version.state, version.error, version.watch = "AVAILABLE", "", Watch(logged=version.watch.logged)
        seconds = time.perf_counter() - began
        self.on_loaded(version, seconds, True)
        together = f"batched: {', '.join(version.batchable)}" if version.batchable else "requests are run one by one"
        log.info("%s is available after %.1f s (%s)", version.identity, seconds, together)
        await self.poll()  # labels may wait for it, and what it replaces can go

    async def _load_in_pool(self, version: Version) -> dict[str, Any]:
        held = Held(version.model, version.number, version.path, version.digest)
        if not version.error:
            try:
                return await self._pool.load(version.key, held)
            except WorkerDied:
                log.warning(
                    "a worker ended while it loaded %s: it is tried once more, in a process of its own", version.key
                )
        try:
            return await self._pool.load(version.key, held, trial=True)
        except WorkerDied:
            raise EndsProcess(f"{version.path}: loading it, or its golden inputs, ends the process") from None

    async def _not_loaded(self, version: Version, error: str, tried: str, fatal: bool = False) -> None:
        """`tried`: the fingerprint of the files that would not load; `fatal`: they ended a process."""
        model, now = self.models[version.model], time.monotonic()
        version.state, version.error = "END", error
        version.watch.failed(tried, now, fatal)
        if version.watch.to_be_logged(now):
            log.error("%s cannot be served: %s", version.key, why_not(model, version.number, self._settle))
        await self.poll()

    async def _unload(self, version: Version) -> None:
        while version.active:
            await asyncio.sleep(0.05)
        await self._pool.unload(version.key)
        self.models[version.model].versions.pop(version.number, None)
        self.on_unloaded(version)
        log.info("%s is unloaded", version.key)

    def _lost(self, key: str, message: str) -> None:
        name, _, number = key.rpartition("/")
        version = self.models[name].versions[int(number)]
        version.state, version.error = "END", message
        self._spawn(self._not_loaded(version, message, ""))

    def _labelled(self, found: Model, model: str, label: str) -> Version:
        number = found.labels.get(label)
        version = found.versions.get(number) if number is not None else None
        if version is None or version.state != "AVAILABLE":
            meant = found.wanted_labels[label]
            why = "it is not in the volume"
            if meant in found.versions:
                why = why_not(found, meant, self._settle) or "it is being loaded"
            raise Unavailable(f"{model}: label {label!r} points at version {meant}, which is not available: {why}")
        return version

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
