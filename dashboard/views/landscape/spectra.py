"""Spectra of the Hessian: the density as a chart, and in words. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw.palette import number

POINTS = 400
WIDTH = 0.01
"""Standard deviation of the bell that stands for an eigenvalue, as a share of the range of all models."""
LEAST = 1e-11
"""Below this share a density is not drawn."""


def density(dataset: xr.Dataset, at: np.ndarray, width: float) -> np.ndarray:
    """Share of the spectrum for each unit of the eigenvalue, mean over mini-batches, in bells of a width."""
    values, weights = dataset["eigenvalue"].values, np.nan_to_num(dataset["weight"].values)
    bells = np.exp(-0.5 * ((at[:, None, None] - np.nan_to_num(values)) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    found: np.ndarray = (bells * weights).sum(-1).mean(-1)
    return found


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """The density of every model on one axis, a mark on each mini-batch's largest eigenvalue."""
    every = np.concatenate([one["eigenvalue"].values.ravel() for one in datasets.values()])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    width = WIDTH * (high - low or 1.0)
    at = np.linspace(low - 4 * width, high + 4 * width, POINTS)
    drawn = go.Figure()
    for name, one in datasets.items():
        values = density(one, at, width)
        drawn.add_scatter(
            x=at,
            y=np.where(values > LEAST, values, np.nan),
            mode="lines",
            name=name,
            line={"color": colours[name], "width": 2.5},
            hovertemplate=f"{name}<br>eigenvalue %{{x:.3g}}: %{{y:.3g}}<extra></extra>",
        )
        leading = one["leading"].values
        drawn.add_scatter(
            x=leading,
            y=np.interp(leading, at, np.maximum(values, LEAST)),
            mode="markers",
            name=f"{name}, largest of a mini-batch",
            marker={"color": colours[name], "size": 8, "symbol": "circle"},
            showlegend=False,
            hovertemplate=f"{name}<br>largest eigenvalue of a mini-batch: %{{x:.3g}}<extra></extra>",
        )
    drawn.update_xaxes(title="eigenvalue of the Hessian (units of the loss)")
    drawn.update_yaxes(title="density (share for each unit)", type="log", exponentformat="power", dtick=2)
    return drawn.update_layout(height=440)


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """The eigenvalues at either end. Nearly all others are so near 0 that their sign says nothing."""
    lines = []
    for name, one in datasets.items():
        leading = one["leading"].values
        spread = f" ± {number(float(leading.std(ddof=1)))}" if len(leading) > 1 else ""
        least = number(float(np.nanmin(one["eigenvalue"].values)))
        words = f"**{name}**: largest {number(float(leading.mean()))}{spread} over {len(leading)} mini-batch"
        words += "es" if len(leading) > 1 else ""
        words += " (mean, standard deviation)" if len(leading) > 1 else ""
        words += f", smallest {least}; {one.attrs['weights'] / 1e6:.2f} million weights."
        lines.append(words)
    one = next(iter(datasets.values()))
    basis = f"n = {one.attrs['n']} images, one random vector a mini-batch (seed {one.attrs['seed']})."
    return "  \n".join([*lines, basis])
