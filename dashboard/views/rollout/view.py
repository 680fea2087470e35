"""Attention rollout of several models on one image, in both conventions, and worked out on a toy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
import xarray as xr
from scipy.stats import spearmanr

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult, Value
from dashboard.controls import choices, map_options
from dashboard.controls.map_options import MapOptions
from dashboard.draw import head_maps, panels
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Row, Scale
from dashboard.draw.sentences import percent
from dashboard.images import gallery
from dashboard.state.selection import Selection
from dashboard.view import Answer, Page, Shown, View
from dashboard.views.rollout import toy

CONVENTIONS = {"paper": "share of the row", "vit-explain": "relative to each map's maximum"}
TITLES = {"paper": "As in the paper", "vit-explain": "As vit-explain computes it"}
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
    own = None if chosen.shared else Scale.over([values], CONVENTIONS[convention])
    return panels.of_model(model, note, values, scale=own, **chosen.masked(values))


def agreement(a: xr.Dataset, b: xr.Dataset) -> float:
    """Spearman's rank correlation between two rollout maps; NaN where one has no map or is constant."""
    x, y = a["rollout"].values[0].ravel(), b["rollout"].values[0].ravel()
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(spearmanr(x, y).statistic)


def reading(datasets: Mapping[str, Mapping[str, xr.Dataset]], tau: float) -> str:
    """What the maps say, a sentence a model: convention to title to dataset."""
    said = []
    for name, dataset in datasets["paper"].items():
        values = dataset["rollout"].values[0]
        if np.isnan(values).all():
            continue
        count = int(head_maps.mass_mask(values, tau).sum())
        text = f"**{name}**: {percent(tau)} of what reaches patches falls on {count} of {values.size}"
        other = datasets.get("vit-explain", {}).get(name)
        if other is not None and np.isfinite(rho := agreement(dataset, other)):
            text += f"; the two conventions order the patches alike to ρ = {number(rho)}"
        said.append(f"{text}.")
    if said:
        said.append(f"Even would be {percent(tau)} of the patches. ρ: Spearman. n = 1 image.")
    return "  \n".join(said)


def controls(selection: Selection) -> Chosen:
    """Draw fusion, discard, the first layer, and how maps look."""
    fusion = choices.one_of("Heads", ["mean", "max", "min"], "fusion", help="How a layer's heads become one matrix.")
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
        "From layer", 1, most, 1, key="start", bind="query-params", help="Earlier layers are left out of the product."
    )
    return Chosen(fusion, discard, start - 1, map_options.popover())


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
    scales = [panels.shared_scale([row], units) for row, units in zip(rows, CONVENTIONS.values(), strict=True)]
    ready = {name: outcome.ready(name) for name in CONVENTIONS}
    return Shown(
        f"{gallery.title(picture)}: attention rollout",
        [replace(row, scale=scale) for row, scale in zip(rows, scales, strict=True)] if chosen.shared else rows,
        look=chosen.look,
        said=reading(ready, chosen.tau),
        table={f"{model}, {name}": dataset for name, found in ready.items() for model, dataset in found.items()},
    )


def worked_example(answer: Answer[Chosen], _: Shown) -> None:
    """The same arithmetic on CLS and four patches, every matrix as numbers."""
    st.subheader("Step by step, on CLS and four patches", anchor=False)
    convention = choices.one_of("Convention", TITLES, "toy")
    st.html(toy.STYLE)
    for index, row in enumerate(toy.layers(answer.chosen.fusion, answer.chosen.discard, convention), start=1):
        st.markdown(f"Layer {index}")
        st.html(toy.html(row))
    st.markdown("Through both layers: rows of the product say what each token is mixed from; the framed one is shown.")
    st.html(toy.html(toy.product(answer.chosen.fusion, answer.chosen.discard, convention)))


VIEW = View(
    Page("Rollout", section="Attention", order=20),
    "What is the output mixed from?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    size="linked",
    below=worked_example,
)
