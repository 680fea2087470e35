"""Points along the residual stream: the embedding, and the stream after every attention, MLP and block."""

from collections.abc import Mapping
from typing import Any

from model_zoo.adapter import ModelSpec

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
