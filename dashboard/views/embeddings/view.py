"""Embeddings: which images each model finds alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, Outcome
from dashboard.compute.background import Failed, Stopped
from dashboard.compute.jobs import Job
from dashboard.controls import choices, image_sets, progress, token_layers
from dashboard.controls.glossary import meaning
from dashboard.controls.sidebar import sidebar
from dashboard.draw import frame
from dashboard.draw.frame import Help
from dashboard.images import gallery
from dashboard.images.sets import ImageSet
from dashboard.state import link
from dashboard.view import Page
from dashboard.views.embeddings import projection, similarity, slides
from dashboard.views.embeddings.image_relations import Near, Relation, fetch_sheet, relations, sheet_again
from dashboard.views.embeddings.vectors import POOLS, ImageVectors, agreement, chosen_layer, pairs, reading

PAGE = Page("Image similarity", section="Representation", order=10)

SHOWN = {"grid": "grids", "difference": "differences", "pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
MAPS = ("pca", "tsne", "umap")
ORDERS = {"class": "by class", "cluster": "by clustering", "given": "as given"}
SET_DEFAULT = "scenes-100"
MOST_DRAWN = 1000
MOST_ALL_LAYERS = 500
HOW = """
*Grids*: each row and each column is an image, in the same order for all models; **orange: the model finds the two
images alike**, blue: opposed, pale: unrelated. All grids share the scale −1 to 1. Point at a square to see the two
images and their similarity in every model.

- *By class*: blocks along the diagonal are classes that the model keeps together. *By clustering*: images that the
  **first** model finds alike stand side by side; the others keep its order.
- Click an image: its nearest images under each model appear below; a thick frame marks its own class.
- *Maps*: similar images lie near each other. Select one and find the same image in the other maps. In t-SNE and
  UMAP only neighbourhoods mean something; distances between groups and their sizes do not.
"""
FORMULA = r"""
$$s_{ab} = \frac{z_a\cdot z_b}{\lVert z_a\rVert\,\lVert z_b\rVert}$$

with $z$ the CLS token, the mean of the patch tokens, or the logits; *by each model's card*: CLS, or the mean where no
training reached CLS or the classifier averages the patches. *Neighbour overlap*: the share of an image's k
nearest images that two models have in common; independent models share k/(n − 1). *CKA* of the two sets of vectors:
Kornblith et al. 2019, [arXiv:1905.00414](https://arxiv.org/abs/1905.00414). t-SNE: van der Maaten & Hinton 2008.
UMAP: McInnes, Healy & Melville 2018, [arXiv:1802.03426](https://arxiv.org/abs/1802.03426). Maps are of unit vectors,
seeded, started from their PCA.
"""
NOT_SHOWN = """
- **What** two images have in common for the model: it may be the background or the colour.
- Levels of two models cannot be compared: vectors with a large common part are all alike. Compare patterns, and who is
  nearest.
- A map of two dimensions leaves most of the distances out.
"""


@dataclass(frozen=True)
class Drawn:
    """What was drawn: jobs that still place images, and what makes a picture of it; None while there is nothing."""

    jobs: tuple[Job, ...] = ()
    svg: Callable[[str], str] | None = None


def panels(found: Sequence[ImageVectors], kind: str, points: Sequence[np.ndarray | Job | str]) -> list[Relation]:
    """What each model's panel shows."""
    if kind in MAPS:
        return [
            Relation(one.title, one.colour, one.note, points=placed)
            if isinstance(placed, np.ndarray)
            else Relation(one.title, one.colour, one.note, message=placed if isinstance(placed, str) else "placing …")
            for one, placed in zip(found, points, strict=True)
        ]
    if kind == "difference" and len(found) > 1:
        first = found[0]
        return [
            Relation(f"{one.title} − {first.title}", one.colour, one.note, square=one.square - first.square)
            for one in found[1:]
        ]
    return [Relation(one.title, one.colour, one.note, square=one.square) for one in found]


def page() -> None:
    """Draw the page: its pictures lie over no image, and their places and thumbnails are made in the background."""
    selection = sidebar(
        several=True, default_images=gallery.offered()[:12], set_in_use=partial(image_sets.in_use, default=SET_DEFAULT)
    )
    frame.header("Which images does each model find alike?")
    with frame.controls():
        selection, chosen = image_sets.control(selection, default=SET_DEFAULT)
        layer = st.container(width=210)
        kind = choices.one_of("Show", SHOWN, "shown")
        with st.popover("More"):
            pool = choices.one_of("Vector of an image", POOLS, "pool", help=meaning("embedding", token_layers.BY_CARD))
            by = choices.one_of("Order of the images", ORDERS, "order")
        every = len(selection.images) <= MOST_ALL_LAYERS
        with layer:
            depth = choices.layer(asking.known(selection)) if every and pool != "logits" else choices.LAST
            if not every:
                st.caption(f"Last layer only, for more than {MOST_ALL_LAYERS} images.")
    asks = [Ask("embedding-similarity", {"pool": pool, "layers": "all" if every else "last"})]
    outcome, _ = asking.ask(asks, selection)
    found = [one for model in outcome.models if (one := chosen_layer(model, depth)) is not None]
    drawn = draw(found, kind, by, chosen) if found else Drawn()
    frame.states(outcome, "embedding-similarity")
    progress.show(outcome if outcome.jobs or not drawn.jobs else Outcome((), (), drawn.jobs, ()))
    said = ""
    if found:
        said, table = words((tuple(one.title + one.digest for one in found), chosen.classes), found, chosen)
        st.markdown(said)
        if len(table) > 1:
            with st.expander("Agreement of every two models"):
                st.dataframe(table.round(3), hide_index=True)
    svg = partial(drawn.svg, said) if drawn.svg else None
    frame.footer(
        Help(HOW, FORMULA, NOT_SHOWN),
        name="image-similarity",
        svg=svg,
        csv=(lambda: frame.csv(pairs(found, chosen))) if found and every else None,
        models=selection.models,
    )


@st.cache_data(max_entries=32, show_spinner=False)
def words(key: object, _found: Sequence[ImageVectors], _chosen: ImageSet) -> tuple[str, pd.DataFrame]:
    """The sentence and the table, which take seconds for thousands of images; the key names what they depend on."""
    table = agreement(_found)
    return reading(_found, _chosen, table), table


@st.cache_data(max_entries=64, show_spinner=False)
def ordered(key: object, by: str, classes: tuple[str, ...], _square: np.ndarray) -> np.ndarray:
    """The order of the images, made once for a square that the key names."""
    return similarity.order(_square, classes, by)


@st.cache_data(max_entries=64, show_spinner=False)
def principal(key: str, _vectors: np.ndarray) -> np.ndarray:
    """The PCA, made once for vectors that the key names."""
    return projection.pca(_vectors)


def placed_by(kind: str, found: Sequence[ImageVectors]) -> list[np.ndarray | Job | str]:
    """Each model's map of the images, the job that makes it, or why there is none."""
    if kind == "umap" and not projection.has_umap():
        st.info(f"{projection.NO_UMAP} Until then this is PCA.", icon=":material/info:")
        kind = "pca"
    if kind == "pca":
        return [principal(one.digest, one.vectors) for one in found]
    return [projection.fetch(one.vectors, asking.visitor(), kind) for one in found] if kind in MAPS else []


def nearest(found: Sequence[ImageVectors], chosen: ImageSet, selected: int | None) -> list[Near]:
    """Each model's row of images nearest to the selected one."""
    if selected is None or len(chosen.images) < 2:
        return []
    rows = []
    for one in found:
        images = similarity.nearest(one.square, selected)
        text = f"nearest to {gallery.title(chosen.images[selected])} under {one.title}, cosine similarity"
        rows.append(Near(text, one.colour, images.tolist(), one.square[selected, images].tolist()))
    return rows


def draw(found: Sequence[ImageVectors], kind: str, by: str, chosen: ImageSet) -> Drawn:
    """The panels and the nearest images of the selected one."""
    order = ordered(found[0].digest, by, chosen.classes, found[0].square)
    if len(order) > MOST_DRAWN and kind not in MAPS:
        st.caption(
            f"{MOST_DRAWN:,} of {len(order):,} images are drawn, evenly along the order; the numbers are of all."
        )
        order = order[np.linspace(0, len(order) - 1, MOST_DRAWN).round().astype(int)]
    if by == "class" and not chosen.classes:
        st.caption("The classes of these images are not known: they stand as given.")
    if kind == "difference" and len(found) < 2:
        st.caption("A difference needs two models: the grid of the only one is shown.")
    placed = placed_by(kind, found)
    thumbnails = fetch_sheet(chosen.images, asking.visitor())
    ended = [value for value in (*placed, thumbnails) if isinstance(value, (Stopped, Failed))]
    if ended:
        label = "Compute" if all(isinstance(value, Stopped) for value in ended) else "Try again"
        st.button(label, key="again", on_click=again, args=(asking.visitor(),))
    if isinstance(thumbnails, str):
        st.info(thumbnails, icon=":material/info:")
        return Drawn()
    if isinstance(thumbnails, Job):
        st.skeleton(height=420)
        return Drawn((thumbnails,))
    pick = link.first("pick")
    selected = int(pick) if pick.isascii() and pick.isdigit() and int(pick) < len(chosen.images) else None
    entries = panels(found, kind, placed)
    relations(
        chosen.images,
        entries,
        thumbnails=thumbnails,
        order=order.tolist(),
        classes=chosen.classes,
        selected=selected,
        near=nearest(found, chosen, selected),
        key="relations",
        on_pick=lambda image: link.put("pick", str(image)),
    )

    def svg(said: str) -> str:
        difference = kind == "difference" and len(found) > 1
        arranged = ORDERS[by] if by != "class" or chosen.classes else ORDERS["given"]
        return slides.svg(
            entries,
            order=order.tolist(),
            classes=chosen.classes,
            thumbnails=thumbnails,
            axis=f"image, {arranged} (n = {len(order)})",
            scale=slides.DIFFERENCES if difference else slides.COSINES,
            title="Similarity of the images"
            if kind not in MAPS
            else f"Map of the images by similarity ({SHOWN[kind]})",
            caption=said,
        )

    if kind == "grid" and (said := of_one_colour(found)):
        st.caption(said)
    something = any(entry.square is not None or entry.points is not None for entry in entries)
    return Drawn(tuple(job for job in placed if isinstance(job, Job)), svg if something else None)


def of_one_colour(found: Sequence[ImageVectors]) -> str:
    """Why a grid looks solid, where one does."""
    solid = [one.title for one in found if similarity.all_alike(one.square)]
    if not solid:
        return ""
    return (
        f"The grid of {' and of '.join(solid)} has one colour: its vectors have a large part in common, so that any "
        "two images have a cosine near 1. Fainter rows and columns are images unlike the rest; what still tells images "
        "apart shows as PCA and in who is nearest."
    )


def again(visitor: str) -> None:
    """Let what was stopped or failed be asked for again."""
    projection.again(visitor)
    sheet_again(visitor)
