"""A shipped model at several moments of its training: what to call it, and how many images it had seen."""

from dataclasses import dataclass
from typing import Any

from model_zoo.catalog import CATALOG
from model_zoo.reference import step_name
from model_zoo.training.config import TrainConfig, stages_taken, steps_taken

STARTS = {
    "random": "random numbers",
    "sincos": "sines and cosines of row and column",
    "near": "sines and cosines of row and column at full strength, by which the first two blocks begin to attend near",
}


@dataclass(frozen=True)
class Moment:
    """A model after a part of its training.

    Attributes:
        model: the MODEL string.
        step: optimiser steps so far, over all runs of the training.
        images: training images seen so far.
        final: these are the shipped weights themselves.
    """

    model: str
    step: int
    images: int
    final: bool = False


def moments(key: str) -> tuple[Moment, ...]:
    """The snapshots of a catalog's model in order and its final weights last; empty where it has no snapshots."""
    entry = CATALOG[key]
    kept = entry.snapshots()
    if not kept:
        return ()
    card = entry.card()
    runs = [TrainConfig.from_json(run) for run in card["configs"]]
    earlier = tuple(Moment(f"{key}@{step_name(step)}", step, images_seen(runs, step)) for step in kept)
    return (*earlier, Moment(key, card["steps"], card["images"], final=True))


def images_seen(runs: list[TrainConfig], step: int) -> int:
    r"""Images in the first steps of runs that follow one another.

    .. math:: \sum_r b_r \min(\max(s - s_r, 0), S_r)

    where a run that was left at a snapshot counts as far as that.

    Args:
        runs: with batches of :math:`b_r` images and :math:`S_r` steps each, begun after :math:`s_r` steps.
        step: :math:`s`, counted over all runs.
    """
    seen = before = 0
    for run, steps in zip(runs, steps_taken(runs), strict=True):
        seen += run.batch_size * min(max(step - before, 0), steps)
        before += steps
    return seen


def sizes(key: str) -> tuple[int, ...]:
    """Sides of the images that a shipped model was trained on, smallest first, in pixels."""
    runs = [TrainConfig.from_json(run) for run in CATALOG[key].card().get("configs", ())]
    return tuple(sorted({stage.size for _, stage in stages_taken(runs)}))


def positions_start(key: str) -> str:
    """What the position embeddings of a shipped model started from, in words."""
    first: dict[str, Any] = next(iter(CATALOG[key].card().get("configs", ())), {})
    return STARTS[first.get("positions", "random")]
