"""Norms of tokens: one layer's, over the layers, spread over the patches, in words. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import charts
from dashboard.draw.palette import number
from dashboard.state import models


def drawn_values(dataset: xr.Dataset, layer: int, values: str) -> np.ndarray:
    """One layer's norms (y, x) of the first image, or their ratio to the median patch."""
    one = dataset["norm"].isel(image=0, layer=layer)
    rows, columns = int(one["grid_height"]), int(one["grid_width"])
    norms = one.values[:rows, :columns]
    return norms / np.median(norms) if values == "relative" else norms


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], at: Mapping[str, int]) -> go.Figure:
    """Longest patch and prefix tokens over the layers, in medians of the patches."""
    drawn = go.Figure()
    depths = {dataset.sizes["layer"] for dataset in datasets.values()}
    for name, dataset in datasets.items():
        norms = dataset["norm"].isel(image=0)
        median = norms.median(("y", "x")).values
        x = charts.positions(len(median), relative=len(depths) > 1)
        here = np.arange(len(x)) == at.get(name, -1)
        mark = models.mark(colours[name])
        drawn.add_scatter(
            x=x,
            y=norms.max(("y", "x")).values / median,
            mode="lines+markers",
            name=f"{name}: longest patch",
            line={"color": colours[name], "width": 2.5},
            marker={"color": colours[name], "symbol": mark, "size": np.where(here, 14, 8)},
            hovertemplate=f"{name}<br>longest patch: %{{y:.3g}} medians<extra></extra>",
        )
        for token in dataset["token"].values if "prefix_norm" in dataset else ():
            drawn.add_scatter(
                x=x,
                y=dataset["prefix_norm"].isel(image=0).sel(token=token).values / median,
                mode="markers",
                name=f"{name}: {token}",
                showlegend=False,
                marker={"color": colours[name], "symbol": f"{mark}-open", "size": 8},
                hovertemplate=f"{name}<br>{token}: %{{y:.3g}} medians<extra></extra>",
            )
    drawn.add_hline(y=1, line={"dash": "dot", "color": "#8a8f98", "width": 1})
    relative = "relative depth (0: first layer, 1: last layer)"
    drawn.update_xaxes(title=relative if len(depths) > 1 else "layer")
    drawn.update_yaxes(title="norm (× median of the patches)", rangemode="tozero")
    return drawn.update_layout(height=380)


def of_run(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], image: int) -> dict[str, go.Figure]:
    """The longest tokens of one image of a run; no other image is read."""
    one = {name: d.isel(image=[min(image, d.sizes["image"] - 1)]).load() for name, d in datasets.items()}
    return {"": figure(one, colours, {})}


def histogram(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], at: Mapping[str, int]) -> go.Figure:
    """How the patches' norms are spread in the shown layer, in medians; a logarithmic count shows the few."""
    drawn = go.Figure()
    for name, dataset in datasets.items():
        values = drawn_values(dataset, at[name], "relative").ravel()
        drawn.add_histogram(x=values, name=name, nbinsx=60, opacity=0.6, marker={"color": colours[name]})
    drawn.update_xaxes(title="norm (× median of the patches)", rangemode="tozero")
    drawn.update_yaxes(title="patches (count, logarithmic)", type="log", dtick=1)
    return drawn.update_layout(barmode="overlay", height=380)


def reading(datasets: Mapping[str, xr.Dataset], at: Mapping[str, int]) -> str:
    """What the numbers say, a sentence a model."""
    said = []
    for name, dataset in datasets.items():
        shown = drawn_values(dataset, at[name], "relative")
        count = int(dataset["high"].isel(image=0, layer=at[name]).sum())
        registers = sum(str(token).startswith("reg") for token in dataset["token"].values)
        kind = f"{registers} registers" if registers else "no registers"
        said.append(
            f"**{name}** ({kind}): {count} of {shown.size} patches are high in layer {at[name] + 1}; the longest is "
            f"{number(float(shown.max()))} medians long."
        )
    if said:
        factor = next(iter(datasets.values())).attrs["factor"]
        said.append(f"High: more than {number(factor)} medians of the same image and layer. n = 1 image.")
    return "  \n".join(said)
