"""Embeddings: which images each model finds alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from dashboard import computing, controls, frame, image_sets, pictures, projection, similarity, url
from dashboard.computing import ModelResult, Outcome
from dashboard.image_sets import ImageSet
from dashboard.jobs import Job
from dashboard.page import Page
from dashboard.palette import number
from dashboard.relations import Near, Relation, fetch_sheet, relations
from dashboard.selection import Depth
from dashboard.sidebar import sidebar

PAGE = Page("Image similarity", section="Representation", order=10)

POOLS = {"cls": "CLS", "mean": "mean of patches", "logits": "logits"}
SHOWN = {"grid": "grids", "difference": "differences", "pca": "map (PCA)", "tsne": "map (t-SNE)"}
ORDERS = {"class": "by class", "cluster": "by clustering", "given": "as given"}
MOST_DRAWN = 1000
MOST_ALL_LAYERS = 500
HOW = """
*Grids*: each row and each column is an image, in the same order for all models; **orange: the model finds the two
images alike**, blue: opposed, pale: unrelated. All grids share the scale −1 to 1. Point at a square to see the two
images and their similarity in every model.

- *By class*: blocks along the diagonal are classes that the model keeps together. *By clustering*: images that the
  **first** model finds alike stand side by side; the others keep its order.
- Click an image: its nearest images under each model appear below; a thick frame marks its own class.
- *Maps*: similar images lie near each other. Select one and find the same image in the other maps. In t-SNE only
  neighbourhoods mean something; distances between groups and their sizes do not.
"""
FORMULA = r"""
$$s_{ab} = \frac{z_a\cdot z_b}{\lVert z_a\rVert\,\lVert z_b\rVert}$$

with $z$ the CLS token, the mean of the patch tokens, or the logits. *Neighbour overlap*: the share of an image's k
nearest images that two models have in common; independent models share k/(n − 1). *CKA* of the two sets of vectors:
Kornblith et al. 2019, [arXiv:1905.00414](https://arxiv.org/abs/1905.00414). t-SNE: van der Maaten & Hinton 2008.
"""
NOT_SHOWN = """
- **What** two images have in common for the model: it may be the background or the colour.
- Levels of two models cannot be compared: vectors with a large common part are all alike. Compare patterns, and who is
  nearest.
- A map of two dimensions leaves most of the distances out.
"""


@dataclass(frozen=True)
class Shown:
    """One model's vectors at the chosen layer."""

    title: str
    colour: str
    note: str
    square: np.ndarray
    vectors: np.ndarray


def shown(model: ModelResult, depth: Depth | None) -> Shown | None:
    """The chosen layer of one model; the last layer is what comes out of the final norm."""
    dataset = model.datasets.get("embedding-similarity")
    if dataset is None:
        return None
    index = layer_index(dataset, depth)
    one = dataset.isel(layer=index)
    width = int(one["feature_count"])
    point = str(one["point"].values)
    where = {"norm": "after the final norm", "logits": "logits"}.get(point) or f"layer {int(point.split('.')[1]) + 1}"
    used = str(one["pool_used"].values)
    asked = str(dataset.attrs["pool"])
    said = " (it has no CLS there)" if asked == "cls" and used == "mean" else ""
    note = where if used == "logits" else f"{where} · {POOLS[used]}{said}"
    return Shown(model.title, model.colour, note, one["similarity"].values, one["embedding"].values[:, :width])


def layer_index(dataset: xr.Dataset, depth: Depth | None) -> int:
    """Where a depth lies among a model's blocks; the last entry for the last layer."""
    points = dataset["point"].values.tolist()
    blocks = [i for i, point in enumerate(points) if point.startswith("resid_post.")]
    if depth is None or depth.layer == depth.of or not blocks:
        return len(points) - 1
    return blocks[depth.index(len(blocks))]


def panels(found: Sequence[Shown], kind: str, points: Sequence[np.ndarray | Job | str]) -> list[Relation]:
    """What each model's panel shows."""
    if kind in ("pca", "tsne"):
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


def agreement(found: Sequence[Shown]) -> pd.DataFrame:
    """Numbers for every two models."""
    rows = []
    for a, b in combinations(found, 2):
        overlap, chance, k = similarity.neighbour_overlap(a.square, b.square)
        rows.append(
            {
                "models": f"{a.title} and {b.title}",
                "neighbour overlap": overlap,
                "by chance": chance,
                "k": k,
                "CKA": similarity.alignment(a.vectors, b.vectors),
            }
        )
    return pd.DataFrame(rows)


def reading(found: Sequence[Shown], chosen: ImageSet, table: pd.DataFrame) -> str:
    """What the numbers say, with n."""
    n = len(chosen.images)
    if n < 2:
        return "One image has nothing to be compared with: choose more images."
    said = []
    for one in found:
        mean, deviation = similarity.spread(one.square)
        own = similarity.own_class(one.square, chosen.classes)
        share = f", {number(100 * own)}% have their nearest image in their own class" if np.isfinite(own) else ""
        said.append(f"**{one.title}**: two images have similarity {number(mean)} ± {number(deviation)}{share}")
    text = "; ".join(said) + f" (mean ± standard deviation over pairs, n = {n} images)."
    if len(table) and np.isfinite(table["neighbour overlap"][0]):
        row = table.iloc[0]
        text += (
            f" {row['models']} share {number(100 * row['neighbour overlap'])}% of the {row['k']} nearest images"
            f" ({number(100 * row['by chance'])}% by chance)"
        )
        text += f"; CKA {number(row['CKA'])}." if np.isfinite(row["CKA"]) else "."
    if all(np.nanmin(one.square) > 1 - 1e-6 for one in found):
        text += " All images are the same to every model."
    return text


def csv(found: Sequence[Shown], chosen: ImageSet) -> str:
    """Similarities of every two images of every model."""
    lines = ["model,image,image_b,cosine_similarity"]
    for one in found:
        for i, j in combinations(range(len(chosen.images)), 2):
            lines.append(f'"{one.title}",{chosen.images[i]},{chosen.images[j]},{one.square[i, j]:.6g}')
    return "\n".join(lines) + "\n"


def page() -> None:
    """Draw the page."""
    selection = sidebar(several=True, default_images=pictures.offered()[:12])
    frame.header("Which images does each model find alike?")
    with frame.controls():
        selection, chosen = image_sets.control(selection, default="scenes-100")
        place = st.container(width=210)
        kind = st.segmented_control(
            "Show", list(SHOWN), default="grid", required=True, key="shown", bind="query-params",
            format_func=SHOWN.__getitem__,
        )  # fmt: skip
        with st.popover("More"):
            pool = st.segmented_control(
                "Vector of an image", list(POOLS), default="cls", required=True, key="pool", bind="query-params",
                format_func=POOLS.__getitem__,
            )  # fmt: skip
            by = st.segmented_control(
                "Order of the images", list(ORDERS), default="class", required=True, key="order", bind="query-params",
                format_func=ORDERS.__getitem__,
            )  # fmt: skip
    layers = "all" if len(selection.images) <= MOST_ALL_LAYERS else "last"
    outcome = computing.compute({"embedding-similarity": {"pool": pool, "layers": layers}}, selection)
    with place:
        specs = [model.spec for model in outcome.models]
        depth = controls.layer(specs, waiting=bool(outcome.jobs)) if layers == "all" and pool != "logits" else None
        if depth is None and layers == "last":
            st.caption(f"Last layer only, for more than {MOST_ALL_LAYERS} images.")
    found = [one for model in outcome.models if (one := shown(model, depth)) is not None]
    jobs: list[Job] = []
    if found:
        jobs = draw(found, kind, by, chosen)
    frame.states(outcome, "embedding-similarity")
    computing.show_progress(outcome if outcome.jobs or not jobs else Outcome((), (), tuple(jobs), ()))
    if found:
        table = agreement(found)
        st.markdown(reading(found, chosen, table))
        if len(table) > 1:
            with st.expander("Agreement of every two models"):
                st.dataframe(table.round(3), hide_index=True)
    small = found and len(chosen.images) <= MOST_ALL_LAYERS
    frame.footer(
        how=HOW, formula=FORMULA, not_shown=NOT_SHOWN, name="image-similarity",
        csv=(lambda: csv(found, chosen)) if small else None,
    )  # fmt: skip


def draw(found: Sequence[Shown], kind: str, by: str, chosen: ImageSet) -> list[Job]:
    """The panels and the nearest images of the selected one; jobs that still place images."""
    order = similarity.order(found[0].square, chosen.classes, by)
    if len(order) > MOST_DRAWN:
        st.caption(
            f"{MOST_DRAWN:,} of {len(order):,} images are drawn, evenly along the order; the numbers are of all."
        )
        order = order[np.linspace(0, len(order) - 1, MOST_DRAWN).round().astype(int)]
    if by == "class" and not chosen.classes:
        st.caption("The classes of these images are not known: they stand as given.")
    placed: list[np.ndarray | Job | str] = []
    if kind == "pca":
        placed = [projection.pca(one.vectors) for one in found]
    elif kind == "tsne":
        placed = [projection.fetch(one.vectors, computing.visitor()) for one in found]
    if kind == "difference" and len(found) < 2:
        st.caption("A difference needs two models: the grid of the only one is shown.")
    pick = url.first("pick")
    selected = int(pick) if pick.isascii() and pick.isdigit() and int(pick) < len(chosen.images) else None
    near = []
    if selected is not None and len(chosen.images) > 1:
        for one in found:
            images = similarity.nearest(one.square, selected)
            text = f"nearest to {pictures.title(chosen.images[selected])} under {one.title}, cosine similarity"
            near.append(Near(text, one.colour, images.tolist(), one.square[selected, images].tolist()))
    thumbnails = fetch_sheet(chosen.images, computing.visitor())
    if not isinstance(thumbnails, dict):
        if isinstance(thumbnails, str):
            st.info(thumbnails, icon=":material/info:")
            return []
        st.skeleton(height=420)
        return [thumbnails]
    relations(
        chosen.images,
        panels(found, kind, placed),
        thumbnails=thumbnails,
        order=order.tolist(),
        classes=chosen.classes,
        selected=selected,
        near=near,
        key="relations",
        on_pick=lambda image: url.put("pick", str(image)),
    )
    return [job for job in placed if isinstance(job, Job)]
