"""A head chosen in a chart, and where one patch looks with it."""

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.compute import asking
from dashboard.controls import choices, progress
from dashboard.draw import head_maps, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.state import link
from dashboard.state.selection import Selection, read_point

Place = tuple[str, int, int]
"""Model's title, layer and head, both from 1."""


def draw(chart: alt.LayerChart, heads: pd.DataFrame, outcome: asking.Outcome, selection: Selection) -> None:
    """Draw the chart beside the map of the head that is chosen in it.

    Args:
        chart: has a selection named ``head`` with the fields model, layer and head.
        heads: a row a head with model, layer, head and distance.
        outcome: gives titles and colours of the models.
        selection: gives the image, its first.
    """
    left, right = st.columns([3, 2], gap="large")
    with left:
        event = st.altair_chart(chart, key="pick-head", on_select="rerun", selection_mode="head")
    place = chosen(event.get("selection", {}).get("head", []), heads)
    with right:
        _map(place, heads, outcome, selection)


def chosen(selected: list[dict], heads: pd.DataFrame) -> Place:
    """The head that was clicked; the one that looks farthest where none was."""
    for entry in selected:
        same = [heads[field].eq(entry.get(field)) for field in ("model", "layer", "head")]
        match = heads[same[0] & same[1] & same[2]]
        if len(match):
            return str(match["model"].iloc[0]), int(match["layer"].iloc[0]), int(match["head"].iloc[0])
    farthest = heads.loc[heads["distance"].idxmax()]
    return str(farthest["model"]), int(farthest["layer"]), int(farthest["head"])


def _map(place: Place, heads: pd.DataFrame, outcome: asking.Outcome, selection: Selection) -> None:
    title, layer, head = place
    model = next(model for model in outcome.models if model.title == title)
    one = Selection((model.model,), selection.images[:1])
    point = read_point(link.first("at")) or (0.5, 0.5)
    query = asking.patch_of_each(one, point)[model.model] or "mean"
    found = asking.compute({"attention-maps": {"query": query, "layers": str(layer - 1)}}, one)
    mine = found.models[0]
    note = f"layer {layer}, head {head}"
    drawn = Panel(title, model.colour, note, message=mine.message, waiting=mine.waiting)
    scale = None
    if "attention-maps" in mine.datasets and mine.geometries:
        values = head_maps.layer_heads(mine.datasets["attention-maps"]["attention"], 0)[head - 1]
        scale = Scale.over([values], "attention weight")
        drawn = Panel(title, model.colour, note, mine.geometries[0], values)
    look = Look(original=False, columns=1)
    picture = one.images[0]
    panels.patch_panels(picture, [drawn], scale=scale, look=look, key="head-map", point=point, on_pick=choices.pick)
    row = heads[heads["model"].eq(title) & heads["layer"].eq(layer) & heads["head"].eq(head)].iloc[0]
    asked = "the mean over patches" if query == "mean" else "the marked patch"
    st.caption(
        f"Where {asked} looks with head {head} of layer {layer} of {title}; mean distance over all patches and images: "
        f"{number(row['distance'])}. Click a head in the chart, or another patch in the picture."
    )
    progress.show(found, part="head")
