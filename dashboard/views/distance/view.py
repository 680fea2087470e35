"""Mean attention distance of every head of every model, and the map behind a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import streamlit as st

from dashboard.compute.asking import Ask
from dashboard.controls import choices, image_sets
from dashboard.draw import charts, frame
from dashboard.draw.frame import Help
from dashboard.state.selection import Selection
from dashboard.view import Answer, Images, Page, Shown, View
from dashboard.views.distance import head_distances, head_picker, heads_chart, units
from dashboard.views.distance.head_distances import Datasets

QUESTION, MEASURED = "How far does each head look?", "Mean attention distance"
CONVENTIONS = {"patches": "over patches", "raw": "as used"}
RANGES = {"data": "zoomed to the data", "full": "full range"}
HOW = """
A **point is a head**, with its standard error over the images where there are several; the pale bar reaches from the
nearest to the farthest head of a layer, the line joins the means of the layers. Low: the head looks at the neighbours
of the asking patch. High: it looks across the image.

- *Axis*: the chart begins where the data do, so that differences show; *full range* begins at 0.
- *Dashed*: what a head would have that attends everywhere alike. A head above it avoids its own neighbourhood.
- *Weights, over patches*: attention is renormalised over the patches. *As used*: what goes to CLS and registers counts
  as distance 0, so that a head that looks at CLS seems local.
- *Attention on CLS* shows how much the two conventions differ.
- *One head's map*: click a head in the chart, then a patch in the picture.

Models with other input sizes are compared in fractions of the diagonal of their input, unless pixels are chosen.
"""
FORMULA = r"""
$$d_{lh} = \frac1{IN}\sum_i\sum_q\sum_k \tilde A^{(l,h)}_{iqk}\; p\,\lVert x_q-x_k\rVert_2$$

over $I$ images and $N$ patch queries, $x$ in patches, $p$ the side of a patch in pixels of the model's input.
$\tilde A$ is the attention among patches, each row divided by its sum (or not: *as used*). The standard error is over
the images' own means.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929); Raghu et al. 2021,
[arXiv:2108.08810](https://arxiv.org/abs/2108.08810).
"""
NOT_SHOWN = """
- The **shape** of attention: half near and half far reads like all at middle distance.
- Whether the distance matters: values may be small, and a few CLS-bound heads may decide.
- Windowed models (Swin) are left out: their distance is bounded by the window, whatever they learned.
- Patches at the border reach farther than those in the middle; the mean hides it.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say.

    Attributes:
        renormalised: weights are divided by their sum over the patches.
        units: ``px`` or ``diagonal``.
        full: the axis begins at 0.
        clicked: heads that were clicked in the chart, as the browser sent them.
    """

    renormalised: bool
    units: str
    full: bool = False
    clicked: Sequence[Mapping[str, Any]] = ()


def controls(selection: Selection) -> Chosen:
    """Draw the convention of the weights, the units and the range of the axis."""
    weights = choices.one_of(
        "Weights",
        CONVENTIONS,
        "weights",
        help="Attention renormalised over the patches, or as the model used it, CLS and registers counting as 0.",
    )
    measured_in = units.control(selection)
    axis = choices.one_of("Axis", RANGES, "axis", help="Begin where the data do, or at 0.")
    return Chosen(weights == "patches", measured_in, axis == "full", head_picker.clicked())


def _ready(answer: Answer[Chosen]) -> Datasets:
    return head_distances.scaled(answer.outcome.ready("attention-distance"), answer.chosen.units)


def shown(answer: Answer[Chosen]) -> Shown:
    """What the verdict rests on, the table, and the page's chart as a file."""
    ready, chosen = _ready(answer), answer.chosen
    if not ready:
        return Shown(MEASURED)
    basis = head_distances.basis(ready, chosen.renormalised)
    caption = (f"{MEASURED}.", head_distances.verdict(ready), basis)
    return Shown(
        MEASURED,
        said=basis,
        table=lambda: head_distances.table(ready),
        document=lambda: heads_chart.document(_chart(answer, ready), title=QUESTION, caption=caption),
    )


def _chart(answer: Answer[Chosen], ready: Datasets) -> alt.LayerChart:
    place = head_picker.chosen(answer.chosen.clicked, head_distances.table(ready))
    return heads_chart.chart(ready, answer.outcome.colours, place, full=answer.chosen.full)


def above(answer: Answer[Chosen], _: Shown) -> None:
    """The verdict, and all heads of all models over the layers, to be clicked."""
    if ready := _ready(answer):
        st.markdown(head_distances.verdict(ready))
        st.altair_chart(_chart(answer, ready), key=head_picker.KEY, on_select="rerun", selection_mode="head")


def below(answer: Answer[Chosen], _: Shown) -> None:
    """One head's map, and the attention on CLS; the closed tab costs nothing."""
    outcome, ready = answer.outcome, _ready(answer)
    if not ready:
        return
    head, mass = st.tabs(["One head's map", "Attention on CLS"], key="below", on_change="rerun")
    if head.open:
        with head:
            head_picker.draw(ready, outcome, answer.selection.images)
    if mass.open:
        with mass:
            has = {name: d for name, d in ready.items() if "cls_mass" in d and bool(d["cls_mass"].notnull().any())}
            if has:
                drawn = charts.over_layers(has, "cls_mass", outcome.colours, label="attention of patches on CLS")
                frame.chart(drawn, key="cls-mass", alt="Attention that patches give to CLS over layers")
            for name in (name for name in ready if name not in has):
                st.caption(f"{name} has no CLS token among its patches.")


VIEW = View(
    Page("Attention distance", section="Attention", order=30),
    QUESTION,
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [Ask("attention-distance", {"renormalise": chosen.renormalised})],
    images=Images(
        several=True, default=("photo:coffee", "photo:chelsea", "photo:china"), set_default=image_sets.as_trained
    ),
    above=above,
    below=below,
    subtitle=MEASURED,
)
