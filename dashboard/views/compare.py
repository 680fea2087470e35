"""Attention of several models on one image: the page that opens first."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import streamlit as st
import xarray as xr

from dashboard import computing, controls, drawing, export, frame, layer_views, maps, panels, pictures, reading
from dashboard.computing import ModelResult, Outcome, Params
from dashboard.drawing import Drawing
from dashboard.page import Page
from dashboard.panels import Panel, Scale
from dashboard.selection import Depth, Point, Selection
from dashboard.sidebar import sidebar

PAGE = Page("Attention side by side", section="Compare", order=0, default=True)

QUERY_TEXT = {"cls": "the CLS query", "mean": "the mean patch query", "patch": "the clicked patch"}
HOW = """
Each picture shows the same image under one model. **Yellow patches receive much attention** from the query, dark blue
ones little; the photo shows through in grey. All pictures share one scale unless you choose otherwise.

- *Query*: whose attention it is. CLS is the token most models classify with; click a patch to ask that patch in all
  models. A layer without a CLS token shows the mean over its patches and says so.
- *Layer*: 1 is the first block. *Head*: the mean, the maximum, or one head.
- The darkened rim is what a model never saw: its own preprocessing crops the image.
"""
FORMULA = r"""
$$A^{(l,h)} = \operatorname{softmax}\!\Big(\tfrac{QK^\top}{\sqrt{d}}\Big), \qquad m_{lh} = A^{(l,h)}_{q,\,P:}$$

with $q$ the query's row and $P$ the prefix tokens (CLS, distillation, registers), which are left out of the map. It is
not renormalised: a map sums to one minus what the prefix tokens receive. The mask at $\tau$ is the smallest set of
patches that holds the share $\tau$ of the map's own sum.

Source: Dosovitskiy et al. 2021, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929); mask: Caron et al. 2021,
[arXiv:2104.14294](https://arxiv.org/abs/2104.14294).
"""
NOT_SHOWN = """
- Attention says which tokens are **mixed**, not what decides the output: the values may be small, and later layers and
  the residual stream may undo the mixing.
- Models with more tokens spread the same attention over more patches, so their weights are smaller.
- High attention on a patch of plain background often marks a token the model uses as a register.
- One image is one image: n = 1.
"""


def attention(selection: Selection, query: str, point: Point | None) -> Outcome:
    """Ask for maps and statistics; a clicked point becomes each model's own patch, once it is known how it lies."""
    size = drawing.linked_size()
    if point is None:
        return computing.compute({"attention-maps": {"query": query}, "attention-statistics": {}}, selection, size=size)
    patches = computing.patch_of_each(selection, point, size=size)
    asked: dict[str, Params | None] = {model: {"query": patch} if patch else None for model, patch in patches.items()}
    every: dict[str, Params | None] = {model: {} for model in selection.models}
    wanted = {"attention-maps": asked, "attention-statistics": every}
    return computing.compute_each(wanted, selection, size=size)


@dataclass(frozen=True)
class Shown:
    """One model's map of the chosen layer and head, or why there is none.

    Attributes:
        values: attention weights (y, x).
        even: what every token would get if all got the same.
        note: which layer, head and query it is.
        message: why there is no map.
    """

    values: np.ndarray | None = None
    even: float = 1.0
    note: str = ""
    message: str = ""


def shown(model: ModelResult, depth: Depth | None, head: str, query: str) -> Shown:
    """The map of one model."""
    dataset = model.datasets.get("attention-maps")
    if dataset is None or depth is None or model.spec is None:
        waiting = "computing …" if model.waiting or depth is None else "The point lies outside this model's crop."
        return Shown(message=model.message or waiting)
    layers = dataset.sizes["layer"]
    layer = depth.index(layers)
    used = str(dataset["query_used"].values[layer])
    if used == "none":
        return Shown(message="In this layer only CLS asks: choose the CLS query.")
    one = maps.choose_head(maps.layer_heads(dataset["attention"], layer), head)
    said = " · mean of patches (no CLS)" if query == "cls" and used == "mean" else ""
    even = 1 / maps.keys_seen(model.spec.layers[layer])
    return Shown(one.values, even, f"layer {layer + 1} of {layers} · {one.head}{said}")


def panel(model: ModelResult, one: Shown, chosen: Drawing) -> Panel:
    """One model's panel."""
    geometry = model.geometries[0] if model.geometries else None
    if one.values is None:
        return Panel(model.title, model.colour, geometry=geometry, message=one.message, waiting=model.waiting)
    values = one.values / one.even if chosen.values == "times even" else one.values
    return Panel(
        model.title,
        model.colour,
        one.note,
        geometry,
        values,
        mask=maps.mass_mask(values, chosen.tau) if chosen.show != "map" else None,
        contour_only=chosen.show == "both",
        scale=None if chosen.shared else Scale.over([values], chosen.units),
    )


def table(datasets: Mapping[str, xr.Dataset], depth: Depth) -> str:
    """The shown layer's maps as CSV: model, layer, head, row and column from 1, attention weight."""
    lines = ["model,layer,head,row,column,attention_weight"]
    for name, dataset in datasets.items():
        layer = depth.index(dataset.sizes["layer"])
        for head, values in enumerate(maps.layer_heads(dataset["attention"], layer)):
            for (row, column), value in np.ndenumerate(values):
                lines.append(f'"{name}",{layer + 1},{head + 1},{row + 1},{column + 1},{value:.8g}')
    return "\n".join(lines) + "\n"


def page() -> None:
    """Draw the page."""
    selection = sidebar()
    frame.header("Where does each model look?")
    row = frame.controls()
    query, point = controls.linked_query()
    outcome = attention(selection, query, point)
    specs = [model.spec for model in outcome.models]
    with row:
        depth = controls.layer(specs, waiting=bool(outcome.jobs))
        head = controls.head(specs)
        controls.query()
        chosen = drawing.popover()
    maps_shown = [shown(model, depth, head, query) for model in outcome.models]
    drawn = [panel(model, one, chosen) for model, one in zip(outcome.models, maps_shown, strict=True)]
    arrays = [p.values for p in drawn if p.values is not None]
    scale = Scale.over(arrays, chosen.units) if arrays and chosen.shared else None
    picture = selection.images[0]
    panels.patch_panels(picture, drawn, scale=scale, look=chosen.look, key="panels", point=point, on_pick=controls.pick)
    computing.show_progress(outcome)
    found = [
        reading.concentration(model.title, one.values, chosen.tau)
        for model, one in zip(outcome.models, maps_shown, strict=True)
        if one.values is not None
    ]
    said = reading.sentence(found, chosen.tau, QUERY_TEXT[query], head_text(head), n=1)
    st.markdown(said)
    ready = outcome.ready("attention-maps")

    def document() -> str:
        heading = f"{pictures.title(picture)}: attention of {QUERY_TEXT[query]}"
        return export.svg(picture, drawn, scale=scale, look=chosen.look, title=heading, caption=said)

    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name=f"attention-{picture.replace(':', '-')}",
        png=(lambda: export.png(document())) if ready else None,
        svg=document if ready else None,
        csv=(lambda: table(ready, depth)) if ready and depth else None,
    )
    if depth is not None:
        layer_views.draw(outcome, depth, picture, chosen.look, point)


def head_text(head: str) -> str:
    """Which head it is, at the start of a sentence."""
    return {"mean": "Mean over heads", "max": "Maximum over heads"}.get(head, f"Head {head}")
