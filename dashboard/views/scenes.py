"""The procedural scenes that the shipped models were trained on, with their masks, in cue conflict and in motion."""

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from PIL import Image

from dashboard.cache import remember
from dashboard.controls import choices
from dashboard.draw import palette
from dashboard.draw.frame import Help
from dashboard.state import link, models
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Page, Shown, View
from model_zoo.catalog import CATALOG
from model_zoo.scenes import CLASSES, Scenes
from model_zoo.textures import SURFACES

SHOWN, COLUMNS, SIDE = 18, 6, 168
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

Cards = dict[str, dict[str, float]]
"""Title of a shipped model to its figures."""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: surfaces in conflict, the sheet from 1, all but the object dimmed, one scene in motion."""

    conflict: bool
    sheet: int
    outlined: bool
    moving: bool


@remember(32 * 2**20)
def grid(first: int, conflict: bool, outlined: bool) -> tuple[tuple[Image.Image, ...], tuple[str, ...]]:
    """Pictures and captions of ``SHOWN`` held-out scenes from number ``first``; outlined dims all but the object."""
    batch = Scenes(size=SIDE, cue_conflict=conflict).batch(range(first, first + SHOWN))
    pixels = batch.images.permute(0, 2, 3, 1).numpy()
    if outlined:
        grey = (pixels.mean(-1, keepdims=True) * 0.35).astype(np.uint8)
        pixels = np.where(batch.masks.numpy()[..., None], pixels, grey)
    captions = []
    for label, surface in zip(batch.labels.tolist(), batch.surfaces.tolist(), strict=True):
        own = "own surface" if label == surface else f"surface of a {CLASSES[surface]}"
        captions.append(f"{CLASSES[label]}, {own}")
    return tuple(Image.fromarray(picture) for picture in pixels), tuple(captions)


@remember(16 * 2**20)
def clip(index: int, frames: int = 36) -> bytes:
    """A moving scene as an animated WebP: the frames, and beside each its mask."""
    batch = Scenes(size=SIDE).clip(index, frames)
    pixels = batch.images.permute(0, 2, 3, 1).numpy()
    masks = np.repeat(batch.masks.numpy()[..., None].astype(np.uint8) * 255, 3, axis=-1)
    pictures = [Image.fromarray(np.concatenate(pair, axis=1)) for pair in zip(pixels, masks, strict=True)]
    out = io.BytesIO()
    pictures[0].save(out, "WEBP", save_all=True, append_images=pictures[1:], duration=80, loop=0, quality=85)
    return out.getvalue()


def measured() -> Cards:
    """Shape bias and top-1 (of the classifier, else of the linear probe) in the cards of the shipped models."""
    found = {}
    for entry in CATALOG.values():
        figures = entry.card().get("figures", {}) if entry.weights == "shipped" else {}
        if "shape_bias" in figures:
            found[entry.title] = {
                "shape bias": figures["shape_bias"],
                "accuracy": figures.get("top1", figures.get("linear", float("nan"))),
                "decisions": figures["shape_decided"] + figures["surface_decided"],
            }
    return found


def figure(cards: Cards) -> go.Figure:
    """Shape bias of every shipped model as bars, from surface (0) to shape (1)."""
    drawn = go.Figure()
    drawn.add_bar(
        x=[values["shape bias"] for values in cards.values()],
        y=list(cards),
        orientation="h",
        marker={"color": [models.colour(index) for index in range(len(cards))]},
        customdata=[[values["accuracy"], values["decisions"]] for values in cards.values()],
        hovertemplate="%{y}: shape bias %{x:.3f}<br>n = %{customdata[1]} decisions<br>"
        "accuracy on scenes as in training %{customdata[0]:.3f}<extra></extra>",
    )
    drawn.add_vline(x=0.5, line={"dash": "dot", "color": "gray"})
    drawn.update_xaxes(title="shape bias (0: by surface, 1: by shape)", range=[0, 1])
    drawn.update_yaxes(autorange="reversed")
    return drawn.update_layout(height=90 + 40 * len(cards), showlegend=False)


def table() -> pd.DataFrame:
    """Class, texture and palette."""
    rows = [(name, *surface) for name, surface in zip(CLASSES, SURFACES, strict=True)]
    return pd.DataFrame(rows, columns=["class", "typical texture", "typical palette"])


def reading(found: Cards) -> str:
    """Who goes by shape most, and who least."""
    order = sorted(found, key=lambda name: found[name]["shape bias"])
    low, high = (palette.number(found[name]["shape bias"]) for name in (order[0], order[-1]))
    return (
        f"**{order[-1]}** goes by shape most (shape bias {high}), **{order[0]}** least ({low}); "
        "n = 1,000 cue-conflict scenes each, answers that name neither left out."
    )


def controls(_: Selection) -> Chosen:
    """Draw surfaces, sheet, masks and motion."""
    for name, label in SURFACES_SHOWN.items():
        if link.first("set") in (name, label):  # older links name the surfaces as others name a set of images
            st.session_state["surfaces"] = name
            link.put("set")
    conflict = choices.one_of("Surfaces", SURFACES_SHOWN, "surfaces") == "conflict"
    sheet = int(st.number_input("Sheet", 1, 500, 1, key="sheet", bind="query-params", width=120))
    outlined = st.toggle("Show the true masks", key="masks", bind="query-params")
    return Chosen(conflict, sheet, outlined, st.toggle("Show one in motion", key="moving", bind="query-params"))


def draw_sheet(answer: Answer[Chosen], _: Shown) -> None:
    """The scenes of the sheet, and the first of them in motion."""
    chosen = answer.chosen
    first = (chosen.sheet - 1) * SHOWN
    if chosen.moving:
        label = CLASSES[int(Scenes(size=8).batch([first]).labels[0])]
        said = f"Scene {first + 1} in motion, and its mask"
        st.image(clip(first), caption=said, alt=f"A moving {label} and its mask")
    pictures, captions = grid(first, chosen.conflict, chosen.outlined)
    for start in range(0, SHOWN, COLUMNS):
        for place, column in enumerate(st.columns(COLUMNS, gap="small")):
            caption = captions[start + place]
            column.image(pictures[start + place], caption=caption, width="stretch", alt=f"Scene: {caption}")


def shown(_: Answer[Chosen]) -> Shown:
    """Shape bias of the shipped models."""
    found = measured()
    drawn = (
        [Chart(figure(found), "shape-bias", "Shape bias of the shipped models", title="By shape or by surface?")]
        if found
        else []
    )
    return Shown("Scenes", charts=drawn, said=reading(found) if found else "", table=table)


VIEW = View(
    Page("Scenes", section="Models", order=85),
    "What did the shipped models see?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    images=None,
    above=draw_sheet,
)
