"""Points along the residual stream: the embedding, and the stream after every attention, MLP and block."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model_zoo.adapter import ModelSpec
from probes.core.moments import Moments, merge

ORDER = {"embed": 0, "resid_pre": 1, "resid_mid": 2, "resid_post": 3}
"""Kinds of points by their order in a block."""
UNKNOWN = "the blocks of this model are not known here, so no layer can be read"


def stream_points(spec: ModelSpec) -> tuple[str, ...]:
    """The points in the order in which the model runs; none where its blocks are not known.

    A transformer of L blocks that add attention and MLP one after the other has 2L + 1. Where a block has no stream in
    between (a convolutional block, or attention and MLP side by side) there is one point for the whole block, and where
    patches are merged before a stage (Swin) there is one more after it.
    """
    found = [(*_place(point), point) for point in spec.points if point.partition(".")[0] in ORDER]
    return tuple(point for *_, point in sorted(found))


def _place(point: str) -> tuple[int, int]:
    kind, _, block = point.partition(".")
    return (int(block) if block else -1), ORDER[kind]


@dataclass
class Changes:
    """How a quantity changes from each point to the next, image by image: images differ more than their changes do.

    Attributes:
        moments: of the change since the point before, over images, by the place of the point.
        before: the batch's values at the place that was seen last.
    """

    moments: dict[int, Moments] = field(default_factory=dict)
    before: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, place: int, values: np.ndarray) -> None:
        """Values (images, ...) of a batch at a point; its points come in order."""
        before = self.before.get(place - 1)
        if before is not None and before.shape == values.shape:
            self.moments[place] = self.moments.get(place, Moments()) + Moments.of(values - before)
        self.before = {place: values}

    def __add__(self, other: "Changes") -> "Changes":
        """Changes over the images of both."""
        return Changes(merge(self.moments, other.moments))


def stream_coordinates(spec: ModelSpec, grids: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
    """Coordinates of the dimension point.

    ``span`` says what lies between a point and the one before: ``embedding``, ``attention``, ``mlp``, ``block`` (all of
    a block) or ``merging``; ``layer`` is the block, −1 for the embedding.

    Args:
        spec: the model.
        grids: rows and columns of positions by the place of the point; 0 where nothing was seen.
    """
    points = stream_points(spec)
    known = [grids.get(place, (0, 0)) for place in range(len(points))]
    return {
        "point": list(points),
        "span": ("point", [_span(point, points) for point in points]),
        "layer": ("point", [_place(point)[0] for point in points]),
        "grid_height": ("point", [grid[0] for grid in known]),
        "grid_width": ("point", [grid[1] for grid in known]),
    }


def _span(point: str, points: tuple[str, ...]) -> str:
    kind, _, block = point.partition(".")
    whole = "mlp" if f"resid_mid.{block}" in points else "block"
    return {"embed": "embedding", "resid_pre": "merging", "resid_mid": "attention", "resid_post": whole}[kind]
