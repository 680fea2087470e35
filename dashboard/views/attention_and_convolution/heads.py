"""Heads by how far they look and by what leaving them out changes. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.state import models

FEWEST = 8
"""Heads below which no correlation is told."""


def points(lesions: xr.Dataset, distances: xr.Dataset) -> np.ndarray:
    """(head, 4): layer and head from 1, distance as a fraction of the input's diagonal, 1 − cosine without the head.

    Layers are matched by the number of those that attend, heads that have no distance or cannot be left out are not in.
    """
    if "head_cosine" not in lesions:
        return np.zeros((0, 4))
    attending = lesions["head_count"].values > 0
    effect = 1 - lesions["head_cosine"].values[attending]
    far = distances["distance"].values / distances.attrs["diagonal"]
    layers = np.flatnonzero(attending) + 1
    if len(effect) != len(far):  # attention outside the blocks, as in a pooling head
        return np.zeros((0, 4))
    heads = min(effect.shape[1], far.shape[1])
    effect, far = effect[:, :heads], far[:, :heads]
    rows, columns = np.nonzero(np.isfinite(effect) & np.isfinite(far))
    return np.stack([layers[rows], columns + 1, far[rows, columns], effect[rows, columns]], 1)


def correlation(found: np.ndarray) -> float:
    """Spearman's rank correlation of distance and effect, −1 to 1; NaN for few heads or where one is constant."""
    if len(found) < FEWEST or min(np.ptp(found[:, 2]), np.ptp(found[:, 3])) == 0:
        return float("nan")
    from scipy import stats  # slow to import

    return float(stats.spearmanr(found[:, 2], found[:, 3]).statistic)


def figure(heads: Mapping[str, np.ndarray], colours: Mapping[str, str]) -> go.Figure:
    """A mark for each head: how far it looks across, what changes without it up, on a logarithmic axis.

    Args:
        heads: title to what `points` gives.
        colours: title to colour.
    """
    drawn = go.Figure()
    for name, found in heads.items():
        drawn.add_scatter(
            x=found[:, 2],
            y=found[:, 3],
            mode="markers",
            name=name,
            marker={"color": colours[name], "symbol": models.mark(colours[name]), "size": 9, "opacity": 0.8},
            customdata=found[:, :2].astype(int),
            hovertemplate=f"{name}<br>layer %{{customdata[0]}}, head %{{customdata[1]}}<br>"
            "distance %{x:.2f} of the diagonal; 1 − cosine %{y:.2g}<extra></extra>",
        )
    drawn.update_xaxes(title="mean attention distance (fraction of the diagonal)")
    drawn.update_yaxes(title="1 − cosine to the embedding with the head", type="log", dtick="D2")
    return drawn.update_layout(height=430)
