"""One column a model, with the model's name and colour above, for pictures that lie over no image."""

from collections.abc import Mapping
from html import escape

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.draw import palette


def across(count: int, most: int) -> int:
    """Columns of a row: all models in one where they fit, else rows of about the same length; a lone one has half."""
    return max(count if count <= most else -(-count // 2), 2)


def columns(notes: Mapping[str, str], colours: Mapping[str, str], *, most: int) -> dict[str, DeltaGenerator]:
    """Draw the headings and return where each model's picture goes.

    Args:
        notes: model to what its picture is, in the order of the models.
        colours: model to colour, or to any CSS background.
        most: models that fit into one row; there are at most twice as many.
    """
    wide = across(len(notes), most)
    names = list(notes)
    found = {}
    for start in range(0, len(names), wide):
        row = names[start : start + wide]
        for name, place in zip(row, st.columns(wide, gap="medium", wrap=True), strict=False):
            place.html(heading(name, notes[name], colours[name]))
            found[name] = place
    return found


def heading(name: str, note: str, colour: str) -> str:
    """A model's name with its colour above and a note below, as HTML."""
    line = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    return (
        f'<div style="height:4px;background:{colour}"></div><div style="padding-top:0.35rem;line-height:1.25">'
        f'<div style="font-weight:600;{line}" title="{escape(name)}">{escape(name)}</div>'
        f'<div style="font-size:0.85rem;opacity:0.75">{escape(note)}</div></div>'
    )


def bar(low: str, high: str, *, signed: bool = False) -> None:
    """Draw the one colour bar of all pictures: what its ends are, with units."""
    st.html(
        '<div style="display:flex;align-items:center;gap:0.6rem;font-size:0.85rem">'
        f'<span>{escape(low)}</span><span style="flex:0 1 22rem;min-width:3rem;height:0.7rem;border-radius:2px;'
        f'background:{palette.css_gradient(signed=signed)}"></span><span>{escape(high)}</span></div>'
    )
