"""Under the panels of the comparison: attention statistics over the layers, and all heads of the shown layer."""

from dataclasses import replace

import numpy as np
import streamlit as st

from dashboard.compute.asking import Outcome
from dashboard.controls import choices
from dashboard.draw import charts, frame, head_maps, panels
from dashboard.draw.charts import ATTENTION_STATISTICS
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel, Row, Scale
from dashboard.images import gallery
from dashboard.state.selection import Depth

READ = """
A small point is a head, the line joins the layers' means; the large mark is the layer shown above. **Entropy** is high
where queries spread their attention evenly, 0 where each looks at one token. **Mutual information** is 0 where all
queries attend alike. The **masses** say what patch queries give to each kind of token. All are means over patch
queries, whatever query is drawn above.
"""


def draw(outcome: Outcome, first: Outcome, depth: Depth, row: Row, look: Look) -> None:
    """Draw the two tabs; the closed one costs nothing.

    Args:
        outcome: statistics, over all images.
        first: maps of the first image.
        depth: the layer shown above.
        row: the first image's row.
        look: how maps are drawn.
    """
    over, heads = st.tabs(["Over the layers", "All heads of the layer"], key="below", on_change="rerun")
    if over.open:
        with over:
            _statistics(outcome, depth)
    if heads.open:
        with heads:
            _heads(first, depth, row, look)


def _statistics(outcome: Outcome, depth: Depth) -> None:
    ready = outcome.ready("attention-statistics")
    if not ready:
        st.skeleton(height=320)
        return
    has = [name for name in ATTENTION_STATISTICS if any(dataset[name].notnull().any() for dataset in ready.values())]
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    with left:
        variable = st.selectbox(
            "Statistic",
            has,
            key="statistic",
            bind="query-params",
            format_func=lambda name: ATTENTION_STATISTICS[name].capitalize(),
        )
    with right.popover("How to read", width="stretch"):
        st.markdown(READ)
    at = {name: depth.index(dataset.sizes["layer"]) for name, dataset in ready.items()}
    figure = charts.over_layers(ready, variable, outcome.colours, label=ATTENTION_STATISTICS[variable], at=at)
    frame.chart(
        figure,
        key="statistics",
        alt=f"{ATTENTION_STATISTICS[variable].capitalize()} of {', '.join(ready)} over layers",
    )
    n = next(iter(ready.values())).attrs.get("n", 1)
    st.caption(f"n = {n} image{'s' * (n > 1)}. A point a head, the line the mean over heads.")


def _heads(outcome: Outcome, depth: Depth, row: Row, look: Look) -> None:
    shown = False
    most = max((layer.heads for m in outcome.models if m.spec for layer in m.spec.layers), default=1)
    columns = min(max(most, 6), 12)
    for model in outcome.models:
        dataset = model.datasets.get("attention-maps")
        if dataset is None:
            continue
        layer = depth.index(dataset.sizes["layer"])
        values = head_maps.layer_heads(dataset["attention"], layer)
        if not np.isfinite(
            values
        ).all():  # nothing asks in this layer, or the point lies outside of what the model sees
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
            row.picture,
            drawn,
            scale=scale,
            look=replace(look, original=False, compact=True, columns=columns),
            key=f"heads-{model.title}",
            point=row.point,
            on_pick=choices.pick,
        )
    said = f"{gallery.title(row.picture)}. One scale for the heads of a model, another for each model."
    st.caption(said if shown else "Nothing to show yet.")
