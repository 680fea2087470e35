"""Between a page and the results: asks for them, and shows how far they are."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import streamlit as st
import xarray as xr

from dashboard import cards, precision, results
from dashboard.jobs import Job
from dashboard.palette import number
from dashboard.results import Failure, Request, Result, Size, Value
from dashboard.selection import Point, Selection
from dashboard.visitors import visitor
from model_zoo.adapter import Geometry, ModelSpec

STAGES = {"": "starting", "download": "downloading weights", "build": "loading"}
PATIENCE = 0.4
POLL = 0.4
REDRAW = 0.8
EASY_CROWD = 5
"""Visitors who can wait at once before each of them is served more slowly."""

Params = Mapping[str, Value]


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
    """

    model: str
    title: str
    colour: str
    spec: ModelSpec | None
    geometries: tuple[Geometry, ...]
    datasets: dict[str, xr.Dataset]
    message: str = ""
    waiting: bool = False


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


def compute(probes: Mapping[str, Params], selection: Selection, *, size: Size = "native") -> Outcome:
    """Ask for probes of every selected model over the selected images.

    What is cached comes at once; the rest is computed in the background and the page runs again when it is there.

    Args:
        probes: probe to its parameters. No probes at all: only the models' layout and geometry.
        selection: models and images.
        size: the models' own image size, or the whole image uncropped.
    """
    return compute_each({p: dict.fromkeys(selection.models, v) for p, v in probes.items()}, selection, size=size)


def compute_each(
    probes: Mapping[str, Mapping[str, Params | None]], selection: Selection, *, size: Size = "native"
) -> Outcome:
    """Ask for probes whose parameters differ between models, as a clicked patch does.

    Args:
        probes: probe to model to parameters; None where the model is left out.
        selection: models and images.
        size: the models' own image size, or the whole image uncropped.
    """
    return _collect(requests(probes, selection, size=size), selection)


def requests(
    probes: Mapping[str, Mapping[str, Params | None]], selection: Selection, *, size: Size = "native"
) -> dict[str, dict[str, Request]]:
    """What `compute_each` asks for: model to probe to request, under an empty name the model's layout."""
    wanted: dict[str, dict[str, Request]] = {}
    for model in selection.models:
        wanted[model] = {"": Request((model,), selection.images, size=size)}
        for probe, given in probes.items():
            params = given[model]
            if params is not None:
                request = Request((model,), selection.images, probe, tuple(sorted(params.items())), size)
                wanted[model][probe] = request
    return wanted


def patch_of_each(selection: Selection, point: Point, *, size: Size = "native") -> dict[str, str | None]:
    """The patch under a point of the first image as ``ROW:COL`` of each model's own input grid.

    None where the point lies outside of what the model sees, or while the model's layout is not known yet.
    """
    found: dict[str, str | None] = {}
    for model in compute({}, selection, size=size).models:
        at = model.geometries[0].patch_at(*point, model.spec.grid) if model.spec else None
        found[model.model] = f"{at[0]}:{at[1]}" if at else None
    return found


def compute_together(probe: str, params: Params, selection: Selection, models: Sequence[str]) -> Outcome:
    """Ask for a probe that compares models with each other: each model's own datasets, and ``pairs`` of them."""
    request = Request(tuple(models), selection.images, probe, tuple(sorted(params.items())))
    return _collect({model: {probe: request} for model in models}, selection)


def _collect(wanted: dict[str, dict[str, Request]], selection: Selection) -> Outcome:
    every = tuple(dict.fromkeys(request for row in wanted.values() for request in row.values()))
    stopped: frozenset[Request] = st.session_state.get("stopped", frozenset())
    asked = [request for request in every if request not in stopped]
    st.session_state.setdefault("asked", []).extend(asked)
    found = dict(results.store().fetch(asked, visitor(), PATIENCE))
    for request in every:
        found.setdefault(request, Failure("Stopped before it was done.", stopped=True))
    models = tuple(_model(model, row, found, selection) for model, row in wanted.items())
    jobs = tuple(dict.fromkeys(value for value in found.values() if isinstance(value, Job)))
    failures = tuple(dict.fromkeys(value for value in found.values() if isinstance(value, Failure)))
    missing = tuple(request for request, value in found.items() if not isinstance(value, Result))
    precision.remember(value.datasets for value in found.values() if isinstance(value, Result))
    pairs = {
        (a, b): value.datasets[f"{a}+{b}"]
        for value in found.values()
        if isinstance(value, Result)
        for a, b in permutations(wanted, 2)
        if f"{a}+{b}" in value.datasets
    }
    return Outcome(models, missing, jobs, failures, pairs)


def _model(
    model: str, row: dict[str, Request], found: Mapping[Request, Result | Failure | Job], selection: Selection
) -> ModelResult:
    spec: ModelSpec | None = None
    geometries: tuple[Geometry, ...] = ()
    datasets: dict[str, xr.Dataset] = {}
    messages: list[str] = []
    waiting = False
    for probe, request in row.items():
        value = found[request]
        if isinstance(value, Result):
            spec, geometries = value.specs[model], value.geometries[model]
            dataset = value.datasets.get(model)
            if dataset is not None and "undefined" in dataset.attrs:
                messages.append(sentence(f"Not defined here: {dataset.attrs['undefined']}"))
            elif dataset is not None:
                datasets[probe] = dataset
        elif isinstance(value, Failure):
            messages.append(value.sentence)
        else:
            waiting = True
    message = next(iter(messages), "")
    return ModelResult(
        model, cards.title(model), selection.colour(model), spec, geometries, datasets, message, waiting and not message
    )


def drop_unasked() -> None:
    """Take what this run did not ask for out of the queue; called once at a run's end."""
    results.store().keep_only(st.session_state.pop("asked", ()), visitor())


def sentence(text: str) -> str:
    """The text with a full stop."""
    return text if text.endswith((".", "!", "?")) else text + "."


def show_progress(outcome: Outcome, *, part: str = "") -> None:
    """Say how far the work is, with a way to stop it, or to try again what failed; nothing when all is there.

    Args:
        outcome: what was asked for.
        part: names the part of the page that asked, where another part shows its own progress.
    """
    suffix = f"-{part}" if part else ""
    if outcome.jobs:
        crowd = results.store().jobs.visitors()
        st.fragment(_live, run_every=POLL * max(1.0, crowd / EASY_CROWD))(outcome, suffix, time.monotonic())
    elif outcome.failures:
        stopped = all(failure.stopped for failure in outcome.failures)
        label = "Compute" if stopped else "Try again"
        st.button(label, on_click=_again, args=(outcome.missing,), key=f"try_again{suffix}")


def _live(outcome: Outcome, suffix: str, drawn: float) -> None:
    """The progress. The page is drawn again when all is done, before that at most once a pause.

    The pause grows with the number of those who wait, as drawing their pages takes what their results need.
    """
    ended = [job for job in outcome.jobs if job.finished.is_set()]
    pause = REDRAW * max(1.0, results.store().jobs.visitors() / EASY_CROWD)
    if len(ended) == len(outcome.jobs) or (ended and time.monotonic() - drawn >= pause):
        st.rerun()
    job = next((job for job in outcome.jobs if job.state == "running"), outcome.jobs[0])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.fraction or 0.0, describe(job, len(outcome.jobs)))
        st.button("Stop", on_click=_stop, args=(outcome,), key=f"stop{suffix}", type="tertiary")


def describe(job: Job, jobs: int) -> str:
    """One line: what is being done, how far it is, and how long it will take."""
    place = results.store().jobs.place(job)
    if place:
        return f"{job.label}: waiting, place {place} in the queue"
    parts = [f"{job.label}: {STAGES.get(job.stage, job.stage)}"]
    if job.total and job.stage == "download":
        parts.append(f"{number(job.done / 1e6)} of {number(job.total / 1e6)} MB")
    elif job.total and job.total > 1:
        parts.append(f"{job.done} of {job.total}")
    if job.seconds_left is not None and job.seconds_left >= 1:
        parts.append(f"about {job.seconds_left:.0f} s left")
    if jobs > 1:
        parts.append(f"{jobs - 1} more to go")
    return " · ".join(parts)


def _stop(outcome: Outcome) -> None:
    for job in outcome.jobs:
        results.store().jobs.leave(job, visitor())
    st.session_state["stopped"] = frozenset(outcome.missing)


def _again(requests: Sequence[Request]) -> None:
    st.session_state["stopped"] = frozenset()
    results.store().forget_failures(requests)
