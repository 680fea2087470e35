"""Attention statistics of all heads over the layers."""

import streamlit as st

from dashboard.compute.asking import Outcome
from dashboard.draw import charts, frame
from dashboard.draw.charts import ATTENTION_STATISTICS


def draw(outcome: Outcome) -> None:
    """Draw charts of entropy, mutual information and mass a token type, two in a row."""
    ready = outcome.ready("attention-statistics")
    if not ready:
        return
    st.header("How spread, how alike, onto which tokens", anchor=False)
    has = [
        name
        for name in ATTENTION_STATISTICS
        if name not in ("entropy", "mass_patch") and any(dataset[name].notnull().any() for dataset in ready.values())
    ]
    columns = st.columns(2, gap="large")
    for place, name in enumerate(has):
        label = ATTENTION_STATISTICS[name]
        drawn = charts.over_layers(ready, name, outcome.colours, label=label)
        units = "fraction of the largest possible" if name == "entropy_normalised" else "fraction of attention"
        drawn.update_yaxes(title="fraction" if name == "nmi" else units)
        drawn.update_layout(height=280, showlegend=False)
        with columns[place % 2]:
            st.markdown(f"**{label[0].upper()}{label[1:]}**")
            frame.chart(drawn, key=f"statistic-{name}", alt=f"{label} over the layers")
    n = next(iter(ready.values())).attrs.get("n", 1)
    st.caption(
        f"A small point a head, the line the mean of a layer; colours as in the sidebar. What goes to none of these "
        f"tokens goes to patches. n = {n} image."
    )
