"""Naming in a parameter what is asked, so that one text means something under grids and crops of any shape.

A query is a word (``cls``, ``mean``, ``center``), a patch ``ROW:COL`` of the model's input grid from 0, a point of the
original image ``@X,Y``, or a point of the model's input ``U,V``. Points are fractions of width and height, each at
least 0 and below 1. Which patch lies under a point of the original depends on how the model crops the image.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from model_zoo.adapter import Geometry

Patch = tuple[int, int]
"""Row and column, from 0."""

_PATCH = re.compile(r"([0-9]{1,4}):([0-9]{1,4})")
_FRACTION = r"(0(?:\.[0-9]{1,20})?)"
_POINT = re.compile(f"@{_FRACTION},{_FRACTION}")
_INPUT_POINT = re.compile(f"{_FRACTION},{_FRACTION}")


@dataclass(frozen=True)
class Query:
    """What a query's text means; one of the four.

    Attributes:
        word: ``cls``, ``mean`` or ``center``; else empty.
        patch: of the model's input grid.
        point: (x, y) of the original image.
        input_point: (u, v) of the model's input.
    """

    word: str = ""
    patch: Patch | None = None
    point: tuple[float, float] | None = None
    input_point: tuple[float, float] | None = None

    def patch_of(self, grid: Patch, geometry: Geometry | None = None) -> Patch | None:
        """The patch of a grid over the model's input that is asked.

        Args:
            grid: rows and columns.
            geometry: where the input lies in the image; only a point of the original needs it.

        Returns:
            None where the grid has no such patch, the model does not see the point, or no single patch is asked.
        """
        if self.point is not None:
            if geometry is None:
                raise ValueError("A point of the original image needs the image's geometry, and none was handed over.")
            return geometry.patch_at(*self.point, grid)
        if self.input_point is not None:
            u, v = self.input_point
            return int(v * grid[0]), int(u * grid[1])
        if self.patch is not None:
            return self.patch if self.patch[0] < grid[0] and self.patch[1] < grid[1] else None
        return (grid[0] // 2, grid[1] // 2) if self.word == "center" else None


def read_query(text: str, words: Sequence[str], *, input_points: bool = False) -> Query:
    """What the parameter ``query`` means.

    Args:
        text: as it was given.
        words: the words that the probe knows.
        input_points: whether ``U,V`` is among what it knows.

    Raises:
        ValueError: it is none of the forms that the probe knows.
    """
    if text in words:
        return Query(word=text)
    if found := _PATCH.fullmatch(text):
        return Query(patch=(int(found[1]), int(found[2])))
    found = _POINT.fullmatch(text) or (_INPUT_POINT.fullmatch(text) if input_points else None)
    at = (float(found[1]), float(found[2])) if found else (1.0, 1.0)
    if max(at) < 1:
        return Query(point=at) if text.startswith("@") else Query(input_point=at)
    of_input = "U,V such as 0.2,0.5 of the model's input, " if input_points else ""
    raise ValueError(
        f"query is {text!r}; it must be {', '.join(words)}, ROW:COL such as 3:7, {of_input}or @X,Y such as @0.4,0.6, "
        "a point of the image as fractions of its width and height, each at least 0 and below 1."
    )


def scaled(patch: Patch, grid: Patch, to: Patch) -> Patch:
    """The patch of a coarser grid over the same input in which a patch lies."""
    return patch[0] * to[0] // grid[0], patch[1] * to[1] // grid[1]
