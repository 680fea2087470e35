"""Every map of every model as pictures to be clicked; the link holds which head of each model is chosen."""

import streamlit as st
import xarray as xr

from dashboard.compute.asking import ModelResult, Outcome
from dashboard.controls.map_options import MapOptions
from dashboard.draw import frame, matrices, model_columns
from dashboard.draw.panels import Scale
from dashboard.state import link
from dashboard.views.heads import mosaic
from dashboard.views.heads.mosaic import Tile

SHALLOW = 8
"""Layers of models whose mosaics stand beside each other, four in a line."""
WIDE = 1400
"""Pixels that a mosaic over the whole page is wide, about."""


def draw(outcome: Outcome, options: MapOptions, *, shared: bool) -> float | None:
    """Draw a mosaic for each model that has maps.

    Args:
        outcome: attention maps.
        options: whether colours stand for weights or for times even attention.
        shared: all colours end at the same value.

    Returns:
        That value; None where every map has a scale of its own.
    """
    groups, high = _drawn(outcome, options, shared=shared)
    deepest = max((tile.layer for tiles in groups.values() for tile in tiles), default=0)
    wide = model_columns.across(len(groups), 4 if deepest < SHALLOW else 2) if len(groups) > 1 else 1
    for start in range(0, len(groups), wide):
        columns = st.columns(wide, gap="medium", wrap=True)
        for column, (index, tiles) in zip(columns, list(groups.items())[start : start + wide], strict=False):
            with column:
                _mosaic(outcome.models[index], index, tiles, high, WIDE // wide - 60)
    frame.states(outcome, "attention-maps")
    return high


def document(outcome: Outcome, options: MapOptions, *, shared: bool, title: str) -> str:
    """The mosaics of all models as SVG."""
    groups, high = _drawn(outcome, options, shared=shared)
    squares = [
        mosaic.square(outcome.models[index].title, tiles, high, outcome.models[index].colour)
        for index, tiles in groups.items()
    ]
    scale = Scale(0.0, high, f"{options.units} or more") if high else None
    return matrices.svg(squares, scale=scale, title=title, caption="" if high else "Every map has its own scale.")


def _drawn(outcome: Outcome, options: MapOptions, *, shared: bool) -> tuple[dict[int, list[Tile]], float | None]:
    """Maps by place of their model, and the value at which all colours end, None where each has its own."""
    groups = {
        index: tiles
        for index, model in enumerate(outcome.models)
        if "attention-maps" in model.datasets and (tiles := _tiles(model, options))
    }
    return groups, mosaic.ceiling(list(groups.values())) if shared else None


def _tiles(model: ModelResult, options: MapOptions) -> list[Tile]:
    dataset = model.datasets["attention-maps"]
    times = []
    if model.spec and options.values == "times even":
        used = dataset["query_used"].values
        times = [layer.shared_by(str(query)) for layer, query in zip(model.spec.layers, used, strict=True)]
    return mosaic.tiles(dataset["attention"], times)


def linked_head(index: int) -> tuple[int, int] | None:
    """Layer and head, from 1, that the link names for the n-th model; None when it names none."""
    layer, _, head = (*link.get("heads"), *[""] * (index + 1))[index].partition(".")
    if not (layer.isascii() and layer.isdigit() and head.isascii() and head.isdigit()):
        return None
    return int(layer[:4]), int(head[:4])


def choose(index: int, layer: int, head: int) -> None:
    """Put the n-th model's layer and head, from 1, into the link."""
    linked = [*link.get("heads"), *["-"] * (index + 1)]
    linked[index] = f"{layer}.{head}"
    link.put("heads", *linked[: max(len(link.get("heads")), index + 1)])


def chosen_head(dataset: xr.Dataset, index: int) -> tuple[int, int]:
    """Layer and head, from 0, of the n-th model: the link's, else the first of the last layer."""
    layers, heads = dataset.sizes["layer"], dataset["head_count"].values
    layer, head = linked_head(index) or (layers, 1)
    layer = min(max(layer, 1), layers)
    return layer - 1, min(max(head, 1), int(heads[layer - 1])) - 1


def _mosaic(model: ModelResult, index: int, tiles: list[Tile], high: float | None, width: int) -> None:
    """Draw one model's mosaic, some pixels wide; a click is put into the link."""
    key = f"mosaic-{index}"
    st.html(model_columns.heading(model.title, "", model.colour))

    def picked() -> None:
        points = (st.session_state.get(key) or {}).get("selection", {}).get("points", [])
        if points:
            choose(index, int(points[0]["x"]), int(points[0]["y"]))

    figure = mosaic.figure(tiles, high, model.colour, chosen_head(model.datasets["attention-maps"], index))
    layers, heads = len({t.layer for t in tiles}), len({t.head for t in tiles})
    rows, columns = tiles[0].values.shape
    height = int(60 + width * heads * rows / (layers * columns))
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    frame.legible(figure)
    alt = f"All attention maps of {model.title}, {layers} layers by {heads} heads"
    st.plotly_chart(figure, key=key, alt=alt, on_select=picked, selection_mode="points", config=frame.CHART_CONFIG)
