"""The panels of `image_relations` as one picture for a slide: squares of similarities, or maps of thumbnails."""

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dashboard.draw import matrices
from dashboard.draw.matrices import Square
from dashboard.draw.panels import Scale
from dashboard.views.embeddings.image_relations import Relation, class_colour

SIDE = 1080
COSINES = Scale(-1.0, 1.0, "cosine similarity", signed=True)
DIFFERENCES = Scale(-1.0, 1.0, "difference of cosine similarities", signed=True)


def svg(
    panels: Sequence[Relation],
    *,
    order: Sequence[int],
    classes: Sequence[str],
    thumbnails: Mapping[str, Any],
    axis: str,
    scale: Scale,
    title: str,
    caption: str,
) -> str:
    """All panels that have something to show, in one row and on one scale.

    Args:
        panels: one a model.
        order: images from top to bottom and left to right, as indices.
        classes: class of each image; empty where none is known.
        thumbnails: what `relations.sheet` gives for the images.
        axis: what both axes of a square are.
        scale: what the colours of the squares mean.
        title: heading of the picture.
        caption: what the numbers say.
    """
    blocks = ticks([classes[i] for i in order]) if classes else []
    drawn = []
    for panel in panels:
        if panel.square is not None:
            pixels = matrices.painted(panel.square[np.ix_(order, order)], scale)
            drawn.append(Square(panel.name, panel.colour, panel.note, pixels, axis, axis, (), blocks))
        elif panel.points is not None:
            placed = scattered(panel.points, classes, thumbnails)
            drawn.append(Square(panel.name, panel.colour, panel.note, placed))
    shared = scale if any(panel.square is not None for panel in panels) else None
    return matrices.svg(drawn, scale=shared, title=title, caption=caption)


def ticks(classes: Sequence[str]) -> list[tuple[float, str]]:
    """The middle of each block of one class as a fraction of the axis; none where the classes are not in blocks."""
    blocks = [(kind, len(list(group))) for kind, group in groupby(classes)]
    if len(blocks) != len(set(classes)) or len(blocks) > 25:
        return []
    ends = np.cumsum([count for _, count in blocks])
    return [((end - count / 2) / len(classes), kind) for end, (kind, count) in zip(ends.tolist(), blocks, strict=True)]


def scattered(points: np.ndarray, classes: Sequence[str], thumbnails: Mapping[str, Any]) -> np.ndarray:
    """Thumbnails at their places, framed in the colour of their class: (SIDE, SIDE, 3) uint8."""
    sheet = Image.open(io.BytesIO(base64.b64decode(thumbnails["src"].partition(",")[2])))
    side, columns = thumbnails["side"], thumbnails["columns"]
    low, high = points.min(0), points.max(0)
    size = max(round(SIDE * min(0.075, 0.9 / np.sqrt(len(points)))), 8)
    places = (points - low) / np.where(high > low, high - low, 1) * (SIDE - size)
    page = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(page)
    kinds = sorted(set(classes))
    for index, (x, y) in enumerate(places.round().astype(int).tolist()):
        left, top = index % columns * side, index // columns * side
        page.paste(sheet.crop((left, top, left + side, top + side)).resize((size, size)), (x, y))
        if classes:
            frame = class_colour(kinds, classes[index]).replace(" ", ",")
            pen.rectangle((x, y, x + size - 1, y + size - 1), outline=frame, width=max(size // 11, 2))
    return np.asarray(page)
