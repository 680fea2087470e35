"""Attention and positions at several moments of a training: the snapshots of the shipped models."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from dashboard.compute import asking
from dashboard.controls import choices, object_masks, progress
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, palette, panels
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.images import gallery
from dashboard.state import link, models
from dashboard.state.models import reference
from dashboard.state.selection import Selection, read_point
from dashboard.view import Page
from dashboard.views import positions
from dashboard.views.formation import along_training
from dashboard.views.formation.along_training import Course
from model_zoo.adapter import Geometry
from model_zoo.training.snapshots import moments, positions_start, sizes

PAGE = Page("How it forms", section="Compare", order=10)

SHIPPED = ("scenes-vit-supervised", "scenes-vit-dino")
MOST_IMAGES = 8
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


def with_snapshots(selection: Selection) -> tuple[list[str], list[str]]:
    """The selected models that have snapshots, and those that have none; the shipped pair if none has."""
    keys = [reference(model).key or "" for model in selection.models]
    have = [key for key in dict.fromkeys(keys) if key and moments(key)]
    without = [model for model, key in zip(selection.models, keys, strict=True) if key not in have]
    return have or list(SHIPPED), without


def ask(selection: Selection, keys: Sequence[str]) -> tuple[asking.Outcome, list[Course]]:
    """Ask for everything that the page shows, in one pass a snapshot."""
    along = {key: moments(key) for key in keys}
    every = tuple(moment.model for key in keys for moment in along[key])
    wanted: dict[str, asking.Params] = {
        "attention-maps": {"query": "cls"},
        "attention-distance": {},
        "position-similarity": {"metric": "cosine"},
    }
    outcome = asking.compute(wanted, Selection(every, selection.images))
    found = {model.model: model for model in outcome.models}
    colours = {key: selection.colour(key) for key in keys if key in selection.models}
    spare = (colour for colour in models.COLOURS if colour not in colours.values())
    courses = [
        Course(
            models.title(key), colours.get(key) or next(spare), positions_start(key), sizes(key),
            along[key], tuple(found[moment.model] for moment in along[key]),
        )
        for key in keys
    ]  # fmt: skip
    return outcome, courses


def page() -> None:
    """Draw the page."""
    defaults = ("scene:0", "scene:1", "scene:2", "scene:3")
    selection = sidebar(several=True, default_images=defaults, most=MOST_IMAGES)
    selection = Selection(selection.models, selection.images[:MOST_IMAGES])
    keys, without = with_snapshots(selection)
    frame.header("How do attention and positions form in training?")
    row = frame.controls()
    outcome, courses = ask(selection, keys)
    with row:
        place = shown_image(selection.images)
        head = choices.head([model.spec for model in outcome.models])
        images = slider(courses)
    picture = selection.images[place]
    if without:
        names = ", ".join(models.title(model) for model in without)
        st.caption(f"No snapshots of the training: {names}.")
    rows, scale = attention_rows(courses, place, picture, head)
    look = Look(columns=max(len(one.moments) for one in courses) + 1)
    for index, (one, drawn) in enumerate(zip(courses, rows, strict=True)):
        st.markdown(f"**{one.title}** · {one.began}")
        panels.patch_panels(
            picture, drawn.panels, scale=scale, look=look, key=f"course-{index}", outline=drawn.outline,
            outline_of=drawn.outline_of, bar=index == len(rows) - 1,
        )  # fmt: skip
    progress.show(outcome)
    frame.states(outcome, "attention-maps")
    ready = [one for one in courses if one.ready("attention-distance")]
    said = along_training.in_words(ready, len(selection.images))
    if ready:
        st.subheader("How far heads look", anchor=False)
        drawn_distance = along_training.distance_figure(ready, images)
        frame.chart(drawn_distance, key="distance", alt="Mean attention distance of every layer along the training")
        st.markdown(said)

    def document() -> str:
        heading = f"{gallery.title(picture)}: CLS attention of the last block along the training"
        return export.rows_svg(rows, scale=scale, look=look, title=heading, caption=said.replace("*", ""))

    frame.footer(
        frame.Help(HOW, FORMULA, NOT_SHOWN), name="formation",
        png=(lambda: export.png(document())) if scale else None,
        svg=document if scale else None,
        csv=(lambda: along_training.table(ready)) if ready else None,
    )  # fmt: skip
    if any(one.ready("position-similarity") for one in courses):
        position_rows(courses, picture, images)


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


def slider(courses: Sequence[Course]) -> int:
    """Draw the choice of a moment, and return the images seen until then."""
    options = sorted({moment.images for one in courses for moment in one.moments})
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


def attention_rows(
    courses: Sequence[Course], place: int, picture: str, head: str
) -> tuple[list[export.Row], Scale | None]:
    """A row of panels for each model, and the one scale of all of them."""
    key = object_masks.key_of(picture)
    outline = object_masks.outlined(picture, key) if key else None
    of = object_masks.named(key) if key else ""
    rows = [
        panels.Row(
            picture,
            one.attention(place, picture, key, outline, head),
            note=f"{one.title}: {one.began}",
            outline=outline,
            outline_of=of,
        )
        for one in courses
    ]
    arrays = [panel.values for row in rows for panel in row.panels if panel.values is not None]
    return rows, Scale.over_most(arrays, "attention weight") if arrays else None


def position_rows(courses: Sequence[Course], picture: str, images: int) -> None:
    """One position's tile at every moment, and the tiles of all positions at the chosen one."""
    st.subheader("Which places are alike", anchor=False)
    width, height = gallery.load(picture).size
    whole = Geometry((width, height), (0.0, 0.0, float(width), float(height)), (height, width))
    point = read_point(link.first("at")) or (0.3, 0.3)
    scale = Scale(-1.0, 1.0, "cosine similarity", signed=True)
    columns = max(len(one.moments) for one in courses)
    for index, one in enumerate(courses):
        st.markdown(f"**{one.title}** · position embeddings began as {one.start}")
        drawn = []
        for moment, model in zip(one.moments, one.results, strict=True):
            dataset = model.datasets.get("position-similarity")
            values = positions.at_point(dataset)["similarity"].values if dataset is not None else None
            waiting = model.waiting or not model.message
            note = "all its tiles below" if moment is one.at(images) else ""
            drawn.append(
                Panel(one.name(moment), one.colour, note, whole, values, message=model.message, waiting=waiting)
                if values is not None
                else Panel(one.name(moment), one.colour, message=model.message or "computing …", waiting=waiting)
            )
        look = Look(opacity=1.0, original=False, columns=columns)
        panels.patch_panels(
            picture, drawn, scale=scale, look=look, key=f"places-{index}", point=point, on_pick=choices.pick,
            bar=index == len(courses) - 1,
        )  # fmt: skip
    st.markdown(positions_in_words(courses))
    places = st.columns(len(courses), gap="medium", wrap=True)
    for index, (one, column) in enumerate(zip(courses, places, strict=True)):
        moment = one.at(images)
        dataset = one.results[one.moments.index(moment)].datasets.get("position-similarity")
        if dataset is not None:
            with column:
                st.markdown(f"**{one.title}** · {one.name(moment)}, a tile for each position")
                alt = f"Similarity of every two positions of {one.title} after {moment.images:,} images"
                frame.chart(figure(positions.figure(dataset)), key=f"tiles-{index}", alt=alt)


def positions_in_words(courses: Sequence[Course]) -> str:
    """How similar neighbouring and other positions are at the beginning and at the end."""
    lines = []
    for one in courses:
        found = one.ready("position-similarity")
        if len(found) < 2:
            continue
        parts = []
        for moment in (next(iter(found)), next(reversed(found))):
            near, far = (palette.number(value, 2) for value in positions.neighbours(found[moment]["similarity"]))
            parts.append(f"{near} side by side and {far} otherwise ({one.name(moment)})")
        lines.append(f"**{one.title}**: mean cosine {', then '.join(parts)}. Its positions began as {one.start}.")
    return "  \n".join(lines)


def figure(drawn: go.Figure) -> go.Figure:
    """The tiles of a model, a little smaller than on their own page."""
    return drawn.update_layout(height=440)
