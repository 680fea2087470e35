"""Under the panels: the table of scores, every head's rank, and the curves of deletion and insertion."""

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, Outcome
from dashboard.controls import progress
from dashboard.draw import frame
from dashboard.state.selection import Selection
from dashboard.views.dino_supervised import object_scores, removal_curves
from dashboard.views.dino_supervised.object_scores import Scores

MOST_CURVES = 16
"""Images that the curves are of, which take many passes each."""


def draw(scored: Mapping[str, Scores], outcome: Outcome, asked: Selection) -> None:
    """Draw the table, every head's rank, and the curves; what is closed costs nothing."""
    numbers, ranks, curves = st.tabs(["Table", "Every head", "Deletion and insertion"], key="below", on_change="rerun")
    if numbers.open:
        with numbers:
            rows = object_scores.table(scored)
            shares = {
                name: st.column_config.NumberColumn(format="%.3f") for name in rows.select_dtypes("float").columns
            }
            st.dataframe(rows, hide_index=True, column_config=shares)
    if ranks.open:
        with ranks:
            drawn = object_scores.ranking(scored, outcome.colours)
            frame.chart(drawn, key="ranks", alt="Mean IoU of every head with the object, ranked")
    if curves.open:
        with curves:
            few = replace(asked, images=asked.images[:MOST_CURVES])
            found, _ = asking.ask(
                [Ask("saliency-score", {"map": "mean", "steps": 8, "fill": "mean", "pool": "card"})], few
            )
            ready = found.ready("saliency-score")
            if ready:
                drawn = removal_curves.figure(ready, found.colours)
                frame.chart(drawn, key="curves", alt="Deletion and insertion curves")
                st.markdown(removal_curves.answer(ready))
            frame.states(found, "saliency-score")
            progress.show(found, part="curves")
