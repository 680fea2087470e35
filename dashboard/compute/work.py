"""The work of a job: load models, run the passes that answer a group of requests, and give each request its own."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

import timm
import torch
import xarray as xr

import probes
from dashboard.compute.jobs import Job
from dashboard.compute.passes import Pass, passes
from dashboard.compute.requests import Request, Result
from dashboard.images import gallery, sets
from dashboard.state.models import reference
from model_zoo.adapter import Adapter, Geometry
from model_zoo.catalog import CATALOG
from model_zoo.decoding import ImageError
from model_zoo.loading import Zoo, resolve_device
from model_zoo.memory import is_out_of_memory, machine_bytes
from model_zoo.reference import ModelError
from probes.core import runner
from probes.core.base import Probe
from probes.core.cluster import ClusterError

if TYPE_CHECKING:
    from probes.core.remote import Passes

JOBS = 2
"""Jobs that run at once."""
UNCROPPED_MOST = 3.0
"""The whole image may take this many times the tokens of the model's own input; a longer one is made smaller."""


def explain(error: BaseException) -> str | None:
    """An exception as one sentence for the user; None for those that only a log can explain."""
    if isinstance(error, (ModelError, ImageError, ClusterError)):
        return str(error)
    if is_out_of_memory(error):
        return "There was not enough memory: compare fewer models, or choose the model's own image size."
    if isinstance(error, (ValueError, LookupError)) and error.args and str(error.args[0]).endswith("."):
        return str(error.args[0])
    return None


@cache
def zoo_budget() -> int:
    """What loaded models may take together, bytes of the memory that they lie in.

    On a GPU half of the GPU's memory, as the passes need the rest; else a quarter of the machine's, or of what control
    groups leave this process of it, but 1 to 8 GB, as other programs run there, too.
    """
    device = resolve_device("auto")
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 2)
    return int(min(max(machine_bytes() / 4, 1e9), 8e9))


@cache
def zoo() -> Zoo:
    """The loaded models of this process."""
    return Zoo(budget_bytes=zoo_budget())


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
    """Answer requests for the same models at one input size, with as few passes over the images as there can be."""
    first = group[0]
    with ExitStack() as stack:
        adapters: dict[str, Adapter] = {}
        for model in first.models:
            job.report(f"loading {reference(model).label}")
            whole = first.size == "uncropped"
            size = uncropped_size(*_native(model), gallery.size(first.images[0])) if whole else None
            adapters[model] = stack.enter_context(
                zoo().lease(reference(model), image_size=size, on_progress=job.report)
            )
        datasets: dict[Request, dict[str, xr.Dataset]] = {}
        seconds: dict[Request, float] = {}
        for one in passes([request for request in group if request.probe]):
            began = time.monotonic()
            datasets |= _run(one, adapters, job)
            seconds |= dict.fromkeys(one.requests, (time.monotonic() - began) / len(one.images))
        specs = {model: adapter.spec for model, adapter in adapters.items()}
        return [Result(datasets.get(r, {}), specs, _geometries(adapters, r.images), seconds.get(r, 0.0)) for r in group]


def _run(one: Pass, adapters: Mapping[str, Adapter], job: Job) -> dict[Request, dict[str, xr.Dataset]]:
    """Run a pass and give every request its own, also where it asked for one image of several."""
    wanted = {(request.probe, request.params): probe_of(request) for request in one.requests}
    names = {key: str(index) for index, key in enumerate(wanted)}
    done = run_by(os.environ.get("PROBES_ENGINE", "local"))(
        adapters,
        [sets.source(image) for image in one.images],
        {names[key]: probe for key, probe in wanted.items()},
        on_progress=lambda n, of: job.report("computing", n, of),
    )
    found = {}
    for request in one.requests:
        result = done[names[request.probe, request.params]]
        if request.images != one.images:
            place = one.images.index(request.images[0])
            result = {label: _of_image(dataset, place) for label, dataset in result.items()}
        found[request] = result
    return found


def run_by(engine: str) -> Callable[..., runner.Results]:
    """Who runs the passes: this process, or the workers of a Ray cluster, as many as jobs run at once.

    Raises:
        ValueError: the server's setting names neither.
    """
    match engine:
        case "local":
            return runner.run
        case "ray":
            return on_a_cluster().run
    raise ValueError(f"The server's PROBES_ENGINE is {engine!r}; it must be local or ray.")


@cache
def on_a_cluster() -> "Passes":
    """The workers of a Ray cluster."""
    from probes.core.remote import Passes

    return Passes(JOBS, zoo_budget())


def _of_image(dataset: xr.Dataset, place: int) -> xr.Dataset:
    """What would have come of one image alone."""
    if "image" not in dataset.dims:  # undefined, whatever the image
        return dataset
    alone = dataset.isel(image=[place]).copy()  # else the part would hold the whole in memory
    counted = {"n": 1} if "n" in dataset.attrs else {}
    return alone.assign_coords(image=[0]).assign_attrs(counted)


def _geometries(adapters: Mapping[str, Adapter], images: Sequence[str]) -> dict[str, tuple[Geometry, ...]]:
    shapes = [gallery.size(image) for image in images]
    return {model: tuple(adapter.geometry(shape) for shape in shapes) for model, adapter in adapters.items()}


def probe_of(request: Request) -> Probe:
    """The probe of a request; a picture's id given for ``of`` becomes the picture."""
    params: dict[str, object] = dict(request.params)
    if isinstance(of := params.get("of"), str):
        params["of"] = gallery.source(of)
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
