"""The choice of a moment of the trainings."""

from collections.abc import Sequence

import streamlit as st

from model_zoo.training.snapshots import moments


def slider(keys: Sequence[str]) -> int:
    """Draw the choice of a moment, and return the images seen until then."""
    options = sorted({moment.images for key in keys for moment in moments(key)})
    chosen = st.select_slider(
        "Images seen",
        options,
        options[-1],
        key="seen",
        bind="query-params",
        format_func=lambda count: f"{count:,}",
        help="Each model shows its last snapshot until then.",
        width=320,
    )
    return int(chosen)
