"""How much maps of successive frames are alike, and how well they fit a moving object."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from model_zoo.adapter import Geometry
from probes.core.saliency import overlap

RASTER = 16
"""Points down and across the object at which two maps are compared after its motion."""


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    r"""Pearson's correlation of two maps.

    .. math:: r = \frac{\sum_p (a_p - \bar a)(b_p - \bar b)}{\sqrt{\sum_p (a_p - \bar a)^2 \sum_p (b_p - \bar b)^2}}

    Args:
        a: map, of any shape.
        b: map of the same shape.

    Returns:
        −1 to 1; 1 for equal maps, also where both are the same everywhere; NaN where just one of them is.
    """
    a, b = (values.ravel().astype(np.float64) - values.mean(dtype=np.float64) for values in (a, b))
    spread = np.sqrt((a @ a) * (b @ b))
    if spread > 0:
        return float(np.clip(a @ b / spread, -1, 1))
    return 1.0 if np.array_equal(a, b) else float("nan")


def on_object(values: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """A map (rows, columns, ...) read at a raster of points over an object's bounding box, interpolated.

    Args:
        values: the map over the whole of what the mask is of.
        mask: boolean (height, width).

    Returns:
        (RASTER, RASTER, ...); None where there is no object.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    places = []
    for inside, pixels, cells in ((rows, mask.shape[0], values.shape[0]), (columns, mask.shape[1], values.shape[1])):
        at = inside[0] + (np.arange(RASTER) + 0.5) / RASTER * (inside[-1] + 1 - inside[0])
        places.append((at / pixels * cells - 0.5).astype(np.float32))
    y, x = np.meshgrid(*places, indexing="ij")
    return cv2.remap(values.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def iou(values: np.ndarray, mask: np.ndarray, tau: float) -> float:
    """IoU of the map's mass mask with an object, see `probes.core.saliency.overlap`; NaN where there is no object."""
    height, width = mask.shape
    whole = Geometry((width, height), (0.0, 0.0, float(width), float(height)), (height, width))
    return overlap(values, mask, whole, tau).iou


@dataclass
class Stability:
    """Numbers of one model over a clip, frame by frame; it holds two maps, whatever the clip's length.

    Attributes:
        tau: share of the mass in the mass mask.
        successive: correlation of each frame's map with the one before.
        moved: the same over the object, read in both frames at the same places of its bounding box, so that its way
            and its growth do not count; where masks are known.
        overlap: IoU of every frame's mass mask with the object, where masks are known.
    """

    tau: float
    successive: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)
    _before: tuple[np.ndarray, np.ndarray | None] | None = None

    def add(self, values: np.ndarray, mask: np.ndarray | None) -> None:
        """Take the next frame: a map (rows, columns), or colours, and the object's mask where it is known."""
        there = on_object(values, mask) if mask is not None else None
        if self._before is not None:
            before, was = self._before
            self.successive.append(correlation(before, values))
            if was is not None and there is not None:
                self.moved.append(correlation(was, there))
        if mask is not None and values.ndim == 2:
            self.overlap.append(iou(values, mask, self.tau))
        self._before = values, there

    def means(self) -> dict[str, float | None]:
        """The means over the clip; None where there is nothing to take one of."""
        lists = {"stability": self.successive, "stability_on_object": self.moved, "iou": self.overlap}
        return {
            name: float(np.nanmean(values)) if np.isfinite(values).any() else None for name, values in lists.items()
        }
