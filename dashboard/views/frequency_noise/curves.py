"""What noise does over its frequency, for all models: figures and words. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw.palette import number
from dashboard.draw.sentences import percent
from dashboard.state import models

AXES = {
    "accuracy_change": "change of accuracy (percentage points)",
    "kept": "images whose answer stays (%)",
    "cosine": "cosine to the embedding without noise",
}
HUNDREDTHS = ("accuracy_change", "kept")


def measured(datasets: Mapping[str, xr.Dataset]) -> tuple[str, str]:
    """What the answers are measured by: the true classes where some model knows them, else whether answers stay."""
    labelled = any(dataset.attrs["labelled"] for dataset in datasets.values())
    return ("accuracy_change" if labelled else "kept"), "cosine"


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], variable: str, at: float) -> go.Figure:
    """A variable over the frequency of the noise; models without it are left out.

    Args:
        datasets: title to dataset.
        colours: title to colour.
        variable: a key of ``AXES``.
        at: the frequency that the picture shows, in units of π.
    """
    drawn = go.Figure()
    unit = 100 if variable in HUNDREDTHS else 1
    for name, dataset in datasets.items():
        values = unit * dataset[variable].values
        if not np.isfinite(values).any():
            continue
        drawn.add_scatter(
            x=dataset["frequency"].values / np.pi,
            y=values,
            mode="lines+markers",
            name=name,
            line={"color": colours[name], "width": 2.5},
            marker={"color": colours[name], "symbol": models.mark(colours[name]), "size": 8},
            error_y={"array": unit * dataset[f"{variable}_sem"].values, "thickness": 1, "width": 0},
            hovertemplate=f"{name}<br>%{{x:.3g}} π: %{{y:.3g}}<extra></extra>",
        )
    drawn.add_vline(x=at, line={"dash": "dot", "color": "#8a8f98", "width": 1.5})
    drawn.update_xaxes(title="frequency of the noise (π radians per pixel)", range=[-0.03, 1.03], dtick=0.25)
    drawn.update_yaxes(title=AXES[variable], zeroline=False)
    return drawn.update_layout(height=400, showlegend=True)


def reading(datasets: Mapping[str, xr.Dataset], missing: Sequence[str]) -> str:
    """For each model where it suffers most, and how low frequencies compare with high ones.

    Args:
        datasets: title to dataset.
        missing: models without a classifier.
    """
    variable, _ = measured(datasets)
    said = []
    for name, dataset in datasets.items():
        chosen = variable if np.isfinite(dataset[variable].values).any() else "cosine"
        values = dataset[chosen].values
        f = dataset["frequency"].values / np.pi
        low, high = float(values[(f > 0) & (f <= 0.5)].mean()), float(values[f > 0.5].mean())
        worst = int(np.argmin(values))
        said.append(
            f"**{name}**: {_value(chosen, values[worst])} at worst, at {number(float(f[worst]))} π; "
            f"on average {_value(chosen, low)} at low frequencies (up to 0.5 π) and {_value(chosen, high)} at high ones"
            f"{_without(dataset) if chosen == 'accuracy_change' else ''}."
        )
    first = next(iter(datasets.values()))
    if missing:
        said.append(f"Without a classifier, so by the embedding alone: {', '.join(missing)}.")
    said.append(_basis(first, datasets))
    return "  \n".join(said)


def _value(variable: str, value: float) -> str:
    if variable == "accuracy_change":
        return f"{number(100 * value, 2)} points"
    return f"{percent(value)} of the answers stay" if variable == "kept" else f"cosine {number(value, 2)}"


def _without(dataset: xr.Dataset) -> str:
    return f" (accuracy without noise {percent(dataset.attrs['accuracy_without_noise'])})"


def _basis(first: xr.Dataset, datasets: Mapping[str, xr.Dataset]) -> str:
    n, rms = first.attrs["n"], first["noise_rms"].values
    labelled = max(dataset.attrs["labelled"] for dataset in datasets.values())
    known = f"{labelled} of known class" if labelled else "no class known: answers are held against those without noise"
    weakest, strongest = (number(float(value), 2) for value in (rms.min(), rms.max()))
    power = f"the same, {weakest}" if weakest == strongest else f"growing with frequency, {weakest} to {strongest}"
    return (
        f"n = {n} image{'s' * (n > 1)}, {known}; ε = {number(first.attrs['epsilon'])} in {first.attrs['noise_in']}; "
        f"root mean square of the noise {power} of the pixels' range. The same noise for all models with inputs of one "
        "size; bars are standard errors over images."
    )
