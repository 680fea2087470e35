"""The head that is chosen in the chart, and where one patch of one picture looks with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult, Outcome
from dashboard.controls import choices, progress
from dashboard.draw import head_maps, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel, Row
from dashboard.images import gallery
from dashboard.state import link
from dashboard.state.selection import Selection, read_point
from dashboard.views.distance import head_distances
from dashboard.views.distance.head_distances import Datasets
from dashboard.views.distance.heads_chart import Place

KEY = "pick-head"


def clicked() -> Sequence[Mapping[str, Any]]:
    """What was clicked in the chart, as the browser sent it."""
    found: list[dict[str, Any]] = (st.session_state.get(KEY) or {}).get("selection", {}).get("head", [])
    return found


def chosen(selected: Sequence[Mapping[str, Any]], heads: pd.DataFrame) -> Place:
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


def draw(datasets: Datasets, outcome: Outcome, images: Sequence[str]) -> None:
    """Draw the map of the head that is chosen in the chart, over one of the images that the distances are of."""
    heads = head_distances.table(datasets)
    place = title, layer, head = chosen(clicked(), heads)
    words, map_of = st.columns([2, 3], gap="large")
    with words:
        picture = _picture(images)
        mine = heads[heads["model"].eq(title) & heads["layer"].eq(layer) & heads["head"].eq(head)]
        of = f"all {len(images)} images" if len(images) > 1 else "this image"
        st.markdown(
            f"**Head {head} of layer {layer} of {title}**, over **{gallery.title(picture)}** alone: where the marked "
            f"patch looks. Its mean distance, {number(mine['distance'].iloc[0])} {mine['units'].iloc[0]}, is over all "
            f"patches of {of}."
        )
        st.caption("Click another head in the chart, or another patch in the picture.")
    with map_of:
        _map(place, outcome, picture)


def _picture(images: Sequence[str]) -> str:
    """Draw the choice of the picture under the map: one of the images that the numbers are computed from."""
    linked = link.first("pick")
    st.session_state["map_picture"] = linked if linked in images else images[0]
    shown: str = st.selectbox(
        "Picture of the map",
        images,
        key="map_picture",
        format_func=gallery.title,
        on_change=lambda: link.put("pick", st.session_state["map_picture"]),
    )
    return shown


def _map(place: Place, outcome: Outcome, picture: str) -> None:
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
        look=Look(columns=2),
        key="head-map",
        point=point,
        on_pick=choices.pick,
    )
    progress.show(found, part="head")
