"""What lesions change: the effects, the map of a model's heads, the curves of the blocks' parts, in words. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import chart_files, charts, export, matrices, palette
from dashboard.draw.matrices import Square
from dashboard.draw.palette import number
from dashboard.draw.panels import Scale
from dashboard.state import models

Head = tuple[int, int]
"""Layer and head, both from 1."""
DASHES = {"attention": "solid", "mlp": "dash", "block": "dot"}
PARTS = {"attention": "attention", "mlp": "MLP", "block": "whole block"}


@dataclass(frozen=True)
class Effect:
    """One way to say what a lesion changes.

    Attributes:
        name: a few words.
        units: of the values that are drawn, 0 where nothing changes.
        signed: they may be above and below 0.
        missing: why a model has none.
    """

    name: str
    units: str
    signed: bool
    missing: str


EFFECTS = {
    "cosine": Effect("embedding", "1 − cosine to the intact embedding", False, ""),
    "confidence": Effect(
        "confidence",
        "change of the probability of the intact prediction",
        True,
        "it has no classifier, so no confidence; choose the effect on the embedding",
    ),
    "top1": Effect(
        "right answers",
        "change of right answers, percentage points",
        True,
        "none of the images has a label that is one of its classes; choose labelled images, such as scenes for a model "
        "that learned from scenes, or another effect",
    ),
}


def drawn(dataset: xr.Dataset, of: str, effect: str) -> np.ndarray | None:
    """Values (layer, head) or (layer, part) that are drawn, 0 where nothing changes; None where there are none."""
    if f"{of}_{effect}" not in dataset:
        return None
    values = dataset[f"{of}_{effect}"].values
    return {"cosine": 1 - values, "top1": 100 * values}.get(effect, values)


def scale(datasets: Mapping[str, xr.Dataset], effect: str) -> Scale:
    """One scale for the maps of all models."""
    arrays = [values for one in datasets.values() if (values := drawn(one, "head", effect)) is not None]
    kind = EFFECTS[effect]
    over = Scale.over(arrays, kind.units, signed=True) if kind.signed else None
    return over or (Scale.over_most(arrays, kind.units) if arrays else Scale(0.0, 1.0, kind.units))


def head_map(values: np.ndarray, colours: Scale, colour: str, off: Sequence[Head]) -> go.Figure:
    """Layers across and heads down, an unseen mark on every head to be clicked, a cross on those that are off."""
    layers, heads = values.shape
    figure = go.Figure(
        go.Heatmap(
            x=np.arange(1, layers + 1),
            y=np.arange(1, heads + 1),
            z=values.T,
            zmin=colours.low,
            zmax=colours.high,
            colorscale=palette.plotly_scale(signed=colours.signed),
            showscale=False,
            xgap=2,
            ygap=2,
            hoverinfo="skip",
        )
    )
    there = np.argwhere(np.isfinite(values))
    figure.add_scatter(
        x=there[:, 0] + 1,
        y=there[:, 1] + 1,
        mode="markers",
        marker={"symbol": "square", "size": 26, "opacity": 0.0, "color": colour},
        selected={"marker": {"opacity": 0.0}},
        unselected={"marker": {"opacity": 0.0}},
        customdata=[number(value) for value in values[tuple(there.T)]],
        hovertemplate="layer %{x}, head %{y}: %{customdata}<extra></extra>",
        showlegend=False,
    )
    figure.add_scatter(
        x=[layer for layer, _ in off],
        y=[head for _, head in off],
        mode="markers",
        marker={"symbol": "x", "size": 14, "color": "white", "line": {"color": "black", "width": 1.5}},
        hoverinfo="skip",
        showlegend=False,
    )
    quiet = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(title="layer", range=[0.5, layers + 0.5], dtick=1 if layers <= 16 else 4, **quiet)
    figure.update_yaxes(title="head", range=[heads + 0.5, 0.5], dtick=1 if heads <= 8 else 2, **quiet)
    return figure.update_layout(
        height=min(84 + 44 * heads, 480),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
    )


def curves(datasets: Mapping[str, xr.Dataset], effect: str, colours: Mapping[str, str]) -> go.Figure:
    """What leaving out a part of each block changes, over depth: attention solid, MLP dashed, whole blocks dotted."""
    figure = go.Figure()
    shown = {name: one for name, one in datasets.items() if drawn(one, "part", effect) is not None}
    deep = {name: int(np.isfinite(one["part_cosine"].values).any(1).sum()) for name, one in shown.items()}
    relative = len(set(deep.values())) > 1
    for name, dataset in shown.items():
        values = drawn(dataset, "part", effect)
        assert values is not None
        for place, part in enumerate(dataset["part"].values):
            figure.add_scatter(
                x=charts.positions(deep[name], relative=relative),
                y=values[: deep[name], place],
                mode="lines+markers",
                line={"color": colours[name], "width": 2.5, "dash": DASHES[part]},
                marker={"symbol": models.mark(colours[name]), "size": 8},
                name=f"{name}, {PARTS[part]}",
                customdata=np.arange(1, deep[name] + 1),
                hovertemplate=f"{name}, {PARTS[part]}<br>layer %{{customdata}}: %{{y:.3g}}<extra></extra>",
            )
    title = "relative depth (0: first layer, 1: last layer)" if relative else "layer"
    figure.update_xaxes(title=title, dtick=None if relative else 1)
    figure.update_yaxes(title=EFFECTS[effect].units, rangemode="tozero")
    return figure.update_layout(height=430)


def reading(datasets: Mapping[str, xr.Dataset], effect: str) -> str:
    """The head and the part of every model that matter most, and how many images that stands on."""
    lines, kind = [f"Effect: {EFFECTS[effect].units}; one part left out at a time."], EFFECTS[effect]
    for name, dataset in datasets.items():
        said = []
        for of in ("head", "part"):
            values = drawn(dataset, of, effect)
            if values is None or not np.isfinite(values).any():
                continue
            layer, other = np.unravel_index(np.nanargmax(np.abs(values)), values.shape)
            which = f"head {other + 1}" if of == "head" else PARTS[str(dataset["part"].values[other])]
            most, middle = number(float(values[layer, other])), number(float(np.nanmedian(values)))
            said.append(f"layer {layer + 1} {which}: {most} (median {of} {middle})")
        lines.append(f"**{name}**, most: {'; '.join(said)}." if said else f"**{name}**: {kind.missing}.")
    one = next(iter(datasets.values()))
    n, labelled = int(one.attrs["n"]), int(one.attrs["labelled"])
    known = f", {labelled} of them labelled" if effect == "top1" else ""
    return "  \n".join([*lines, f"n = {n} image{'s' * (n > 1)}{known}."])


def table(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """A line for each head and each part of every model; layers and heads count from 1."""
    found = []
    for name, dataset in datasets.items():
        for of in ("head", "part"):
            named = {v: str(v).removeprefix(f"{of}_") for v in dataset.data_vars if str(v).startswith(f"{of}_")}
            if not named:
                continue
            lines = dataset[list(named)].rename(named).drop_vars("head_count", errors="ignore").to_dataframe()
            lines = lines.dropna(subset="cosine").reset_index().assign(model=name)
            lines["layer"] += 1
            if of == "head":
                lines = lines.assign(head=lines["head"] + 1, part="head")
            found.append(lines)
    whole = pd.concat(found, ignore_index=True)
    places = ["model", "layer", "part", *(["head"] if "head" in whole else [])]
    return whole[[*places, *(column for column in whole if column not in places)]].convert_dtypes()


def document(datasets: Mapping[str, xr.Dataset], effect: str, colours: Mapping[str, str], title: str) -> str:
    """The maps of all models over the curves, as SVG."""
    shared, squares = scale(datasets, effect), []
    for name, dataset in datasets.items():
        values = drawn(dataset, "head", effect)
        if values is None:
            continue
        across, down = ([((k + 0.5) / count, str(k + 1)) for k in range(count)] for count in values.shape)
        pixels = matrices.painted(values.T, shared, gaps=True)
        squares.append(Square(name, colours[name], "heads by layers", pixels, "layer", "head", across, down))
    told = export.plain(reading(datasets, effect))
    parts = [matrices.svg(squares, scale=shared, title=title, caption=told)] if squares else []
    curve = chart_files.svg(curves(datasets, effect, colours), "Parts of blocks", "" if squares else told)
    return export.stacked([*parts, curve])
