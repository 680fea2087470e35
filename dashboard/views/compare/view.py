"""Attention of several models on a few images, a row for each: the page that opens first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult, Outcome
from dashboard.controls import choices, map_options, object_masks
from dashboard.controls.map_options import MapOptions
from dashboard.controls.sidebar import DEFAULT_MODELS
from dashboard.draw import components, head_maps, panels, sentences
from dashboard.draw.frame import Help
from dashboard.draw.panels import Panel, Row, Scale
from dashboard.images import gallery, masks
from dashboard.state.selection import Depth, Point, Selection
from dashboard.view import Answer, Images, Page, Shown, View
from dashboard.views.compare import below
from probes.core.saliency import overlap

MOST_ROWS = 4
MOST_ABREAST = 6
"""Pictures beside each other on a wide screen; more are drawn in two lines."""
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


@dataclass(frozen=True)
class Chosen:
    """What the controls say: layer, head, whose attention, the clicked point, and how maps look."""

    depth: Depth
    head: str
    query: str
    point: Point | None
    maps: MapOptions


@dataclass(frozen=True)
class HeadMap:
    """One model's map of the chosen layer and head on one image, or why there is none.

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


def head_map(model: ModelResult, chosen: Chosen) -> HeadMap:
    """The map of one model."""
    dataset = model.datasets.get("attention-maps")
    if dataset is None or model.spec is None:
        return HeadMap(message=model.message)
    layers = dataset.sizes["layer"]
    layer = chosen.depth.index(layers)
    used = str(dataset["query_used"].values[layer])
    if used == "none":
        return HeadMap(message="In this layer only CLS asks: choose the CLS query.")
    one = head_maps.choose_head(head_maps.layer_heads(dataset["attention"], layer), chosen.head)
    if not np.isfinite(one.values).all():
        return HeadMap(message="The point lies outside this model's crop.")
    said = " · mean of patches (no CLS)" if chosen.query == "cls" and used == "mean" else ""
    even = 1 / model.spec.layers[layer].reach
    return HeadMap(one.values, even, f"layer {layer + 1} of {layers} · {one.head}{said}")


def panel(model: ModelResult, one: HeadMap, chosen: MapOptions) -> Panel:
    """One model's panel."""
    if one.values is None:
        return panels.pending(model, one.message)
    values = one.values / one.even if chosen.values == "times even" else one.values
    own = None if chosen.shared else Scale.over([values], chosen.units)
    return panels.of_model(model, one.note, values, scale=own, **chosen.masked(values))


def on_object(picture: str, key: str, outcome: Outcome, found: Sequence[HeadMap], query: str) -> str:
    """What part of each model's map lies on the object of the picture, in words; empty where none is known."""
    shares: dict[str, float] = {}
    areas: list[float] = []
    for model, one in zip(outcome.models, found, strict=True):
        if key and one.values is not None:
            geometry = model.geometries[0]
            covered = masks.covered(picture, key, geometry, one.values.shape)
            mask = masks.mask(picture, key)
            shares[model.title] = overlap(one.values, mask, geometry, 0.6, covered).mass_inside
            areas.append(float(covered.mean()))
    return sentences.on_object(shares, areas, masks.named(key), query)


def row(picture: str, outcome: Outcome, found: Sequence[HeadMap], chosen: Chosen) -> Row:
    """One image under all models, its object outlined where it is known."""
    key = object_masks.key_of(picture)
    return Row(
        picture,
        [panel(model, one, chosen.maps) for model, one in zip(outcome.models, found, strict=True)],
        note=on_object(picture, key, outcome, found, choices.QUERY_TEXT[chosen.query]),
        outline=masks.outlined(picture, key) if key else None,
        outline_of=masks.named(key) if key else "",
        point=chosen.point,
        clickable=True,
    )


def table(each: Mapping[str, Outcome], depth: Depth) -> pd.DataFrame:
    """The shown layer's maps of every image: model, layer, head, row and column from 1, attention weight."""
    parts = [
        head_maps.table(dataset["attention"], depth.index(dataset.sizes["layer"])).assign(image=picture, model=name)
        for picture, outcome in each.items()
        for name, dataset in outcome.ready("attention-maps").items()
    ]
    together = pd.concat(parts, ignore_index=True)
    return together[["image", "model", *(name for name in together if name not in ("image", "model"))]]


def in_words(found: Sequence[tuple[str, HeadMap]], chosen: Chosen, images: int) -> str:
    """How concentrated the maps of all rows are, in one sentence, and which patch was asked.

    Args:
        found: model's title and map, of every row.
        chosen: what the controls say.
        images: how many rows there are.
    """
    tau = chosen.maps.tau
    counted = [sentences.concentration(name, one.values, tau) for name, one in found if one.values is not None]
    head = {"mean": "Mean over heads", "max": "Maximum over heads"}.get(chosen.head, f"Head {chosen.head}")
    said = sentences.sentence(counted, tau, choices.QUERY_TEXT[chosen.query], head, n=images)
    if said and chosen.point and images > 1:
        across, down = (sentences.percent(value) for value in chosen.point)
        said += f" The clicked patch is the one at {across} of the width and {down} of the height, in every image."
    return said


def controls(selection: Selection) -> Chosen:
    """Draw layer, head, query, and how maps look."""
    specs = asking.known(selection)
    depth, head = choices.layer(specs), choices.head(specs)
    query, point = choices.query()
    return Chosen(depth, head, query, point, map_options.popover())


def shown(answer: Answer[Chosen]) -> Shown:
    """A row for each image, all on one scale."""
    chosen, images = answer.chosen, answer.selection.images
    found = [[head_map(model, chosen) for model in outcome.models] for outcome in answer.each]
    rows = [row(i, outcome, one, chosen) for i, outcome, one in zip(images, answer.each, found, strict=True)]
    named = [
        (model.title, one)
        for outcome, ones in zip(answer.each, found, strict=True)
        for model, one in zip(outcome.models, ones, strict=True)
    ]
    count = len(answer.selection.models)
    maps = chosen.maps
    ready = any(outcome.ready("attention-maps") for outcome in answer.each)
    return Shown(
        f"{', '.join(map(gallery.title, images))}: attention of {choices.QUERY_TEXT[chosen.query]}",
        rows,
        scale=panels.shared_scale(rows, maps.units, most=True) if maps.shared else None,
        look=replace(maps.look, columns=count + 1 if count < MOST_ABREAST else 0),
        said=in_words(named, chosen, len(rows)),
        table=(lambda: table(dict(zip(images, answer.each, strict=True)), chosen.depth)) if ready else None,
    )


def more(answer: Answer[Chosen], shown: Shown) -> None:
    """Statistics over the layers, and all heads of the shown layer on the first image."""
    below.draw(answer.outcome, answer.each[0], answer.chosen.depth, shown.rows[0], answer.chosen.maps.look)


DEFAULT_IMAGES = ("photo:coffee", "scene:0")


def asks(_: object) -> list[Ask]:
    """Statistics are means over all images."""
    return [Ask("attention-statistics")]


def maps_of_each(query: str, point: Point | None) -> list[Ask]:
    """Maps belong to one image."""
    return [Ask("attention-maps", {"query": choices.asked(query, point)})]


def prepare(patience: float) -> None:
    """Compute what the page shows to those who come without a link.

    Args:
        patience: wait for it at most this many seconds.
    """
    asking.prepare(asks(None), maps_of_each("cls", None), DEFAULT_MODELS, DEFAULT_IMAGES, patience)
    for image in gallery.offered():
        gallery.data_uri(image, components.THUMBNAIL_SIDE)


VIEW = View(
    Page("Attention side by side", section="Compare", order=0, default=True),
    "Where does each model look?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    asks_each=lambda chosen: maps_of_each(chosen.query, chosen.point),
    images=Images(several=True, default=DEFAULT_IMAGES, most=MOST_ROWS),
    size="linked",
    below=more,
)
