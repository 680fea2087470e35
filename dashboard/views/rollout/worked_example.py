"""The worked example: rollout on a toy, every matrix drawn as numbers."""

import streamlit as st

from dashboard.controls import choices
from dashboard.views.rollout import toy
from dashboard.views.rollout.conventions import TITLES


def worked_example(fusion: str, discard: float) -> None:
    """The same arithmetic on CLS and four patches, every matrix as numbers."""
    st.header("Step by step, on CLS and four patches", anchor=False)
    convention = choices.one_of("Convention", TITLES, "toy")
    st.html(toy.STYLE)
    for index, row in enumerate(toy.layers(fusion, discard, convention), start=1):
        st.markdown(f"Layer {index}")
        st.html(toy.html(row))
    st.markdown("Through both layers: rows of the product say what each token is mixed from; the framed one is shown.")
    st.html(toy.html(toy.product(fusion, discard, convention)))
