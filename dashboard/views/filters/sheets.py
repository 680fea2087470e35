"""Filters side by side on a sheet, and of how many patterns they are made. Pure: datasets of ``patch-filters`` in."""

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import matrices
from dashboard.draw.matrices import Square

KINDS = {"components": "principal components", "filters": "filters"}
COLUMNS = {"components": 7, "filters": 16}
MOST = {"components": 4, "filters": 3}
GAP = 1
SIDE = 900


def sheet(weights: np.ndarray, columns: int) -> np.ndarray:
    """Filters (n, 3, p, p), each scaled over its own weights, side by side as RGBA uint8 with clear gaps."""
    low = weights.min(axis=(1, 2, 3), keepdims=True)
    span = weights.max(axis=(1, 2, 3), keepdims=True) - low
    scaled = (weights - low) / np.where(span > 0, span, 1)
    count, _, height, width = weights.shape
    rows = -(-count // columns)
    page = np.zeros((rows * columns, height + GAP, width + GAP, 4), np.uint8)
    page[:count, :height, :width, :3] = (scaled.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    page[:count, :height, :width, 3] = 255
    laid = page.reshape(rows, columns, height + GAP, width + GAP, 4).swapaxes(1, 2)
    return laid.reshape(rows * (height + GAP), columns * (width + GAP), 4)[:-GAP, :-GAP]


def enlarged(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The picture with whole-numbered enlargement, so that every weight stays a square."""
    factor = max(side // max(pixels.shape[:2]), 1)
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """Share of the filters' variance that the first k components hold, all models."""
    drawn = go.Figure()
    for index, (name, dataset) in enumerate(datasets.items()):
        share = np.cumsum(dataset["spectrum"].values)
        drawn.add_scatter(
            x=np.arange(1, len(share) + 1),
            y=share,
            mode="lines",
            line={"color": colours[name], "width": 2.5, "dash": ("solid", "dash", "dot")[index % 3]},
            name=name,
            hovertemplate=f"{name}: %{{x}} components hold %{{y:.3f}}<extra></extra>",
        )
    most = max((dataset.sizes["rank"] for dataset in datasets.values()), default=1)
    ticks = [n * 10**power for power in range(5) for n in (1, 2, 5) if n * 10**power <= most]
    drawn.update_xaxes(title="components kept (number, logarithmic)", type="log", tickvals=ticks)
    drawn.update_yaxes(title="share of the filters' variance (0 to 1)", range=[0, 1.02])
    return drawn.update_layout(height=360, showlegend=True)


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """How many components it takes, per model."""
    said = []
    for name, dataset in datasets.items():
        share = np.cumsum(dataset["spectrum"].values)
        needed = int(np.argmax(share >= 0.9 - 1e-9)) + 1
        said.append(f"**{name}** {needed} of {len(share)}")
    return f"Components that hold 90% of the variance over a model's filters: {'; '.join(said)}."


def described(dataset: xr.Dataset, kind: str) -> str:
    """What a sheet holds."""
    count, _, height, width = dataset[kind].shape
    of = f"first {count} of {dataset.attrs['filter_count']}" if kind == "filters" else str(count)
    return f"{of} {KINDS[kind]}, {width} × {height} px"


def table(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Shares of variance and amplitudes, one table under the other in the same columns; ranks from 1."""
    parts = [
        dataset[variable].drop_vars("c", errors="ignore").to_dataframe(name="value").reset_index()
        .assign(model=name, quantity=f"{variable} ({dataset[variable].attrs['units']})")
        for name, dataset in datasets.items()
        for variable in ("spectrum", "amplitude")
    ]  # fmt: skip
    wanted = ["model", "quantity", "rank", "frequency_y", "frequency_x", "value"]
    together = pd.concat(parts, ignore_index=True).reindex(columns=wanted)
    return together.assign(rank=together["rank"] + 1)


def document(datasets: Mapping[str, xr.Dataset], kind: str, colours: Mapping[str, str]) -> str:
    """The sheets of all models as SVG; the charts save themselves."""
    drawn = [
        Square(name, colours[name], described(dataset, kind), enlarged(sheet(dataset[kind].values, COLUMNS[kind])))
        for name, dataset in datasets.items()
    ]
    return matrices.svg(drawn, scale=None, title="Filters of the first layer", caption=reading(datasets))
