"""All heads of all layers of a model as one picture, and the chosen ones enlarged."""

from collections.abc import Mapping

import numpy as np
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult, Outcome
from dashboard.controls import choices, map_options
from dashboard.controls.map_options import Drawing
from dashboard.controls.sidebar import sidebar
from dashboard.draw import charts, export, frame, head_maps, panels, sentences
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Scale
from dashboard.images import gallery
from dashboard.page import Page
from dashboard.state import link
from dashboard.views.compare.below import STATISTICS
from dashboard.views.compare.view import QUERY_TEXT, attention, layer_lines
from dashboard.views.heads import mosaic

PAGE = Page("All heads", section="Attention", order=10)

WIDE = 1080
"""Pixels that a mosaic over the whole page is wide, about."""
SCALES = {"shared": "one for all", "own": "each map its own"}
HOW = """
**Every map of a model in one picture**: layers from left to right, heads from top to bottom. Yellow patches receive
much attention from the query. Click a map to enlarge it below; click a patch there to ask that patch in all heads.

- *One for all*: the colours of all models end at the same value, the 99th percentile of all weights shown; what lies
  above has the last colour. *Each map its own* shows form in faint maps, and amounts no longer compare.
- Heads have no order: head 3 of one layer has nothing to do with head 3 of the next.
- A blank place: the layer has fewer heads, or no such query.
"""
FORMULA = r"""
$$m_{lh} = A^{(l,h)}_{q,\,P:},\qquad H = -\sum_k A_{qk}\log A_{qk},\qquad
\mathrm{NMI} = \frac{I(q;k)}{\sqrt{H(q)\,H(k)}}$$

$A$ is the attention as the model used it, $q$ the query, $P$ the prefix tokens. Entropy, mutual information and masses
are means over patch queries, whatever query is drawn.

Source: Dosovitskiy et al. 2021, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929); Park et al. 2023,
[arXiv:2305.00729](https://arxiv.org/abs/2305.00729).
"""
NOT_SHOWN = """
- What a head **does**: its map says where it reads, not what it writes.
- Differences between queries: each picture is one query. Mutual information measures them.
- One image: n = 1.
"""


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


def chosen_head(model: ModelResult, index: int) -> tuple[int, int]:
    """Layer and head, from 0, of the n-th model: the link's, else the first of the last layer."""
    dataset = model.datasets["attention-maps"]
    layers, heads = dataset.sizes["layer"], dataset["head_count"].values
    layer, head = linked_head(index) or (layers, 1)
    layer = min(max(layer, 1), layers)
    return layer - 1, min(max(head, 1), int(heads[layer - 1])) - 1


def overview(model: ModelResult, index: int, tiles: list[mosaic.Tile], high: float | None, width: int) -> None:
    """Draw one model's mosaic, some pixels wide; a click is put into the link."""
    key = f"mosaic-{index}"
    st.html(f'<div style="border-top:4px solid {model.colour};padding-top:4px"></div>')
    st.markdown(f"**{model.title}**")

    def picked() -> None:
        points = (st.session_state.get(key) or {}).get("selection", {}).get("points", [])
        if points:
            choose(index, int(points[0]["x"]), int(points[0]["y"]))

    figure = mosaic.figure(tiles, high, model.colour, chosen_head(model, index))
    layers, heads = len({t.layer for t in tiles}), len({t.head for t in tiles})
    rows, columns = tiles[0].values.shape
    height = int(60 + width * heads * rows / (layers * columns))
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 8, "b": 8}, font={"size": 13})
    alt = f"All attention maps of {model.title}, {layers} layers by {heads} heads"
    st.plotly_chart(figure, key=key, alt=alt, on_select=picked, selection_mode="points", config=frame.CHART_CONFIG)


def enlarged(model: ModelResult, index: int, chosen: Drawing) -> Panel:
    """The chosen head of one model as a panel."""
    geometry = model.geometries[0] if model.geometries else None
    if "attention-maps" not in model.datasets:
        message = model.message or "computing …"
        return Panel(model.title, model.colour, geometry=geometry, message=message, waiting=model.waiting)
    layer, head = chosen_head(model, index)
    values = head_maps.layer_heads(model.datasets["attention-maps"]["attention"], layer)[head]
    note = f"layer {layer + 1}, head {head + 1}"
    if not np.isfinite(values).all():
        return Panel(model.title, model.colour, note, geometry, message="No such token asks in this layer.")
    return Panel(
        model.title,
        model.colour,
        note,
        geometry,
        values,
        mask=head_maps.mass_mask(values, chosen.tau) if chosen.show != "map" else None,
        contour_only=chosen.show == "both",
        scale=None if chosen.shared else Scale.over([values], "attention weight"),
    )


def most_focused(tiles: Mapping[str, list[mosaic.Tile]], tau: float) -> str:
    """Which head of each model concentrates most, a sentence a model."""
    said = []
    for name, group in tiles.items():
        counts = [int(head_maps.mass_mask(tile.values, tau).sum()) for tile in group]
        first = group[int(np.argmin(counts))]
        size = first.values.size
        said.append(
            f"**{name}**: {sentences.percent(tau)} of what goes to patches falls on {min(counts)} of {size} in head "
            f"{first.head + 1} of layer {first.layer + 1}, the most focused of {len(group)}; on "
            f"{number(float(np.median(counts)))} in the median head."
        )
    return "  \n".join(said)


def statistics(outcome: Outcome) -> None:
    """Charts of entropy, mutual information and mass a token type, two in a row."""
    ready = outcome.ready("attention-statistics")
    if not ready:
        return
    st.subheader("How spread, how alike, onto which tokens", anchor=False)
    has = [n for n in STATISTICS if any(bool(d[n].notnull().any()) for d in ready.values()) and n != "entropy"]
    columns = st.columns(2, gap="large")
    for place, name in enumerate(has):
        drawn = charts.over_layers(ready, name, outcome.colours, label=STATISTICS[name])
        units = "fraction of the largest possible" if name == "entropy_normalised" else "fraction of attention"
        drawn.update_yaxes(title="fraction" if name == "nmi" else units)
        drawn.update_layout(height=280, showlegend=False)
        with columns[place % 2]:
            st.markdown(f"**{STATISTICS[name][0].upper()}{STATISTICS[name][1:]}**")
            frame.chart(drawn, key=f"statistic-{name}", alt=f"{STATISTICS[name]} over the layers")
    n = next(iter(ready.values())).attrs.get("n", 1)
    st.caption(f"A small point a head, the line the mean of a layer; colours as in the sidebar. n = {n} image.")


def page() -> None:
    """Draw the page."""
    selection = sidebar()
    frame.header("What does every head look at?")
    row = frame.controls()
    query, point = choices.linked_query()
    outcome = attention(selection, query, point)
    with row:
        choices.query()
        scales = st.segmented_control(
            "Colours of the overview",
            list(SCALES),
            default="shared",
            required=True,
            key="overview",
            bind="query-params",
            format_func=SCALES.__getitem__,
        )
        chosen = map_options.popover()
    there = [(i, model) for i, model in enumerate(outcome.models) if "attention-maps" in model.datasets]
    tiles = {model.title: mosaic.tiles(model.datasets["attention-maps"]["attention"]) for _, model in there}
    high = mosaic.ceiling(list(tiles.values())) if scales == "shared" else None
    columns = st.columns(2 if len(there) > 1 else 1, gap="large")
    for place, (index, model) in enumerate(there):
        with columns[place % len(columns)]:
            overview(model, index, tiles[model.title], high, WIDE if len(columns) == 1 else WIDE // 2 - 50)
    frame.states(outcome, "attention-maps")
    ends = f"All colours end at {number(high)}, the 99th percentile." if high else "Every map has a scale of its own."
    st.caption(f"{ends} Query: {QUERY_TEXT[query]}, or the mean over patches in layers without CLS.")
    asking.show_progress(outcome)
    drawn = [enlarged(model, i, chosen) for i, model in enumerate(outcome.models)]
    arrays = [p.values for p in drawn if p.values is not None]
    scale = Scale.over(arrays, "attention weight") if arrays and chosen.shared else None
    picture = selection.images[0]
    panels.patch_panels(picture, drawn, scale=scale, look=chosen.look, key="heads", point=point, on_pick=choices.pick)
    said = most_focused(tiles, chosen.tau) + f"  \nQuery: {QUERY_TEXT[query]}; n = 1 image, weights as used."
    st.markdown(said)
    ready = outcome.ready("attention-maps")

    def document() -> str:
        title = f"{gallery.title(picture)}: chosen heads"
        return export.svg(picture, drawn, scale=scale, look=chosen.look, title=title, caption=said.replace("*", ""))

    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name=f"heads-{picture.replace(':', '-')}",
        png=(lambda: export.png(document())) if ready else None,
        svg=document if ready else None,
        csv=(lambda: "".join(all_layers(ready))) if ready else None,
    )
    statistics(outcome)


def all_layers(ready: Mapping[str, xr.Dataset]) -> list[str]:
    """The maps of every layer as lines of CSV, one header."""
    lines = ["model,layer,head,row,column,attention_weight"]
    for name, dataset in ready.items():
        for layer in range(dataset.sizes["layer"]):
            lines.extend(layer_lines(name, dataset, layer))
    return [line + "\n" for line in lines]
