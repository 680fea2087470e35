"""What patches answer, layer by layer: as classes, as a share over the layers, in words. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.controls import choices
from dashboard.draw import charts
from dashboard.draw.palette import number
from dashboard.state import models
from dashboard.state.selection import Depth


def at_layer(dataset: xr.Dataset, depth: Depth) -> xr.Dataset:
    """The chosen layer without padding."""
    one = dataset.isel(image=0, layer=depth.index(dataset.sizes["layer"]))
    return one.isel(y=slice(int(one["grid_height"])), x=slice(int(one["grid_width"])))


def names(dataset: xr.Dataset) -> dict[int, str]:
    """Index to the first of a class's names."""
    pairs = (entry.partition(" ") for entry in dataset.attrs["class_names"])
    return {int(index): name.partition(",")[0] for index, _, name in pairs}


def called(dataset: xr.Dataset, index: int) -> str:
    """A class as a person reads it."""
    return names(dataset).get(index, f"class {index}")


def final_answer(dataset: xr.Dataset) -> int:
    """The class of CLS after the last layer, or without CLS the most frequent one of its patches."""
    last = at_layer(dataset, choices.LAST)
    answer = int(last["cls_class"].values[0])
    if answer >= 0:
        return answer
    values, counts = np.unique(last["top_class"].values[..., 0], return_counts=True)
    return int(values[counts.argmax()])


def shares(dataset: xr.Dataset) -> np.ndarray:
    """Share of patches that say the final answer, per layer; NaN where a layer cannot be read."""
    answer, layers = final_answer(dataset), dataset.sizes["layer"]
    tops = (at_layer(dataset, Depth(i + 1, layers))["top_class"].values[..., 0] for i in range(layers))
    return np.array([np.nan if (top < 0).all() else float((top == answer).mean()) for top in tops])


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], depth: Depth) -> go.Figure:
    """Over the layers: how many patches say what the model says in the end; the shown layer has a large mark."""
    relative = len({dataset.sizes["layer"] for dataset in datasets.values()}) > 1
    drawn = go.Figure()
    for name, dataset in datasets.items():
        values = shares(dataset)
        here = np.arange(len(values)) == depth.index(len(values))
        drawn.add_scatter(
            x=charts.positions(len(values), relative=relative),
            y=values,
            mode="lines+markers",
            line={"color": colours[name], "width": 2.5},
            marker={"symbol": models.mark(colours[name]), "opacity": 1, "size": np.where(here, 14, 8)},
            name=f"{name}: {called(dataset, final_answer(dataset))}",
            customdata=np.arange(1, len(values) + 1),
            hovertemplate=f"{name}<br>layer %{{customdata}}: %{{y:.3f}} of the patches<extra></extra>",
        )
    drawn.update_xaxes(title="relative depth (0: first layer, 1: last layer)" if relative else "layer")
    drawn.update_yaxes(title="patches that say the final answer (share, 0 to 1)", range=[-0.02, 1.02])
    return drawn.update_layout(height=340, showlegend=True)


def unread(datasets: Mapping[str, xr.Dataset]) -> str:
    """Which layers have no point in the chart, and why; empty where all have one."""
    gaps = {name: int(np.isnan(shares(dataset)).sum()) for name, dataset in datasets.items()}
    said = [
        f"layers 1 to {count} of {name}" if count > 1 else f"layer 1 of {name}" for name, count in gaps.items() if count
    ]
    return f"No point for {', '.join(said)}: their width is not the one that the classifier reads." if said else ""


def reading(datasets: Mapping[str, xr.Dataset], depth: Depth) -> str:
    """What the shown layer says."""
    said = []
    for name, dataset in datasets.items():
        share = shares(dataset)[depth.index(dataset.sizes["layer"])]
        if np.isfinite(share):
            answer = called(dataset, final_answer(dataset))
            said.append(f"**{name}**: {number(100 * share)}% of the patches say its final answer, “{answer}”")
    convention = " (n = 1 image; final answer: CLS after the last layer, else most patches)."
    return "; ".join(said) + convention if said else ""
