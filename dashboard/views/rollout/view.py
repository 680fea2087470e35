"""Attention rollout of several models on one image, in both conventions, and worked out on a toy."""

from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult, Value
from dashboard.controls import choices, map_options
from dashboard.controls.glossary import meaning
from dashboard.controls.map_options import MapOptions
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Panel, Row, Scale
from dashboard.draw.sentences import percent
from dashboard.images import gallery
from dashboard.state.selection import Selection
from dashboard.view import Answer, Page, Shown, View
from dashboard.views.rollout.conventions import CONVENTIONS, EVEN, TITLES, reading
from dashboard.views.rollout.worked_example import worked_example

HOW = """
Attention is followed **through all layers**, down to the patches: yellow patches are those that CLS in the last layer
is made of, if every layer mixed its tokens as its attention says and kept half of the old ones.

- *Heads*: how the heads of a layer become one matrix.
- *Discard*: the lowest weights of each layer are set to 0 first, which sharpens the map.
- *From layer*: earlier layers are left out; from the last layer it is that layer's attention, half kept.
- **As in the paper** rows are divided by their own sums, so the map is a share. **vit-explain** divides columns by the
  sums of rows and the map by its maximum. With the mean of heads and nothing discarded the two agree up to scale.
"""
FORMULA = r"""
$$\hat A_l = \operatorname{rownorm}(F_l + I),\qquad R = \hat A_L\cdots\hat A_1,\quad \text{map} = R_{\text{CLS},\,P:}$$

with $F_l$ the heads' attention fused. vit-explain: $a=(F+I)/2$, column $j$ divided by the sum of row $j$, map divided
by its maximum. SigLIP starts from its pooling query; a model without CLS and without one from the mean of its patches.

Source: Abnar & Zuidema 2020, [arXiv:2005.00928](https://arxiv.org/abs/2005.00928);
[jacobgil/vit-explain](https://github.com/jacobgil/vit-explain).
"""
NOT_SHOWN = """
- **What decides the class**: rollout is the same whatever the output. See *Relevance* for maps of one class.
- The size of the values, the MLPs, and signs: a patch may be passed on and then ignored.
- The half that stays in each layer is an assumption, not a measurement.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: how heads are fused, what share is discarded, the first layer from 0, how maps look."""

    fusion: str
    discard: float
    start: int
    maps: MapOptions


def panel(model: ModelResult, convention: str, chosen: MapOptions) -> Panel:
    """One model's panel in one convention."""
    dataset = model.datasets.get(convention)
    if dataset is None:
        return panels.pending(model)
    values = dataset["rollout"].values[0]
    if np.isnan(values).all():
        return panels.pending(model, "Nothing of this row reaches a patch: all of it was discarded. Discard less.")
    used = {"cls": "from CLS", "pool": "from the pooling query", "mean": "from the mean of patches (no CLS)"}
    note = used[str(dataset["query_used"].values)]
    if convention == "paper":
        note += f" · {percent(float(dataset['prefix_share'][0]))} stays on prefix tokens"
    if convention == "paper" and model.spec:
        values = chosen.drawn(values, model.spec.layers[-1].keys)
    own = None if chosen.shared else Scale.over([values], units(convention, chosen))
    return panels.of_model(model, note, values, scale=own, **chosen.masked(values))


def units(convention: str, chosen: MapOptions) -> str:
    """What the drawn values are: the paper's shares can be drawn times the number of tokens that share the row."""
    return EVEN if convention == "paper" and chosen.values == "times even" else CONVENTIONS[convention]


def controls(selection: Selection) -> Chosen:
    """Draw fusion, discard, the first layer, and how maps look."""
    fusion = choices.one_of(
        "Heads", ["mean", "max", "min"], "fusion", help=meaning("head", "Here: how a layer's heads become one.")
    )
    discard = st.slider(
        "Discard lowest",
        0.0,
        0.95,
        0.0,
        0.05,
        key="discard",
        bind="query-params",
        help="Share of each layer's weights set to 0. vit-explain's own default is 0.9.",
    )
    specs = [spec for spec in asking.known(selection) if spec]
    depths = [sum(layer.kind == "global" for layer in spec.layers) for spec in specs]
    most = max(min((depth for depth in depths if depth), default=1), 2)
    start = st.slider(
        "From layer",
        1,
        most,
        1,
        key="start",
        bind="query-params",
        help=meaning("layer", "Earlier layers are left out of the product."),
    )
    return Chosen(fusion, discard, start - 1, map_options.popover(map_options.tokens(specs)))


def asks(chosen: Chosen) -> list[Ask]:
    """The same rollout in both conventions."""
    params: dict[str, Value] = {"fusion": chosen.fusion, "discard": chosen.discard, "start": chosen.start}
    return [Ask("attention-rollout", {**params, "convention": name}, name=name) for name in CONVENTIONS]


def shown(answer: Answer[Chosen]) -> Shown:
    """A row for each convention, on a scale of its own."""
    chosen, outcome, picture = answer.chosen.maps, answer.outcome, answer.selection.images[0]
    rows = [
        Row(picture, [panel(model, name, chosen) for model in outcome.models], title=TITLES[name])
        for name in CONVENTIONS
    ]
    scales = [panels.shared_scale([row], units(name, chosen)) for row, name in zip(rows, CONVENTIONS, strict=True)]
    ready = {name: outcome.ready(name) for name in CONVENTIONS}
    return Shown(
        f"{gallery.title(picture)}: attention rollout",
        [replace(row, scale=scale) for row, scale in zip(rows, scales, strict=True)] if chosen.shared else rows,
        look=chosen.look,
        said=reading(ready, chosen.tau),
        table={f"{model}, {name}": dataset for name, found in ready.items() for model, dataset in found.items()},
    )


VIEW = View(
    Page("Rollout", section="Attention", order=20),
    "What is the output mixed from?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    size="linked",
    overlays=True,
    below=lambda answer, _: worked_example(answer.chosen.fusion, answer.chosen.discard),
)
