"""Between a page and the results: asks for probes of all models over all images, and says what there is of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import streamlit as st
import xarray as xr

from dashboard.compute import results
from dashboard.compute.jobs import Job
from dashboard.compute.requests import Failure, Request, Result, Size, Value
from dashboard.state import models, precision
from dashboard.state.selection import Selection
from dashboard.state.visitors import visitor
from model_zoo.adapter import Geometry, ModelSpec
from model_zoo.catalog import CATALOG

PATIENCE = 0.4
"""Seconds in which quick work shows without a loading state; a model that must be loaded first is shown as coming."""

Params = Mapping[str, Value]
_Wanted = dict[str, dict[str, Request]]  # by model and name of the result


@dataclass(frozen=True)
class Ask:
    """One probe that a page wants of every model.

    Attributes:
        probe: its name.
        params: its parameters, the same for all models: layers and queries are in terms that each resolves by itself.
        name: what the page calls the result; the probe's name unless it asks the same probe twice.
        pairs: it compares models with each other.
        models: it is for these alone; for all who are asked unless given.
        against: a model that each of them is compared with, where the probe compares two.
    """

    probe: str
    params: Params = field(default_factory=dict)
    name: str = ""
    pairs: bool = False
    models: tuple[str, ...] = ()
    against: str = ""

    @property
    def key(self) -> str:
        """Name of the result."""
        return self.name or self.probe


@dataclass(frozen=True)
class ModelResult:
    """What there is of one model.

    Attributes:
        model: its MODEL string.
        title: what figures call it.
        colour: its colour.
        spec: its layout, None until it was loaded once.
        geometries: where its input lies in each image.
        datasets: probe to dataset; only those that are ready and defined.
        message: why something is missing, in one sentence; empty when nothing is.
        waiting: something is on its way.
        reasons: probe to why its dataset is missing, for a page that asks for several that need not all be defined.
        seconds: time an image of the slowest pass behind its results, 0 without any.
        job: the work on what is missing.
    """

    model: str
    title: str
    colour: str
    spec: ModelSpec | None
    geometries: tuple[Geometry, ...]
    datasets: dict[str, xr.Dataset]
    message: str = ""
    waiting: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    job: Job | None = None

    @property
    def doing(self) -> str:
        """What is being done for it right now, a few words; empty when nothing is."""
        match phase(self.job) if self.job is not None else "":
            case "loading":
                entry = CATALOG.get(self.model)
                return f"loading {entry.parameters / 1e6:.0f} M parameters …" if entry else "loading …"
            case "":
                return ""
            case other:
                return f"{other} …"


@dataclass(frozen=True)
class Outcome:
    """What there is of every model, and the work that is still going on.

    Attributes:
        models: each model's own results.
        missing: requests without a result.
        jobs: the work on them.
        failures: why there will be none.
        pairs: two MODEL strings to the dataset of a probe that compares models; it may say that it is undefined.
    """

    models: tuple[ModelResult, ...]
    missing: tuple[Request, ...]
    jobs: tuple[Job, ...]
    failures: tuple[Failure, ...]
    pairs: Mapping[tuple[str, str], xr.Dataset] = field(default_factory=dict)

    def ready(self, probe: str) -> dict[str, xr.Dataset]:
        """Title to dataset of every model that has the probe's result."""
        return {model.title: model.datasets[probe] for model in self.models if probe in model.datasets}

    @property
    def colours(self) -> dict[str, str]:
        """Title to colour of every model."""
        return {model.title: model.colour for model in self.models}


def ask(
    asks: Sequence[Ask],
    selection: Selection,
    *,
    each: Sequence[Ask] = (),
    models: Sequence[str] = (),
    size: Size = "native",
) -> tuple[Outcome, tuple[Outcome, ...]]:
    """Ask for probes of every selected model, with one wait for all of them.

    What is kept comes at once; the rest is computed in the background and the page runs again when it is there.

    Args:
        asks: wanted over all images together.
        selection: models and images.
        each: wanted of each image alone; kept for the image, and found again with other images.
        models: who is asked; the selected models unless given.
        size: the models' own image size, or the whole image uncropped.

    Returns:
        the outcome over all images, with the work on everything that is missing; and one outcome an image for ``each``.
    """
    together, alone = _wanted_of_all(asks, each, tuple(models) or selection.models, selection.images, size)
    found = _fetch([request for wanted in (together, *alone) for row in wanted.values() for request in row.values()])
    whole = _outcome(together, found, selection)
    missing, jobs, failures = _unfinished(found)
    return replace(whole, missing=missing, jobs=jobs, failures=failures), tuple(
        _outcome(wanted, found, selection) for wanted in alone
    )


def prepare(
    asks: Sequence[Ask], each: Sequence[Ask], models: Sequence[str], images: tuple[str, ...], patience: float
) -> None:
    """Compute what a page will ask, before anybody has; waits for it at most ``patience`` seconds."""
    together, alone = _wanted_of_all(asks, each, models, images, "native")
    requests = [request for wanted in (together, *alone) for row in wanted.values() for request in row.values()]
    results.store().fetch(requests, "start", patience)


def known(selection: Selection) -> list[ModelSpec | None]:
    """Layouts of the selected models; None for those that were never loaded."""
    return [results.store().spec(model) for model in selection.models]


def _wanted_of_all(
    asks: Sequence[Ask], each: Sequence[Ask], models: Sequence[str], images: tuple[str, ...], size: Size
) -> tuple[_Wanted, list[_Wanted]]:
    alone = [_wanted(each, models, (image,), size) for image in images] if each else []
    return _wanted(asks, models, images, size), alone


def _wanted(asks: Sequence[Ask], models: Sequence[str], images: tuple[str, ...], size: Size) -> _Wanted:
    wanted: _Wanted = {model: {} for model in models}
    for one in asks:
        params = tuple(sorted(one.params.items()))
        for model in one.models or models:
            whom = tuple(models) if one.pairs else tuple(dict.fromkeys(filter(None, (model, one.against))))
            wanted[model][one.key] = Request(whom, images, one.probe, params, size)
    return wanted


def _fetch(requests: Sequence[Request]) -> dict[Request, Result | Failure | Job]:
    """What there is of every request, after one bounded wait."""
    requests = tuple(dict.fromkeys(requests))
    stopped: frozenset[Request] = st.session_state.get("stopped", frozenset())
    asked = [request for request in requests if request not in stopped]
    st.session_state.setdefault("asked", []).extend(asked)
    new = any(results.store().spec(model) is None for request in asked for model in request.models)
    found = dict(results.store().fetch(asked, visitor(), 0.0 if new else PATIENCE))
    for request in requests:
        found.setdefault(request, Failure("Stopped before it was done.", stopped=True))
    precision.remember(value.datasets for value in found.values() if isinstance(value, Result))
    return found


def _unfinished(
    found: Mapping[Request, Result | Failure | Job],
) -> tuple[tuple[Request, ...], tuple[Job, ...], tuple[Failure, ...]]:
    """Requests without a result, the work on them, and why there will be none."""
    missing = tuple(request for request, value in found.items() if not isinstance(value, Result))
    jobs = tuple(dict.fromkeys(value for value in found.values() if isinstance(value, Job)))
    failures = tuple(dict.fromkeys(value for value in found.values() if isinstance(value, Failure)))
    return missing, jobs, failures


def _outcome(
    wanted: Mapping[str, Mapping[str, Request]],
    everything: Mapping[Request, Result | Failure | Job],
    selection: Selection,
) -> Outcome:
    found = {request: everything[request] for row in wanted.values() for request in row.values()}
    order = dict.fromkeys((*selection.models, *wanted))
    colours = models.colours(order, selection.colours)
    each = tuple(_model(model, row, found, colours[model]) for model, row in wanted.items())
    pairs = {
        (a, b): value.datasets[f"{a}+{b}"]
        for value in found.values()
        if isinstance(value, Result)
        for a, b in permutations(wanted, 2)
        if f"{a}+{b}" in value.datasets
    }
    return Outcome(each, *_unfinished(found), pairs)


def _model(
    model: str, row: Mapping[str, Request], found: Mapping[Request, Result | Failure | Job], colour: str
) -> ModelResult:
    spec: ModelSpec | None = None
    geometries: tuple[Geometry, ...] = ()
    datasets: dict[str, xr.Dataset] = {}
    reasons: dict[str, str] = {}
    waiting, seconds = False, 0.0
    job: Job | None = None
    for probe, request in row.items():
        value = found[request]
        if isinstance(value, Result):
            spec, geometries = value.specs[model], value.geometries[model]
            seconds = max(seconds, value.seconds)
            dataset = value.datasets.get(model)
            if dataset is not None and "undefined" in dataset.attrs:
                reasons[probe] = sentence(f"Not defined here: {dataset.attrs['undefined']}")
            elif dataset is not None:
                datasets[probe] = dataset
        elif isinstance(value, Failure):
            reasons[probe] = value.sentence
        else:
            waiting, job = True, value
    message = next(iter(reasons.values()), "")
    return ModelResult(
        model,
        models.title(model),
        colour,
        spec,
        geometries,
        datasets,
        message,
        waiting and not message,
        reasons,
        seconds,
        job,
    )


def phase(job: Job) -> str:
    """What a job is at, in two or three words that hold for a while."""
    if results.store().jobs.place(job):
        return "waiting its turn"
    return {"computing": "computing", "download": "downloading weights"}.get(job.stage, "loading")


def drop_unasked() -> None:
    """Take what this run did not ask for out of the queue; called once at a run's end."""
    results.store().keep_only(st.session_state.pop("asked", ()), visitor())


def sentence(text: str) -> str:
    """The text with a full stop."""
    return text if text.endswith((".", "!", "?")) else text + "."
