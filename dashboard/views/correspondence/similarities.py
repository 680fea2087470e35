"""The similarities of all models: their one scale, and their mutual matches in words."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from dashboard.draw.palette import number
from dashboard.draw.panels import Scale

UNITS = "cosine similarity"


def scale_of(datasets: Mapping[str, xr.Dataset]) -> Scale:
    """One scale for every panel: from the smallest similarity to 1."""
    low = [float(dataset["similarity"].min()) for dataset in datasets.values()]
    return Scale(min([value for value in low if np.isfinite(value)] + [0.99]), 1.0, UNITS)


def reading(datasets: Mapping[str, xr.Dataset], facet: str) -> str:
    """How many patches have a mutual match, and how alike they are."""
    said = []
    for name, dataset in datasets.items():
        if dataset.sizes["image"] < 2:
            return "With a second image, the patches that correspond are shown: choose one more in the sidebar."
        mutual = dataset["mutual"].values[1].astype(bool)
        mean = float(dataset["match_similarity"].values[1][mutual].mean()) if mutual.any() else np.nan
        said.append(
            f"**{name}**: {int(mutual.sum())} of {mutual.size} patches have a mutual match, "
            f"mean similarity {number(mean)}"
        )
    return "; ".join(said) + f" (cosine of {facet}s, n = 1 pair of images)." if said else ""
