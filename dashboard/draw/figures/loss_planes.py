"""Loss on a plane through the weights: one scale, a surface and its contours, a file, in words. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import export, matrices, palette
from dashboard.draw.matrices import Square
from dashboard.draw.palette import number
from dashboard.draw.panels import Scale

LOWEST = 1e-6
"""A logarithmic scale begins here at least."""
KINDS = {"cross-entropy": "cross-entropy, nats", "reconstruction": "squared error of hidden patches"}


def drawn(dataset: xr.Dataset, *, log: bool) -> np.ndarray:
    """Heights (beta, alpha): the loss or its decimal logarithm; NaN where the loss is not finite."""
    values = dataset["loss"].values
    return np.log10(np.maximum(values, LOWEST)) if log else values


def scales(datasets: Mapping[str, xr.Dataset], *, log: bool) -> dict[str, Scale]:
    """One scale for all models with the same loss, by the loss."""
    found = {}
    for kind, words in KINDS.items():
        heights = [drawn(one, log=log) for one in datasets.values() if one.attrs["objective"] == kind]
        finite = np.concatenate([height[np.isfinite(height)] for height in heights]) if heights else np.zeros(0)
        if finite.size:
            low = float(finite.min()) if log else 0.0
            high = float(finite.max())
            found[kind] = Scale(low, high if high > low else low + 1, f"log₁₀ of {words}" if log else words)
    return found


def surface(dataset: xr.Dataset, scale: Scale, *, log: bool) -> go.Figure:
    """The loss as height over the plane."""
    alpha, beta = dataset["alpha"].values, dataset["beta"].values
    shared = {"cmin": scale.low, "cmax": scale.high, "colorscale": palette.plotly_scale(), "showscale": False}
    figure = go.Figure(go.Surface(x=alpha, y=beta, z=drawn(dataset, log=log), **shared))
    figure.data[0].hovertemplate = "α %{x:.2f}, β %{y:.2f}: %{z:.3g}<extra></extra>"
    figure.update_scenes(
        xaxis_title="α",
        yaxis_title="β",
        zaxis={"title": "log₁₀ loss" if log else "loss", "range": [scale.low, scale.high]},
        aspectratio={"x": 1, "y": 1, "z": 0.7},
        camera_eye={"x": 1.45, "y": 1.45, "z": 0.8},
    )
    return figure.update_layout(height=360, margin={"l": 0, "r": 0, "t": 0, "b": 0})


def contours(dataset: xr.Dataset, scale: Scale, *, log: bool) -> go.Figure:
    """The same plane from above, a cross on the weights themselves."""
    alpha, beta = dataset["alpha"].values, dataset["beta"].values
    figure = go.Figure(
        go.Contour(
            x=alpha,
            y=beta,
            z=drawn(dataset, log=log),
            zmin=scale.low,
            zmax=scale.high,
            contours={"start": scale.low, "end": scale.high, "size": (scale.high - scale.low) / 14},
            line={"width": 0.7, "color": "rgba(255,255,255,0.6)"},
            colorscale=palette.plotly_scale(),
            showscale=False,
            connectgaps=False,
            hovertemplate="α %{x:.2f}, β %{y:.2f}: %{z:.3g}<extra></extra>",
        )
    )
    marker = {"symbol": "cross", "size": 11, "color": "white", "line": {"color": "black", "width": 1.5}}
    figure.add_scatter(x=[0], y=[0], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)
    quiet = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    figure.update_xaxes(title="α (lengths of the weights)", range=[alpha[0], alpha[-1]], **quiet)
    figure.update_yaxes(title="β", range=[beta[0], beta[-1]], scaleanchor="x", **quiet)
    margin = {"l": 8, "r": 8, "t": 8, "b": 8}
    return figure.update_layout(height=360, margin=margin, plot_bgcolor="rgb(128,128,128)")


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """The loss at the weights and around them, and how many points are not finite."""
    lines = []
    for name, one in datasets.items():
        loss, finite = one["loss"].values, one["finite"].values
        words = f"**{name}**: {number(one.attrs['centre'])} at the weights ({KINDS[one.attrs['objective']]})"
        if finite.any():
            words += f", {number(float(np.nanmedian(loss)))} in the middle of all points, at most "
            words += number(float(np.nanmax(loss)))
        if not finite.all():
            words += f"; at {int((~finite).sum())} of {finite.size} points it is not finite (grey)"
        lines.append(f"{words}.")
    one = next(iter(datasets.values()))
    n = int(one.attrs["n"])
    return "  \n".join([*lines, f"n = {n} image{'s' * (n > 1)}, one plane (seed {one.attrs['seed']})."])


def document(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], title: str, *, log: bool) -> str:
    """The planes of all models from above, as SVG."""
    shared, squares = scales(datasets, log=log), []
    for name, one in datasets.items():
        scale = shared.get(one.attrs["objective"])
        if scale is None:
            continue
        pixels = matrices.painted(drawn(one, log=log)[::-1], scale)
        ends = number(float(one["alpha"][0])), number(float(one["alpha"][-1]))
        ticks = [(0.0, ends[0]), (0.5, "0"), (1.0, ends[1])]
        up = [(1.0 - at, text) for at, text in ticks]
        own = scale if len(shared) > 1 else None
        squares.append(Square(name, colours[name], one.attrs["objective"], pixels, "α", "β", ticks, up, scale=own))
    one_scale = next(iter(shared.values())) if len(shared) == 1 else None
    return matrices.svg(squares, scale=one_scale, title=title, caption=export.plain(reading(datasets)))
