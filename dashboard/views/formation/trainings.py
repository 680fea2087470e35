"""The trainings that a selection has snapshots of, and what there is of each."""

from collections.abc import Sequence
from dataclasses import replace

from dashboard.compute.asking import Outcome
from dashboard.state import models
from dashboard.state.models import reference
from dashboard.state.selection import Selection
from dashboard.views.formation.along_training import Course
from model_zoo.training.snapshots import moments, positions_start, sizes

SHIPPED = ("scenes-vit-supervised", "scenes-vit-dino")


def with_snapshots(selection: Selection) -> tuple[list[str], list[str]]:
    """The selected models that have snapshots, and those that have none; the shipped pair if none has."""
    keys = [reference(model).key or "" for model in selection.models]
    have = [key for key in dict.fromkeys(keys) if key and moments(key)]
    without = [model for model, key in zip(selection.models, keys, strict=True) if key not in have]
    return have or list(SHIPPED), without


def moments_of(keys: Sequence[str]) -> tuple[str, ...]:
    """The models that the snapshots of trainings are, in order."""
    return tuple(moment.model for key in keys for moment in moments(key))


def courses(outcome: Outcome, selection: Selection, keys: Sequence[str]) -> list[Course]:
    """What there is of each training, in the colour of its model where that is selected."""
    found = {model.model: model for model in outcome.models}
    colours = models.colours(keys, {key: selection.colour(key) for key in keys if key in selection.models})
    courses = []
    for key in keys:
        along, colour = moments(key), colours[key]
        results = tuple(replace(found[one.model], title=Course.name(one), colour=colour) for one in along)
        courses.append(Course(models.title(key), colour, positions_start(key), sizes(key), along, results))
    return courses
