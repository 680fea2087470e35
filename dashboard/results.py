"""What was computed: a bounded cache shared by the whole process, filled by jobs, each request computed once.

Nothing here knows Streamlit. A page asks with ``fetch`` and gets, for every request, the result, why there is none, or
the job that is working on it.
"""

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Literal

import timm
import torch
import xarray as xr

import probes
from dashboard import pictures
from dashboard.cache import Bounded, memory
from dashboard.jobs import Cancelled, Job, Jobs, QueueFull
from dashboard.selection import reference
from model_zoo.adapter import Adapter, Geometry, ModelSpec
from model_zoo.catalog import CATALOG
from model_zoo.images import ImageError
from model_zoo.loading import Zoo, resolve_device
from model_zoo.reference import ModelError
from probes import runner
from probes.base import Probe

Size = Literal["native", "uncropped"]
Value = str | int | float | bool

CACHE_BYTES = 512 * 2**20
FAILURE_BYTES = 16 * 2**20
ENTRY_BYTES = 8 * 2**10
"""What a result costs beside its arrays: coordinates, attributes, bookkeeping."""
FAILURE_SECONDS = 120.0
MOST_SPECS = 256
UNCROPPED_MOST = 3.0
"""The whole image may take this many times the tokens of the model's own input; a longer one is made smaller."""


@dataclass(frozen=True)
class Request:
    """One computation, named by everything that its result depends on.

    Attributes:
        models: MODEL strings; more than one only for a probe that compares models.
        images: picture ids, which name the content.
        probe: name of the probe; empty to ask only how the model lies over the images.
        params: the probe's parameters, sorted by name.
        size: the model's own evaluation transform, or the whole image uncropped.
    """

    models: tuple[str, ...]
    images: tuple[str, ...]
    probe: str = ""
    params: tuple[tuple[str, Value], ...] = ()
    size: Size = "native"


@dataclass(frozen=True)
class Result:
    """What a request came to.

    Attributes:
        datasets: the probe's datasets by MODEL string; empty when no probe was asked for.
        specs: layout of each model.
        geometries: where each model's input lies in each image.
    """

    datasets: dict[str, xr.Dataset]
    specs: dict[str, ModelSpec]
    geometries: dict[str, tuple[Geometry, ...]]

    @property
    def bytes(self) -> int:
        """Memory, bytes."""
        return ENTRY_BYTES + sum(dataset.nbytes for dataset in self.datasets.values())


@dataclass(frozen=True)
class Failure:
    """Why a request has no result, in one sentence."""

    sentence: str
    stopped: bool = False
    at: float = 0.0


class Results:
    """Computed results, least recently used out first, and the jobs that make more.

    Args:
        jobs: where the work runs.
        compute: makes the results of requests that share models, images and size.
        most_bytes: what the results together may take.
    """

    def __init__(
        self, jobs: Jobs, compute: Callable[[Sequence[Request], Job], list[Result]], most_bytes: int = CACHE_BYTES
    ) -> None:
        self.jobs = jobs
        self._compute = compute
        self._kept: Bounded[Request, Result] = Bounded(most_bytes, lambda result: result.bytes)
        self._failed: Bounded[Request, tuple[Failure, Request]] = Bounded(FAILURE_BYTES, _failure_bytes)
        self._live: dict[Request, Job] = {}
        self._specs: OrderedDict[str, ModelSpec] = OrderedDict()
        self._lock = threading.RLock()

    def fetch(
        self, requests: Iterable[Request], visitor: str, patience: float = 0.0
    ) -> dict[Request, Result | Failure | Job]:
        """Results where there are any, else the failure or the job; what is missing is started.

        Args:
            requests: what is wanted now.
            visitor: who asks.
            patience: wait at most this many seconds, so that quick work shows without a loading state.
        """
        wanted = list(dict.fromkeys(requests))
        with self._lock:
            groups: dict[tuple[object, ...], list[Request]] = {}
            for request in wanted:
                if self._look(request, visitor) is None:
                    groups.setdefault((request.models, request.images, request.size), []).append(request)
            refused: dict[Request, Failure] = {}
            for group in groups.values():
                try:
                    self._start(group, visitor)
                except QueueFull as error:  # true for this visitor now: never kept, never told to anyone else
                    refused.update(dict.fromkeys(group, Failure(str(error))))
            found = {request: self._look(request, visitor) for request in wanted}
        deadline = time.monotonic() + patience
        for job in [value for value in found.values() if isinstance(value, Job)]:
            job.finished.wait(max(deadline - time.monotonic(), 0.0))
        with self._lock:
            again = {request: self._look(request, visitor) for request in wanted}
        stopped = Failure("The computation was stopped.", stopped=True)
        return {request: value or refused.get(request, stopped) for request, value in again.items()}

    def keep_only(self, requests: Iterable[Request], visitor: str) -> None:
        """Drop what this visitor wanted before, wants no longer, and has not started."""
        with self._lock:
            wanted = {self._live.get(request) for request in requests}
            for job in set(self._live.values()) - wanted:
                self.jobs.leave(job, visitor, only_queued=True)

    def forget_failures(self, requests: Iterable[Request]) -> None:
        """Let these be tried again."""
        with self._lock:
            for request in requests:
                self._failed.pop(request, None)

    def spec(self, model: str) -> ModelSpec | None:
        """A model's layout at its own image size, None until something was computed with it."""
        with self._lock:
            return self._specs.get(model)

    @property
    def bytes(self) -> int:
        """Memory of all kept results, bytes."""
        with self._lock:
            return int(self._kept.currsize)

    def _look(self, request: Request, visitor: str) -> Result | Failure | Job | None:
        if request in self._kept:
            return self._kept[request]
        job = self._live.get(request)
        if job is not None and self.jobs.join(job, visitor):
            return job
        failed = self._failed.get(request)
        if failed is not None and time.monotonic() - failed[0].at < FAILURE_SECONDS:
            return failed[0]
        return None

    def _start(self, group: list[Request], visitor: str) -> None:
        def work(job: Job) -> None:
            for request, result in zip(group, self._compute(group, job), strict=True):
                self._keep(request, result)

        label = " and ".join(reference(model).label for model in group[0].models)
        job = self.jobs.submit(label, self._settling(group, work), visitor)
        for request in group:
            self._live[request] = job

    def _settling(self, group: list[Request], work: Callable[[Job], None]) -> Callable[[Job], None]:
        """The work, noting for its requests how it ended before the job says that it has."""

        def run(job: Job) -> None:
            try:
                work(job)
            except BaseException as error:
                sentence = explain(error) or f"{job.label} failed ({type(error).__name__}); the server's log says more."
                if not isinstance(error, Cancelled):
                    with self._lock:
                        self._failed.update((r, (Failure(sentence, at=time.monotonic()), r)) for r in group)
                raise
            finally:
                with self._lock:
                    for request in group:
                        if self._live.get(request) is job:
                            del self._live[request]

        return run

    def _keep(self, request: Request, result: Result) -> None:
        with self._lock:
            self._kept[request] = result
            if request.size == "native":
                self._specs |= result.specs
            while len(self._specs) > MOST_SPECS:
                self._specs.popitem(last=False)


def _failure_bytes(failed: tuple[Failure, Request]) -> int:
    """What a failure takes: its sentence, and the request, which may name thousands of images."""
    failure, request = failed
    return memory((failure.sentence, request.models, request.images))


def explain(error: BaseException) -> str | None:
    """An exception as one sentence for the user; None for those that only a log can explain."""
    if isinstance(error, (ModelError, ImageError)):
        return str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "There was not enough memory: compare fewer models, or choose the model's own image size."
    if isinstance(error, (ValueError, LookupError)) and error.args and str(error.args[0]).endswith("."):
        return str(error.args[0])
    return None


@cache
def zoo_budget() -> int:
    """What loaded models may take together, bytes of the memory that they lie in.

    On a GPU half of the GPU's memory, as the passes need the rest; else a quarter of the machine's, but 1 to 8 GB, as
    other programs run there, too.
    """
    device = resolve_device("auto")
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 2)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(max(memory / 4, 1e9), 8e9))


@cache
def zoo() -> Zoo:
    """The loaded models of this process."""
    return Zoo(budget_bytes=zoo_budget())


@cache
def store() -> Results:
    """The results of this process."""
    return Results(Jobs(workers=2, explain=explain), compute)


def uncropped_size(native: tuple[int, int], patch: int, image: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the whole image at its own aspect ratio, its short side as the model's own input.

    Both are multiples of the patch (32 for a convolutional network). A very long image is made smaller, so that it
    takes at most ``UNCROPPED_MOST`` times the tokens of the model's own input.
    """
    unit = patch or 32
    width, height = image
    scale = min(native) / min(width, height)
    scale *= min(1.0, math.sqrt(UNCROPPED_MOST * native[0] * native[1] / (width * height * scale * scale)))
    rows, columns = (max(round(side * scale / unit), 1) for side in (height, width))
    return rows * unit, columns * unit


def compute(group: Sequence[Request], job: Job) -> list[Result]:
    """Load the models, run every probe of the group in one pass, and say how the models lie over the images."""
    first = group[0]
    shapes = [pictures.size(image) for image in first.images]
    with ExitStack() as stack:
        adapters: dict[str, Adapter] = {}
        for model in first.models:
            job.report(f"loading {reference(model).label}")
            size = uncropped_size(*_native(model), shapes[0]) if first.size == "uncropped" else None
            adapters[model] = stack.enter_context(zoo().lease(model, image_size=size, on_progress=job.report))
        wanted = {str(i): probe_of(r) for i, r in enumerate(group) if r.probe}
        images = [pictures.source(image) for image in first.images]
        done: dict[str, dict[str, xr.Dataset]] = {}
        if wanted:
            done = runner.run(adapters, images, wanted, on_progress=lambda n, of: job.report("computing", n, of))
        specs = {model: adapter.spec for model, adapter in adapters.items()}
        geometries = {model: tuple(adapter.geometry(s) for s in shapes) for model, adapter in adapters.items()}
    return [Result(done.get(str(i), {}), specs, geometries) for i in range(len(group))]


def probe_of(request: Request) -> Probe:
    """The probe of a request; a picture's id given for ``of`` becomes the picture."""
    params: dict[str, object] = dict(request.params)
    if isinstance(of := params.get("of"), str):
        params["of"] = pictures.source(of)
    return probes.load(request.probe)(**params)


def _native(model: str) -> tuple[tuple[int, int], int]:
    """Input size and patch of a model at its own evaluation transform, without loading it."""
    named = reference(model)
    if named.key is not None:
        entry = CATALOG[named.key]
        return entry.input_size, entry.patch
    config = timm.get_pretrained_cfg(named.timm_name)
    size = config.input_size if config is not None else (3, 224, 224)
    patch = named.timm_name.partition("patch")[2][:2]
    return (size[1], size[2]), int(patch) if patch.isdigit() else int(patch[:1] or 0) if patch[:1].isdigit() else 32
