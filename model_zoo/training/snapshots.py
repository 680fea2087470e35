"""A model at several moments of its training: what to call it, and how many images it had seen.

Shipped models have snapshots in files, those that were trained in this process in memory.
"""

from dataclasses import dataclass
from typing import Any

from model_zoo import trained
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
        final: these are the weights that the training ended with.
    """

    model: str
    step: int
    images: int
    final: bool = False


def moments(model: str) -> tuple[Moment, ...]:
    """The snapshots of a training in order and its final weights last; empty where there are none.

    Args:
        model: a key of the catalog, or ``trained:ID``.
    """
    if held := _trained(model):
        steps = [*sorted(held.snapshots), held.step] if held.snapshots else []
        names = [*(f"{model}@{step_name(step)}" for step in steps[:-1]), model]
        return tuple(
            Moment(name, step, step * held.batch_size, final=name == model)
            for name, step in zip(names, steps, strict=False)
        )
    entry = CATALOG.get(model)
    kept = entry.snapshots() if entry else {}
    if not entry or not kept:
        return ()
    card = entry.card()
    runs = [TrainConfig.from_json(run) for run in card["configs"]]
    earlier = tuple(Moment(f"{model}@{step_name(step)}", step, images_seen(runs, step)) for step in kept)
    return (*earlier, Moment(model, card["steps"], card["images"], final=True))


def _trained(model: str) -> trained.Trained | None:
    return trained.get(model.removeprefix("trained:")) if model.startswith("trained:") else None


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


def sizes(model: str) -> tuple[int, ...]:
    """Sides of the images that a model was trained on, smallest first, in pixels."""
    if held := _trained(model):
        return (held.size,)
    runs = [TrainConfig.from_json(run) for run in CATALOG[model].card().get("configs", ())]
    return tuple(sorted({stage.size for _, stage in stages_taken(runs)}))


def positions_start(model: str) -> str:
    """What the position embeddings of a model started from, in words."""
    runs: Any = CATALOG[model].card().get("configs", ()) if model in CATALOG else ()
    first: dict[str, Any] = next(iter(runs), {})
    return STARTS[first.get("positions", "random")]
