"""The maps of all heads of all layers: which is the most focused, and their table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboard.draw import head_maps, sentences
from dashboard.draw.palette import number
from dashboard.views.heads.mosaic import Tile


def most_focused(groups: Mapping[str, Sequence[Tile]], tau: float) -> str:
    """Which head of each model concentrates most, a sentence a model."""
    said = []
    for name, group in groups.items():
        counts = [int(head_maps.mass_mask(tile.values, tau).sum()) for tile in group]
        first = group[int(np.argmin(counts))]
        said.append(
            f"**{name}**: {sentences.percent(tau)} of what goes to patches falls on {min(counts)} of "
            f"{first.values.size} in head {first.head + 1} of layer {first.layer + 1}, the most focused of "
            f"{len(group)}; on {number(float(np.median(counts)))} in the median head."
        )
    return "  \n".join(said)


def table(ready: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """The maps of every layer: model, layer, head, row and column from 1, attention weight."""
    parts = [
        head_maps.table(dataset["attention"], layer).assign(model=name)
        for name, dataset in ready.items()
        for layer in range(dataset.sizes["layer"])
    ]
    together = pd.concat(parts, ignore_index=True)
    together.insert(0, "model", together.pop("model"))
    return together
