"""Attention and positions at several moments of a training: the snapshots of the shipped models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, Outcome
from dashboard.controls import choices
from dashboard.draw import frame, panels, position_tiles
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Scale
from dashboard.images import gallery
from dashboard.state import link, models
from dashboard.state.models import reference
from dashboard.state.selection import Selection, read_point
from dashboard.view import Answer, Chart, Images, Page, Shown, View, draw_rows
from dashboard.views.formation import along_training
from dashboard.views.formation.along_training import Course
from model_zoo.training.snapshots import moments, positions_start, sizes

SHIPPED = ("scenes-vit-supervised", "scenes-vit-dino")
MOST_IMAGES = 8
ASKS = (
    Ask("attention-maps", {"query": "cls"}),
    Ask("attention-distance"),
    Ask("position-similarity", {"metric": "cosine"}),
)
HOW = """
A row is one model, and every picture in it the same network after more training; the last is the finished model. All
maps share one scale, all curves one axis.

- **Attention**: what the CLS token of the last block looks at in one scene, with the outline of the true object.
- **Distance**: how far heads look, a chart for each layer. The line is the mean over heads, the band reaches from the
  nearest to the farthest head. Dashed: attention that is even over all patches.
- **Positions**: how similar the position embedding of one patch is to all others. Click another patch. The large tiles
  show all positions at the moment that *Images seen* chooses.
"""
FORMULA = r"""
$$d_{lh} = \frac1{IN}\sum_i\sum_q\sum_k \tilde A^{(l,h)}_{iqk}\; p\,\lVert x_q-x_k\rVert_2, \qquad
s_{ij} = \frac{E_i \cdot E_j}{\lVert E_i\rVert\,\lVert E_j\rVert}$$

with $\tilde A$ the attention among patches, each row divided by its sum, $p$ the side of a patch in pixels and $E$ the
position embeddings. Images are placed at $\operatorname{arsinh}(\text{images}/c)$: 0 has a place, and beyond $c$ (half
of the first snapshot's images) the axis is logarithmic.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929).
"""
NOT_SHOWN = """
- Between two snapshots nothing is measured; the lines only join them.
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
    """

    keys: tuple[str, ...]
    without: tuple[str, ...]
    place: int
    head: str
    images: int


def with_snapshots(selection: Selection) -> tuple[list[str], list[str]]:
    """The selected models that have snapshots, and those that have none; the shipped pair if none has."""
    keys = [reference(model).key or "" for model in selection.models]
    have = [key for key in dict.fromkeys(keys) if key and moments(key)]
    without = [model for model, key in zip(selection.models, keys, strict=True) if key not in have]
    return have or list(SHIPPED), without


def moments_of(keys: Sequence[str]) -> tuple[str, ...]:
    """The models that the snapshots of trainings are, in order."""
    return tuple(moment.model for key in keys for moment in moments(key))


def courses(outcome: Outcome, selection: Selection, keys: Sequence[str]) -> list[Course]:
    """What there is of each training, in the colour of its model where that is selected."""
    found = {model.model: model for model in outcome.models}
    colours = {key: selection.colour(key) for key in keys if key in selection.models}
    spare = (colour for colour in models.COLOURS if colour not in colours.values())
    courses = []
    for key in keys:
        along, colour = moments(key), colours.get(key) or next(spare)
        results = tuple(replace(found[one.model], title=Course.name(one), colour=colour) for one in along)
        courses.append(Course(models.title(key), colour, positions_start(key), sizes(key), along, results))
    return courses


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


def draw_positions(answer: Answer[Chosen], _: Shown) -> None:
    """One position's tile at every moment, and the tiles of all positions at the chosen one."""
    along = courses(answer.outcome, answer.selection, answer.chosen.keys)
    if not any(one.ready("position-similarity") for one in along):
        return
    st.subheader("Which places are alike", anchor=False)
    picture, images = answer.selection.images[answer.chosen.place], answer.chosen.images
    point = read_point(link.first("at")) or (0.3, 0.3)
    look = Look(opacity=1.0, original=False, columns=max(len(one.moments) for one in along))
    rows = [one.positions(picture, point, images) for one in along]
    draw_rows(rows, scale=Scale(-1.0, 1.0, "cosine similarity", signed=True), look=look, key="places")
    st.markdown(along_training.positions_in_words(along))
    places = st.columns(len(along), gap="medium", wrap=True)
    for index, (one, column) in enumerate(zip(along, places, strict=True)):
        moment = one.at(images)
        dataset = one.ready("position-similarity").get(moment)
        if dataset is not None:
            with column:
                st.markdown(f"**{one.title}** · {one.name(moment)}, a tile for each position")
                alt = f"Similarity of every two positions of {one.title} after {moment.images:,} images"
                drawn = position_tiles.figure(dataset).update_layout(height=440)
                frame.chart(drawn, key=f"tiles-{index}", alt=alt)


def controls(selection: Selection) -> Chosen:
    """Draw the image, the head and the moment."""
    keys, without = with_snapshots(selection)
    place = shown_image(selection.images[:MOST_IMAGES])
    head = choices.head(asking.known(Selection(moments_of(keys), selection.images)))
    return Chosen(tuple(keys), tuple(without), place, head, slider(keys))


def shown(answer: Answer[Chosen]) -> Shown:
    """A row of pictures for each training, and how far its heads look."""
    chosen, images = answer.chosen, answer.selection.images
    along = courses(answer.outcome, answer.selection, chosen.keys)
    rows = [one.attention(chosen.place, images[chosen.place], chosen.head) for one in along]
    ready = [one for one in along if one.ready("attention-distance")]
    alt = "Mean attention distance of every layer along the training"
    names = ", ".join(models.title(model) for model in chosen.without)
    return Shown(
        f"{gallery.title(images[chosen.place])}: CLS attention of the last block along the training",
        rows,
        scale=panels.shared_scale(rows, "attention weight", most=True),
        look=Look(columns=max(len(one.moments) for one in along) + 1),
        notes=[f"No snapshots of the training: {names}."] if names else (),
        said=along_training.in_words(ready, len(images)),
        charts=[Chart(along_training.distance_figure(ready, chosen.images), "distance", alt, "How far heads look")]
        if ready
        else (),
        table=(lambda: along_training.table(ready)) if ready else None,
    )


VIEW = View(
    Page("How it forms", section="Compare", order=10),
    "How do attention and positions form in training?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda _: ASKS,
    models=lambda chosen, _: moments_of(chosen.keys),
    images=Images(several=True, default=("scene:0", "scene:1", "scene:2", "scene:3"), most=MOST_IMAGES),
    below=draw_positions,
)
