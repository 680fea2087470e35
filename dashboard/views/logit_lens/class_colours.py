"""Colours of classes: which class has which, and a layer's patches painted with them. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from dashboard.draw.palette import number
from dashboard.views.logit_lens.answers import called

Colours = Mapping[str, tuple[int, int, int]]
SHADES = (
    (68, 119, 170), (238, 136, 102), (34, 136, 51), (204, 187, 68), (170, 51, 119), (102, 204, 238), (138, 109, 59),
    (226, 226, 226),
)  # fmt: skip
"""Colours of classes, told apart with any common colour vision; pointing at a patch names its class."""
GREY = (128, 128, 128)


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
