"""Mean attention distance of every head of every model, and the map behind a head."""

from dataclasses import dataclass

import streamlit as st

from dashboard.compute.asking import Ask
from dashboard.controls import choices
from dashboard.draw import charts, frame
from dashboard.draw.frame import Help
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Images, Page, Shown, View
from dashboard.views.distance import head_distances, head_picker

UNITS = {"px": "pixels", "diagonal": "fraction of the diagonal"}
CONVENTIONS = {"patches": "over patches", "raw": "as used"}
HOW = """
A **small point is a head**, with its standard error over the images where there are several; the line joins the means
of the layers. Low: the head looks at the neighbours of the asking patch. High: it looks across the image.

- *Dashed*: what a head would have that attends everywhere alike. A head above it avoids its own neighbourhood.
- *Weights, over patches*: attention is renormalised over the patches. *As used*: what goes to CLS and registers counts
  as distance 0, so that a head that looks at CLS seems local.
- *Attention on CLS* shows how much the two conventions differ.
- *One head's map*: click a head in the chart, then a patch in the picture.

Models with other input sizes: compare fractions of the diagonal.
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
    """What the controls say: whether weights are renormalised over the patches, and the key of ``UNITS``."""

    renormalised: bool
    units: str


def controls(_: Selection) -> Chosen:
    """Draw the convention of the weights and the units."""
    weights = choices.one_of(
        "Weights",
        CONVENTIONS,
        "weights",
        help="Attention renormalised over the patches, or as the model used it, CLS and registers counting as 0.",
    )
    units = choices.one_of(
        "Distance in",
        UNITS,
        "units",
        help="Pixels of each model's input, or divided by its diagonal: fair between input sizes.",
    )
    return Chosen(weights == "patches", units)


def shown(answer: Answer[Chosen]) -> Shown:
    """All heads of all models over the layers."""
    colours = answer.outcome.colours
    ready = head_distances.scaled(answer.outcome.ready("attention-distance"), answer.chosen.units)
    if not ready:
        return Shown("Mean attention distance")
    alt = "Mean attention distance of heads over layers"
    return Shown(
        "Mean attention distance",
        charts=[Chart(head_distances.figure(ready, colours), "distance", alt)],
        said=head_distances.reading(ready, answer.chosen.renormalised),
        table=lambda: head_distances.table(ready),
        document=lambda: head_picker.document(ready, colours),
    )


def below(answer: Answer[Chosen], _: Shown) -> None:
    """One head's map, and the attention on CLS; the closed tab costs nothing."""
    outcome = answer.outcome
    ready = head_distances.scaled(outcome.ready("attention-distance"), answer.chosen.units)
    if not ready:
        return
    head, mass = st.tabs(["One head's map", "Attention on CLS"], key="below", on_change="rerun")
    if head.open:
        with head:
            head_picker.draw(ready, outcome, answer.picture)
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
    "How far does each head look?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [Ask("attention-distance", {"renormalise": chosen.renormalised})],
    images=Images(several=True, default=("photo:coffee", "photo:chelsea", "photo:china"), set_default="chosen"),
    below=below,
)
