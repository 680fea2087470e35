"""Under the panels of the comparison: attention statistics over the layers, and all heads of the shown layer."""

import streamlit as st

from dashboard.compute.asking import Outcome
from dashboard.controls import choices
from dashboard.draw import charts, frame, head_maps, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.images import gallery
from dashboard.state.selection import Depth, Point

STATISTICS = {
    "entropy": "entropy of attention",
    "entropy_normalised": "normalised entropy",
    "nmi": "mutual information of queries and keys",
    "mass_cls": "attention to CLS",
    "mass_distillation": "attention to the distillation token",
    "mass_register": "attention to registers",
    "mass_patch": "attention to patches",
}
READ = """
A small point is a head, the line joins the layers' means; the large mark is the layer shown above. **Entropy** is high
where queries spread their attention evenly, 0 where each looks at one token. **Mutual information** is 0 where all
queries attend alike. The **masses** say what patch queries give to each kind of token. All are means over patch
queries, whatever query is drawn above.
"""


def draw(outcome: Outcome, depth: Depth, picture: str, look: Look, point: Point | None) -> None:
    """Draw the two tabs; the closed one costs nothing."""
    over, heads = st.tabs(["Over the layers", "All heads of the layer"], key="below", on_change="rerun")
    if over.open:
        with over:
            _statistics(outcome, depth)
    if heads.open:
        with heads:
            _heads(outcome, depth, picture, look, point)


def _statistics(outcome: Outcome, depth: Depth) -> None:
    ready = outcome.ready("attention-statistics")
    if not ready:
        st.skeleton(height=320)
        return
    has = [name for name in STATISTICS if any(dataset[name].notnull().any() for dataset in ready.values())]
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    with left:
        variable = st.selectbox(
            "Statistic",
            has,
            key="statistic",
            bind="query-params",
            format_func=lambda name: STATISTICS[name].capitalize(),
        )
    with right.popover("How to read", width="stretch"):
        st.markdown(READ)
    at = {name: depth.index(dataset.sizes["layer"]) for name, dataset in ready.items()}
    figure = charts.over_layers(ready, variable, outcome.colours, label=STATISTICS[variable], at=at)
    frame.chart(figure, key="statistics", alt=f"{STATISTICS[variable].capitalize()} of {', '.join(ready)} over layers")
    n = next(iter(ready.values())).attrs.get("n", 1)
    st.caption(f"n = {n} image{'s' * (n > 1)}. A point a head, the line the mean over heads.")


def _heads(outcome: Outcome, depth: Depth, picture: str, look: Look, point: Point | None) -> None:
    shown = False
    most = max((layer.heads for m in outcome.models if m.spec for layer in m.spec.layers), default=1)
    columns = min(max(most, 6), 12)
    for model in outcome.models:
        dataset = model.datasets.get("attention-maps")
        if dataset is None:
            continue
        layer = depth.index(dataset.sizes["layer"])
        values = head_maps.layer_heads(dataset["attention"], layer)
        if str(dataset["query_used"].values[layer]) == "none":
            continue
        shown = True
        drawn = [
            Panel(f"head {i + 1}", model.colour, geometry=model.geometries[0], values=one)
            for i, one in enumerate(values)
        ]
        scale = Scale.over([values], "attention weight")
        span = f"scale 0 to {number(scale.high)} {scale.units}"
        st.markdown(f"**{model.title}**, layer {layer + 1} of {dataset.sizes['layer']}, {len(values)} heads, {span}")
        panels.patch_panels(
            picture,
            drawn,
            scale=scale,
            look=Look(smooth=look.smooth, opacity=look.opacity, original=False, compact=True, columns=columns),
            key=f"heads-{model.title}",
            point=point,
            on_pick=choices.pick,
        )
    said = f"{gallery.title(picture)}. One scale for the heads of a model, another for each model."
    st.caption(said if shown else "Nothing to show yet.")
