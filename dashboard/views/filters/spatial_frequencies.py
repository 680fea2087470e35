"""Which spatial frequencies a model's first filters hold. Pure: datasets of ``patch-filters`` in, figures out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import palette
from dashboard.state import models

EDGE = 0.5
"""The highest frequency that pixels can hold, cycles per pixel."""
FLAT = 1.1
"""A spectrum whose strongest ring is at most this much of the mean is called flat."""


@dataclass(frozen=True)
class Rings:
    """A spectrum by radial frequency.

    Attributes:
        frequency: middle of each ring, cycles per pixel.
        amplitude: mean over the ring's frequencies, relative to the mean over all.
        count: frequencies in the ring.
    """

    frequency: np.ndarray
    amplitude: np.ndarray
    count: np.ndarray


def relative(dataset: xr.Dataset) -> xr.DataArray:
    """The amplitude divided by its mean over all frequencies; NaN where all filters are zero.

    So divided, filters of all sizes and strengths can be compared, and a flat spectrum is 1 everywhere.
    """
    amplitude = dataset["amplitude"].transpose("frequency_y", "frequency_x")
    mean = float(amplitude.mean())
    return amplitude / mean if mean > 0 else amplitude * np.nan


def radius(dataset: xr.Dataset) -> np.ndarray:
    """Distance of every frequency (y, x) from 0, cycles per pixel."""
    return np.hypot(dataset["frequency_y"].values[:, None], dataset["frequency_x"].values[None])


def rings(dataset: xr.Dataset) -> Rings:
    """Means over rings as wide as the step between the filter's own frequencies, 1 / side; corners are left out."""
    side = min(dataset.sizes["frequency_y"], dataset.sizes["frequency_x"])
    ring = np.rint(radius(dataset) * side).astype(int)
    values = relative(dataset).values
    each = np.arange(side // 2 + 1)
    amplitude = np.array([values[ring == k].mean() for k in each])
    return Rings(each / side, amplitude, np.array([int((ring == k).sum()) for k in each]))


def ceiling(datasets: Mapping[str, xr.Dataset]) -> float:
    """End of the one colour scale of all pictures."""
    largest = [float(relative(dataset).max()) for dataset in datasets.values()]
    return max((value for value in largest if np.isfinite(value)), default=1.0)


def periodic(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (y, x) with their frequencies down and across, an even side's −0.5 repeated at 0.5: they are the same."""
    spectrum = relative(dataset)
    more = tuple((0, 1 - size % 2) for size in spectrum.shape)
    axes = []
    for name, (_, extra) in zip(("frequency_y", "frequency_x"), more, strict=True):
        values = spectrum[name].values
        axes.append(np.append(values, values[:extra] + 1))
    return np.pad(spectrum.values, more, mode="wrap"), axes[0], axes[1]


def picture(dataset: xr.Dataset, high: float) -> go.Figure:
    """The spectrum of one model over both frequencies, 0 in the middle.

    Args:
        dataset: with ``amplitude``.
        high: end of the colour scale, the same for all models.
    """
    values, down, across = periodic(dataset)
    drawn = go.Figure()
    drawn.add_heatmap(
        z=values,
        x=across,
        y=down,
        zmin=0,
        zmax=high,
        colorscale=palette.plotly_scale(),
        showscale=False,
        hovertemplate="across %{x:.3f}, down %{y:.3f} cycles per pixel<br>%{z:.3f} times the mean<extra></extra>",
    )
    plain = {"showgrid": False, "zeroline": False, "constrain": "domain", "tickvals": [-0.5, -0.25, 0, 0.25, 0.5]}
    drawn.update_xaxes(title="across (cycles per pixel)", range=[-EDGE, EDGE], **plain)
    drawn.update_yaxes(
        title="down (cycles per pixel)", range=[EDGE, -EDGE], scaleanchor="x", constraintoward="top", **plain
    )
    return drawn.update_layout(height=270, plot_bgcolor="rgba(0,0,0,0)")


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """The rings of all models on common axes; they begin above 0, as all lie about 1."""
    drawn = go.Figure()
    drawn.add_hline(y=1, line={"color": "rgba(128,128,128,0.8)", "width": 1, "dash": "dot"})
    everything = [0.6, 1.4]
    for name, dataset in datasets.items():
        found = rings(dataset)
        everything += found.amplitude[np.isfinite(found.amplitude)].tolist()
        drawn.add_scatter(
            x=found.frequency,
            y=found.amplitude,
            mode="lines+markers",
            line={"color": colours[name], "width": 2.5},
            marker={"symbol": models.mark(colours[name]), "size": 8},
            name=name,
            customdata=found.count,
            hovertemplate=f"{name}<br>%{{x:.3f}} cycles per pixel: %{{y:.3f}} times the mean, "
            "over %{customdata} frequencies<extra></extra>",
        )
    drawn.update_xaxes(title="radial frequency (cycles per pixel)", range=[-0.01, EDGE + 0.01])
    drawn.update_yaxes(title="amplitude (times its mean)", range=[0.95 * min(everything), 1.05 * max(everything)])
    return drawn.update_layout(height=360, showlegend=True)


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """Where each model's filters are strongest, and by how much."""
    said = []
    for name, dataset in datasets.items():
        found = rings(dataset)
        n = f"n = {dataset.attrs['filter_count']} filters"
        if not np.isfinite(found.amplitude).all():
            said.append(f"**{name}**: no spectrum, as all its filters are zero ({n})")
            continue
        top = int(found.amplitude.argmax())
        frequency, most = palette.number(float(found.frequency[top])), palette.number(float(found.amplitude[top]))
        kind = "flat, as in random filters" if found.amplitude[top] <= FLAT else f"most at {frequency} cycles per pixel"
        said.append(f"**{name}**: {kind}, {most} times the mean ({n})")
    return f"{'; '.join(said)}. A spectrum counts as flat where no ring has more than {FLAT} times the mean."
