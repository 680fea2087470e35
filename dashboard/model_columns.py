"""One column a model, with the model's name and colour above, for pictures that lie over no image."""

from collections.abc import Mapping
from html import escape

import streamlit as st
from streamlit.delta_generator import DeltaGenerator


def across(count: int, most: int) -> int:
    """Columns of a row: all models in one where they fit, else rows of about the same length; a lone one has half."""
    return max(count if count <= most else -(-count // 2), 2)


def columns(notes: Mapping[str, str], colours: Mapping[str, str], *, most: int) -> dict[str, DeltaGenerator]:
    """Draw the headings and return where each model's picture goes.

    Args:
        notes: model to what its picture is, in the order of the models.
        colours: model to colour.
        most: models that fit into one row; there are at most twice as many.
    """
    wide = across(len(notes), most)
    names = list(notes)
    found = {}
    for start in range(0, len(names), wide):
        row = names[start : start + wide]
        for name, place in zip(row, st.columns(wide, gap="medium", wrap=True), strict=False):
            place.html(_heading(name, notes[name], colours[name]))
            found[name] = place
    return found


def _heading(name: str, note: str, colour: str) -> str:
    line = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    return (
        f'<div style="border-top:4px solid {colour};padding-top:0.35rem;line-height:1.25">'
        f'<div style="font-weight:600;{line}" title="{escape(name)}">{escape(name)}</div>'
        f'<div style="font-size:0.85rem;opacity:0.75">{escape(note)}</div></div>'
    )
