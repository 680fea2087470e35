"""Attention of several models on a few images, a row for each: the page that opens first."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult, Outcome
from dashboard.controls import choices, map_options, object_masks
from dashboard.controls.map_options import MapOptions
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Panel, Row, Scale
from dashboard.images import gallery, masks
from dashboard.state.selection import Depth, Point, Selection
from dashboard.view import Answer, Images, Page, Shown, View
from dashboard.views.compare import below, photographs
from dashboard.views.compare.maps_of_heads import HeadMap, head_maps_of, in_words, on_object, table

DEFAULT_IMAGES = ("scene:0", "photo:coffee")
ASKS = [Ask("attention-statistics")]
"""Statistics are means over all images."""
MOST_ROWS = 4
HOW = """
A row is one image: first the image itself, then under each model. **Yellow patches receive much attention** from the
query, purple ones less; where it is low the image is seen in grey. *Flat maps* draws the colours alone. All pictures in
all rows share one scale unless you choose otherwise: attention weights, or *times even* where the models' numbers of
tokens differ, as many tokens share the same attention in smaller parts. Where a few patches tower above the rest, the
highest hundredth shares the last colour, and the bar says *or more*; the pointer tells the value. Choose images in the
strip on the left; four fit.

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


def panel(model: ModelResult, one: HeadMap, chosen: MapOptions) -> Panel:
    """One model's panel."""
    if one.values is None:
        return panels.pending(model, one.message)
    values = chosen.drawn(one.values, one.tokens)
    own = None if chosen.shared else Scale.over([values], chosen.units)
    return panels.of_model(model, one.note, values, scale=own, **chosen.masked(values))


def row(picture: str, outcome: Outcome, found: Sequence[HeadMap], chosen: Chosen) -> Row:
    """One image under all models, its object outlined where it is known."""
    key = object_masks.key_of(picture)
    measured = on_object(picture, key, outcome, found, choices.QUERY_TEXT[chosen.query])
    learned = photographs.said(picture, [model.model for model in outcome.models])
    return Row(
        picture,
        [panel(model, one, chosen.maps) for model, one in zip(outcome.models, found, strict=True)],
        note="  \n".join(filter(None, [measured, learned])),
        outline=masks.outlined(picture, key) if key else None,
        outline_of=masks.named(key) if key else "",
        point=chosen.point,
        clickable=True,
    )


def controls(selection: Selection) -> Chosen:
    """Draw layer, head, query, and how maps look."""
    specs = asking.known(selection)
    depth, head = choices.layer(specs), choices.head(specs)
    query, point = choices.query()
    return Chosen(depth, head, query, point, map_options.popover(map_options.tokens(specs, depth)))


def shown(answer: Answer[Chosen]) -> Shown:
    """A row for each image, all on one scale."""
    chosen, images = answer.chosen, answer.selection.images
    found = [head_maps_of(outcome, chosen.depth, chosen.head, chosen.query) for outcome in answer.each]
    rows = [row(i, outcome, one, chosen) for i, outcome, one in zip(images, answer.each, found, strict=True)]
    maps = chosen.maps
    ready = any(outcome.ready("attention-maps") for outcome in answer.each)
    return Shown(
        f"{', '.join(map(gallery.title, images))}: attention of {choices.QUERY_TEXT[chosen.query]}",
        rows,
        scale=panels.shared_scale(rows, maps.units, most=True) if maps.shared else None,
        look=maps.look,
        said=in_words(answer.each, found, tau=maps.tau, head=chosen.head, query=chosen.query, point=chosen.point),
        table=(lambda: table(dict(zip(images, answer.each, strict=True)), chosen.depth)) if ready else None,
    )


def more(answer: Answer[Chosen], shown: Shown) -> None:
    """Statistics over the layers, and all heads of the shown layer on the first image."""
    below.draw(answer.outcome, answer.each[0], answer.chosen.depth, shown.rows[0], shown.look)


def maps_of_each(query: str, point: Point | None) -> list[Ask]:
    """Maps belong to one image."""
    return [Ask("attention-maps", {"query": choices.asked(query, point)})]


VIEW = View(
    Page("Attention side by side", section="Compare", order=0, default=True),
    "Where does each model look?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda _: ASKS,
    asks_each=lambda chosen: maps_of_each(chosen.query, chosen.point),
    images=Images(several=True, default=DEFAULT_IMAGES, most=MOST_ROWS),
    size="linked",
    overlays=True,
    below=more,
)
