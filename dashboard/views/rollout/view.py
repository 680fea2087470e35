"""Attention rollout of several models on one image, in both conventions, and worked out on a toy."""

from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st
import xarray as xr
from scipy.stats import spearmanr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult, Outcome
from dashboard.compute.results import Value
from dashboard.controls import map_options
from dashboard.controls.map_options import Drawing
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, head_maps, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Scale
from dashboard.draw.sentences import percent
from dashboard.images import gallery
from dashboard.page import Page
from dashboard.views.rollout import toy

PAGE = Page("Rollout", section="Attention", order=20)

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


def panel(model: ModelResult, dataset: xr.Dataset | None, convention: str, chosen: Drawing) -> Panel:
    """One model's panel in one convention."""
    geometry = model.geometries[0] if model.geometries else None
    if dataset is None:
        message = model.message or "computing …"
        return Panel(model.title, model.colour, geometry=geometry, message=message, waiting=model.waiting)
    values = dataset["rollout"].values[0]
    if np.isnan(values).all():
        message = "Nothing of this row reaches a patch: all of it was discarded. Discard less."
        return Panel(model.title, model.colour, geometry=geometry, message=message)
    used = {"cls": "from CLS", "pool": "from the pooling query", "mean": "from the mean of patches (no CLS)"}
    note = used[str(dataset["query_used"].values)]
    if convention == "paper":
        note += f" · {percent(float(dataset['prefix_share'][0]))} stays on prefix tokens"
    return Panel(
        model.title,
        model.colour,
        note,
        geometry,
        values,
        mask=head_maps.mass_mask(values, chosen.tau) if chosen.show != "map" else None,
        contour_only=chosen.show == "both",
        scale=None if chosen.shared else Scale.over([values], CONVENTIONS[convention]),
    )


def shared_scale(drawn: Sequence[Panel], convention: str, chosen: Drawing) -> Scale | None:
    """One scale for all panels of a convention."""
    arrays = [p.values for p in drawn if p.values is not None]
    return Scale.over(arrays, CONVENTIONS[convention]) if arrays and chosen.shared else None


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


def page() -> None:
    """Draw the page."""
    selection = sidebar()
    frame.header("What is the output mixed from?")
    row = frame.controls()
    layout = asking.compute({}, selection, size=map_options.linked_size())
    with row:
        fusion = st.segmented_control(
            "Heads",
            ["mean", "max", "min"],
            default="mean",
            required=True,
            key="fusion",
            bind="query-params",
            help="How the heads of a layer become one matrix.",
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
        start = _start(layout)
        chosen = map_options.popover()
    params: dict[str, Value] = {"fusion": fusion, "discard": discard, "start": start}
    outcomes: dict[str, Outcome] = {
        convention: asking.compute(
            {"attention-rollout": {**params, "convention": convention}}, selection, size=map_options.linked_size()
        )
        for convention in CONVENTIONS
    }
    picture, shown = selection.images[0], {}
    for index, (convention, outcome) in enumerate(outcomes.items()):
        drawn = [panel(m, m.datasets.get("attention-rollout"), convention, chosen) for m in outcome.models]
        scale = shared_scale(drawn, convention, chosen)
        shown[convention] = (drawn, scale)
        st.markdown(f"**{TITLES[convention]}**")
        look = chosen.look
        panels.patch_panels(picture, drawn, scale=scale, look=look, key=f"rollout-{index}")
    busy = next((outcome for outcome in outcomes.values() if outcome.jobs or outcome.failures), outcomes["paper"])
    asking.show_progress(busy)
    ready = {convention: outcome.ready("attention-rollout") for convention, outcome in outcomes.items()}
    said = reading(ready, chosen.tau)
    st.markdown(said)

    def document() -> str:
        drawn, scale = shown["paper"]
        title = f"{gallery.title(picture)}: attention rollout"
        return export.svg(picture, drawn, scale=scale, look=chosen.look, title=title, caption=said.replace("*", ""))

    table = {f"{name}, {convention}": d for convention, found in ready.items() for name, d in found.items()}
    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name=f"rollout-{picture.replace(':', '-')}",
        png=(lambda: export.png(document())) if ready["paper"] else None,
        svg=document if ready["paper"] else None,
        csv=(lambda: frame.csv(table)) if table else None,
    )
    worked_example(fusion, discard)


def _start(layout: Outcome) -> int:
    """The slider of the first layer, from 1 as all layers are for a reader; returned from 0."""
    depths = [sum(layer.kind == "global" for layer in m.spec.layers) for m in layout.models if m.spec]
    most = max(min((d for d in depths if d), default=1), 2)
    first = st.slider(
        "From layer", 1, most, 1, key="start", bind="query-params", help="Earlier layers are left out of the product."
    )
    return int(first) - 1


def worked_example(fusion: str, discard: float) -> None:
    """The same arithmetic on CLS and four patches, every matrix as numbers."""
    st.subheader("Step by step, on CLS and four patches", anchor=False)
    convention = st.segmented_control(
        "Convention",
        list(CONVENTIONS),
        default="paper",
        required=True,
        key="toy",
        bind="query-params",
        format_func=TITLES.__getitem__,
    )
    st.html(toy.STYLE)
    for index, row in enumerate(toy.layers(fusion, discard, convention), start=1):
        st.markdown(f"Layer {index}")
        st.html(toy.html(row))
    st.markdown("Through both layers: rows of the product say what each token is mixed from; the framed one is shown.")
    st.html(toy.html(toy.product(fusion, discard, convention)))
