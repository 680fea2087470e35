"""A quantity along trainings: its figure, its table and what they say. Pure: courses in, figure out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.draw.palette import number
from dashboard.state import models
from dashboard.views.formation.along_training import Course
from dashboard.views.formation.measures import Measure

GREY = "#8a8f98"


def place(images: np.ndarray | float, unit: float) -> np.ndarray:
    """Where a number of images lies on the axis: 0 at 0, logarithmic beyond ``unit``."""
    return np.arcsinh(np.asarray(images, float) / unit)


def axis_unit(courses: Sequence[Course]) -> float:
    """Half of the images before the first snapshot that has seen any."""
    return min((m.images for one in courses for m in one.moments if m.images), default=2) / 2


def short(images: int) -> str:
    """A round number of images: 10 k, 1 M."""
    if images >= 1_000_000:
        return f"{images // 1_000_000} M"
    return f"{images // 1_000} k" if images >= 1_000 else str(images)


def over_training(courses: Sequence[Course], measure: Measure, images: int) -> go.Figure:
    """A quantity along the training, a small chart a layer, all on one scale.

    A model of fewer layers stands at the same relative depth as the deepest.

    Args:
        courses: those with the quantity at some moments.
        measure: the quantity.
        images: the chosen moment, marked by a line.
    """
    unit = axis_unit(courses)
    along = {one.title: one.values(measure) for one in courses}
    everything = [values for found in along.values() for values in found.values()]
    layers = max(len(values) for values in everything)
    across = 3 if layers > 2 else layers
    down = -(-layers // across)
    drawn = make_subplots(
        down, across, shared_yaxes="all", shared_xaxes="all", horizontal_spacing=0.03, vertical_spacing=0.12,
        subplot_titles=[f"layer {i + 1}" for i in range(layers)] if layers > 1 else None,
    )  # fmt: skip
    for one in courses:
        values = np.stack([*along[one.title].values()])  # (moment, layer, head)
        seen = np.array([moment.images for moment in along[one.title]])
        for layer, place_of in enumerate(places_of(values.shape[1], layers)):
            if not np.isfinite(values[:, layer]).any(1).all():
                continue  # a block without attention, among those that have it
            at = {"row": place_of // across + 1, "col": place_of % across + 1}
            _line(drawn, one, seen, values[:, layer], unit, f"layer {layer + 1} of {values.shape[1]}, ", at)
    levels = even_levels(courses, measure)
    for even in levels:
        drawn.add_hline(y=even, line={"dash": "dash", "width": 1, "color": GREY})
    drawn.add_vline(x=float(place(images, unit)), line={"dash": "dot", "width": 1.5, "color": GREY})
    largest = max(moment.images for one in courses for moment in one.moments)
    ticks = [0, *(n for n in (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000) if unit < n <= largest)]
    drawn.update_xaxes(tickvals=place(np.array(ticks), unit), ticktext=[short(n) for n in ticks], showticklabels=True)
    drawn.update_xaxes(title="images seen", row=down)
    drawn.update_yaxes(**_axis(np.concatenate([levels, *map(np.ravel, everything)]), log=measure.log))
    drawn.update_yaxes(title=measure.label, col=1)
    return drawn.update_layout(height=260 * down + 40, margin={"t": 72}, legend={"y": 1 + 36 / (260 * down - 40)})


def _line(
    drawn: go.Figure, one: Course, seen: np.ndarray, values: np.ndarray, unit: float, layer: str, at: dict[str, int]
) -> None:  # fmt: skip
    """The mean over heads (moment, head) and, where there are several, the band from the lowest to the highest."""
    x = place(seen, unit)
    low, high = np.nanmin(values, 1), np.nanmax(values, 1)
    several = values.shape[1] > 1
    first = not any(trace.name == one.title for trace in drawn.data)
    if several:
        drawn.add_scatter(
            x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
            line={"width": 0}, fillcolor=one.colour, opacity=0.2, hoverinfo="skip", showlegend=False,
            legendgroup=one.title, name=f"{one.title}, heads", **at,
        )  # fmt: skip
    band = ", heads %{customdata[1]:.3g} to %{customdata[2]:.3g}" if several else ""
    drawn.add_scatter(
        x=x, y=np.nanmean(values, 1), mode="lines+markers", name=one.title, legendgroup=one.title, showlegend=first,
        line={"color": one.colour, "width": 2.5},
        marker={"symbol": models.mark(one.colour), "size": 8, "color": one.colour},
        customdata=np.stack([seen, low, high], 1),
        hovertemplate=f"{one.title}<br>{layer}%{{customdata[0]:,}} images: %{{y:.3g}}{band}<extra></extra>",
        **at,
    )  # fmt: skip


def places_of(layers: int, deepest: int) -> list[int]:
    """The chart of each layer, among as many as the deepest model has layers: the one at the same relative depth."""
    return [round(layer * (deepest - 1) / (layers - 1)) for layer in range(layers)] if layers > 1 else [deepest - 1]


def even_levels(courses: Sequence[Course], measure: Measure) -> list[float]:
    """What even attention would come to, once for each level that occurs."""
    datasets = [dataset for one in courses for dataset in one.ready(measure.probe).values()] if measure.even else []
    return sorted({round(float(dataset[measure.even]), 3) for dataset in datasets})


def _axis(values: np.ndarray, *, log: bool) -> dict[str, object]:
    if log:
        values = np.log10(values[values > 0])
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.06 * (high - low) or 0.5
    return {"range": [low - margin, high + margin], "type": "log" if log else "linear"}


def in_words(courses: Sequence[Course], measure: Measure, n: int) -> str:
    """From where to where the quantity went, with n and the convention."""
    lines = []
    depths = set()
    for one in courses:
        found = one.values(measure)
        first, last = next(iter(found)), next(reversed(found))
        depths.add(len(found[last]))
        before, after = (number(float(np.nanmean(found[moment]))) for moment in (first, last))
        known = np.isfinite(found[last]).any(1)
        start, end = (np.full(len(known), np.nan) for _ in range(2))
        start[known], end[known] = (np.nanmean(found[moment][known], 1) for moment in (first, last))
        moved = int(np.nanargmax(np.abs(end - start)))
        most = f"; layer {moved + 1} most, from {number(start[moved])} to {number(end[moved])}" if len(end) > 1 else ""
        lines.append(
            f"**{one.title}**: {measure.label} from {before} ({one.name(first)}) to {after} ({one.name(last)}){most}."
        )
    if not lines:
        return ""
    levels = " and ".join(map(number, even_levels(courses, measure)))
    even = f"Even attention would have {levels}. " if levels else ""
    fewer = " Models of fewer layers stand at the same relative depth." if len(depths) > 1 else ""
    lines.append(f"{even}{measure.said} n = {n} image{'s' * (n > 1)}.{fewer}")
    return "  \n".join(lines)


def table(courses: Sequence[Course], measure: Measure) -> pd.DataFrame:
    """The quantity: a row a model, moment, layer and head, counted from 1."""
    rows = [
        {
            "model": one.title, "step": moment.step, "images_seen": moment.images, "layer": layer + 1,
            "head": head + 1, measure.column: value, "n": len(one.pictures),
        }
        for one in courses
        for moment, values in one.values(measure).items()
        for (layer, head), value in np.ndenumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)
