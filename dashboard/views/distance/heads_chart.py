"""All heads of all models over the layers, as one Altair chart: on the page and, titled, as the file. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from dashboard.draw import charts, export
from dashboard.draw.palette import number
from dashboard.state import models
from dashboard.views.distance import head_distances
from dashboard.views.distance.head_distances import Datasets

Place = tuple[str, int, int]
"""Model's title, layer and head, both from 1."""

GROUP, STRIP = 0.78, 0.82
"""How much of the space of a layer its models take, and of the space of a model its heads."""
ROOM = 0.09
"""Room beside the last layer, where the dashed lines are named, in widths of the chart."""
ABREAST = "max(2, floor(width / 220))"
"""Names of the legend beside each other, as Vega counts them: no more than the chart is wide."""
GREY = "#8a8f98"
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
SHAPES = {"x": "cross", "star": "wedge"}
"""Vega's names for models' marks, where they differ."""


def placed(datasets: Datasets) -> pd.DataFrame:
    """The table of heads with where each stands: ``place``, its model's strip ``left``, ``centre`` and ``right``."""
    rows = head_distances.table(datasets)
    depths = {dataset.sizes["layer"] for dataset in datasets.values()}
    step = 1 / max(max(depths) - 1, 1) if len(depths) > 1 else 1.0
    width = step * GROUP / len(datasets)
    parts = []
    for index, (name, dataset) in enumerate(datasets.items()):
        own = rows[rows["model"].eq(name)].copy()
        at = charts.positions(dataset.sizes["layer"], relative=len(depths) > 1)
        own["centre"] = at[own["layer"] - 1] + (index - (len(datasets) - 1) / 2) * width
        heads = own["head"].max()
        own["place"] = own["centre"] + (own["head"] - (heads + 1) / 2) / heads * width * STRIP
        own["left"], own["right"] = own["centre"] - width * STRIP / 2, own["centre"] + width * STRIP / 2
        parts.append(own)
    together = pd.concat(parts, ignore_index=True)
    errors = together["distance_sem"].fillna(0.0)
    together["low"], together["high"] = together["distance"] - errors, together["distance"] + errors
    together["apart"] = together["distance"] / together["uniform_distance"] - 1
    return together


def span(rows: pd.DataFrame, *, full: bool) -> tuple[float, float]:
    """Ends of the axis: what is drawn with uniform attention and a margin of 6 per cent; from 0 where ``full``."""
    low = min(rows["low"].min(), rows["uniform_distance"].min())
    high = max(rows["high"].max(), rows["uniform_distance"].max())
    margin = 0.06 * ((high - low) or high)
    return (0.0 if full else max(low - margin, 0.0)), high + margin


@dataclass(frozen=True)
class _Axes:
    """What all layers of the chart share: what stands across, what stands up, and the models' colours and marks."""

    across: dict[str, Any]
    up: dict[str, Any]
    colour: alt.Color
    shape: alt.Shape

    def x(self, field: str) -> alt.X:
        return alt.X(field, **self.across)

    def y(self, field: str) -> alt.Y:
        return alt.Y(field, **self.up)


def chart(datasets: Datasets, colours: Mapping[str, str], chosen: Place, *, full: bool) -> alt.LayerChart:
    """Heads as points with standard errors, a bar from the nearest to the farthest, layer means, uniform attention.

    Args:
        datasets: title to distances, in one unit.
        colours: title to colour.
        chosen: the head that is marked; another can be clicked.
        full: the axis begins at 0; else where the data do.
    """
    rows = placed(datasets)
    axes = _axes(datasets, colours, span(rows, full=full))
    group = rows.groupby(["model", "layer", "centre", "left", "right"], sort=False)["distance"]
    layers = alt.Chart(group.agg(mean="mean", nearest="min", farthest="max").reset_index())
    ranges = layers.mark_bar(opacity=0.16).encode(
        x=axes.x("left:Q"), x2="right:Q", y=axes.y("nearest:Q"), y2="farthest:Q", color=axes.colour
    )
    means = layers.mark_line(strokeWidth=2.5).encode(x=axes.x("centre:Q"), y=axes.y("mean:Q"), color=axes.colour)
    errors = (
        alt.Chart(rows)
        .mark_rule(opacity=0.55, strokeWidth=1.2)
        .encode(x=axes.x("place:Q"), y=axes.y("low:Q"), y2="high:Q", color=axes.colour)
    )
    several = [errors] if rows["distance_sem"].notna().any() else []  # of one image there is no standard error
    uniform, heads = _uniform(datasets, colours, axes), _heads(rows, axes, chosen)
    drawn = cast(alt.LayerChart, alt.layer(ranges, *uniform, *several, means, heads))
    return drawn.properties(width="container", height=430)


def _axes(datasets: Datasets, colours: Mapping[str, str], ends: tuple[float, float]) -> _Axes:
    depths = {dataset.sizes["layer"] for dataset in datasets.values()}
    relative, deepest, names = len(depths) > 1, max(depths), list(datasets)
    start, end = (-0.5 / deepest, 1 + 0.5 / deepest) if relative else (0.5, deepest + 0.5)
    ticks = np.linspace(0, 1, 5) if relative else np.arange(1, deepest + 1, 1 if deepest <= 16 else 2)
    legend = alt.Legend(orient="top", labelLimit=300, symbolSize=110, symbolOpacity=1, columns=alt.ExprRef(ABREAST))
    marks = [models.mark(colours[name]) for name in names]
    shapes = [SHAPES.get(mark, mark) for mark in marks]
    return _Axes(
        {
            "title": "relative depth (0: first layer, 1: last layer)" if relative else "layer",
            "axis": alt.Axis(values=ticks.tolist(), grid=False, format=".2~f" if relative else "d"),
            "scale": alt.Scale(domain=[start, end + ROOM * (end - start)], nice=False),
        },
        {
            "title": f"mean attention distance ({head_distances.units_of(datasets)})",
            "scale": alt.Scale(domain=list(ends), nice=False, zero=False),
        },
        alt.Color(
            "model:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=[colours[n] for n in names])
        ),
        alt.Shape("model:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=shapes)),
    )


def _heads(rows: pd.DataFrame, axes: _Axes, chosen: Place) -> alt.Chart:
    place: dict[str, Any] = dict(zip(("model", "layer", "head"), chosen, strict=True))
    pick = alt.selection_point(name="head", fields=list(place), on="click", nearest=True, toggle=False, value=[place])
    marked = alt.when(pick, empty=False)
    error = alt.Tooltip("distance_sem:Q", title="standard error", format=".2~r")
    return (
        alt.Chart(rows)
        .mark_point(filled=True, strokeWidth=2.5, cursor="pointer", opacity=0.9)
        .encode(
            x=axes.x("place:Q"),
            y=axes.y("distance:Q"),
            color=axes.colour,
            shape=axes.shape,
            stroke=marked.then(alt.value(GREY)).otherwise(alt.value("transparent")),
            size=marked.then(alt.value(200)).otherwise(alt.value(46)),
            tooltip=[
                *place,
                alt.Tooltip("distance:Q", title="distance", format=".3~r"),
                *([error] if rows["distance_sem"].notna().any() else []),
                alt.Tooltip("apart:Q", title="against uniform", format="+.0%"),
            ],
        )
        .add_params(pick)
    )


def _uniform(datasets: Datasets, colours: Mapping[str, str], axes: _Axes) -> list[alt.Chart]:
    """A dashed line for each distance that uniform attention has in some of the models, and its name."""
    lines: dict[str, list[str]] = {}
    for name, dataset in datasets.items():
        lines.setdefault(number(float(dataset["uniform_distance"])), []).append(name)
    drawn = []
    for text, names in lines.items():
        colour = colours[names[0]] if len(lines) > 1 else GREY
        value = pd.DataFrame({"value": [float(datasets[names[0]]["uniform_distance"])]})
        base = alt.Chart(value).encode(y=axes.y("value:Q"))
        drawn.append(base.mark_rule(strokeDash=[6, 4], strokeWidth=1.5, color=colour))
        label = base.mark_text(text=f"uniform: {text}", color=colour, align="right", dx=-4, dy=-8, fontSize=14)
        drawn.append(label.encode(x=alt.value("width")))
    return drawn


def document(drawn: alt.LayerChart, *, title: str, caption: Sequence[str]) -> str:
    """The chart of the page as SVG, with a title and a caption of some paragraphs, on white."""
    lines = [line for paragraph in caption for line in export.wrap(export.plain(paragraph), 150)]
    text = alt.TitleParams(
        title, subtitle=lines, anchor="start", fontSize=20, subtitleFontSize=14,
        subtitlePadding=8, offset=16,
    )  # fmt: skip
    whole = drawn.properties(width=1000, background="white", padding=20, title=text).configure(font=FONT)
    written: str = vl_convert.vegalite_to_svg(whole.to_json())
    return written
