"""Colours and letters of classes: which class has which, and a layer's patches painted with them. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import xarray as xr

from dashboard.draw.palette import number
from dashboard.views.logit_lens.answers import called

Colours = Mapping[str, tuple[int, int, int]]
SHADES = (
    (7, 160, 250), (148, 3, 0), (239, 236, 149), (134, 0, 116), (137, 182, 6),
    (214, 170, 155), (6, 91, 74), (20, 26, 250), (155, 118, 77), (93, 247, 241),
)  # fmt: skip
"""Colours of classes. With full protanopia, deuteranopia or tritanopia, too, no two of them, nor one and ``GREY``, come
closer than a CIEDE2000 distance of 15; letters are the second cue."""
LETTERS = "ABCDEFGHIJ"
GREY = (128, 128, 128)
CELL, FINE = 48, 960
"""Pixels of a patch with a letter, and at most of a side."""


def legend(datasets: Iterable[xr.Dataset], always: Iterable[str] = ()) -> dict[str, tuple[int, int, int]]:
    """Colours of the final answers and of the most frequent ones over all models and layers; the others are grey.

    All layers count, so that a class keeps its colour while the layer is changed.
    """
    count: Counter[str] = Counter()
    for dataset in datasets:
        top = dataset["top_class"].values[..., 0]
        for index, times in zip(*np.unique(top[top >= 0], return_counts=True), strict=True):
            count[called(dataset, int(index))] += int(times)
    frequent = (name for name, _ in sorted(count.items(), key=lambda item: (-item[1], item[0])))
    return dict(zip(list(dict.fromkeys([*always, *frequent])), SHADES, strict=False))


def letters(shades: Colours) -> dict[str, str]:
    """Class to its letter, in the legend's order."""
    return dict(zip(shades, LETTERS, strict=False))


def painted(dataset: xr.Dataset, shades: Colours) -> tuple[np.ndarray, list[str]]:
    """RGBA (y, x, 4) of one layer, and what is said of each patch."""
    top, probability = dataset["top_class"].values, dataset["probability"].values
    rgba = np.zeros((*top.shape[:2], 4), np.uint8)
    texts = []
    for place in np.ndindex(top.shape[:2]):
        answers = [
            f"{called(dataset, int(c))} {number(float(p), 2)}"
            for c, p in zip(top[place], probability[place], strict=True)
        ]
        texts.append(", ".join(answers[:3]))
        rgba[place][:3] = shades.get(called(dataset, int(top[place][0])), GREY)
        rgba[place][3] = round(255 * (0.3 + 0.7 * float(probability[place][0]) ** 0.5))
    return rgba, texts


def lettered(rgba: np.ndarray, dataset: xr.Dataset, shades: Colours) -> np.ndarray:
    """The painted patches, finer, with a letter in the middle of every area of one class; none for the other classes.

    Args:
        rgba: (y, x, 4), as `painted` gives it.
        dataset: the same layer.
        shades: as for `painted`.

    Returns:
        (y * cell, x * cell, 4) uint8.
    """
    top, letter = dataset["top_class"].values[..., 0], letters(shades)
    cell = min(CELL, max(FINE // max(top.shape), 8))
    fine = np.ascontiguousarray(rgba.repeat(cell, axis=0).repeat(cell, axis=1))
    for index in np.unique(top):
        mark = letter.get(called(dataset, int(index)))
        if mark is None:
            continue
        count, areas = cv2.connectedComponents((top == index).astype(np.uint8), connectivity=4)
        for area in range(1, count):
            depth = cv2.distanceTransform(np.pad((areas == area).astype(np.uint8), 1), cv2.DIST_L1, 3)[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            _write(fine, mark, (int(column) * cell, int(row) * cell), cell)
    return fine


def _write(pixels: np.ndarray, mark: str, corner: tuple[int, int], cell: int) -> None:
    """White with a dark rim, so that it can be read on any colour."""
    font, size = cv2.FONT_HERSHEY_DUPLEX, cell / 38
    (width, height), _ = cv2.getTextSize(mark, font, size, 1)
    place = (corner[0] + (cell - width) // 2, corner[1] + (cell + height) // 2)
    for colour, thick in (((0, 0, 0, 255), max(cell // 9, 2)), ((255, 255, 255, 255), max(cell // 28, 1))):
        cv2.putText(pixels, mark, place, font, size, colour, thick, cv2.LINE_AA)
