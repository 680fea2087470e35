"""The trainings that a selection has snapshots of, and what there is of each."""

from collections.abc import Sequence
from dataclasses import replace

import xarray as xr

from dashboard.compute.asking import ModelResult, Outcome
from dashboard.state import models
from dashboard.state.models import reference
from dashboard.state.selection import Selection
from dashboard.views.formation.along_training import Course
from dashboard.views.formation.measures import Measure
from model_zoo.training.snapshots import moments, positions_start, sizes

SHIPPED = ("scenes-vit-supervised", "scenes-vit-dino")


def with_snapshots(selection: Selection) -> tuple[list[str], list[str]]:
    """The selected models that have snapshots, and those that have none; the shipped pair if none has."""
    sources = [source.partition("@")[0] for source in (reference(model).source for model in selection.models)]
    have = [source for source in dict.fromkeys(sources) if moments(source)]
    without = [model for model, source in zip(selection.models, sources, strict=True) if source not in have]
    return have or list(SHIPPED), without


def moments_of(keys: Sequence[str]) -> tuple[str, ...]:
    """The models that the snapshots of trainings are, in order."""
    return tuple(moment.model for key in keys for moment in moments(key))


def courses(outcome: Outcome, selection: Selection, keys: Sequence[str], measure: Measure) -> list[Course]:
    """What there is of each training, in the colour of its model where that is selected."""
    found = {model.model: model for model in outcome.models}
    colours = models.colours(keys, {key: selection.colour(key) for key in keys if key in selection.models})
    courses = []
    for key in keys:
        along, colour = moments(key), colours[key]
        results = []
        for one in along:
            model = replace(found[one.model], title=Course.name(one), colour=colour)
            results.append(_compared(model, outcome, along[-1].model, measure) if measure.against_final else model)
        course = Course(
            models.title(key), colour, positions_start(key), sizes(key), along, tuple(results), selection.images
        )
        courses.append(course)
    return courses


def _compared(model: ModelResult, outcome: Outcome, final: str, measure: Measure) -> ModelResult:
    """A moment with what its comparison with the finished model came to, which has one with itself."""
    dataset: xr.Dataset | None = outcome.pairs.get((model.model, final))
    if model.model == final:
        dataset = model.datasets.get(measure.probe)
    others = {name: one for name, one in model.datasets.items() if name != measure.probe}
    return replace(model, datasets=others | ({measure.probe: dataset} if dataset is not None else {}))
