"""Where the object is in a picture: exact in a scene, else a box or an uploaded mask.

A mask is named by the scene, by ``box:LEFT,TOP,RIGHT,BOTTOM`` in per cent of the picture, or by the upload's id.
"""

import numpy as np

from dashboard.cache import remember
from dashboard.images import gallery
from model_zoo.adapter import Geometry
from probes.core.saliency import coverage

FINE = 112
"""Cells along the longer side of a picture whose mask is drawn as a line."""
SMALL_BYTES = 16 * 2**20
"""Masks on a model's grid."""


@remember(gallery.MASK_BYTES)
def mask(picture: str, key: str) -> np.ndarray:
    """The object's mask: boolean (height, width)."""
    if key.startswith("scene:"):
        return gallery.mask(key)
    width, height = gallery.load(picture).size
    if key.startswith("box:"):
        left, top, right, bottom = (int(x) / 100 for x in key.removeprefix("box:").split(","))
        found = np.zeros((height, width), dtype=bool)
        found[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
        return found
    return np.asarray(gallery.load(key).convert("L")) > 127


@remember(SMALL_BYTES)
def covered(picture: str, key: str, geometry: Geometry, grid: tuple[int, int]) -> np.ndarray:
    """`probes.core.saliency.coverage` of the picture's mask."""
    return coverage(mask(picture, key), geometry, grid)


@remember(SMALL_BYTES)
def outlined(picture: str, key: str) -> np.ndarray:
    """The mask on a grid over the whole picture, coarse enough to be drawn as a line: boolean (rows, columns)."""
    width, height = gallery.load(picture).size
    cell = max(width, height) / FINE
    return covered(picture, key, gallery.whole(picture), (round(height / cell), round(width / cell))) >= 0.5


def named(key: str) -> str:
    """What the outline is the outline of."""
    return {"scene": "true object", "box": "your box"}.get(key.partition(":")[0], "your mask")
