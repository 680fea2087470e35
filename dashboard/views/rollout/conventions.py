"""The two conventions of rollout: what each means, whether their maps agree, and what they say in words. Pure."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from dashboard.draw import head_maps
from dashboard.draw.palette import number
from dashboard.draw.sentences import percent

CONVENTIONS = {"paper": "share of the row", "vit-explain": "relative to each map's maximum"}
EVEN = "times an even share of the row"
TITLES = {"paper": "As in the paper", "vit-explain": "As vit-explain computes it"}


def agreement(a: xr.Dataset, b: xr.Dataset) -> float:
    """Spearman's rank correlation between two rollout maps; NaN where one has no map or is constant."""
    x, y = a["rollout"].values[0].ravel(), b["rollout"].values[0].ravel()
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    from scipy.stats import spearmanr  # takes a second

    return float(spearmanr(x, y).statistic)


def reading(datasets: Mapping[str, Mapping[str, xr.Dataset]], tau: float) -> str:
    """What the maps say, a sentence a model: convention to title to dataset."""
    said = []
    for name, dataset in datasets["paper"].items():
        values = dataset["rollout"].values[0]
        if np.isnan(values).all():
            continue
        count = int(head_maps.mass_mask(values, tau).sum())
        text = f"**{name}**: {percent(tau)} of what reaches patches falls on {count} of {values.size}"
        other = datasets.get("vit-explain", {}).get(name)
        if other is not None and np.isfinite(rho := agreement(dataset, other)):
            text += f"; the two conventions order the patches alike to ρ = {number(rho)}"
        said.append(f"{text}.")
    if said:
        said.append(f"Even would be {percent(tau)} of the patches. ρ: Spearman. n = 1 image.")
    return "  \n".join(said)
