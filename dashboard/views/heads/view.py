"""All heads of all layers of a model as one picture, and the chosen ones enlarged."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices, map_options
from dashboard.controls.map_options import MapOptions
from dashboard.draw import head_maps, panels
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Row, Scale
from dashboard.images import gallery
from dashboard.state.selection import Point, Selection
from dashboard.view import Answer, Page, Shown, View
from dashboard.views.heads import overview, statistics
from dashboard.views.heads.maps import most_focused, table
from dashboard.views.heads.mosaic import tiles

SCALES = {"shared": "one for all", "own": "each map its own"}
HOW = """
**Every map of a model in one picture**: layers from left to right, heads from top to bottom. Yellow patches receive
much attention from the query. Click a map to enlarge it below; click a patch there to ask that patch in all heads.

- *One for all*: the colours of all models end at the same value, the 99th percentile of all values shown; what lies
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


@dataclass(frozen=True)
class Chosen:
    """What the controls say: whose attention, the clicked point, key of ``SCALES``, and how enlarged maps look."""

    query: str
    point: Point | None
    scales: str
    maps: MapOptions


def panel(model: ModelResult, index: int, chosen: MapOptions, query: str = "cls") -> Panel:
    """The chosen head of the n-th model, enlarged."""
    dataset = model.datasets.get("attention-maps")
    if dataset is None:
        return panels.pending(model)
    layer, head = overview.chosen_head(dataset, index)
    values = head_maps.layer_heads(dataset["attention"], layer)[head]
    if model.spec:
        values = chosen.drawn(values, model.spec.layers[layer].shared_by(str(dataset["query_used"].values[layer])))
    if not np.isfinite(values).all():
        nobody = str(dataset["query_used"].values[layer]) == "none"
        outside = "The point lies outside this model's crop."
        return panels.pending(model, "No such token asks in this layer." if nobody else outside)
    own = None if chosen.shared else Scale.over([values], chosen.units)
    answering = choices.answering(model.spec.layers[layer], query) if model.spec else ""
    note = f"layer {layer + 1}, head {head + 1}" + (f" · {answering}" if answering else "")
    return panels.of_model(model, note, values, scale=own, **chosen.masked(values))


def controls(selection: Selection) -> Chosen:
    """Draw query, colours of the overview, and how enlarged maps look."""
    query, point = choices.query()
    scales = choices.one_of("Colours of the overview", SCALES, "overview")
    return Chosen(query, point, scales, map_options.popover(map_options.tokens(asking.known(selection))))


def shown(answer: Answer[Chosen]) -> Shown:
    """The chosen head of each model, and which one is the most focused."""
    chosen, outcome, picture = answer.chosen, answer.outcome, answer.selection.images[0]
    drawn = [panel(model, i, chosen.maps, chosen.query) for i, model in enumerate(outcome.models)]
    row = Row(picture, drawn, point=chosen.point, clickable=True)
    ready = outcome.ready("attention-maps")
    groups = {name: found for name, dataset in ready.items() if (found := tiles(dataset["attention"]))}
    said = f"Query: {choices.QUERY_TEXT[chosen.query]}; n = 1 image, weights as used."
    shared, title = chosen.scales == "shared", f"{gallery.title(picture)}: what does every head look at?"
    return Shown(
        f"{gallery.title(picture)}: chosen heads",
        [row],
        scale=panels.shared_scale([row], chosen.maps.units, most=True) if chosen.maps.shared else None,
        look=chosen.maps.look,
        said=f"{most_focused(groups, chosen.maps.tau)}  \n{said}",
        table=(lambda: table(ready)) if ready else None,
        overview=partial(overview.document, outcome, chosen.maps, shared=shared, title=title) if groups else None,
    )


def above(answer: Answer[Chosen], _: Shown) -> None:
    """Every map of every model, to be clicked."""
    chosen = answer.chosen
    high = overview.draw(answer.outcome, chosen.maps, shared=chosen.scales == "shared")
    ends = (
        f"All colours end at {number(high)} {chosen.maps.units}, the 99th percentile."
        if high
        else "Every map has a scale of its own."
    )
    st.caption(f"{ends} Query: {choices.QUERY_TEXT[chosen.query]}, or the mean over patches in layers without CLS.")


VIEW = View(
    Page("All heads", section="Attention", order=10),
    "What does every head look at?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [
        Ask("attention-maps", {"query": choices.asked(chosen.query, chosen.point)}),
        Ask("attention-statistics"),
    ],
    size="linked",
    overlays=True,
    above=above,
    below=lambda answer, _: statistics.draw(answer.outcome),
)
