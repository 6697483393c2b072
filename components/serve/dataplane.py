"""The data plane decides: which versions are loaded, which one answers a request, when an old one may go.

The volume is polled. Of each model these versions are served: those that labels point at, and the latest. A version is
loaded, warmed up and checked; then it is AVAILABLE and requests may go to it; only then what it replaces is drained
and unloaded. One that will not load ends in END with its error and replaces nothing: a label goes on pointing where
it pointed, and the latest is the latest that loads. A volume that is unreadable, or suddenly empty, changes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.serve.jobs import Job
from components.serve.models import UNDER_WAY, Model, Version, wanted, why_unavailable
from components.serve.pool import Held, Pool
from components.serve.version import read_description
from components.serve.workers import WorkerDied
from seaway import store
from seaway.errors import InvalidInput, NotFound, SeawayError, Unavailable
from seaway.protocols.tfserving import VersionStatus

log = logging.getLogger("seaway.serve")

Scan = dict[str, tuple[list[int], dict[str, int]] | None]  # model → versions, labels; None where they cannot be read


class DataPlane:
    """`pin` names the only model and version to serve, version 0: the one that is stable when it is first seen, the
    latest where none is, and that one for good; `on_loaded(version, seconds, ok)` is told of every load,
    `on_unloaded(version)` of every one that is gone."""

    def __init__(
        self,
        volume: Path,
        pool: Pool,
        default_version: str,
        pin: tuple[str, int] | None = None,
    ) -> None:
        self.models: dict[str, Model] = {}
        self.draining = False
        self._looked = self._settled = False
        self._polling = asyncio.Lock()
        self.volume_error = ""
        self._volume, self._pool, self._default, self._pin = volume, pool, default_version, pin
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
            if version is None or version.state != "AVAILABLE":
                raise NotFound(f"Servable not found for request: Specific({model}, {number})")
            return version
        if self._default == store.STABLE and store.STABLE in found.wanted_labels:
            return self._labelled(found, model, store.STABLE)
        available = found.available()
        if not available:
            raise Unavailable(f"no version of {model} is available: {why_unavailable(found)}")
        return found.versions[available[-1]]

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
        return [VersionStatus(v.number, v.state, v.error) for v in chosen]

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
        if not self._settled and any(v.state in UNDER_WAY for m in self.models.values() for v in m.versions.values()):
            return "the first versions are being loaded"
        if any(model.available() for model in self.models.values()):
            self._settled = True  # from now on, what is loading stands in nobody's way
            return ""
        if self.volume_error:
            return self.volume_error
        if self._pin and not any(model.versions for model in self.models.values()):
            name, number = self._pin
            only = f"{name}/{number}, the only version to serve," if number else f"{name}, the only model to serve,"
            return f"{only} is not in {self._volume} yet"
        if not self.models:
            return f"there is no model in {self._volume} yet"
        return "no version is available: " + "; ".join(
            f"{name}: {why_unavailable(m)}" for name, m in self.models.items()
        )

    # ---- following the volume

    async def follow(self, seconds: float) -> None:
        """Polls for ever."""
        while True:
            try:
                await self.poll()
            except Exception:
                log.exception("looking at %s failed; what is loaded goes on being served", self._volume)
            await asyncio.sleep(seconds)

    async def poll(self) -> None:
        """One look at the volume; what it takes to follow it goes on by itself."""
        async with self._polling:  # so that an older look never undoes a newer one
            await self._poll()

    async def _poll(self) -> None:
        if self._pin and not self._pin[1]:
            self._pin = await asyncio.to_thread(_chosen, self._volume, self._pin[0])
        scan, error = await asyncio.to_thread(_scan, self._volume, self.models, self._pin)
        if error and error != self.volume_error:
            log.warning("%s; what is loaded goes on being served", error)
        self.volume_error = error
        if scan is None:
            return
        self._looked = True
        for name, seen in scan.items():
            if seen is not None:
                self._follow_model(name, self.models.setdefault(name, Model()), *seen)
        for name in self.models.keys() - scan.keys():
            self._follow_model(name, self.models[name], [], {})
            if not self.models[name].versions:
                del self.models[name]

    def _follow_model(self, name: str, model: Model, numbers: list[int], labels: dict[str, int]) -> None:
        for number in [n for n, v in model.versions.items() if v.state == "END" and n not in numbers]:
            del model.versions[number]
        model.wanted_labels = labels
        in_force = {label: number for label, number in model.labels.items() if label in labels}
        available = model.available()
        model.labels = in_force | {label: number for label, number in labels.items() if number in available}
        needed = wanted(model, numbers)
        for number in sorted(needed - model.versions.keys(), reverse=True):
            version = Version(name, number, store.path(self._volume, name, number))
            model.versions[number] = version
            self._spawn(self._load(version))
        for number in available:
            if number not in needed:
                model.versions[number].state = "UNLOADING"
                self._spawn(self._unload(model.versions[number]))

    async def _load(self, version: Version) -> None:
        version.state = "LOADING"
        began = time.perf_counter()
        try:
            described = await self._load_in_pool(version)
        except Exception as error:
            if not isinstance(error, (SeawayError, OSError)):
                log.exception("loading %s failed", version.key)
            self.on_loaded(version, time.perf_counter() - began, False)
            await self._not_loaded(version, str(error) or type(error).__name__)
            return
        version.served, version.batchable = read_description(described), tuple(described["batchable"])
        version.state = "AVAILABLE"
        seconds = time.perf_counter() - began
        self.on_loaded(version, seconds, True)
        together = f"batched: {', '.join(version.batchable)}" if version.batchable else "requests are run one by one"
        log.info("%s is available after %.1f s (%s)", version.identity, seconds, together)
        await self.poll()  # labels may wait for it, and what it replaces can go

    async def _load_in_pool(self, version: Version) -> dict[str, Any]:
        held = Held(version.model, version.number, version.path)
        try:
            return await self._pool.load(version.key, held)
        except WorkerDied:
            log.warning(
                "a worker ended while it loaded %s: it is tried once more, in a process of its own", version.key
            )
        try:
            return await self._pool.load(version.key, held, trial=True)
        except WorkerDied:
            raise SeawayError(f"{version.path}: loading it, or its golden inputs, ends the process") from None

    async def _not_loaded(self, version: Version, error: str) -> None:
        model = self.models[version.model]
        there = await asyncio.to_thread(version.path.exists)
        if not there and await asyncio.to_thread(_vanished, self._volume):
            log.warning("%s vanished while it was loaded: it is tried again", version.path)
            del model.versions[version.number]
            return
        version.state, version.error = "END", error
        log.error("%s cannot be served: %s", version.key, error)
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
        log.error("%s is taken out: %s", key, message)

    def _labelled(self, found: Model, model: str, label: str) -> Version:
        number = found.labels.get(label)
        version = found.versions.get(number) if number is not None else None
        if version is None or version.state == "END":
            meant = found.wanted_labels[label]
            error = found.versions[meant].error if meant in found.versions else "it is not in the volume"
            raise Unavailable(
                f"{model}: label {label!r} points at version {meant}, which is not available: {error or 'loading'}"
            )
        return version

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _scan(volume: Path, known: dict[str, Model], pin: tuple[str, int] | None) -> tuple[Scan | None, str]:
    """What is in the volume, None where it cannot be read, and what is wrong with it in words."""
    try:
        names = store.models(volume)
    except (SeawayError, OSError) as error:
        return None, str(error)
    if not names and any(model.available() for model in known.values()):
        return None, f"{volume}: all models are gone at once, as when a mount is lost; stop the server to unload them"
    scan, errors = Scan(), []
    for name in names if pin is None else {pin[0]} & {*names}:
        try:
            numbers, labels = store.versions(volume, name), store.labels(volume, name)
            scan[name] = (numbers, labels) if pin is None else ([n for n in numbers if n == pin[1]], {})
        except (SeawayError, OSError) as error:  # of this model: the others are followed
            scan[name] = None
            errors.append(str(error))
    return scan, "; ".join(errors)


def _chosen(volume: Path, model: str) -> tuple[str, int]:
    """The version of the model that an unlabelled request would get now; 0 where there is none yet."""
    try:
        labels, numbers = store.labels(volume, model), store.versions(volume, model)
    except (SeawayError, OSError):
        return model, 0
    number = labels.get(store.STABLE, max(numbers, default=0))
    if number:
        log.info("%s/%d is the only version that is served, whatever the volume comes to hold", model, number)
    return model, number


def _vanished(volume: Path) -> bool:
    try:
        return not store.models(volume)
    except SeawayError:
        return True
