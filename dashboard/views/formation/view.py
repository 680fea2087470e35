"""Attention and positions at several moments of a training: the snapshots of the shipped models."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask
from dashboard.controls import choices
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look
from dashboard.images import gallery
from dashboard.state import link, models
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Images, Page, Shown, View
from dashboard.views.formation import curves, places
from dashboard.views.formation.along_training import Course
from dashboard.views.formation.measures import MEASURES, Measure
from dashboard.views.formation.moment_picker import slider
from dashboard.views.formation.trainings import courses, moments_of, with_snapshots
from model_zoo.training.snapshots import moments

MOST_IMAGES, MOST_SHOWN = 8, 32
ALWAYS = (Ask("attention-maps", {"query": "cls"}), Ask("position-similarity", {"metric": "cosine"}))
HOW = """
A row is one model, and every picture in it the same network after more training; the last is the finished model. All
maps share one scale, all curves one axis.

- **Attention**: what the CLS token of the last layer looks at in one image (the mean of all patches in a model without
  CLS), with the outline of the true object where it is known.
- **Measured**: the quantity that you choose, a chart for each layer, one chart where it is of the whole model. Where a
  layer has heads, the line is their mean and the band reaches from the lowest to the highest. Dashed: attention that is
  even over all patches. The axes begin where the data do, not at 0. Times of training are images seen, not seconds.
- **Positions**: how similar the position embedding of one patch is to all others. Click another patch. The large tiles
  show all positions at the moment that *Images seen* chooses.
"""
FORMULA = r"""
$$d_{lh} = \frac1{IN}\sum_i\sum_q\sum_k \tilde A^{(l,h)}_{iqk}\; p\,\lVert x_q-x_k\rVert_2, \qquad
s_{ij} = \frac{E_i \cdot E_j}{\lVert E_i\rVert\,\lVert E_j\rVert}$$

The first is attention distance; the other quantities have their formulas on their own pages. $\tilde A$ is the
attention among patches, each row divided by its sum, $p$ the side of a patch in pixels and $E$ the position embeddings.
Images are placed at $\operatorname{arsinh}(\text{images}/c)$: 0 has a place, and beyond $c$ (half of the first
snapshot's images) the axis is logarithmic.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929).
"""
NOT_SHOWN = """
- Between two snapshots nothing is measured; the lines only join them.
- A model trained on digits here is shown the chosen pictures all the same: at 16 px it sees little of them.
- One training each: another seed would form otherwise. Head 2 need not stay "the same" head.
- Models see images, but not equally hard ones: image sizes and difficulty change along a training; the cards say how.
- Positions that begin as sines and cosines are ordered before any training; only what changes was learned.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say.

    Attributes:
        keys: models whose training is shown.
        without: selected models that have no snapshots.
        place: of the shown image.
        head: ``mean``, ``max`` or a number from 1.
        images: seen until the chosen moment.
        measure: what is followed, a name of ``MEASURES``.
        n: images behind it.
    """

    keys: tuple[str, ...]
    without: tuple[str, ...]
    place: int
    head: str
    images: int
    measure: str = "distance"
    n: int = 1

    @property
    def measured(self) -> Measure:
        """The quantity that is followed."""
        return MEASURES[self.measure]


def shown_image(images: Sequence[str]) -> int:
    """Draw the choice of the image that is shown, and return its place."""
    linked = link.first("pick")
    place = images.index(linked) if linked in images else 0
    if len(images) > 1:
        st.session_state["formation_image"] = images[place]
        st.selectbox(
            "Shown", images, key="formation_image", format_func=gallery.title, width=150,
            on_change=lambda: link.put("pick", st.session_state["formation_image"]),
        )  # fmt: skip
    return place


def draw_positions(answer: Answer[Chosen], _: Shown) -> None:
    """Which positions are alike, along the training."""
    places.draw(along(answer), answer.selection.images[answer.chosen.place], answer.chosen.images)


def along(answer: Answer[Chosen]) -> list[Course]:
    """The trainings that are shown."""
    return courses(answer.outcome, answer.selection, answer.chosen.keys, answer.chosen.measured)


def controls(selection: Selection) -> Chosen:
    """Draw the image, the head, the quantity and the moment."""
    keys, without = with_snapshots(selection)
    place = shown_image(selection.images[:MOST_SHOWN])
    head = choices.head(asking.known(Selection(moments_of(keys), selection.images)))
    titles = {name: measure.title for name, measure in MEASURES.items()}
    measure = choices.one_of_many("Measured", titles, "measure", width=220)
    return Chosen(tuple(keys), tuple(without), place, head, slider(keys), measure, len(selection.images))


def asks(chosen: Chosen) -> list[Ask]:
    """Maps and positions, and what the chosen quantity is read from."""
    return [*ALWAYS, *chosen.measured.asks([moments(key) for key in chosen.keys], chosen.n)]


def shown(answer: Answer[Chosen]) -> Shown:
    """A row of pictures for each training, and the quantity over it."""
    chosen, images, measure = answer.chosen, answer.selection.images, answer.chosen.measured
    trainings = along(answer)
    rows = [one.attention(chosen.place, images[chosen.place], chosen.head) for one in trainings]
    ready = [one for one in trainings if one.values(measure)]
    names = ", ".join(f"**{models.title(model)}**" for model in chosen.without)
    nothing = [(one.title, one.undefined(measure)) for one in trainings]
    few = f"{measure.title} takes at least {measure.least} images, and these are {len(images)}: choose 32 scenes above."
    return Shown(
        f"{gallery.title(images[chosen.place])}: attention of the last layer along the training",
        rows,
        scale=panels.shared_scale(rows, "attention weight", most=True),
        look=Look(columns=max(len(one.moments) for one in trainings) + 1),
        notes=[
            *([f"No snapshots of the training: {names}."] if names else ()),
            *([few] if len(images) < measure.least else ()),
            *(f"{measure.title}, **{title}**: {reason}" for title, reason in nothing if reason),
        ],
        said=curves.in_words(ready, measure, len(images)),
        charts=[
            Chart(
                curves.over_training(ready, measure, chosen.images), chosen.measure,
                f"{measure.title} of every layer along the training", measure.title,
            )
        ] if ready else (),
        table=(lambda: curves.table(ready, measure)) if ready else None,
        charts_saved=True,
    )  # fmt: skip


VIEW = View(
    Page("How it forms", section="Compare", order=10),
    "How do attention and positions form in training?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    models=lambda chosen, _: moments_of(chosen.keys),
    images=Images(
        several=True,
        default=("scene:0", "scene:1", "scene:2", "scene:3"),
        most=MOST_IMAGES,
        set_default="chosen",
        set_most=100,
    ),
    below=draw_positions,
    overlays=True,
)
