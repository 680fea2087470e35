"""Patch correspondence: what in these images is like one patch, and which patches belong together."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices, token_layers
from dashboard.controls.glossary import meaning
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Panel, Row, Scale
from dashboard.images import gallery
from dashboard.state import link
from dashboard.state.selection import Depth, Point, Selection, read_point
from dashboard.view import Answer, Images, Page, Shown, View
from dashboard.views.correspondence import lines
from dashboard.views.correspondence.similarities import UNITS, reading, scale_of

HOW = """
Click a patch in the first image. **Yellow: patches whose feature is like it**, in the same image and in the second one,
under each model.

- Yellow on the same part of another object: the model knows the part, not just the place.
- Yellow at the same place in the second image whatever is there: position dominates.
- *Facets*: the token itself, or the query, key or value vectors that the layer's attention compares.
- The lines join mutual best matches: each patch is the other's most similar one. The most similar pairs come first.
"""
FORMULA = r"""
$$s_j = \frac{f_q\cdot f_j}{\lVert f_q\rVert\,\lVert f_j\rVert}, \qquad
i \leftrightarrow j \iff j = \arg\max_{j'} s(i, j') \text{ and } i = \arg\max_{i'} s(i', j)$$

with $f$ the token (last layer: after the final norm), or its query, key or value with the heads side by side.
Source: Amir et al. 2021, [arXiv:2112.05814](https://arxiv.org/abs/2112.05814).
"""
NOT_SHOWN = """
- **Why** two patches are alike: colour, texture, part, or only their place.
- Levels of two models cannot be compared: a part common to all patches raises every similarity. Compare patterns.
- A mutual match need not be right, and a patch of plain background has many equals.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: layer, facet, the clicked point, one scale for all panels, and lines at most."""

    depth: Depth
    facet: str
    point: Point
    shared: bool
    lines: int


def default_images() -> tuple[str, str]:
    """Two scenes, or two photos where there are none."""
    return ("scene:0", "scene:2") if gallery.has_scenes() else ("photo:chelsea", "photo:astronaut")


def panel(model: ModelResult, image: int, chosen: Chosen) -> Panel:
    """Similarity of one image's patches to the query under one model."""
    dataset = model.datasets.get("patch-similarity")
    if dataset is None or model.spec is None:
        return panels.pending(model, image=image)
    values = dataset["similarity"].values[image]
    if not np.isfinite(values).all():
        return panels.pending(model, "The point lies outside this model's crop.", image)
    own = None if chosen.shared else Scale(float(values.min()), float(np.sort(values.ravel())[-2:][0]), UNITS)
    note = token_layers.facet_text(model.spec, chosen.depth, chosen.facet)
    return panels.of_model(model, note, values, image, scale=own)


def controls(selection: Selection) -> Chosen:
    """Draw layer, facet, scale and the number of lines; the point is clicked."""
    return Chosen(
        choices.layer(asking.known(selection)),
        choices.one_of("Facet", ["token", "query", "key", "value"], "facet", help=meaning("facet")),
        read_point(link.first("at")) or (0.5, 0.5),
        choices.one_of("Scale", ["shared", "per panel"], "scale", help=meaning("shared scale")) == "shared",
        st.slider(
            "Lines",
            0,
            40,
            12,
            key="lines",
            bind="query-params",
            width=150,
            help="How many of the best matches are joined by a line.",
        ),
    )


def asks(chosen: Chosen) -> list[Ask]:
    """The clicked patch of the first image against every patch."""
    query = choices.asked("patch", chosen.point)
    return [Ask("patch-similarity", {"query": query, "layer": chosen.depth.parameter, "facet": chosen.facet, "of": 0})]


def shown(answer: Answer[Chosen]) -> Shown:
    """The image that is asked in, and the other under it."""
    chosen, outcome = answer.chosen, answer.outcome
    rows = [
        Row(
            image,
            [panel(model, i, chosen) for model in outcome.models],
            point=chosen.point if i == 0 else None,
            clickable=i == 0,
        )
        for i, image in enumerate(answer.selection.images)
    ]
    ready = outcome.ready("patch-similarity")
    return Shown(
        "Patches like the chosen one",
        rows,
        scale=scale_of(ready) if chosen.shared else None,
        said=reading(ready, chosen.facet),
        table=ready,
    )


def matches(answer: Answer[Chosen], _: Shown) -> None:
    """Lines between the patches of both images that are each other's best match."""
    if answer.chosen.lines and len(answer.selection.images) == 2:
        lines.draw(answer.outcome.models, answer.selection.images, answer.chosen.lines)


VIEW = View(
    Page("Patch correspondence", section="Representation", order=20),
    "What corresponds to this patch?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    images=Images(several=True, default=default_images, most=2),
    below=matches,
    overlays=True,
)
