"""Attention of several models on a few images, a row for each: the page that opens first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
import xarray as xr

from dashboard import (
    components,
    computing,
    controls,
    drawing,
    export,
    frame,
    layer_views,
    maps,
    object_masks,
    panels,
    pictures,
    reading,
    results,
)
from dashboard.computing import ModelResult, Outcome, Params
from dashboard.drawing import Drawing
from dashboard.page import Page
from dashboard.panels import Panel, Scale
from dashboard.selection import Depth, Point, Selection
from dashboard.sidebar import DEFAULT_MODELS, sidebar
from probes.saliency import overlap

PAGE = Page("Attention side by side", section="Compare", order=0, default=True)

DEFAULT_IMAGES = ("photo:coffee", "scene:0")
MOST_ROWS = 4
MOST_ABREAST = 6
"""Pictures beside each other on a wide screen; more are drawn in two lines."""
QUERY_TEXT = {"cls": "the CLS query", "mean": "the mean patch query", "patch": "the clicked patch"}
HOW = """
A row is one image: first the image itself, then under each model. **Yellow patches receive much attention** from the
query, dark blue ones little; the image shows through in grey. All pictures in all rows share one scale unless you
choose otherwise. Where a few patches tower above the rest, the highest hundredth shares the last colour, and the bar
says *or more*; the pointer tells the value. Choose images in the strip on the left; four fit.

- *Query*: whose attention it is. CLS is the token most models classify with; click a patch to ask that patch in all
  models, and in every other row the patch at the same place. A layer without a CLS token shows the mean over its
  patches and says so.
- *Layer*: 1 is the first block. *Head*: the mean, the maximum, or one head.
- A scene is outlined with its object, which is known exactly; the line under it says what part of each map lies on it.
- The darkened rim is what a model never saw: its own preprocessing crops the image.
"""
FORMULA = r"""
$$A^{(l,h)} = \operatorname{softmax}\!\Big(\tfrac{QK^\top}{\sqrt{d}}\Big), \qquad m_{lh} = A^{(l,h)}_{q,\,P:}$$

with $q$ the query's row and $P$ the prefix tokens (CLS, distillation, registers), which are left out of the map. It is
not renormalised: a map sums to one minus what the prefix tokens receive. The mask at $\tau$ is the smallest set of
patches that holds the share $\tau$ of the map's own sum. On an object: $\sum_p \hat m_p c_p$ with
$\hat m = m / \sum m$ and $c_p$ the part of patch $p$ that the object covers; an even map has the object's area.

Source: Dosovitskiy et al. 2021, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929); mask: Caron et al. 2021,
[arXiv:2104.14294](https://arxiv.org/abs/2104.14294).
"""
NOT_SHOWN = """
- Attention says which tokens are **mixed**, not what decides the output: the values may be small, and later layers and
  the residual stream may undo the mixing.
- Models with more tokens spread the same attention over more patches, so their weights are smaller.
- High attention on a patch of plain background often marks a token the model uses as a register.
- A few images are a few images: the small n is said under them.
"""


def probes_of(query: str) -> dict[str, Params]:
    """What is asked of every model for one query, ``cls`` or ``mean``."""
    return {"attention-maps": {"query": query}, "attention-statistics": {}}


def prepare(patience: float) -> None:
    """Compute what the page shows to those who come without a link.

    Args:
        patience: wait for it at most this many seconds.
    """
    each = {probe: dict.fromkeys(DEFAULT_MODELS, params) for probe, params in probes_of("cls").items()}
    rows = [computing.requests(each, Selection(DEFAULT_MODELS, (image,))) for image in DEFAULT_IMAGES]
    asked = [request for row in rows for of_model in row.values() for request in of_model.values()]
    results.store().fetch(asked, "start", patience)
    for image in pictures.offered():
        pictures.data_uri(image, components.THUMBNAIL_SIDE)


def attention(selection: Selection, query: str, point: Point | None) -> Outcome:
    """Ask for maps and statistics of one image; a clicked point becomes each model's patch once that is known."""
    size = drawing.linked_size()
    if point is None:
        return computing.compute(probes_of(query), selection, size=size)
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
    even = 1 / model.spec.layers[layer].reach
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


@dataclass(frozen=True)
class Row:
    """One image under all models.

    Attributes:
        picture: its id.
        outcome: what was computed on it.
        shown: the map of each model, in order.
        panels: the same as they are drawn.
        key: names the mask of its object; empty where there is none.
        said: how much of each map lies on that object.
    """

    picture: str
    outcome: Outcome
    shown: Sequence[Shown]
    panels: Sequence[Panel]
    key: str
    said: str

    @property
    def outline(self) -> np.ndarray | None:
        """The object's mask for drawing."""
        return object_masks.outlined(self.picture, self.key) if self.key else None

    @property
    def exported(self) -> export.Row:
        """The row in the picture for a slide."""
        of = object_masks.named(self.key) if self.key else ""
        return export.Row(self.picture, self.panels, self.said.replace("*", ""), self.outline, of)


def on_object(picture: str, key: str, outcome: Outcome, found: Sequence[Shown], query: str) -> str:
    """What part of each model's map lies on the object of the picture, in words; empty where none is known."""
    shares: dict[str, float] = {}
    areas: list[float] = []
    for model, one in zip(outcome.models, found, strict=True):
        if key and one.values is not None:
            geometry = model.geometries[0]
            covered = object_masks.covered(picture, key, geometry, one.values.shape)
            mask = object_masks.mask(picture, key)
            shares[model.title] = overlap(one.values, mask, geometry, 0.6, covered).mass_inside
            areas.append(float(covered.mean()))
    return reading.on_object(shares, areas, object_masks.named(key), query)


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The first image's outcome with the work on all of them, and statistics that are means over the images."""
    models = []
    for several in zip(*(outcome.models for outcome in outcomes), strict=True):
        found = [model.datasets.get("attention-statistics") for model in several]
        datasets = dict(several[0].datasets)
        ready = [dataset for dataset in found if dataset is not None]
        if len(ready) == len(found) > 1:
            mean = xr.concat(ready, "picture", coords="minimal", compat="override").mean("picture", keep_attrs=True)
            datasets["attention-statistics"] = mean.assign_attrs(n=sum(one.attrs.get("n", 1) for one in ready))
        elif len(found) > 1:
            datasets.pop("attention-statistics", None)
        models.append(replace(several[0], datasets=datasets))
    missing, jobs, failures = (
        tuple(dict.fromkeys(one for outcome in outcomes for one in getattr(outcome, name)))
        for name in ("missing", "jobs", "failures")
    )
    return Outcome(tuple(models), missing, jobs, failures)


def table(rows: Sequence[Row], depth: Depth) -> str:
    """The shown layer's maps as CSV: image, model, layer, head, row and column from 1, attention weight."""
    lines = ["image,model,layer,head,row,column,attention_weight"]
    for one in rows:
        for name, dataset in one.outcome.ready("attention-maps").items():
            found = layer_lines(name, dataset, depth.index(dataset.sizes["layer"]))
            lines.extend(f"{one.picture},{line}" for line in found)
    return "\n".join(lines) + "\n"


def layer_lines(name: str, dataset: xr.Dataset, layer: int) -> list[str]:
    """One layer's maps of one model as lines of CSV: model, layer, head, row and column from 1, attention weight."""
    return [
        f'"{name}",{layer + 1},{head + 1},{row + 1},{column + 1},{value:.8g}'
        for head, values in enumerate(maps.layer_heads(dataset["attention"], layer))
        for (row, column), value in np.ndenumerate(values)
    ]


def page() -> None:
    """Draw the page."""
    selection = sidebar(several=True, default_images=DEFAULT_IMAGES, most=MOST_ROWS)
    images = selection.images[:MOST_ROWS]
    frame.header("Where does each model look?")
    place = frame.controls()
    query, point = controls.linked_query()
    outcomes = [attention(replace(selection, images=(image,)), query, point) for image in images]
    every = together(outcomes)
    specs = [model.spec for model in every.models]
    with place:
        depth = controls.layer(specs, waiting=bool(every.jobs))
        head = controls.head(specs)
        controls.query()
        chosen = drawing.popover()
    rows = []
    for image, outcome in zip(images, outcomes, strict=True):
        found = [shown(model, depth, head, query) for model in outcome.models]
        drawn = [panel(model, one, chosen) for model, one in zip(outcome.models, found, strict=True)]
        key = object_masks.key_of(image)
        rows.append(Row(image, outcome, found, drawn, key, on_object(image, key, outcome, found, QUERY_TEXT[query])))
    arrays = [p.values for row in rows for p in row.panels if p.values is not None]
    scale = Scale.over_most(arrays, chosen.units) if arrays and chosen.shared else None
    look = replace(chosen.look, columns=len(every.models) + 1 if len(every.models) < MOST_ABREAST else 0)
    for index, row in enumerate(rows):
        panels.patch_panels(
            row.picture, row.panels, scale=scale, look=look, key=f"panels-{index}", point=point,
            on_pick=controls.pick, outline=row.outline, outline_of=object_masks.named(row.key),
            bar=index == len(rows) - 1,
        )  # fmt: skip
        if row.said:
            st.markdown(row.said)
    if len(selection.images) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS} of the {len(selection.images)} chosen images are shown.")
    computing.show_progress(every)
    said = in_words(rows, chosen.tau, query, point, head)
    st.markdown(said)

    def document() -> str:
        names = ", ".join(pictures.title(row.picture) for row in rows)
        heading = f"{names}: attention of {QUERY_TEXT[query]}"
        drawn = [row.exported for row in rows]
        return export.rows_svg(drawn, scale=scale, look=look, title=heading, caption=said)

    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name="attention-" + "-".join(row.picture.replace(":", "-") for row in rows),
        png=(lambda: export.png(document())) if arrays else None,
        svg=document if arrays else None,
        csv=(lambda: table(rows, depth)) if arrays and depth else None,
    )
    if depth is not None:
        layer_views.draw(every, depth, rows[0].picture, chosen.look, point)


def in_words(rows: Sequence[Row], tau: float, query: str, point: Point | None, head: str) -> str:
    """How concentrated the maps of all rows are, in one sentence, and which patch was asked."""
    found = [
        reading.concentration(model.title, one.values, tau)
        for row in rows
        for model, one in zip(row.outcome.models, row.shown, strict=True)
        if one.values is not None
    ]
    said = reading.sentence(found, tau, QUERY_TEXT[query], head_text(head), n=len(rows))
    if said and point and len(rows) > 1:
        across, down = (reading.percent(value) for value in point)
        said += f" The clicked patch is the one at {across} of the width and {down} of the height, in every image."
    return said


def head_text(head: str) -> str:
    """Which head it is, at the start of a sentence."""
    return {"mean": "Mean over heads", "max": "Maximum over heads"}.get(head, f"Head {head}")
