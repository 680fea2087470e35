"""What distances are in: pixels, or fractions of the diagonal where inputs differ in size."""

import streamlit as st

from dashboard.compute import asking
from dashboard.state import link
from dashboard.state.models import reference
from dashboard.state.selection import Selection
from model_zoo.catalog import CATALOG

UNITS = {"px": "pixels", "diagonal": "fraction of the diagonal"}


def control(selection: Selection) -> str:
    """Draw the choice and return the key of ``UNITS``; until one is chosen it follows the models."""
    linked = link.first("units")
    named = next((key for key, label in UNITS.items() if linked in (key, label)), "")
    if linked and not named:
        link.note(f"Distances cannot be in {linked[:20]!r}: use px or diagonal.")
        link.put("units")
    st.session_state["units_choice"] = named or default(selection)
    chosen: str | None = st.segmented_control(
        "Distance in",
        list(UNITS),
        key="units_choice",
        required=True,
        format_func=UNITS.__getitem__,
        help="Pixels of each model's input, or divided by its diagonal: fair between input sizes.",
        on_change=lambda: link.put("units", st.session_state["units_choice"]),
    )
    return chosen or next(iter(UNITS))


def default(selection: Selection) -> str:
    """Pixels where all models see inputs of one size, else fractions of the diagonal."""
    sizes = set()
    for model, spec in zip(selection.models, asking.known(selection), strict=True):
        entry = CATALOG.get(reference(model).key or "")
        if known := spec or entry:
            sizes.add(tuple(known.input_size))
    return "px" if len(sizes) < 2 else "diagonal"
