"""What attention and MLP do to a quantity of the feature maps: its course, and counts of rises and falls. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

NAMES = {"attention": "attention", "mlp": "MLP", "block": "block", "merging": "merging of patches"}
"""What lies between two points, as a person calls it."""


@dataclass(frozen=True)
class Course:
    """A quantity along the residual stream of one model.

    Attributes:
        values: one a point, NaN where it is not defined.
        errors: standard errors over images.
        changes: standard errors of the change since the point before, over images; NaN where it is not defined.
        spans: what lies before each point, of the probes' coordinate ``span``.
        blocks: the block of each point from 0, −1 for the embedding.
        same_grid: whether a point has the grid of the one before.
        frequency: of each point the frequency that is read, radians per position; NaN for other quantities.
    """

    values: np.ndarray
    errors: np.ndarray
    changes: np.ndarray
    spans: tuple[str, ...]
    blocks: np.ndarray
    same_grid: np.ndarray
    frequency: np.ndarray

    @property
    def depth(self) -> np.ndarray:
        """Blocks that were run, by point: 0 after the embedding, in halves where attention comes before MLP."""
        done = {"attention": 0.5, "mlp": 1.0, "block": 1.0}
        return self.blocks + np.array([1.0 if block < 0 else done.get(span, 0.0) for block, span in self._places])

    @property
    def _places(self) -> list[tuple[int, str]]:
        return list(zip(self.blocks.tolist(), self.spans, strict=True))

    @property
    def count(self) -> int:
        """Blocks of the model."""
        return int(self.blocks.max()) + 1

    def across(self, span: str) -> "Counts":
        """How often the quantity rises and falls across a kind of span, where the grid stays the same.

        A change counts if it is more than twice its standard error over the images.
        """
        change = np.diff(self.values)
        bound = 2 * np.nan_to_num(self.changes[1:])
        known = np.isfinite(change) & self.same_grid[1:] & (np.array(self.spans[1:]) == span)
        falls, rises = ((known & (sign * change > bound)).sum() for sign in (-1, 1))
        left_out = int((np.array(self.spans[1:]) == span).sum() - known.sum())
        return Counts(int(falls), int(rises), int(known.sum()), left_out)


@dataclass(frozen=True)
class Counts:
    """Of so many spans, in how many a quantity falls and rises; the rest is within twice the standard error."""

    falls: int
    rises: int
    of: int
    left_out: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in ("falls", "rises", "of", "left_out")))


def course(dataset: xr.Dataset) -> Course:
    """The course of ``variance``, or of ``relative`` at the highest frequency that each point has."""
    points = dataset.sizes["point"]
    frequency = np.full(points, np.nan)
    if "variance" in dataset:
        values, errors, changes = (dataset[name].values for name in ("variance", "variance_sem", "change_sem"))
    else:
        whole = dataset["relative"].values
        values, errors, changes = np.full((3, points), np.nan)
        for point, row in enumerate(np.isfinite(whole)):
            if row[1:].any():
                last = int(np.flatnonzero(row)[-1])
                values[point], errors[point] = whole[point, last], dataset["relative_sem"].values[point, last]
                changes[point] = dataset["change_sem"].values[point, last]
                frequency[point] = float(dataset["frequency"][last])
    grids = np.stack([dataset["grid_height"].values, dataset["grid_width"].values])
    same = np.concatenate([[True], (grids[:, 1:] == grids[:, :-1]).all(0)])
    spans = tuple(str(span) for span in dataset["span"].values)
    return Course(values, errors, changes, spans, dataset["layer"].values, same, frequency)


def verdict(courses: Mapping[str, Course], what: str) -> str:
    """In how many blocks the quantity falls across attention and rises across MLP, together and by model.

    Args:
        courses: title to course.
        what: the quantity.
    """
    split = {name: one for name, one in courses.items() if "attention" in one.spans}
    said = []
    if split:
        attention, mlp = (sum((one.across(span) for one in split.values()), Counts(0, 0, 0)) for span in HALVES)
        said.append(
            f"**Across attention {what} falls in {attention.falls} of {attention.of} blocks; across the MLP it rises "
            f"in {mlp.rises} of {mlp.of}** ({_answer(attention, mlp)})."
        )
    for name, one in courses.items():
        parts = [_counted(one.across(span), NAMES[span]) for span in dict.fromkeys(one.spans) if span in NAMES]
        said.append(f"**{name}**: " + "; ".join(part for part in parts if part) + ".")
    return "  \n".join(said)


HALVES = ("attention", "mlp")


def _answer(attention: Counts, mlp: Counts) -> str:
    blurs, sharpens = (part / max(whole.of, 1) for part, whole in ((attention.falls, attention), (mlp.rises, mlp)))
    if min(blurs, sharpens) >= 0.75:
        return "as the paper has it"
    if max(blurs, sharpens) <= 0.5:
        return "not what the paper has"
    return "in part what the paper has"


def _counted(counts: Counts, span: str) -> str:
    within = counts.of - counts.falls - counts.rises
    left = f", {counts.left_out} left out, as the grid changes there" if counts.left_out else ""
    if not counts.of:
        return f"{span}{left}" if counts.left_out and span != NAMES["merging"] else ""
    rest = f", no clear change in {within}" if within else ""
    return f"{span} falls in {counts.falls} and rises in {counts.rises} of {counts.of}{rest}{left}"
