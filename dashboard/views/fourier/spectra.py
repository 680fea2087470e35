"""Spectra of all points of a model, coloured by depth, a small chart a model on common axes. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from dashboard.draw import palette

FIRST, LAST = 70, 245
"""Part of the colour map that is seen on a light ground and on a dark one."""
ABREAST = 3
SHOWN = "Δ log amplitude"


def colour(depth: float) -> str:
    """Of a relative depth from 0 to 1."""
    red, green, blue = palette.sequential()[round(FIRST + depth * (LAST - FIRST))]
    return f"rgb({red},{green},{blue})"


def legend() -> dict[str, str]:
    """What the colours stand for."""
    return {"embedding": colour(0), "middle of the model": colour(0.5), "after the last block": colour(1)}


def ends(datasets: Mapping[str, xr.Dataset]) -> tuple[float, float]:
    """Ends of the axis that all models share."""
    values = np.concatenate([dataset["relative"].values.ravel() for dataset in datasets.values()])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.06 * ((high - low) or 1.0)
    return low - margin, high + margin


def figure(datasets: Mapping[str, xr.Dataset], span: tuple[float, float], *, titled: bool = True) -> go.Figure:
    """A chart a model, beside each other and below.

    Args:
        datasets: title to dataset.
        span: ends of the axis, see `ends`.
        titled: each chart bears its model's title.
    """
    wide = min(len(datasets), ABREAST)
    down = -(-len(datasets) // wide)
    drawn = make_subplots(down, wide, subplot_titles=list(datasets) if titled else None, horizontal_spacing=0.08)
    for index, (name, dataset) in enumerate(datasets.items()):
        place = {"row": index // wide + 1, "col": index % wide + 1}
        points = dataset.sizes["point"]
        for point in range(points):
            one = dataset["relative"].isel(point=point)
            here = np.isfinite(one.values)
            drawn.add_scatter(
                x=one["frequency"].values[here] / np.pi,
                y=one.values[here],
                mode="lines",
                line={"color": colour(point / max(points - 1, 1)), "width": 1.6},
                name=f"{name}, {one['point'].item()}",
                showlegend=False,
                hovertemplate=f"{_named(dataset, point)}<br>%{{x:.2f}} π: %{{y:.2f}}<extra></extra>",
                **place,
            )
        first = place["col"] == 1
        drawn.update_xaxes(title="frequency (π radians per position)", range=[0, 1], dtick=0.5, **place)
        drawn.update_yaxes(title=SHOWN if first else "", range=list(span), zeroline=False, **place)
    return drawn.update_layout(height=250 * down)


def _named(dataset: xr.Dataset, point: int) -> str:
    block, span = int(dataset["layer"][point]), str(dataset["span"][point].item())
    return "embedding" if block < 0 else f"{span.replace('mlp', 'MLP')}, block {block + 1}"
