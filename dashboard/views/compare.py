"""Attention of several models on one image: the page that opens first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
import xarray as xr

from dashboard import computing, controls, export, frame, layer_views, maps, panels, pictures, reading
from dashboard.computing import ModelResult, Outcome
from dashboard.page import Page
from dashboard.panels import Look, Panel, Scale
from dashboard.results import Size
from dashboard.selection import Depth, Point, Selection
from dashboard.sidebar import sidebar

PAGE = Page("Attention side by side", section="Compare", order=0, default=True)

UNITS = {"weight": "attention weight", "times even": "times even attention"}
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


@dataclass(frozen=True)
class Options:
    """What the popover of further choices says."""

    show: str
    values: str
    smooth: bool
    shared: bool
    tau: float
    opacity: float
    size: Size


def options() -> Options:
    """Draw the popover of further choices."""
    bound = {"bind": "query-params"}
    with st.popover("More", width="stretch"):
        show = st.segmented_control(
            "Draw", ["map", "mask", "both"], default="map", required=True, key="draw", **bound,
            help="The map; the photo inside the patches that hold most of its mass; or the map with their outline.",
        )  # fmt: skip
        values = st.segmented_control(
            "Values", list(UNITS), default="weight", required=True, key="values", **bound,
            help="Times even: the weight divided by what each token would get if all got the same; fair between models "
            "with different numbers of tokens.",
        )  # fmt: skip
        tau = st.slider("Mass inside the mask", 0.1, 0.95, 0.6, 0.05, key="tau", **bound, help="0.6 in DINO's figures.")
        sampling = st.segmented_control(
            "Patches", ["exact", "smooth"], default="exact", required=True, key="patches", **bound,
            help="Exact is the truth: one value a patch. Smooth is interpolated, and only looks finer.",
        )  # fmt: skip
        scale = st.segmented_control(
            "Scale", ["shared", "per panel"], default="shared", required=True, key="scale", **bound,
            help="Per panel, colours cannot be compared between models: each has a bar of its own.",
        )  # fmt: skip
        opacity = st.slider("Opacity of the map", 0.3, 1.0, 0.8, 0.1, key="opacity", **bound)
        size = st.segmented_control(
            "Image", ["native", "uncropped"], default="native", required=True, key="size", **bound,
            help="Native is the model's published evaluation transform, which crops. Uncropped is the whole image at "
            "its own aspect ratio, with the position embeddings interpolated.",
        )  # fmt: skip
    return Options(show, values, sampling == "smooth", scale == "shared", tau, opacity, size)


def attention(selection: Selection, size: Size, query: str, point: Point | None) -> Outcome:
    """Ask for maps and statistics; a clicked point becomes each model's own patch, once it is known how it lies."""
    if query != "patch" or point is None:
        return computing.compute({"attention-maps": {"query": query}, "attention-statistics": {}}, selection, size=size)
    laid_out = computing.compute({}, selection, size=size)
    asked: dict[str, Mapping[str, str] | None] = {}
    for model in laid_out.models:
        spec = model.spec
        patch = model.geometries[0].patch_at(*point, spec.grid) if spec is not None else None
        asked[model.model] = {"query": f"{patch[0]}:{patch[1]}"} if patch else None
    every: dict[str, Mapping[str, str] | None] = {model: {} for model in selection.models}
    return computing.compute(
        {"attention-maps": asked, "attention-statistics": every}, selection, size=size, per_model=True
    )


def panel(model: ModelResult, depth: Depth | None, head: str, query: str, chosen: Options) -> Panel:
    """One model's panel: its map, or why there is none."""
    geometry = model.geometries[0] if model.geometries else None
    empty = Panel(model.title, model.colour, geometry=geometry, message=model.message, waiting=model.waiting)
    dataset = model.datasets.get("attention-maps")
    if dataset is None or depth is None:
        if model.waiting or model.message:
            return replace(empty, message=model.message or "computing …")
        return replace(empty, message="The clicked point lies outside this model's crop.")
    layers = dataset.sizes["layer"]
    layer = depth.index(layers)
    heads = maps.layer_heads(dataset["attention"], layer)
    used = str(dataset["query_used"].values[layer])
    if used == "none":
        return replace(empty, message="In this layer only CLS asks: choose the CLS query.")
    one = maps.choose_head(heads, head)
    if chosen.values == "times even" and model.spec is not None:
        one = replace(one, values=one.values * maps.keys_seen(model.spec.layers[layer]))
    said = " · mean of patches (no CLS)" if query == "cls" and used == "mean" else ""
    mask = maps.mass_mask(one.values, chosen.tau) if chosen.show != "map" else None
    scale = None if chosen.shared else Scale.over([one.values], UNITS[chosen.values])
    return replace(
        empty, note=f"layer {layer + 1} of {layers} · {one.head}{said}", values=one.values, mask=mask,
        contour_only=chosen.show == "both", scale=scale,
    )  # fmt: skip


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
    row = st.container(key="controls")
    query, point = controls.linked_query()
    size: Size = "uncropped" if st.session_state.get("size", st.query_params.get("size")) == "uncropped" else "native"
    outcome = attention(selection, size, query, point)
    specs = [model.spec for model in outcome.models]
    with row:
        wide, narrow, middle, small = st.columns([4, 1.6, 3.2, 1.2], vertical_alignment="bottom")
        with wide:
            depth = controls.layer(specs)
        with narrow:
            head = controls.head(specs)
        with middle:
            controls.query()
        with small:
            chosen = options()
    drawn = [panel(model, depth, head, query, chosen) for model in outcome.models]
    shared = [p.values for p in drawn if p.values is not None]
    scale = Scale.over(shared, UNITS[chosen.values]) if shared and chosen.shared else None
    look = Look(smooth=chosen.smooth, opacity=chosen.opacity)
    picture = selection.images[0]
    panels.patch_panels(picture, drawn, scale=scale, look=look, key="panels", point=point, on_pick=controls.pick)
    computing.show_progress(outcome)
    found = [reading.concentration(p.name, p.values, chosen.tau) for p in drawn if p.values is not None]
    if point is None or found:
        said = reading.sentence(found, chosen.tau, QUERY_TEXT[query], head_text(head), n=1)
        st.markdown(said)
    ready = outcome.ready("attention-maps")

    def document() -> str:
        heading = f"{pictures.title(picture)}: attention of {QUERY_TEXT[query]}"
        return export.svg(picture, drawn, scale=scale, look=look, title=heading, caption=said)

    frame.footer(
        how=HOW, formula=FORMULA, not_shown=NOT_SHOWN, name=f"attention-{picture.replace(':', '-')}",
        png=(lambda: export.png(document())) if ready else None,
        svg=document if ready else None,
        csv=(lambda: table(ready, depth)) if ready and depth else None,
    )  # fmt: skip
    if depth is not None:
        layer_views.draw(outcome, depth, picture, look, point)


def head_text(head: str) -> str:
    """Which head it is, at the start of a sentence."""
    return {"mean": "Mean over heads", "max": "Maximum over heads"}.get(head, f"Head {head}")
