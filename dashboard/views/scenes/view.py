"""The procedural scenes that the shipped models were trained on, with their masks, in cue conflict and in motion."""

from dataclasses import dataclass
from functools import partial

import streamlit as st

from dashboard.controls import choices
from dashboard.draw.frame import Help
from dashboard.state import link
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Page, Shown, View
from dashboard.views.scenes import shape_bias, sheet

SURFACES_SHOWN = {"own": "as in training", "conflict": "cue conflict"}
HOW = """
Each scene is computed from a seed and its number: one object of ten classes on a textured background with small
distractors. Its mask is exact, because the object is drawn from a formula.

- **As in training**: a class is a shape and a typical surface (texture and palette). The surface is the class's own in
  70% of the scenes, so both are evidence, as in nature.
- **Cue conflict**: the shape of one class with the surface of another. What a model then answers says which of the two
  it goes by. The caption names both.
- **Shape bias** of a model is the share of its decisions for the shape among those for the shape or the surface: 1 goes
  by shape alone, 0 by surface alone.
"""
FORMULA = r"""
$$\text{shape bias} = \frac{\#\{\text{answer} = \text{class of the shape}\}}
{\#\{\text{answer} = \text{class of the shape}\} + \#\{\text{answer} = \text{class of the surface}\}}$$

Source: Geirhos et al. 2019, [arXiv:1811.12231](https://arxiv.org/abs/1811.12231). Models without a classifier answer
through a linear probe. These scenes are held out: `scenes:N` on the command line is the first N of them, and
`python -m model_zoo evaluate --model KEY --images scenes:2000` gives the figures.
"""
NOT_SHOWN = """
- Painted scenes are not photographs: a shape bias here need not be one there.
- The surface still hints at shape, as a texture is cut off by the outline.
- Answers that name neither the shape's nor the surface's class do not count.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: surfaces in conflict, the sheet from 1, all but the object dimmed, one scene in motion."""

    conflict: bool
    sheet: int
    outlined: bool
    moving: bool


def controls(_: Selection) -> Chosen:
    """Draw surfaces, sheet, masks and motion."""
    for name, label in SURFACES_SHOWN.items():
        if link.first("set") in (name, label):  # older links name the surfaces as others name a set of images
            st.session_state["surfaces"] = name
            link.put("set")
    conflict = choices.one_of("Surfaces", SURFACES_SHOWN, "surfaces") == "conflict"
    number = int(st.number_input("Sheet", 1, 500, 1, key="sheet", bind="query-params", width=120))
    outlined = st.toggle("Show the true masks", key="masks", bind="query-params")
    return Chosen(conflict, number, outlined, st.toggle("Show one in motion", key="moving", bind="query-params"))


def draw_sheet(answer: Answer[Chosen], _: Shown) -> None:
    """The scenes of the sheet."""
    chosen = answer.chosen
    sheet.draw(chosen.sheet, conflict=chosen.conflict, outlined=chosen.outlined, moving=chosen.moving)


def shown(answer: Answer[Chosen]) -> Shown:
    """Shape bias of the shipped models."""
    found, chosen = shape_bias.measured(), answer.chosen
    pictures = partial(sheet.document, chosen.sheet, conflict=chosen.conflict, outlined=chosen.outlined)
    if not found:
        return Shown("Scenes", table=shape_bias.table, overview=pictures)
    alt = "Shape bias of the shipped models"
    drawn = Chart(shape_bias.figure(found), "shape-bias", alt, title="By shape or by surface?")
    return Shown(
        "Scenes",
        charts=[drawn],
        said=shape_bias.reading(found),
        table=shape_bias.table,
        overview=pictures,
        charts_saved=True,
    )


VIEW = View(
    Page("Scenes", section="Models", order=85),
    "What did the shipped models see?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    images=None,
    above=draw_sheet,
)
