"""From an attention dataset to what a panel draws: pure array functions, no page."""

from dataclasses import dataclass

import cv2
import numpy as np
import xarray as xr

from probes.core.saliency import mass_mask as mass_mask  # the pictures show the very mask that is scored

SMOOTH_SIDE = 16
"""A smooth map is drawn with this many pixels a patch."""


@dataclass(frozen=True)
class HeadMap:
    """One map of a layer, its heads reduced or chosen.

    Attributes:
        values: (grid height, grid width).
        head: what ``values`` is: ``mean over 6 heads``, ``head 3 of 6`` ...
    """

    values: np.ndarray
    head: str


def layer_heads(attention: xr.DataArray, layer: int) -> np.ndarray:
    """Maps (head, y, x) of one layer of the first image, without the padding of models whose layers differ."""
    one = attention.isel(image=0, layer=layer)
    heads, rows, columns = (int(one[name]) for name in ("head_count", "grid_height", "grid_width"))
    return one.values[:heads, :rows, :columns]


def choose_head(maps: np.ndarray, head: str) -> HeadMap:
    """Reduce (head, y, x) by ``mean`` or ``max``, or take one head, counted from 1.

    A head that the layer does not have falls back to its last one, and says so.
    """
    count = len(maps)
    if head == "mean":
        return HeadMap(maps.mean(axis=0), f"mean over {count} heads" if count > 1 else "its one head")
    if head == "max":
        return HeadMap(maps.max(axis=0), f"maximum over {count} heads" if count > 1 else "its one head")
    number = int(head)
    if number > count:
        return HeadMap(maps[-1], f"head {count}: it has no head {number}")
    return HeadMap(maps[number - 1], f"head {number} of {count}")


def contour(mask: np.ndarray) -> str:
    """The outline of a patch mask along the patches' edges, as an SVG path in patch units."""
    padded = np.pad(mask, 1)
    rows, columns = np.nonzero(padded[:, 1:-1][1:] != padded[:, 1:-1][:-1])
    across = [f"M{c} {r}h1" for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    down = [f"M{c} {r}v1" for r, c in zip(rows, columns, strict=True)]
    return "".join(across + down)


def smooth(values: np.ndarray) -> np.ndarray:
    """The map with ``SMOOTH_SIDE`` pixels a patch, bilinear between patch centres. Pleasing, not more precise."""
    rows, columns = values.shape
    size = (columns * SMOOTH_SIDE, rows * SMOOTH_SIDE)
    return cv2.resize(np.ascontiguousarray(values, dtype=np.float32), size, interpolation=cv2.INTER_LINEAR)
