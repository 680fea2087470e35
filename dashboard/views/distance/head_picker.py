"""The heads as a chart in which one can be chosen, and where one patch looks with it."""

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
import vl_convert
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult, Outcome
from dashboard.controls import choices, progress
from dashboard.draw import head_maps, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel, Row
from dashboard.state import link, models
from dashboard.state.selection import Selection, read_point
from dashboard.views.distance import head_distances

Place = tuple[str, int, int]
"""Model's title, layer and head, both from 1."""


def chart(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], *, legend: bool = False) -> alt.LayerChart:
    """All heads in Altair, where one can be chosen, with the means of the layers."""
    rows = head_distances.table(datasets)
    rows["place"] = rows["layer"] + (rows["head"] - rows.groupby("model")["head"].transform("max") / 2 - 0.5) * 0.05
    units = next(iter(datasets.values()))["distance"].attrs["units"]
    names = list(datasets)
    chosen = alt.selection_point(name="head", fields=["model", "layer", "head"], on="click", nearest=True)
    named = alt.Legend(orient="top", labelLimit=300) if legend else None
    colour = alt.Color(
        "model:N", title=None, legend=named, scale=alt.Scale(domain=names, range=[colours[n] for n in names])
    )
    shapes = [{"x": "cross", "star": "wedge"}.get(mark, mark) for mark in (models.mark(colours[n]) for n in names)]
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=46, cursor="pointer")
        .encode(
            x=alt.X("place:Q", title="layer", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(nice=False)),
            y=alt.Y("distance:Q", title=f"mean attention distance ({units})", scale=alt.Scale(zero=True)),
            color=colour,
            shape=alt.Shape("model:N", title=None, legend=named, scale=alt.Scale(domain=names, range=shapes)),
            opacity=alt.condition(chosen, alt.value(1), alt.value(0.35)),
            size=alt.condition(chosen, alt.value(90), alt.value(46)),
            tooltip=["model", "layer", "head", alt.Tooltip("distance", format=".3g")],
        )
        .add_params(chosen)
    )
    lines = (
        alt.Chart(rows).mark_line(strokeWidth=2).encode(x=alt.X("layer:Q"), y=alt.Y("mean(distance):Q"), color=colour)
    )
    return (lines + points).properties(width="container", height=330)


def document(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> str:
    """The chart as SVG."""
    spec = chart(datasets, colours, legend=True).properties(width=900, background="white").to_json()
    drawn: str = vl_convert.vegalite_to_svg(spec)
    return drawn


def draw(datasets: Mapping[str, xr.Dataset], outcome: Outcome, picture: str) -> None:
    """Draw the chart beside the map of the head that is chosen in it.

    Args:
        datasets: title to distances.
        outcome: of the page.
        picture: image that the map is of.
    """
    heads = head_distances.table(datasets)
    left, right = st.columns([3, 2], gap="large")
    with left:
        drawn = chart(datasets, outcome.colours)
        event = st.altair_chart(drawn, key="pick-head", on_select="rerun", selection_mode="head")
    place = chosen(event.get("selection", {}).get("head", []), heads)
    with right:
        _map(place, heads, outcome, picture)


def chosen(selected: list[dict], heads: pd.DataFrame) -> Place:
    """The head that was clicked; the one that looks farthest where none was."""
    for entry in selected:
        same = [heads[field].eq(entry.get(field)) for field in ("model", "layer", "head")]
        match = heads[same[0] & same[1] & same[2]]
        if len(match):
            return str(match["model"].iloc[0]), int(match["layer"].iloc[0]), int(match["head"].iloc[0])
    farthest = heads.loc[heads["distance"].idxmax()]
    return str(farthest["model"]), int(farthest["layer"]), int(farthest["head"])


def panel(model: ModelResult, layer: int, head: int) -> Panel:
    """The map of one head, both from 1."""
    dataset = model.datasets.get("attention-maps")
    if dataset is None:
        return panels.pending(model)
    values = head_maps.layer_heads(dataset["attention"], 0)[head - 1]
    if np.isnan(values).all():
        return panels.pending(model, "The point lies outside this model's crop.")
    return panels.of_model(model, f"layer {layer}, head {head}", values)


def _map(place: Place, heads: pd.DataFrame, outcome: Outcome, picture: str) -> None:
    title, layer, head = place
    point = read_point(link.first("at")) or (0.5, 0.5)
    one = Selection(
        tuple(model.model for model in outcome.models),
        (picture,),
        {model.model: model.colour for model in outcome.models},
    )
    asks = [Ask("attention-maps", {"query": choices.asked("patch", point), "layers": str(layer - 1)})]
    found, _ = asking.ask(asks, one, models=[model.model for model in outcome.models if model.title == title])
    row = Row(picture, [panel(found.models[0], layer, head)])
    panels.patch_panels(
        picture,
        row.panels,
        scale=panels.shared_scale([row], "attention weight"),
        look=Look(original=False, columns=1),
        key="head-map",
        point=point,
        on_pick=choices.pick,
    )
    mean = heads[heads["model"].eq(title) & heads["layer"].eq(layer) & heads["head"].eq(head)]["distance"].iloc[0]
    st.caption(
        f"Where the marked patch looks with head {head} of layer {layer} of {title}; mean distance over all patches "
        f"and images: {number(mean)}. Click a head in the chart, or another patch in the picture."
    )
    progress.show(found, part="head")
