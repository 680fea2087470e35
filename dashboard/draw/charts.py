"""Quantities over the layers of several models, as Plotly figures. Pure: datasets in, figure out."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.state import models

ATTENTION_STATISTICS = {
    "entropy": "entropy of attention",
    "entropy_normalised": "normalised entropy",
    "nmi": "mutual information of queries and keys",
    "mass_cls": "attention to CLS",
    "mass_distillation": "attention to the distillation token",
    "mass_register": "attention to registers",
    "mass_patch": "attention to patches",
}
"""Variables of the probe attention-statistics, as a person calls them."""


def over_layers(
    datasets: Mapping[str, xr.Dataset],
    variable: str,
    colours: Mapping[str, str],
    *,
    label: str,
    at: Mapping[str, int] | None = None,
) -> go.Figure:
    """Draw a (layer, head) variable of every model over its layers: a point a head, a line through the layer means.

    Args:
        datasets: model to dataset, with ``variable`` (layer, head) that has ``units``.
        variable: which one.
        colours: model to colour.
        label: what the variable is, for the axis.
        at: model to the layer (from 0) that is shown elsewhere on the page; it is marked.
    """
    figure = go.Figure()
    depths = {dataset.sizes["layer"] for dataset in datasets.values()}
    relative = len(depths) > 1
    units = next((dataset[variable].attrs.get("units", "") for dataset in datasets.values()), "")
    for name, dataset in datasets.items():
        values = dataset[variable].values
        if not np.isfinite(values).any():
            continue
        x = positions(dataset.sizes["layer"], relative=relative)
        layers, heads = np.nonzero(np.isfinite(values))
        spread = (
            (heads - (values.shape[1] - 1) / 2) / max(values.shape[1], 1) * 0.3 * (x[1] - x[0] if len(x) > 1 else 1)
        )
        mark = models.mark(colours[name])
        figure.add_scatter(
            x=x[layers] + spread,
            y=values[layers, heads],
            mode="markers",
            marker={"color": colours[name], "size": 5, "opacity": 0.4, "symbol": mark},
            name=f"{name}, heads",
            legendgroup=name,
            showlegend=False,
            customdata=np.stack([layers + 1, heads + 1], axis=1),
            hovertemplate=f"{name}<br>layer %{{customdata[0]}}, head %{{customdata[1]}}: %{{y:.3g}}<extra></extra>",
        )
        means = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in values])
        selected = np.arange(len(x)) == (at or {}).get(name, -1)
        figure.add_scatter(
            x=x,
            y=means,
            mode="lines+markers",
            line={"color": colours[name], "width": 2.5},
            marker={
                "color": colours[name],
                "symbol": mark,
                "size": np.where(selected, 14, 8),
                "line": {"color": "rgba(128,128,128,0.9)", "width": np.where(selected, 2, 0)},
            },
            name=name,
            legendgroup=name,
            customdata=np.arange(1, len(x) + 1),
            hovertemplate=f"{name}<br>layer %{{customdata}}, mean over heads: %{{y:.3g}}<extra></extra>",
        )
    title = "relative depth (0: first layer, 1: last layer)" if relative else "layer"
    figure.update_xaxes(title=title, dtick=None if relative else 1 if max(depths, default=1) <= 16 else 4)
    figure.update_yaxes(title=f"{label} ({units})", rangemode="tozero")
    return figure


def positions(layers: int, *, relative: bool) -> np.ndarray:
    """Where layers stand on the axis: 1, 2, 3 ..., or 0 to 1 when models of several depths share it."""
    return np.linspace(0, 1, layers) if relative and layers > 1 else np.arange(1.0, layers + 1)
